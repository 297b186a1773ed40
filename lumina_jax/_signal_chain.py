"""What the ops of the signal chain take: attributes and operands, whichever library runs them.

It stands apart from the ops, which need JAX, so that the NumPy entry does without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from ._attributes import Attributes

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class DeviceAttrs(Attributes):
    """Attributes that every op of the chain has, whatever it multiplies."""

    dac_bits: int
    """Of the DAC of x; 0 is none, as 24 and more are."""
    weight_bits: int
    """Of the DAC of w."""
    adc_bits: int
    noisy: bool
    """Whether there is noise; without it noise, seed and ids are not looked at."""
    array_rows: int = 0
    """Inputs of an array, which has an ADC of its own; 0 is as many as there are."""


@dataclass(frozen=True, kw_only=True)
class ChainAttrs(DeviceAttrs):
    """Attributes of the chain with one product."""

    transpose_weight: bool
    """Whether w is [n, k]."""


class Operands(NamedTuple, Generic[T]):
    """Operands of the forward ops; c64 for f32 are x, w and bias of those on complex numbers."""

    x: T
    """f32[m, k]"""
    w: T
    """f32[k, n]; [n, k] with `transpose_weight`."""
    bias: T
    """f32[1 or n]"""
    x_full_scale: T
    """f32[0, 1 or m]; none is the largest finite |x|, which the op finds."""
    w_full_scale: T
    """f32[0, 1 or n]; none is the largest finite |w| of each column."""
    y_full_scale: T
    """f32[1 or n]"""
    noise: T
    """f32[1 or m, 4]: thermal, shot, relative, weight."""
    seed: T
    """u32[1 or m, 2]"""
    rows: T
    """u32[m]: ids of the rows."""
    columns: T
    """u32[n]: ids of the columns."""
