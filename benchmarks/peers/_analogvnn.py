"""AnalogVNN: its layers for clamp, precision and noise around torch.mm. The noise is additive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from analogvnn.nn.noise.GaussianNoise import GaussianNoise  # pyright: ignore[reportMissingImports]
from analogvnn.nn.normalize.Clamp import Clamp  # pyright: ignore[reportMissingImports]
from analogvnn.nn.precision.ReducePrecision import ReducePrecision  # pyright: ignore[reportMissingImports]

from .._peers import Program
from .._problem import Problem
from ._torch import gradient_program, tensors, to_numpy

_SMALLEST_NOISE = 1e-12
"""In place of none, which its noise layer does not take."""


def forward(problem: Problem) -> Program:
    """The output."""
    x, w, _ = tensors(problem)
    chain = _chain(problem)

    def bind(level: float) -> Callable[[], Any]:
        noise = _noise(problem, level)

        def run() -> Any:
            with torch.no_grad():
                return (chain(x, w, noise),)

        return run

    return Program(bind, to_numpy)


def step(problem: Problem) -> Program:
    """The output and the gradients of x and w."""
    program = gradient_program(problem, _chain(problem))
    return program._replace(bind=lambda level: program.bind(_noise(problem, level)))


def _noise(problem: Problem, level: float) -> Any:
    """In units of the full scale of the ADC."""
    std = max(level * problem.rms / problem.y_full_scale, _SMALLEST_NOISE)
    return _differentiable(GaussianNoise(std=std, precision=2))


def _chain(problem: Problem) -> Callable[..., Any]:
    workload = problem.workload
    x_dac = _converter(workload.dac_bits, problem.x_full_scale)
    w_dac = _converter(workload.weight_bits, problem.w_full_scale)
    clamp, precision = _differentiable(Clamp()), _precision(workload.adc_bits)
    y_full_scale = problem.y_full_scale

    def chain(x: torch.Tensor, w: torch.Tensor, noise: Any) -> torch.Tensor:
        y = torch.mm(x_dac(x), w_dac(w)) / y_full_scale
        return precision(clamp(noise(y))) * y_full_scale

    return chain


def _converter(bits: int, full_scale: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    if not bits:
        return lambda v: v
    scale = torch.as_tensor(full_scale, dtype=torch.float32)
    clamp, precision = _differentiable(Clamp()), _precision(bits)
    return lambda v: precision(clamp(v / scale)) * scale


def _precision(bits: int) -> Any:
    return _differentiable(ReducePrecision(precision=2 ** (bits - 1) - 1))


def _differentiable(layer: Any) -> Any:
    """The layer with its own gradient, which is straight through."""
    layer.use_autograd_graph = True
    return layer
