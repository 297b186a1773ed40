"""Proof that two programs compute the same, before they are timed."""

from __future__ import annotations

import numpy as np

from ._peers import ADDITIVE, Program
from ._problem import RELATIVE, Array, Problem, quantized

CODES = 5e-3
"""Share of outputs that may be one ADC step apart.

Sums in another order, and `v·(1/s)` for `v/s`, move a value by a few roundings of f32. Where that
crosses the middle between two codes of a DAC, all outputs of that row or column move by a small
part of a step, and some of those cross one of the ADC.
"""
GRADIENT = {"float32": 1e-4, "bfloat16": 4e-3, "int8": 2e-2}
"""Relative difference of gradients, in Frobenius norm, by the precision of ours.

float32: roundings, and the few codes of a DAC that differ. bfloat16: two factors, each rounded by
up to 2^-9 of its value. int8: one factor, rounded at random to steps of 1/127 of its largest
magnitude, which is up to five standard deviations: √(1/6)·5/127 of its norm.
"""
OWN_GRID = 3e-2
"""Added to it, and allowed of outputs, for a peer with steps of its own.

Each of the two factors differs by the rounding errors of both, √(2/12) of a step of full scale/127;
a full scale is up to five standard deviations.
"""
DEVIATION = 0.05
"""Relative difference of the standard deviation of the noise, beyond what its estimate varies."""


def check(problem: Problem, name: str, peer: Program, ours: Program, own_grid: bool) -> None:
    """A ValueError that says how results differ without noise, or how the noise does."""
    check_quiet(problem, name, peer, ours, own_grid and problem.workload.weight_bits > 0)
    _noise(problem, name, peer, additive=name in ADDITIVE)


def check_quiet(
    problem: Problem, name: str, peer: Program, ours: Program, own_grid: bool = False
) -> None:
    """A ValueError that says how results differ without noise."""
    expected, got = (program.to_numpy(program.bind(0.0)()) for program in (ours, peer))
    if len(expected) != len(got):
        raise ValueError(f"{name}: returned {len(got)} arrays, expected {len(expected)}")
    for label, mine, theirs in zip(("y", "dX", "dW"), expected, got, strict=False):
        if mine.shape != theirs.shape or theirs.dtype != np.float32:
            raise ValueError(
                f"{name}: {label} is {theirs.dtype}{list(theirs.shape)}, "
                f"expected float32{list(mine.shape)}"
            )
        own = OWN_GRID if own_grid else 0.0
        if label != "y":
            _near(name, label, mine, theirs, own + GRADIENT[problem.workload.grad_precision])
        elif own_grid:
            _near(name, label, mine, theirs, own)
        else:
            _same_codes(problem, name, mine, theirs)


def _same_codes(problem: Problem, name: str, mine: Array, theirs: Array) -> None:
    step = problem.y_full_scale / (2 ** (problem.workload.adc_bits - 1) - 1)
    difference = np.abs(mine - theirs)
    apart = difference > 1e-3 * step
    # One output in a small array is more than its share.
    allowed = max(1, CODES * difference.size)
    if difference.max() > 1.001 * step or apart.sum() > allowed:
        raise ValueError(
            f"{name}: {apart.sum()} of {difference.size} outputs differ by up to "
            f"{difference.max() / step:.3g} steps of the ADC, expected {allowed:.0f} by one at most"
        )


def _near(name: str, label: str, mine: Array, theirs: Array, tolerance: float) -> None:
    difference = float(np.linalg.norm(mine - theirs) / np.linalg.norm(mine))
    if not difference <= tolerance:
        raise ValueError(
            f"{name}: {label} differs by {difference:.3g} of its norm, expected {tolerance:g}"
        )


def _noise(problem: Problem, name: str, program: Program, *, additive: bool) -> None:
    workload = problem.workload
    y = quantized(problem.x, problem.x_full_scale, workload.dac_bits) @ quantized(
        problem.w, problem.w_full_scale, workload.weight_bits
    )
    noisy = program.to_numpy(program.bind(RELATIVE)())[0]
    # What clips has lost its noise: look at values that stay clear of the full scale.
    inside = np.abs(y) < 0.6 * problem.y_full_scale
    variance = (RELATIVE * (problem.rms if additive else y)) ** 2 * np.ones_like(y)
    variance += (problem.y_full_scale / (2 ** (workload.adc_bits - 1) - 1)) ** 2 / 12
    count = int(inside.sum())
    if count < 100:
        return
    # Over all values, not of each: of small ones most of the difference may be that of a grid.
    got = float(np.sqrt(np.mean((noisy - y)[inside] ** 2) / np.mean(variance[inside])))
    # Four standard errors; the kurtosis of y·ε is 9, where y is normal.
    allowed = DEVIATION + 4 * np.sqrt((9 - 1) / 4 / count)
    if not abs(got - 1) <= allowed:
        raise ValueError(
            f"{name}: the noise is {got:.3g} times what is expected, within {allowed:.2g}"
        )
