"""Softmax of scaled scores, of which each row sees its first columns.

    z = scale · scores        e = exp(z - max z)        p = e / Σ e

with maximum and sum over the columns before `seen` of the row. Whatever the scale, `e` is 0 for a
score of -inf, and a score of inf or NaN makes its row NaN. A row without any e above 0 is all 0.
Behind `seen` p is 0, whatever stands there.

The reference has another exponential than the Rust module; both are accurate to two units in the
last place.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .._attributes import Attributes
from ._op import define
from ._signature import Signature, tensor

T = TypeVar("T")


def is_seen(seen: jax.Array, columns: int) -> jax.Array:
    """Which columns are before `seen`, bool[m, n]."""
    return jax.lax.broadcasted_iota(np.int32, (seen.shape[0], columns), 1) < seen[:, None]


class Operands(NamedTuple, Generic[T]):
    """Operands of the op."""

    scores: T
    """f32[m, n]"""
    seen: T
    """i32[m]: how many of the columns a row sees; below 0 and beyond n as 0 and n."""
    scale: T
    """f32[1 or m]"""


def _signature(attrs: Attributes) -> Signature:
    del attrs
    scores = tensor("f32", "m", "n")
    operands = Operands(scores=scores, seen=tensor("i32", "m"), scale=tensor("f32", "m?"))
    return Signature(operands, (scores,), whole=frozenset({"n"}))


def _reference(attrs: Attributes, operands: Operands[jax.Array]) -> list[jax.Array]:
    del attrs
    scores, seen, scale = operands
    zero, infinity = np.float32(0), np.float32(np.inf)
    visible = is_seen(seen, scores.shape[1])
    # What does not count is replaced before anything is computed of it: its derivative is 0 times
    # that of the replacement.
    counts = visible & (scores != -infinity)
    finite = jnp.where(scores < infinity, scores, np.float32(np.nan))
    z = scale[:, None] * jnp.where(counts, finite, zero)
    peak = jnp.max(jnp.where(counts, z, -infinity), axis=1, keepdims=True, initial=-infinity)
    # Softmax does not depend on what is subtracted.
    peak = jax.lax.stop_gradient(jnp.where(peak == -infinity, zero, peak))
    e = jnp.where(counts, jnp.exp(jnp.where(counts, z - peak, zero)), zero)
    total = jnp.sum(e, axis=1, keepdims=True)
    p = e / jnp.where(total == 0, np.float32(1), total)
    return [jnp.where(visible, p, zero)]


op = define("causal_softmax", operands=Operands, signature=_signature, reference=_reference)
