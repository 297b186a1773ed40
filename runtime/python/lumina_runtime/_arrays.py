"""What the module in C++ asks of NumPy: arrays of other types, and types that NumPy lacks."""

from __future__ import annotations

from numbers import Integral
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
    if is_seed and isinstance(value, Integral) and type(value) is not bool:
        seed = int(value)
        if not 0 <= seed < 1 << 64:
            raise ValueError(f"`{name}` must be a seed from 0 to 2^64 - 1, got {seed}")
        value = np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32)
    array = np.asarray(value)
    if array.ndim > _MAX_RANK:
        raise ValueError(f"`{name}` has {array.ndim} axes, of which there may be {_MAX_RANK}")
    if array.dtype != want:
        kinds = array.dtype.kind, want.kind
        fits = isinstance(value, int | float) or np.can_cast(array.dtype, want, "same_kind")
        # Of integers it is told below whether they fit.
        fits = fits or (kinds[0] in "iu" and kinds[1] in "iu")
        # Types of ml_dtypes take complex numbers for real ones.
        fits = fits and (kinds[0] != "c" or kinds[1] == "c")
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is told next
            cast = array.astype(want) if fits else array
        exact = kinds[1] in "iub" or kinds[0] in "iu"
        if not fits or (exact and not _are_equal(cast, array)):
            raise TypeError(
                f"`{name}` must be {want}, got {array.dtype}"
                + (" with numbers that do not fit" if fits else "; convert it with `astype`")
            )
        array = cast
    if any(step % array.itemsize for step in array.strides):
        array = array.copy()
    return _bits(array)


def writable(name: str, dtype: str, value: Any) -> np.ndarray:
    """The memory of an array that a run writes to, one of bfloat16 as its bits.

    Raises:
      TypeError: it is no array, or one of another type.
      ValueError: it cannot be written where it lies.
    """
    got = getattr(value, "dtype", None)
    # Types of other libraries are written as `torch.float32`, those of NumPy as `float32`.
    if str(got).rpartition(".")[2] != dtype:
        what = f"an array of {got}" if got is not None else type(value).__name__
        raise TypeError(f"`out` for `{name}` must be an array of {dtype}, got {what}")
    is_writable = isinstance(value, np.ndarray) and value.flags.writeable
    if not is_writable:
        raise ValueError(
            f"`out` for `{name}` cannot be written: it is read-only, or no plain memory of the CPU"
        )
    if any(step % value.itemsize for step in value.strides):
        raise ValueError(f"`out` for `{name}` cannot be written: a stride is no whole element")
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


def _are_equal(cast: np.ndarray, array: np.ndarray) -> bool:
    """Whether numbers are the same in another type, where comparing may round them to another."""
    if array.dtype.kind not in "iu" or cast.dtype.kind in "iub":
        return np.array_equal(cast, array)
    # A float beyond the integers is none of them. What follows the largest is a power of two, which
    # floats have exactly.
    info = np.iinfo(array.dtype)
    wide = cast.astype(np.complex128 if cast.dtype.kind == "c" else np.float64).real
    if not ((wide >= info.min) & (wide < 2.0 * (info.max // 2 + 1))).all():
        return False
    return np.array_equal(wide.astype(array.dtype), array)
