"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from .._dim import Dim, Shape
from .._graph import Value
from .._lower import Context
from .._ops import Fact, gives
from . import _window
from ._precision import check_precision
from ._registry import rule


@rule("conv_general_dilated")
def _convolution(ctx: Context) -> list[Value]:
    lhs = ctx.require(0, "f32", "i32", "u32", "c64")
    ctx.require(1, lhs.dtype.name)
    ctx.require_result(lhs.dtype.name)
    check_precision(ctx.params["precision"])
    numbers = ctx.params["dimension_numbers"]
    return ctx.node(
        ctx.primitive,
        ctx.inputs,
        **_window.geometry(ctx, "lhs_dilation", "rhs_dilation"),
        lhs_spec=tuple(numbers.lhs_spec),
        rhs_spec=tuple(numbers.rhs_spec),
        out_spec=tuple(numbers.out_spec),
        feature_group_count=int(ctx.params["feature_group_count"]),
        batch_group_count=int(ctx.params["batch_group_count"]),
    )


@gives("conv_general_dilated")
def _convolved(
    lhs: Value,
    rhs: Value,
    *,
    window_strides: tuple[int, ...],
    low: Sequence[int | Dim],
    high: Sequence[int | Dim],
    lhs_dilation: tuple[int, ...],
    rhs_dilation: tuple[int, ...],
    lhs_spec: tuple[int, ...],
    rhs_spec: tuple[int, ...],
    out_spec: tuple[int, ...],
    feature_group_count: int,
    batch_group_count: int,
) -> Fact:
    images, _, *extents = (lhs.shape[axis] for axis in lhs_spec)
    outputs, _, *taps = (rhs.shape[axis] for axis in rhs_spec)
    places = _window.places(extents, taps, window_strides, low, high, lhs_dilation, rhs_dilation)
    found = (images // batch_group_count, outputs, *places)
    dims = dict(zip(out_spec, found, strict=True))
    return lhs.dtype, Shape(dims[axis] for axis in range(len(found)))
