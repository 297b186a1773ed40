"""What `forward` and `step` share: an optical matmul of all shapes by everyone."""

from __future__ import annotations

from collections.abc import Callable

from .. import _equality, _problem
from .._bench import Bench, Case, Row, load
from .._options import Options, Shape
from .._peers import HEADLINE, PEERS, Program
from .._problem import Problem, Workload

QUICK = ((1, 784, 512), (32, 784, 512), (128, 512, 512), (1024, 128, 128))
FULL = (
    (1, 784, 512),
    (32, 784, 512),
    (32, 512, 256),
    (32, 2048, 1024),
    (32, 128, 128),
    (128, 512, 512),
    (256, 128, 128),
    (1024, 128, 128),
    (256, 1024, 1024),
    (4096, 128, 128),
    (8192, 64, 256),
    (512, 4096, 4096),
)
COMPILED = ((32, 784, 512), (128, 512, 512), (1024, 128, 128))
"""Where torch.compile takes part unless asked for: it compiles for many seconds per shape."""


def cases(options: Options, suite: str, workloads: tuple[Workload, ...]) -> list[Case]:
    """All shapes of all workloads."""
    return [
        Case(workload.name, shape, _runner(suite, workload, shape))
        for workload in workloads
        for shape in options.shapes_of(3, QUICK, FULL)
    ]


def _runner(suite: str, workload: Workload, shape: Shape) -> Callable[[Bench], Row]:
    return lambda bench: _run(bench, suite, workload, shape)


def _run(bench: Bench, suite: str, workload: Workload, shape: Shape) -> Row:
    problem = _problem.make(workload, shape)
    peers = bench.peers(HEADLINE, PEERS)
    if not bench.options.peers and shape not in COMPILED and "torch-compile" in peers:
        peers.remove("torch-compile")

    def make(name: str) -> Program:
        return getattr(load(name), suite)(problem)

    def check(name: str, program: Program, ours: Program) -> None:
        _equality.check(problem, name, program, ours, getattr(load(name), "OWN_GRID", False))

    calls, notes, _ = bench.compare(peers, make, check)
    results = bench.time(calls)
    return bench.row(
        suite,
        workload.name,
        shape,
        operations=operations(problem, gradient=suite == "step"),
        size=bytes_of(shape, gradient=suite == "step"),
        normals=shape[0] * shape[2],
        results=results,
        notes=notes,
    )


def operations(problem: Problem, *, gradient: bool) -> dict[str, float]:
    """Two for each product and sum, by the type that they may have."""
    workload = problem.workload
    batch, depth, columns = problem.shape
    product = 2.0 * batch * depth * columns
    integer = 1 <= workload.dac_bits <= 8 and 1 <= workload.weight_bits <= 8
    operations = {"int8" if integer else "float32": product}
    if gradient:
        kind = workload.grad_precision
        operations[kind] = operations.get(kind, 0.0) + 2 * product
    return operations


def bytes_of(shape: Shape, *, gradient: bool) -> float:
    """x, w and y, read or written once; in a gradient their cotangents too."""
    batch, depth, columns = shape
    operands = 4.0 * (batch * depth + depth * columns + batch * columns)
    return operands * 2 if gradient else operands
