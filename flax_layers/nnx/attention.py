"""`OpticalMultiHeadDotProductAttention` for Flax NNX."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.linear import default_kernel_init
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
from .._context import RangeMode, check_size
from ..ranges import AttentionRanges, AxisName
from ._layer import OpticalLayer
from .general import OpticalDenseGeneral


class OpticalMultiHeadDotProductAttention(OpticalLayer):
    """`flax.nnx.MultiHeadAttention` on a photonic device.

    The projections are `OpticalDenseGeneral`, and both products of attention run the chain of
    `optical_attention`, in which queries, keys, probabilities and values are signals. Softmax,
    normalization and dropout are digital.

    What is causal or of some length is best said so, by `is_causal` and `lengths`: then scores are
    made a block at a time. An arbitrary `mask`, and dropout, have all scores in memory; they draw
    other noise, and give the same numbers where there is none.

    State:
        query, key, value, out: `OpticalDenseGeneral`; query_ln, key_ln: `nnx.LayerNorm`, None
            without `normalize_qk`: parameters as in `nnx.MultiHeadAttention`.
        q_full_scale, k_full_scale, v_full_scale, scores_full_scale, out_full_scale f32[]:
            `FullScale`, None for converters that are off. The range of the probabilities is 1.
        q_log_gain, k_log_gain, v_log_gain, scores_log_gain, out_log_gain f32[]: `nnx.Param`, only
            with `ranges="learn"`.
        cached_key, cached_value, cache_index: `nnx.Cache`, None before `init_cache`.
        rngs, dropout_rngs: the streams "noise" and "dropout", forked.

    Args:
        num_heads: heads, which share `qkv_features` evenly.
        in_features: of the input of the queries.
        qkv_features: of queries, keys and values of all heads; None: `in_features`.
        out_features: of the output; None: `in_features`.
        num_kv_heads: heads of keys and values, each of which serves as many of the queries; None:
            `num_heads`.
        in_kv_features: of the inputs of keys and values; None: `in_features`.
        profile, spec, noise, ranges, momentum, axis_name: as in `OpticalDense`, of all products. A
            profile with crosstalk is refused: it is known of weights alone.
        deterministic: no noise and no dropout.
        use_running_average: full scales stay as they are.
        dropout_rate: share of the probabilities that are dropped.
        broadcast_dropout: whether all examples and heads drop the same ones.
        use_bias, param_dtype, kernel_init, bias_init: of the projections, as in
            `nnx.LinearGeneral`.
        out_kernel_init, out_bias_init: of the last one; None: as the others.
        decode: whether to take one token at a time, and to keep keys and values in the cache.
        normalize_qk: whether queries and keys go through a `LayerNorm` without bias.
        rngs: streams "params", "noise" where noise is to be drawn, "dropout" where that is.

    Raises:
        ValueError: `qkv_features` is no multiple of `num_heads`, or that none of `num_kv_heads`;
            with a cache, a call is not of one token; and as `OpticalDense` and `optical_attention`.
        TypeError: as `OpticalDense`.
    """

    _ranges = AttentionRanges

    def __init__(
        self,
        num_heads: int,
        in_features: int,
        qkv_features: int | None = None,
        out_features: int | None = None,
        num_kv_heads: int | None = None,
        in_kv_features: int | None = None,
        *,
        profile: HardwareProfile | str | None = "lumina_nano_v1",
        spec: OpticalSpec | None = None,
        noise: NoiseModel | None = None,
        ranges: RangeMode = "calibrate",
        momentum: float = 0.95,
        deterministic: bool = False,
        use_running_average: bool = False,
        dropout_rate: float = 0.0,
        broadcast_dropout: bool = True,
        use_bias: bool = True,
        param_dtype: Dtype = jnp.float32,
        kernel_init: Initializer = default_kernel_init,
        out_kernel_init: Initializer | None = None,
        bias_init: Initializer = nnx.initializers.zeros_init(),
        out_bias_init: Initializer | None = None,
        decode: bool = False,
        normalize_qk: bool = False,
        axis_name: AxisName | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        name = type(self).__name__
        check_device(name, profile, spec, noise, ranges, momentum)
        check_size(name, "in_features", in_features)
        self.in_features = in_features
        self.qkv_features = in_features if qkv_features is None else qkv_features
        self.out_features = in_features if out_features is None else out_features
        self.head_dim = check_heads(name, num_heads, self.qkv_features)
        self.num_heads = num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        check_size(name, "num_kv_heads", self.num_kv_heads)
        if num_heads % self.num_kv_heads:
            raise ValueError(
                f"{name}: `num_kv_heads` is {self.num_kv_heads}, expected a number that divides "
                f"`num_heads`, {num_heads}"
            )
        self.in_kv_features = in_features if in_kv_features is None else in_kv_features
        self.dropout_rate = dropout_rate
        self.broadcast_dropout = broadcast_dropout
        self.decode = decode
        options: dict[str, Any] = {
            "profile": profile,
            "spec": spec,
            "noise": noise,
            "ranges": ranges,
            "momentum": momentum,
            "deterministic": deterministic,
            "use_running_average": use_running_average,
            "axis_name": axis_name,
        }
        # Streams of noise may be those of the parameters, whose initial values depend on the order.
        of_params = nnx.Rngs()
        setattr(of_params, "params", rngs.params)  # noqa: B010, a stream of any name
        dense = functools.partial(
            OpticalDenseGeneral, use_bias=use_bias, param_dtype=param_dtype, rngs=of_params,
            **options,
        )  # fmt: skip
        projected = functools.partial(dense, kernel_init=kernel_init, bias_init=bias_init)
        self.query = projected(in_features, (num_heads, self.head_dim))
        self.key = projected(self.in_kv_features, (self.num_kv_heads, self.head_dim))
        self.value = projected(self.in_kv_features, (self.num_kv_heads, self.head_dim))
        norm = functools.partial(
            nnx.LayerNorm, self.head_dim, use_bias=False, param_dtype=param_dtype, rngs=of_params
        )
        self.query_ln = nnx.data(norm() if normalize_qk else None)
        self.key_ln = nnx.data(norm() if normalize_qk else None)
        self.out = dense(
            (num_heads, self.head_dim),
            self.out_features,
            axis=(-2, -1),
            kernel_init=out_kernel_init or kernel_init,
            bias_init=out_bias_init or bias_init,
        )
        self.dropout_rngs = nnx.data(rngs.dropout.fork() if dropout_rate > 0.0 else None)
        self.cached_key: nnx.Cache[jax.Array] | None = nnx.data(None)
        self.cached_value: nnx.Cache[jax.Array] | None = nnx.data(None)
        self.cache_index: nnx.Cache[jax.Array] | None = nnx.data(None)
        super().__init__(**options, rngs=rngs)
        if self.rngs is not None:
            for part in (self.query, self.key, self.value, self.out):
                part.rngs = nnx.data(rngs.noise.fork())

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
        use_running_average: bool | None = None,
        decode: bool | None = None,
        noise: NoiseModel | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
    ) -> jax.Array:
        """Projects, attends and projects; arguments take precedence over attributes.

        Args:
            inputs_q: f32[..., T, in_features].
            inputs_k: f32[..., S, in_kv_features]; None: `inputs_q`.
            inputs_v: f32[..., S, in_kv_features]; None: `inputs_k`.
            mask: bool, broadcasts to [..., num_heads, T, S]: which keys a query sees.
            is_causal: whether a query sees the keys up to its own place alone.
            lengths: how many keys there are, as in `optical_attention`.
            deterministic, use_running_average, decode: as the attributes.
            noise: stands in for the noise of the device; its values may be traced.
            rngs: where keys come from: streams, one stream, or a key, of which each product and
                the dropout take a part.

        Returns:
            f32[..., T, out_features].
        """
        name = type(self).__name__
        q, k, v = check_inputs(name, inputs_q, inputs_k, inputs_v)
        quiet = self.deterministic if deterministic is None else deterministic
        parts = _parts(rngs)
        options: dict[str, Any] = {
            "deterministic": deterministic,
            "use_running_average": use_running_average,
            "noise": noise,
        }
        query = self.query(q, rngs=parts["query"], **options)
        key = self.key(k, rngs=parts["key"], **options)
        value = self.value(v, rngs=parts["value"], **options)
        if self.query_ln is not None and self.key_ln is not None:
            query, key = self.query_ln(query), self.key_ln(key)
        offset = jnp.zeros((), jnp.int32) if is_causal else None
        if self.decode if decode is None else decode:
            if self.cached_key is None or self.cached_value is None or self.cache_index is None:
                raise ValueError(f"{name}: there is no cache, expected a call of `init_cache`")
            check_step(name, self.cached_key[...], key)
            offset = self.cache_index[...]
            kept = (self.cached_key[...], self.cached_value[...])
            (key, value), self.cache_index[...] = cached(kept, (key, value), offset)
            self.cached_key[...], self.cached_value[...] = key, value
        factors, largest = None, 1.0
        if self.dropout_rate > 0.0 and not quiet:
            shape = (*query.shape[:-3], self.num_heads, query.shape[-3], key.shape[-3])
            factors, largest = dropped(
                self._dropout_key(parts["dropout"]), self.dropout_rate, shape,
                broadcast=self.broadcast_dropout,
            )  # fmt: skip
        seen = None if lengths is None else jnp.asarray(lengths)
        sight = Sight(offset, seen, mask, factors, largest)
        attended = self._run(
            functools.partial(calibrated_attention, sight=sight),
            query,
            key,
            value,
            rngs=parts["attention"],
            **options,
        )
        return self.out(attended, rngs=parts["out"], **options)

    def init_cache(self, input_shape: Sequence[int], dtype: Dtype = jnp.float32) -> None:
        """Makes an empty cache for inputs of that shape, (..., largest length, features)."""
        shape = (*input_shape[:-1], self.num_kv_heads, self.head_dim)
        self.cached_key = nnx.Cache(jnp.zeros(shape, dtype))
        self.cached_value = nnx.Cache(jnp.zeros(shape, dtype))
        self.cache_index = nnx.Cache(jnp.array(0, jnp.int32))

    def _dropout_key(self, rngs: nnx.Rngs | nnx.RngStream | jax.Array | None) -> jax.Array:
        stream: Any = self.dropout_rngs if rngs is None else rngs
        if isinstance(stream, nnx.Rngs):
            stream = stream.dropout
        return stream() if isinstance(stream, nnx.RngStream) else stream

    def set_view(
        self,
        deterministic: bool | None = None,
        use_running_average: bool | None = None,
        decode: bool | None = None,
    ) -> None:
        """Called by `nnx.view`.

        Args:
            deterministic: no noise and no dropout.
            use_running_average: full scales stay as they are.
            decode: one token at a time.
        """
        super().set_view(deterministic, use_running_average)
        if decode is not None:
            self.decode = decode


_PARTS = ("query", "key", "value", "attention", "out", "dropout")


def _parts(rngs: nnx.Rngs | nnx.RngStream | jax.Array | None) -> dict[str, Any]:
    """What each part of a call draws from."""
    if rngs is None or isinstance(rngs, nnx.Rngs | nnx.RngStream):
        return dict.fromkeys(_PARTS, rngs)
    return dict(zip(_PARTS, jax.random.split(rngs, len(_PARTS)), strict=True))
