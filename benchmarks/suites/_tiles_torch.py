"""Arrays of limited inputs in eager PyTorch: a loop over tiles."""

from __future__ import annotations

from collections.abc import Callable

import torch  # pyright: ignore[reportMissingImports]

from .._peers import Program
from ..peers._torch import converter, forward_program, gradient_program, noisy
from ._tiles_problem import Tiled


def forward(problem: Tiled) -> Program:
    """The output."""
    return forward_program(problem, _chain(problem))


def step(problem: Tiled) -> Program:
    """The output and the gradients of x and w."""
    return gradient_program(problem, _chain(problem))


def _chain(problem: Tiled) -> Callable[..., torch.Tensor]:
    workload = problem.workload
    x_dac = converter(workload.dac_bits, problem.x_full_scale)
    w_dac = converter(workload.weight_bits, problem.w_full_scale)
    adc = converter(workload.adc_bits, problem.y_full_scale)

    def chain(x: torch.Tensor, w: torch.Tensor, level: float) -> torch.Tensor:
        x, w = x_dac(x), w_dac(w)
        out = torch.zeros(())
        for tile in problem.tiles:
            y = torch.mm(x[:, tile], w[tile])
            out = out + adc(noisy(y, level) if problem.noisy else y)
        return out

    return chain
