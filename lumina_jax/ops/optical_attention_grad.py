"""The gradient of `optical_attention`, straight through the converters and through the noise.

    dp, dv = the gradient of the chain p · v for g          as `optical_matmul_grad` has it
    ds     = scale · p · (dp - Σ dp·p)
    dq, dk = the gradient of the chain q · kᵀ for ds

Nothing is kept of the forward pass: scores, probabilities, outputs and ε are made again. No
derivative flows through the full scales that the op finds.

A query is bad where its output, or its g, is not finite. Its dq is NaN, and so are dk and dv of
the keys that it sees and all that its head has one of; nothing else is.

`with_ranges` asks for the gradients of the scale, of the full scales and of the noise, by head;
where they are not asked for they are 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .._attributes import Attributes
from . import causal_softmax_grad, optical_matmul_grad
from . import optical_attention as forward_op
from ._attention import (
    WHOLE,
    AttentionAttrs,
    by_head,
    forward,
    found_ranges,
    operand_types,
    out_operands,
    scores_operands,
)
from ._attention import Operands as ForwardOperands
from ._op import define
from ._signature import Signature, tensor

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Attrs(AttentionAttrs):
    """Attributes of the op."""

    with_ranges: bool


class Operands(NamedTuple, Generic[T]):
    """The gradient of the output, f32[m, t, h, e], and the operands of the forward op."""

    g: T
    q: T
    k: T
    v: T
    seen: T
    scale: T
    q_full_scale: T
    k_full_scale: T
    p_full_scale: T
    v_full_scale: T
    scores_full_scale: T
    out_full_scale: T
    noise: T
    seed: T
    rows: T


class Gradients(NamedTuple, Generic[T]):
    """The results: gradients by the forward operands of these names, by head."""

    q: T
    """f32[m, t, h, d]"""
    k: T
    """f32[m, s, h, d]"""
    v: T
    """f32[m, s, h, e]"""
    scale: T
    """f32[m, h], as those of the full scales."""
    q_full_scale: T
    k_full_scale: T
    p_full_scale: T
    v_full_scale: T
    scores_full_scale: T
    out_full_scale: T
    noise: T
    """f32[m, h, 2, 4]"""


def _signature(attrs: Attrs) -> Signature:
    forward_op.check_bits("optical_attention_grad", attrs.dac_bits)
    types = operand_types(attrs)
    head = tensor("f32", "m", "h")
    gradients = Gradients(
        types.q, types.k, types.v, *([head] * 7), noise=tensor("f32", "m", "h", 2, 4)
    )
    g = tensor("f32", "m", "t", "h", "e")
    return Signature(Operands(g, *types), gradients, whole=WHOLE)


def _reference(attrs: Attrs, operands: Operands[jax.Array]) -> Gradients[jax.Array]:
    g, *others = operands

    def one(operands: ForwardOperands[jax.Array], g: jax.Array) -> Gradients[jax.Array]:
        return _of_head(attrs, operands, g)

    gradients: Gradients[jax.Array] = by_head(attrs, one, ForwardOperands(*others), g)
    tensors = {name: jnp.moveaxis(getattr(gradients, name), 1, 2) for name in "qkv"}
    return gradients._replace(**tensors)


def _of_head(
    attrs: Attrs, operands: ForwardOperands[jax.Array], g: jax.Array
) -> Gradients[jax.Array]:
    nan, zero = np.float32(np.nan), np.float32(0)
    head = forward(attrs, operands)
    finite = jnp.all(jnp.isfinite(head.out) & jnp.isfinite(g), axis=1)
    bad = head.bad | (head.seen > 0) & ~(finite & jnp.all(jnp.isfinite(head.p), axis=1))
    computed = ((head.seen > 0) & ~bad)[:, None]

    def cleared(v: jax.Array) -> jax.Array:
        return jnp.where(computed, v, zero)

    def of_chain(forward: Any, g: jax.Array, y: jax.Array, *, transpose: bool) -> Any:
        chain = optical_matmul_grad.Attrs(
            **vars(attrs.chain(transpose_weight=transpose)),
            residual="pre_noise",
            grad_precision="float32",
            with_inputs=True,
            with_ranges=attrs.with_ranges,
        )
        rest = forward._asdict()
        del rest["bias"]
        inputs = optical_matmul_grad.Operands(g=g, saved=cleared(y), **rest)
        return optical_matmul_grad.Gradients(*optical_matmul_grad.op.reference(chain, inputs))

    p = cleared(head.p)
    forward_out = out_operands(head.operands, p)
    of_out = of_chain(forward_out, cleared(g), head.out_signal.y, transpose=False)
    (ds,) = causal_softmax_grad.op.reference(
        Attributes(),
        causal_softmax_grad.Operands(of_out.x, p, head.seen, jnp.ones(1, np.float32)),
    )
    by_scale = jnp.sum(ds * jnp.where(p == 0, zero, head.scores))
    ds = cleared(head.operands.scale * ds)
    forward_scores = scores_operands(head.operands)
    of_scores = of_chain(forward_scores, ds, head.scores_signal.y, transpose=True)

    of_bad = jnp.any(head.visible & bad[:, None], axis=0)[:, None]

    def of_ranges(v: jax.Array) -> jax.Array:
        return jnp.where(jnp.any(bad), nan, v) if attrs.with_ranges else jnp.zeros_like(v)

    ranges = [
        of_scores.x_full_scale,
        of_scores.w_full_scale,
        of_out.x_full_scale,
        of_out.w_full_scale,
        of_scores.y_full_scale,
        of_out.y_full_scale,
    ]
    noise = jnp.stack([of_scores.noise.sum(0), of_out.noise.sum(0)])
    return Gradients(
        jnp.where(bad[:, None], nan, of_scores.x),
        jnp.where(of_bad, nan, of_scores.w),
        jnp.where(of_bad, nan, of_out.w),
        of_ranges(by_scale),
        *[of_ranges(jnp.sum(r)) for r in ranges],
        noise=of_ranges(noise),
    )


def _found_in_rows(attrs: Attrs, operands: Operands[jax.Array]) -> dict[str, jax.Array]:
    return found_ranges(attrs, ForwardOperands(*operands[1:]))


op = define(
    "optical_attention_grad",
    attrs=Attrs,
    operands=Operands,
    signature=_signature,
    reference=_reference,
    found_in_rows=_found_in_rows,
)
