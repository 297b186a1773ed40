"""Primitives that reduce or accumulate along axes."""

from __future__ import annotations

from .._dim import Shape
from .._errors import Unsupported
from .._graph import DType, Value
from .._lower import Context
from .._ops import Fact, gives
from .._types import fact
from ._registry import rule

_REAL = ("f32", "i32", "u32", "i8")


@rule("reduce_sum", "reduce_prod")
def _reduce(ctx: Context) -> list[Value]:
    ctx.require(0, *_REAL)
    return ctx.node(axes=ctx.ints("axes"))


@rule("reduce_max", "reduce_min")
def _extremum(ctx: Context) -> list[Value]:
    ctx.require(0, *_REAL, "bool")
    return ctx.node(axes=ctx.ints("axes"))


@rule("reduce_and", "reduce_or")
def _logical(ctx: Context) -> list[Value]:
    operand = ctx.value(ctx.inputs[0])
    if operand.dtype.name != "bool":
        raise Unsupported(
            f"operand 0 is {operand.dtype}, expected bool; combine the lines of jnp.unstack with "
            "& or |"
        )
    return ctx.node(axes=ctx.ints("axes"))


@gives("reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum")
def _reduced(x: Value, axes: tuple[int, ...]) -> Fact:
    return x.dtype, Shape(dim for axis, dim in enumerate(x.shape) if axis not in axes)


@rule("argmax", "argmin")
def _arg(ctx: Context) -> list[Value]:
    ctx.require(0, *_REAL)
    dtype, _ = fact((), ctx.params["index_dtype"])
    if dtype.name not in ("i32", "u32"):
        raise Unsupported(
            f"its `index_dtype` is {dtype}, expected i32 or u32; cast it after this line"
        )
    return ctx.node(axes=ctx.ints("axes"), index_dtype=dtype.name)


@gives("argmax", "argmin")
def _index(x: Value, axes: tuple[int, ...], index_dtype: str) -> Fact:
    return DType.named(index_dtype), _reduced(x, axes)[1]


@rule("cumsum")
def _cumsum(ctx: Context) -> list[Value]:
    ctx.require(0, "f32", "i32")
    return ctx.node(axis=int(ctx.params["axis"]), reverse=bool(ctx.params["reverse"]))


@gives("cumsum")
def _sums(x: Value, axis: int, reverse: bool) -> Fact:
    return x.dtype, x.shape
