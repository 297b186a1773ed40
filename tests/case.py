"""What a case of an op is, and what models of several ops are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from operands import SEED
from oracle import is_off, levels

ROUNDING = 3e-6
"""Relative to the largest output: sums of at most 40 terms in another order, and the other
logarithm, sine and cosine of the reference's noise, or exponential."""


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """A differentiable public function, and its model; both map `arguments` to one array."""

    function: Callable[..., jax.Array]
    model: Callable[..., jax.Array]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One op with its attributes and operands."""

    op: str
    label: str
    operands: Callable[[], list[np.ndarray]]
    attrs: Mapping[str, int | bool | str] = field(default_factory=dict)
    tolerance: float = ROUNDING
    """How far kernel and reference may be apart, relative to the largest output; 0 is the bits."""
    gradient: Callable[[], Gradient] | None = None

    def __str__(self) -> str:
        return f"{self.op}-{self.label}"


def converter(v: jax.Array, full_scale: jax.Array, bits: int) -> jax.Array:
    """A quantizer whose gradient, as JAX derives it, is straight through the rounding."""
    if is_off(bits):
        return v
    ratio = v / full_scale
    q = levels(bits)
    code = jnp.sign(ratio) if bits == 1 else jnp.round(jnp.clip(ratio, -1, 1) * q)
    inside = jax.lax.stop_gradient(jnp.abs(ratio) <= 1)
    through = jnp.where(inside, v, jax.lax.stop_gradient(v))
    if bits == 1:
        return full_scale * jax.lax.stop_gradient(code) + through - jax.lax.stop_gradient(through)
    clipped = jnp.where(inside, through / full_scale, jax.lax.stop_gradient(jnp.sign(ratio)))
    return full_scale * (clipped + jax.lax.stop_gradient(code / q - clipped))


def key_of_tile(tile: int) -> jax.Array:
    """The key with the seed that an array draws its noise from."""
    seed = (SEED + tile * 0xD1342543DE82EF95) % 2**64
    return jax.random.wrap_key_data(jnp.array([seed >> 32, seed & 0xFFFFFFFF], jnp.uint32))
