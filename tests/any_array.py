"""Calls of every op on arrays of any library, which the tests of all libraries run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import lumina_jax as lj
from lumina_jax._native import _lumina

SEED = 2**33 + 7
KEY = np.array([2, 7], np.uint32)
"""The words of the key that the seed stands for."""

RNG = np.random.default_rng(3)
FINE = lj.OpticalSpec(dac_bits=6, weight_bits=6, adc_bits=8)
NOISE = lj.NoiseModel(relative=0.1, thermal=0.01)
RECEIVER = lj.NoiseModel(relative=0.1, thermal=0.01, shot=0.1, weight=0.05, unit="full_scale")
NOISY = {"spec": FINE, "noise": NOISE, "y_full_scale": 5.0}


class Calls:
    """What the kernels were given and what they returned, by address."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inputs: set[int] = set()
        self.outputs: set[int] = set()
        call = _lumina.call

        def spy(op: str, attrs: Any, inputs: Any) -> Any:
            results = call(op, attrs, inputs)
            self.inputs |= {array.ctypes.data for array in inputs}
            self.outputs |= {array.ctypes.data for array in results}
            return results

        monkeypatch.setattr(_lumina, "call", spy)


def real(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.normal(size=shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray[Any, Any]:
    return np.abs(real(*shape)) + np.float32(0.5)


def complexes(*shape: int) -> np.ndarray[Any, Any]:
    return (real(*shape) + 1j * real(*shape)).astype(np.complex64)


class Case(NamedTuple):
    """A call: the name of the op, its arrays, and the other arguments, arrays among them."""

    name: str
    arrays: tuple[np.ndarray[Any, Any], ...]
    options: dict[str, Any]
    shares: bool = True
    """Whether the kernel sees the arrays as they are: none is empty, and none is changed first."""

    @property
    def draws(self) -> bool:
        """Whether the op takes a seed."""
        return self.name not in ("causal_softmax", "complex_matmul", "quantize")

    def expected(self) -> tuple[np.ndarray[Any, Any], ...]:
        """What JAX returns."""
        key = {"key": KEY} if self.draws else {}
        results = getattr(lj, self.name)(*self.arrays, **self.options, **key)
        return tuple(map(np.asarray, results if isinstance(results, tuple) else (results,)))

    def on(self, module: Any, made: Callable[[Any], Any]) -> tuple[Any, ...]:
        """What the op of that module returns for arrays as `made` makes them."""
        seed = {"seed": SEED} if self.draws else {}
        options = {
            name: made(value) if isinstance(value, np.ndarray) else value
            for name, value in self.options.items()
        }
        results = getattr(module, self.name)(*map(made, self.arrays), **options, **seed)
        return results if isinstance(results, tuple) else (results,)


CASES = [
    Case("optical_matmul", (real(5, 8), real(8, 3), real(3)), NOISY),
    Case(
        "optical_matmul",
        (real(2, 5, 8), real(8, 3)),
        {
            "profile": "lumina_nano_v1",
            "y_full_scale": 5.0,
            "return_pre_noise": True,
            "return_peak": True,
            "return_x_peak": True,
        },
        shares=False,
    ),
    Case(
        "optical_matmul",
        (real(5, 8), real(8, 3), real(3)),
        {
            "spec": FINE,
            "noise": RECEIVER,
            "y_full_scale": positive(3),
            "x_full_scale": positive(5),
            "w_full_scale": positive(3),
        },
        shares=False,
    ),
    Case(
        "optical_matmul",
        (real(5, 8), real(8, 3)),
        {
            "spec": lj.OpticalSpec(array_rows=3, adc_bits=8),
            "noise": lj.NoiseModel(relative=jax.numpy.float32(0.2)),
            "y_full_scale": np.float32(5),
            "first_row": 4_000_000_000,
        },
    ),
    Case("optical_matmul", (real(0, 8), real(8, 3), real(3)), NOISY, shares=False),
    Case("optical_matmul", (real(2, 0, 8), real(8, 3)), NOISY, shares=False),
    Case("optical_matmul", (real(3, 0), real(0, 3), real(3)), NOISY, shares=False),
    Case("optical_matmul", (real(3, 4), real(4, 0)), NOISY, shares=False),
    Case("optical_matmul", (real(8), real(8, 3)), NOISY),
    Case("complex_matmul", (complexes(2, 3, 4), complexes(4, 5)), {}),
    Case("complex_optical_matmul", (complexes(3, 4), complexes(4, 5), complexes(5)), NOISY),
    Case(
        "optical_conv",
        (real(4, 5, 5, 4), real(3, 3, 2, 6), real(6)),
        NOISY | {"feature_group_count": 2, "strides": [2, 1], "return_peak": True},
    ),
    Case(
        "optical_conv",
        (real(4, 5, 4), real(3, 4, 6)),
        NOISY | {"padding": "REFLECT", "return_x_peak": True},
        shares=False,
    ),
    Case("optical_conv", (real(4, 6, 4), real(2, 4, 6)), NOISY | {"strides": 3}),
    Case("optical_conv", (real(0, 6, 4), real(2, 4, 6)), NOISY, shares=False),
    Case(
        "causal_softmax",
        (real(4, 5, 5),),
        {"lengths": np.array([3, 4, 5, 0], np.int32), "offset": 1, "scale": 0.5},
    ),
    Case(
        "optical_attention",
        (real(4, 5, 4, 8), real(4, 6, 2, 8), real(4, 6, 2, 3)),
        {
            "spec": lj.OpticalSpec(dac_bits=6, adc_bits=6),
            "noise": RECEIVER,
            "scores_full_scale": 10.0,
            "out_full_scale": positive(4),
            "causal": True,
            "offset": 1,
            "lengths": 5,
            "return_peaks": True,
            "first_row": 9,
        },
        shares=False,
    ),
    Case(
        "optical_attention",
        (real(4, 5, 2, 4), real(4, 5, 2, 4), real(4, 5, 2, 4)),
        {"spec": lj.OpticalSpec(dac_bits=6), "noise": NOISE, "lengths": np.array([[2, 3]] * 4)},
    ),
    Case("quantize", (real(4, 5),), {"bits": 5}),
    Case("quantize", (real(4, 5),), {"bits": None}, shares=False),
    Case("quantize", (real(2, 4, 5),), {"bits": 5, "full_scale": positive(5)}),
    Case("quantize", (real(0, 5),), {"bits": 5}, shares=False),
]
IDS = [f"{index}-{case.name}" for index, case in enumerate(CASES)]
