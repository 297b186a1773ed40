"""A convolution as products of matrices: geometry, patches, and operands of the product of a group.

Row `(n · OH + oh) · OW + ow` of the patches holds what the kernel meets at place (oh, ow) of
image n, in the order (kh, kw, c):

    patch[kh, kw, c] = x[n, oh·stride + kh·dilation, ow·stride + kw·dilation, c]

with x between zeros and, dilated itself, with zeros between its elements. They go through the DAC
as any other number. Group g of the outputs is what `optical_matmul` gives of the channels of the
group and of its columns of the kernel.

The range of x that is left to the op is the largest finite magnitude in any patch: elements that no
patch has do not count.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .._signal_chain import DeviceAttrs
from . import _chain, _tiles, quantize
from ._op import Factors
from ._partition import Axes
from ._signature import Derived, Signature, Tensor, tensor

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ConvAttrs(DeviceAttrs):
    """Attributes that every op of a convolution has; pairs are height and width."""

    window_strides: tuple[int, ...]
    padding: tuple[int, ...]
    """Zeros above, below, left and right."""
    input_dilation: tuple[int, ...]
    kernel_dilation: tuple[int, ...]
    feature_group_count: int

    @property
    def of_product(self) -> dict[str, Any]:
        """The attributes of the product of one group, by name."""
        device = {field.name: getattr(self, field.name) for field in fields(DeviceAttrs)}
        return {**device, "transpose_weight": False}


class Operands(NamedTuple, Generic[T]):
    """Operands of the forward ops."""

    x: T
    """f32[m, h, w, c]"""
    kernel: T
    """f32[kh, kw, c / feature_group_count, n]"""
    bias: T
    """f32[1 or n]"""
    x_full_scale: T
    """f32[0, 1 or m]; none is the largest finite |x| of the patches, which the op finds."""
    w_full_scale: T
    """f32[0, 1 or n]; none is the largest finite |w| of each column."""
    y_full_scale: T
    """f32[1 or n]"""
    noise: T
    """f32[1 or m, 4]: thermal, shot, relative, weight."""
    seed: T
    """u32[1 or m, 2]"""
    rows: T
    """u32[m]: id of the first place of each image; those of the others follow it."""
    columns: T
    """u32[n]: ids of the columns."""


def operand_types(attrs: ConvAttrs, *, draws: bool) -> Operands[Tensor]:
    """Types of the operands; an op that draws no random numbers does not look at the ids."""
    by_row = _chain.operand_types(_chain.ChainAttrs(**attrs.of_product), draws=draws)
    types = {name: getattr(by_row, name) for name in Operands._fields if name != "kernel"}
    types["x"] = tensor("f32", "m", "h", "w", "c")
    return Operands(kernel=tensor("f32", "kh", "kw", "i", "n"), **types)


def signature(
    attrs: ConvAttrs,
    operands: Any,
    results: Sequence[Tensor],
    follows: Mapping[int, frozenset[str]] | None = None,
) -> Signature:
    """That of an op of those types; "oh" and "ow" are the extents of the output."""
    groups = attrs.feature_group_count

    def of_group(channels: Any) -> Any:
        is_cut = isinstance(channels, int) and channels % groups != 0
        return -1 if is_cut else channels // groups

    of_arrays = {}
    if any("t" in tensor.dims for tensor in (*operands, *results)):
        count = _tiles.derived(attrs)["t"].extent
        of_arrays["t"] = Derived(("kh", "kw", "i"), lambda kh, kw, i: count(kh * kw * i))
    down, across = (functools.partial(places, attrs, axis) for axis in (0, 1))
    return Signature(
        operands,
        tuple(results),
        # A group has channels and columns of its own.
        whole=frozenset("n") if groups > 1 else frozenset(),
        follows=follows or {},
        derived={
            "i": Derived(("c",), of_group),
            "oh": Derived(("h", "kh"), down),
            "ow": Derived(("w", "kw"), across),
            **of_arrays,
        },
    )


def places(attrs: ConvAttrs, axis: int, extent: Any, taps: Any) -> Any:
    """Places of a kernel of `taps` along an axis of `extent`; -1 where it does not fit."""
    before, after = attrs.padding[2 * axis : 2 * axis + 2]
    padded = _dilated(extent, attrs.input_dilation[axis]) + (before + after)
    rest = padded - _dilated(taps, attrs.kernel_dilation[axis])
    if isinstance(rest, int) and rest < 0:
        return -1
    return rest // attrs.window_strides[axis] + 1


def _dilated(count: Any, dilation: int) -> Any:
    return (count - 1) * dilation + 1 if dilation > 1 else count


def padded(attrs: ConvAttrs, x: jax.Array) -> jax.Array:
    """x between zeros and with zeros between its elements, f32[m, h', w', c]."""
    pads = attrs.padding
    by_axis = zip(pads[::2], pads[1::2], attrs.input_dilation, strict=True)
    config = [(before, after, dilation - 1) for before, after, dilation in by_axis]
    return jax.lax.pad(x, np.float32(0), [(0, 0, 0), *config, (0, 0, 0)])


def patches(attrs: ConvAttrs, x: jax.Array, kernel: Sequence[Any]) -> jax.Array:
    """f32[m, oh, ow, kh, kw, c] of x and a kernel of that shape."""
    taken = padded(attrs, x)
    for axis in (0, 1):
        # Axes that are done have become two, of which the taps come second.
        taken = _windows(attrs, axis, taken, x.shape[1 + axis], kernel[axis], 1 + 2 * axis)
    return jnp.transpose(taken, (0, 1, 3, 2, 4, 5))


def _windows(
    attrs: ConvAttrs, axis: int, padded: jax.Array, extent: Any, taps: Any, at: int
) -> jax.Array:
    """`padded` with its axis `at` as two: places, and what the taps of the kernel meet there."""
    count = places(attrs, axis, extent, taps)
    first = jax.lax.iota(np.int32, count) * np.int32(attrs.window_strides[axis])
    offset = jax.lax.iota(np.int32, taps) * np.int32(attrs.kernel_dilation[axis])
    index = first[:, None] + offset[None, :]
    return jnp.take(padded, index, axis=at, mode="clip")


def products(
    attrs: ConvAttrs, operands: Operands[jax.Array], *, draws: bool
) -> list[_chain.Operands[jax.Array]]:
    """The operands of the product of each group: patches as rows, and by row what is by image."""
    x, kernel = operands.x, operands.kernel
    groups, (tall, wide, depth, columns) = attrs.feature_group_count, kernel.shape
    of_patches = patches(attrs, x, kernel.shape)
    images, height, width = of_patches.shape[:3]
    positions, rows = height * width, images * height * width

    def by_row(value: jax.Array) -> jax.Array:
        """One for all as it is, else that of its image for every place."""
        if isinstance(value.shape[0], int) and value.shape[0] in (0, 1):
            return value
        rest = value.shape[1:]
        spread = jnp.broadcast_to(value[:, None], (images, positions, *rest))
        return spread.reshape(rows, *rest)

    ids = operands.rows
    if draws:
        ids = (ids[:, None] + jax.lax.iota(np.uint32, positions)[None, :]).reshape(rows)
    shared = {
        "x_full_scale": by_row(operands.x_full_scale),
        "noise": by_row(operands.noise),
        "seed": by_row(operands.seed),
        "rows": ids,
    }
    size = columns // groups
    by_column = ("bias", "w_full_scale", "y_full_scale", "columns")

    def of_group(group: int) -> _chain.Operands[jax.Array]:
        range_ = slice(group * size, (group + 1) * size)
        own = {name: getattr(operands, name) for name in by_column}
        own = {name: v[range_] if v.shape[0] == columns else v for name, v in own.items()}
        x = of_patches[..., group * depth : (group + 1) * depth]
        w = kernel[..., range_].reshape(tall * wide * depth, size)
        return _chain.Operands(x=x.reshape(rows, tall * wide * depth), w=w, **own, **shared)

    return [of_group(group) for group in range(groups)]


def images_of(attrs: ConvAttrs, operands: Any, of_groups: Sequence[jax.Array]) -> jax.Array:
    """What the products of all groups give, f32[rows, columns] each, as f32[m, oh, ow, n]."""
    x, kernel = operands.x, operands.kernel
    extents = [places(attrs, axis, x.shape[1 + axis], kernel.shape[axis]) for axis in (0, 1)]
    values = jnp.concatenate(of_groups, axis=-1)
    return values.reshape(x.shape[0], *extents, *values.shape[1:])


def found_in_rows(attrs: ConvAttrs, operands: Operands[jax.Array]) -> dict[str, jax.Array]:
    """The full scale of x, if it is left to the op: one for all groups."""
    if operands.x_full_scale.shape[0] != 0:
        return {}
    peaks = x_peak(attrs, operands)
    return {"x_full_scale": jnp.max(peaks, initial=np.float32(0)).reshape(1)}


def with_found_x_range(attrs: ConvAttrs, operands: Operands[jax.Array]) -> Operands[jax.Array]:
    """The operands with the full scale of x given."""
    return operands._replace(**found_in_rows(attrs, operands))


def x_peak(attrs: ConvAttrs, operands: Operands[jax.Array]) -> jax.Array:
    """The largest finite |x| in the patches of each image, f32[m]; 0 where there is none."""
    images, *extents, channels = operands.x.shape
    lines, columns = (
        met(attrs, axis, extents[axis], operands.kernel.shape[axis]) for axis in (0, 1)
    )
    is_met = (lines[:, None] & columns[None, :])[None, :, :, None]
    x = jnp.where(is_met, operands.x, np.float32(0))
    return quantize.absmax(x.reshape(images, math.prod(extents) * channels), axis=1)


def met(attrs: ConvAttrs, axis: int, extent: Any, taps: Any) -> jax.Array:
    """Which elements along an axis are in a patch, bool[extent]."""
    count = places(attrs, axis, extent, taps)
    at = jax.lax.iota(np.int32, extent) * np.int32(attrs.input_dilation[axis])
    tap = jax.lax.iota(np.int32, taps) * np.int32(attrs.kernel_dilation[axis])
    first = at[:, None] + np.int32(attrs.padding[2 * axis]) - tap[None, :]
    stride = np.int32(attrs.window_strides[axis])
    last = jnp.asarray(count - 1, np.int32) * stride
    return jnp.any((first >= 0) & (first <= last) & (first % stride == 0), axis=1)


def with_full_scales_of_shards(
    axes: Axes, attrs: ConvAttrs, operands: Operands[jax.Array]
) -> Operands[jax.Array]:
    """The operands of a shard with the full scale given that it cannot find alone."""
    found = found_in_rows(attrs, operands) if "m" in axes else {}
    return operands._replace(**{name: jax.lax.pmax(v, axes["m"]) for name, v in found.items()})


def factors(attrs: ConvAttrs, operands: Operands[jax.Array]) -> tuple[Factors, ...]:
    """The product of the patches with the kernel, of each group."""
    of_groups = products(attrs, operands, draws=False)
    if len(of_groups) == 1:
        return (Factors(of_groups[0].x, of_groups[0].w),)
    x, w = (jnp.stack([getattr(o, name) for o in of_groups]) for name in ("x", "w"))
    return (Factors(x, w),)
