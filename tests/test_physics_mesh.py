"""Interferometer meshes: matrices, phase errors, thermal crosstalk."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumina_jax import physics


def _angles(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    theta, phi = rng.uniform(0, 2 * np.pi, (2, n, n // 2)).astype(np.float32)
    return theta, phi, rng.uniform(0, 2 * np.pi, n).astype(np.float32)


def test_mzi_closed_form() -> None:
    theta, phi = np.float32(0.7), np.float32(-1.3)
    s, c, e = math.sin(theta / 2), math.cos(theta / 2), np.exp(1j * phi)
    expected = 1j * np.exp(0.5j * theta) * np.array([[e * s, c], [e * c, -s]])
    np.testing.assert_allclose(physics.mzi(theta, phi), expected, atol=1e-6)


def test_imperfect_couplers_bound_the_extinction() -> None:
    matrix = physics.mzi(0.0, 0.0, coupler_1_rad=math.pi / 4 + 0.1, coupler_2_rad=math.pi / 4 + 0.1)
    # Miller: the bar state leaks sin²(2·0.1) of the power at θ = 0.
    assert float(abs(matrix[0, 0]) ** 2) == pytest.approx(math.sin(0.2) ** 2, rel=1e-4)
    np.testing.assert_allclose(matrix @ matrix.conj().T, np.eye(2), atol=1e-6)


@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_mesh_is_a_product_of_embedded_matrices(n: int) -> None:
    theta, phi, output = _angles(n, n)
    expected = np.eye(n, dtype=complex)
    for layer in range(n):
        for pair in range((n - layer % 2) // 2):
            top = 2 * pair + layer % 2
            embedded = np.eye(n, dtype=complex)
            embedded[top : top + 2, top : top + 2] = np.asarray(
                physics.mzi(theta[layer, pair], phi[layer, pair])
            )
            expected = embedded @ expected
    expected = np.diag(np.exp(1j * output)) @ expected
    actual = jax.jit(physics.mesh)(theta, phi, output)
    np.testing.assert_allclose(actual, expected, atol=3e-6)
    np.testing.assert_allclose(actual @ actual.conj().T, np.eye(n), atol=3e-6)
    assert float(physics.fidelity(actual, 1j * actual)) == pytest.approx(1, rel=1e-5)


def test_mesh_error() -> None:
    n, sigma = 6, 0.01
    theta, phi, output = _angles(n, 0)
    target = physics.mesh(theta, phi, output)

    def error(key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, 3)
        angles = (
            a + sigma * jax.random.normal(k, a.shape)
            for a, k in zip((theta, phi, output), keys, strict=True)
        )
        return jnp.sum(jnp.abs(physics.mesh(*angles) - target) ** 2) / n

    errors = jax.vmap(error)(jax.random.split(jax.random.key(0), 2000))
    # 2000 draws of 36 squares: a standard error of 0.6 %; the second order is below 0.4 %.
    measured = float(jnp.sqrt(jnp.mean(errors)))
    assert measured == pytest.approx(float(physics.mesh_error(sigma, n)), rel=0.02)


def test_phase_quantization() -> None:
    for bits in (4, 8):
        step = 2 * math.pi / 2**bits
        std = float(physics.phase_quantization_std(bits))
        assert std == pytest.approx(step / math.sqrt(12), rel=1e-6)


def test_thermal_crosstalk() -> None:
    gamma = physics.thermal_crosstalk([0.0, 50e-6, 150e-6], 0.1, 100e-6)
    expected = 0.1 * np.exp(-np.array([[0, 0.5, 1.5], [0.5, 0, 1.0], [1.5, 1.0, 0]]))
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(gamma, expected, rtol=1e-6)
    plane = physics.thermal_crosstalk([[0.0, 0.0], [30e-6, 40e-6]], 0.1, 50e-6)
    assert float(plane[0, 1]) == pytest.approx(0.1 * math.exp(-1), rel=1e-6)
    # Two heaters on one spot share all that γ lets through; nothing here divides by a distance.
    positions = jnp.array([0.0, 0.0, 1e-5], jnp.float32)
    slope = jax.grad(lambda p: physics.thermal_crosstalk(p, 0.1, 1e-4).sum())(positions)
    assert bool(jnp.all(jnp.isfinite(slope)))


def test_compensation_inverts_crosstalk() -> None:
    rng = np.random.default_rng(0)
    gamma = physics.thermal_crosstalk(np.arange(12) * 40e-6, 0.2, 60e-6)
    wanted = rng.uniform(0, 2 * np.pi, (5, 12)).astype(np.float32)
    command = physics.compensate_thermal_crosstalk(wanted, gamma)
    assert float(jnp.max(jnp.abs(command - wanted))) > 0.1
    np.testing.assert_allclose(
        physics.apply_thermal_crosstalk(command, gamma), wanted, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        physics.compensate_thermal_crosstalk(wanted[0], gamma), command[0], atol=1e-5
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: physics.mesh(np.zeros((4, 1)), np.zeros((4, 2)), np.zeros(4)), ValueError,
         "mesh: `theta_rad` has shape (4, 1), expected (4, 2)"),
        (lambda: physics.mesh(0.0, 0.0, [0.0]), ValueError,
         "mesh: `output_rad` has shape (1,), expected (n,) with n >= 2"),
        (lambda: physics.fidelity(np.eye(2), np.eye(3)), ValueError,
         "fidelity: `actual` has shape (3, 3), expected that of `target`, square: (2, 2)"),
        (lambda: physics.fidelity(None, np.eye(2)), TypeError,
         "fidelity: `target` must be a matrix of numbers, got None"),
        (lambda: physics.fidelity(np.eye(2), "a"), TypeError,
         "fidelity: `actual` must be a matrix of numbers, got 'a'"),
        (lambda: physics.fidelity([["a"]], np.eye(1)), TypeError,
         "fidelity: `target` must be a matrix of numbers, got [['a']]"),
        (lambda: physics.fidelity(np.eye(2), np.eye(2) > 0), TypeError,
         "fidelity: `actual` must be a matrix of numbers, got bool"),
        (lambda: physics.fidelity(np.full((2, 2), np.nan), np.eye(2)), ValueError,
         "fidelity: `target` must be finite, got NaN or infinity"),
        (lambda: physics.fidelity(np.eye(2), [[1.0, 0.0], [1.0]]), ValueError,
         "fidelity: `actual` must be a rectangular array, got rows of unequal length"),
        (lambda: physics.fidelity(np.full((2, 2), 1e30), np.eye(2)), ValueError,
         "fidelity: `target` must be unitary, got a matrix of gain, whose mean power is 2e+60"),
        (lambda: physics.fidelity(np.eye(2), 2 * np.eye(2)), ValueError,
         "fidelity: `actual` must be unitary, got a matrix of gain, whose mean power is 4"),
        (lambda: physics.fidelity(np.zeros((0, 0)), np.zeros((0, 0))), ValueError,
         "fidelity: `target` has shape (0, 0), expected at least one mode"),
        (lambda: physics.compensate_thermal_crosstalk([1.0, 1.0], [[0, 1], [1, 0]]), ValueError,
         "compensate_thermal_crosstalk: `crosstalk` must leave I + Γ regular, got a condition"),
        (lambda: physics.thermal_crosstalk([0.0, 1.0], [0.1, 0.2], 1e-4), ValueError,
         "thermal_crosstalk: `coupling` has shape (2,), expected a scalar"),
        (lambda: physics.thermal_crosstalk([0.0, 1.0], 0.1, []), ValueError,
         "thermal_crosstalk: `decay_m` has shape (0,), expected a scalar"),
        (lambda: physics.mesh_error(3e38, 4), ValueError,
         "mesh_error: `phase_std_rad` must be at most 1"),
        (lambda: physics.thermal_crosstalk(0.0, 0.1, 1e-4), ValueError,
         "thermal_crosstalk: `positions_m` has shape (), expected (p,) or (p, d)"),
        (lambda: physics.thermal_crosstalk([0.0], 1.0, 1e-4), ValueError,
         "thermal_crosstalk: `coupling` must be below 1, got 1.0"),
        (lambda: physics.thermal_crosstalk([[0.0], [0.0, 1.0]], 0.1, 1e-4), ValueError,
         "thermal_crosstalk: `positions_m` must be a rectangular array"),
        (lambda: physics.apply_thermal_crosstalk([0.0, 1.0], np.eye(3)), ValueError,
         "apply_thermal_crosstalk: `crosstalk` has shape (3, 3), expected (p, p) with p the last "
         "extent of `command_rad`, which has shape (2,)"),
        (lambda: physics.phase_quantization_std(0), ValueError,
         "phase_quantization_std: `bits` must be at least 1, got 0"),
        (lambda: physics.mesh_error(-0.1, 4), ValueError,
         "mesh_error: `phase_std_rad` must be at least 0, got -0.1"),
    ],
)  # fmt: skip
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.parametrize("n", range(1, 10))
def test_laws_of_the_fidelity(n: int) -> None:
    rng = np.random.default_rng(n)

    def unitary() -> np.ndarray:
        return np.linalg.qr(rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n)))[0]

    u, v = unitary(), unitary()
    permutation = np.eye(n)[rng.permutation(n)]
    for matrix in (u, np.eye(n), permutation, np.diag(np.exp(1j * np.arange(n)))):
        for phase in (1, 1j, np.exp(0.3j)):
            assert float(physics.fidelity(matrix, phase * matrix)) == pytest.approx(1, rel=1e-5)
    both = physics.fidelity(np.stack([u, v]), np.stack([v, u]))
    # Sums of n² products in f32.
    np.testing.assert_allclose(both, abs(np.trace(u.conj().T @ v)) ** 2 / n**2, atol=1e-5)
    # Losses count: half of the power in every mode.
    assert float(physics.fidelity(u, u / math.sqrt(2))) == pytest.approx(0.5, rel=1e-5)
