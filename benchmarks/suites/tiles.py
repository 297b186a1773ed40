"""An optical matmul on arrays of a limited number of inputs, and its training step.

Beside the peers, which loop over the tiles, stands our own op on one array of all inputs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np

from .. import _equality
from .._bench import Bench, Case, Row, load
from .._options import Options, Shape
from .._peers import ONE_ARRAY, OURS, Program
from .._problem import ADC_ONLY, ALL_BITS, RELATIVE, Workload
from . import _matmul, _tiles_problem
from ._tiles_problem import Tiled

FULL = tuple((batch, 784, 512, rows) for batch in (32, 128) for rows in (64, 128))
QUICK = FULL[:1]
PEERS = ("jax", "torch")


def cases(options: Options) -> list[Case]:
    """All shapes (B, K, N, R) of both directions, with an ADC alone and with all converters."""
    return [
        Case(_name(direction, workload, noisy), shape, _runner(direction, workload, noisy, shape))
        for direction in ("forward", "step")
        for workload in (ADC_ONLY, ALL_BITS)
        for noisy in (False, True)
        for shape in options.shapes_of(4, QUICK, FULL)
    ]


def _name(direction: str, workload: Workload, noisy: bool) -> str:
    return f"{direction}, {workload.name}, {'noise' if noisy else 'no noise'}"


def _runner(
    direction: str, workload: Workload, noisy: bool, shape: Shape
) -> Callable[[Bench], Row]:
    return lambda bench: _run(bench, direction, workload, noisy, shape)


def _run(bench: Bench, direction: str, workload: Workload, noisy: bool, shape: Shape) -> Row:
    problem = _tiles_problem.make(workload, shape, noisy=noisy)
    peers = [name for name in bench.peers(PEERS, PEERS) if name in PEERS]

    def make(name: str) -> Program:
        return program(problem, name, direction)

    def compare(name: str, peer: Program, ours: Program) -> None:
        if name != ONE_ARRAY:
            check(problem, name, peer, ours)

    calls, notes, _ = bench.compare([*peers, ONE_ARRAY], make, compare)
    gradient = direction == "step"
    return bench.row(
        "tiles",
        _name(direction, workload, noisy),
        shape,
        operations=_matmul.operations(problem, gradient=gradient),
        size=_matmul.bytes_of(problem.shape, gradient=gradient),
        normals=problem.g.size * len(problem.tiles) if noisy else 0,
        results=bench.time(calls),
        notes=notes,
    )


def program(problem: Tiled, name: str, direction: str) -> Program:
    """That of ours, of a peer, or of ours with all inputs in one array."""
    if name == ONE_ARRAY:
        whole = (*problem.shape, problem.x.shape[1])
        problem = _tiles_problem.make(problem.workload, whole, noisy=problem.noisy)
        name = OURS
    load(name)
    module = importlib.import_module(f"._tiles_{name}", __package__)
    return getattr(module, direction)(problem)


def check(problem: Tiled, name: str, peer: Program, ours: Program) -> None:
    """A ValueError that says how results differ without noise, or how the noise does."""
    _equality.check_quiet(problem, name, peer, ours)
    if not problem.noisy:
        return
    mine, theirs = (_deviation(one) for one in (ours, peer))
    # Both are estimates, with a kurtosis of 9 at most, and of a sum of tiles of less.
    allowed = _equality.DEVIATION + 4 * np.sqrt(2 * (9 - 1) / 4 / problem.g.size)
    if not abs(theirs / mine - 1) <= allowed:
        raise ValueError(
            f"{name}: the noise is {theirs / mine:.3g} times ours, expected 1 within {allowed:.2g}"
        )


def _deviation(one: Program) -> float:
    quiet, noisy = (one.to_numpy(one.bind(level)())[0] for level in (0.0, RELATIVE))
    return float(np.sqrt(np.mean((noisy - quiet) ** 2)))
