"""`optical_matmul` as training runs it, with what the backward pass and a calibration need.

`residual` says what there is for the backward pass: "none", or "pre_noise": y, or "slope", which is
∂out/∂y, straight through the ADC and through the noise:

    slope = [y'] · (1 + ε·(shot²·sign(y)/2 + relative²·y)/σ)        y' = y + σ·ε

with [y'] the mask of the ADC, 1 within its full scale and 0 beyond it. The term of ε is 0 where
σ = 0, and the slope is NaN where y' is not finite or its converted value is NaN.

Where relative noise is all there is, the slope is [y'] · (1 + ε·relative·sign(y)). "signs" is what
of it cannot be drawn again, in a quarter of the memory: i8[m, n], 0 where [y'] is 0, -128 where the
slope is NaN, and else sign(y), with 2 for y = 0.

`with_peak` asks for the largest finite |y| of each row too, f32[m], 0 where there is none,
`with_x_peak` for that of x, f32[m], and `with_w_peak` for that of each column of w, f32[n]: the
full scales that the op was not given, or what a calibration looks at.

Where arrays have a limited number of inputs, what is saved is by array, [m, t, n], and a peak of y
is that of all arrays of the row.

The op is not for files: what is exported is `optical_matmul`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _tiles, quantize
from ._chain import (
    ChainAttrs,
    DeviceAttrs,
    Operands,
    Signal,
    converted,
    converted_shard,
    factors,
    found_in_rows,
    operand_types,
    parameters,
    signal_of_shards,
    signals,
    w_peak,
    with_full_scales_of_shards,
)
from ._op import define
from ._partition import Axes
from ._signature import Signature, Tensor, tensor


@dataclass(frozen=True, kw_only=True)
class Attrs(ChainAttrs):
    """Attributes of the op."""

    residual: str
    with_peak: bool
    with_x_peak: bool
    with_w_peak: bool


def residual_types(op: str, residual: str, attrs: DeviceAttrs) -> tuple[Tensor, ...]:
    """What the op saves: one tensor, or nothing."""
    dims = _tiles.saved_dims(attrs)
    match residual:
        case "none":
            return ()
        case "pre_noise" | "slope":
            return (tensor("f32", *dims),)
        case "signs":
            return (tensor("i8", *dims),)
        case _:
            raise ValueError(
                f"{op}: `residual` must be none, pre_noise, slope or signs, got {residual}"
            )


class Slopes(NamedTuple):
    """How the output follows what it is made of, all f32[m, n]."""

    y: jax.Array
    """∂out/∂y; NaN where y' is not finite or its converted value is NaN."""
    noise: jax.Array
    """[y'] · ε/σ; 0 where σ = 0 and without noise."""
    y_full_scale: jax.Array
    """∂out/∂y_full_scale."""


def slopes(signal: Signal, noise: jax.Array, y_full_scale: jax.Array, adc_bits: int) -> Slopes:
    """The slopes at that signal."""
    before = signal.before_adc()
    inside, by_full_scale = quantize.slopes(before, y_full_scale[None, :], adc_bits)
    inside = jnp.where(jnp.isnan(before), np.float32(np.nan), inside)
    y, sigma, eps = signal
    if sigma is None or eps is None:
        return Slopes(inside, jnp.zeros_like(y), by_full_scale)
    is_zero = sigma == 0
    divisor = jnp.where(is_zero, np.float32(1), sigma)
    by_noise = inside * jnp.where(is_zero, np.float32(0), eps / divisor)
    _, shot, relative, _ = parameters(noise)
    # In this order no square leaves the range of f32.
    by_shot = shot * (shot / divisor) * jnp.sign(y) / 2
    by_y = jnp.where(is_zero, np.float32(0), by_shot + relative * (relative * y / divisor))
    return Slopes(inside + inside * eps * by_y, by_noise, by_full_scale)


_NO_SIGN = np.float32(2)
_NO_SLOPE = np.float32(-128)


def slope_of_signs(signs: jax.Array, eps: jax.Array | None, noise: jax.Array) -> jax.Array:
    """The slope f32[m, n] that signs i8[m, n] tell, of relative noise alone."""
    values = signs.astype(np.float32)
    sign = jnp.where(values == _NO_SIGN, np.float32(0), values)
    by_noise = np.float32(0) if eps is None else eps * parameters(noise)[2] * sign
    slope = jnp.where(values == 0, np.float32(0), 1 + by_noise)
    return jnp.where(values == _NO_SLOPE, np.float32(np.nan), slope)


def _signature(attrs: Attrs) -> Signature:
    out = tensor("f32", "m", "n")
    saved = residual_types("optical_matmul_fwd", attrs.residual, attrs)
    rows = (tensor("f32", "m"),) * (attrs.with_peak + attrs.with_x_peak)
    columns = (tensor("f32", "n"),) if attrs.with_w_peak else ()
    results = (out, *saved, *rows, *columns)
    return Signature(
        operand_types(attrs, draws=attrs.noisy),
        results,
        whole=_tiles.whole(attrs),
        follows={len(results) - 1: frozenset({"w"})} if columns else {},
        derived=_tiles.derived(attrs) if saved else {},
    )


def _reference(attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    at_adc = signals(attrs, operands)
    out = converted(attrs, operands, at_adc)
    saved = [_saved(attrs, operands, signal) for signal in at_adc]
    if attrs.array_rows:
        saved = [[jnp.stack(of_tiles, axis=1) for of_tiles in zip(*saved, strict=True)]]
    return [out, *saved[0], *peaks(attrs, operands, at_adc)]


def _saved(attrs: Attrs, operands: Operands[jax.Array], at_adc: Signal) -> list[jax.Array]:
    noise, y_full_scale = operands.noise, operands.y_full_scale
    match attrs.residual:
        case "none":
            return []
        case "pre_noise":
            return [at_adc.y]
        case "slope":
            return [slopes(at_adc, noise, y_full_scale, attrs.adc_bits).y]
        case _:
            before = Signal(at_adc.before_adc())
            inside = slopes(before, noise, y_full_scale, attrs.adc_bits).y
            signs = jnp.where(at_adc.y == 0, _NO_SIGN, jnp.sign(at_adc.y)) * inside
            return [jnp.where(jnp.isnan(signs), _NO_SLOPE, signs).astype(np.int8)]


def peaks(attrs: Attrs, operands: Operands[jax.Array], at_adc: list[Signal]) -> list[jax.Array]:
    """What is wanted of the peaks of y, x and w."""
    of_arrays = [quantize.absmax(signal.y, axis=1) for signal in at_adc] if attrs.with_peak else []
    of_y = [functools.reduce(jnp.maximum, of_arrays)] if of_arrays else []
    of_x = [quantize.absmax(operands.x, axis=1)] if attrs.with_x_peak else []
    return [*of_y, *of_x, *([w_peak(attrs, operands.w)] if attrs.with_w_peak else [])]


def _local(axes: Axes, attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    operands = with_full_scales_of_shards(axes, attrs, operands)
    if "k" in axes:
        results = _local_along_depth(axes, attrs, operands)
    else:
        results = op(attrs, operands)
    return with_peaks_of_shards(axes, attrs, results)


def with_peaks_of_shards(axes: Axes, attrs: Attrs, results: Sequence[jax.Array]) -> list[jax.Array]:
    """Results whose peaks are those of whole rows and columns, from those of a shard."""
    wanted = [(attrs.with_peak, "n"), (attrs.with_x_peak, "k"), (attrs.with_w_peak, "k")]
    along = [dimension for is_wanted, dimension in wanted if is_wanted]
    first = len(results) - len(along)
    of_all = [
        jax.lax.pmax(peak, axes[dimension]) if dimension in axes else peak
        for peak, dimension in zip(results[first:], along, strict=True)
    ]
    return [*results[:first], *of_all]


def _local_along_depth(axes: Axes, attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    def product(operands: Operands[jax.Array]) -> jax.Array:
        quiet = replace(
            attrs, adc_bits=0, noisy=False, residual="pre_noise",
            with_peak=False, with_x_peak=False, with_w_peak=False,
        )  # fmt: skip
        return op(quiet, operands)[1]

    at_adc = signal_of_shards(axes, attrs, operands, product)
    out = converted_shard(attrs, operands, at_adc)
    return [out, *_saved(attrs, operands, at_adc), *peaks(attrs, operands, [at_adc])]


op = define(
    "optical_matmul_fwd",
    attrs=Attrs,
    operands=Operands,
    signature=_signature,
    reference=_reference,
    local=_local,
    factors=factors,
    found_in_rows=found_in_rows,
)
