"""Products of complex matrices, x c64[B, K] and w c64[K, N].

product     x · w
optical     8-bit converters of both parts of x, w and y, and circular noise of 10 % between
step        the same with the gradients of x and w, in float32
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np

from .._bench import Bench, Case, Row, load
from .._options import Options, Shape
from .._peers import Program
from ._complex_problem import BITS, Problem, make

FULL = ((256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (32, 784, 512), (1, 784, 512))
QUICK = FULL[:1]
PEERS = ("jax", "torch")
WORKLOADS = ("product", "optical", "step")
_TOLERANCE = 1e-5
"""Of a product, relative to the largest: other orders of sums, and three products for four."""


def cases(options: Options) -> list[Case]:
    """All shapes of each."""
    return [
        Case(workload, shape, _runner(workload, shape))
        for workload in WORKLOADS
        for shape in options.shapes_of(3, QUICK, FULL)
    ]


def _runner(workload: str, shape: Shape) -> Callable[[Bench], Row]:
    return lambda bench: _run(bench, workload, shape)


def _run(bench: Bench, workload: str, shape: Shape) -> Row:
    problem = make(shape)
    peers = [name for name in bench.peers(PEERS, PEERS) if name in PEERS]

    def program(name: str) -> Program:
        load(name)
        module = importlib.import_module(f"._complex_{name}", __package__)
        return getattr(module, workload)(problem)

    def check_peer(name: str, peer: Program, ours: Program) -> None:
        check(problem, workload, name, peer, ours)

    calls, notes, _ = bench.compare(peers, program, check_peer)
    rows, depth, columns = shape
    products = float(rows * depth * columns)
    # Four real products, or three of floats at least; of a step, two more complex ones.
    operations = {
        "product": {"float32": 6 * products},
        "optical": {"int8": 8 * products},
        "step": {"int8": 8 * products, "float32": 12 * products},
    }[workload]
    size = 8.0 * (rows * depth + depth * columns + rows * columns)
    return bench.row(
        "complex",
        workload,
        shape,
        operations=operations,
        size=2 * size if workload == "step" else size,
        normals=0.0 if workload == "product" else 2.0 * rows * columns,
        results=bench.time(calls),
        notes=notes,
    )


def check(problem: Problem, workload: str, name: str, peer: Program, ours: Program) -> None:
    """A ValueError that says how the results without noise differ."""
    expected, got = (program.to_numpy(program.bind(0.0)()) for program in (ours, peer))
    for one, other in zip(got, expected, strict=True):
        if one.shape != other.shape or one.dtype != np.complex64:
            raise ValueError(
                f"{name}: returned {one.dtype}{list(one.shape)}, "
                f"expected complex64{list(other.shape)}"
            )
    apart = [
        np.abs((one - other).view(np.float32)) for one, other in zip(got, expected, strict=True)
    ]
    allowed = [_TOLERANCE * float(np.abs(other).max()) for other in expected]
    if workload != "product":
        # Sums that are rounded otherwise may be converted to the next level, and few are.
        allowed[0] = 1.001 * problem.y_full_scale / (2 ** (BITS - 1) - 1)
        if np.mean(apart[0] > allowed[0] / 100) > 0.01:
            raise ValueError(f"{name}: more than 1 % of the levels differ")
    for one, most in zip(apart, allowed, strict=True):
        if not one.max() <= most:
            raise ValueError(f"{name}: is {one.max():.2g} off, expected at most {most:.2g}")
