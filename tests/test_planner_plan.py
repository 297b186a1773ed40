"""The planner on models: stream powers, plans, reports, figures."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import exporter
from flax_layers import OpticalDense
from flax_layers.nnx import OpticalDense as NnxDense
from lumina_jax import (
    HardwareProfile,
    NoiseModel,
    OpticalSpec,
    WDMPlanner,
    optical_matmul,
    physics,
)
from lumina_jax.hardware import Converters, Microring
from lumina_jax.planner import Grid, Plan, Ring, allocate, compress

RING = Ring(q=2e4, fsr_m=20e-9)
GRID = Grid(slots=4, spacing_hz=50e9)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(OpticalDense(5, name="first")(x))
        return OpticalDense(2, profile=None, name="last")(x)


class NnxNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = NnxDense(6, 5, rngs=rngs)
        self.last = NnxDense(5, 2, profile=None, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(nnx.relu(self.first(x)))


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 6)) * np.array([1.0, 0.1, 3.0, 0.0, 0.5, 2.0])
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def variables(batch: np.ndarray) -> Any:
    return Net().init({"params": jax.random.key(0), "noise": jax.random.key(1)}, batch)


def planner(**changes: Any) -> WDMPlanner:
    return WDMPlanner(**{"ring": RING, "grid": GRID} | changes)


def first_layer_powers(x: np.ndarray, kernel: Any, attenuation: float) -> np.ndarray:
    gain = np.mean(np.square(attenuation * np.asarray(kernel, np.float64)), axis=1)
    powers = np.mean(np.square(x.astype(np.float64)), axis=0) * gain
    return 1e-4 * powers / powers.max()


def test_powers_of_a_linen_model(batch: np.ndarray, variables: Any) -> None:
    halves = [batch[:16], batch[16:]]
    plan = planner().optimize_allocation(Net().bind(variables), halves)
    assert [bus.layer for bus in plan.buses] == ["Net/first", "Net/first", "Net/last", "Net/last"]
    got = [s.power_w for bus in plan.buses[:2] for s in bus.streams]
    want = first_layer_powers(batch, variables["params"]["first"]["kernel"], 0.85)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert [s.input for bus in plan.buses[:2] for s in bus.streams] == list(range(6))


def test_order_is_that_of_allocate(batch: np.ndarray, variables: Any) -> None:
    coupling = RING.coupling(GRID.frequencies_hz)
    for objective in ("snr", "product"):
        plan = planner(objective=objective).optimize_allocation(Net().bind(variables), [batch])
        bus = plan.buses[0]
        lit = [s for s in bus.streams if s.power_w]
        order, cost = allocate([s.power_w / 1e-4 for s in lit], coupling, objective)
        assert [s.slot for s in lit] == order.tolist()
        assert bus.cost == pytest.approx(cost)
        assert sorted(bus.order) == [0, 1, 2, 3]
        dark = bus.streams[3]
        assert (dark.power_w, dark.enob, dark.crosstalk_db) == (0.0, None, None)


def test_a_function_and_a_bound_module_agree(batch: np.ndarray, variables: Any) -> None:
    def apply(x: jax.Array) -> jax.Array:
        return Net().apply(variables, x, rngs={"noise": jax.random.key(0)})

    one, two = (
        planner().optimize_allocation(model, [batch]) for model in (apply, Net().bind(variables))
    )
    assert one == two


def test_powers_of_an_nnx_model(batch: np.ndarray) -> None:
    model = NnxNet(nnx.Rngs(0))
    plan = planner(grid=Grid(slots=8, spacing_hz=50e9)).optimize_allocation(model, [batch])
    want = first_layer_powers(batch, model.first.kernel[...], 0.85)
    np.testing.assert_allclose([s.power_w for s in plan.buses[0].streams], want, rtol=1e-5)
    assert len(plan.buses) == 2
    assert model.first.x_full_scale[...] == 0


def test_powers_of_a_graph(batch: np.ndarray, variables: Any) -> None:
    def apply(x: jax.Array) -> jax.Array:
        return Net().apply(variables, x, rngs={"noise": jax.random.key(0)})

    model = exporter.export(apply, batch, allow_uncalibrated=True, weights="float32")
    plan = planner().optimize_allocation(model)
    want = first_layer_powers(
        np.ones((1, 6), np.float32), variables["params"]["first"]["kernel"], 0.85
    )
    assert [bus.layer for bus in plan.buses] == ["Net/first", "Net/first", "Net/last", "Net/last"]
    got = [s.power_w for bus in plan.buses[:2] for s in bus.streams]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert planner().optimize_allocation(model.graph) == plan
    # By default the weights are stored as the codes that the converters make of them.
    coded = planner().optimize_allocation(exporter.export(apply, batch, allow_uncalibrated=True))
    powers = [s.power_w for bus in coded.buses[:2] for s in bus.streams]
    assert powers != got
    np.testing.assert_allclose(powers, want, rtol=0.3)
    with pytest.raises(ValueError, match="`batches` is given with a graph, expected None"):
        planner().optimize_allocation(model, [batch])


@pytest.fixture(scope="module")
def plan(batch: np.ndarray, variables: Any) -> Plan:
    receiver = physics.Receiver(bandwidth_hz=2.5e9)
    return planner(receiver=receiver, enob_target=3.0).optimize_allocation(
        Net().bind(variables), [batch]
    )


def test_effective_bits_and_margins(plan: Plan) -> None:
    bus = plan.buses[0]
    receiver = physics.Receiver(bandwidth_hz=2.5e9)
    coupling = RING.coupling(GRID.frequencies_hz)
    for one in (s for s in bus.streams if s.power_w):
        noise = 10 ** (-float(receiver.snr_db(one.power_w)) / 10)
        leaked = [
            other.power_w / one.power_w * coupling[one.slot, other.slot]
            for other in bus.streams
            if other is not one
        ]
        bits = (-10 * np.log10(noise + np.sum(np.square(leaked))) - 1.76) / 6.02
        assert one.enob == pytest.approx(bits, rel=1e-6)
        assert one.margin_bits == pytest.approx(bits - 3, abs=1e-5)
        assert one.crosstalk_db == pytest.approx(10 * np.log10(np.sum(leaked)))
        tolerance = physics.half_lsb_temperature(max(bits, 1.0), RING.fwhm_m)
        assert one.tolerance_k == pytest.approx(float(tolerance), rel=1e-5)
    assert plan.worst is not None
    bits = [s.enob for bus in plan.buses for s in bus.streams if s.enob is not None]
    assert plan.worst.enob == min(bits) < max(bits)
    own = dataclasses.replace(plan, enob_target=None)
    assert own.thermal_tolerance_k == min(
        s.tolerance_k for bus in plan.buses for s in bus.streams if s.tolerance_k
    )


def test_itu_grid(plan: Plan) -> None:
    for stream in plan.buses[0].streams:
        assert stream.frequency_hz == 193.1e12 + 50e9 * stream.slot
        assert stream.wavelength_m == pytest.approx(299792458 / stream.frequency_hz)


def test_report(plan: Plan) -> None:
    report = plan.report()
    assert "WDM plan, objective 'snr': 4 slots of 50 GHz from 193.1000 THz" in report
    assert "bus 0, Net/first: J = " in report
    assert re.search(r"3 +\d +193\.\d{4} +155\d\.\d{3} +dark +- +- +- +-\n", report)
    for bus in plan.buses:
        for stream in bus.streams:
            if stream.enob is not None:
                assert f"{stream.enob:8.2f}{stream.margin_bits:+9.2f}" in report
    assert plan.fits is False
    assert re.match(
        r"does not fit: \d of \d+ streams with light have less than 3 bits; worst is input \d of "
        r"Net/\w+ on bus \d, [-.\d]+ bits, [.\d]+ too few, which is "
        r"[.\d]+ dB, mostly by (crosstalk: put fewer|receiver: bring more)",
        report,
    )
    assert "thermal tolerance: 49.7 mK for ½ LSB of the target, 3 bits" in report
    own = dataclasses.replace(plan, enob_target=None).report()
    assert own.startswith("no target was given; worst is input ")
    page = plan._repr_html_()
    assert page.startswith("<table><caption>does not fit")
    assert page.count("<tr>") == 1 + sum(len(bus.streams) for bus in plan.buses)
    assert "<th>crosstalk</th>" in page
    assert repr(plan).startswith("Plan of 11 inputs on 4 buses: does not fit")
    assert len(repr(plan)) < 350
    assert re.search(r"thermal tolerance: .* mK for ½ LSB of the bits of every stream", own)


def test_json(plan: Plan) -> None:
    data = json.loads(plan.to_json())
    assert data["grid"] == dataclasses.asdict(GRID)
    assert data["buses"][0]["streams"][0]["wavelength_m"] == plan.buses[0].streams[0].wavelength_m
    assert data["thermal_tolerance_k"] == plan.thermal_tolerance_k


def test_plot(plan: Plan, tmp_path: Path) -> None:
    figure = plan.plot(tmp_path / "plan.png")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    spectrum, heat = figure.axes[:2]
    # A marker per stream with light, and a cell per pair.
    lit = [s for s in plan.buses[0].streams if s.power_w]
    assert [line.get_xdata()[0] for line in spectrum.lines] == [s.frequency_hz / 1e12 for s in lit]
    assert heat.images[0].get_array().shape == (len(lit), len(lit))
    assert figure._repr_png_().startswith(b"\x89PNG")
    named = plan.plot(title="Chip", labels={lit[0].input: "pixel"}).axes[0]
    assert named.get_title() == "Chip"
    assert "pixel" in {text.get_text() for text in named.texts}
    with pytest.raises(IndexError, match="`bus` is 9, expected 0 to 3"):
        plan.plot(bus=9)


def test_a_dark_layer(variables: Any, tmp_path: Path) -> None:
    dark = planner().optimize_allocation(Net().bind(variables), [np.zeros((2, 6), np.float32)])
    assert dark.buses[0].order == (0, 1, 2, 3)
    assert dark.buses[0].cost == 0.0
    dark.plot(tmp_path / "dark.png")
    assert dark.report().startswith("no light: no stream of the plan carries any power")
    assert dark.fits is None


def test_streams_120_db_below_the_strongest_are_dark() -> None:
    # Powers of 0, -114 and -126 dB.
    x = np.array([[1.0, 2e-6, 0.5e-6]], np.float32)
    plan = planner().optimize_allocation(
        lambda x: optical_matmul(x, jnp.ones((3, 2)), spec=OpticalSpec()), [x]
    )
    assert [stream.power_w > 0 for stream in plan.buses[0].streams] == [True, True, False]


def test_one_stream_alone() -> None:
    model = OpticalDense(1, profile=None)
    x = np.ones((1, 1), np.float32)
    plan = planner().optimize_allocation(model.bind(model.init(jax.random.key(0), x)), [x])
    stream = plan.buses[0].streams[0]
    assert (stream.enob, stream.crosstalk_db) == (53.0, None)
    json.loads(plan.to_json())


def test_ring() -> None:
    ring = Ring.of_profile(HardwareProfile.preset("lumina_nano_v1"), fsr_m=57.04e-9)
    assert ring.fwhm_m == pytest.approx(155e-12)
    assert ring.finesse == pytest.approx(368)
    assert ring.fsr_hz == pytest.approx(57.04e-9 * 299792458 / 1550e-9**2)
    assert float(ring.transmission(0.5)) == pytest.approx(0.5, abs=1e-4)
    assert ring.tolerance_k(4) == pytest.approx(
        float(physics.half_lsb_temperature(4, ring.fwhm_m)), rel=1e-6
    )


def test_the_advice_of_the_verdict_is_good(variables: Any, batch: np.ndarray) -> None:
    model = Net().bind(variables)
    noisy = planner(
        enob_target=6, power_w=1e-6, receiver=physics.Receiver(bandwidth_hz=5e9)
    ).optimize_allocation(model, [batch])
    assert "mostly by receiver: bring more light to the detector" in noisy.report()
    quiet = planner(enob_target=3.5, ring=dataclasses.replace(RING, q=2e5)).optimize_allocation(
        model, [batch]
    )
    assert quiet.fits
    assert re.match(
        r"fits: all \d+ streams with light have 3.5 bits; .* margin of [.\d]+, which is [.\d]+ dB",
        quiet.report(),
    )


def test_a_plan_is_what_layers_take(variables: Any, batch: np.ndarray) -> None:
    plan = planner().optimize_allocation(Net().bind(variables), [batch])
    with pytest.raises(
        ValueError, match=r"Plan\.crosstalk: `layer` is None, expected one of 'Net/"
    ):
        plan.crosstalk()
    coupling = RING.coupling(GRID.frequencies_hz)
    for name in dict.fromkeys(bus.layer for bus in plan.buses):
        buses = [bus for bus in plan.buses if bus.layer == name]
        inputs = sum(len(bus.streams) for bus in buses)
        order = plan.permutation(name)
        assert sorted(order) == list(range(inputs))
        by_slot = [sorted(bus.order) for bus in buses]
        # The slow version: light of input j leaks to input i of the same bus by their slots.
        want, at = np.zeros((inputs, inputs)), 0
        for bus, slots in zip(buses, by_slot, strict=True):
            for i, s in enumerate(bus.order):
                for j, t in enumerate(bus.order):
                    want[at + i, at + j] = coupling[s, t]
            assert [bus.order[k - at] for k in order[at : at + len(slots)]] == slots
            at += len(slots)
        device = HardwareProfile(crosstalk=plan.crosstalk(name), noise=NoiseModel(),
                                 converters=Converters.all(None))  # fmt: skip
        layer = OpticalDense(3, profile=device, deterministic=True, use_bias=False)
        kernel = jax.random.normal(jax.random.key(4), (inputs, 3))
        x = jax.random.normal(jax.random.key(5), (2, inputs))
        got = layer.apply({"params": {"kernel": kernel}}, x)
        np.testing.assert_allclose(got, x @ (want.T @ kernel), rtol=1e-4, atol=1e-4)


def test_buses_of_one_order_share_a_matrix() -> None:
    model = OpticalDense(2, profile=None)
    x = np.tile(np.float32([4, 3, 2, 1]), (3, 3))[:, :10]
    variables = {"params": {"kernel": jnp.ones((10, 2)), "bias": jnp.zeros(2)}}
    plan = planner().optimize_allocation(model.bind(variables), [x])
    assert plan.crosstalk().channels in (4, 10)
    assert plan.permutation().shape == (10,)


def test_a_profile_has_ring_grid_receiver_and_power() -> None:
    profile = HardwareProfile.preset("lumina_nano_v1")
    of_name = WDMPlanner(profile="lumina_nano_v1")
    assert of_name.ring == Ring.of_profile(profile)
    assert of_name.ring.fsr_hz == pytest.approx(16 * 100e9)
    assert of_name.grid == Grid(slots=16, spacing_hz=100e9)
    assert of_name.receiver == profile.receiver
    assert of_name.power_w == pytest.approx(float(profile.link_budget.output_w(16)))
    # What is given comes first.
    given = WDMPlanner(profile=profile, grid=Grid(slots=8), ring=RING, power_w=1e-5)
    assert (given.grid.slots, given.ring, given.power_w) == (8, RING, 1e-5)
    # Without a symbol rate there is no bandwidth, and so no noise of a receiver.
    assert WDMPlanner(profile=HardwareProfile(ring=Microring(q=1e4))).receiver is None
    with pytest.raises(ValueError, match=r"Ring.of_profile: `profile` 'custom' has no `ring.q`"):
        WDMPlanner(profile="custom")
    # As it says.
    WDMPlanner(profile=dataclasses.replace(HardwareProfile(), ring=Microring(q=1e4)))
    with pytest.raises(
        TypeError, match="`ring` is of type NoneType, expected a Ring, or a `profile`"
    ):
        WDMPlanner()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Ring(q=0, fsr_m=1e-8), ValueError, "Ring: `q` must be above 0, got 0"),
        (lambda: Ring(q="a", fsr_m=1e-8), TypeError, "Ring: `q` must be a number, got 'a'"),
        (lambda: Ring(q=1e4, fsr_m=1e-12), ValueError, "Ring: `fsr_m` is 1e-12, expected more"),
        (
            lambda: Ring.of_profile(HardwareProfile(), fsr_m=1e-8),
            ValueError,
            "Ring.of_profile: `profile` 'custom' has no `ring.q`",
        ),
        (lambda: Grid(slots=0), ValueError, "Grid: `slots` must be from 1 to 65536, got 0"),
        (lambda: Grid(first=0.5), TypeError, "Grid: `first` must be an int, got 0.5"),
        (lambda: Grid(spacing_hz=60e9), ValueError, "Grid: `spacing_hz` is 6e+10, expected 12.5e9"),
        (lambda: planner(ring=1), TypeError, "WDMPlanner: `ring` is of type int"),
        (lambda: planner(grid=1), TypeError, "WDMPlanner: `grid` is of type int, expected a Grid"),
        (lambda: planner(seed="x"), TypeError, "WDMPlanner: `seed` must be an int, got 'x'"),
        (lambda: planner(seed=-1), ValueError, "WDMPlanner: `seed` must not be negative, got -1"),
        (
            lambda: Ring.of_profile(3, fsr_m=1e-8),
            TypeError,
            "Ring.of_profile: `profile` is of type int, expected a HardwareProfile",
        ),
        (
            lambda: RING.tolerance_k("a"),
            TypeError,
            "Ring.tolerance_k: `bits` must be a number, got 'a'",
        ),
        (
            lambda: compress([[0], [1, 2]], [1, 1], ring=RING, enob_target=3, receiver=None),
            ValueError,
            "compress: `order` is ragged, expected (2,)",
        ),
        (lambda: planner(objective="x"), ValueError, "WDMPlanner: `objective` is 'x'"),
        (lambda: planner(power_w=0), ValueError, "WDMPlanner: `power_w` must be above 0"),
        (lambda: planner(enob_target=-1), ValueError, "WDMPlanner: `enob_target` must be above 0"),
        (
            lambda: planner(grid=Grid(slots=64, spacing_hz=50e9)),
            ValueError,
            "WDMPlanner: `grid` takes 3.2 THz, expected at most the free spectral range of `ring`",
        ),
        (
            lambda: planner().optimize_allocation(lambda x: x, [np.ones((2, 2))]),
            ValueError,
            "optimize_allocation: `model_graph` has no optical matmul",
        ),
        (
            lambda: planner().optimize_allocation(lambda x: x),
            ValueError,
            "`batches` is None, expected calibration batches for the model that is of type func",
        ),
        (lambda: planner().optimize_allocation(3, []), TypeError, "`model_graph` is of type int"),
        (
            lambda: planner().optimize_allocation(Net(), [np.ones((2, 6))]),
            ValueError,
            "`model_graph` is an unbound Linen module, expected model.bind(variables)",
        ),
    ],
)
def test_bad_input(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_signals_that_are_not_finite(variables: Any) -> None:
    x = jnp.full((2, 6), jnp.nan, jnp.float32)
    with pytest.raises(ValueError, match="the inputs of 'Net/first' have NaN or infinite values"):
        planner().optimize_allocation(Net().bind(variables), [x])
