"""The two products of attention in models of Flax, on a device.

Attention layers of Flax project, and hand queries, keys and values to their `attention_fn`. The
projections are layers that are converted by themselves; what stands in for the function are these.
A query that sees no key gives 0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec

from .._attention import Sight, calibrated_attention, dropped
from .._context import RangeMode
from .._device import device
from ..linen._layer import run
from ..nnx._layer import OpticalLayer
from ..ranges import AttentionRanges, AxisName
from ._arithmetic import not_float32
from ._rules import ConversionRule

NAME = "optical_attention"
"""What reports call it."""


def attention_fault(module: Any, plain: Callable[..., Any], dtype: Any) -> str:
    """Why the products of an attention layer stay digital; "" where they need not.

    Args:
        module: the layer, of either family.
        plain: the function of its family.
        dtype: what it computes in.
    """
    if module.attention_fn is not plain:
        return "has an `attention_fn` of its own"
    own = ("qk_attn_weights_einsum_cls", "attn_weights_value_einsum_cls")
    given = [name for name in own if getattr(module, name, None) is not None]
    return f"has a `{given[0]}` of its own" if given else not_float32(dtype)


def device_fault(rule: ConversionRule) -> str:
    """Why the device of a rule is none for attention, as `optical_attention` has it; or ""."""
    hardware = device(NAME, rule.profile, rule.spec, rule.noise)
    if hardware.crosstalk is not None:
        return "its profile has crosstalk, which is known of weights alone"
    if hardware.spec.dac_bits == 1:
        return "its DAC of one bit has no level for a probability of 0"
    return ""


def _op(
    query: jax.Array, key: jax.Array, mask: Any, causal: bool, dropout: tuple[Any, float, bool]
) -> Callable[..., Any]:
    """`calibrated_attention` of what a query sees."""
    rng, rate, broadcast = dropout
    kept, largest = None, 1.0
    if rng is not None and rate > 0:
        shape = (*query.shape[:-3], query.shape[-2], query.shape[-3], key.shape[-3])
        kept, largest = dropped(rng, rate, shape, broadcast=broadcast)
    offset = jnp.zeros((), jnp.int32) if causal else None
    sight = Sight(offset=offset, mask=mask, kept=kept, largest=largest)
    return functools.partial(calibrated_attention, sight=sight)


class LinenAttention(nn.Module):
    """What `nn.dot_product_attention` computes, for the layer whose scope it has."""

    profile: HardwareProfile | str | None
    spec: OpticalSpec | None
    noise: NoiseModel | None
    ranges: RangeMode
    momentum: float
    axis_name: AxisName | None
    deterministic: bool

    @nn.compact
    def __call__(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        mask: jax.Array | None = None,
        dropout_rng: jax.Array | None = None,
        dropout_rate: float = 0.0,
        broadcast_dropout: bool = True,
        deterministic: bool = True,
    ) -> jax.Array:
        """f32[..., queries, heads, features] of queries and of keys and values like them."""
        rng = None if deterministic else dropout_rng
        return run(
            self,
            _op(query, key, mask, False, (rng, dropout_rate, broadcast_dropout)),
            query,
            key,
            value,
            deterministic=None,
            noise=None,
            ranges=AttentionRanges,
        )


class NnxAttention(OpticalLayer):
    """What `nnx.dot_product_attention` computes, the `attention_fn` of a converted layer."""

    _ranges = AttentionRanges

    def __init__(self, rule: ConversionRule) -> None:
        super().__init__(
            **rule.options, deterministic=False, use_running_average=False, rngs=nnx.Rngs(params=0)
        )

    def __call__(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        *,
        mask: jax.Array | None = None,
        dropout_rng: jax.Array | None = None,
        dropout_rate: float = 0.0,
        broadcast_dropout: bool = True,
        deterministic: bool = True,
        is_causal: bool = False,
        **others: Any,
    ) -> jax.Array:
        """f32[..., queries, heads, features] of queries and of keys and values like them."""
        if others.get("module") is not None:
            raise ValueError(f"{NAME}: `sow_weights` is True, expected False: no scores are kept")
        rng = None if deterministic else dropout_rng
        return self._run(
            _op(query, key, mask, is_causal, (rng, dropout_rate, broadcast_dropout)),
            query,
            key,
            value,
            deterministic=None,
            use_running_average=None,
            noise=None,
            rngs=None,
        )
