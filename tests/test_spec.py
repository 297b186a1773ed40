"""The bits of the converters, and the public names."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

import lumina_jax
from lumina_jax import OpticalSpec


def test_public_names() -> None:
    assert lumina_jax.__all__ == sorted(lumina_jax.__all__)
    assert all(hasattr(lumina_jax, name) for name in lumina_jax.__all__)
    assert lumina_jax.__version__ == lumina_jax.version()


def test_spec_is_static() -> None:
    spec = OpticalSpec(dac_bits=8, adc_bits=None)
    assert hash(spec) == hash(OpticalSpec(dac_bits=8))
    assert spec.weight_bits is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.dac_bits = 4  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        OpticalSpec(8)  # type: ignore[misc]


def test_spec_takes_any_integer() -> None:
    spec = OpticalSpec(dac_bits=np.int64(8), weight_bits=1, adc_bits=32)  # type: ignore[arg-type]
    assert type(spec.dac_bits) is int


@pytest.mark.parametrize("field", ["dac_bits", "weight_bits", "adc_bits"])
@pytest.mark.parametrize("bits", [0, -1, 33, 1000])
def test_spec_range(field: str, bits: int) -> None:
    message = (
        f"OpticalSpec: `{field}` must be from 1 to 32, or None for off, as 24 and more are; "
        f"got {bits}"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        OpticalSpec(**{field: bits})


@pytest.mark.parametrize("bits", [True, False, 8.0, "8", [8], np.float32(8)])
def test_spec_type(bits: Any) -> None:
    message = f"OpticalSpec: `adc_bits` must be an int or None, got {bits!r}"
    with pytest.raises(TypeError, match=re.escape(message)):
        OpticalSpec(adc_bits=bits)


def test_spec_grad_precision() -> None:
    assert OpticalSpec().grad_precision == "float32"
    specs = {OpticalSpec(grad_precision=p) for p in ("float32", "bfloat16", "int8", "float32")}
    assert len(specs) == 3


@pytest.mark.parametrize(
    ("value", "error"),
    [(8, TypeError), (None, TypeError), (np.float32, TypeError), (["int8"], TypeError),
     ("int4", ValueError), ("INT8", ValueError), ("", ValueError)],
)  # fmt: skip
def test_spec_grad_precision_errors(value: Any, error: type[Exception]) -> None:
    message = (
        f"OpticalSpec: `grad_precision` must be one of 'float32', 'bfloat16', 'int8', got {value!r}"
    )
    with pytest.raises(error, match=re.escape(message)):
        OpticalSpec(grad_precision=value)
