"""Attention at running ranges, and what layers of both families ask of its arguments.

`optical_attention` where a query sees the first keys alone. For any other mask, and for dropout of
probabilities, the same chain with all scores in memory: `optical_matmul` twice, with a softmax
between them. Both give the same numbers where there is no noise; with noise they draw others.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from lumina_jax import HardwareProfile
from lumina_jax.custom_vjp.optical_attention import optical_attention
from lumina_jax.custom_vjp.optical_matmul import optical_matmul
from lumina_jax.custom_vjp.quantize import quantize
from lumina_jax.hardware.crosstalk import Crosstalk
from lumina_jax.hardware.noise import NoiseModel
from lumina_jax.ops.quantize import absmax
from lumina_jax.spec import OpticalSpec

from ._context import RangeMode, check_input, check_options, check_size
from ._device import device
from ._measure import measures, seen_so_far
from ._uncalibrated import of_this_batch, watch
from .ranges import AttentionRanges, AxisName, seen, update, vary_like


class Sight(NamedTuple):
    """Which keys a query sees; what is None hides none."""

    offset: jax.Array | None = None
    """The place of the first query among the keys, i32[]: a query sees those up to its own."""
    lengths: jax.Array | None = None
    """How many keys there are, as `optical_attention` takes it."""
    mask: jax.Array | None = None
    """bool, broadcasts to [..., heads, queries, keys]."""
    kept: jax.Array | None = None
    """Of dropout: factors on the probabilities, f32, broadcasts to [..., heads, queries, keys]."""
    largest: float = 1.0
    """The largest of them."""


def calibrated_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array | None,
    running: AttentionRanges,
    *,
    sight: Sight,
    spec: OpticalSpec,
    noise: NoiseModel | None = None,
    key: jax.Array | None = None,
    attenuation: float = 1.0,
    crosstalk: Crosstalk | None = None,
    gain: AttentionRanges = AttentionRanges(),
    momentum: float | None = None,
    axis_name: AxisName | None = None,
    infers: str = "",
) -> tuple[jax.Array, AttentionRanges]:
    """Attention of q, k and v at the running ranges, and their update.

    Args:
        q, k, v: as in `optical_attention`.
        running: full scales; 0 takes the range of this batch, None is for a converter off.
        sight: which keys a query sees.
        spec, noise, key, attenuation, gain, momentum, axis_name, infers: as in
            `calibrated_matmul`; the light that is lost is lost on k and v.
        crosstalk: None, as it is known of weights alone.

    The second product has as many inputs as there are keys, so both are those of one array,
    whatever `spec.array_rows` is.

    Returns:
        f32[..., T, H, E], and the ranges for the next batch.
    """
    assert v is not None, "a context hands on three arrays"
    assert crosstalk is None, "a layer checks its device"
    spec = dataclasses.replace(spec, grad_precision="float32", array_rows=None)
    if attenuation != 1.0:
        k, v = k * attenuation, v * attenuation
    if measures():
        return _measured(q, k, v, running, sight, spec, axis_name)
    marked = watch(infers, jax.tree.leaves(running)) if infers else ""
    return _calibrated(
        q, k, v, running, sight, noise, key, gain, momentum, spec=spec,
        axis_name=axis_name, marked=marked, updates=momentum is not None,
    )  # fmt: skip


def _measured(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    running: AttentionRanges,
    sight: Sight,
    spec: OpticalSpec,
    axis_name: AxisName | None,
) -> tuple[jax.Array, AttentionRanges]:
    """Attention that measures, with all scores in memory, and what it has seen of each signal."""
    scales: dict[str, jax.Array] = {}
    known: dict[str, jax.Array | None] = {}

    def see(name: str, signal: jax.Array, bits: int | None) -> None:
        kept = getattr(running, name)
        scale, known[name] = seen_so_far(kept, signal, bits, axis_name)
        if scale is not None:
            scales[f"{name}_full_scale"] = scale

    for name, signal in (("q", q), ("k", k), ("v", v)):
        see(name, signal, spec.dac_bits)
    before_adcs = dataclasses.replace(spec, adc_bits=None)
    out, signals = _attend_in_memory(q, k, v, scales, sight, before_adcs, None, None)
    for name, signal in zip(AttentionRanges.adcs, signals, strict=True):
        see(name, signal, spec.adc_bits)
    converted = quantize(out, bits=spec.adc_bits, full_scale=scales.get("out_full_scale"))
    return converted, AttentionRanges(**known)


# A `cond` compiles at every call outside of jit, because its branches are new functions each time.
@functools.partial(jax.jit, static_argnames=("spec", "axis_name", "marked", "updates"))
def _calibrated(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    running: AttentionRanges,
    sight: Sight,
    noise: NoiseModel | None,
    key: jax.Array | None,
    gain: AttentionRanges,
    momentum: Any,
    *,
    spec: OpticalSpec,
    axis_name: AxisName | None,
    marked: str,
    updates: bool,
) -> tuple[jax.Array, AttentionRanges]:
    of_inputs = {
        name: seen(signal, axis_name=axis_name)
        for name, signal in (("q", q), ("k", k), ("v", v))
        if getattr(running, name) is not None
    }
    known = {name: value for name, value in running._asdict().items() if value is not None}

    def as_seen() -> dict[str, jax.Array]:
        def known_or(name: str, of_batch: jax.Array) -> jax.Array:
            found = of_this_batch(known[name], of_batch, layer=marked)
            return jnp.where(known[name] > 0, known[name], found)

        scales = {name: known_or(name, value) for name, value in of_inputs.items()}
        of_adcs = [name for name in AttentionRanges.adcs if name in known]
        if of_adcs:
            before_adcs = dataclasses.replace(spec, adc_bits=None)
            _, peaks = _attend(q, k, v, scales, sight, before_adcs, None, None, with_peaks=True)
            for name, peak in zip(of_adcs, peaks, strict=True):
                scales[name] = known_or(name, seen(peak, axis_name=axis_name))
        return scales

    scales = known
    if known:
        least = functools.reduce(jnp.minimum, known.values())

        def as_kept() -> dict[str, jax.Array]:
            return {
                name: vary_like(value, q, k, v, axis_name=axis_name)
                for name, value in known.items()
            }

        scales = lax.cond(least > 0, as_kept, as_seen)
    scales = {
        name: scale if (factor := getattr(gain, name)) is None else scale * jnp.exp(factor)
        for name, scale in scales.items()
    }
    with_peaks = updates and bool(known)
    out, peaks = _attend(q, k, v, scales, sight, spec, noise, key, with_peaks=with_peaks)
    if not with_peaks:
        return out, running
    of_adcs = {
        name: seen(peak, axis_name=axis_name)
        for name, peak in zip(AttentionRanges.adcs, peaks, strict=True)
    }
    largest = {**of_inputs, **of_adcs}
    updated = {
        name: update(value, largest[name], momentum=momentum) for name, value in known.items()
    }
    return out, AttentionRanges(**updated)


def _attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    scales: dict[str, jax.Array],
    sight: Sight,
    spec: OpticalSpec,
    noise: NoiseModel | None,
    key: jax.Array | None,
    *,
    with_peaks: bool,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Outputs, and the peaks of scores and outputs, in the fused op only `with_peaks`."""
    ranges: dict[str, Any] = {f"{name}_full_scale": scale for name, scale in scales.items()}
    if sight.mask is None and sight.kept is None:
        causal = sight.offset is not None
        attended = optical_attention(
            q, k, v, spec=spec, causal=causal, offset=0 if sight.offset is None else sight.offset,
            lengths=sight.lengths, noise=noise, key=key, return_peaks=with_peaks, **ranges,
        )  # fmt: skip
        if not isinstance(attended, tuple):
            return attended, ()
        out, peaks = attended
        return out, (peaks[..., 0], peaks[..., 1])
    out, signals = _attend_in_memory(q, k, v, ranges, sight, spec, noise, key)
    of_scores, of_out = (jax.vmap(absmax)(signal) for signal in signals)
    return out, (of_scores, of_out)


def _attend_in_memory(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    ranges: dict[str, Any],
    sight: Sight,
    spec: OpticalSpec,
    noise: NoiseModel | None,
    key: jax.Array | None,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Outputs, and the signals at the ADCs by head, f32[heads, T, S] and [heads, T, E].

    Those that no query sees, or that see nothing, are NaN.
    """
    heads = q.shape[-2]
    k, v = (jnp.repeat(value, heads // value.shape[-2], axis=-2) for value in (k, v))
    visible, kept = visible_keys(sight, q, k), sight.kept
    count = math.prod(q.shape[:-3]) * heads
    flat = [
        jnp.moveaxis(value, -2, -3).reshape(count, value.shape[-3], value.shape[-1])
        for value in (q, k, v)
    ]
    keys = None if key is None else jax.random.split(key, (count, 2))
    if kept is not None:
        kept = jnp.broadcast_to(kept, visible.shape).reshape(count, *visible.shape[-2:])
    one: Any = functools.partial(
        _attend_head, ranges=ranges, p_full_scale=sight.largest, spec=spec, noise=noise
    )
    visible = visible.reshape(count, *visible.shape[-2:])
    out, signals = jax.vmap(one)(*flat, visible, kept, keys)
    out = out.reshape(*q.shape[:-3], heads, *out.shape[-2:])
    return jnp.moveaxis(out, -3, -2), signals


def _attend_head(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    visible: jax.Array,
    kept: jax.Array | None,
    keys: jax.Array | None,
    *,
    ranges: dict[str, jax.Array],
    p_full_scale: float,
    spec: OpticalSpec,
    noise: NoiseModel | None,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """The same of one head with all scores in memory: q [T, D], k [S, D], v [S, E]."""
    used = jnp.any(visible, axis=0)[:, None]
    k, v = jnp.where(used, k, 0.0), jnp.where(used, v, 0.0)
    chain: dict[str, Any] = {
        "spec": dataclasses.replace(spec, weight_bits=spec.dac_bits),
        "noise": noise,
        "return_pre_noise": True,
    }
    scores, y = optical_matmul(
        q, k.T, x_full_scale=ranges.get("q_full_scale"), w_full_scale=ranges.get("k_full_scale"),
        y_full_scale=ranges.get("scores_full_scale"), key=None if keys is None else keys[0],
        **chain,
    )  # fmt: skip
    z = jnp.where(visible, scores / math.sqrt(q.shape[-1]), -jnp.inf)
    sees = jnp.any(visible, axis=1, keepdims=True)
    p = jnp.where(visible, jax.nn.softmax(jnp.where(sees, z, 0.0)), 0.0)
    p = p if kept is None else p * kept
    out, y_out = optical_matmul(
        p, v, x_full_scale=p_full_scale, w_full_scale=ranges.get("v_full_scale"),
        y_full_scale=ranges.get("out_full_scale"), key=None if keys is None else keys[1],
        **chain,
    )  # fmt: skip
    signals = jnp.where(visible, y, jnp.nan), jnp.where(sees, y_out, jnp.nan)
    return jnp.where(sees, out, 0.0), signals


def visible_keys(sight: Sight, q: jax.Array, k: jax.Array) -> jax.Array:
    """bool[..., heads, queries, keys]."""
    queries, heads = q.shape[-3:-1]
    shape = (*q.shape[:-3], heads, queries, k.shape[-3])
    visible = jnp.ones(shape, bool)
    last = lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1)
    if sight.offset is not None:
        place = lax.broadcasted_iota(jnp.int32, shape, len(shape) - 2)
        visible = visible & (last <= place + sight.offset)
    if sight.lengths is not None:
        lengths = sight.lengths
        if lengths.ndim and lengths.ndim <= q.ndim - 3:
            lengths = lengths[..., None]
        visible = visible & (last < jnp.broadcast_to(lengths, shape[:-2])[..., None, None])
    if sight.mask is not None:
        visible = visible & jnp.broadcast_to(sight.mask.astype(bool), shape)
    return visible


def dropped(
    key: jax.Array, rate: float, shape: tuple[int, ...], *, broadcast: bool
) -> tuple[jax.Array, float]:
    """Factors on probabilities [..., heads, queries, keys], as Flax draws them, and the largest."""
    if broadcast:
        shape = (1,) * (len(shape) - 2) + shape[-2:]
    kept = 1.0 - rate
    return _factors(key, kept, shape), 1.0 / kept


@functools.partial(jax.jit, static_argnames=("kept", "shape"))
def _factors(key: jax.Array, kept: float, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.bernoulli(key, kept, shape).astype(jnp.float32) / kept


def check_device(
    layer: str,
    profile: HardwareProfile | str | None,
    spec: OpticalSpec | None,
    noise: NoiseModel | None,
    ranges: RangeMode,
    momentum: float,
) -> None:
    """Raises what a layer of that device and those options raises, and for crosstalk ValueError."""
    check_options(layer, ranges, momentum)
    if device(layer, profile, spec, noise).crosstalk is not None:
        raise ValueError(
            f"{layer}: `profile` has crosstalk, which is known of weights alone; expected one "
            f"without, such as dataclasses.replace(profile, crosstalk=None)"
        )


def check_heads(layer: str, heads: Any, features: int) -> int:
    """Features of a head; ValueError unless the heads share `features` evenly."""
    check_size(layer, "num_heads", heads)
    if features % heads:
        raise ValueError(
            f"{layer}: `qkv_features` is {features}, expected a multiple of `num_heads`, {heads}"
        )
    return features // heads


def check_inputs(
    layer: str, inputs_q: Any, inputs_k: Any, inputs_v: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The inputs in float32, f32[..., length, features].

    Keys are the queries where they are not given, and values the keys.

    Raises:
        ValueError: values are given and keys are not, or queries have no length.
        TypeError: as in `check_input`.
    """
    if inputs_k is None and inputs_v is not None:
        raise ValueError(f"{layer}: `inputs_v` is given and `inputs_k` is not, expected both")
    q = check_input(layer, inputs_q)
    if q.ndim < 2:
        raise ValueError(f"{layer}: `x` has shape {q.shape}, expected [..., length, features]")
    k = q if inputs_k is None else check_input(layer, inputs_k)
    return q, k, k if inputs_v is None else check_input(layer, inputs_v)


def check_step(layer: str, cached: jax.Array, key: jax.Array) -> None:
    """Raises ValueError unless `key` is one step of a cache of keys."""
    *outer, _, heads, depth = cached.shape
    expected = (*outer, 1, heads, depth)
    if key.shape != expected:
        raise ValueError(
            f"{layer}: with a cache of shape {cached.shape} keys have shape {key.shape}, expected "
            f"{expected}: `decode` takes one token at a time"
        )


@jax.jit
def cached(
    kept: tuple[jax.Array, jax.Array], new: tuple[jax.Array, jax.Array], index: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """Keys and values with those of one token in place `index`, and the next index."""
    start = (0,) * (new[0].ndim - 3) + (index, 0, 0)
    keys, values = (
        lax.dynamic_update_slice(old, one.astype(old.dtype), start)
        for old, one in zip(kept, new, strict=True)
    )
    return (keys, values), index + 1
