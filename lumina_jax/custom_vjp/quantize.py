"""The differentiable quantizer."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._arguments import float32, magnitude
from ..ops._op import vary_together
from ..ops.quantize import Attrs, Operands, absmax, op, slopes
from ..spec import check_bits, op_bits
from ._derivative import Forward, Rule, differentiable
from ._operands import gradient_of

_NAME = "quantize"


def quantize(v: ArrayLike, *, bits: int | None, full_scale: ArrayLike | None = None) -> jax.Array:
    """Round to the levels of a signed converter.

        Q = 2^(bits-1) - 1      s = full_scale / Q      clamp(rint(v / s), -Q, Q) · s

    with half to even. One bit is the sign, ±full_scale; None, or 24 bits and more, is `v` itself.

    The gradient is straight through where `|v| <= full_scale` and 0 beyond. A full scale that is
    given has the gradient of a learned step size: `(code - v/s) / Q` within, `sign v` beyond.

    Args:
        v: f32[..., n].
        bits: int from 1 to 32, or None.
        full_scale: scalar, or f32[n] along the last axis (unit of `v`). None is the largest finite
            |v|, which is not differentiated.

    Returns:
        f32[..., n]; NaN where `v` is not finite.

    Raises:
        TypeError: `v` is not float32, or `bits` no int.
        ValueError: `bits` is out of range; `full_scale` does not fit, is negative or NaN.
    """
    v = float32(_NAME, "v", v)
    resolution = op_bits(check_bits(_NAME, "bits", bits))
    if full_scale is None:
        scale = _largest(v)
    else:
        scale = magnitude(_NAME, "full_scale", full_scale)
        if scale.ndim and (scale.ndim > 1 or scale.shape != v.shape[-1:]):
            raise ValueError(
                f"{_NAME}: `full_scale` has shape {scale.shape}, "
                f"expected a scalar or {v.shape[-1:]}"
            )
    if not resolution:
        return v
    columns = v.shape[-1] if v.ndim else 1
    flat = v.reshape(math.prod(v.shape[:-1]), columns)
    operands = vary_together(Operands(v=flat, full_scale=scale.reshape(1, -1)))
    (value,) = _differentiable(Attrs(bits=resolution), operands)
    return value.reshape(v.shape)


# A call of its own in the jaxpr, which is one program for those who run that step by step.
_largest = jax.jit(absmax)


def _forward(attrs: Attrs, operands: Operands[jax.Array], wanted: Operands[bool]) -> Forward:
    del wanted
    return Forward(op(attrs, operands), attrs, operands)


def _gradient(attrs: Attrs, operands: Operands[jax.Array], g: jax.Array) -> Operands[jax.Array]:
    v, full_scale = operands
    by_v, by_full_scale = slopes(v, full_scale, attrs.bits)
    axes = (0,) if full_scale.shape == (1, v.shape[1]) else (0, 1)
    by_full_scale = jnp.sum(g * by_full_scale, axis=axes, keepdims=True)
    return Operands(gradient_of(v, g * by_v), gradient_of(full_scale, by_full_scale))


_differentiable = differentiable(
    Rule[Attrs, Operands[Any]](
        name=_NAME, primal=op, forward=_forward, gradient=_gradient, definition=_gradient
    )
)
