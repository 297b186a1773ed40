"""Causal attention by the fused function of PyTorch, eager, on its own order of axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from .._peers import Program


def forward(q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray) -> Program:
    """The outputs."""
    del g
    operands = [_of_heads(operand) for operand in (q, k, v)]

    def run() -> Any:
        with torch.no_grad():
            return (_attention(*operands),)

    return Program(lambda _: run, _to_numpy)


def step(q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray) -> Program:
    """The outputs, and the gradients of q, k and v."""
    operands = [_of_heads(operand).requires_grad_() for operand in (q, k, v)]
    upstream = _of_heads(g)

    def run() -> Any:
        out = _attention(*operands)
        return (out, *torch.autograd.grad(out, operands, upstream))

    return Program(lambda _: run, _to_numpy)


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def _of_heads(operand: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(operand.swapaxes(1, 2)))


def _to_numpy(results: Any) -> tuple[np.ndarray, ...]:
    return tuple(result.detach().numpy().swapaxes(1, 2) for result in results)
