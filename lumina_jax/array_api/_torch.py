"""The ops on tensors of PyTorch, with the gradients of JAX."""

# Where PyTorch is not installed, a type checker takes the module `torch` beside this one for it.
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
import torch
from torch.autograd.function import once_differentiable

from ._host import Call, Kind, Operation, dynamic, given_by, lent_to, prepare, results_of
from ._interchange import TORCH

F = TypeVar("F", bound=Callable[..., Any])


def uncompiled(function: F) -> F:
    """The function, before which the graphs of `torch.compile` end: it cannot see into kernels."""
    disabled: Any = torch.compiler.disable
    return disabled(function)


@uncompiled
def on_torch(operation: Operation, arguments: Mapping[str, Any]) -> Any:
    """The results for tensors; those that require a gradient get it."""
    memory = lent_to(TORCH, operation, arguments)
    call = prepare(operation, memory)
    if call is not None and torch.is_grad_enabled():
        leaves = jax.tree.leaves(dynamic(operation, arguments))
        inputs = [leaves[place] for place in call.places]
        wanted = tuple(
            index
            for index, value in enumerate(inputs)
            if isinstance(value, torch.Tensor) and value.requires_grad
        )
        if wanted:
            return _Differentiable.apply(call, wanted, *inputs)
    return given_by(TORCH, results_of(operation, memory, call))


class _Differentiable(torch.autograd.Function):
    """A call, and the gradient of JAX by the `wanted` of its inputs.

    In PyTorch the gradient of a complex number is the conjugate of what it is in JAX.
    """

    @staticmethod
    def forward(ctx: Any, call: Call, wanted: tuple[int, ...], *inputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride], its arguments are free
        derivative = call.kind.derivative(wanted)
        results = derivative.forward(*call.arrays)
        count = len(derivative.keeps) - len(inputs)
        outputs = [TORCH.give(array) for array in results[:count]]
        # What the gradient looks at is left to PyTorch, which sees where it is changed meanwhile.
        ctx.save_for_backward(
            *(
                value if keep and isinstance(value, torch.Tensor) else None
                for value, keep in zip((*inputs, *outputs), derivative.keeps, strict=True)
            )
        )
        ctx.numbers = [
            _NONE if isinstance(value, torch.Tensor) else array
            for value, array in zip(inputs, call.arrays, strict=True)
        ] + [_NONE] * count
        ctx.saved = results[count:]
        ctx.kind, ctx.wanted = call.kind, wanted
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs[0] if derivative.is_single else tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        kind: Kind = ctx.kind
        op, types = kind.operation.name, kind.types

        def memory(tensor: torch.Tensor, dtype: Any = None) -> np.ndarray[Any, Any]:
            return np.asarray(TORCH.lend(op, "its gradient", tensor), dtype)

        dtypes = [*(t.dtype for t in types), *[None] * (len(ctx.numbers) - len(types))]
        seen = [
            number if tensor is None else memory(tensor, dtype)
            for tensor, number, dtype in zip(ctx.saved_tensors, ctx.numbers, dtypes, strict=True)
        ]
        g = memory(gradients[0].conj())
        found = kind.derivative(ctx.wanted).backward(*seen, *ctx.saved, g)
        by_input: list[Any] = [None] * len(types)
        for index, gradient in zip(ctx.wanted, found, strict=True):
            by_input[index] = TORCH.give(np.conj(gradient) if _is_complex(gradient) else gradient)
        return None, None, *by_input


_NONE = np.empty(0, np.float32)
"""In place of what the gradient does not look at."""


def _is_complex(array: np.ndarray[Any, Any]) -> bool:
    return array.dtype.kind == "c"
