"""Full scales of a layer's converters: seen in the batch, kept as a running average, or learned.

A running range is a scalar f32; 0 means "not calibrated yet". The converters then use

    x range:  max |x|                            of this very batch
    y range:  max |DAC(x) . DAC(a w) + bias|     of this very batch

which costs a second matmul, so it happens under a `lax.cond`, and only until the first update. An
update takes in what one batch showed, `seen`, the same two maxima over its finite values:

    range <- seen                                       the first time
    range <- momentum * range + (1 - momentum) * seen   from then on

A batch without any finite, nonzero value leaves the range alone, so a broken batch does not
outlive itself. Nothing here is differentiated but the learned gains: a gain g multiplies a full
scale by exp(g), which keeps it positive and makes a step mean the same at any signal level.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from lumina_jax.custom_vjp.complex_optical_matmul import complex_optical_matmul, fields_in_light
from lumina_jax.custom_vjp.optical_matmul import optical_matmul
from lumina_jax.hardware.crosstalk import Crosstalk, in_light
from lumina_jax.hardware.noise import NoiseModel
from lumina_jax.ops._complex import floats
from lumina_jax.ops._op import vary_over, varying_axes
from lumina_jax.ops.quantize import absmax
from lumina_jax.spec import OpticalSpec

from ._measure import measured, measures
from ._uncalibrated import of_this_batch, watch

AxisName: TypeAlias = str | tuple[str, ...]


class Ranges(NamedTuple):
    """One scalar f32 for each converter of the signal path; None where there is nothing to keep."""

    x: jax.Array | None = None
    """Of the DAC that encodes the input."""
    y: jax.Array | None = None
    """Of the ADC that reads the output."""

    adcs = ("y",)
    """Those of an ADC."""


class AttentionRanges(NamedTuple):
    """Full scales of the converters of attention, f32[]; None where there is nothing to keep."""

    q: jax.Array | None = None
    """Of the DACs of queries, keys and values."""
    k: jax.Array | None = None
    v: jax.Array | None = None
    scores: jax.Array | None = None
    """Of the ADCs of scores and outputs."""
    out: jax.Array | None = None

    adcs = ("scores", "out")
    """Those of an ADC."""


def seen(v: jax.Array, *, axis_name: AxisName | None = None) -> jax.Array:
    """Largest finite magnitude in `v`, f32[]; 0 when there is none. Not differentiated.

    Of complex numbers it is that of real and imaginary parts. With `axis_name`, over all members of
    those mapped axes.
    """
    largest = absmax(floats(v) if jnp.iscomplexobj(v) else v)
    return largest if axis_name is None else lax.pmax(largest, axis_name)


def update(running: jax.Array, largest: jax.Array, *, momentum: float) -> jax.Array:
    """The running range after a batch with that `largest` finite magnitude; all f32[]."""
    blended = momentum * running + (1.0 - momentum) * largest
    return jnp.where(largest > 0, jnp.where(running > 0, blended, largest), running)


def calibrated_matmul(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    running: Ranges,
    *,
    spec: OpticalSpec,
    noise: NoiseModel | None = None,
    key: jax.Array | None = None,
    attenuation: float = 1.0,
    crosstalk: Crosstalk | None = None,
    gain: Ranges = Ranges(),
    momentum: float | None = None,
    axis_name: AxisName | None = None,
    infers: str = "",
    op: Callable[..., Any] = optical_matmul,
) -> tuple[jax.Array, Ranges]:
    """`optical_matmul(x, attenuation * kernel, bias)` at the running ranges, and their update.

    Of complex numbers it is `complex_optical_matmul`, and the factor on fields is the root.

    Args:
        x: f32[..., K], or c64.
        kernel: f32[K, N], or c64 as x.
        bias: f32[N], or c64 as x, or None.
        running: full scales; 0 takes the range of this batch, None is for a converter off.
        spec: bits of the converters.
        noise, key: as in `optical_matmul`; noise None is a quiet device.
        attenuation: what the light loses on its way, as a factor on the kernel (linear, 0 to 1).
        crosstalk: between the wavelengths of the input, which acts on the kernel after its
            converter; None is none.
        gain: natural logarithms of learned factors on the full scales, f32[]; None for no factor.
        momentum: share of the old range in the new one; None leaves the ranges as they are.
        axis_name: mapped axes (of `shard_map` or `vmap`) that hold parts of one batch.
        infers: the name of the layer, where this is inference: ranges of 0 are then warned of.
        op: what stands in for `optical_matmul`, with its arguments and results; x and y are then as
            it has them. It is hashable, and equal to what computes the same.

    Returns:
        y f32[..., N], or c64 as x, and the ranges for the next batch.
    """
    if jnp.iscomplexobj(x):
        op = complex_optical_matmul
        weight = fields_in_light("ComplexOpticalDense", kernel, attenuation, crosstalk)
    else:
        weight, spec = in_light(kernel, attenuation, crosstalk, spec)
    if measures():

        def product(spec: OpticalSpec, x_full_scale: jax.Array | None) -> Any:
            return op(x, weight, bias, spec=spec, x_full_scale=x_full_scale, return_pre_noise=True)

        return measured(product, x, running, spec=spec, axis_name=axis_name)
    marked = watch(infers, jax.tree.leaves(running)) if infers else ""
    scales = _full_scales(
        x, weight, bias, running, spec=spec, axis_name=axis_name, marked=marked, op=op
    )
    x_scale, y_scale = (
        scale if scale is None or g is None else scale * jnp.exp(g)
        for scale, g in zip(scales, gain, strict=True)
    )

    chain: dict[str, Any] = {
        "spec": spec,
        "x_full_scale": x_scale,
        "y_full_scale": y_scale,
        "noise": noise,
        "key": key,
    }
    if momentum is None or not jax.tree.leaves(running):
        return op(x, weight, bias, **chain), running
    chain |= {"return_peak": running.y is not None, "return_x_peak": running.x is not None}
    y, *peaks = op(x, weight, bias, **chain)

    known, structure = jax.tree.flatten(running)
    # The op returns the peak of y before that of x.
    updated = [
        update(old, seen(peak, axis_name=axis_name), momentum=momentum)
        for old, peak in zip(known, reversed(peaks), strict=True)
    ]
    return y, jax.tree.unflatten(structure, updated)


# A `cond` compiles at every call outside of jit, because its branches are new functions each time.
@functools.partial(jax.jit, static_argnames=("spec", "axis_name", "marked", "op"))
def _full_scales(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    running: Ranges,
    *,
    spec: OpticalSpec,
    axis_name: AxisName | None,
    marked: str,
    op: Callable[..., Any],
) -> Ranges:
    """The running ranges, with those of this batch in place of zeros."""
    known = jax.tree.leaves(running)
    if not known:
        return running

    def known_or_seen(range_: jax.Array, signal: jax.Array) -> jax.Array:
        of_signal = of_this_batch(range_, seen(signal, axis_name=axis_name), layer=marked)
        return jnp.where(range_ > 0, range_, of_signal)

    def as_seen() -> Ranges:
        x_scale = y_scale = None
        if running.x is not None:
            x_scale = known_or_seen(running.x, x)
        if running.y is not None:
            # A range is not differentiated, so no precision of a gradient may ask for a key.
            before_adc = dataclasses.replace(spec, adc_bits=None, grad_precision="float32")
            _, peak = op(x, weight, bias, spec=before_adc, x_full_scale=x_scale, return_peak=True)
            y_scale = known_or_seen(running.y, peak)
        return Ranges(x=x_scale, y=y_scale)

    def as_kept() -> Ranges:
        signals = {"x": (x,), "y": (x, weight, bias)}
        return Ranges(
            **{
                name: vary_like(value, *signals[name], axis_name=axis_name)
                for name, value in running._asdict().items()
                if value is not None
            }
        )

    return lax.cond(functools.reduce(jnp.minimum, known) > 0, as_kept, as_seen)


def vary_like(
    scale: jax.Array, *signals: jax.Array | None, axis_name: AxisName | None
) -> jax.Array:
    """Inside `shard_map`: `scale` of the type that a range of the signals has."""
    reduced = (axis_name,) if isinstance(axis_name, str) else axis_name or ()
    axes = frozenset[Any]().union(*(varying_axes(s) for s in signals if s is not None))
    return vary_over(scale, axes.difference(reduced))
