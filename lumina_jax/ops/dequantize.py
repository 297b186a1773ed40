"""Weights from their codes, which `_codes.py` packs.

    w[k, n] = (level - zero_point[k div group, n]) · scale[k div group, n]
    level   = code[k, n], or table[n, code[k, n]]

of a matrix [k, n], whose rows, or columns with `transpose`, are the elements of the result in
order. Difference and product are rounded one after the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from .._attributes import Attributes
from ._codes import rows_of_words, unpacked
from ._op import define
from ._signature import Derived, Signature, tensor

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Attrs(Attributes):
    """Attributes of the op."""

    bits: int
    """1 to 8."""
    shape: tuple[int, ...]
    """Of the result."""
    transpose: bool
    """Whether the elements of the result are the columns of the matrix rather than its rows."""
    group: int
    """Rows of the matrix with one scale and zero point."""


class Operands(NamedTuple, Generic[T]):
    """Operands of the op."""

    codes: T
    """u32[words, n]"""
    scale: T
    """f32[1 or g, 1 or n]"""
    zero_point: T
    """f32[1 or g, 1 or n]"""
    table: T
    """f32[0, 1 or n, 2^bits]: the levels of the codes; none where they are the codes themselves."""


def _signature(attrs: Attrs) -> Signature:
    if not 1 <= attrs.bits <= 8:
        raise ValueError(f"dequantize: `bits` must be from 1 to 8, got {attrs.bits}")
    if attrs.group < 1:
        raise ValueError(f"dequantize: `group` must be positive, got {attrs.group}")
    count = math.prod(attrs.shape)

    def depth(columns: Any) -> Any:
        if columns == 0:
            return 0 if count == 0 else -1
        return count // columns if count % columns == 0 else -1

    by_group = tensor("f32", "g?", "n?")
    return Signature(
        Operands(
            codes=tensor("u32", "words", "n"),
            scale=by_group,
            zero_point=by_group,
            table=tensor("f32", "n*", 2**attrs.bits),
        ),
        (tensor("f32", *attrs.shape),),
        whole=frozenset("n"),
        derived={
            "k": Derived(("n",), depth),
            "words": Derived(("k",), lambda k: rows_of_words(attrs.bits, k)),
            "g": Derived(("k",), lambda k: -(-k // attrs.group)),
        },
    )


def _reference(attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    columns = operands.codes.shape[1]
    depth = math.prod(attrs.shape) // max(columns, 1)
    codes = unpacked(operands.codes, attrs.bits, depth)
    if operands.table.shape[0] == 0:
        levels = codes.astype(jnp.float32)
    elif operands.table.shape[0] == 1:
        levels = operands.table[0][codes]
    else:
        levels = operands.table[jnp.arange(columns)[None, :], codes]
    groups = jnp.arange(depth) // attrs.group

    def of_rows(values: jax.Array) -> jax.Array:
        return values if values.shape[0] == 1 else values[groups]

    weights = (levels - of_rows(operands.zero_point)) * of_rows(operands.scale)
    return [jnp.reshape(weights.T if attrs.transpose else weights, attrs.shape)]


op = define(
    "dequantize", attrs=Attrs, operands=Operands, signature=_signature, reference=_reference
)
