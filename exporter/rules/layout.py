"""Primitives that make, move and join arrays without computing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .._dim import Dim, Shape
from .._graph import DType, Value
from .._lower import Context
from .._ops import Fact, gives
from .._program import Operand
from .._types import fact, shape
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


@gives("broadcast_in_dim")
def _broadcast(x: Value, shape: Sequence[int | Dim], broadcast_dimensions: tuple[int, ...]) -> Fact:
    return x.dtype, Shape.of(shape)


@rule("reshape")
def _reshape(ctx: Context) -> list[Value]:
    operands: Sequence[Operand | Value] = ctx.inputs[:1]
    if ctx.params["dimensions"] is not None:
        # The order in which the elements are read.
        permutation = ctx.ints("dimensions")
        if ctx.is_key():
            permutation += (len(permutation),)
        operands = ctx.node("transpose", operands, permutation=permutation)
    _, extents = fact(ctx.outputs[0].shape, ctx.outputs[0].dtype)
    return ctx.node(inputs=operands, new_sizes=extents)


@gives("reshape")
def _reshaped(x: Value, new_sizes: Sequence[int | Dim]) -> Fact:
    return x.dtype, Shape.of(new_sizes)


@gives("copy")
def _copied(x: Value) -> Fact:
    return x.dtype, x.shape


@rule("squeeze")
def _squeeze(ctx: Context) -> list[Value]:
    return ctx.node(dimensions=ctx.ints("dimensions"))


@gives("squeeze")
def _squeezed(x: Value, dimensions: tuple[int, ...]) -> Fact:
    return x.dtype, Shape(dim for axis, dim in enumerate(x.shape) if axis not in dimensions)


@rule("transpose")
def _transpose(ctx: Context) -> list[Value]:
    permutation = ctx.ints("permutation")
    if ctx.is_key():
        permutation += (len(permutation),)
    return ctx.node(permutation=permutation)


@gives("transpose")
def _transposed(x: Value, permutation: tuple[int, ...]) -> Fact:
    return x.dtype, Shape(x.shape[axis] for axis in permutation)


@rule("rev")
def _rev(ctx: Context) -> list[Value]:
    return ctx.node(dimensions=ctx.ints("dimensions"))


@gives("rev")
def _reversed(x: Value, dimensions: tuple[int, ...]) -> Fact:
    return x.dtype, x.shape


@rule("concatenate")
def _concatenate(ctx: Context) -> list[Value]:
    return ctx.node(dimension=int(ctx.params["dimension"]))


@gives("concatenate")
def _joined(*parts: Value, dimension: int) -> Fact:
    # A part may come many times, and its extent may be long.
    times = Counter(part.id for part in parts)
    extents = {part.id: part.shape[dimension] for part in parts}
    length = Dim.sum(extents[id_] * count for id_, count in times.items())
    return parts[0].dtype, parts[0].shape.with_axis(dimension, length)


@rule("stack")
def _stack(ctx: Context) -> list[Value]:
    """stack = concatenate of the operands with a new axis of extent 1."""
    axis = int(ctx.params["axis"])
    _, extents = fact(ctx.outputs[0].shape, ctx.outputs[0].dtype)
    one = extents.with_axis(axis, 1)
    parts = [ctx.node("reshape", [operand], new_sizes=one)[0] for operand in ctx.inputs]
    return ctx.node("concatenate", parts, dimension=axis)


@rule("tile")
def _tile(ctx: Context) -> list[Value]:
    """tile of x[n] by r = reshape of x broadcast to [r, n]."""
    reps = shape(ctx.params["reps"])
    if ctx.is_key():
        reps = reps.appended(1)
    operand = ctx.value(ctx.inputs[0])
    _, extents = fact(ctx.outputs[0].shape, ctx.outputs[0].dtype)
    pairs = Shape(d for pair in zip(reps, operand.shape, strict=True) for d in pair)
    wide = ctx.node(
        "broadcast_in_dim",
        [operand],
        shape=pairs,
        broadcast_dimensions=tuple(range(1, len(pairs), 2)),
    )
    return ctx.node("reshape", wide, new_sizes=extents)


@rule("split")
def _split(ctx: Context) -> list[Value]:
    return ctx.node(axis=int(ctx.params["axis"]), sizes=shape(ctx.params["sizes"]))


@gives("split")
def _parts(x: Value, axis: int, sizes: Sequence[int | Dim]) -> list[Fact]:
    return [(x.dtype, x.shape.with_axis(axis, size)) for size in sizes]


@rule("pad")
def _pad(ctx: Context) -> list[Value]:
    low, high, interior = zip(*ctx.params["padding_config"], strict=True)
    return ctx.node(low=shape(low), high=shape(high), interior=shape(interior))


@gives("pad")
def _padded(
    x: Value,
    value: Value,
    low: Sequence[int | Dim],
    high: Sequence[int | Dim],
    interior: Sequence[int | Dim],
) -> Fact:
    padding = zip(x.shape, low, high, interior, strict=True)
    return x.dtype, Shape(_dilated(dim, gap) + a + b for dim, a, b, gap in padding)


def _dilated(dim: Dim, gap: int | Dim) -> Dim:
    return dim if dim.constant() == 0 else dim + (dim - 1) * gap


@rule("iota")
def _iota(ctx: Context) -> list[Value]:
    dtype, extents = fact(ctx.outputs[0].shape, ctx.outputs[0].dtype)
    return ctx.node(
        inputs=(), dtype=dtype.name, shape=extents, dimension=int(ctx.params["dimension"])
    )


@gives("iota")
def _counted(dtype: str, shape: Sequence[int | Dim], dimension: int) -> Fact:
    return DType.named(dtype), Shape.of(shape)


@rule("dim_as_value")
def _dim_as_value(ctx: Context) -> list[Value]:
    """The extent of a symbolic dimension as a number, i32[]."""
    ctx.require_result("i32")
    return ctx.node(inputs=(), dim=shape((ctx.params["dim"],)))


@gives("dim_as_value")
def _extent(dim: Sequence[int | Dim]) -> Fact:
    return DType.named("i32"), Shape()
