"""Initializers and activations of complex networks."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lumina_jax
from lumina_jax import layers

KEY = jax.random.key(1)
Z = jax.random.normal(KEY, (50,), jnp.complex64)


@pytest.mark.parametrize(
    ("initializer", "variance"),
    [(layers.complex_glorot(), 2 / 500), (layers.complex_he(), 2 / 200)],
)
def test_variance_and_phase(initializer: Any, variance: float) -> None:
    w = np.asarray(initializer(KEY, (200, 300), jnp.complex64))
    # 60,000 numbers: a standard error of 0.4 % of the variance.
    np.testing.assert_allclose(np.mean(np.abs(w) ** 2), variance, rtol=0.02)
    assert abs(np.mean(w / np.abs(w))) < 0.02
    # The median of a Rayleigh distribution.
    np.testing.assert_allclose(np.median(np.abs(w)) ** 2, variance * np.log(2), rtol=0.03)


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9)])
def test_unitary(shape: tuple[int, int]) -> None:
    w = np.asarray(layers.unitary(2.0)(KEY, shape, jnp.complex64)) / 2
    product = w.conj().T @ w if shape[0] >= shape[1] else w @ w.conj().T
    np.testing.assert_allclose(product, np.eye(min(shape)), atol=1e-6)


@pytest.mark.parametrize("initializer", [layers.complex_glorot(), layers.unitary()])
def test_initializers_are_for_complex_numbers(initializer: Any) -> None:
    with pytest.raises(TypeError, match="`dtype` is float32, expected complex64 or complex128"):
        initializer(KEY, (3, 3), jnp.float32)
    with pytest.raises(ValueError, match=r"`shape` is \(3,\), expected"):
        initializer(KEY, (3,), jnp.complex64)


def test_activations_are_their_formulas() -> None:
    z = np.asarray(Z)
    size, phase = np.abs(z), z / np.abs(z)
    np.testing.assert_allclose(
        layers.mod_relu(Z, -0.5), np.maximum(size - 0.5, 0) * phase, atol=1e-6
    )
    np.testing.assert_allclose(layers.cardioid(Z), z * (1 + phase.real) / 2, atol=1e-6)
    np.testing.assert_array_equal(
        layers.complex_relu(Z), np.maximum(z.real, 0) + 1j * np.maximum(z.imag, 0)
    )
    np.testing.assert_allclose(layers.detect(Z), size**2, rtol=1e-6)
    real = jnp.linspace(-1, 1, 7).astype(jnp.complex64)
    np.testing.assert_allclose(layers.cardioid(real), jax.nn.relu(real.real), atol=1e-7)


@pytest.mark.parametrize(
    "activation",
    [lambda z: layers.mod_relu(z, 0.5), layers.cardioid, layers.complex_relu, layers.detect],
)
def test_derivatives_are_finite_at_zero(activation: Any) -> None:
    def loss(z: jax.Array) -> jax.Array:
        return jnp.sum(jnp.abs(activation(z) - 1) ** 2)

    at = jnp.array([0, 1e-20, 1 + 0j, 1j], jnp.complex64)
    assert jnp.isfinite(jax.grad(loss)(at)).all()
    assert jnp.isfinite(jax.grad(lambda z: jnp.abs(jax.grad(loss)(z)).sum())(at + 0.1)).all()


def test_activations_are_for_complex_numbers() -> None:
    for activation in (layers.cardioid, layers.complex_relu, layers.detect):
        text = f"{activation.__name__}: `z` is float32, expected complex64 or complex128"
        with pytest.raises(TypeError, match=text):
            activation(Z.real)


def test_a_layer_refuses_crosstalk_of_powers() -> None:
    preset = lumina_jax.hardware.presets()["lumina_nano_v1"]
    crosstalk = lumina_jax.crosstalk.NearestNeighbor(channels=8, coupling=0.01)
    layer = layers.ComplexOpticalDense(3, profile=dataclasses.replace(preset, crosstalk=crosstalk))
    with pytest.raises(ValueError, match=r"^ComplexOpticalDense: `profile` has crosstalk"):
        layer.init(KEY, Z[None], deterministic=True)
