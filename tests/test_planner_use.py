"""What plans rest on: the order by slots, settings of NumPy, and lengths in m."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import exporter
from lumina_jax import OpticalSpec, WDMPlanner, optical_matmul
from lumina_jax.hardware import crosstalk
from lumina_jax.physics import Receiver
from lumina_jax.planner import Grid, Plan, Ring, allocate, compress, stream_enob

RING = Ring(q=1e4, fsr_m=20e-9)
SPEC = OpticalSpec()
RECEIVER = Receiver(bandwidth_hz=2.5e9)


def planned(inputs: int, grid: Grid, **changes: Any) -> tuple[Plan, np.ndarray, np.ndarray]:
    """A plan for x[m, inputs] · w[inputs, 3], with x and w; the second input is dark."""
    random = np.random.default_rng(inputs)
    x = (random.normal(size=(16, inputs)) * random.uniform(0.3, 2, inputs)).astype(np.float32)
    w = random.normal(size=(inputs, 3)).astype(np.float32)
    x[:, 1] = 0
    planner = WDMPlanner(**{"ring": RING, "grid": grid, "receiver": RECEIVER} | changes)
    return planner.optimize_allocation(lambda x: optical_matmul(x, w, spec=SPEC), [x]), x, w


def test_the_order_of_a_plan_is_exported() -> None:
    """The inputs come in by slot, and their weights meet them there."""
    plan, x, w = planned(8, Grid(slots=4, spacing_hz=50e9))
    order = plan.permutation()
    # In the order of the slots, all full buses of a grid have the crosstalk of its neighbors.
    matrix = RING.coupling(plan.grid.frequencies_hz)

    def infer(x: jax.Array) -> jax.Array:
        return x[..., order] @ crosstalk.fold(w[order], matrix)

    in_order_of_the_model = x @ crosstalk.fold(w, plan.crosstalk())
    np.testing.assert_allclose(infer(x), in_order_of_the_model, atol=1e-4)
    assert exporter.export(infer, x).graph.nodes


def test_results_do_not_depend_on_what_a_program_has_set() -> None:
    powers, coupling = (
        np.array([1.0, 1e-12, 0.3, 1e-6]),
        RING.coupling(193e12 + 5e10 * np.arange(5)),
    )
    grid = Grid(slots=4, spacing_hz=50e9)

    def results() -> list[Any]:
        order, cost = allocate(powers, coupling, "snr")
        return [
            order.tolist(),
            cost,
            *(allocate(powers, coupling, kind)[1] for kind in ("max", "product", "total")),
            stream_enob(powers, coupling, order, RECEIVER).tolist(),
            compress([0, 1], [1e-4, 2e-4], ring=RING, enob_target=2, receiver=RECEIVER),
            planned(6, grid)[0].report(),
        ]

    usual = results()
    with np.errstate(all="raise"):
        assert results() == usual


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        (
            {"q": 1e4, "fsr_m": 20},
            "`fsr_m` is 20 m, expected less than the wavelength; a len",
        ),
        (
            {"q": 1e4, "fsr_m": 20e-9, "wavelength_m": 1550},
            "`wavelength_m` is 1550 m, expected",
        ),
    ],
)
def test_lengths_in_nanometers_are_refused(figures: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^Ring: {message}"):
        Ring(**figures)
