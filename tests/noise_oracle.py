"""The noise stream from its definition: SplitMix64, Xoshiro256++ and Box-Muller.

`raw_block` is the definition in Python integers, one output at a time. `raw` computes the same
words for many blocks at once in NumPy, and `normals` turns them into ε in float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK = 256
"""Columns of one noise block."""
GROUP = 32
"""Columns from one draw: two outputs of each of the 8 lanes."""
LANES = 8
PAIRS = GROUP // 2

_MASK = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15


def splitmix64(state: int) -> int:
    """First output of SplitMix64 with that state."""
    z = (state + _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


class Xoshiro256PlusPlus:
    """The generator of Blackman and Vigna, from its four state words."""

    def __init__(self, state: list[int]) -> None:
        self.state = list(state)

    @classmethod
    def from_splitmix64(cls, seed: int) -> Xoshiro256PlusPlus:
        """The state is the first four outputs of SplitMix64."""
        return cls([splitmix64((seed + i * _GAMMA) & _MASK) for i in range(4)])

    def next(self) -> int:
        """The next 64-bit output."""
        a, b, c, d = self.state
        output = (_rotl((a + d) & _MASK, 23) + a) & _MASK
        t = (b << 17) & _MASK
        c ^= a
        d ^= b
        b ^= c
        a ^= d
        c ^= t
        self.state = [a, b, c, _rotl(d, 45)]
        return output


def _rotl(value: int, count: int) -> int:
    return ((value << count) | (value >> (64 - count))) & _MASK


def raw_block(seed: int, row: int, block: int) -> list[int]:
    """The 128 words of a block: per group of 32 columns, 16 words `u`."""
    base = splitmix64(splitmix64(splitmix64(seed) ^ row) ^ seed ^ block)
    lanes = [
        Xoshiro256PlusPlus.from_splitmix64((base + 4 * lane * _GAMMA) & _MASK)
        for lane in range(LANES)
    ]
    return [lane.next() for _ in range(BLOCK // LANES // 2) for lane in lanes]


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = state + np.uint64(_GAMMA)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def raw(seed: ArrayLike, row: ArrayLike, block: ArrayLike) -> NDArray[np.uint64]:
    """`raw_block` for every element of the broadcast arguments: u64[..., 128]."""
    seed, row, block = (np.asarray(v, np.uint64) for v in (seed, row, block))
    with np.errstate(over="ignore"):
        base = _mix(_mix(_mix(seed) ^ row) ^ seed ^ block)
        index = np.arange(4 * LANES, dtype=np.uint64).reshape(LANES, 4) * np.uint64(_GAMMA)
        words = _mix(base[..., None, None] + index)
        a, b, c, d = (words[..., i].copy() for i in range(4))
        outputs = []
        for _ in range(BLOCK // LANES // 2):
            total = a + d
            outputs.append(((total << np.uint64(23)) | (total >> np.uint64(41))) + a)
            t = b << np.uint64(17)
            c ^= a
            d ^= b
            b ^= c
            a ^= d
            c ^= t
            d = (d << np.uint64(45)) | (d >> np.uint64(19))
    return np.concatenate(outputs, axis=-1)


def normals(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """ε of those words, in float64 but for u1, which the definition rounds to float32."""
    words = words.reshape(*words.shape[:-1], -1, PAIRS)
    h = (words >> np.uint64(33)).astype(np.float32)
    u = (h + np.float32(0.5)).astype(np.float64) / 2.0**31
    radius = np.sqrt(-2 * np.log(u))
    angle = 2 * np.pi * (words & np.uint64(2**32 - 1)).astype(np.float64) / 2.0**32
    pairs = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return pairs.reshape(*words.shape[:-2], -1)


def epsilon(seed: int, rows: ArrayLike, columns: range) -> NDArray[np.float64]:
    """ε of those row ids and consecutive column ids: f64[rows, columns]."""
    first, last = columns.start // BLOCK, (columns.stop - 1) // BLOCK
    rows = np.asarray(rows, np.uint64)
    words = raw(seed, rows[:, None], np.arange(first, last + 1)[None, :])
    whole = normals(words).reshape(len(rows), -1)
    return whole[:, columns.start - first * BLOCK : columns.stop - first * BLOCK]
