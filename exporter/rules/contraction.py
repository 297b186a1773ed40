"""Matrix products."""

from __future__ import annotations

from .._dim import Shape
from .._graph import Value
from .._lower import Context
from .._ops import Fact, gives
from ._precision import check_precision
from ._registry import rule


@rule("dot_general")
def _dot_general(ctx: Context) -> list[Value]:
    lhs = ctx.require(0, "f32", "i32", "c64")
    ctx.require(1, lhs.dtype.name)
    ctx.require_result(lhs.dtype.name)
    check_precision(ctx.params["precision"])
    (lhs_contracting, rhs_contracting), (lhs_batch, rhs_batch) = ctx.params["dimension_numbers"]
    return ctx.node(
        lhs_contracting=tuple(lhs_contracting),
        rhs_contracting=tuple(rhs_contracting),
        lhs_batch=tuple(lhs_batch),
        rhs_batch=tuple(rhs_batch),
    )


@gives("dot_general")
def _product(
    lhs: Value,
    rhs: Value,
    *,
    lhs_contracting: tuple[int, ...],
    rhs_contracting: tuple[int, ...],
    lhs_batch: tuple[int, ...],
    rhs_batch: tuple[int, ...],
) -> Fact:
    batch = [lhs.shape[axis] for axis in lhs_batch]
    left = _others(lhs.shape, {*lhs_contracting, *lhs_batch})
    right = _others(rhs.shape, {*rhs_contracting, *rhs_batch})
    return lhs.dtype, Shape((*batch, *left, *right))


def _others(shape: Shape, axes: set[int]) -> Shape:
    return Shape(dim for axis, dim in enumerate(shape) if axis not in axes)
