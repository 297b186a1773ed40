"""The convolution in PyTorch, eager, with autograd; tensors are channels last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from .._peers import Program
from .._problem import Problem
from ..peers._torch import converter, noisy


def forward(problem: Problem, groups: int) -> Program:
    """The output."""
    x, w, _ = _tensors(problem)
    chain = _chain(problem, groups)

    def bind(level: float) -> Callable[[], Any]:
        def run() -> Any:
            with torch.no_grad():
                return (chain(x, w, level),)

        return run

    return Program(bind, _to_numpy)


def step(problem: Problem, groups: int) -> Program:
    """The output and the gradients of x and of the kernel."""
    x, w, g = _tensors(problem)
    x.requires_grad_()
    w.requires_grad_()
    chain = _chain(problem, groups)

    def bind(level: float) -> Callable[[], Any]:
        def run() -> Any:
            y = chain(x, w, level)
            return y, *torch.autograd.grad(y, (x, w), g)

        return run

    return Program(bind, _to_numpy)


def _tensors(problem: Problem) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, w and g, NCHW and OIHW to PyTorch, in the memory of NHWC."""
    axes = ((problem.x, (0, 3, 1, 2)), (problem.w, (3, 2, 0, 1)), (problem.g, (0, 3, 1, 2)))
    x, w, g = (
        torch.from_numpy(v.copy()).permute(a).contiguous(memory_format=torch.channels_last)
        for v, a in axes
    )
    return x, w, g


def _chain(problem: Problem, groups: int) -> Callable[..., torch.Tensor]:
    workload = problem.workload
    x_dac = converter(workload.dac_bits, problem.x_full_scale)
    w_dac = converter(workload.weight_bits, problem.w_full_scale.reshape(-1, 1, 1, 1))
    adc = converter(workload.adc_bits, problem.y_full_scale)

    def chain(x: torch.Tensor, w: torch.Tensor, level: float) -> torch.Tensor:
        y = torch.nn.functional.conv2d(x_dac(x), w_dac(w), padding="same", groups=groups)
        return adc(noisy(y, level))

    return chain


def _to_numpy(result: Any) -> tuple[np.ndarray, ...]:
    y, *gradients = (tensor.detach() for tensor in result)
    axes = ((0, 2, 3, 1), (2, 3, 1, 0))
    moved = [tensor.permute(a) for tensor, a in zip(gradients, axes, strict=False)]
    return tuple(tensor.numpy() for tensor in (y.permute(axes[0]), *moved))
