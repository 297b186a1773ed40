"""A causal softmax of scores, f32[heads, rows, columns], and its gradient.

p = softmax(scores/8) over the columns up to that of the row        ds of a random cotangent
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np

from .._bench import Bench, Case, Row, load
from .._options import Options, Shape
from .._peers import Program

FULL = ((8, 128, 128), (32, 256, 256), (8, 1024, 1024))
QUICK = FULL[:1]
PEERS = ("jax", "torch")
_TOLERANCE = 1e-6
"""Of probabilities and, relative to the largest, of gradients: other exponentials, other sums."""


def cases(options: Options) -> list[Case]:
    """All shapes of both directions."""
    return [
        Case(direction, shape, _runner(direction, shape))
        for direction in ("forward", "backward")
        for shape in options.shapes_of(3, QUICK, FULL)
    ]


def _runner(direction: str, shape: Shape) -> Callable[[Bench], Row]:
    return lambda bench: _run(bench, direction, shape)


def _run(bench: Bench, direction: str, shape: Shape) -> Row:
    rng = np.random.default_rng(shape)
    scores, g = (rng.standard_normal(shape, np.float32) for _ in range(2))
    peers = [name for name in bench.peers(PEERS, PEERS) if name in PEERS]

    def make(name: str) -> Program:
        load(name)
        module = importlib.import_module(f"._softmax_{name}", __package__)
        return getattr(module, direction)(scores, g)

    calls, notes, _ = bench.compare(peers, make, check)
    operands = 2 if direction == "forward" else 3
    return bench.row(
        "softmax",
        direction,
        shape,
        # What is seen is read, and every result is written.
        size=4.0 * scores.size * ((operands - 1) / 2 + 1),
        results=bench.time(calls),
        notes=notes,
    )


def check(name: str, peer: Program, ours: Program) -> None:
    """A ValueError that says how the results differ."""
    (expected,), (got,) = (program.to_numpy(program.bind(0.0)()) for program in (ours, peer))
    if got.shape != expected.shape or got.dtype != np.float32:
        raise ValueError(
            f"{name}: returned {got.dtype}{list(got.shape)}, expected float32{list(expected.shape)}"
        )
    apart = float(np.abs(got - expected).max())
    allowed = _TOLERANCE * min(1.0, float(np.abs(expected).max()))
    if not apart <= allowed:
        raise ValueError(f"{name}: is {apart:.2g} off, expected at most {allowed:.2g}")
