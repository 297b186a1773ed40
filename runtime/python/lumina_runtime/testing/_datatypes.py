"""Element types by their numbers in the C ABI, and how NumPy and PyTorch hold them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch  # pyright: ignore[reportMissingImports]


class InfiniDtype(IntEnum):
    """Element types: 0 to 19 are those of infiniop, I4 and U4 are the packed codes of Lumina.

    A complex type is named after the bits of one part: `C32` is two `F32`.
    """

    INVALID = 0
    BYTE = 1
    BOOL = 2
    I8 = 3
    I16 = 4
    I32 = 5
    I64 = 6
    U8 = 7
    U16 = 8
    U32 = 9
    U64 = 10
    F8 = 11
    F16 = 12
    F32 = 13
    F64 = 14
    C8 = 15
    C16 = 16
    C32 = 17
    C64 = 18
    BF16 = 19
    I4 = 20
    U4 = 21


InfiniDtypeNames = {dtype: dtype.name for dtype in InfiniDtype}


@dataclass(frozen=True)
class _Kind:
    bits: int
    stored: str = ""
    """What NumPy holds the elements as; empty where it has nothing for them."""
    torch: str = ""
    """The name in PyTorch; empty where it has no such type."""
    ml_dtypes: str = ""
    """The name in `ml_dtypes`, where NumPy itself knows the bits alone."""
    older_torch: str = ""
    """What holds the bits in a PyTorch that lacks the type."""


_KINDS = {
    InfiniDtype.INVALID: _Kind(0),
    InfiniDtype.BYTE: _Kind(8, "uint8", "uint8"),
    InfiniDtype.BOOL: _Kind(8, "bool", "bool"),
    InfiniDtype.I8: _Kind(8, "int8", "int8"),
    InfiniDtype.I16: _Kind(16, "int16", "int16"),
    InfiniDtype.I32: _Kind(32, "int32", "int32"),
    InfiniDtype.I64: _Kind(64, "int64", "int64"),
    InfiniDtype.U8: _Kind(8, "uint8", "uint8"),
    InfiniDtype.U16: _Kind(16, "uint16", "uint16", older_torch="int16"),
    InfiniDtype.U32: _Kind(32, "uint32", "uint32", older_torch="int32"),
    InfiniDtype.U64: _Kind(64, "uint64", "uint64", older_torch="int64"),
    InfiniDtype.F8: _Kind(8, "uint8", "float8_e4m3fn", "float8_e4m3fn"),
    InfiniDtype.F16: _Kind(16, "float16", "float16"),
    InfiniDtype.F32: _Kind(32, "float32", "float32"),
    InfiniDtype.F64: _Kind(64, "float64", "float64"),
    InfiniDtype.C8: _Kind(16),
    InfiniDtype.C16: _Kind(32, torch="complex32"),
    InfiniDtype.C32: _Kind(64, "complex64", "complex64"),
    InfiniDtype.C64: _Kind(128, "complex128", "complex128"),
    InfiniDtype.BF16: _Kind(16, "uint16", "bfloat16", "bfloat16"),
    InfiniDtype.I4: _Kind(4, ml_dtypes="int4"),
    InfiniDtype.U4: _Kind(4, ml_dtypes="uint4"),
}

InfiniDtypeBits = {dtype: kind.bits for dtype, kind in _KINDS.items()}
"""Bits of one element; those of `I4` and `U4` share a byte."""


def to_torch_dtype(dt: int, compatability_mode: bool = False) -> torch.dtype:
    """The type in PyTorch; with `compatability_mode` the signed one of `U16`, `U32` and `U64`.

    Raises:
      ValueError: PyTorch, or the installed release of it, has no such type.
    """
    import torch  # pyright: ignore[reportMissingImports]

    kind = _KINDS[InfiniDtype(dt)]
    name = (compatability_mode and kind.older_torch) or kind.torch
    found = getattr(torch, name, None) if name else None
    if found is None:
        raise ValueError(f"to_torch_dtype: PyTorch has no counterpart of {InfiniDtype(dt).name}")
    return found


def to_numpy_dtype(dt: int, compatability_mode: bool = False) -> np.dtype:
    """The type in NumPy, where needed that of the package `ml_dtypes`.

    With `compatability_mode` it is a type that every library knows: the signed one of `U16`, `U32`
    and `U64`, and float32 for `BF16` and `F8`.

    Raises:
      ValueError: NumPy has no such type, or needs `ml_dtypes`, which is not installed.
    """
    dtype = InfiniDtype(dt)
    kind = _KINDS[dtype]
    if compatability_mode and kind.older_torch:
        return np.dtype(kind.older_torch)
    if not kind.ml_dtypes:
        return stored_dtype(dtype)
    if compatability_mode and kind.stored:
        return np.dtype(np.float32)
    try:
        import ml_dtypes
    except ImportError:
        needs = f"to_numpy_dtype: {dtype.name} needs the package `ml_dtypes`"
        raise ValueError(needs) from None
    return np.dtype(getattr(ml_dtypes, kind.ml_dtypes))


def stored_dtype(dt: int) -> np.dtype:
    """What memory of such elements is for NumPy: `BF16` is uint16 and `F8` uint8, their bits.

    Raises:
      ValueError: no NumPy type has elements of that size.
    """
    dtype = InfiniDtype(dt)
    if not _KINDS[dtype].stored:
        raise ValueError(f"NumPy arrays cannot hold elements of {dtype.name}")
    return np.dtype(_KINDS[dtype].stored)


def encoded(values: Any, dt: int) -> np.ndarray:
    """`values` as memory of that type holds them, rounded half to even."""
    stored = stored_dtype(dt)
    if dt == InfiniDtype.BF16:
        return _bf16_bits(np.asarray(values, np.float32))
    if dt == InfiniDtype.F8:
        return _f8_bits(np.asarray(values, np.float32))
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is what F16 has of a large number
        return np.asarray(values).astype(stored)


def decoded(memory: np.ndarray, dt: int) -> np.ndarray:
    """The values in memory of that type: float32 copies for `BF16` and `F8`, else `memory`."""
    if dt == InfiniDtype.BF16:
        return (memory.astype(np.uint32) << 16).view(np.float32)
    if dt == InfiniDtype.F8:
        return _F8_VALUES[memory]
    return memory


def _bf16_bits(values: np.ndarray) -> np.ndarray:
    # A contiguous copy of rank one or more is what `view` takes.
    bits = np.array(values, np.float32, order="C", ndmin=1).view(np.uint32)
    # Half of the dropped part is added, less one where the kept part is even. A NaN is not rounded,
    # for its bits may run over to infinity.
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    quiet = (bits >> 16) | 0x40
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(is_nan, quiet, rounded).astype(np.uint16).reshape(values.shape)


def _f8_magnitudes() -> np.ndarray:
    """Those of the codes 0 to 126 of e4m3fn: a sign, four bits of exponent, three of mantissa."""
    code = np.arange(127)
    exponent, mantissa = code >> 3, code & 7
    normal = (8 + mantissa) * np.exp2(exponent - 10.0)
    return np.where(exponent == 0, mantissa * 2.0**-9, normal)


_F8_MAGNITUDES = _f8_magnitudes()
_F8_VALUES = np.concatenate(
    [[*_F8_MAGNITUDES, np.nan], [*-_F8_MAGNITUDES, np.nan]]
).astype(np.float32)  # fmt: skip
# Above the last one, 464, rounding leaves the range, and the code is NaN.
_F8_MIDDLES = (_F8_MAGNITUDES + np.append(_F8_MAGNITUDES[1:], 480.0)) / 2


def _f8_bits(values: np.ndarray) -> np.ndarray:
    magnitude = np.abs(values).astype(np.float64)
    below = np.searchsorted(_F8_MIDDLES, magnitude, side="left")
    above = np.searchsorted(_F8_MIDDLES, magnitude, side="right")
    # They differ where the value is in the middle of two: the even code has it. NaN sorts last.
    code = np.where(below & 1, above, below)
    return (code + 0x80 * np.signbit(values)).astype(np.uint8)
