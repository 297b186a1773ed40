"""`gather` with indices that are known while exporting, as slices of one axis after the other.

    out[b, o] = x[start(b) + o]

`start` has a column of indices for each axis in `start_index_map`; b runs over the leading axes of
the indices, its lines, and o over a window. Columns that are the same for every b move the window:
that is one slice. Axes whose columns vary along a common line, as in x[[0, 1], [2, 3]], are joined
to one axis with one column of linear indices. Then each column has lines of its own and is applied
to its axis alone: what it names is sliced out and joined, and the axis becomes those lines and the
window. A line along which nothing varies repeats the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jax
import numpy as np

from .._dim import Dim, Shape
from .._graph import Value
from .._lower import Context
from .._program import Constant
from .._types import dim

# More slices than these cost more than the op `gather`.
_MOST_STRETCHES = 8


class Scattered(Exception):  # noqa: N818, no error
    """The indices are no few slices."""


@dataclass(frozen=True)
class _Line:
    """An axis of the result that is leading axis `number` of the indices."""

    number: int


@dataclass(frozen=True)
class _Axis:
    """An axis of the operand, or what is left of it."""

    number: int


@dataclass
class _Part:
    """Axes of the operand that are indexed together, and the lines that their indices vary along.

    `columns` are their indices, each of the shape of all lines.
    """

    axes: list[int]
    lines: set[int]
    columns: list[np.ndarray]


def gather(ctx: Context) -> list[Value]:
    """The result of the `gather` of `ctx`."""
    indices = ctx.inputs[1]
    assert isinstance(indices, Constant)
    numbers = ctx.params["dimension_numbers"]
    x = ctx.value(ctx.inputs[0])
    sizes = [dim(size) for size in ctx.params["slice_sizes"]]
    sizes += x.shape[len(sizes) :]  # the words of keys
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    columns, lines = _columns(ctx, indices.array())
    parts = _parts(columns)
    x = _cut(ctx, x, sizes, columns, parts)
    order = _together(len(x.shape), parts)
    labels: list[_Axis | _Line] = [_Axis(axis) for axis in order]
    x = _transposed(ctx, x, order)
    for part in parts:
        x, labels = _indexed(ctx, x, labels, part, sizes, lines, gone)
    dropped = tuple(labels.index(_Axis(axis)) for axis in sorted(gone) if _Axis(axis) in labels)
    if dropped:
        (x,) = ctx.node("squeeze", [x], dimensions=dropped)
        labels = [label for i, label in enumerate(labels) if i not in dropped]
    return [_arranged(ctx, x, labels, lines)]


def _fit(indices: np.ndarray, last: Dim, fill: bool) -> None:
    """Clamps `indices` to 0..=last as JAX does; Scattered where JAX would fill, or may."""
    limit = last.constant()
    if limit is None and indices.any():
        raise Scattered
    if limit is not None:
        if fill and ((indices < 0) | (indices > limit)).any():
            raise Scattered
        np.clip(indices, 0, limit, out=indices)


def line(ctx: Context, x: Value, axis: int, first: int, count: int = 1, step: int = 1) -> Value:
    """`count` lines along `axis` from `first` on, each `step` after the one before."""
    rank = len(x.shape)
    if (first, count, step) == (0, x.shape[axis].constant(), 1):
        return x
    return ctx.node(
        "slice",
        [x],
        start_indices=tuple(first if i == axis else 0 for i in range(rank)),
        limit_indices=x.shape.with_axis(axis, first + (count - 1) * step + 1),
        strides=tuple(step if i == axis else 1 for i in range(rank)),
    )[0]


def _columns(ctx: Context, indices: np.ndarray) -> tuple[dict[int, np.ndarray], tuple[int, ...]]:
    """The indices of each axis of the operand, as JAX takes them, and the extents of the lines."""
    numbers = ctx.params["dimension_numbers"]
    fill = ctx.params["mode"] == jax.lax.GatherScatterMode.FILL_OR_DROP
    lines = indices.shape[:-1]
    columns = {}
    for number, axis in enumerate(numbers.start_index_map):
        column = indices[..., number].astype(np.int64)
        _fit(column, dim(ctx.inputs[0].shape[axis]) - dim(ctx.params["slice_sizes"][axis]), fill)
        columns[axis] = column
    batching = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    for axis, number in batching:
        columns[axis] = np.indices(lines)[number]
    return columns, lines


def _parts(columns: dict[int, np.ndarray]) -> list[_Part]:
    """Axes whose indices vary, those that vary along a common line together."""
    parts: list[_Part] = []
    for axis in sorted(columns):
        column = columns[axis]
        own = _Part([axis], {i for i in range(column.ndim) if _varies(column, i)}, [column])
        if not own.lines:
            continue
        apart = []
        for part in parts:
            if part.lines & own.lines:
                own = _Part(
                    part.axes + own.axes, part.lines | own.lines, part.columns + own.columns
                )
            else:
                apart.append(part)
        parts = [*apart, own]
    return parts


def _varies(column: np.ndarray, line: int) -> bool:
    return bool(column.size) and bool((column != column.take([0], line)).any())


def _cut(
    ctx: Context,
    x: Value,
    sizes: Sequence[Dim],
    columns: dict[int, np.ndarray],
    parts: Sequence[_Part],
) -> Value:
    """`x` cut to the window along axes where that does not move."""
    moving = {axis for part in parts for axis in part.axes}
    begin, limit = [0] * len(x.shape), list(x.shape)
    for axis, size in enumerate(sizes):
        if axis not in moving:
            column = columns.get(axis)
            begin[axis] = int(column.flat[0]) if column is not None and column.size else 0
            limit[axis] = size + begin[axis]
    if (Shape.of(begin), Shape(limit)) == (Shape.of([0] * len(x.shape)), x.shape):
        return x
    strides = (1,) * len(x.shape)
    return ctx.node(
        "slice", [x], start_indices=Shape.of(begin), limit_indices=Shape(limit), strides=strides
    )[0]


def _together(rank: int, parts: Sequence[_Part]) -> list[int]:
    """The axes in order, but that those of a part follow its first one."""
    part_of = {axis: part for part in parts for axis in part.axes}
    order: list[int] = []
    for axis in range(rank):
        if axis not in order:
            order += part_of[axis].axes if axis in part_of else [axis]
    return order


def _indexed(
    ctx: Context,
    x: Value,
    labels: list[_Axis | _Line],
    part: _Part,
    sizes: Sequence[Dim],
    lines: tuple[int, ...],
    gone: set[int],
) -> tuple[Value, list[_Axis | _Line]]:
    """`x` with the axes of `part` replaced by its lines and, where they do not go, windows."""
    at = labels.index(_Axis(part.axes[0]))
    end = at + len(part.axes)
    extents = Shape(x.shape[at:end]).constant()
    windows = Shape(sizes[axis] for axis in part.axes).constant()
    if extents is None or windows is None:
        raise Scattered
    own = sorted(part.lines)
    offsets = np.indices(windows).reshape(len(windows), -1)
    linear: Any = 0
    for column, offset, extent in zip(part.columns, offsets, extents, strict=True):
        # Along lines that are not its own a column is constant.
        once = column[tuple(slice(None) if i in part.lines else 0 for i in range(len(lines)))]
        linear = linear * extent + once.reshape(-1, 1) + offset
    x = _reshaped(ctx, x, [*x.shape[:at], math.prod(extents), *x.shape[end:]])
    x = _lines(ctx, x, at, linear.reshape(-1))
    inner = {_Line(i): lines[i] for i in own}
    inner |= {_Axis(a): n for a, n in zip(part.axes, windows, strict=True) if a not in gone}
    x = _reshaped(ctx, x, [*x.shape[:at], *inner.values(), *x.shape[at + 1 :]])
    return x, [*labels[:at], *inner, *labels[end:]]


def _lines(ctx: Context, x: Value, axis: int, indices: np.ndarray) -> Value:
    """The lines of `x` along `axis` with these indices, which are not empty."""
    parts = []
    stretches = list(islice(_stretches(indices.tolist()), _MOST_STRETCHES + 1))
    if len(stretches) > _MOST_STRETCHES:
        raise Scattered
    for first, count, step in stretches:
        if step < 0:
            last = first + (count - 1) * step
            backward = line(ctx, x, axis, last, count, -step)
            parts += ctx.node("rev", [backward], dimensions=(axis,))
        else:
            parts.append(line(ctx, x, axis, first, count, step))
    return parts[0] if len(parts) == 1 else ctx.node("concatenate", parts, dimension=axis)[0]


def _stretches(indices: list[int]) -> Iterator[tuple[int, int, int]]:
    """First index, count and step of stretches of equal steps; an index that repeats is alone."""
    at = 0
    while at < len(indices):
        count, step = 1, 1
        if at + 1 < len(indices) and indices[at + 1] != indices[at]:
            step = indices[at + 1] - indices[at]
            while at + count < len(indices) and indices[at + count] == indices[at] + count * step:
                count += 1
        yield indices[at], count, step
        at += count


def _arranged(ctx: Context, x: Value, labels: list[_Axis | _Line], lines: tuple[int, ...]) -> Value:
    """`x`, whose axes have `labels`, in the order of the result, and repeated along other lines."""
    windows = sorted(label.number for label in labels if isinstance(label, _Axis))
    # The words of keys are a window that JAX does not know, the last axis.
    places = len(lines) + len(windows)
    offsets = {
        *ctx.params["dimension_numbers"].offset_dims,
        *range(len(ctx.outputs[0].shape), places),
    }
    left, numbers = iter(windows), iter(range(len(lines)))
    order = [_Axis(next(left)) if i in offsets else _Line(next(numbers)) for i in range(places)]
    kept = tuple(i for i, label in enumerate(order) if label in labels)
    x = _transposed(ctx, x, [labels.index(order[i]) for i in kept])
    if len(kept) == places:
        return x
    extents = iter(x.shape)
    full = Shape.of(
        next(extents) if i in kept else lines[label.number] for i, label in enumerate(order)
    )
    return ctx.node("broadcast_in_dim", [x], shape=full, broadcast_dimensions=kept)[0]


def _transposed(ctx: Context, x: Value, order: Sequence[int]) -> Value:
    if list(order) == list(range(len(x.shape))):
        return x
    return ctx.node("transpose", [x], permutation=tuple(order))[0]


def _reshaped(ctx: Context, x: Value, extents: Sequence[int | Dim]) -> Value:
    new_sizes = Shape.of(extents)
    return x if new_sizes == x.shape else ctx.node("reshape", [x], new_sizes=new_sizes)[0]
