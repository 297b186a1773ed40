"""The signal chain in PyTorch, eager, with autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from .._peers import Program
from .._problem import Operands, Problem


class Quantize(torch.autograd.Function):
    """A straight-through quantizer.

    torch.fake_quantize_per_tensor_affine and its channel form compute the same, and took two to
    four times as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor, full_scale: torch.Tensor, largest: float) -> Any:
        """`clamp(rint(v / s), -Q, Q) · s`."""
        s = full_scale / largest
        value = (v / s).round_().clamp_(-largest, largest).mul_(s)
        if ctx.needs_input_grad[1]:
            ctx.save_for_backward(v.abs() <= full_scale, v, value, full_scale)
        elif ctx.needs_input_grad[0]:
            ctx.save_for_backward(v.abs() <= full_scale)
        return value

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        """Zero where the forward pass clipped; the learned step size where it is asked for."""
        inside, *saved = ctx.saved_tensors
        by_v = g[0] * inside if ctx.needs_input_grad[0] else None
        if not saved:
            return by_v, None, None
        v, value, full_scale = saved
        # Beyond the full scale, the value over it is the sign of v.
        by_full_scale = (g[0] * (value - v * inside)).sum() / full_scale
        return by_v, by_full_scale, None


def forward(problem: Problem) -> Program:
    """The output."""
    return forward_program(problem, _chain(problem))


def step(problem: Problem) -> Program:
    """The output and the gradients of x and w."""
    return gradient_program(problem, _chain(problem))


def normals(rows: int, columns: int) -> Program:
    """Standard normal numbers, f32[rows, columns]."""
    return Program(lambda _: lambda: (torch.randn(rows, columns),), to_numpy)


def forward_program(
    problem: Operands, chain: Callable[[torch.Tensor, torch.Tensor, Any], torch.Tensor]
) -> Program:
    """y without autograd."""
    x, w, _ = tensors(problem)

    def bind(level: float) -> Callable[[], Any]:
        def run() -> Any:
            with torch.no_grad():
                return (chain(x, w, level),)

        return run

    return Program(bind, to_numpy)


def gradient_program(
    problem: Operands, chain: Callable[[torch.Tensor, torch.Tensor, Any], torch.Tensor]
) -> Program:
    """y, dX and dW by autograd."""
    x, w, g = tensors(problem)
    x.requires_grad_()
    w.requires_grad_()

    def bind(level: float) -> Callable[[], Any]:
        def run() -> Any:
            y = chain(x, w, level)
            return y, *torch.autograd.grad(y, (x, w), g)

        return run

    return Program(bind, to_numpy)


def tensors(problem: Operands) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, w and g."""
    x, w, g = (torch.from_numpy(v.copy()) for v in (problem.x, problem.w, problem.g))
    return x, w, g


def to_numpy(result: Any) -> tuple[np.ndarray, ...]:
    """The tensors of a result."""
    return tuple(tensor.detach().numpy() for tensor in result)


def converter(bits: int, full_scale: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """A straight-through quantizer, and the identity for 0 bits."""
    if not bits:
        return lambda v: v
    scale = torch.as_tensor(full_scale, dtype=torch.float32)
    return lambda v: cast(Any, Quantize.apply(v, scale, float(2 ** (bits - 1) - 1)))


def noisy(y: torch.Tensor, level: float) -> torch.Tensor:
    """`y + level·|y|·ε`; as ε is symmetric, y·ε has the law of |y|·ε."""
    # 1 + level·ε in one pass over memory.
    return y * torch.normal(1.0, level, y.shape)


def _chain(problem: Problem) -> Callable[..., torch.Tensor]:
    workload = problem.workload
    x_dac = converter(workload.dac_bits, problem.x_full_scale)
    w_dac = converter(workload.weight_bits, problem.w_full_scale)
    adc = converter(workload.adc_bits, problem.y_full_scale)

    def chain(x: torch.Tensor, w: torch.Tensor, level: float) -> torch.Tensor:
        y = torch.mm(x_dac(x), w_dac(w))
        return adc(noisy(y, level))

    return chain
