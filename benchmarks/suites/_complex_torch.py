"""The complex products in PyTorch, eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from .._peers import Program
from ._complex_problem import Problem


def product(problem: Problem) -> Program:
    """The plain product."""
    x, w = torch.from_numpy(problem.x), torch.from_numpy(problem.w)

    def run() -> Any:
        with torch.no_grad():
            return x @ w

    return Program(lambda _: run, _to_numpy)


def optical(problem: Problem) -> Program:
    """Converters and noise."""
    x, w = torch.from_numpy(problem.x), torch.from_numpy(problem.w)

    def bind(level: Any) -> Callable[[], Any]:
        def run() -> Any:
            with torch.no_grad():
                y = _converted(x, problem.x_full_scale) @ _converted(w, problem.w_full_scale)
                sigma = y.abs().mul_(level * 0.5**0.5)
                noise = torch.complex(
                    torch.randn(y.shape).mul_(sigma), torch.randn(y.shape).mul_(sigma)
                )
                return _converted(y.add_(noise), problem.y_full_scale)

        return run

    return Program(bind, _to_numpy)


def _converted(z: Any, full_scale: float) -> Any:
    step = full_scale / 127
    # Both parts at once.
    parts = torch.view_as_real(z).div(step).round_().clamp_(-127, 127).mul_(step)
    return torch.view_as_complex(parts)


def _to_numpy(result: Any) -> tuple[np.ndarray, ...]:
    return (result.numpy(),)
