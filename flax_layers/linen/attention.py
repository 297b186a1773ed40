"""`OpticalMultiHeadDotProductAttention` for Flax Linen."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.linear import default_kernel_init
from flax.typing import Dtype, Initializer
from jax.typing import ArrayLike

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec

from .._attention import (
    Sight,
    cached,
    calibrated_attention,
    check_device,
    check_heads,
    check_inputs,
    check_step,
    dropped,
)
from .._context import RangeMode
from ..ranges import AttentionRanges, AxisName
from ._layer import run
from .general import OpticalDenseGeneral


class OpticalMultiHeadDotProductAttention(nn.Module):
    """`flax.linen.MultiHeadDotProductAttention` on a photonic device.

    The projections are `OpticalDenseGeneral`, and both products of attention run the chain of
    `optical_attention`, in which queries, keys, probabilities and values are signals. Softmax,
    normalization and dropout are digital.

    What is causal or of some length is best said so, by `is_causal` and `lengths`: then scores are
    made a block at a time. An arbitrary `mask`, and dropout, have all scores in memory; they draw
    other noise, and give the same numbers where there is none.

    Parameters, collection "params": query, key, value and out, each as in `OpticalDenseGeneral`,
        query_ln and key_ln with `normalize_qk`: as in `nn.MultiHeadDotProductAttention`, so its
        checkpoints fit. q_log_gain, k_log_gain, v_log_gain, scores_log_gain, out_log_gain []: only
        with `ranges="learn"`.
    Variables, collection "ranges": those of the projections, and, only for converters that are on,
        q_full_scale, k_full_scale, v_full_scale, scores_full_scale, out_full_scale f32[]; 0 until
        calibrated. The range of the probabilities is 1.
    Variables, collection "cache", with `decode`: cached_key, cached_value, cache_index, as in Flax.
    Random streams "noise" as in `OpticalDense`, and "dropout".

    Args:
        num_heads: heads, which share `qkv_features` evenly.
        qkv_features: of queries, keys and values of all heads; None: those of the queries' input.
        out_features: of the output; None: those of the queries' input.
        profile, spec, noise, ranges, momentum, axis_name: as in `OpticalDense`, of all products. A
            profile with crosstalk is refused: it is known of weights alone.
        deterministic: no noise and no dropout, and full scales stay as they are.
        dropout_rate: share of the probabilities that are dropped.
        broadcast_dropout: whether all examples and heads drop the same ones.
        use_bias, param_dtype, kernel_init, bias_init: of the projections, as in `nn.DenseGeneral`.
        out_kernel_init, out_bias_init: of the last one; None: as the others.
        decode: whether to take one token at a time, and to keep keys and values in the cache. It is
            made in `init`, with the length of the input.
        normalize_qk: whether queries and keys go through a `LayerNorm` without bias.

    Raises:
        ValueError: `qkv_features` is no multiple of `num_heads`; with a cache, a call is not of one
            token; and as `OpticalDense` and `optical_attention`.
        TypeError: as `OpticalDense`.
        flax.errors.InvalidRngError: something is to be drawn and there is no stream.
    """

    num_heads: int
    qkv_features: int | None = None
    out_features: int | None = None
    profile: HardwareProfile | str | None = "lumina_nano_v1"
    spec: OpticalSpec | None = None
    noise: NoiseModel | None = None
    ranges: RangeMode = "calibrate"
    momentum: float = 0.95
    deterministic: bool = False
    dropout_rate: float = 0.0
    broadcast_dropout: bool = True
    use_bias: bool = True
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = default_kernel_init
    out_kernel_init: Initializer | None = None
    bias_init: Initializer = nn.initializers.zeros_init()
    out_bias_init: Initializer | None = None
    decode: bool = False
    normalize_qk: bool = False
    axis_name: AxisName | None = None

    @nn.compact
    def __call__(
        self,
        inputs_q: jax.Array,
        inputs_k: jax.Array | None = None,
        inputs_v: jax.Array | None = None,
        *,
        mask: jax.Array | None = None,
        is_causal: bool = False,
        lengths: ArrayLike | None = None,
        deterministic: bool | None = None,
        noise: NoiseModel | None = None,
        dropout_rng: jax.Array | None = None,
    ) -> jax.Array:
        """Projects, attends and projects.

        Args:
            inputs_q: f32[..., T, features].
            inputs_k: f32[..., S, features]; None: `inputs_q`.
            inputs_v: f32[..., S, features]; None: `inputs_k`.
            mask: bool, broadcasts to [..., num_heads, T, S]: which keys a query sees.
            is_causal: whether a query sees the keys up to its own place alone.
            lengths: how many keys there are, as in `optical_attention`.
            deterministic: takes precedence over the field.
            noise: takes precedence over the field and the profile; its values may be traced.
            dropout_rng: key of the dropout; None: from the stream "dropout".

        Returns:
            f32[..., T, out_features].
        """
        name = type(self).__name__
        check_device(name, self.profile, self.spec, self.noise, self.ranges, self.momentum)
        q, k, v = check_inputs(name, inputs_q, inputs_k, inputs_v)
        width = q.shape[-1]
        qkv_features = width if self.qkv_features is None else self.qkv_features
        depth = check_heads(name, self.num_heads, qkv_features)
        quiet: bool = self.deterministic if deterministic is None else deterministic
        dense = functools.partial(
            OpticalDenseGeneral,
            profile=self.profile,
            spec=self.spec,
            noise=self.noise,
            ranges=self.ranges,
            momentum=self.momentum,
            use_bias=self.use_bias,
            param_dtype=self.param_dtype,
            axis_name=self.axis_name,
        )
        projected = functools.partial(
            dense, (self.num_heads, depth), kernel_init=self.kernel_init, bias_init=self.bias_init
        )
        query, key, value = (
            projected(name=part)(x, deterministic=quiet, noise=noise)
            for part, x in (("query", q), ("key", k), ("value", v))
        )
        if self.normalize_qk:
            norm = functools.partial(nn.LayerNorm, use_bias=False, param_dtype=self.param_dtype)
            query, key = norm(name="query_ln")(query), norm(name="key_ln")(key)
        offset = jnp.zeros((), jnp.int32) if is_causal else None
        if self.decode:
            is_filled = self.has_variable("cache", "cached_key")
            kept_key = self.variable("cache", "cached_key", jnp.zeros, key.shape, key.dtype)
            kept_value = self.variable("cache", "cached_value", jnp.zeros, value.shape, value.dtype)
            index = self.variable("cache", "cache_index", lambda: jnp.array(0, jnp.int32))
            if is_filled:
                check_step(name, kept_key.value, key)
                offset = index.value
                kept = (kept_key.value, kept_value.value)
                (key, value), index.value = cached(kept, (key, value), offset)
                kept_key.value, kept_value.value = key, value
        factors, largest = None, 1.0
        if self.dropout_rate > 0.0 and not quiet:
            rng = self.make_rng("dropout") if dropout_rng is None else dropout_rng
            shape = (*query.shape[:-3], self.num_heads, query.shape[-3], key.shape[-3])
            factors, largest = dropped(
                rng, self.dropout_rate, shape, broadcast=self.broadcast_dropout
            )
        seen = None if lengths is None else jnp.asarray(lengths)
        sight = Sight(offset, seen, mask, factors, largest)
        attended = run(
            self,
            functools.partial(calibrated_attention, sight=sight),
            query,
            key,
            value,
            deterministic=deterministic,
            noise=noise,
            ranges=AttentionRanges,
        )
        return dense(
            width if self.out_features is None else self.out_features,
            axis=(-2, -1),
            kernel_init=self.out_kernel_init or self.kernel_init,
            bias_init=self.out_bias_init or self.bias_init,
            name="out",
        )(attended, deterministic=quiet, noise=noise)
