"""The base of the attributes of an op: what is known when tracing.

    @dataclass(frozen=True, kw_only=True)
    class Attrs(Attributes):
        bits: int

A field is a bool, an int, a float, a str or a tuple of ints: what jaxprs, XLA, NumPy and files all
can hold. Attributes are a part of the keys under which compiled programs are kept, so they are
equal only where their bits are.
"""

from __future__ import annotations

import functools
import math
import struct
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_INTS = tuple[int, ...]
_WORDS: Mapping[Any, str] = {
    bool: "a bool",
    int: "an int",
    float: "a float",
    str: "a str",
    _INTS: "a tuple of ints",
}


@dataclass(frozen=True)
class Attributes:
    """The attributes of an op that has none, and the base of all others.

    Raises:
        TypeError: a value is not of the type of its field. A float may be given as an int.
    """

    def __post_init__(self) -> None:
        for name, kind in field_types(type(self)).items():
            value = getattr(self, name)
            if kind is float and (isinstance(value, float) or type(value) is int):
                object.__setattr__(self, name, Float(value))
            elif not _is(kind, value):
                op = type(self).__module__.rpartition(".")[2]
                raise TypeError(f"{op}: `{name}` must be {_WORDS[kind]}, got {value!r}")


@functools.cache
def field_types(attrs: type[Attributes]) -> Mapping[str, Any]:
    """The type of each attribute; a TypeError where there is none of that type."""
    types = typing.get_type_hints(attrs)
    for name, kind in types.items():
        if kind not in _WORDS:
            op = attrs.__module__.rpartition(".")[2]
            expected = ", ".join(_WORDS.values())
            raise TypeError(f"{op}: `{name}` is declared as {kind}, expected one of {expected}")
    return types


def _is(kind: Any, value: Any) -> bool:
    if kind == _INTS:
        return type(value) is tuple and all(type(item) is int for item in value)
    return type(value) is kind


class Float(float):
    """A float that is equal to the same bits alone: 0.0 is not -0.0, and a NaN is itself."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and _bits(self) == _bits(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(_bits(self)) if math.isnan(self) else super().__hash__()


def _bits(value: float) -> bytes:
    return struct.pack("<d", value)
