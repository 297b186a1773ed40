"""Arithmetic of unsigned 64-bit integers modulo 2^64, as pairs of uint32.

JAX has 64-bit integers only under `jax_enable_x64`.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np


class UInt64(NamedTuple):
    """u32 arrays, or scalars, of one shape: the value is `high · 2^32 + low`."""

    high: jax.Array
    low: jax.Array

    @classmethod
    def of(cls, value: int) -> Self:
        """A constant."""
        return cls(jnp.uint32(value >> 32), jnp.uint32(value & 0xFFFF_FFFF))

    def add(self, other: UInt64) -> UInt64:
        """`self + other`."""
        low = self.low + other.low
        carry = (low < other.low).astype(np.uint32)
        return UInt64(self.high + other.high + carry, low)

    def xor(self, other: UInt64) -> UInt64:
        """`self ^ other`."""
        return UInt64(self.high ^ other.high, self.low ^ other.low)

    def multiply(self, other: UInt64) -> UInt64:
        """`self · other`."""
        product = _wide_product(self.low, other.low)
        return UInt64(product.high + self.high * other.low + self.low * other.high, product.low)

    def shift_left(self, count: int) -> UInt64:
        """`self << count`, for 0 < count < 32."""
        high = (self.high << np.uint32(count)) | (self.low >> np.uint32(32 - count))
        return UInt64(high, self.low << np.uint32(count))

    def shift_right(self, count: int) -> UInt64:
        """`self >> count`, for 0 < count < 32."""
        low = (self.low >> np.uint32(count)) | (self.high << np.uint32(32 - count))
        return UInt64(self.high >> np.uint32(count), low)

    def rotate_left(self, count: int) -> UInt64:
        """`self` rotated, for 0 < count < 64 other than 32."""
        v = self if count < 32 else UInt64(self.low, self.high)
        left, right = np.uint32(count % 32), np.uint32(32 - count % 32)
        return UInt64((v.high << left) | (v.low >> right), (v.low << left) | (v.high >> right))


def _wide_product(a: jax.Array, b: jax.Array) -> UInt64:
    """All 64 bits of the product of two uint32."""
    half, mask = np.uint32(16), np.uint32(0xFFFF)
    a_low, a_high, b_low, b_high = a & mask, a >> half, b & mask, b >> half
    low, first, second = a_low * b_low, a_low * b_high, a_high * b_low
    middle = (low >> half) + (first & mask) + (second & mask)
    high = a_high * b_high + (first >> half) + (second >> half) + (middle >> half)
    return UInt64(high, (low & mask) | (middle << half))
