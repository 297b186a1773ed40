"""Primitives that reduce or accumulate along axes."""

from __future__ import annotations

from .._graph import DType, Value
from .._lower import Context
from .._types import fact
from ._registry import rule

_REAL = (DType.F32, DType.I32, DType.U32, DType.I8)


@rule("reduce_sum", "reduce_prod")
def _reduce(ctx: Context) -> list[Value]:
    ctx.require(0, *_REAL)
    return ctx.node(axes=ctx.ints("axes"))


@rule("reduce_max", "reduce_min")
def _extremum(ctx: Context) -> list[Value]:
    ctx.require(0, *_REAL, DType.BOOL)
    return ctx.node(axes=ctx.ints("axes"))


@rule("reduce_and", "reduce_or")
def _logical(ctx: Context) -> list[Value]:
    ctx.require(0, DType.BOOL)
    return ctx.node(axes=ctx.ints("axes"))


@rule("argmax", "argmin")
def _arg(ctx: Context) -> list[Value]:
    ctx.require(0, *_REAL)
    dtype, _ = fact((), ctx.params["index_dtype"])
    return ctx.node(axes=ctx.ints("axes"), index_dtype=dtype.value)


@rule("cumsum")
def _cumsum(ctx: Context) -> list[Value]:
    ctx.require(0, DType.F32, DType.I32)
    return ctx.node(axis=int(ctx.params["axis"]), reverse=bool(ctx.params["reverse"]))
