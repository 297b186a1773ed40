"""Resolution of the converters."""

from __future__ import annotations

import operator
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class OpticalSpec:
    """Bits of the three converters of an optical matmul; static, so each spec compiles once.

    An int from 1 to 32, or None for no converter. 24 bits and more round as f32 does and are
    None as well; one bit is the sign.

    Raises:
        TypeError: where bits are not an int.
        ValueError: where they are out of range.
    """

    dac_bits: int | None = None
    """Of the DAC that encodes the input x."""
    weight_bits: int | None = None
    """Of the DAC that sets the weights w."""
    adc_bits: int | None = None
    """Of the ADC that reads the output y."""

    def __post_init__(self) -> None:
        for field in fields(self):
            bits = getattr(self, field.name)
            object.__setattr__(self, field.name, check_bits("OpticalSpec", field.name, bits))


def check_bits(op: str, name: str, bits: int | None) -> int | None:
    """`bits` as a Python int or None, or the TypeError or ValueError that says what is wrong."""
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
        raise ValueError(f"{op}: `{name}` must be from 1 to 32, or None for off, got {bits}")
    return bits


def op_bits(bits: int | None) -> int:
    """Bits as the ops take them: 0 is off, and so is what is no coarser than f32."""
    return 0 if bits is None or bits >= 24 else bits
