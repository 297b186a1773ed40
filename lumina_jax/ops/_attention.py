"""Attention of one head in plain jnp, which its forward and backward ops share.

A query is bad where a number of it, or of a key or value that it sees, is not finite. To both
products it is a query that sees nothing, and what comes of it is NaN; what no query sees is 0 to
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .._attributes import Attributes
from . import causal_softmax, quantize
from ._chain import ChainAttrs, Signal, signals
from ._chain import Operands as ChainOperands
from ._signature import Tensor, tensor
from .optical_noise import seed_of_part

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class AttentionAttrs(Attributes):
    """Attributes that both ops have."""

    dac_bits: int
    """Of the DACs of q, k, the probabilities and v; 0 is none, as 24 and more are."""
    adc_bits: int
    """Of the ADCs of scores and outputs."""
    noisy: bool
    """Whether there is noise; without it noise, seed and ids are not looked at."""

    def chain(self, *, transpose_weight: bool) -> ChainAttrs:
        """Those of the chain of one product."""
        return ChainAttrs(
            dac_bits=self.dac_bits,
            weight_bits=self.dac_bits,
            adc_bits=self.adc_bits,
            transpose_weight=transpose_weight,
            noisy=self.noisy,
        )


class Operands(NamedTuple, Generic[T]):
    """Operands of the forward op."""

    q: T
    """f32[m, t, h, d]"""
    k: T
    """f32[m, s, h, d]"""
    v: T
    """f32[m, s, h, e]"""
    seen: T
    """i32[1 or m, 1 or h, t]: how many keys a query sees; below 0 and beyond s as 0 and s."""
    scale: T
    """f32[1 or m]"""
    q_full_scale: T
    """f32[0, 1 or m, 1 or h]; none is the largest finite |q| of the head, which the op finds."""
    k_full_scale: T
    """The same of the keys that a query of the head sees."""
    p_full_scale: T
    """f32[1 or m, 1 or h]: of the DAC of the probabilities."""
    v_full_scale: T
    """As `k_full_scale`."""
    scores_full_scale: T
    """f32[1 or m, 1 or h]: of the ADC of the scores, before they are scaled."""
    out_full_scale: T
    """f32[1 or m, 1 or h]: of the ADC of the outputs."""
    noise: T
    """f32[1 or m, 1 or h, 2, 4]: of scores and of outputs thermal, shot, relative, weight."""
    seed: T
    """u32[1 or m, 2]"""
    rows: T
    """u32[m, h]: the id of the first query of each head; the others follow."""


def operand_types(attrs: AttentionAttrs) -> Operands[Tensor]:
    """Types of the operands; without noise the op does not look at the ids."""
    found, given = tensor("f32", "m*", "h?"), tensor("f32", "m?", "h?")
    return Operands(
        q=tensor("f32", "m", "t", "h", "d"),
        k=tensor("f32", "m", "s", "h", "d"),
        v=tensor("f32", "m", "s", "h", "e"),
        seen=tensor("i32", "m?", "h?", "t"),
        scale=tensor("f32", "m?"),
        q_full_scale=found,
        k_full_scale=found,
        p_full_scale=given,
        v_full_scale=found,
        scores_full_scale=given,
        out_full_scale=given,
        noise=tensor("f32", "m?", "h?", 2, 4),
        seed=tensor("u32", "m?", 2),
        rows=tensor("u32", "m", "h") if attrs.noisy else tensor("u32", "m?", "h?"),
    )


WHOLE = frozenset({"t", "s", "d", "e"})
"""Dimensions of which a shard must hold all."""


def found_ranges(attrs: AttentionAttrs, operands: Operands[jax.Array]) -> dict[str, jax.Array]:
    """The full scales that are left to the op, f32[m, h]."""
    del attrs
    keys = operands.k.shape[1]
    most = jnp.max(operands.seen, axis=2, initial=np.int32(0))
    used = jax.lax.broadcasted_iota(np.int32, (1, keys, 1), 1) < most[:, None, :]
    values = {
        "q_full_scale": operands.q,
        "k_full_scale": jnp.where(used[..., None], operands.k, np.float32(0)),
        "v_full_scale": jnp.where(used[..., None], operands.v, np.float32(0)),
    }

    def peak(value: jax.Array) -> jax.Array:
        return jax.vmap(jax.vmap(quantize.absmax, in_axes=1))(value)

    return {
        name: peak(value) for name, value in values.items() if getattr(operands, name).shape[0] == 0
    }


def by_head(
    attrs: AttentionAttrs, function: Callable[..., Any], operands: Operands[jax.Array], *others: Any
) -> Any:
    """`function` of the operands of each head and of `others` [m, t, h, ...]: [m, h, ...]."""
    operands = operands._replace(**found_ranges(attrs, operands))
    m, _, h, _ = operands.q.shape

    def of_heads(operand: jax.Array, lacks_heads: bool) -> jax.Array:
        operand = operand[:, None] if lacks_heads else operand
        return jnp.broadcast_to(operand, (m, h, *operand.shape[2:]))

    whole = {"q", "k", "v"}
    stacked = {
        name: jnp.moveaxis(operand, 2, 1)
        if name in whole
        else of_heads(operand, name in ("scale", "seed"))
        for name, operand in operands._asdict().items()
    }
    moved = [jnp.moveaxis(other, 2, 1) for other in others]
    return jax.vmap(jax.vmap(function))(Operands(**stacked), *moved)


class Head(NamedTuple):
    """One head on its way."""

    operands: Operands[jax.Array]
    """Of this head alone, cleared of what is bad or not seen."""
    visible: jax.Array
    """bool[t, s]: which keys a query sees, a bad one too."""
    seen: jax.Array
    """i32[t]: how many keys it is computed with."""
    bad: jax.Array
    """bool[t]"""
    scores_signal: Signal
    scores: jax.Array
    """f32[t, s]: what the ADC gives."""
    p: jax.Array
    """f32[t, s]"""
    out_signal: Signal
    out: jax.Array
    """f32[t, e]: what the ADC gives."""


def forward(attrs: AttentionAttrs, operands: Operands[jax.Array]) -> Head:
    """All of one head, whose operands have neither m nor h."""
    keys = operands.k.shape[0]
    seen = jnp.clip(operands.seen, np.int32(0), jnp.asarray(keys, np.int32))
    visible = causal_softmax.is_seen(seen, keys)
    finite = [jnp.all(jnp.isfinite(v), axis=1) for v in (operands.q, operands.k, operands.v)]
    bad_key = jnp.any(visible, axis=0) & ~(finite[1] & finite[2])
    bad = jnp.any(visible & bad_key[None, :], axis=1) | (~finite[0] & (seen > 0))
    seen = jnp.where(bad, np.int32(0), seen)
    used = jnp.any(visible, axis=0) & ~bad_key

    def cleared(v: jax.Array, keep: jax.Array) -> jax.Array:
        return jnp.where(keep[:, None], v, np.float32(0))

    operands = operands._replace(
        q=cleared(operands.q, seen > 0), k=cleared(operands.k, used), v=cleared(operands.v, used)
    )
    chain = attrs.chain(transpose_weight=True)
    (scores_signal,) = signals(chain, scores_operands(operands))
    scores = scores_signal.converted(attrs.adc_bits, operands.scores_full_scale.reshape(1))
    (p,) = causal_softmax.op.reference(
        Attributes(), causal_softmax.Operands(scores, seen, operands.scale.reshape(1))
    )
    chain = attrs.chain(transpose_weight=False)
    (out_signal,) = signals(chain, out_operands(operands, p))
    out = out_signal.converted(attrs.adc_bits, operands.out_full_scale.reshape(1))
    return Head(operands, visible, seen, bad, scores_signal, scores, p, out_signal, out)


def scores_operands(operands: Operands[jax.Array]) -> ChainOperands[jax.Array]:
    """Those of q · kᵀ of one head."""
    return _chain_operands(operands, 0, operands.q, operands.k, operands.k.shape[0])


def out_operands(operands: Operands[jax.Array], p: jax.Array) -> ChainOperands[jax.Array]:
    """Those of p · v of one head."""
    return _chain_operands(operands, 1, p, operands.v, operands.v.shape[1])


def _chain_operands(
    operands: Operands[jax.Array], product: int, x: jax.Array, w: jax.Array, columns: Any
) -> ChainOperands[jax.Array]:
    ranges = (
        (operands.q_full_scale, operands.k_full_scale, operands.scores_full_scale),
        (operands.p_full_scale, operands.v_full_scale, operands.out_full_scale),
    )
    x_range, w_range, y_range = (range_.reshape(1) for range_ in ranges[product])
    return ChainOperands(
        x=x,
        w=w,
        bias=jnp.zeros(1, np.float32),
        x_full_scale=x_range,
        w_full_scale=w_range,
        y_full_scale=y_range,
        noise=operands.noise[product].reshape(1, 4),
        seed=seed_of_part(operands.seed, product).reshape(1, 2),
        rows=operands.rows + jax.lax.iota(np.uint32, x.shape[0]),
        columns=jax.lax.iota(np.uint32, columns),
    )
