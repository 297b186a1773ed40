"""Matrix products."""

from __future__ import annotations

from .._graph import DType, Value
from .._lower import Context
from ._registry import rule


@rule("dot_general")
def _dot_general(ctx: Context) -> list[Value]:
    lhs = ctx.require(0, DType.F32, DType.I32, DType.C64)
    ctx.require(1, lhs.dtype)
    ctx.require_result(lhs.dtype)
    (lhs_contracting, rhs_contracting), (lhs_batch, rhs_batch) = ctx.params["dimension_numbers"]
    return ctx.node(
        lhs_contracting=tuple(lhs_contracting),
        rhs_contracting=tuple(rhs_contracting),
        lhs_batch=tuple(lhs_batch),
        rhs_batch=tuple(rhs_batch),
    )
