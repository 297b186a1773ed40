"""What a model of the zoo is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

RNG = np.random.default_rng(0)


class Case(NamedTuple):
    """A function of parameters and inputs, as a package that is not ours has it."""

    function: Callable[..., Any]
    params: Any
    inputs: tuple[np.ndarray, ...]


# Made when it is run, as a package may be missing.
Make = Callable[[], Case]


def images(count: int, size: int, channels: int = 3) -> np.ndarray:
    """f32[count, size, size, channels]."""
    return RNG.normal(size=(count, size, size, channels)).astype(np.float32)


def normal(*shape: int) -> np.ndarray:
    """Normal numbers in f32."""
    return RNG.normal(size=shape).astype(np.float32)


def tokens(count: int, length: int, vocabulary: int = 90) -> np.ndarray:
    """i32[count, length], none of which is 0."""
    return RNG.integers(1, vocabulary, (count, length)).astype(np.int32)
