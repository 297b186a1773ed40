"""The device of an exported model: its schedule beside the energy report, its plan, its numbers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
import lumina_jax
from exported import Program, rebuilt, refused, same
from flax_layers import OpticalDense
from lumina_jax import (
    EnergyAssumptions,
    HardwareProfile,
    NoiseModel,
    OpticalSpec,
    WDMPlanner,
    energy_report,
    optical_attention,
    optical_conv,
    optical_matmul,
)
from lumina_jax.cost import EnergyReport
from lumina_jax.cost.workload import layers_of
from lumina_jax.hardware import Converters, Microring, WavelengthGrid, WeightBank
from lumina_jax.hardware.compensation import Mode, compensate
from lumina_jax.hardware.crosstalk import CrosstalkMatrix, RingComb
from lumina_jax.planner import Plan

RNG = np.random.default_rng(4)
SPEC = OpticalSpec(dac_bits=6, weight_bits=5, adc_bits=7, array_rows=64)
CHIP = HardwareProfile(
    name="chip",
    converters=Converters.all(8, symbol_rate_hz=5e9),
    noise=NoiseModel(),
    bank=WeightBank(rows=64, columns=64),
    grid=WavelengthGrid(channels=64, spacing_hz=50e9),
)
SMALL = replace(
    CHIP,
    bank=WeightBank(rows=4, columns=4),
    grid=WavelengthGrid(channels=4, spacing_hz=50e9),
    ring=Microring(q=1e4),
)


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


def digits(x: jax.Array) -> jax.Array:
    hidden = optical_matmul(x, W[0], spec=SPEC, y_full_scale=64.0)
    return optical_matmul(hidden, W[1], spec=SPEC, y_full_scale=64.0)


W = normal(784, 512), normal(512, 10)


def test_totals_are_those_of_a_hand_count_and_of_the_energy_report(program: Program) -> None:
    model = exporter.export(digits, jnp.ones((2, 784)), batch="batch", profile=CHIP)
    path = program.verified(model)
    said = json.loads(program.call("schedule", path, "--symbol", "batch=32", "--json"))
    totals = said["entries"][0]["totals"]
    # 784 inputs are 13 arrays of 64 deep and 512 outputs 8 wide; 512 inputs are 8 deep.
    assert totals["settings"] == totals["turns"] == 13 * 8 + 8
    assert totals["input_conversions"] == 32 * 784 * 8 + 32 * 512
    assert totals["weight_conversions"] == 784 * 512 + 512 * 10
    assert totals["output_conversions"] == 32 * 512 * 13 + 32 * 10 * 8
    assert totals["macs"] == 32 * (784 * 512 + 512 * 10)
    # 10 µs until the weights have settled, and 32 symbols of 0.2 ns, 112 times.
    assert totals["settling_s"] == pytest.approx(112 * 10e-6)
    assert totals["latency_s"] == pytest.approx(112 * (10e-6 + 32 * 0.2e-9))
    assert totals["utilization"] == pytest.approx((784 * 512 + 512 * 10) / (112 * 4096))
    report = energy_report(model, CHIP, symbols={"batch": 32})
    assert said["entries"][0]["notes"] == [report.simulated]
    same_as_the_report(said["entries"][0], report)
    schedule = model.schedule({"batch": 32})
    assert schedule.data == said
    assert str(schedule) == program.call("schedule", path, "--symbol", "batch=32")
    assert repr(schedule) == "Schedule of 2 products on chip: 112 settings"


def same_as_the_report(entry: dict[str, Any], report: EnergyReport) -> None:
    """Asserts that each product costs what the report says, and all of them together."""
    counted = [layer for layer in entry["layers"] if layer["is_counted"]]
    assert len(counted) == len(report.layers)
    for layer, cost in zip(counted, report.layers, strict=True):
        assert layer["rows"] == cost.layer.rows
        assert (layer["inputs"], layer["outputs"]) == (cost.layer.k, cost.layer.n)
        assert layer["runs"] * layer["calls"] == cost.layer.calls
        assert layer["tiles"][0] * layer["tiles"][1] == cost.tiles
        of_layer = layer["cost"]
        assert of_layer["input_conversions"] == cost.dac_conversions
        assert of_layer["weight_conversions"] == cost.weight_conversions
        assert of_layer["output_conversions"] == cost.adc_conversions
        assert of_layer["latency_s"] == pytest.approx(cost.latency_s, rel=1e-12)
        # The report has the energy of a conversion in f32.
        assert of_layer["energy_j"] == pytest.approx(dict(cost.energy_j), rel=1e-6)
    totals = entry["totals"]
    assert totals["macs"] == report.macs
    assert totals["latency_s"] == pytest.approx(report.latency_s, rel=1e-12)
    assert totals["energy_j"] == pytest.approx(dict(report.energy_j), rel=1e-6)
    assert totals["total_j"] == pytest.approx(report.total_j, rel=1e-6)


def every_kind(x: jax.Array) -> jax.Array:
    """Convolution in groups, attention, complex numbers, a loop and branches; x f32[b, 6, 6, 8]."""
    loose = replace(SPEC, array_rows=None)
    options: dict[str, Any] = {"spec": loose, "y_full_scale": 8.0}
    y = optical_conv(x, KERNEL, strides=2, feature_group_count=2, **options)
    heads = y.reshape(y.shape[0], 9, 2, 6)
    y = optical_attention(
        heads, heads, heads, spec=loose, scores_full_scale=8.0, out_full_scale=8.0
    ).reshape(-1, 12)
    z = lumina_jax.complex_optical_matmul(
        jax.lax.complex(y, y), jax.lax.complex(SQUARE, SQUARE), **options
    )
    y, _ = jax.lax.scan(
        lambda y, _: (optical_matmul(y, SQUARE, **options), None), z.real, None, length=5
    )
    return jax.lax.cond(
        y[0, 0] > 0,
        lambda y: optical_matmul(optical_matmul(y, SQUARE, **options), SQUARE, **options),
        lambda y: optical_matmul(y, SQUARE, **options),
        y,
    )


KERNEL, SQUARE = normal(3, 3, 4, 12), normal(12, 12)


def test_every_kind_of_node_is_counted_as_by_the_energy_report(program: Program) -> None:
    x = normal(2, 6, 6, 8)
    assumed = EnergyAssumptions(banks=3, weight_settling_s=1e-9)
    profile = replace(SMALL, bank=WeightBank(rows=4, columns=3))
    model = exporter.export(every_kind, x, batch="batch", profile=profile, assumptions=assumed)
    program.verified(model)
    for batch in (1, 5):
        entry = model.schedule({"batch": batch}).data["entries"][0]
        report = energy_report(model, profile, symbols={"batch": batch}, assumptions=assumed)
        same_as_the_report(entry, report)
        inputs = (jax.ShapeDtypeStruct((batch, 6, 6, 8), jnp.float32),)
        assert layers_of("f", every_kind, inputs=inputs) == layers_of(
            "f", model, symbols={"batch": batch}
        )
    ops = [layer["op"] for layer in entry["layers"]]
    assert ops == [
        "optical_conv",
        "optical_attention",
        "optical_attention",
        "complex_optical_matmul",
        *["optical_matmul"] * 4,
    ]
    assert [layer["runs"] for layer in entry["layers"]][4] == 5
    assert [layer["is_counted"] for layer in entry["layers"]][5:] in (
        [True, False, False],
        [False, False, True],
    )


def calibrated(net: nn.Module, x: jax.Array) -> Any:
    """Variables of a network whose layers have ranges."""
    keys = {"params": jax.random.key(2), "noise": jax.random.key(3)}
    variables = net.init(keys, x, deterministic=False)
    _, ranges = net.apply(variables, x, deterministic=False, rngs=keys, mutable=["ranges"])
    return {**variables, **ranges}


def inference(profile: HardwareProfile, x: jax.Array) -> tuple[Any, Any]:
    """A layer as a function of its variables and of x, and these."""
    net = OpticalDense(7, profile=profile)
    return partial(net.apply, deterministic=True), calibrated(net, x)


def planned(profile: HardwareProfile, x: jax.Array) -> Plan:
    net = OpticalDense(7, profile=profile)
    model = net.clone(deterministic=True).bind(calibrated(net, x))
    return WDMPlanner(profile=profile).optimize_allocation(model, [x])


MODES: dict[Mode, dict[str, Any]] = {
    "fold": {},
    "wiener": {"regularization": 0.01},
    "feedback": {"bits": 8},
}
"""How weights undo crosstalk; a readout does so behind the receivers, which no layer computes."""


@pytest.mark.parametrize("mode", MODES)
def test_a_run_computes_what_training_did(program: Program, mode: Mode) -> None:
    """Tiles of 4 inputs, crosstalk of a comb, a plan, compensated weights: the bits of JAX."""
    x = normal(9, 10) * jnp.linspace(0.3, 2.0, 10)[None]
    plan = planned(SMALL, x)
    comb = replace(SMALL, crosstalk=RingComb(channels=4, spacing=2.5))
    placed = replace(SMALL, crosstalk=plan.crosstalk())
    for profile, uses in ((comb, None), (placed, plan)):
        fn, variables = inference(profile, x)
        kernel = variables["params"]["kernel"]
        assert profile.crosstalk is not None
        done = compensate(kernel, profile.crosstalk, mode, **MODES[mode])
        assert not np.array_equal(done.weights, kernel)
        variables = {**variables, "params": {**variables["params"], "kernel": done.weights}}
        model = exporter.export(
            fn,
            x,
            params=variables,
            batch="batch",
            profile=profile,
            plan=uses,
            compensation=mode,
        )
        path = program.verified(model)
        for size in (1, 9):
            want = jax.jit(fn)(variables, x[:size])
            np.testing.assert_array_equal(program.run(path, np.asarray(x[:size])), want)
        assert model.device is not None
        assert model.device.crosstalk is not None
        assert model.device.crosstalk.compensation == mode
        condition = np.linalg.cond(np.asarray(model.device.crosstalk.matrix, np.float64))
        assert model.device.crosstalk.condition_number == pytest.approx(condition, rel=1e-5)
        if mode != "wiener":  # which inverts another matrix
            assert done.condition == pytest.approx(condition, rel=1e-5)
        (layer,) = model.schedule().layers
        assert layer["array_rows"] == layer["tile_rows"] == 4
        assert layer["adc"]["full_scale"] != "computed"
        assert layer["slots"] == (None if uses is None else slots_of(plan))
        # It is additive: without a device the nodes are the same.
        bare = exporter.export(fn, x, params=variables, batch="batch")
        assert [replace(node, execution=()) for node in model.graph.nodes] == list(bare.graph.nodes)


def slots_of(plan: Plan) -> list[int]:
    return [stream.slot for bus in plan.buses for stream in bus.streams]


def test_a_file_is_read_back(program: Program) -> None:
    x = normal(9, 10) * jnp.linspace(2.0, 0.3, 10)[None]
    plan = planned(SMALL, x)
    fn, variables = inference(replace(SMALL, crosstalk=plan.crosstalk()), x)
    profile = replace(SMALL, crosstalk=plan.crosstalk())
    model = exporter.export(fn, x, params=variables, profile=profile, plan=plan)
    loaded = exporter.load(model.save(program.folder / "m.lmn"))
    same(model, loaded)
    assert loaded.device == model.device
    assert loaded.device is not None
    assert loaded.device.wavelengths_nm == pytest.approx(1e9 * plan.grid.wavelengths_m)
    (node,) = (node for node in loaded.graph.nodes if node.execution)
    assert node.execution[0].layer == plan.buses[0].layer
    assert list(node.execution[0].slots) == slots_of(plan)
    assert "device  chip: 1 bank of 4 x 4" in repr(loaded)
    by_slot = np.array(loaded.device.crosstalk.matrix)  # type: ignore[union-attr]
    np.testing.assert_allclose(by_slot, plan.ring.coupling(plan.grid.frequencies_hz), rtol=1e-6)

    def wider(graph: Any) -> None:
        node = next(node for node in graph.nodes if node.HasField("execution"))
        node.execution.products[0].outputs.terms[0].coefficient = 8

    text = refused(rebuilt(model.to_bytes(), wider), program.folder)
    assert "product 0: the file says 10 inputs and 8 outputs, but the node has 10 and 7" in text


class Net(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        x = OpticalDense(6, profile=SMALL)(x, deterministic=deterministic)
        return OpticalDense(3, profile=SMALL)(nn.relu(x), deterministic=deterministic)


@pytest.fixture(scope="module")
def net() -> tuple[Any, Any, Plan]:
    # Of its own numbers, as texts of errors name the layer whose plan is at fault first.
    rng = np.random.default_rng(4)
    x = jnp.asarray(rng.standard_normal((5, 8)) * np.linspace(0.2, 2.0, 8), jnp.float32)
    variables = calibrated(Net(), x)
    plan = WDMPlanner(profile=SMALL).optimize_allocation(Net().bind(variables), [x])
    return variables, x, plan


def slots_by_layer(model: exporter.Model) -> dict[str, list[int] | None]:
    return {layer["name"]: layer["slots"] for layer in model.schedule().layers}


def renamed(plan: Plan, *names: str) -> Plan:
    """The plan with other names of its layers, in order."""
    old = list(dict.fromkeys(bus.layer for bus in plan.buses))
    new = dict(zip(old, names, strict=True))
    return replace(plan, buses=tuple(replace(bus, layer=new[bus.layer]) for bus in plan.buses))


FIRST, SECOND = (f"params['OpticalDense_{i}']['kernel']" for i in range(2))


@pytest.mark.parametrize(
    "names",
    [
        ("Net/OpticalDense_0", "Net/OpticalDense_1"),
        ("OpticalDense_0", "OpticalDense_1"),
        ("Big/Net/OpticalDense_0", "Big/Net/OpticalDense_1"),
        (FIRST, SECOND),
        ("layer 0", "layer 1"),
    ],
)
def test_layers_of_a_plan_are_found(net: Any, names: tuple[str, str]) -> None:
    variables, x, plan = net
    assert [bus.layer for bus in plan.buses][::2] == ["Net/OpticalDense_0", "Net/OpticalDense_1"]
    options = {"profile": SMALL, "plan": renamed(plan, *names)}
    model = exporter.export(Net().apply, x, params=variables, **options)
    want = dict(zip(names, (slots_of_layer(plan, i) for i in (0, 1)), strict=True))
    assert slots_by_layer(model) == want


def slots_of_layer(plan: Plan, index: int) -> list[int] | None:
    """As a file has them, which says nothing of inputs that are on the slots in order."""
    names = list(dict.fromkeys(bus.layer for bus in plan.buses))
    slots = [s.slot for bus in plan.buses if bus.layer == names[index] for s in bus.streams]
    return None if slots == sorted(slots) else slots


def test_a_program_that_calls_the_network_has_its_layers(net: Any) -> None:
    """Below other scopes, as jit and a wrapper around the network make them."""
    variables, x, plan = net

    @jax.jit
    def infer(variables: Any, x: jax.Array) -> jax.Array:
        with jax.named_scope("Outer"):
            return Net().apply(variables, x)  # type: ignore[return-value]

    model = exporter.export(infer, x, params=variables, profile=SMALL, plan=plan)
    assert list(slots_by_layer(model).values()) == [slots_of_layer(plan, i) for i in (0, 1)]


def test_a_layer_that_runs_twice_has_the_slots_of_each_run() -> None:
    w, x = normal(4, 4), normal(6, 4) * jnp.array([[0.1, 2.0, 0.5, 1.0]])

    def fn(x: jax.Array) -> jax.Array:
        spec = OpticalSpec(array_rows=4)
        y = optical_matmul(x, w, spec=spec, y_full_scale=8.0)
        return optical_matmul(y, w, spec=spec, y_full_scale=8.0)

    plan = WDMPlanner(profile=SMALL).optimize_allocation(fn, [x])
    once = renamed(plan, "twice", "twice")
    with jax.named_scope("twice"):
        model = exporter.export(lambda x: fn(x), x, profile=SMALL, plan=plan)
    assert slots_by_layer(model) == {
        "layer 0": slots_of_layer(plan, 0), "layer 1": slots_of_layer(plan, 1)
    }  # fmt: skip

    def scoped(x: jax.Array) -> jax.Array:
        with jax.named_scope("twice"):
            return fn(x)

    model = exporter.export(scoped, x, profile=SMALL, plan=once)
    got = [layer["slots"] for layer in model.schedule().layers]
    assert got == [slots_of_layer(plan, 0), slots_of_layer(plan, 1)]


def test_products_in_a_loop_are_not_planned() -> None:
    w, x = normal(4, 4), normal(6, 4)

    def fn(x: jax.Array) -> jax.Array:
        def step(y: jax.Array, _: None) -> tuple[jax.Array, None]:
            return optical_matmul(y, w, spec=SPEC, y_full_scale=8.0), None

        y = optical_matmul(x, w, spec=SPEC, y_full_scale=8.0)
        return jax.lax.scan(step, y, None, length=3)[0]

    plan = WDMPlanner(profile=SMALL).optimize_allocation(fn, [x])
    text = r"^export: `plan` has no layer for `[^`]*\.fn\.<locals>\.step`, whose inputs"
    with pytest.warns(exporter.ScheduleWarning, match=text):
        model = exporter.export(fn, x, profile=SMALL, plan=plan)
    first, second = model.schedule().layers
    assert (first["slots"], second["slots"]) == (slots_of(plan), None)
    assert second["runs"] == 3


def test_crosstalk_in_another_order_is_told() -> None:
    x = normal(9, 10) * jnp.linspace(0.3, 2.0, 10)[None]
    comb = replace(SMALL, crosstalk=RingComb(channels=4, spacing=2.5))
    plan = planned(SMALL, x)
    assert slots_of(plan) != [k % 4 for k in range(10)]
    fn, variables = inference(comb, x)
    with pytest.warns(exporter.ScheduleWarning, match="puts the inputs of `OpticalDense` on slots"):
        exporter.export(fn, x, params=variables, profile=comb, plan=plan)


def test_wavelengths_of_a_profile_are_around_its_laser(net: Any) -> None:
    variables, x, _ = net
    model = exporter.export(Net().apply, x, params=variables, profile=SMALL)
    assert model.device is not None
    frequencies = 299792458.0 / (1e-9 * np.array(model.device.wavelengths_nm))
    np.testing.assert_allclose(np.diff(frequencies), 50e9, rtol=1e-6)
    assert frequencies.mean() == pytest.approx(299792458.0 / 1550e-9)
    assert model.device.crosstalk is None


RING = Microring()
WEAK = replace(SMALL, crosstalk=CrosstalkMatrix(np.ones((4, 4))))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"plan": "plan"}, exporter.ExportError,
         "export: `plan` is given without a `profile`, the device it is for"),
        ({"compensation": "fold"}, exporter.ExportError, "`compensation` is given without a"),
        ({"profile": "nano"}, ValueError, "export: unknown `profile` 'nano', expected custom, "),
        ({"profile": "custom"}, exporter.ExportError,
         "export: `profile` 'custom' must have a `converters.symbol_rate_hz`, got None"),
        ({"profile": SMALL, "plan": 3}, TypeError, "export: `plan` is of type int, expected a "),
        ({"profile": SMALL, "assumptions": 3}, TypeError, "export: `assumptions` is of type int"),
        ({"profile": SMALL, "compensation": "magic"}, ValueError,
         "export: `compensation` is 'magic', expected one of 'fold', 'readout', 'wiener', 'fee"),
        ({"profile": SMALL, "compensation": "fold"}, exporter.ExportError,
         "export: `compensation` is 'fold', but `profile` has no crosstalk to undo"),
        ({"profile": WEAK, "compensation": "fold"}, exporter.ExportError,
         "crosstalk among 4 slots has no condition number up to 1e+06"),
        ({"profile": CHIP, "plan": "plan"}, exporter.ExportError,
         "export: `plan` has buses of 4 wavelengths, expected at least the 64 inputs of a bank"),
        ({"profile": replace(SMALL, bank=WeightBank(rows=3)), "plan": "plan"}, exporter.ExportError,
         "export: `plan` puts two of the inputs 3 to 5 of 'Net/OpticalDense_0', which are in a "
         "bank at once, on one slot; plan with a grid of 3 slots"),
        ({"profile": SMALL, "plan": ("Net/OpticalDense_0", "Net/Other")}, exporter.ExportError,
         "export: `plan` has `Net/Other`, which no optical layer of the model is: it has "
         "`Net/OpticalDense_0`, `Net/OpticalDense_1`"),
        ({"profile": SMALL, "plan": ("OpticalDense_1", "OpticalDense_0")}, exporter.ExportError,
         "export: layer 'OpticalDense_0' of `plan` has 6 inputs, but `Net/OpticalDense_0` has 8"),
        ({"profile": replace(SMALL, crosstalk=CrosstalkMatrix(np.eye(5)))}, exporter.ExportError,
         "export: `profile` has crosstalk among 5 channels on a bus of 4 wavelengths"),
        ({"profile": replace(SMALL, grid=WavelengthGrid(channels=4, spacing_hz=1e15))},
         exporter.ExportError, "export: `profile` has a grid of 4000 THz, expected less than "),
        ({"profile": replace(SMALL, grid=WavelengthGrid(channels=4, spacing_hz=1e-9), ring=RING)},
         exporter.ExportError, "`grid.spacing_hz` of 1e-09, at which slots have the same wave"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::exporter.ScheduleWarning")
def test_what_is_refused(net: Any, options: Any, error: type[Exception], text: str) -> None:
    variables, x, plan = net
    given = options.get("plan")
    if given == "plan":
        options = options | {"plan": plan}
    elif isinstance(given, tuple):
        options = options | {"plan": renamed(plan, *given)}
    with pytest.raises(error, match=re.escape(text)):
        exporter.export(Net().apply, x, params=variables, **options)


def test_names_that_end_alike_are_told_apart_or_refused() -> None:
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
            return Net(name="a")(x, deterministic) + Net(name="b")(x, deterministic)

    x = normal(5, 8)
    variables = calibrated(Outer(), x)
    plan = WDMPlanner(profile=SMALL).optimize_allocation(Outer().bind(variables), [x])
    model = exporter.export(Outer().apply, x, params=variables, profile=SMALL, plan=plan)
    assert [layer["name"] for layer in model.schedule().layers] == [
        f"Outer/{net}/OpticalDense_{i}" for net in "ab" for i in range(2)
    ]
    short = renamed(
        plan, "a/OpticalDense_0", "OpticalDense_1", "OpticalDense_0", "b/OpticalDense_1"
    )
    with pytest.raises(
        exporter.ExportError, match="may be each of the layers `a/OpticalDense_0`, "
    ):
        exporter.export(Outer().apply, x, params=variables, profile=SMALL, plan=short)


def test_without_a_device_there_is_no_schedule(net: Any) -> None:
    variables, x, _ = net
    model = exporter.export(Net().apply, x, params=variables)
    with pytest.raises(ValueError, match=r"^the file has no schedule, as it was exported for no"):
        model.schedule()
    model = exporter.export(Net().apply, x, params=variables, profile=SMALL)
    with pytest.raises(ValueError, match=r"^there is no symbol `time`; the model has none$"):
        model.schedule({"time": 3})
