"""Primitives that cut arrays: slices, and indexing with what is known while exporting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from .._dim import Dim, Shape
from .._errors import Unsupported
from .._graph import Value
from .._lower import Context
from .._ops import Fact, gives
from .._program import Constant
from .._types import dim, fact, shape
from ._registry import rule

# As in `layout`, the last axis of an array of keys is none of theirs.


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
    sizes = ctx.params["slice_sizes"]
    starts = []
    for extent, size, index in zip(operand.shape, sizes, indices, strict=True):
        if not isinstance(index, Constant):
            raise Unsupported("its start index depends on an argument; slice at fixed indices")
        start = index.array().reshape(1).astype(int)
        _fit(start, dim(extent) - dim(size), fill=False)
        starts.append(int(start[0]))
    return _cut(ctx, starts, sizes)


@rule("gather")
def _gather(ctx: Context) -> list[Value]:
    """Indexing with fixed integers: one window, x[:, 1:3], or lines of one axis, x[:, ::2]."""
    operand, indices = ctx.inputs
    numbers = ctx.params["dimension_numbers"]
    if not isinstance(indices, Constant) or numbers.operand_batching_dims:
        raise Unsupported("indexing with an array; index with fixed integers and slices")
    starts = indices.data.reshape(-1, len(numbers.start_index_map)).astype(int)
    fill = ctx.params["mode"] == jax.lax.GatherScatterMode.FILL_OR_DROP
    for axis, column in zip(numbers.start_index_map, starts.T, strict=True):
        last = dim(operand.shape[axis]) - dim(ctx.params["slice_sizes"][axis])
        _fit(column, last, fill)
    if len(starts) == 1:
        return _window(ctx, numbers.start_index_map, starts[0])
    lines = [axis for axis in range(len(ctx.outputs[0].shape)) if axis not in numbers.offset_dims]
    if not lines == list(numbers.start_index_map) == list(numbers.collapsed_slice_dims):
        raise Unsupported("indexing of several axes at once; index one axis after the other")
    return _lines(ctx, lines[0], starts[:, 0])


def _fit(indices: np.ndarray, last: Dim, fill: bool) -> None:
    """Clamps `indices` to 0..=last as JAX does; one outside is refused where JAX would fill."""
    limit = last.constant()
    if limit is None and indices.any():
        raise Unsupported("a fixed index into a symbolic extent could lie outside of it")
    if limit is not None:
        outside = indices[(indices < 0) | (indices > limit)]
        if fill and outside.size:
            raise Unsupported(f"the index {outside[0]} lies outside of 0..={limit}")
        np.clip(indices, 0, limit, out=indices)


def _window(ctx: Context, axes: Sequence[int], starts: Sequence[int]) -> list[Value]:
    first = [0] * len(ctx.inputs[0].shape)
    for axis, index in zip(axes, starts, strict=True):
        first[axis] = int(index)
    cut = _cut(ctx, first, ctx.params["slice_sizes"])
    _, extents = fact(ctx.outputs[0].shape, ctx.outputs[0].dtype)
    return cut if cut[0].shape == extents else ctx.node("reshape", cut, new_sizes=extents)


def _lines(ctx: Context, axis: int, indices: np.ndarray) -> list[Value]:
    """Lines along `axis`: one slice for each stretch of equal steps, or of a single line."""
    operand = ctx.value(ctx.inputs[0])
    steps = set(np.diff(indices).tolist())
    if len(steps) > 1 or steps == {0}:
        parts = [_line(ctx, operand, axis, int(i), 1, 1) for i in indices]
        return ctx.node("concatenate", parts, dimension=axis)
    (step,) = steps
    if step > 0:
        return [_line(ctx, operand, axis, int(indices[0]), len(indices), step)]
    backward = _line(ctx, operand, axis, int(indices[-1]), len(indices), -step)
    return ctx.node("rev", [backward], dimensions=(axis,))


def _line(ctx: Context, operand: Value, axis: int, first: int, count: int, step: int) -> Value:
    rank = len(operand.shape)
    return ctx.node(
        "slice",
        [operand],
        start_indices=tuple(first if i == axis else 0 for i in range(rank)),
        limit_indices=operand.shape.with_axis(axis, first + (count - 1) * step + 1),
        strides=tuple(step if i == axis else 1 for i in range(rank)),
    )[0]


def _cut(ctx: Context, starts: Sequence[int], sizes: Sequence[Any]) -> list[Value]:
    begin = Shape.of(starts)
    limit = Shape(a + b for a, b in zip(shape(sizes), begin, strict=True))
    if ctx.is_key():
        begin, limit = begin.appended(0), limit.appended(2)
    strides = (1,) * len(begin)
    return ctx.node(
        "slice", [ctx.inputs[0]], start_indices=begin, limit_indices=limit, strides=strides
    )


@rule("unstack")
def _unstack(ctx: Context) -> list[Value]:
    """unstack = one line along the axis for each result, without that axis."""
    axis = int(ctx.params["axis"])
    operand = ctx.value(ctx.inputs[0])
    lines = [_line(ctx, operand, axis, i, 1, 1) for i in range(len(ctx.outputs))]
    return [ctx.node("squeeze", [line], dimensions=(axis,))[0] for line in lines]
