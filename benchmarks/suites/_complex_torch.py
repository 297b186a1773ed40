"""The complex products in PyTorch, eager, with autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from .._peers import Program
from ..peers._torch import converter, forward_program, gradient_program, to_numpy
from ._complex_problem import BITS, Problem


def product(problem: Problem) -> Program:
    """The plain product."""
    x, w = torch.from_numpy(problem.x), torch.from_numpy(problem.w)

    def run() -> Any:
        with torch.no_grad():
            return (x @ w,)

    return Program(lambda _: run, to_numpy)


def optical(problem: Problem) -> Program:
    """Converters and noise."""
    return forward_program(problem, _chain(problem))


def step(problem: Problem) -> Program:
    """The same with its gradients."""
    # Gradients of PyTorch are the conjugates of those of JAX.
    program = gradient_program(problem._replace(g=problem.g.conj()), _chain(problem))

    def in_convention_of_jax(result: Any) -> tuple[np.ndarray, ...]:
        y, *gradients = to_numpy(result)
        return y, *(gradient.conj() for gradient in gradients)

    return program._replace(to_numpy=in_convention_of_jax)


def _chain(problem: Problem) -> Callable[..., torch.Tensor]:
    x_dac, w_dac, adc = map(
        _converter, (problem.x_full_scale, problem.w_full_scale, problem.y_full_scale)
    )

    def chain(x: torch.Tensor, w: torch.Tensor, level: float) -> torch.Tensor:
        y = x_dac(x) @ w_dac(w)
        # σ of each part, on both at once.
        sigma = (y.abs() * (level * 0.5**0.5)).unsqueeze(-1)
        parts = torch.view_as_real(y)
        return adc(torch.view_as_complex(torch.addcmul(parts, sigma, torch.randn(parts.shape))))

    return chain


def _converter(full_scale: float) -> Callable[[torch.Tensor], torch.Tensor]:
    of_parts = converter(BITS, full_scale)
    # Both parts at once.
    return lambda z: torch.view_as_complex(of_parts(torch.view_as_real(z)))
