"""Weights as codes: what the op `dequantize` takes, made of levels and of where they lie.

A weight is a matrix to it, depth × columns, whose rows are the leading axes of the weight, or the
trailing ones (`transpose`). Scales and zero points are stored once for rows and columns that share
them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumina_jax.ops import OPS, dequantize
from lumina_jax.ops._codes import packed

Floats = NDArray[np.float32]

BITS = range(1, 9)
"""What codes of a file can have."""


@dataclass(frozen=True, eq=False)
class Codes:
    """A weight as attributes and operands of `dequantize`."""

    bits: int
    shape: tuple[int, ...]
    """Of what the op gives."""
    transpose: bool
    group: int
    operands: dequantize.Operands[np.ndarray]
    order: tuple[int, ...] = field(default=())
    """The axes of the weight among those of what the op gives; () where they are the same."""

    @property
    def attrs(self) -> dict[str, Any]:
        """Those of the op, by name."""
        return {
            "bits": self.bits,
            "shape": self.shape,
            "transpose": self.transpose,
            "group": self.group,
        }

    def weight(self) -> Floats:
        """What the codes stand for, as the kernel computes it."""
        op = OPS["dequantize"]
        (values,) = op.on_numpy(op.attrs(**self.attrs), self.operands)
        return np.transpose(values, self.order) if self.order else values


def of_matrix(
    codes: NDArray[np.uint8],
    bits: int,
    scale: Floats,
    zero_point: Floats,
    *,
    shape: Sequence[int],
    transpose: bool,
    table: Floats | None = None,
    order: tuple[int, ...] = (),
) -> Codes:
    """The codes u8[depth, columns], whose scale and zero point broadcast to them.

    `table` is f32[1 or columns, 2^bits]; `shape` and `order` as `Codes` has them.
    """
    depth = codes.shape[0]
    group = _rows_alike(depth, (scale, zero_point))
    no_table = np.zeros((0, 1 << bits), np.float32)
    operands = dequantize.Operands(
        codes=np.ascontiguousarray(packed(codes, bits)),
        scale=_once(scale, group),
        zero_point=_once(zero_point, group),
        table=no_table if table is None else np.ascontiguousarray(table, np.float32),
    )
    return Codes(bits, tuple(shape), transpose, group, operands, order)


def _rows_alike(depth: int, values: Sequence[Floats]) -> int:
    """The most rows, from each multiple of their number on, of which all values are the same."""
    group = 0
    for value in values:
        if value.shape[0] > 1:
            changes = np.flatnonzero((value[1:] != value[:-1]).any(axis=1)) + 1
            group = math.gcd(group, *map(int, changes))
    return group or max(depth, 1)


def _once(values: Floats, group: int) -> Floats:
    """One row for each group, or for all of them; one column where all are the same."""
    rows = values[::group] if values.shape[0] > 1 else values
    for axis in (0, 1):
        first = rows.take([0], axis=axis)
        if rows.shape[axis] > 1 and np.array_equal(np.broadcast_to(first, rows.shape), rows):
            rows = first
    return np.ascontiguousarray(rows, np.float32)
