"""Operands of the complex products."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._options import Shape


class Problem(NamedTuple):
    """x, w, and the full scales of their converters and of the ADC."""

    x: np.ndarray
    w: np.ndarray
    x_full_scale: float
    w_full_scale: float
    y_full_scale: float


def make(shape: Shape) -> Problem:
    """Normal parts; nothing is clipped but a few of the outputs."""
    rng = np.random.default_rng(shape)
    rows, depth, columns = shape

    def field(*extents: int) -> np.ndarray:
        parts = rng.standard_normal((2, *extents), np.float32)
        return parts[0] + np.complex64(1j) * parts[1]

    x, w = field(rows, depth), field(depth, columns)
    scales = [float(np.abs(operand.view(np.float32)).max()) for operand in (x, w)]
    return Problem(x, w, *scales, y_full_scale=4.0 * float(np.sqrt(2.0 * depth)))
