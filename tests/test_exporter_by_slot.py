"""Inputs of layers in the order of their wavelengths, in the file."""

from __future__ import annotations

from dataclasses import replace

import flax.linen as nn
import jax
import numpy as np
import pytest

import exporter
from exported import Program
from lumina_jax import HardwareProfile, WDMPlanner
from lumina_jax.hardware import Converters, WeightBank
from lumina_jax.layers import OpticalDense
from lumina_jax.planner import Grid, Ring

CHIP = HardwareProfile(
    converters=Converters.all(6, symbol_rate_hz=5e9), bank=WeightBank(rows=8, columns=8)
)
PLANNER = WDMPlanner(ring=Ring(q=2e4, fsr_m=20e-9), grid=Grid(slots=8, spacing_hz=50e9))
X = np.asarray(jax.random.uniform(jax.random.key(0), (8, 16))) * np.linspace(0.1, 1, 16, dtype="f")


class Net(nn.Module):
    chips: tuple[HardwareProfile, ...]
    deterministic: bool = True

    @nn.compact
    def __call__(self, x):
        for width, chip in zip((12, 5), self.chips, strict=True):
            x = nn.relu(OpticalDense(width, profile=chip, deterministic=self.deterministic)(x))
        return x


def trained(*chips: HardwareProfile):
    """A calibrated network, and the plan of its wavelengths."""
    rngs = {"params": jax.random.key(1), "noise": jax.random.key(2)}
    variables = Net(chips, False).init(rngs, X)
    _, ranges = Net(chips, False).apply(variables, X, mutable=["ranges"], rngs=rngs)
    net, variables = Net(chips), {**variables, **ranges}
    return net, variables, PLANNER.optimize_allocation(net.bind(variables), [X])


def test_sums_of_codes_keep_their_bits(program: Program) -> None:
    net, variables, plan = trained(CHIP, CHIP)
    model = exporter.export(
        net.apply, X, params=variables, batch="batch", profile=CHIP, plan=plan, by_slot=True
    )
    path = program.verified(model)
    assert program.run(path, X).tobytes() == np.asarray(net.apply(variables, X)).tobytes()
    plain = exporter.export(net.apply, X, params=variables)
    for layer in ("OpticalDense_0", "OpticalDense_1"):
        order = plan.permutation(f"Net/{layer}")
        assert not np.array_equal(order, np.arange(len(order)))
        name = f"params['{layer}']['kernel']"
        np.testing.assert_array_equal(model.weights[name], plain.weights[name][order])


def test_crosstalk_goes_with_the_inputs(program: Program) -> None:
    """Weights in light are floats, whose sums round otherwise in another order."""
    _, _, plan = trained(CHIP, CHIP)
    chips = [replace(CHIP, crosstalk=plan.crosstalk(f"Net/OpticalDense_{i}")) for i in (0, 1)]
    net, variables, again = trained(*chips)
    model = exporter.export(
        net.apply, X, params=variables, batch="batch", profile=CHIP, plan=again, by_slot=True
    )
    program.verified(model)
    want = np.asarray(net.apply(variables, X))
    step = float(variables["ranges"]["OpticalDense_1"]["y_full_scale"]) / 31
    np.testing.assert_allclose(model(X), want, atol=1.01 * step)


def test_weights_of_fewer_bits_by_slot(program: Program) -> None:
    """They are rounded, put in order, and stored as the codes of their converters."""
    net, variables, plan = trained(CHIP, CHIP)
    options = {"profile": CHIP, "plan": plan, "by_slot": True}
    model = program.export(net.apply, X, params=variables, weights={"kernel": 3}, **options)
    assert {w.bits for w in model.weights_report().weights if w.scale} == {6}
    kernel = model.weights["params['OpticalDense_0']['kernel']"]
    assert all(len(np.unique(column)) <= 8 for column in kernel.T)


def test_what_cannot_be_put_in_order_is_refused() -> None:
    net, variables, plan = trained(CHIP, CHIP)

    def refused(fn, **options) -> str:
        given = {"profile": CHIP, "plan": plan, "by_slot": True, "params": variables, **options}
        with pytest.raises(exporter.ExportError) as caught:
            exporter.export(fn, X, **given)
        return str(caught.value)

    first, second = plan.buses[:2], plan.buses[2:]
    renamed = replace(plan, buses=tuple(replace(bus, layer="Net/Other") for bus in plan.buses[:1]))
    assert "the model has none for `Net/Other`" in refused(net.apply, plan=renamed)
    shorter = replace(plan, buses=(first[0], *second))
    assert "'Net/OpticalDense_0' of `plan` has 8 inputs, but the one in the model has 16" in (
        refused(net.apply, plan=shorter)
    )
    assert "`by_slot` is given without a `plan`" in refused(net.apply, plan=None)
    chip = replace(CHIP, bank=WeightBank(rows=4, columns=4))
    cut, variables, plan = trained(chip, chip)
    assert "moves inputs of 'Net/OpticalDense_0' from one array of 4 inputs into another" in (
        refused(cut.apply, params=variables, plan=plan)
    )
