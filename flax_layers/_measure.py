"""What calibration sees of the signals at a converter: their peak, then how they are spread.

While it measures, a layer draws no noise and clips nothing, and its range holds what was seen:
in the first pass the largest magnitude so far, f32[]; in the second that and, at `CANDIDATES`
full scales below it, three sums over the values v that went through the converter, f32[1 + 3·C]:

    full scale   c_i = peak · 2^(-i/16)
    error        sum of (v - Q_i(v))²        where Q_i converts at c_i
    beyond       number of |v| > c_i
    values       number of v

The error comes from the sums of 1, |v| and v² between two candidates, with s the step at c_i:

    |v| > c_i            (|v| - c_i)²        clipped
    s/2 <= |v| <= c_i    s²/12               rounded, with an error spread evenly over a step
    |v| < s/2            v²                  rounded to zero

and with one bit, which is the sign, it is (|v| - c_i)² throughout. Values that are not finite are
left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from lumina_jax.custom_vjp.quantize import quantize
from lumina_jax.ops._complex import floats, numbers
from lumina_jax.ops.quantize import absmax
from lumina_jax.spec import OpticalSpec, op_bits

Pass: TypeAlias = Literal["peak", "spread"]

CANDIDATES = 160
"""Full scales from the peak down to a thousandth of it."""
PER_OCTAVE = 16
"""Candidates that halve the full scale."""

# JAX knows of it, so that what `jit` or `checkpoint` traced outside of it is traced anew.
_pass = jax.make_user_context(None)


def measuring(what: Pass) -> AbstractContextManager[None]:
    """Layers that are called, or traced, within it measure."""
    return _pass(what)


def measures() -> bool:
    """Whether a layer that is called now measures."""
    return _pass.value is not None


def measured(
    product: Callable[[OpticalSpec, jax.Array | None], tuple[jax.Array, jax.Array]],
    x: jax.Array,
    running: Any,
    *,
    spec: OpticalSpec,
    axis_name: str | tuple[str, ...] | None,
) -> tuple[jax.Array, Any]:
    """The output of a layer that measures, and what it has seen, in place of its ranges.

    Args:
        product: the output and the signal at the ADC, without noise, at a spec and a full scale of
            x; the signal is that of each array where there are several.
        x: the signal.
        running: `Ranges`, as this or an earlier call has left them.
        spec: bits of the converters.
        axis_name: mapped axes over which one batch is spread.
    """
    x_scale, of_x = seen_so_far(running.x, floats(x), spec.dac_bits, axis_name)
    # A range is not differentiated, so no precision of a gradient may ask for a key.
    before_adc = dataclasses.replace(spec, adc_bits=None, grad_precision="float32")
    out, before = product(before_adc, x_scale)
    y_scale, of_y = seen_so_far(running.y, floats(before), spec.adc_bits, axis_name)
    y = quantize(floats(before), bits=spec.adc_bits, full_scale=y_scale)
    y = numbers(y) if jnp.iscomplexobj(before) else y
    return (y if y.ndim == out.ndim else y.sum(axis=-2)), running._replace(x=of_x, y=of_y)


def seen_so_far(
    kept: jax.Array | None, v: jax.Array, bits: int | None, axis_name: Any
) -> tuple[jax.Array | None, jax.Array | None]:
    """A full scale that clips none of `v`, and what is known of the signals after these.

    `kept` is what was known before; None, as its results are, where there is no converter.
    """
    if kept is None:
        return None, None
    peak, sums = (kept, None) if kept.ndim == 0 else (kept[0], kept[1:].reshape(3, CANDIDATES))
    largest = absmax(v)
    if axis_name is not None:
        largest = lax.pmax(largest, axis_name)
    scale = jnp.maximum(peak, largest)
    if _pass.value == "peak":
        return scale, scale
    spread = _spread(v, peak, op_bits(bits))
    if axis_name is not None:
        spread = lax.psum(spread, axis_name)
    if sums is not None:
        spread = spread + sums
    return scale, jnp.concatenate([peak[None], spread.reshape(-1)])


def _spread(v: jax.Array, peak: jax.Array, bits: int) -> jax.Array:
    """Error, values beyond and values at each candidate: f32[3, CANDIDATES]."""
    u = jnp.abs(v.reshape(-1)) / jnp.where(peak > 0, peak, 1.0)
    finite = jnp.isfinite(u)
    u = jnp.where(finite, u, 0.0)
    # Interval i is (c_{i+1}, c_i]; the last one holds all that is smaller.
    octaves = -jnp.log2(jnp.maximum(u, 2.0 ** -(CANDIDATES / PER_OCTAVE)))
    place = jnp.clip(jnp.floor(PER_OCTAVE * octaves), 0, CANDIDATES - 1).astype(jnp.int32)
    moments = jnp.stack([finite.astype(jnp.float32), u, u * u])
    sums = jnp.zeros((3, CANDIDATES)).at[:, place].add(moments)
    beyond = jnp.cumsum(sums, axis=1) - sums
    total = sums.sum(axis=1, keepdims=True)

    c = 2.0 ** (-jnp.arange(CANDIDATES) / PER_OCTAVE)

    def squares(part: jax.Array) -> jax.Array:
        """Sum of (u - c)² over the values whose moments these are."""
        return part[2] - 2 * c * part[1] + c * c * part[0]

    if not bits:
        error = squares(beyond)
    elif bits == 1:
        error = squares(total)
    else:
        step = c / (2 ** (bits - 1) - 1)
        # The interval that half a step is in, and all below it.
        half = jnp.floor(-PER_OCTAVE * jnp.log2(step / 2)).astype(jnp.int32)
        below = total - jnp.take(beyond, jnp.minimum(half, CANDIDATES - 1), axis=1)
        small = jnp.where(half < CANDIDATES, below, 0.0)
        rounded = jnp.maximum(total[0] - beyond[0] - small[0], 0)
        error = squares(beyond) + small[2] + rounded * step**2 / 12
    return jnp.stack([peak**2 * error, beyond[0], jnp.broadcast_to(total[0], c.shape)])
