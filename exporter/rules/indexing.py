"""Primitives that cut arrays: slices, and indexing with what is known while exporting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._dim import Dim, Shape
from .._errors import Unsupported
from .._graph import Value
from .._lower import Context
from .._ops import Fact, gives
from .._program import Constant
from .._types import dim, shape
from ._gather import fit, gather, line
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
            raise Unsupported(
                "its start index depends on an argument or on the batch size; multiply "
                "jax.nn.one_hot(i, n) by the array, or slice at fixed indices, the last row by "
                "jnp.flip(x, 0)[0]"
            )
        start = index.array().reshape(1).astype(int)
        fit(start, dim(extent) - dim(size), fill=False)
        starts.append(int(start[0]))
    return _cut(ctx, starts, sizes)


@rule("gather")
def _gather(ctx: Context) -> list[Value]:
    """Indexing with fixed integers, x[:, ::2, 1:3]: slices of one axis after the other."""
    return gather(ctx)


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
    lines = [line(ctx, operand, axis, i, 1, 1) for i in range(len(ctx.outputs))]
    return [ctx.node("squeeze", [line], dimensions=(axis,))[0] for line in lines]
