"""Primitives that cut arrays, and that read and write them where indices say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from .._dim import Dim, Shape
from .._errors import Unsupported
from .._graph import DType, Value
from .._lower import Context
from .._ops import Fact, gives
from .._program import Constant, Operand
from .._types import dim, shape
from . import _gather
from ._registry import rule

# As in `layout`, the last axis of an array of keys is none of theirs.

_INDICES = ("i32", "u32", "i64")
_MODES = jax.lax.GatherScatterMode


@rule("slice")
def _slice(ctx: Context) -> list[Value]:
    start = shape(ctx.params["start_indices"])
    limit = shape(ctx.params["limit_indices"])
    strides = tuple(int(stride) for stride in ctx.params["strides"] or (1,) * len(start))
    if ctx.is_key():
        start, limit, strides = start.appended(0), limit.appended(2), (*strides, 1)
    return ctx.node(start_indices=start, limit_indices=limit, strides=strides)


@gives("slice")
def _sliced(
    x: Value,
    start_indices: Sequence[int | Dim],
    limit_indices: Sequence[int | Dim],
    strides: tuple[int, ...],
) -> Fact:
    bounds = zip(start_indices, limit_indices, strides, strict=True)
    return x.dtype, Shape((Dim.of(b) - a + (step - 1)) // step for a, b, step in bounds)


@rule("dynamic_slice")
def _dynamic_slice(ctx: Context) -> list[Value]:
    """A slice, where every start index is a constant (JAX clamps it so that the slice fits)."""
    operand, *indices = ctx.inputs
    sizes = shape(ctx.params["slice_sizes"])
    starts = _fixed_starts(operand, sizes, indices)
    if ctx.is_key():
        sizes = sizes.appended(2)
    if starts is None:
        inputs = _with_starts(ctx, [operand], indices)
        return ctx.node("dynamic_slice", inputs, slice_sizes=sizes)
    if ctx.is_key():
        starts = (*starts, 0)
    limit = Shape(a + b for a, b in zip(sizes, Shape.of(starts), strict=True))
    return ctx.node(
        "slice",
        [operand],
        start_indices=Shape.of(starts),
        limit_indices=limit,
        strides=(1,) * len(sizes),
    )


@gives("dynamic_slice")
def _part(x: Value, *starts: Value, slice_sizes: Sequence[int | Dim]) -> Fact:
    if len(starts) != len(x.shape):
        raise ValueError(f"expected a start for each axis of {x}, got {len(starts)}")
    return x.dtype, Shape.of(slice_sizes)


@rule("dynamic_update_slice")
def _dynamic_update_slice(ctx: Context) -> list[Value]:
    operand, update, *indices = ctx.inputs
    return ctx.node(inputs=_with_starts(ctx, [operand, update], indices))


@gives("dynamic_update_slice")
def _updated(x: Value, update: Value, *starts: Value) -> Fact:
    if len(starts) != len(x.shape):
        raise ValueError(f"expected a start for each axis of {x}, got {len(starts)}")
    return x.dtype, x.shape


def _fixed_starts(
    operand: Operand, sizes: Sequence[Dim], indices: Sequence[Operand]
) -> tuple[int, ...] | None:
    """Where the slice starts, where that is known for every size of the batch."""
    starts = []
    for extent, size, index in zip(operand.shape, sizes, indices, strict=True):
        if not isinstance(index, Constant):
            return None
        start = index.array().reshape(1).astype(np.int64)
        last = (dim(extent) - size).constant()
        if last is None and start.any():
            return None
        starts.append(int(start[0]) if last is None else min(max(int(start[0]), 0), last))
    return tuple(starts)


def _with_starts(
    ctx: Context, arrays: Sequence[Operand], indices: Sequence[Operand]
) -> list[Operand | Value]:
    starts: list[Operand | Value] = [_index(ctx, index) for index in indices]
    if ctx.is_key():
        starts.append(ctx.value(Constant(np.int32(0))))
    return [*arrays, *starts]


def _index(ctx: Context, operand: Operand) -> Value:
    """Indices in a type that the ops take."""
    value = ctx.value(operand)
    if value.dtype.name in _INDICES:
        return value
    return ctx.node("convert_element_type", [value], new_dtype="i32")[0]


@rule("gather")
def _indexed(ctx: Context) -> list[Value]:
    """Slices, which move nothing, where the indices are a few stretches of an axis."""
    indices = ctx.inputs[1]
    if isinstance(indices, Constant):
        try:
            return _gather.gather(ctx)
        except _gather.Scattered:
            pass
    sizes = shape(ctx.params["slice_sizes"])
    axes = _axes(ctx)
    operand = ctx.value(ctx.inputs[0])
    if ctx.is_key():
        sizes = sizes.appended(2)
        axes["offset_dims"] = (*axes["offset_dims"], len(ctx.outputs[0].shape))
    fill = ctx.value(Constant(_fill(ctx, operand.dtype)))
    return ctx.node(
        "gather",
        [operand, _index(ctx, indices), fill],
        slice_sizes=sizes,
        mode=_mode(ctx),
        **axes,
    )


@gives("gather")
def _gathered(
    x: Value,
    indices: Value,
    fill: Value,
    *,
    slice_sizes: Sequence[int | Dim],
    mode: str,
    offset_dims: tuple[int, ...],
    collapsed_slice_dims: tuple[int, ...],
    operand_batching_dims: tuple[int, ...],
    start_indices_batching_dims: tuple[int, ...],
    start_index_map: tuple[int, ...],
) -> Fact:
    dropped = {*collapsed_slice_dims, *operand_batching_dims}
    windows = [size for axis, size in enumerate(Shape.of(slice_sizes)) if axis not in dropped]
    if fill.dtype != x.dtype or len(windows) != len(offset_dims):
        raise ValueError(f"`fill` is {fill}, windows have the axes {offset_dims}")
    lines = list(indices.shape[:-1])
    rank = len(lines) + len(windows)
    left, rest = iter(windows), iter(lines)
    return x.dtype, Shape(next(left if axis in offset_dims else rest) for axis in range(rank))


_COMBINE = {
    "scatter": "set",
    **{f"scatter-{combine}": combine for combine in ("add", "max", "min", "mul", "sub")},
}


@rule(*_COMBINE)
def _scatter(ctx: Context) -> list[Value]:
    numbers = ctx.params["dimension_numbers"]
    operand, updates = ctx.value(ctx.inputs[0]), ctx.value(ctx.inputs[2])
    offsets = tuple(numbers.update_window_dims)
    if ctx.is_key():
        offsets = (*offsets, len(updates.shape) - 1)
    return ctx.node(
        "scatter",
        [operand, _index(ctx, ctx.inputs[1]), updates],
        combine=_COMBINE[ctx.primitive],
        mode=_mode(ctx),
        offset_dims=offsets,
        collapsed_slice_dims=tuple(numbers.inserted_window_dims),
        operand_batching_dims=tuple(numbers.operand_batching_dims),
        start_indices_batching_dims=tuple(numbers.scatter_indices_batching_dims),
        start_index_map=tuple(numbers.scatter_dims_to_operand_dims),
    )


@gives("scatter")
def _scattered(
    x: Value,
    indices: Value,
    updates: Value,
    *,
    combine: str,
    mode: str,
    offset_dims: tuple[int, ...],
    collapsed_slice_dims: tuple[int, ...],
    operand_batching_dims: tuple[int, ...],
    start_indices_batching_dims: tuple[int, ...],
    start_index_map: tuple[int, ...],
) -> Fact:
    return x.dtype, x.shape


def _axes(ctx: Context) -> dict[str, Any]:
    numbers = ctx.params["dimension_numbers"]
    names = (
        "offset_dims",
        "collapsed_slice_dims",
        "operand_batching_dims",
        "start_indices_batching_dims",
        "start_index_map",
    )
    return {name: tuple(int(axis) for axis in getattr(numbers, name)) for name in names}


def _mode(ctx: Context) -> str:
    """What happens outside of the operand; what is promised to be inside may be clipped."""
    mode = _MODES.from_any(ctx.params["mode"])
    if mode == _MODES.ONE_HOT:
        raise Unsupported("its `mode` is `one_hot`, expected `fill` or `clip`")
    return "fill_or_drop" if mode == _MODES.FILL_OR_DROP else "clip"


def _fill(ctx: Context, dtype: DType) -> np.ndarray:
    """What JAX reads outside of an array."""
    given = ctx.params.get("fill_value")
    kind = dtype.numpy.kind
    if given is not None:
        return np.asarray(given, dtype.numpy)
    if kind in "ub":
        return np.asarray(True if kind == "b" else np.iinfo(dtype.numpy).max, dtype.numpy)
    if kind == "i":
        return np.asarray(np.iinfo(dtype.numpy).min, dtype.numpy)
    return np.asarray(np.nan, dtype.numpy)


@rule("unstack")
def _unstack(ctx: Context) -> list[Value]:
    """unstack = one line along the axis for each result, without that axis."""
    axis = int(ctx.params["axis"])
    operand = ctx.value(ctx.inputs[0])
    lines = [_gather.line(ctx, operand, axis, i, 1, 1) for i in range(len(ctx.outputs))]
    return [ctx.node("squeeze", [line], dimensions=(axis,))[0] for line in lines]
