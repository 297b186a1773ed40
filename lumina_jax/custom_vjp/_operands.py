"""Seeds and ids that the ops take, and gradients in the type of their operands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from .._arguments import integer, integers

_MAX_ID = 2**32 - 1


def gradient_of(operand: jax.Array, gradient: jax.Array) -> jax.Array:
    """`gradient` in the type of `operand`, which may have been broadcast along its first axis.

    On a mesh with explicit axes the sharding is part of the type.
    """
    if operand.shape != gradient.shape:
        gradient = jnp.sum(gradient, axis=0, keepdims=True)
    got, expected = jax.typeof(gradient).sharding, jax.typeof(operand).sharding
    if got.spec == expected.spec:
        return gradient
    return jax.sharding.reshard(gradient, NamedSharding(got.mesh, expected.spec))


def seed_words(op: str, key: Any) -> jax.Array:
    """The seed of a JAX random key, u32[1, 2]: high word, low word.

    A threefry key is the seed, so `jax.random.key(S)` draws the noise of the 64-bit seed S. The
    four words a, b, c, d of an rbg key give (a + d, b + c + d) modulo 2^32; its halves are often
    equal, so that no plain xor of them would do.

    `key` is a typed key of any implementation, or the raw uint32 data of one.
    """
    if not hasattr(key, "dtype"):
        raise TypeError(
            f"{op}: `key` must be a key such as jax.random.key(0), got {type(key).__name__}"
        )
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape != ():
            raise ValueError(f"{op}: `key` must be one key, got keys of shape {key.shape}")
        if jax.config.jax_debug_key_reuse:  # pyright: ignore[reportAttributeAccessIssue]
            # Nobody sees that its data are drawn from: no bits of it are drawn, but that is seen.
            jax.random.bits(key, (0,))
        words = jax.random.key_data(key)
    else:
        words = jnp.asarray(key)
    if words.dtype != np.uint32 or words.shape not in ((2,), (4,)):
        raise ValueError(
            f"{op}: `key` must be a key such as jax.random.key(0), "
            f"got {words.dtype}{list(words.shape)}"
        )
    if words.shape == (2,):
        return words.reshape(1, 2)
    a, b, c, d = (words[i : i + 1] for i in range(4))
    return jnp.stack([a + d, b + c + d], axis=1)


def ids(extent: Any) -> jax.Array:
    """Row or column ids 0, 1, 2 …, u32[extent]."""
    return jax.lax.iota(np.uint32, extent)


def row_ids(shape: Sequence[Any], first_row: jax.Array | None) -> jax.Array:
    """Ids of the rows of an output of that shape, whose rows are all axes but the last.

    Those along the first axis, of its first row each; those of an axis behind it follow each other.
    """
    first, *places, _ = shape
    numbers = ids(first)
    if places:
        numbers = numbers * jnp.asarray(math.prod(places), np.uint32)
    return counted_from(first_row, numbers)


def counted_from(first_row: jax.Array | None, numbers: jax.Array) -> jax.Array:
    """The ids of rows, where that of the first one is `first_row` instead of 0; modulo 2^32."""
    return numbers if first_row is None else numbers + first_row


def row_id(op: str, value: Any) -> jax.Array | None:
    """The argument `first_row` as u32[]; None where it is known when tracing to be 0.

    Raises:
        TypeError, ValueError: it is no integer, no scalar, or not from 0 to 2^32 - 1.
    """
    if type(value) is int and value == 0:
        return None
    if type(value) is int:
        # JAX has no int of its own that holds them all.
        value = np.uint32(integer(op, "first_row", value, at_least=0, at_most=_MAX_ID))
    row = integers(op, "first_row", value, "an integer", at_least=0, at_most=_MAX_ID)
    if row.shape != ():
        raise ValueError(f"{op}: `first_row` has shape {row.shape}, expected a scalar")
    return row.astype(np.uint32)
