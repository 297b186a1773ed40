"""Operands of the complex products, and of their gradients."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._options import Shape

BITS = 8
"""Of all converters."""


class Problem(NamedTuple):
    """x, w, the cotangent g of y, and the full scales of the converters of x, w and y."""

    x: np.ndarray
    w: np.ndarray
    g: np.ndarray
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

    x, w, g = field(rows, depth), field(depth, columns), field(rows, columns)
    # Libraries differ in the gradient of a value right at its full scale.
    scales = [1.001 * float(np.abs(operand.view(np.float32)).max()) for operand in (x, w)]
    return Problem(x, w, g, *scales, y_full_scale=4.0 * float(np.sqrt(2.0 * depth)))
