"""Checks of arguments on the host, for the tools that compile a model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def nonnegative(op: str, name: str, value: Any, *, expected: str) -> NDArray[np.float64]:
    """A non-empty array of finite, non-negative reals in f64, a vector or a square matrix.

    Args:
        op: the function that asks.
        name: the argument.
        value: what was passed.
        expected: its shape in words, such as "[n]" for a vector or "[n, n]" for a square matrix.

    Raises:
        TypeError: it is not of real numbers.
        ValueError: it is ragged, empty, of another shape, negative, or not finite.
    """
    try:
        given = np.asarray(value)
    except ValueError:
        raise ValueError(f"{op}: `{name}` is ragged, expected rows of equal length") from None
    if given.dtype.kind not in "fiu":
        raise TypeError(f"{op}: `{name}` is of type {given.dtype}, expected real numbers")
    rank = expected.count(",") + 1
    if given.ndim != rank or len(set(given.shape)) != 1 or not given.size:
        raise ValueError(f"{op}: `{name}` has shape {given.shape}, expected {expected}")
    floats = given.astype(np.float64)
    if not np.isfinite(floats).all():
        raise ValueError(f"{op}: `{name}` has NaN or infinite values, expected finite ones")
    if floats.min() < 0:
        raise ValueError(f"{op}: `{name}` must not be negative, got {floats.min():g}")
    return floats


def number(
    op: str, name: str, value: Any, *, above: float | None = None, least: float | None = None
) -> float:
    """A finite number within its limits, as a Python float."""
    if isinstance(value, bool | str | bytes | complex) or np.ndim(value) != 0:
        raise TypeError(f"{op}: `{name}` must be a number, got {value!r}")
    try:
        converted = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{op}: `{name}` must be a number, got {value!r}") from None
    if not math.isfinite(converted):
        raise ValueError(f"{op}: `{name}` must be finite, got {converted}")
    if above is not None and converted <= above:
        raise ValueError(f"{op}: `{name}` must be above {above:g}, got {converted:g}")
    if least is not None and converted < least:
        raise ValueError(f"{op}: `{name}` must be at least {least:g}, got {converted:g}")
    return converted
