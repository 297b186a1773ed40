"""The small dataclasses: converters, noise, hardware profiles, and their explanation."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lumina_jax
from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec, explain
from lumina_jax.hardware.crosstalk import CrosstalkMatrix

PRESETS = {
    # name: noise level, bits, drift, transmission, implied SNR in dB and ENOB
    "lumina_nano_v1": (0.15, 4, 0.05, 0.85, 16.5, 2.44),
    "lumina_micro_v1": (0.10, 8, 0.03, 0.90, 20.0, 3.03),
    "edge_ultra_low_power": (0.20, 2, 0.10, 0.75, 14.0, 2.03),
    "datacenter_high_precision": (0.05, 12, 0.01, 0.95, 26.0, 4.03),
    "custom": (0.10, 8, 0.0, 1.0, 20.0, 3.03),
}


def test_public_names() -> None:
    assert lumina_jax.__all__ == sorted(lumina_jax.__all__)
    assert all(hasattr(lumina_jax, name) for name in lumina_jax.__all__)
    assert lumina_jax.__version__ == lumina_jax.version()


def test_spec_is_static() -> None:
    spec = OpticalSpec(dac_bits=8, adc_bits=None)
    assert hash(spec) == hash(OpticalSpec(dac_bits=8))
    assert spec.weight_bits is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.dac_bits = 4  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        OpticalSpec(8)  # type: ignore[misc]


def test_spec_takes_any_integer() -> None:
    spec = OpticalSpec(dac_bits=np.int64(8), weight_bits=1, adc_bits=32)  # type: ignore[arg-type]
    assert type(spec.dac_bits) is int


@pytest.mark.parametrize("field", ["dac_bits", "weight_bits", "adc_bits"])
@pytest.mark.parametrize("bits", [0, -1, 33, 1000])
def test_spec_range(field: str, bits: int) -> None:
    message = f"OpticalSpec: `{field}` must be from 1 to 32, or None for off, got {bits}"
    with pytest.raises(ValueError, match=re.escape(message)):
        OpticalSpec(**{field: bits})


@pytest.mark.parametrize("bits", [True, False, 8.0, "8", [8], np.float32(8)])
def test_spec_type(bits: Any) -> None:
    message = f"OpticalSpec: `adc_bits` must be an int or None, got {bits!r}"
    with pytest.raises(TypeError, match=re.escape(message)):
        OpticalSpec(adc_bits=bits)


def test_spec_grad_precision() -> None:
    assert OpticalSpec().grad_precision == "float32"
    specs = {OpticalSpec(grad_precision=p) for p in ("float32", "bfloat16", "int8", "float32")}
    assert len(specs) == 3


@pytest.mark.parametrize(
    ("value", "error"),
    [(8, TypeError), (None, TypeError), (np.float32, TypeError), (["int8"], TypeError),
     ("int4", ValueError), ("INT8", ValueError), ("", ValueError)],
)  # fmt: skip
def test_spec_grad_precision_errors(value: Any, error: type[Exception]) -> None:
    message = (
        f"OpticalSpec: `grad_precision` must be one of 'float32', 'bfloat16', 'int8', got {value!r}"
    )
    with pytest.raises(error, match=re.escape(message)):
        OpticalSpec(grad_precision=value)


def test_noise_model_is_a_pytree() -> None:
    noise = NoiseModel(relative=0.1, weight=jnp.float32(0.2))
    assert len(jax.tree.leaves(noise)) == 4
    doubled = jax.jit(lambda n: jax.tree.map(lambda v: 2 * v, n))(noise)
    assert isinstance(doubled, NoiseModel)
    np.testing.assert_allclose(doubled.relative, 0.2, rtol=1e-6)
    assert doubled.shot == 0
    with pytest.raises(TypeError, match="positional"):
        NoiseModel(0.1)  # type: ignore[misc]


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str) -> None:
    level, bits, drift, attenuation, *_ = PRESETS[name]
    profile = HardwareProfile.preset(name)
    assert profile.name == name
    assert (profile.noise_level, profile.precision) == (level, bits)
    assert (profile.temp_drift, profile.attenuation) == (drift, attenuation)
    assert profile.spec == OpticalSpec(dac_bits=bits, weight_bits=bits, adc_bits=bits)
    assert profile.noise == NoiseModel(relative=level)


def test_overlay() -> None:
    nano, edge = map(HardwareProfile.preset, ("lumina_nano_v1", "edge_ultra_low_power"))
    assert (nano.symbol_rate_hz, nano.receiver_sensitivity_dbm) == (5e9, -17.5)
    assert nano.ring_fwhm_pm == pytest.approx(155)
    assert edge.ring_fwhm_pm == pytest.approx(310)
    custom = HardwareProfile.preset("custom")
    assert custom.symbol_rate_hz is custom.receiver_sensitivity_dbm is custom.ring_q is None
    assert custom.ring_fwhm_pm is None
    assert (custom.laser_dbm, custom.max_channels) == (10.0, 16)


def test_unknown_preset() -> None:
    message = (
        "HardwareProfile.preset: unknown `name` 'nano', expected custom, "
        "datacenter_high_precision, edge_ultra_low_power, lumina_micro_v1, lumina_nano_v1"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        HardwareProfile.preset("nano")


def test_replace() -> None:
    profile = dataclasses.replace(HardwareProfile.preset("lumina_nano_v1"), precision=6)
    assert profile.spec.adc_bits == 6
    assert profile.noise_level == 0.15


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"precision": 0}, ValueError, "HardwareProfile: `precision` must be from 1 to 32"),
        ({"precision": None}, TypeError, "HardwareProfile: `precision` must be an int, got None"),
        ({"noise_level": -0.1}, ValueError,
         "HardwareProfile: `noise_level` must not be negative, got -0.1"),
        ({"noise_level": math.nan}, ValueError,
         "HardwareProfile: `noise_level` must be finite, got nan"),
        ({"ring_q": "high"}, TypeError, "HardwareProfile: `ring_q` must be a number, got 'high'"),
        ({"laser_dbm": None}, TypeError, "HardwareProfile: `laser_dbm` must be a number, got None"),
        ({"attenuation": 0.0}, ValueError,
         "HardwareProfile: `attenuation` must be above 0 and at most 1, got 0.0"),
        ({"attenuation": 1.5}, ValueError,
         "HardwareProfile: `attenuation` must be above 0 and at most 1, got 1.5"),
    ],
)  # fmt: skip
def test_profile_errors(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        HardwareProfile(**change)


@pytest.mark.parametrize("name", PRESETS)
def test_explain(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    *_, snr, enob = PRESETS[name]
    text = explain(HardwareProfile.preset(name))
    assert capsys.readouterr().out == text + "\n"
    rows = {line.split()[0]: line.split()[-2:] for line in text.splitlines()}
    assert [float(v) for v in rows["noise"]] == [snr, enob]
    # A chain is worse than each of its stages.
    assert float(rows["chain"][1]) <= enob
    assert "ENOB = (SNR - 1.76) / 6.02, of a full-scale sine" in text


def test_explain_receiver() -> None:
    # The sensitivities of the presets are those of 3, 4, 2 and 6 bits.
    for name, bits in zip(PRESETS, (3, 4, 2, 6), strict=False):
        (line,) = re.findall(r"^receiver.*$", explain(HardwareProfile.preset(name)), re.MULTILINE)
        assert float(line.split()[-1]) == pytest.approx(bits, abs=0.02)
    assert "receiver" not in explain(HardwareProfile.preset("custom"))


def test_explain_table() -> None:
    assert explain(HardwareProfile.preset("lumina_nano_v1")).splitlines() == [
        "lumina_nano_v1: 4 bits, transmission 0.85 (-0.71 dB), drift 0.05",
        "stage                                      LSB    SNR dB    ENOB",
        "DAC x     4 bits, range of x             0.143      24.7    3.81",
        "DAC w     4 bits, range of w             0.143      24.7    3.81",
        "noise     relative 0.15 of y                 -      16.5    2.44",
        "ADC y     4 bits, range of y             0.143      24.7    3.81",
        "chain     all of the above                   -      14.9    2.18",
        "receiver  -17.5 dBm at 5 GS/s                -      19.8    3.00",
        "rings: Q 10000, FWHM 155 pm",
        "ENOB = (SNR - 1.76) / 6.02, of a full-scale sine; LSB in units of full scale",
    ]


def test_explain_extremes() -> None:
    quiet = explain(HardwareProfile(noise_level=0.0, precision=1))
    assert re.search(r"^noise .* inf +inf$", quiet, re.MULTILINE)
    assert re.search(r"^ADC y +1 bits, range of y +2 +1\.8 +-?0\.00$", quiet, re.MULTILINE)


def test_explain_crosstalk() -> None:
    pair = CrosstalkMatrix([[1.0, 0.1, 0.0], [0.2, 0.8, 0.2], [0.0, 0.1, 1.0]])
    text = explain(HardwareProfile(crosstalk=pair))
    # The middle channel: 0.8² of its own over 2·0.2², and half as much light again from others.
    assert re.search(r"^crosstalk 3 channels, worst +- +9\.0 +1\.21$", text, re.MULTILINE)
    condition = np.linalg.cond(pair.matrix)
    assert f"-3.0 dB of light from all other channels, condition number {condition:.4g}" in text
    assert "crosstalk" not in explain(HardwareProfile())


def test_explain_crosstalk_extremes() -> None:
    alone = explain(HardwareProfile(crosstalk=CrosstalkMatrix([[1.0]])))
    assert re.search(r"^crosstalk 1 channels, worst .* inf +inf$", alone, re.MULTILINE)
    assert "-inf dB of light from all other channels, condition number 1" in alone
    swapped = explain(HardwareProfile(crosstalk=CrosstalkMatrix([[0.0, 1.0], [1.0, 0.0]])))
    assert re.search(r"^crosstalk 2 channels, worst .* -inf +-inf$", swapped, re.MULTILINE)


def test_explain_wants_a_profile() -> None:
    with pytest.raises(TypeError, match="`profile` is of type str, expected a HardwareProfile"):
        explain("lumina_nano_v1")  # type: ignore[arg-type]
