"""The noise of an optical matmul, alone."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.export
from jax.typing import ArrayLike

from .._attributes import Attributes
from ..ops.optical_noise import Operands, op
from ._operands import ids, row_id, row_ids, seed_words

_NAME = "optical_noise"


def optical_noise(key: jax.Array, shape: tuple[Any, Any], *, first_row: ArrayLike = 0) -> jax.Array:
    """Standard normal noise: what `optical_matmul` draws for that key as its ε.

    An element depends on the key, its row and its column alone, so a larger shape begins with the
    smaller one. See the documentation of the generator in docs/noise.md.

    Args:
        key: random key of any kind; raw uint32 keys are accepted too.
        shape: `(rows, columns)`, ints or symbolic dimensions of `jax.export`.
        first_row: index of the first row, an int or an integer scalar that may be traced, from 0 to
            2^32 - 1.

    Returns:
        f32[rows, columns]. It has no gradient.

    Raises:
        TypeError, ValueError: `key` is no key, `shape` is not two extents, or `first_row` no id.
    """
    try:
        rows, columns = map(_extent, shape)
    except (TypeError, ValueError):
        message = f"{_NAME}: `shape` must be two extents (rows, columns), got {shape!r}"
        raise ValueError(message) from None
    operands = Operands(
        seed=seed_words(_NAME, key),
        rows=row_ids((rows, columns), row_id(_NAME, first_row)),
        columns=ids(columns),
    )
    (eps,) = op(Attributes(), operands)
    return eps


def _extent(extent: Any) -> Any:
    if jax.export.is_symbolic_dim(extent):
        return extent
    extent = operator.index(extent)
    if extent < 0:
        raise ValueError
    return extent
