"""Resolution of the converters, and of the backward pass."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

GradPrecision: TypeAlias = Literal["float32", "bfloat16", "int8"]
"""What the products of the backward pass are computed in."""


@dataclass(frozen=True, kw_only=True)
class OpticalSpec:
    """The converters of an optical matmul, and its gradient; static, so each spec compiles once.

    Bits are an int from 1 to 32, or None for no converter. From 24 on they round no more coarsely
    than f32 does, and there is no converter either; one bit is the sign.

    Raises:
        TypeError: bits or `array_rows` are not an int, or `grad_precision` is not a string.
        ValueError: bits or `array_rows` are out of range, or `grad_precision` is none of the three.
    """

    dac_bits: int | None = None
    """Of the DAC that encodes the input x."""
    weight_bits: int | None = None
    """Of the DAC that sets the weights w."""
    adc_bits: int | None = None
    """Of the ADC that reads the output y."""
    grad_precision: GradPrecision = "float32"
    """Of the matrix products of the gradient. "bfloat16" rounds their factors to bfloat16; "int8"
    rounds the upstream one to 8 bits at random, without bias, and needs a key. All are defined in
    docs/gradient_precision.md. The gradient of both products of attention is in float32 whatever
    is said here.
    """
    array_rows: int | None = None
    """Inputs of an array with an ADC and noise of its own: K inputs take ⌈K/array_rows⌉ arrays,
    whose outputs are added. None: one array has all inputs. docs/tiles.md explains it.
    """

    def __post_init__(self) -> None:
        for name in ("dac_bits", "weight_bits", "adc_bits"):
            bits = check_bits("OpticalSpec", name, getattr(self, name))
            object.__setattr__(self, name, bits)
        precision: object = self.grad_precision
        if precision not in get_args(GradPrecision):
            expected = ", ".join(map(repr, get_args(GradPrecision)))
            message = f"OpticalSpec: `grad_precision` must be one of {expected}, got {precision!r}"
            raise ValueError(message) if isinstance(precision, str) else TypeError(message)
        object.__setattr__(self, "array_rows", check_array_rows("OpticalSpec", self.array_rows))


def check_bits(op: str, name: str, bits: int | None) -> int | None:
    """Bits of a converter as a Python int or None, for every function that takes them.

    Raises:
        TypeError: they are no int.
        ValueError: they are out of range.
    """
    if bits is None:
        return None
    try:
        if isinstance(bits, bool):
            raise TypeError
        bits = operator.index(bits)
    except TypeError:
        message = f"{op}: `{name}` must be an int or None, got {bits!r}"
        raise TypeError(message) from None
    if not 1 <= bits <= 32:
        raise ValueError(
            f"{op}: `{name}` must be from 1 to 32, or None for off, as 24 and more are; got {bits}"
        )
    return bits


def op_bits(bits: int | None) -> int:
    """Bits as the ops take them: 0 is off, and so is what is no coarser than f32."""
    return 0 if bits is None or bits >= 24 else bits


def check_array_rows(op: str, rows: int | None) -> int | None:
    """Inputs of an array as a Python int or None, for every function that takes them.

    Raises:
        TypeError: they are no int.
        ValueError: they are out of range.
    """
    if rows is None:
        return None
    try:
        if isinstance(rows, bool):
            raise TypeError
        rows = operator.index(rows)
    except TypeError:
        message = f"{op}: `array_rows` must be an int or None, got {rows!r}"
        raise TypeError(message) from None
    if not 1 <= rows < 2**31:
        raise ValueError(
            f"{op}: `array_rows` must be from 1 to 2147483647, or None for one array that has all "
            f"inputs; got {rows}"
        )
    return rows


def op_array_rows(rows: int | None, depth: Any) -> int:
    """Inputs of an array as the ops take them: 0 where one array has all of `depth`."""
    if rows is None or (isinstance(depth, int) and rows >= depth):
        return 0
    return rows
