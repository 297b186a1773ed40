"""Primitives that make, move, cut and join arrays without computing."""

from __future__ import annotations

import jax

from .._dim import Dim, Shape
from .._errors import Unsupported
from .._graph import DType, Value
from .._lower import Context, dim, fact, shape
from .._program import Constant
from ._registry import rule

# Arrays of typed PRNG keys have one more axis in the graph, the last, of extent 2; rules for the
# layout of keys leave that axis alone.


@rule("broadcast_in_dim")
def _broadcast_in_dim(ctx: Context) -> list[Value]:
    dims = ctx.ints("broadcast_dimensions")
    _, extents = fact(ctx.outputs[0].shape, ctx.outputs[0].dtype)
    if ctx.is_key():
        dims += (len(extents) - 1,)
    return ctx.node(inputs=ctx.inputs[:1], shape=extents, broadcast_dimensions=dims)


@rule("reshape")
def _reshape(ctx: Context) -> list[Value]:
    if ctx.params["dimensions"] is not None:
        raise Unsupported("transpose the array first, then reshape it in row-major order")
    _, extents = fact(ctx.outputs[0].shape, ctx.outputs[0].dtype)
    return ctx.node(inputs=ctx.inputs[:1], new_sizes=extents)


@rule("squeeze")
def _squeeze(ctx: Context) -> list[Value]:
    return ctx.node(dimensions=ctx.ints("dimensions"))


@rule("transpose")
def _transpose(ctx: Context) -> list[Value]:
    permutation = ctx.ints("permutation")
    if ctx.is_key():
        permutation += (len(permutation),)
    return ctx.node(permutation=permutation)


@rule("rev")
def _rev(ctx: Context) -> list[Value]:
    return ctx.node(dimensions=ctx.ints("dimensions"))


@rule("concatenate")
def _concatenate(ctx: Context) -> list[Value]:
    return ctx.node(dimension=int(ctx.params["dimension"]))


@rule("stack")
def _stack(ctx: Context) -> list[Value]:
    """stack = concatenate of the operands with a new axis of extent 1."""
    axis = int(ctx.params["axis"])
    dtype, extents = fact(ctx.outputs[0].shape, ctx.outputs[0].dtype)
    one = Shape.of((*extents[:axis], 1, *extents[axis + 1 :]))
    parts = [
        ctx.node("reshape", [operand], [(dtype, one)], new_sizes=one)[0] for operand in ctx.inputs
    ]
    return ctx.node("concatenate", parts, dimension=axis)


@rule("tile")
def _tile(ctx: Context) -> list[Value]:
    """tile of x[n] by r = reshape of x broadcast to [r, n]."""
    reps = [dim(rep) for rep in ctx.params["reps"]]
    operand = ctx.value(ctx.inputs[0])
    dtype, extents = fact(ctx.outputs[0].shape, ctx.outputs[0].dtype)
    pairs = Shape(d for pair in zip(reps, operand.shape, strict=True) for d in pair)
    wide = ctx.node(
        "broadcast_in_dim",
        [operand],
        [(dtype, pairs)],
        shape=pairs,
        broadcast_dimensions=tuple(range(1, len(pairs), 2)),
    )
    return ctx.node("reshape", wide, new_sizes=extents)


@rule("split")
def _split(ctx: Context) -> list[Value]:
    return ctx.node(axis=int(ctx.params["axis"]), sizes=shape(ctx.params["sizes"]))


@rule("slice")
def _slice(ctx: Context) -> list[Value]:
    start = shape(ctx.params["start_indices"])
    limit = shape(ctx.params["limit_indices"])
    strides = tuple(int(stride) for stride in ctx.params["strides"] or (1,) * len(start))
    if ctx.is_key():
        start, limit, strides = _append(start, 0), _append(limit, 2), (*strides, 1)
    return ctx.node(start_indices=start, limit_indices=limit, strides=strides)


@rule("dynamic_slice")
def _dynamic_slice(ctx: Context) -> list[Value]:
    """A slice, where every start index is a constant (JAX clamps it so that the slice fits)."""
    operand = ctx.inputs[0]
    starts = []
    for index in ctx.inputs[1:]:
        if not isinstance(index, Constant):
            raise Unsupported("its start index depends on an argument; slice at fixed indices")
        starts.append(int(index.data))
    return _cut(ctx, operand.shape, starts, ctx.params["slice_sizes"])


@rule("gather")
def _gather(ctx: Context) -> list[Value]:
    """A slice, where the gather takes one window at constant indices: x[:, 1:3], x[:, 2]."""
    operand, indices = ctx.inputs
    numbers = ctx.params["dimension_numbers"]
    if not isinstance(indices, Constant) or indices.data.size != len(numbers.start_index_map):
        raise Unsupported("indexing with an array; index with fixed integers and slices")
    starts = [0] * len(operand.shape)
    for axis, index in zip(numbers.start_index_map, indices.data.reshape(-1), strict=True):
        starts[axis] = int(index)
    if ctx.params["mode"] == jax.lax.GatherScatterMode.FILL_OR_DROP:
        _require_inside(operand.shape, starts, ctx.params["slice_sizes"])
    cut = _cut(ctx, operand.shape, starts, ctx.params["slice_sizes"])
    _, extents = fact(ctx.outputs[0].shape, ctx.outputs[0].dtype)
    return cut if cut[0].shape == extents else ctx.node("reshape", cut, new_sizes=extents)


def _cut(ctx: Context, extents: tuple, starts: list[int], sizes: tuple) -> list[Value]:
    start = []
    for extent, first, size in zip(shape(extents), starts, shape(sizes), strict=True):
        last = (extent - size).constant()
        if last is None and first != 0:
            raise Unsupported("a fixed index into a symbolic extent could lie outside of it")
        start.append(first if last is None else min(max(first, 0), last))
    begin, limit = Shape.of(start), Shape(a + b for a, b in zip(shape(sizes), start, strict=True))
    dtype, _ = fact((), ctx.outputs[0].dtype)
    words = sizes
    if ctx.is_key():
        begin, limit, words = _append(begin, 0), _append(limit, 2), (*sizes, 2)
    return ctx.node(
        "slice",
        [ctx.inputs[0]],
        [(dtype, shape(words))],
        start_indices=begin,
        limit_indices=limit,
        strides=(1,) * len(begin),
    )


def _require_inside(extents: tuple, starts: list[int], sizes: tuple) -> None:
    for extent, first, size in zip(shape(extents), starts, shape(sizes), strict=True):
        last = (extent - size).constant()
        if first < 0 or (last is not None and first > last):
            raise Unsupported(f"the index {first} lies outside of the extent {extent}")


def _append(extents: Shape, last: int) -> Shape:
    return Shape((*extents, Dim.of(last)))


@rule("pad")
def _pad(ctx: Context) -> list[Value]:
    low, high, interior = zip(*ctx.params["padding_config"], strict=True)
    return ctx.node(low=shape(low), high=shape(high), interior=shape(interior))


@rule("iota")
def _iota(ctx: Context) -> list[Value]:
    dtype, extents = fact(ctx.outputs[0].shape, ctx.outputs[0].dtype)
    return ctx.node(
        inputs=(), dtype=dtype.value, shape=extents, dimension=int(ctx.params["dimension"])
    )


@rule("dim_as_value")
def _dim_as_value(ctx: Context) -> list[Value]:
    """The extent of a symbolic dimension as a number, i32[]."""
    ctx.require_result(DType.I32)
    return ctx.node(inputs=(), dim=shape((ctx.params["dim"],)))
