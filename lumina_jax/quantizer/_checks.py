"""Checks of arguments that several parts of the quantizer share."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from jax.core import Tracer
from numpy.typing import NDArray

MAX_BITS = 16
"""Finest resolution that is offered."""


def resolution(op: str, name: str, value: Any, most: int = MAX_BITS) -> int:
    """Bits from 1 to `most`, or the TypeError or ValueError that says what is wrong."""
    try:
        if isinstance(value, bool):
            raise TypeError
        bits = operator.index(value)
    except TypeError:
        raise TypeError(f"{op}: `{name}` must be an int, got {value!r}") from None
    if not 1 <= bits <= most:
        raise ValueError(f"{op}: `{name}` must be from 1 to {most}, got {bits}")
    return bits


def concrete(op: str, name: str, value: Any) -> NDArray[np.float32]:
    """A non-empty array of finite reals as f32 on the host.

    Raises:
        TypeError: it is traced, or not of real numbers.
        ValueError: it is ragged, empty, or has a value that is not finite in f32.
    """
    if isinstance(value, Tracer):
        raise TypeError(f"{op}: `{name}` is traced, expected an array outside of jax.jit")
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{op}: `{name}` is ragged, expected an array") from None
    # bfloat16 has kind "V"; nothing else of that kind converts to a float.
    if array.dtype.kind not in "fiuV":
        raise TypeError(f"{op}: `{name}` is of type {array.dtype}, expected real numbers")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not array.size:
        raise ValueError(f"{op}: `{name}` has shape {array.shape}, expected at least one value")
    if not np.isfinite(array).all():
        raise ValueError(f"{op}: `{name}` has NaN or infinite values, expected finite f32")
    return array


def channel_axis(op: str, axis: Any, rank: int) -> int | None:
    """`axis` from 0, or None."""
    if axis is None:
        return None
    if not isinstance(axis, int) or isinstance(axis, bool):
        raise TypeError(f"{op}: `axis` must be an int or None, got {axis!r}")
    if not -rank <= axis < rank:
        raise ValueError(f"{op}: `axis` is {axis}, expected -{rank} to {rank - 1} for rank {rank}")
    return axis % rank
