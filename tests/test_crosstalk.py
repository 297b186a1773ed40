"""Crosstalk: matrices, folding into the weights, compensation, drift."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flax_layers import OpticalDense
from flax_layers.nnx import OpticalDense as NnxDense
from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec, optical_matmul, physics, quantize
from lumina_jax.hardware import Converters
from lumina_jax.hardware.compensation import compensate
from lumina_jax.hardware.crosstalk import (
    CrosstalkMatrix,
    NearestNeighbor,
    RingComb,
    fold,
    fold_quantized,
    ring_transmission,
)
from lumina_jax.hardware.drift import random_gain, temperature_cycle, temperature_ramp, thermal_gain

ASYMMETRIC = np.array([[1.0, 0.2, 0.05], [0.1, 0.9, 0.2], [0.0, 0.15, 1.1]])


def weights(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


@pytest.mark.parametrize("channels", [8, 16, 33, 368, 736])
@pytest.mark.parametrize("spacing", [0.5, 1.0, 4.0])
def test_comb_closed_forms(channels: int, spacing: float) -> None:
    matrix = RingComb(channels=channels, spacing=spacing).matrix
    with jax.enable_x64(True):
        rho = physics.rho_of_finesse(channels * spacing)
        total = np.asarray(physics.comb_total(channels, rho))
        eigenvalues = np.sort(np.asarray(physics.comb_eigenvalues(channels, rho)))
        condition = float(physics.comb_condition(channels, rho))
    np.testing.assert_allclose(matrix.sum(axis=1) - 1, total, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix), eigenvalues, rtol=1e-5)
    assert np.linalg.cond(matrix) == pytest.approx(condition, rel=1e-5)


def test_condition_at_one_linewidth() -> None:
    comb = RingComb(channels=368, spacing=1.0)
    assert compensate(weights(368, 1), comb).condition == pytest.approx(2.509, abs=5e-4)


def test_lorentzian_comb() -> None:
    comb = RingComb(channels=2001, spacing=1.5, finesse=float("inf"))
    leaked = np.delete(comb.matrix[1000], 1000)
    # The closed forms are of infinitely many channels: the rest of the sum is 2/(4·s²·1000).
    total = float(physics.lorentzian_comb_total(1.5))
    assert leaked.sum() + 1 / (2 * 1.5**2 * 1000.5) == pytest.approx(total, rel=1e-5)
    squares = float(physics.lorentzian_comb_rms(1.5))
    assert np.sum(leaked**2) == pytest.approx(squares, rel=1e-5)


def test_transmission_is_that_of_an_add_drop_ring() -> None:
    phase = np.linspace(-3, 3, 41).astype(np.float32)
    drop, _ = physics.add_drop(phase, 0.9, 1.0)
    finesse = float(physics.finesse(0.81))
    airy = ring_transmission(phase.astype(np.float64) * finesse / (2 * np.pi), finesse)
    np.testing.assert_allclose(airy, np.asarray(drop), rtol=2e-5)


@pytest.mark.parametrize("rows", [2, 3, 6, 7, 11])
def test_fold_is_the_slow_form(rows: int) -> None:
    w = weights(rows, 4)
    want = np.zeros((rows, 4))
    for j in range(rows):
        for i in range(rows):
            if i // 3 == j // 3:
                want[j] += ASYMMETRIC[i % 3, j % 3] * w[i]
    for crosstalk in (ASYMMETRIC, CrosstalkMatrix(ASYMMETRIC), jnp.asarray(ASYMMETRIC, "float32")):
        np.testing.assert_allclose(fold(w, crosstalk), want, rtol=1e-6, atol=1e-6)


def test_gradients_through_fold() -> None:
    w = jnp.asarray(weights(7, 2))
    g = jnp.asarray(weights(7, 2, seed=1))
    by_w, by_matrix = jax.grad(lambda w, c: jnp.vdot(fold(w, c), g), argnums=(0, 1))(
        w, jnp.asarray(ASYMMETRIC, jnp.float32)
    )
    # The adjoint of the fold is a fold with the transpose.
    np.testing.assert_allclose(by_w, fold(g, ASYMMETRIC.T), rtol=1e-6, atol=1e-6)
    want = sum(
        np.asarray(w[k : k + 3], np.float64) @ np.asarray(g[k : k + 3], np.float64).T
        for k in (0, 3)
    )
    want[:1, :1] += np.asarray(w[6:], np.float64) @ np.asarray(g[6:], np.float64).T
    np.testing.assert_allclose(by_matrix, want, rtol=1e-5, atol=1e-5)

    def of_comb(spacing: jax.Array) -> jax.Array:
        index = jnp.arange(3, dtype=jnp.float32)
        detuning = spacing * (index[:, None] - index[None, :])
        return jnp.vdot(fold(w, ring_transmission(detuning, 30.0)), g)

    step = 1e-2
    difference = (of_comb(jnp.float32(1 + step)) - of_comb(jnp.float32(1 - step))) / (2 * step)
    assert jax.grad(of_comb)(jnp.float32(1)) == pytest.approx(float(difference), rel=1e-3)


def test_crosstalk_acts_after_the_converter() -> None:
    w, spec = jnp.asarray(weights(6, 4)), OpticalSpec(dac_bits=8, weight_bits=4, adc_bits=8)
    folded, rest = fold_quantized(w, CrosstalkMatrix(ASYMMETRIC), spec)
    levels = quantize(w, bits=4, full_scale=jnp.abs(w).max(axis=0))
    np.testing.assert_allclose(folded, fold(levels, ASYMMETRIC), rtol=1e-6)
    assert rest == OpticalSpec(dac_bits=8, adc_bits=8)


def test_layers_fold_the_crosstalk_of_their_profile() -> None:
    profile = HardwareProfile(
        noise=NoiseModel(),
        converters=Converters.all(None),
        crosstalk=NearestNeighbor(channels=4, coupling=0.1),
    )
    x = jnp.asarray(weights(5, 6))
    layer = OpticalDense(3, profile=profile, deterministic=True)
    variables = layer.init(jax.random.key(0), x)
    kernel = variables["params"]["kernel"]
    want = optical_matmul(
        x, fold(kernel, NearestNeighbor(channels=4, coupling=0.1)), spec=OpticalSpec()
    )
    np.testing.assert_allclose(layer.apply(variables, x), want, rtol=1e-6, atol=1e-6)
    of_nnx = NnxDense(6, 3, profile=profile, deterministic=True, rngs=nnx.Rngs(0))
    of_nnx.kernel[...] = kernel
    np.testing.assert_allclose(of_nnx(x), want, rtol=1e-6, atol=1e-6)

    def loss(params: Any) -> jax.Array:
        return jnp.sum(layer.apply({**variables, "params": params}, x))

    by_kernel = jax.jit(jax.grad(loss))(variables["params"])["kernel"]
    ones = jnp.ones((5, 3), jnp.float32)
    crosstalk = NearestNeighbor(channels=4, coupling=0.1).matrix.T
    np.testing.assert_allclose(by_kernel, fold(x.T @ ones, crosstalk), rtol=1e-5, atol=1e-5)


def test_compensated_layer_computes_as_without_crosstalk() -> None:
    comb = RingComb(channels=8, spacing=1.0)
    profile = HardwareProfile(noise=NoiseModel(), converters=Converters.all(None), crosstalk=comb)
    x, w = jnp.asarray(weights(9, 20)), weights(20, 5)
    layer = OpticalDense(5, profile=profile, deterministic=True)
    commanded = jnp.asarray(compensate(w, comb).weights)
    params = {"kernel": commanded, "bias": jnp.zeros(5)}
    np.testing.assert_allclose(layer.apply({"params": params}, x), x @ w, rtol=1e-4, atol=1e-4)


def test_profiles_with_crosstalk_compare_and_hash() -> None:
    one, two = (HardwareProfile(crosstalk=CrosstalkMatrix([[1, 0.1], [0.1, 1]])) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert dataclasses.replace(one, crosstalk=None) != one
    with pytest.raises(TypeError, match=re.escape("HardwareProfile: `crosstalk` is of type list")):
        HardwareProfile(crosstalk=[[1.0]])  # type: ignore[arg-type]


def test_modes_undo_crosstalk() -> None:
    w = weights(8, 5)
    full = np.zeros((8, 8))
    for k in (0, 3, 6):
        size = min(3, 8 - k)
        full[k : k + size, k : k + size] = ASYMMETRIC[:size, :size]
    folded = compensate(w, ASYMMETRIC)
    np.testing.assert_allclose(full.T @ folded.weights, w, rtol=1e-5, atol=1e-5)
    inverse = np.linalg.inv(ASYMMETRIC)
    assert folded.cost_bits == pytest.approx(np.log2(np.abs(inverse.T).sum(axis=1).max()))
    assert folded.readout is None
    readout = compensate(w, ASYMMETRIC, "readout")
    np.testing.assert_array_equal(readout.weights, w)
    np.testing.assert_allclose(readout.readout @ ASYMMETRIC, np.eye(3), atol=1e-6)
    assert str(readout).startswith("condition number 1.")
    wiener = compensate(w, ASYMMETRIC, "wiener", regularization=1e-9)
    np.testing.assert_allclose(wiener.weights, folded.weights, rtol=1e-5, atol=1e-5)
    damped = compensate(w, ASYMMETRIC, "wiener", regularization=0.5)
    want = np.linalg.solve(ASYMMETRIC.T @ ASYMMETRIC + 0.5 * np.eye(3), ASYMMETRIC.T)
    np.testing.assert_allclose(damped.readout, want, rtol=1e-5)
    np.testing.assert_allclose(damped.weights[:3], want.T @ w[:3], rtol=1e-5)
    assert damped.condition < wiener.condition
    assert damped.cost_bits < wiener.cost_bits


def test_readout_cost_is_the_noise_gain() -> None:
    comb = RingComb(channels=16, spacing=0.8)
    eigenvalues = np.linalg.eigvalsh(comb.matrix)
    want = 0.5 * np.log2(np.mean(eigenvalues**-2.0))
    assert compensate(weights(16, 2), comb, "readout").cost_bits == pytest.approx(want)


def sqnr_db(w: np.ndarray, commanded: np.ndarray, matrix: np.ndarray) -> float:
    error = matrix.T @ commanded.astype(np.float64) - w
    return float(10 * np.log10(np.sum(w.astype(np.float64) ** 2) / np.sum(error**2)))


def rounded(w: np.ndarray, bits: int) -> np.ndarray:
    """Nearest levels, at the full scale of each column that has the least error."""
    return compensate(w, np.eye(1), "feedback", bits=bits).weights


def test_figures_of_compensation() -> None:
    """4-bit SQNR at a spacing of one linewidth; 368 Gaussian channels at a finesse of 368."""
    comb = RingComb(channels=368, spacing=1.0)
    w = weights(368, 64)
    plain = rounded(w, 4)
    folded = rounded(compensate(w, comb).weights, 4)
    fed_back = compensate(w, comb, "feedback", bits=4).weights
    assert sqnr_db(w, plain, np.eye(368)) == pytest.approx(19.0, abs=0.3)
    assert sqnr_db(w, plain, comb.matrix) == pytest.approx(10.2, abs=0.3)
    assert sqnr_db(w, folded, comb.matrix) == pytest.approx(17.8, abs=0.3)
    assert sqnr_db(w, fed_back, comb.matrix) == pytest.approx(18.4, abs=0.3)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_feedback_levels_survive_the_converter(bits: int) -> None:
    w = weights(22, 6)
    w[:, 2] = 0
    found = compensate(w, CrosstalkMatrix(ASYMMETRIC), "feedback", bits=bits)
    again = quantize(found.weights, bits=bits, full_scale=jnp.abs(found.weights).max(axis=0))
    np.testing.assert_allclose(again, found.weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.abs(found.weights).max(axis=0), found.full_scale, rtol=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_feedback_is_no_worse_than_rounding(seed: int) -> None:
    comb = RingComb(channels=12, spacing=0.7)
    w = weights(12, 8, seed)
    error = {
        name: np.sum((comb.matrix.T @ levels.astype(np.float64) - w) ** 2, axis=0)
        for name, levels in (
            ("feedback", compensate(w, comb, "feedback", bits=4).weights),
            ("rounding", rounded(compensate(w, comb).weights, 4)),
        )
    }
    assert np.all(error["feedback"] <= error["rounding"] * (1 + 1e-5))


def test_condition_limit() -> None:
    close = RingComb(channels=16, spacing=0.3)
    message = "compensate: the condition number of `crosstalk` is 85.94, expected at most"
    with pytest.raises(ValueError, match=re.escape(message)):
        compensate(weights(16, 1), close, max_condition=50)
    assert compensate(weights(16, 1), close).condition == pytest.approx(85.94, abs=0.01)
    with pytest.raises(ValueError, match="is inf, expected at most `max_condition`=100"):
        compensate(weights(2, 1), np.ones((2, 2)) * 0.0)
    assert compensate(weights(2, 1), np.ones((2, 2)), "wiener", regularization=0.1).condition < 10


NAN = float("nan")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CrosstalkMatrix([[1, 0], [0]]), ValueError, "`rows` is ragged"),
        (lambda: CrosstalkMatrix([[1, 0]]), ValueError, "`rows` has shape (1, 2), expected [n, n]"),
        (lambda: CrosstalkMatrix([[NAN]]), ValueError, "`rows` has NaN"),
        (lambda: CrosstalkMatrix([[-0.5]]), ValueError, "`rows` must not be negative, got -0.5"),
        (lambda: CrosstalkMatrix([["a"]]), TypeError, "`rows` is of type <U1"),
        (
            lambda: RingComb(channels=0, spacing=1.0),
            ValueError,
            "`channels` must be from 1 to 65536",
        ),
        (lambda: RingComb(channels=2.0, spacing=1.0), TypeError, "`channels` must be an int"),
        (lambda: RingComb(channels=2, spacing=0.0), ValueError, "`spacing` must be above 0"),
        (lambda: RingComb(channels=2, spacing=NAN), ValueError, "`spacing` must be finite"),
        (lambda: RingComb(channels=2, spacing="1"), TypeError, "`spacing` must be a number"),
        (
            lambda: RingComb(channels=8, spacing=2.0, finesse=10.0),
            ValueError,
            "`finesse` is 10, expected at least channels · spacing = 16",
        ),
        (
            lambda: NearestNeighbor(channels=2, coupling=1.5),
            ValueError,
            "`coupling` must be from 0 to 1, got 1.5",
        ),
        (lambda: NearestNeighbor(channels=2, coupling="x"), TypeError, "`coupling` must be a num"),
        (lambda: fold(np.ones((2, 2), int), np.eye(2)), TypeError, "fold: `w` must be float32"),
        (
            lambda: fold([[1.0, 2.0], [3.0]], np.eye(2)),
            ValueError,
            "fold: `w` must be a rectangular array, got rows of unequal length",
        ),
        (lambda: fold([["a"]], np.eye(1)), TypeError, "fold: `w` must be float32, got [['a']]"),
        (lambda: fold(None, np.eye(1)), TypeError, "fold: `w` must be float32, got None"),
        (lambda: fold(np.ones(2, "f4"), np.eye(2)), ValueError, "fold: `w` has shape (2,)"),
        (
            lambda: fold(np.ones((2, 2), "f4"), jnp.ones((2, 3))),
            ValueError,
            "fold: `crosstalk` has shape (2, 3), expected [n, n]",
        ),
        (lambda: compensate(np.ones(3), np.eye(3)), ValueError, "`w` has shape (3,)"),
        (lambda: compensate([["a"]], np.eye(1)), TypeError, "`w` is of type <U1"),
        (lambda: compensate([[NAN]], np.eye(1)), ValueError, "`w` has NaN"),
        (lambda: compensate([[1.0]], np.eye(1), "x"), ValueError, "`mode` is 'x', expected one"),
        (lambda: compensate([[1.0]], np.eye(1), "feedback"), TypeError, "`bits` must be an int"),
        (
            lambda: compensate([[1.0]], np.eye(1), "feedback", bits=17),
            ValueError,
            "`bits` must be from 2 to 16, got 17",
        ),
        (lambda: compensate([[1.0]], np.eye(1), bits=4), ValueError, "`bits` is for mode 'feedb"),
        (
            lambda: compensate([[1.0]], np.eye(1), "wiener", regularization=-1),
            ValueError,
            "`regularization` must be at least 0, got -1",
        ),
        (
            lambda: compensate([[1.0]], np.eye(1), regularization=1),
            ValueError,
            "`regularization` is for mode 'wiener', got 1 in 'fold'",
        ),
    ],
)
def test_bad_input(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_random_gain() -> None:
    draws = random_gain(jax.random.key(0), (200_000,), gain_std=0.05, phase_std=0.3)
    assert draws.dtype == jnp.float32
    # Means of 200 000 draws, whose standard deviation is below 0.1.
    assert float(draws.mean()) == pytest.approx(np.exp(-(0.3**2) / 2), abs=1e-3)
    still = random_gain(jax.random.key(0), (3,))
    np.testing.assert_array_equal(still, np.ones(3))
    slope = jax.grad(lambda s: jnp.sum(random_gain(jax.random.key(1), (4,), gain_std=s)))(0.1)
    drawn = random_gain(jax.random.key(1), (4,), gain_std=1.0) - 1
    assert float(slope) == pytest.approx(float(drawn.sum()), rel=1e-5)


def test_temperature() -> None:
    gain = thermal_gain(300.5, calibrated_k=300.0, fwhm_m=155e-12)
    assert float(gain) == pytest.approx(0.81, abs=0.005)
    ramp = temperature_ramp(290.0, 310.0, 10)
    assert [float(ramp(step)) for step in (0, 5, 10, 99)] == [290.0, 300.0, 310.0, 310.0]
    cycle = jax.jit(temperature_cycle(300.0, 2.0, 8))
    assert [float(cycle(step)) for step in (0, 2, 6)] == pytest.approx([300, 302, 298], abs=1e-3)
    with pytest.raises(ValueError, match="temperature_ramp: `start_k` must be above 0"):
        temperature_ramp(-1.0, 300.0, 10)
    with pytest.raises(ValueError, match="random_gain: `gain_std` must be at least 0"):
        random_gain(jax.random.key(0), (1,), gain_std=-1.0)


def test_linen_profile_is_static() -> None:
    profile = HardwareProfile(crosstalk=RingComb(channels=4, spacing=2.0))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return OpticalDense(2, profile=profile, deterministic=True)(x)

    x = jnp.ones((2, 5))
    variables = Net().init(jax.random.key(0), x)
    assert jax.jit(Net().apply)(variables, x).shape == (2, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RingComb(channels=10**9, spacing=1.0), "`channels` must be from 1 to 65536"),
        (lambda: RingComb(channels=2, spacing=1e300), "`spacing` must be at most 1e+15 linewidths"),
        (lambda: RingComb(channels=2, spacing=5e-324), "`spacing` must be at least 1e-15 linewid"),
        (lambda: RingComb(channels=2, spacing=1.0, finesse=1.7e308), "`finesse` must be at most"),
        (lambda: RingComb(channels=2, spacing=1.0, finesse=10**400), "`finesse` must be at most"),
        (lambda: RingComb(channels=2, spacing=1.0, detuning=-1e300), "`detuning` must be at most"),
        (lambda: NearestNeighbor(channels=10**9, coupling=0.1), "`channels` must be from 1 to"),
        (lambda: CrosstalkMatrix([[1e200]]), "CrosstalkMatrix: `rows` must be at most 1e+15"),
        (lambda: fold(np.ones((1, 1), "f4"), jnp.zeros((0, 0))), "`crosstalk` has shape (0, 0)"),
        (lambda: fold(np.ones((1, 1), "f4"), jnp.full((1, 1), NAN)), "`crosstalk` must be finite"),
        (lambda: compensate([[1.0]], jnp.full((1, 1), NAN)), "`crosstalk` must be finite, got"),
        (lambda: compensate([[1.0]], -jnp.ones((1, 1))), "`crosstalk` must be at least 0, got"),
        (lambda: compensate([[1e300]], np.eye(1)), "compensate: `w` must be at most 1e+15"),
        (
            lambda: compensate([[1.0]], np.eye(1), "wiener", regularization=1e300),
            "compensate: `regularization` must be at most 1e+15, got 1e+300",
        ),
    ],
)
def test_what_no_device_has(make: Any, message: str) -> None:
    with np.errstate(all="raise"), pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_figures_of_any_type_are_kept_as_numbers() -> None:
    comb = RingComb(channels=np.int64(2), spacing=np.float16(2), detuning=jnp.asarray(0.5))
    assert comb == RingComb(channels=2, spacing=2.0, detuning=0.5)
    assert hash(comb) == hash(RingComb(channels=2, spacing=2.0, detuning=0.5))
    with np.errstate(all="raise"):
        for spacing in (1e-15, 1e-9, 1e15):
            assert np.isfinite(RingComb(channels=3, spacing=spacing, finesse=math.inf).matrix).all()
