"""The signal chain in PyTorch under torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from .._peers import Program
from .._problem import Problem
from ._torch import gradient_program, tensors, to_numpy


def forward(problem: Problem) -> Program:
    """The output."""
    x, w, _ = tensors(problem)
    chain = _chain(problem)

    def bind(level: float) -> Callable[[], Any]:
        relative = torch.tensor(level)

        def run() -> Any:
            with torch.no_grad():
                return (chain(x, w, relative),)

        return run

    return Program(bind, to_numpy)


def step(problem: Problem) -> Program:
    """The output and the gradients of x and w."""
    program = gradient_program(problem, _chain(problem))
    # A tensor: a number would be compiled into the program, and compile anew at another level.
    return program._replace(bind=lambda level: program.bind(torch.tensor(level)))


def _converter(bits: int, full_scale: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """A straight-through quantizer of operations that the compiler can fuse."""
    if not bits:
        return lambda v: v
    scale = torch.as_tensor(full_scale, dtype=torch.float32)
    s = scale / float(2 ** (bits - 1) - 1)

    def quantize(v: torch.Tensor) -> torch.Tensor:
        clipped = torch.minimum(torch.maximum(v, -scale), scale)
        inside = torch.where(v.abs() <= scale, v, clipped.detach())
        return inside + (torch.round(clipped / s) * s - inside).detach()

    return quantize


def _chain(problem: Problem) -> Callable[..., torch.Tensor]:
    workload = problem.workload
    x_dac = _converter(workload.dac_bits, problem.x_full_scale)
    w_dac = _converter(workload.weight_bits, problem.w_full_scale)
    adc = _converter(workload.adc_bits, problem.y_full_scale)

    # The compiler gives up on a function that it has met in eight forms, and this is one function.
    torch.compiler.reset()

    def chain(x: torch.Tensor, w: torch.Tensor, relative: torch.Tensor) -> torch.Tensor:
        y = torch.mm(x_dac(x), w_dac(w))
        return adc(y * (1 + relative * torch.randn_like(y)))

    return torch.compile(chain, dynamic=False)
