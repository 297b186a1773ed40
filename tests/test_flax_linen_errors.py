"""What `flax_layers.OpticalDense` refuses, and how it says so."""

from __future__ import annotations

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from flax_layers import OpticalDense

X = jax.random.normal(jax.random.key(7), (6, 5))


@pytest.mark.parametrize("features", [0, -1, 2.0, True])
def test_features_must_be_a_positive_int(features: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"OpticalDense: `features` is {features}, expected a positive int"
    ):
        OpticalDense(features).init(jax.random.key(0), X)


def test_unknown_preset_lists_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"lumina_pico.*lumina_micro_v1, lumina_nano_v1"):
        OpticalDense(4, profile="lumina_pico").init(jax.random.key(0), X)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"profile": 3}, TypeError, "`profile` is of type int, expected a HardwareProfile"),
        ({"ranges": "guess"}, ValueError, "`ranges` is 'guess', expected 'calibrate' or 'learn'"),
        ({"momentum": 1.0}, ValueError, r"`momentum` is 1.0, expected 0 <= momentum < 1"),
        ({"param_dtype": jnp.int32}, TypeError, "expected float32, bfloat16 or float16"),
    ],
)
def test_fields_are_checked(fields: Any, error: type[Exception], message: str) -> None:
    zeros = nn.initializers.zeros
    with pytest.raises(error, match=f"OpticalDense: {message}" if "`" in message else message):
        OpticalDense(4, kernel_init=zeros, **fields).init(jax.random.key(0), X)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (jnp.float32(1.0), ValueError, r"`x` is a scalar, expected shape \[..., in_features\]"),
        (jnp.ones((2, 5), jnp.int32), TypeError, "`x` is int32, expected float32, bfloat16"),
        (jnp.ones((2, 5), jnp.complex64), TypeError, "`x` is complex64, expected float32"),
    ],
)
def test_inputs_are_checked(x: jax.Array, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"OpticalDense: {message}"):
        OpticalDense(4).init(jax.random.key(0), x)


def test_another_width_of_input_is_refused() -> None:
    variables = OpticalDense(4).init(jax.random.key(0), X)
    with pytest.raises(flax.errors.ScopeParamShapeError, match="kernel"):
        OpticalDense(4).apply(variables, X[:, :3], deterministic=True)
