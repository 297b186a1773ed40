"""A convolution of 3x3 with as many places as the image has, and its training step.

A shape is images, their side, channels, outputs and groups; with as many groups as channels the
convolution is depthwise.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np

from .. import _equality, _problem
from .._bench import Bench, Case, Row, load
from .._options import Options, Shape
from .._peers import Program
from .._problem import ADC_ONLY, ALL_BITS, Problem, Workload
from ._conv_jax import product

FULL = ((32, 32, 64, 64, 1), (32, 32, 3, 64, 1), (32, 8, 256, 256, 1), (32, 32, 64, 64, 64))
QUICK = FULL[:1]
PEERS = ("jax", "torch")
_SIDE = 3


def cases(options: Options) -> list[Case]:
    """All shapes of both directions, with an ADC alone and with all converters."""
    return [
        Case(f"{direction}, {workload.name}", shape, _runner(direction, workload, shape))
        for direction in ("forward", "step")
        for workload in (ADC_ONLY, ALL_BITS)
        for shape in options.shapes_of(5, QUICK, FULL)
    ]


def _runner(direction: str, workload: Workload, shape: Shape) -> Callable[[Bench], Row]:
    return lambda bench: _run(bench, direction, workload, shape)


def _run(bench: Bench, direction: str, workload: Workload, shape: Shape) -> Row:
    problem, groups = make(workload, shape), shape[4]
    peers = [name for name in bench.peers(PEERS, PEERS) if name in PEERS]

    def run(name: str) -> Program:
        load(name)
        module = importlib.import_module(f"._conv_{name}", __package__)
        return getattr(module, direction)(problem, groups)

    def check(name: str, peer: Program, ours: Program) -> None:
        _equality.check_quiet(problem, name, peer, ours)

    calls, notes, _ = bench.compare(peers, run, check)
    integer = workload.dac_bits and workload.weight_bits
    operations = 2.0 * problem.g.size * problem.w[..., 0].size
    by_type = {"int8" if integer else "float32": operations}
    if direction == "step":
        by_type["float32"] = by_type.get("float32", 0.0) + 2 * operations
    size = 4.0 * (problem.x.size + problem.w.size + problem.g.size)
    return bench.row(
        "conv",
        f"{direction}, {workload.name}",
        shape,
        operations=by_type,
        size=size if direction == "forward" else 2 * size,
        normals=problem.g.size,
        results=bench.time(calls),
        notes=notes,
    )


def make(workload: Workload, shape: Shape) -> Problem:
    """Standard normal x, kernel and cotangent; an ADC that clips a few of the largest outputs."""
    images, side, channels, outputs, groups = shape
    rng = np.random.default_rng(shape)
    x = rng.standard_normal((images, side, side, channels), np.float32)
    w = rng.standard_normal((_SIDE, _SIDE, channels // groups, outputs), np.float32)
    # Libraries differ in the gradient of a value right at its full scale.
    x_full_scale = 1.001 * float(np.abs(x).max())
    w_full_scale = np.abs(w).max(axis=(0, 1, 2))
    x_q = _problem.quantized(x, x_full_scale, workload.dac_bits)
    y = np.asarray(product(x_q, _problem.quantized(w, w_full_scale, workload.weight_bits), groups))
    return Problem(
        workload=workload,
        x=x,
        w=w,
        g=rng.standard_normal(y.shape, np.float32),
        x_full_scale=x_full_scale,
        w_full_scale=w_full_scale,
        y_full_scale=_problem.between_values(np.abs(y)),
    )
