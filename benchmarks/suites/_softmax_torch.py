"""The causal softmax in PyTorch, eager, with autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from .._peers import Program


def forward(scores: np.ndarray, g: np.ndarray) -> Program:
    """The probabilities."""
    del g
    operand, mask = torch.from_numpy(scores), _hidden(scores)

    def run() -> Any:
        with torch.no_grad():
            return _softmax(operand, mask)

    return Program(lambda _: run, _to_numpy)


def backward(scores: np.ndarray, g: np.ndarray) -> Program:
    """The gradient of the scores alone, of what the forward pass has saved."""
    operand, upstream = torch.from_numpy(scores).requires_grad_(), torch.from_numpy(g)
    p = _softmax(operand, _hidden(scores))

    def run() -> Any:
        return torch.autograd.grad(p, operand, upstream, retain_graph=True)[0]

    return Program(lambda _: run, _to_numpy)


def _hidden(scores: np.ndarray) -> torch.Tensor:
    """The mask, made once."""
    return torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)


def _softmax(scores: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    scaled = (scores * 0.125).masked_fill_(hidden, -torch.inf)
    return torch.nn.functional.softmax(scaled, dim=-1)


def _to_numpy(result: Any) -> tuple[np.ndarray, ...]:
    return (result.detach().numpy(),)
