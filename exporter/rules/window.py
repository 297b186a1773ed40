"""Reductions of windows: pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lumina_jax._jaxpr import binary_operation

from .._dim import Dim
from .._errors import Unsupported
from .._graph import DType, Value
from .._lower import Context
from .._ops import Fact, gives
from .._program import Constant
from . import _window
from ._operations import BY_OPERATION
from ._registry import rule

_INTEGERS = ("i32", "u32", "i8")
_REAL = ("f32", *_INTEGERS)
_TYPES = {
    "reduce_window_sum": _REAL,
    "reduce_window_prod": _REAL,
    "reduce_window_max": (*_REAL, "bool"),
    "reduce_window_min": (*_REAL, "bool"),
    "reduce_window_and": (*_INTEGERS, "bool"),
    "reduce_window_or": (*_INTEGERS, "bool"),
}


@rule("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def _reduce_window(ctx: Context) -> list[Value]:
    operand = ctx.require(0, *_TYPES[ctx.primitive])
    return _windows(ctx, ctx.primitive, operand)


@rule("reduce_window")
def _reduce_window_of_a_function(ctx: Context) -> list[Value]:
    """The initial value comes once into each window; there is none in padding."""
    body = binary_operation(ctx.params["jaxpr"])
    op = f"reduce_window_{BY_OPERATION.get(body or '')}"
    count = len(ctx.inputs) // 2
    if body is None or op not in _TYPES or count != 1:
        what = f"{count} arrays at once" if count != 1 else body or "a function"
        raise Unsupported(
            f"its windows are reduced by {what}, expected add, mul, max, min, and, or of one "
            "array; combine slices of the padded array instead"
        )
    operand, initial = ctx.require(0, *_TYPES[op]), ctx.inputs[1]
    reduced = _windows(ctx, op, operand)
    if isinstance(initial, Constant) and initial.array() == _identity(op, operand.dtype):
        return reduced
    return ctx.node(body, [*reduced, initial])


def _windows(ctx: Context, op: str, operand: Value) -> list[Value]:
    return ctx.node(
        op,
        [operand],
        window_dimensions=ctx.ints("window_dimensions"),
        **_window.geometry(ctx, "base_dilation", "window_dilation"),
    )


def _identity(op: str, dtype: DType) -> Any:
    """The number that the reduction of any number with it is."""
    of = dtype.numpy
    match op:
        case "reduce_window_sum" | "reduce_window_or":
            return np.zeros((), of)
        case "reduce_window_prod":
            return np.ones((), of)
        case "reduce_window_and":
            return np.invert(np.zeros((), of))
    if of.kind == "b":
        return np.asarray(op == "reduce_window_min")
    if of.kind == "f":
        return np.asarray(np.inf if op == "reduce_window_min" else -np.inf, of)
    bounds = np.iinfo(of)
    return np.asarray(bounds.max if op == "reduce_window_min" else bounds.min, of)


@gives(*_TYPES)
def _reduced(
    x: Value,
    window_dimensions: tuple[int, ...],
    window_strides: tuple[int, ...],
    low: Sequence[int | Dim],
    high: Sequence[int | Dim],
    base_dilation: tuple[int, ...],
    window_dilation: tuple[int, ...],
) -> Fact:
    return x.dtype, _window.places(
        x.shape, window_dimensions, window_strides, low, high, base_dilation, window_dilation
    )
