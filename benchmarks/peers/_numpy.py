"""The signal chain in NumPy, its gradient written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .._peers import Program
from .._problem import Array, Problem, quantized


def forward(problem: Problem) -> Program:
    """The output."""
    rng = np.random.default_rng(0)
    return Program(lambda level: lambda: _forward(problem, level, rng)[:1], tuple)


def step(problem: Problem) -> Program:
    """The output and the gradients of x and w."""
    rng = np.random.default_rng(0)

    def bind(level: float) -> Callable[[], Any]:
        return lambda: _step(problem, level, rng)

    return Program(bind, tuple)


def normals(rows: int, columns: int) -> Program:
    """Standard normal numbers, f32[rows, columns]."""
    rng = np.random.default_rng(0)
    return Program(lambda _: lambda: (rng.standard_normal((rows, columns), np.float32),), tuple)


def _forward(
    problem: Problem, level: float, rng: np.random.Generator
) -> tuple[Array, Array, Array, Array, Array]:
    workload = problem.workload
    x_q = quantized(problem.x, problem.x_full_scale, workload.dac_bits)
    w_q = quantized(problem.w, problem.w_full_scale, workload.weight_bits)
    y = x_q @ w_q
    gain = rng.standard_normal(y.shape, np.float32)
    gain *= np.float32(level)
    gain += np.float32(1)
    y *= gain
    return quantized(y, problem.y_full_scale, workload.adc_bits), y, gain, x_q, w_q


def _step(problem: Problem, level: float, rng: np.random.Generator) -> tuple[Any, ...]:
    out, y, gain, x_q, w_q = _forward(problem, level, rng)
    workload = problem.workload
    g = problem.g * gain
    if workload.adc_bits:
        g *= np.abs(y) <= np.float32(problem.y_full_scale)
    dx, dw = g @ w_q.T, x_q.T @ g
    if workload.dac_bits:
        dx *= np.abs(problem.x) <= np.float32(problem.x_full_scale)
    if workload.weight_bits:
        dw *= np.abs(problem.w) <= problem.w_full_scale
    return out, dx, dw
