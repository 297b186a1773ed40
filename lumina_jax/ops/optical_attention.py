"""Attention whose two products run the whole signal chain, and the softmax between them.

    s = ADC(q_q · k_qᵀ + σ·ε)        p = softmax(scale · s)        out = ADC(p_q · v_q + σ·ε)

with the chain of `_chain.py`, in which all four factors are signals, and the softmax over the keys
before `seen` of the query. The ids of noise are the
queries of all heads, and the columns of each product from 0 on; the outputs draw from the seed plus
0xD1342543DE82EF95.

A query that sees nothing has output 0. One that is not finite, or that sees a key or value that is
not, has output NaN, and no other query has.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from . import quantize
from ._attention import (
    WHOLE,
    AttentionAttrs,
    by_head,
    forward,
    found_ranges,
    operand_types,
)
from ._attention import Operands as Operands
from ._op import Factors, define
from ._signature import Signature, tensor


@dataclass(frozen=True, kw_only=True)
class Attrs(AttentionAttrs):
    """Attributes of the op."""

    with_peaks: bool
    """Whether to give, f32[m, h, 2], the largest finite magnitudes of scores that are seen and of
    outputs, each before noise and ADC, 0 where there is none."""


def check_bits(op: str, dac_bits: int) -> None:
    """Raises ValueError for a DAC whose levels are the signs alone."""
    if dac_bits == 1:
        raise ValueError(
            f"{op}: `dac_bits` must not be 1, which has no level for a probability of 0"
        )


def _signature(attrs: Attrs) -> Signature:
    check_bits("optical_attention", attrs.dac_bits)
    peaks = (tensor("f32", "m", "h", 2),) if attrs.with_peaks else ()
    return Signature(operand_types(attrs), (tensor("f32", "m", "t", "h", "e"), *peaks), whole=WHOLE)


def _reference(attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    def one(operands: Operands[jax.Array]) -> tuple[jax.Array, jax.Array]:
        head = forward(attrs, operands)
        computed = (head.seen > 0)[:, None]
        out = jnp.where(computed, head.out, np.float32(0))
        of_scores = jnp.where(computed & head.visible, head.scores_signal.y, np.float32(0))
        of_out = jnp.where(computed, head.out_signal.y, np.float32(0))
        peaks = jnp.stack([quantize.absmax(of_scores), quantize.absmax(of_out)])
        return jnp.where(head.bad[:, None], np.float32(np.nan), out), peaks

    out, peaks = by_head(attrs, one, operands)
    return [jnp.moveaxis(out, 1, 2), *([peaks] if attrs.with_peaks else [])]


def _factors(attrs: Attrs, operands: Operands[jax.Array]) -> tuple[Factors, ...]:
    def one(operands: Operands[jax.Array]) -> tuple[jax.Array, ...]:
        head = forward(attrs, operands)
        return head.operands.q, head.operands.k.T, head.p, head.operands.v

    q, k, p, v = by_head(attrs, one, operands)
    return Factors(q, k), Factors(p, v)


op = define(
    "optical_attention",
    attrs=Attrs,
    operands=Operands,
    signature=_signature,
    reference=_reference,
    factors=_factors,
    found_in_rows=found_ranges,
)
