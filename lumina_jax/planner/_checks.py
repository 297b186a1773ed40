"""Checks of arguments that several parts of the planner share."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Order = NDArray[np.intp]


def slots_of(op: str, order: Any, streams: int, slots: int | None = None) -> Order:
    """Distinct slot numbers, one per stream and below `slots`, as integers."""
    try:
        given = np.asarray(order)
    except ValueError:
        raise ValueError(f"{op}: `order` is ragged, expected ({streams},)") from None
    if given.dtype.kind not in "iu":
        raise TypeError(f"{op}: `order` is of type {given.dtype}, expected integers")
    if given.shape != (streams,):
        raise ValueError(f"{op}: `order` has shape {given.shape}, expected ({streams},)")
    if len(np.unique(given)) != streams or given.min() < 0:
        raise ValueError(f"{op}: `order` must name distinct slots from 0, got {given.tolist()}")
    if slots is not None and given.max() >= slots:
        raise ValueError(f"{op}: `order` names slot {given.max()}, expected less than {slots}")
    return given.astype(np.intp)


def reals(op: str, name: str, value: Any) -> Floats:
    """Finite reals of any shape in f64."""
    try:
        given = np.asarray(value)
    except ValueError:
        raise ValueError(f"{op}: `{name}` is ragged, expected rows of equal length") from None
    if given.dtype.kind not in "fiu":
        raise TypeError(f"{op}: `{name}` is of type {given.dtype}, expected real numbers")
    floats = given.astype(np.float64)
    if not np.isfinite(floats).all():
        raise ValueError(f"{op}: `{name}` has NaN or infinite values, expected finite ones")
    return floats


def check_ratios(op: str, powers: Floats, found: Any) -> None:
    """Raises ValueError where what was `found` from ratios of the powers is beyond f64."""
    if not np.isfinite(found).all():
        low, high = int(powers.argmin()), int(powers.argmax())
        raise ValueError(
            f"{op}: `powers` of streams {low} and {high} are too far apart, got "
            f"{powers[low]:g} and {powers[high]:g}, expected ratios that f64 holds"
        )


def seed_of(op: str, seed: Any) -> int:
    """A seed, an int that is not negative."""
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"{op}: `seed` must be an int, got {seed!r}") from None
    if number < 0:
        raise ValueError(f"{op}: `seed` must not be negative, got {number}")
    return number
