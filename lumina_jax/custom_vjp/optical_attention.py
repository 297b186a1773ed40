"""The differentiable optical attention."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._arguments import float32, integers, magnitude, scalar
from ..hardware.noise import NoiseModel
from ..hardware.profiles import HardwareProfile
from ..ops import optical_attention_grad
from ..ops._op import vary_together
from ..ops.optical_attention import Attrs, Operands, op
from ..spec import OpticalSpec, op_bits
from ._chain import device_of
from ._derivative import Forward, Rule, differentiable
from ._operands import counted_from, gradient_of, row_id, seed_words

_NAME = "optical_attention"


@overload
def optical_attention(  # pyright: ignore[reportOverlappingOverload], a bool that is not known
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    spec: OpticalSpec | None = None,
    profile: HardwareProfile | str | None = None,
    causal: bool = False,
    offset: ArrayLike = 0,
    lengths: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    q_full_scale: ArrayLike | None = None,
    k_full_scale: ArrayLike | None = None,
    p_full_scale: ArrayLike = 1.0,
    v_full_scale: ArrayLike | None = None,
    scores_full_scale: ArrayLike | None = None,
    out_full_scale: ArrayLike | None = None,
    noise: NoiseModel | None = None,
    key: jax.Array | None = None,
    first_row: ArrayLike = 0,
    return_peaks: Literal[False] = False,
) -> jax.Array: ...


@overload
def optical_attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    spec: OpticalSpec | None = None,
    profile: HardwareProfile | str | None = None,
    causal: bool = False,
    offset: ArrayLike = 0,
    lengths: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    q_full_scale: ArrayLike | None = None,
    k_full_scale: ArrayLike | None = None,
    p_full_scale: ArrayLike = 1.0,
    v_full_scale: ArrayLike | None = None,
    scores_full_scale: ArrayLike | None = None,
    out_full_scale: ArrayLike | None = None,
    noise: NoiseModel | None = None,
    key: jax.Array | None = None,
    first_row: ArrayLike = 0,
    return_peaks: bool = False,
) -> tuple[jax.Array, jax.Array]: ...


def optical_attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    spec: OpticalSpec | None = None,
    profile: HardwareProfile | str | None = None,
    causal: bool = False,
    offset: Any = 0,
    lengths: Any = None,
    scale: Any = None,
    q_full_scale: Any = None,
    k_full_scale: Any = None,
    p_full_scale: Any = 1.0,
    v_full_scale: Any = None,
    scores_full_scale: Any = None,
    out_full_scale: Any = None,
    noise: NoiseModel | None = None,
    key: Any = None,
    first_row: Any = 0,
    return_peaks: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Dot-product attention as a photonic processor computes it, without a matrix of all scores.

        s = ADC(q_q · k_qᵀ + σ·ε)      p = softmax(scale · s)      out = ADC(p_q · v_q + σ·ε)

        query t sees key n  where  n < lengths  and, if causal,  n <= t + offset

    Both products run the signal chain of `optical_matmul`: q, k, the probabilities p and v are
    signals, each through a DAC of `spec.dac_bits`, and scores and outputs through an ADC. The
    softmax is digital, over the keys that a query sees. With converters and noise off it is
    `jax.nn.dot_product_attention`.

    What no query sees is never read. A query that sees nothing has output 0 and gradient 0. One
    that is not finite, or that sees a key or value which is not, has output NaN, whatever the
    others see.

    ε depends on the key, on the head and the place of the query, counted through all of q, and on
    the column alone: the number of the key for scores, of the feature for outputs. So mapping
    with `vmap` or splitting heads over devices draws the same noise. Inside `shard_map` every
    shard numbers its own, so fold the index of the shard into the key there, or count on with
    `first_row`.

    Gradients are straight through the converters and through the noise, and computed in float32
    from scores that are made again. They flow to q, k, v, the scale, the fields of `noise`, and
    the full scales given.

    Args:
        q: f32[..., T, H, D].
        k: f32[..., S, G, D]. G divides H: each head of k and v serves H/G heads of q that follow
            each other.
        v: f32[..., S, G, E].
        spec: bits of the converters; `weight_bits` and `grad_precision` are not looked at. None:
            the bits of the profile.
        profile: the device, or the name of a preset: its bits, noise and transmission, the last
            of which acts on k and v. None: what `spec` and `noise` say alone.
        causal: whether a query sees the keys up to its own place alone.
        offset: int, or an integer scalar that may be traced: the place of the first query among
            the keys, as with a cache that holds `offset` keys already. With `causal` only.
        lengths: how many keys there are, from 0 to S: an int, integers that broadcast to the
            leading dimensions of q, or with one more dimension, of the heads; traced ones beyond
            are cut to that. None: all of them.
        scale: scalar; None is 1/√D.
        q_full_scale, k_full_scale, v_full_scale: ranges of the DACs, scalar or one for each head,
            f32[H] (unit of q, k and v). None is the largest finite magnitude of each head, of the
            keys and values that a query of the head sees.
        p_full_scale: range of the DAC of p, scalar or f32[H].
        scores_full_scale: range of the ADC of the scores before they are scaled, scalar or f32[H]
            (unit of q·k). Needed with `adc_bits`, and for noise in parts of it.
        out_full_scale: the same of the outputs (unit of v).
        noise: standard deviations of the noise, the same for both products; None: that of the
            profile, or a quiet device where there is none.
        key: random key of any kind; raw uint32 keys are accepted too. Needed with `noise`.
        first_row: index that ε takes the first row for, as in `optical_matmul`; query t of head h
            is row `h · T + t`, where heads are counted through the leading dimensions of q.
        return_peaks: whether to return the largest finite magnitude of the scores that are seen
            and of the outputs too, each before noise and ADC: what a calibration looks at.

    Returns:
        out f32[..., T, H, E], or a tuple of it and of the peaks f32[..., H, 2], of scores and of
        outputs, which are not differentiated.

    Raises:
        TypeError: `q`, `k` or `v` is not float32; `offset` or `lengths` is no integer.
        ValueError: shapes do not fit; `noise` without `key`; `adc_bits`, or noise in parts of the
            full scale, without `scores_full_scale` and `out_full_scale`; `dac_bits` is 1, which
            has no level for a probability of 0; `spec.array_rows` is given; a profile has
            crosstalk, which is known of weights alone; `lengths` is out of range; a full scale or
            a noise parameter is negative or NaN.
    """
    q, k, v = float32(_NAME, "q", q), float32(_NAME, "k", k), float32(_NAME, "v", v)
    device = device_of(_NAME, profile, spec, noise)
    spec, noise = device.spec, device.noise
    if spec.array_rows is not None:
        raise ValueError(
            f"{_NAME}: `spec.array_rows` must be None, got {spec.array_rows}: the second product "
            f"has as many inputs as there are keys; pass dataclasses.replace(spec, array_rows=None)"
        )
    if noise is not None and key is None:
        raise ValueError(
            f"{_NAME}: `noise` needs a `key`, got None; pass key=jax.random.key(seed), "
            f"or noise=NoiseModel() for a quiet device"
        )
    k, v = _with_all_heads(q, k, v)
    if device.profile is not None:
        k, v = _in_light(device.profile, k, v)
    *outer, queries, heads, depth = q.shape
    keys, width, m = k.shape[-3], v.shape[-1], math.prod(outer)
    adcs = {"scores_full_scale": scores_full_scale, "out_full_scale": out_full_scale}
    for name, value in adcs.items():
        if value is None and op_bits(spec.adc_bits):
            raise ValueError(
                f"{_NAME}: `adc_bits`={spec.adc_bits} needs `{name}`, got None; pass the range of "
                f"the ADC, a scalar or f32[h], or adc_bits=None"
            )
        if value is None and noise is not None and noise.unit == "full_scale":
            raise ValueError(
                f"{_NAME}: `noise` is in parts of the full scale of the ADC and needs `{name}`, "
                f"got None; pass that range, or noise=noise.to_signal(range)"
            )
    first = row_id(_NAME, first_row)
    attrs = Attrs(
        dac_bits=op_bits(spec.dac_bits),
        adc_bits=op_bits(spec.adc_bits),
        noisy=noise is not None,
        with_peaks=return_peaks,
    )

    def full_scale(name: str, value: Any, *, found: bool = False) -> jax.Array:
        if value is None:
            # The op finds a range that it is not given.
            extent = 0 if found and attrs.dac_bits else 1
            return jnp.ones((extent, 1), np.float32)
        value = magnitude(_NAME, name, value)
        if value.shape not in ((), (heads,)):
            raise ValueError(
                f"{_NAME}: `{name}` has shape {value.shape}, expected a scalar or {(heads,)}, the "
                f"heads of `q`"
            )
        return value.reshape(1, -1)

    ranges = [full_scale(name, value) for name, value in adcs.items()]
    factor = 1 / math.sqrt(depth) if scale is None else scale
    operands = Operands(
        q=q.reshape(m, queries, heads, depth),
        k=k.reshape(m, keys, heads, depth),
        v=v.reshape(m, keys, heads, width),
        seen=_seen(q.shape, keys, causal, offset, lengths),
        scale=scalar(_NAME, "scale", factor).astype(np.float32).reshape(1),
        q_full_scale=full_scale("q_full_scale", q_full_scale, found=True),
        k_full_scale=full_scale("k_full_scale", k_full_scale, found=True),
        p_full_scale=full_scale("p_full_scale", p_full_scale),
        v_full_scale=full_scale("v_full_scale", v_full_scale, found=True),
        scores_full_scale=ranges[0],
        out_full_scale=ranges[1],
        noise=_noise(noise, ranges),
        seed=jnp.zeros((1, 2), np.uint32) if noise is None else seed_words(_NAME, key),
        rows=jnp.zeros((1, 1), np.uint32) if noise is None else _ids(m, heads, queries, first),
    )
    out, *peaks = _differentiable(attrs, vary_together(operands))
    out = out.reshape(*outer, queries, heads, width)
    if not peaks:
        return out
    return out, jax.lax.stop_gradient(peaks[0]).reshape(*outer, heads, 2)


def _with_all_heads(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """k and v with a head for each of q; ValueError where the shapes do not fit."""
    if q.ndim < 3:
        raise ValueError(f"{_NAME}: `q` has shape {q.shape}, expected (..., t, h, d)")
    for name, value in (("k", k), ("v", v)):
        if value.ndim != q.ndim or value.shape[:-3] != q.shape[:-3]:
            raise ValueError(
                f"{_NAME}: `{name}` has shape {value.shape}, expected (..., s, h, "
                f"{'d' if name == 'k' else 'e'}) with the leading dimensions {q.shape[:-3]} of `q`"
            )
    if k.shape[-1] != q.shape[-1]:
        raise ValueError(
            f"{_NAME}: `k` has shape {k.shape}, expected (..., s, h, d) with d = {q.shape[-1]}, "
            f"the last extent of `q`"
        )
    if v.shape[-3:-1] != k.shape[-3:-1]:
        raise ValueError(
            f"{_NAME}: `v` has shape {v.shape}, expected (..., s, h, e) with s = {k.shape[-3]} and "
            f"h = {k.shape[-2]} of `k`"
        )
    heads, of_keys = q.shape[-2], k.shape[-2]
    if of_keys == heads:
        return k, v
    if of_keys == 0 or heads % of_keys:
        raise ValueError(
            f"{_NAME}: `k` has {of_keys} heads, expected a number that divides the {heads} of `q`"
        )
    return jnp.repeat(k, heads // of_keys, axis=-2), jnp.repeat(v, heads // of_keys, axis=-2)


def _in_light(profile: HardwareProfile, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keys and values after the losses of the light."""
    if profile.crosstalk is not None:
        raise ValueError(
            f"{_NAME}: `profile` has crosstalk, which is known of weights alone; expected one "
            f"without, such as dataclasses.replace(profile, crosstalk=None)"
        )
    transmission = profile.path.transmission
    return (k, v) if transmission == 1.0 else (k * transmission, v * transmission)


def _seen(shape: tuple[Any, ...], keys: Any, causal: bool, offset: Any, lengths: Any) -> jax.Array:
    """How many keys each query sees, i32[1 or m, 1 or h, t]."""
    *outer, _, heads, _ = shape
    if not causal and not (isinstance(offset, int) and offset == 0):
        raise ValueError(f"{_NAME}: `offset` is of use with `causal` alone, got {offset!r}")
    limits = np.iinfo(np.int32)
    offset = integers(
        _NAME, "offset", offset, "an integer", at_least=limits.min, at_most=limits.max
    )
    if offset.shape != ():
        raise ValueError(f"{_NAME}: `offset` has shape {offset.shape}, expected a scalar")
    if lengths is not None:
        largest = keys if isinstance(keys, int) else None
        lengths = integers(_NAME, "lengths", lengths, "integers", at_least=0, at_most=largest)
        per_head = lengths.ndim == len(outer) + 1
        to = (*outer, heads) if per_head else tuple(outer)
        if not _broadcasts(lengths.shape, to):
            raise ValueError(
                f"{_NAME}: `lengths` has shape {lengths.shape}, expected one that broadcasts to "
                f"{tuple(outer)}, or {(*outer, heads)} with the heads, of `q`"
            )
        if lengths.ndim and not per_head:
            lengths = lengths[..., None]
    return _seen_of(tuple(shape), keys, causal, offset, lengths)


@functools.partial(jax.jit, static_argnames=("shape", "keys", "causal"), inline=True)
def _seen_of(
    shape: tuple[Any, ...], keys: Any, causal: bool, offset: jax.Array, lengths: jax.Array | None
) -> jax.Array:
    *outer, queries, heads, _ = shape
    seen = jnp.broadcast_to(jnp.asarray(keys, np.int32), (1, 1, queries))
    if causal:
        # Cut before it is added, so that no sum overflows.
        position = jnp.maximum(_at_most(offset, keys), -jnp.asarray(queries, np.int32))
        places = jax.lax.broadcasted_iota(np.int32, (1, 1, queries), 2)
        seen = jnp.minimum(seen, places + (position + np.int32(1)))
    if lengths is not None:
        if lengths.ndim:
            of_heads = heads if lengths.shape[-1] != 1 else 1
            to = (*outer, of_heads)
            lengths = jnp.broadcast_to(lengths, to).reshape(math.prod(outer), of_heads, 1)
        seen = jnp.minimum(seen, _at_most(lengths, keys))
    return jnp.clip(seen, np.int32(0), jnp.asarray(keys, np.int32))


def _broadcasts(shape: tuple[Any, ...], to: tuple[Any, ...]) -> bool:
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(a in (1, b) for a, b in pairs)


def _at_most(value: jax.Array, limit: Any) -> jax.Array:
    """The smaller one, i32, of integers of any type."""
    if value.dtype.itemsize < 4:
        value = value.astype(np.int32)
    limit = jnp.asarray(limit, np.int32).astype(value.dtype)
    return jnp.minimum(value, limit).astype(np.int32)


def _ids(m: Any, heads: Any, queries: Any, first_row: jax.Array | None) -> jax.Array:
    """The number of the first query of each head, u32[m, h]."""
    first = jax.lax.iota(np.uint32, m * heads) * jnp.asarray(queries, np.uint32)
    return counted_from(first_row, first.reshape(m, heads))


def _noise(noise: NoiseModel | None, ranges: list[jax.Array]) -> jax.Array:
    """The parameters of both products, f32[1, 1 or h, 2, 4]."""
    if noise is None:
        return jnp.zeros((1, 1, 2, 4), np.float32)
    by_product = []
    for range_ in ranges:
        # Parts of a full scale are as many units as that has, on each head.
        of_signal = noise.to_signal(range_) if noise.unit == "full_scale" else noise
        parameters = []
        for name in ("thermal", "shot", "relative", "weight"):
            if jnp.shape(getattr(noise, name)) != ():
                raise ValueError(
                    f"{_NAME}: `noise.{name}` has shape {jnp.shape(getattr(noise, name))}, "
                    f"expected a scalar"
                )
            parameter = magnitude(_NAME, f"noise.{name}", getattr(of_signal, name))
            parameters.append(jnp.broadcast_to(parameter, range_.shape))
        by_product.append(jnp.stack(parameters, axis=-1))
    heads = max((p.shape[1] for p in by_product), key=lambda extent: extent != 1)
    same = [jnp.broadcast_to(p, (1, heads, 4)) for p in by_product]
    return jnp.stack(same, axis=2)


def _differentiated(attrs: Attrs, operands: Operands[jax.Array], wanted: Operands[bool]) -> Forward:
    wanted_of_heads = wanted._replace(q=False, k=False, v=False)
    chain = vars(attrs).copy()
    del chain["with_peaks"]
    static = optical_attention_grad.Attrs(**chain, with_ranges=any(wanted_of_heads))
    return Forward(op(attrs, operands), static, operands)


def _gradient(
    run: Any,
    attrs: optical_attention_grad.Attrs,
    operands: Operands[jax.Array],
    g: jax.Array,
) -> Operands[jax.Array | None]:
    results = run(attrs, optical_attention_grad.Operands(g, *operands))
    gradients = optical_attention_grad.Gradients(*results)
    return Operands(
        q=gradient_of(operands.q, gradients.q),
        k=gradient_of(operands.k, gradients.k),
        v=gradient_of(operands.v, gradients.v),
        scale=gradient_of(operands.scale, jnp.sum(gradients.scale, axis=1)),
        **{
            name: _of_few(getattr(operands, name), getattr(gradients, name))
            for name in (*_RANGES, "noise")
        },
        seen=None,
        seed=None,
        rows=None,
    )


_RANGES = tuple(name for name in Operands._fields if name.endswith("_full_scale"))


def _of_few(operand: jax.Array, gradient: jax.Array) -> jax.Array:
    """The gradient by head of an operand of which one may stand for all."""
    if operand.shape[1] != gradient.shape[1]:
        gradient = jnp.sum(gradient, axis=1, keepdims=True)
    return gradient_of(operand, gradient)


_differentiable = differentiable(
    Rule[Attrs, Operands[Any]](
        name=_NAME,
        primal=op,
        forward=_differentiated,
        gradient=functools.partial(_gradient, optical_attention_grad.op),
        definition=functools.partial(_gradient, optical_attention_grad.op.reference),
    )
)
