"""What calibration finds, and the two maps that use it: weights to codes and back."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from .._arguments import instance, numeric, real
from .._floating_point import numpy_defaults


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class QuantizerParams:
    """A calibrated quantizer of weights.

        code = clip(round(w / scale + zero_point), lowest, highest)     round: half to even
        w    = (code - zero_point) · scale

    and with a look-up table, ascending, `code = argmin_i |w - lut[i]|`, `w = lut[code]`.

    A pytree: arrays are leaves, `bits`, `axis`, `codes` and `group` are static.
    """

    scale: jax.Array
    """Distance of two levels, f32[], f32[channels] or f32[channels, groups] (unit of w); 0 where
    all weights are 0, and 1 with a look-up table."""
    zero_point: jax.Array
    """Offset of the codes, shaped as `scale`; a multiple of ½. 0 with a look-up table."""
    lut: jax.Array | None = None
    """The levels, f32[2^bits] or f32[channels, 2^bits]; None for a uniform quantizer."""
    mse: jax.Array
    """Mean squared error on the calibrated weights, f32[] over all channels (unit of w²); infinite
    where f32 does not hold it."""
    bits: int = dataclasses.field(metadata={"static": True})
    """Resolution."""
    axis: int | None = dataclasses.field(default=None, metadata={"static": True})
    """Axis of the channels, from 0; None where all weights share one quantizer."""
    codes: tuple[int, int] = dataclasses.field(metadata={"static": True})
    """Least and largest code, both included."""
    group: int | None = dataclasses.field(default=None, metadata={"static": True})
    """Weights of a channel, along the other axes in order, that share a scale and a zero point;
    the last ones may be fewer. None: all of the channel."""

    def __repr__(self) -> str:
        levels = "a look-up table" if self.lut is not None else f"codes {self.codes}"
        # A placeholder in a tree has no shape.
        count = next(iter(getattr(self.scale, "shape", ())), "some")
        channels = "" if self.axis is None else f", {count} on axis {self.axis}"
        groups = "" if self.group is None else f", groups of {self.group}"
        mse = known("mse", self.mse)
        return f"QuantizerParams({self.bits} bits, {levels}{channels}{groups}{mse})"

    @property
    def full_scale(self) -> jax.Array:
        """Largest level in magnitude, shaped as `scale` (unit of w).

        A signed converter of these bits and this full scale, `lumina_jax.quantize` or the weight
        DAC of `optical_matmul`, has the levels of a quantizer whose zero point is 0.
        """
        if self.lut is not None:
            return jnp.max(jnp.abs(self.lut), axis=-1)
        ends = [np.float32(code) - self.zero_point for code in self.codes]
        return self.scale * jnp.maximum(jnp.abs(ends[0]), jnp.abs(ends[1]))

    @property
    def dtype(self) -> Any:
        """Type of the codes: the narrowest integer that holds them."""
        if self.codes[0] >= 0:
            return jnp.uint8
        return jnp.int8 if self.bits <= 8 else jnp.int16


def known(name: str, value: Any) -> str:
    """A scalar as an entry of a repr, and nothing where it is traced or a placeholder."""
    if isinstance(value, Tracer) or not isinstance(value, jax.Array | np.ndarray):
        return ""
    return f", {name} {float(value):.4g}" if value.ndim == 0 else f", {name} f32{list(value.shape)}"


def check_channels(op: str, name: str, shape: tuple[int, ...], params: QuantizerParams) -> None:
    """Raises where `params` are none, or an array of that shape has not their channels."""
    instance(op, "params", params, QuantizerParams, "a QuantizerParams")
    if params.axis is None:
        return
    channels = params.scale.shape[0]
    if params.axis >= len(shape) or shape[params.axis] != channels:
        raise ValueError(
            f"{op}: `{name}` has shape {shape}, expected {channels} channels on axis {params.axis}"
        )
    if params.group is not None:
        of_channel = math.prod(shape) // max(channels, 1)
        got, want = params.scale.shape[1:], (-(-of_channel // params.group),)
        if got != want:
            raise ValueError(
                f"{op}: `{name}` has {of_channel} weights of a channel, {want[0]} groups of "
                f"{params.group}, but `params` has scales of shape {params.scale.shape}"
            )


@numpy_defaults
def quantize(weights: ArrayLike, params: QuantizerParams) -> jax.Array:
    """Codes of finite weights: the nearest levels. Under `jax.jit` and `jax.vmap` as well."""
    w = real("quantize", "weights", weights).astype(jnp.float32)
    check_channels("quantize", "weights", w.shape, params)
    if params.lut is None:
        scale, offset = along(params.scale, w, params), along(params.zero_point, w, params)
        # Where the scale is 0 all levels are 0, and any code will do.
        step = jnp.where(scale > 0, scale, np.float32(1))
        code = jnp.clip(jnp.round(w / step + offset), *(np.float32(c) for c in params.codes))
        return code.astype(params.dtype)
    if params.axis is None:
        code = _nearest(params.lut, w.ravel()).reshape(w.shape)
    else:
        channels = jnp.moveaxis(w, params.axis, 0)
        flat = channels.reshape(channels.shape[0], math.prod(channels.shape[1:]))
        code = jnp.moveaxis(
            jax.vmap(_nearest)(params.lut, flat).reshape(channels.shape), 0, params.axis
        )
    return code.astype(params.dtype)


@numpy_defaults
def dequantize(codes: ArrayLike, params: QuantizerParams) -> jax.Array:
    """The levels of the codes, f32 of their shape. Under `jax.jit` and `jax.vmap` as well."""
    code = numeric("dequantize", "codes", codes, "an array of integers")
    if not jnp.issubdtype(code.dtype, jnp.integer):
        raise TypeError(f"dequantize: `codes` is {code.dtype}, expected integers")
    check_channels("dequantize", "codes", code.shape, params)
    if code.size and not isinstance(code, Tracer):
        # In NumPy: while another function is traced, jnp has no numbers.
        values = np.asarray(code)
        low, high = int(values.min()), int(values.max())
        if low < params.codes[0] or high > params.codes[1]:
            raise ValueError(
                f"dequantize: `codes` must be from {params.codes[0]} to {params.codes[1]}, "
                f"got {low} to {high}"
            )
    if params.lut is None:
        scale, offset = along(params.scale, code, params), along(params.zero_point, code, params)
        return lumina_dequantize(code, scale, offset)
    channels = (1,) * code.ndim if params.axis is None else _channels(code, params)
    return lumina_dequantize(code, params.lut.reshape(*channels, params.lut.shape[-1]))


DEQUANTIZE = "lumina_dequantize"


@jax.jit
def lumina_dequantize(codes: jax.Array, *levels: jax.Array) -> jax.Array:
    """`(codes - zero_point) · scale` of `levels = scale, zero_point`, `table[codes]` of a table.

    All have the rank of the codes, a table one axis more; what is alike along an axis has extent 1.
    Exports know a weight of codes by the name of this function in the jaxpr, `DEQUANTIZE`.
    """
    if len(levels) == 2:
        scale, zero_point = levels
        return (codes.astype(jnp.float32) - zero_point) * scale
    (table,) = levels
    index = codes.astype(jnp.int32)
    channels = [axis for axis, extent in enumerate(table.shape[:-1]) if extent != 1]
    if not channels:
        return table.reshape(-1)[index]
    channel = jax.lax.broadcasted_iota(jnp.int32, index.shape, channels[0])
    return table.reshape(-1, table.shape[-1])[channel, index]


def _channels(w: jax.Array, params: QuantizerParams) -> tuple[int, ...]:
    """1 for each axis but that of the channels."""
    return tuple(extent if axis == params.axis else 1 for axis, extent in enumerate(w.shape))


def along(values: jax.Array, w: jax.Array, params: QuantizerParams) -> jax.Array:
    """Values per channel, or per channel and group, of the rank of `w`."""
    if params.axis is None:
        return values.reshape((1,) * w.ndim)
    if params.group is None:
        return values.reshape(_channels(w, params))
    others = [extent for axis, extent in enumerate(w.shape) if axis != params.axis]
    of_weight = jnp.repeat(values, params.group, axis=1)[:, : math.prod(others)]
    return jnp.moveaxis(of_weight.reshape(w.shape[params.axis], *others), 0, params.axis)


def _nearest(lut: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.searchsorted(0.5 * (lut[1:] + lut[:-1]), w)
