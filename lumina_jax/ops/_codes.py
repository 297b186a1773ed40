"""How codes of 1 to 8 bits are packed into words; `ffi_rs/kernels/src/codes` has the same.

Codes of a matrix, depth × columns, are cut into planes of 8, 4, 2 and 1 bits, the widest first. Row
by row, a word of a plane holds neighbors along the depth of one column: value j begins at bit
width · (j div 4) of byte j mod 4. The planes follow each other as rows of words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

_WORD = 32


class Plane(NamedTuple):
    """Some bits of all codes."""

    width: int
    """Bits of a value: 8, 4, 2 or 1."""
    shift: int
    """Where they are in the code."""

    @property
    def starts(self) -> list[int]:
        """The bit of a word where each of its values begins."""
        return [j % 4 * 8 + j // 4 * self.width for j in range(_WORD // self.width)]


def planes(bits: int) -> list[Plane]:
    """The planes of codes of so many bits."""
    widths = [width for width in (8, 4, 2, 1) if bits & width]
    return [Plane(width, sum(widths[:index])) for index, width in enumerate(widths)]


def rows_of_words(bits: int, depth: Any) -> Any:
    """Rows of words of a matrix of that depth."""
    return sum(-(-depth * plane.width // _WORD) for plane in planes(bits))


def packed(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint32]:
    """Codes u8[depth, columns] below 2^bits as words u32[words, columns]."""
    depth, columns = codes.shape
    rows = []
    for plane in planes(bits):
        values = (codes.astype(np.uint32) >> plane.shift) & ((1 << plane.width) - 1)
        per_word = len(plane.starts)
        values = np.pad(values, ((0, -depth % per_word), (0, 0)))
        values = values.reshape(len(values) // per_word, per_word, columns)
        starts = np.array(plane.starts, np.uint32)[None, :, None]
        rows.append(np.bitwise_or.reduce(values << starts, axis=1))
    return np.concatenate(rows).astype(np.uint32)


def unpacked(words: jax.Array, bits: int, depth: int) -> jax.Array:
    """The codes of words u32[words, columns], u32[depth, columns]."""
    codes, first = jnp.zeros((depth, words.shape[1]), jnp.uint32), 0
    for plane in planes(bits):
        rows = words[first : first + rows_of_words(plane.width, depth)]
        starts = jnp.array(plane.starts, jnp.uint32)[None, :, None]
        values = (rows[:, None, :] >> starts) & np.uint32((1 << plane.width) - 1)
        values = values.reshape(len(rows) * len(plane.starts), words.shape[1])[:depth]
        codes, first = codes | (values << np.uint32(plane.shift)), first + len(rows)
    return codes
