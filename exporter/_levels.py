"""Weights of few levels: which one each element is, and the matrix that codes of a file are of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from lumina_jax.quantizer import QuantizerParams, WeightQuantizer
from lumina_jax.quantizer._params import along

from ._codes import BITS, Codes, Floats, of_matrix


@dataclass(frozen=True, eq=False)
class Levels:
    """A weight `(code - zero_point) · scale`, or `table[code]`, element by element."""

    codes: NDArray[np.uint8]
    bits: int
    scale: Floats
    """Of the rank of the weight, as `zero_point`: what is alike along an axis has extent 1."""
    zero_point: Floats
    table: Floats | None = None
    """The same and one axis more, f32[..., 2^bits], of which at most one other is longer than 1."""

    def codes_for(self, contracted: Sequence[int] | None) -> Codes:
        """The codes for a product that sums over these axes; where None, over all but the last."""
        rank = self.codes.ndim
        depth = list(range(rank - 1) if contracted is None else contracted)
        channels = [] if self.table is None else _long(self.table.shape[:-1])
        if not set(channels).isdisjoint(depth):  # a table is that of a column
            depth = [axis for axis in range(rank) if axis not in channels]
        rest = [axis for axis in range(rank) if axis not in depth]
        if depth and (depth == list(range(rank - len(rest))) or rest == list(range(len(rest)))):
            return self._matrix(depth, rest, transpose=depth[0] != 0)
        moved = self._matrix(depth, rest, transpose=False)
        if depth and depth == list(range(depth[0], depth[-1] + 1)):
            # The weights of several layers or experts: their rows follow each other.
            stacked = list(range(depth[-1] + 1))
            after = [axis for axis in rest if axis > depth[-1]]
            if set(channels) <= set(after):
                codes = self._matrix(stacked, after, transpose=False)
                if codes.operands.scale.size <= moved.operands.scale.size:
                    return codes
        order = (*depth, *rest)
        shape = tuple(self.codes.shape[axis] for axis in order)
        back = tuple(int(axis) for axis in np.argsort(order))
        return Codes(moved.bits, shape, False, moved.group, moved.operands, back)

    def _matrix(self, depth: Sequence[int], rest: Sequence[int], *, transpose: bool) -> Codes:
        shape = self.codes.shape
        rows = math.prod(shape[axis] for axis in depth)

        def of(values: np.ndarray) -> np.ndarray:
            if values.size == 1:
                return values.reshape(1, 1)
            whole = np.broadcast_to(values, shape)
            return np.transpose(whole, (*depth, *rest)).reshape(rows, -1)

        table = None
        if self.table is not None:
            levels = self.table.shape[-1]
            of_column = [1 if axis in depth else extent for axis, extent in enumerate(shape)]
            whole = np.broadcast_to(self.table, (*of_column, levels))
            table = np.transpose(whole, (*depth, *rest, len(shape))).reshape(-1, levels)
            if (table == table[:1]).all():
                table = table[:1]
        return of_matrix(
            of(self.codes),
            self.bits,
            of(self.scale),
            of(self.zero_point),
            shape=shape,
            transpose=transpose,
            table=table,
        )


def _long(shape: Sequence[int]) -> list[int]:
    return [axis for axis, extent in enumerate(shape) if extent != 1]


def of_columns(
    weight: jax.Array, bits: int, group: int | None, contracted: Sequence[int] | None
) -> Levels:
    """Good uniform levels of each output, or of each `group` of its inputs."""
    rank = weight.ndim
    depth = tuple(range(rank - 1)) if contracted is None else tuple(contracted)
    rest = tuple(axis for axis in range(rank) if axis not in depth)
    order = (*depth, *rest)
    moved = jnp.transpose(weight, order)
    rows = math.prod(weight.shape[axis] for axis in depth)
    matrix = moved.reshape(rows, -1)
    # Levels of groups are found for all at once, the best ones of a channel for each by itself,
    # which takes a second for some hundreds of channels.
    quantizer = WeightQuantizer(axis=1, group=group or rows)
    params = quantizer.calibrate(matrix, bits=bits)
    levels = of_params(quantizer.quantize(matrix, params), params)
    back = np.argsort(order)

    def of_weight(values: np.ndarray) -> np.ndarray:
        whole = np.broadcast_to(values, matrix.shape).reshape(moved.shape)
        return np.transpose(whole, back)

    return Levels(
        of_weight(levels.codes), bits, of_weight(levels.scale), of_weight(levels.zero_point)
    )


def of_params(codes: Any, params: QuantizerParams) -> Levels:
    """The levels of codes as `WeightQuantizer.quantize` gives them."""
    values = WeightQuantizer().dequantize(codes, params)  # raises where they do not fit
    del values
    array = np.asarray(codes)
    if params.lut is not None:
        channels = [n if axis == params.axis else 1 for axis, n in enumerate(array.shape)]
        table = np.asarray(params.lut).reshape(*channels, -1)
        return _of_table(array, table, params.bits)
    stored = jnp.asarray(array)
    scale, zero_point = (
        np.asarray(along(part, stored, params)) for part in (params.scale, params.zero_point)
    )
    return _of_scale(array, params.codes[0], params.bits, scale, zero_point)


def of_call(arrays: Sequence[np.ndarray]) -> Levels | None:
    """The levels of operands of `lumina_dequantize`; None where they are more than 8 bits hold."""
    codes, *levels = arrays
    ranks = [*(part.ndim for part in levels[:2]), codes.ndim]
    if codes.size == 0 or codes.ndim == 0 or codes.dtype.kind not in "iu":
        return None
    if len(levels) == 1:
        (table,) = levels
        bits = table.shape[-1].bit_length() - 1
        fits = table.ndim == codes.ndim + 1 and len(_long(table.shape[:-1])) <= 1
        if not fits or bits not in BITS or table.shape[-1] != 1 << bits:
            return None
        if codes.min() < 0 or codes.max() >> bits:
            return None
        return _of_table(codes, table, bits)
    lowest, highest = int(codes.min()), int(codes.max())
    bits = max(1, (highest - lowest).bit_length())
    if bits not in BITS or len(set(ranks)) > 1:
        return None
    return _of_scale(codes, lowest, bits, *levels)


def _of_table(codes: np.ndarray, table: Floats, bits: int) -> Levels:
    one, none = (np.full((1,) * codes.ndim, v, np.float32) for v in (1, 0))
    return Levels(codes.astype(np.uint8), bits, one, none, table)


def _of_scale(
    codes: np.ndarray, lowest: int, bits: int, scale: Floats, zero_point: Floats
) -> Levels:
    stored = (codes.astype(np.int32) - lowest).astype(np.uint8)
    return Levels(stored, bits, scale, (zero_point - np.float32(lowest)).astype(np.float32))
