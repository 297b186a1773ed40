"""What the module in C++ asks of NumPy: arrays of other types, and types that NumPy lacks."""

from __future__ import annotations

from typing import Any

import numpy as np

_MAX_RANK = 8


def converted(name: str, dtype: str, is_seed: bool, value: Any) -> np.ndarray:
    """`value` as an array of that type, one of bfloat16 as its bits.

    Raises:
      TypeError: numbers would be lost that the type does not have.
      ValueError: a seed is none, or there are too many axes.
    """
    want = _numpy_type(dtype)
    # bool is an int, and no seed.
    if is_seed and type(value) is int:
        if not 0 <= value < 1 << 64:
            raise ValueError(f"`{name}` must be a seed from 0 to 2^64 - 1, got {value}")
        value = np.array([value >> 32, value & 0xFFFFFFFF], np.uint32)
    array = np.asarray(value)
    if array.ndim > _MAX_RANK:
        raise ValueError(f"`{name}` has {array.ndim} axes, of which there may be {_MAX_RANK}")
    if array.dtype != want:
        fits = isinstance(value, int | float) or np.can_cast(array.dtype, want, "same_kind")
        # Types of ml_dtypes take complex numbers for real ones.
        fits = fits and (array.dtype.kind != "c" or want.kind == "c")
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is told next
            cast = array.astype(want) if fits else array
        exact = want.kind in "iub" or array.dtype.kind in "iu"
        if not fits or (exact and not np.array_equal(cast, array)):
            raise TypeError(
                f"`{name}` must be {want}, got {array.dtype}"
                + (" with numbers that do not fit" if fits else "; convert it with `astype`")
            )
        array = cast
    return _bits(np.ascontiguousarray(array).reshape(array.shape))


def writable(name: str, dtype: str, value: Any) -> np.ndarray:
    """The memory of an array that a run writes to, one of bfloat16 as its bits.

    Raises:
      TypeError: it is no array, or one of another type.
      ValueError: it is read-only.
    """
    got = getattr(value, "dtype", None)
    if got != _numpy_type(dtype):
        what = f"an array of {got}" if got is not None else f"{type(value).__name__}"
        raise TypeError(f"`out` for `{name}` must be an array of {dtype}, got {what}")
    if not (isinstance(value, np.ndarray) and value.flags.writeable):
        raise ValueError(f"`out` for `{name}` cannot be written")
    return _bits(value)


def memory_type(dtype: str) -> np.dtype:
    """The type that memory of that type is made with: bfloat16 is made as its bits."""
    return np.dtype(np.int16) if dtype == "bfloat16" else np.dtype(dtype)


def as_bfloat16(bits: np.ndarray) -> np.ndarray:
    """An array of bits as one of bfloat16, which shares its memory."""
    return bits.view(_numpy_type("bfloat16"))


def _bits(array: np.ndarray) -> np.ndarray:
    return array.view(np.int16) if array.dtype.name == "bfloat16" else array


def _numpy_type(dtype: str) -> np.dtype:
    if dtype != "bfloat16":
        return np.dtype(dtype)
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError(
            "NumPy arrays of bfloat16 need the package `ml_dtypes`, which is not installed"
        ) from None
    return np.dtype(ml_dtypes.bfloat16)
