"""Checks of arguments that several parts of the planner share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Order = NDArray[np.intp]


def array(op: str, name: str, value: Any, *, rank: int) -> Floats:
    """A non-empty array of finite, non-negative reals in f64.

    Raises:
        TypeError: it is not of real numbers.
        ValueError: it is ragged, empty, of another rank, negative, or not finite.
    """
    try:
        given = np.asarray(value)
    except ValueError:
        raise ValueError(f"{op}: `{name}` is ragged, expected rows of equal length") from None
    if given.dtype.kind not in "fiu":
        raise TypeError(f"{op}: `{name}` is of type {given.dtype}, expected real numbers")
    if given.ndim != rank or not given.size:
        expected = "[n] with n >= 1" if rank == 1 else "[slots, slots]"
        raise ValueError(f"{op}: `{name}` has shape {given.shape}, expected {expected}")
    floats = given.astype(np.float64)
    if not np.isfinite(floats).all():
        raise ValueError(f"{op}: `{name}` has NaN or infinite values, expected finite ones")
    if floats.min() < 0:
        raise ValueError(f"{op}: `{name}` must not be negative, got {floats.min():g}")
    return floats


def slots_of(op: str, order: Any, streams: int, slots: int | None = None) -> Order:
    """Distinct slot numbers, one per stream and below `slots`, as integers."""
    given = np.asarray(order)
    if given.dtype.kind not in "iu":
        raise TypeError(f"{op}: `order` is of type {given.dtype}, expected integers")
    if given.shape != (streams,):
        raise ValueError(f"{op}: `order` has shape {given.shape}, expected ({streams},)")
    if len(np.unique(given)) != streams or given.min() < 0:
        raise ValueError(f"{op}: `order` must name distinct slots from 0, got {given.tolist()}")
    if slots is not None and given.max() >= slots:
        raise ValueError(f"{op}: `order` names slot {given.max()}, expected less than {slots}")
    return given.astype(np.intp)


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
