"""Products of complex matrices, x c64[B, K] and w c64[K, N].

product     x · w
optical     8-bit converters of both parts of x, w and y, and circular noise of 10 % between
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np

from .._bench import Bench, Case, Row, load
from .._options import Options, Shape
from .._peers import Program
from ._complex_problem import Problem, make

FULL = ((256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (32, 784, 512), (1, 784, 512))
QUICK = FULL[:1]
PEERS = ("jax", "torch")
_TOLERANCE = 1e-5
"""Of a product, relative to the largest: other orders of sums, and three products for four."""


def cases(options: Options) -> list[Case]:
    """All shapes of both."""
    return [
        Case(workload, shape, _runner(workload, shape))
        for workload in ("product", "optical")
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
    is_optical = workload == "optical"
    return bench.row(
        "complex",
        workload,
        shape,
        # Four real products, or three of floats at least.
        operations={"int8" if is_optical else "float32": (8.0 if is_optical else 6.0)
                    * rows * depth * columns},
        size=8.0 * (rows * depth + depth * columns + rows * columns),
        normals=2.0 * rows * columns if is_optical else 0.0,
        results=bench.time(calls),
        notes=notes,
    )  # fmt: skip


def check(problem: Problem, workload: str, name: str, peer: Program, ours: Program) -> None:
    """A ValueError that says how the results without noise differ."""
    (expected,), (got,) = (program.to_numpy(program.bind(0.0)()) for program in (ours, peer))
    if got.shape != expected.shape or got.dtype != np.complex64:
        raise ValueError(
            f"{name}: returned {got.dtype}{list(got.shape)}, "
            f"expected complex64{list(expected.shape)}"
        )
    apart = np.abs((got - expected).view(np.float32))
    if workload == "product":
        allowed = _TOLERANCE * float(np.abs(expected).max())
    else:
        # Sums that are rounded otherwise may be converted to the next level, and few are.
        allowed = 1.001 * problem.y_full_scale / 127
        if np.mean(apart > allowed / 100) > 0.01:
            raise ValueError(f"{name}: more than 1 % of the levels differ")
    if not apart.max() <= allowed:
        raise ValueError(f"{name}: is {apart.max():.2g} off, expected at most {allowed:.2g}")
