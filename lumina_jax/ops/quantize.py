"""The converter: a signed mid-tread quantizer.

    Q = 2^(bits-1) - 1      s = full_scale / Q      code = clamp(rint(v / s), -Q, Q)

with `rint` half to even; the value is `code · s`. One bit is the sign: two levels, ±full_scale.
0 bits, or 24 and more, is no converter at all.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .._attributes import Attributes
from ._op import define
from ._signature import Signature, tensor

T = TypeVar("T")


def is_off(bits: int) -> bool:
    """Whether a converter of that many bits is left out."""
    return bits == 0 or bits >= 24


def largest_code(bits: int) -> int:
    """Q; the codes are -Q … Q."""
    return max(2 ** (bits - 1) - 1, 1)


def step(full_scale: jax.Array, bits: int) -> jax.Array:
    """Distance of two neighboring levels."""
    # XLA would replace the division by a constant Q by a product with its rounded reciprocal, so
    # this is Q in a way that it does not see through: no valid full scale is negative.
    q = jnp.maximum(np.float32(largest_code(bits)), jnp.minimum(full_scale, np.float32(0)))
    return full_scale / q


def code(v: jax.Array, full_scale: jax.Array, bits: int) -> jax.Array:
    """The integer codes, as f32, of finite values."""
    if bits == 1:
        return jnp.where(v < 0, np.float32(-1), np.float32(1))
    q = np.float32(largest_code(bits))
    return jnp.clip(jnp.round(_ratio(v, full_scale, bits)), -q, q)


@functools.partial(jax.jit, static_argnames="axis", inline=True)
def absmax(v: jax.Array, axis: int | None = None) -> jax.Array:
    """Largest finite magnitude, 0 where there is none; not differentiated."""
    v = jax.lax.stop_gradient(v)
    finite = jnp.where(jnp.isfinite(v), jnp.abs(v), np.float32(0))
    return jnp.max(finite, axis=axis, initial=np.float32(0))


def quantized(v: jax.Array, full_scale: jax.Array, bits: int) -> jax.Array:
    """The nearest levels to `v`.

    NaN where `v` is not finite and where the full scale is negative or NaN; 0 for a full scale
    of 0. Its derivatives are `slopes`, however often it is differentiated.
    """
    return v if is_off(bits) else _level(bits, v, full_scale)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _level(bits: int, v: jax.Array, full_scale: jax.Array) -> jax.Array:
    value = code(v, full_scale, bits) * step(full_scale, bits)
    return jnp.where(_is_valid(v, full_scale), value, np.float32(np.nan))


@_level.defjvp
def _straight_through(
    bits: int, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    v, full_scale = primals
    by_v, by_full_scale = slopes(v, full_scale, bits)
    return _level(bits, v, full_scale), tangents[0] * by_v + tangents[1] * by_full_scale


@functools.partial(jax.jit, static_argnames="bits", inline=True)
def slopes(v: jax.Array, full_scale: jax.Array, bits: int) -> tuple[jax.Array, jax.Array]:
    """`(∂value/∂v, ∂value/∂full_scale)`, straight through the rounding.

    Within the full scale `(1, (code - v/s) / Q)`, with the sign of `v` as the second for one bit;
    beyond it `(0, sign v)`. NaN where the value is. The second is the learned step size of Esser
    et al., "Learned Step Size Quantization", ICLR 2020.

    They have no derivatives: straight through, `code · s` follows `v`, so that `code - v/s` stays
    as it is, and the masks are constant but at their steps.
    """
    v, full_scale = jax.lax.stop_gradient((v, full_scale))
    if is_off(bits):
        return jnp.ones_like(v), jnp.zeros_like(v)
    inside = jnp.abs(v) <= full_scale
    sign = jnp.where(v < 0, np.float32(-1), np.float32(1))
    by_full_scale = sign
    if bits > 1:
        rounding = code(v, full_scale, bits) - _ratio(v, full_scale, bits)
        by_full_scale = jnp.where(inside, rounding / np.float32(largest_code(bits)), sign)
    valid, nan = _is_valid(v, full_scale), np.float32(np.nan)
    return (
        jnp.where(valid, inside.astype(np.float32), nan),
        jnp.where(valid, by_full_scale, nan),
    )


def _ratio(v: jax.Array, full_scale: jax.Array, bits: int) -> jax.Array:
    s = step(full_scale, bits)
    divisor = jnp.where(s == 0, np.float32(1), s)
    # Nor is a division by a broadcast left alone, so this depends on every element.
    return v / jnp.where(jnp.isfinite(v), divisor, np.float32(np.nan))


def _is_valid(v: jax.Array, full_scale: jax.Array) -> jax.Array:
    return jnp.isfinite(v) & (full_scale >= 0)


@dataclass(frozen=True, kw_only=True)
class Attrs(Attributes):
    """Attributes of the op."""

    bits: int


class Operands(NamedTuple, Generic[T]):
    """Operands of the op."""

    v: T
    """f32[m, n]"""
    full_scale: T
    """f32[1 or m, 1 or n]"""


def _signature(attrs: Attrs) -> Signature:
    del attrs
    v = tensor("f32", "m", "n")
    return Signature(Operands(v=v, full_scale=tensor("f32", "m?", "n?")), (v,))


def _reference(attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    return [quantized(operands.v, operands.full_scale, attrs.bits)]


op = define("quantize", attrs=Attrs, operands=Operands, signature=_signature, reference=_reference)
