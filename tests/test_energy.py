"""The energy report: counts, sums, models it reads, and errors."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from flax_layers import OpticalDense
from lumina_jax import (
    EnergyAssumptions,
    HardwareProfile,
    OpticalSpec,
    energy_report,
    optical_matmul,
)
from lumina_jax.cost.workload import MatmulLayer, layers_of
from lumina_jax.hardware import Converters, Photodetector, WavelengthGrid, WeightBank

PROFILE = "lumina_nano_v1"
SPEC = OpticalSpec(dac_bits=4, weight_bits=5, adc_bits=6)


def _product(x: jax.Array) -> jax.Array:
    return optical_matmul(x, jnp.ones((64, 10)), spec=SPEC, y_full_scale=64.0)


def test_counts_by_hand() -> None:
    assumed = EnergyAssumptions(banks=4)
    report = energy_report([(32, 40, 20)], PROFILE, assumptions=assumed)
    assert report.channels == 16
    (cost,) = report.layers
    # 40 inputs are 3 banks of 16 deep, 20 outputs are 2 wide.
    assert cost.tiles == 6
    assert cost.dac_conversions == 32 * 40 * 2
    assert cost.weight_conversions == 40 * 20
    assert cost.adc_conversions == 32 * 20 * 3
    # Six tiles on four banks are two turns.
    latency = 2 * (assumed.weight_settling_s + 32 / 5e9)
    assert report.latency_s == pytest.approx(latency)
    on = latency * 4
    assert dict(report.energy_j) == pytest.approx(
        {
            "input DACs": 2560 * 20e-15 * 16,
            "modulators": 2560 * 50e-15,
            "weight DACs": 800 * 20e-15 * 16,
            "ADCs": 1920 * 50e-15 * 16,
            # 10 dBm of light for each wavelength, at 10 %.
            "lasers": on * 16 * 0.1,
            "ring tuning": on * (256 + 16) * 1e-3,
            "amplifiers": on * 16 * 2e-3,
        },
        rel=1e-6,
    )
    assert dict(report.converters) == {"input DACs": 64, "weight DACs": 1024, "ADCs": 64}
    area = 4 * 272 * (20e-6) ** 2 + 1152 * 2e-9
    assert report.area_m2 == pytest.approx(area)


def test_sums() -> None:
    report = energy_report([(32, 64, 64), (32, 64, 10)], PROFILE)
    assert report.macs == 32 * 64 * 74
    assert report.total_j == pytest.approx(sum(cost.total_j for cost in report.layers))
    assert report.total_j == pytest.approx(sum(report.energy_j.values()))
    assert report.energy_per_mac_j == pytest.approx(report.total_j / report.macs)
    assert report.power_w == pytest.approx(report.total_j / report.latency_s)


def test_laws() -> None:
    few, many = (energy_report([(rows, 64, 64)], PROFILE) for rows in (1, 4096))
    assert many.energy_per_mac_j < few.energy_per_mac_j
    one, four = (
        energy_report([(64, 64, 64)], PROFILE, assumptions=EnergyAssumptions(banks=banks))
        for banks in (1, 4)
    )
    assert four.latency_s == pytest.approx(one.latency_s / 4)
    assert four.total_j == pytest.approx(one.total_j)
    coarse, fine = (
        energy_report([MatmulLayer(rows=9, k=9, n=9, adc_bits=bits)], PROFILE) for bits in (4, 8)
    )
    assert fine.energy_j["ADCs"] == pytest.approx(16 * coarse.energy_j["ADCs"])
    once, thrice = (
        energy_report([MatmulLayer(rows=9, k=9, n=9, calls=calls)], PROFILE) for calls in (1, 3)
    )
    assert thrice.total_j == pytest.approx(3 * once.total_j)


def test_link_limits_the_channels() -> None:
    # Fewer than the bus would take, and more than the bus of the preset takes.
    profile = HardwareProfile.preset("datacenter_high_precision")
    wide = HardwareProfile(
        converters=Converters.all(12, symbol_rate_hz=1e9),
        detector=Photodetector(sensitivity_dbm=-11.7),
        grid=WavelengthGrid(channels=1000),
    )
    reached = profile.link_budget.max_channels(-11.7)
    assert 16 < reached < 1000
    assert energy_report([(1, 1, 1)], wide).channels == reached
    assert energy_report([(1, 1, 1)], profile).channels == 16


def test_a_bank_that_is_not_square() -> None:
    profile = dataclasses.replace(
        HardwareProfile.preset("datacenter_high_precision"), bank=WeightBank(rows=8, columns=4)
    )
    report = energy_report([(2, 20, 10), (2, 8, 10)], profile)
    assert (report.channels, report.columns) == (8, 4)
    assert [cost.tiles for cost in report.layers] == [9, 3]
    assert report.layers[0].dac_conversions == 2 * 20 * 3
    assert report.layers[0].adc_conversions == 2 * 10 * 3
    assert dict(report.converters) == {"input DACs": 8, "weight DACs": 32, "ADCs": 4}
    first, second = str(report).splitlines()[:2]
    assert first == (
        "not the array that layers simulate: layers 0 have more than 8 inputs and are read in up "
        "to 3 parts here, each with its noise and its ADC, but in others there; give them "
        "OpticalSpec(array_rows=8)"
    )
    assert "of 8 x 4" in second
    whole = str(energy_report([(2, 8, 10)], profile))
    simulated = "the array is the one that layers simulate: each part of an output is read once"
    assert whole.startswith(simulated + "\n")
    tiled = MatmulLayer(rows=2, k=20, n=10, array_rows=8)
    assert str(energy_report([tiled], profile)).startswith(simulated + "\n")
    page = energy_report([(2, 8, 10)], profile)._repr_html_()
    assert page.startswith("<table><caption>the array is the one")
    assert "<td>lasers</td>" in page
    assert len(repr(report)) < 100
    with np.errstate(all="raise"):
        assert energy_report([(2, 20, 10), (2, 8, 10)], profile) == report


def test_function() -> None:
    expected = MatmulLayer(rows=8, k=64, n=10, dac_bits=4, weight_bits=5, adc_bits=6)
    x = jnp.ones((8, 64))
    assert layers_of("f", _product, inputs=(x,)) == (expected,)
    assert layers_of("f", jax.jit(_product), inputs=(jax.ShapeDtypeStruct(x.shape, x.dtype),)) == (
        expected,
    )


def test_scan_and_cond() -> None:
    def twice(x: jax.Array) -> Any:
        def step(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
            y = optical_matmul(carry, jnp.eye(8), spec=OpticalSpec())
            return jax.lax.cond(y.sum() > 0, lambda: y @ jnp.eye(8), lambda: _again(y)), None

        return jax.lax.scan(step, x, length=5)

    def _again(y: jax.Array) -> jax.Array:
        return optical_matmul(y, jnp.eye(8), spec=OpticalSpec())

    (layer,) = layers_of("f", twice, inputs=(jnp.ones((3, 8)),))
    assert (layer.calls, layer.rows, layer.macs) == (5, 3, 5 * 3 * 64)
    # A converter that is off has no bits of its own.
    assert (layer.dac_bits, layer.weight_bits, layer.adc_bits) == (None, None, None)


def test_exported_model() -> None:
    x = np.ones((8, 64), np.float32)
    model = exporter.export(_product, x, batch="batch")
    expected = MatmulLayer(rows=8, k=64, n=10, dac_bits=4, weight_bits=5, adc_bits=6)
    assert layers_of("f", model, symbols={"batch": 8}) == (expected,)
    (one,) = layers_of("f", model.graph)
    assert one.rows == 1
    by_model = energy_report(model, PROFILE, symbols={"batch": 8})
    by_function = energy_report(_product, PROFILE, inputs=(x,))
    assert by_model.total_j == by_function.total_j
    assert any(known.name == "extent batch" for known in by_model.assumptions)


def test_flax_model() -> None:
    x = jnp.ones((8, 64))
    net = OpticalDense(features=10, profile=PROFILE)
    variables = net.init({"params": jax.random.key(0), "noise": jax.random.key(1)}, x)
    report = energy_report(
        lambda x: net.apply(variables, x, deterministic=True), PROFILE, inputs=(x,)
    )
    # The conditional that finds ranges that are not calibrated is not part of the work.
    (cost,) = report.layers
    assert (cost.layer.rows, cost.layer.k, cost.layer.n, cost.layer.adc_bits) == (8, 64, 10, 4)


def test_json_and_text() -> None:
    report = energy_report([(32, 64, 64)], PROFILE)
    data = json.loads(report.to_json())
    assert data["total_j"] == report.total_j
    assert data["layers"][0]["layer"]["k"] == 64
    stated = {(known["name"], known["source"]) for known in data["assumptions"]}
    assert ("symbol rate", "profile") in stated
    text = str(report)
    assert "\nlumina_nano_v1: 1 bank(s) of 16 x 16; 16 input DACs" in text
    for known in report.assumptions:
        assert f"  {known.name}: " in text
    assert re.search(r"^lasers +\d+ µJ +8\d\.\d%$", text, re.MULTILINE)


def test_every_assumption_is_stated() -> None:
    report = energy_report([(1, 1, 1)], PROFILE)
    stated = [known for known in report.assumptions if known.source == "assumption"]
    values = [known.value for known in stated]
    for name, value in vars(EnergyAssumptions()).items():
        assert value in values, name


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: energy_report([], PROFILE), ValueError,
         "energy_report: `model` has no optical matmul, expected at least one"),
        (lambda: energy_report([(1, 2)], PROFILE), ValueError,
         "energy_report: `model[0]` must be (rows, k, n), got (1, 2)"),
        (lambda: energy_report([(1, 0, 2)], PROFILE), ValueError,
         "energy_report: `model[0]` must be from 1 to 4611686018427387904, got 0"),
        (lambda: energy_report(7, PROFILE), TypeError,
         "energy_report: `model` must be an exported graph, a function, or (rows, k, n) tuples, "
         "got int"),
        (lambda: energy_report(_product, PROFILE), ValueError,
         "energy_report: `inputs` must be given for a function, got None"),
        (lambda: energy_report([(1, 1, 1)], "custom"), ValueError,
         "energy_report: `profile` must have a `converters.symbol_rate_hz`, got None"),
        (lambda: energy_report([(1, 1, 1)], 7), TypeError,  # type: ignore[arg-type]
         "energy_report: `profile` is of type int, expected a HardwareProfile or the name of a "),
        (lambda: energy_report([(1, 1, 1)], HardwareProfile(
            converters=Converters(symbol_rate_hz=1e9),
            detector=Photodetector(sensitivity_dbm=5.0))), ValueError,
         "energy_report: `profile` has a link that brings 4.4 dBm to one receiver, "
         "expected its sensitivity, 5 dBm, or more"),
        (lambda: EnergyAssumptions(wall_plug_efficiency=1.5), ValueError,
         "EnergyAssumptions: `wall_plug_efficiency` must be at most 1, got 1.5"),
        (lambda: EnergyAssumptions(banks=0), ValueError,
         "EnergyAssumptions: `banks` must be from 1 to 2147483647, got 0"),
        (lambda: EnergyAssumptions(adc_fom_j=-1e-15), ValueError,
         "EnergyAssumptions: `adc_fom_j` must be above 0, got -1e-15"),
    ],
)  # fmt: skip
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: EnergyAssumptions(banks=10**400),
            "`banks` must be from 1 to 2147483647",
        ),
        (
            lambda: EnergyAssumptions(modulator_j=[1.0]),
            "`modulator_j` has shape (1,), expected",
        ),
        (
            lambda: energy_report([(10**400, 2, 2)], "lumina_nano_v1"),
            "energy_report: `model[0]` must be from 1 to 4611686018427387904, got 1000",
        ),
        (
            lambda: energy_report([(1, 2, 2)], "lumina_nano_v1", assumptions=3),
            "energy_report: `assumptions` is of type int, expected EnergyAssumptions or None",
        ),
    ],
)
def test_what_is_built_of_nothing(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        call()
