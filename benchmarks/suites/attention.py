"""Causal attention of q, k and v, f32[batch, queries, heads, features], and its gradients.

out = softmax(q·kᵀ/√features)·v        dq, dk and dv of a random cotangent, and out
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np

from .._bench import Bench, Case, Row, load
from .._options import Options, Shape
from .._peers import Program

FULL = ((8, 128, 4, 32), (1, 1024, 4, 64), (1, 1024, 12, 64))
QUICK = FULL[:1]
PEERS = ("jax", "torch")
_TOLERANCE = 1e-5
"""Relative to the largest: other exponentials, other sums."""


def cases(options: Options) -> list[Case]:
    """All shapes of both directions."""
    return [
        Case(direction, shape, _runner(direction, shape))
        for direction in ("forward", "step")
        for shape in options.shapes_of(4, QUICK, FULL)
    ]


def _runner(direction: str, shape: Shape) -> Callable[[Bench], Row]:
    return lambda bench: _run(bench, direction, shape)


def _run(bench: Bench, direction: str, shape: Shape) -> Row:
    operands = operands_of(shape)
    peers = [name for name in bench.peers(PEERS, PEERS) if name in PEERS]

    def make(name: str) -> Program:
        load(name)
        module = importlib.import_module(f"._attention_{name}", __package__)
        return getattr(module, direction)(*operands)

    calls, notes, _ = bench.compare(peers, make, check)
    products = 2 if direction == "forward" else 7
    batch, queries, heads, features = shape
    return bench.row(
        "attention",
        direction,
        shape,
        # Two operations for each product of numbers, and half of the scores are seen.
        operations={"float32": products * batch * heads * queries * queries * features},
        size=sum(operand.nbytes for operand in operands),
        results=bench.time(calls),
        notes=notes,
    )


def operands_of(shape: Shape) -> list[np.ndarray]:
    """q, k, v and the cotangent."""
    rng = np.random.default_rng(shape)
    return [rng.standard_normal(shape, np.float32) for _ in range(4)]


def check(name: str, peer: Program, ours: Program) -> None:
    """A ValueError that says how the results differ."""
    results = [program.to_numpy(program.bind(0.0)()) for program in (ours, peer)]
    for index, (expected, got) in enumerate(zip(*results, strict=True)):
        if got.shape != expected.shape or got.dtype != np.float32:
            raise ValueError(
                f"{name}: result {index} is {got.dtype}{list(got.shape)}, "
                f"expected float32{list(expected.shape)}"
            )
        apart = float(np.abs(got - expected).max()) / float(np.abs(expected).max())
        if not apart <= _TOLERANCE:
            raise ValueError(
                f"{name}: result {index} is {apart:.2g} off, expected at most {_TOLERANCE:.2g}"
            )
