"""Microrings, drift and the closed forms of combs, against brute force in float64."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumina_jax import physics

# What the closed forms are to hold to.
RTOL = 1e-5

COUPLING = st.floats(0.05, 0.98)
LOSS = st.floats(0.5, 1.0)


def _field(phase: np.ndarray, r: float, a: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Power of all-pass, drop and through, from the sum over round trips of the fields."""
    trip = a * np.exp(1j * phase)
    loops = np.arange(4000)
    k2 = 1 - r * r
    all_pass = r - k2 * trip * ((r * trip[:, None]) ** loops).sum(axis=1)
    around = ((r * r * trip[:, None]) ** loops).sum(axis=1)
    through = r - k2 * r * trip * around
    drop = -k2 * np.sqrt(trip) * around
    return np.abs(all_pass) ** 2, np.abs(drop) ** 2, np.abs(through) ** 2


@given(COUPLING, LOSS)
def test_transmissions_are_sums_over_round_trips(r: float, a: float) -> None:
    phase = np.linspace(-3, 3, 9)
    all_pass, drop, through = _field(phase, r, a)
    # Absolute: on resonance the field is a small difference of numbers near 1.
    np.testing.assert_allclose(physics.all_pass(phase, r, a), all_pass, rtol=2e-4, atol=1e-6)
    got_drop, got_through = physics.add_drop(phase, r, a)
    np.testing.assert_allclose(got_drop, drop, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(got_through, through, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(
        physics.ring_weight(phase, r, a), drop - through, rtol=2e-4, atol=2e-6
    )


@given(COUPLING)
def test_lossless_ring(r: float) -> None:
    phase = np.linspace(-3, 3, 33)
    np.testing.assert_allclose(physics.all_pass(phase, r, 1.0), 1, rtol=1e-5)
    drop, through = physics.add_drop(phase, r, 1.0)
    np.testing.assert_allclose(drop + through, 1, rtol=1e-5)
    assert float(physics.ring_weight(0.0, r, 1.0)) == pytest.approx(1, rel=1e-6)


def test_critical_coupling() -> None:
    assert float(physics.all_pass(0.0, 0.9, 0.9)) == pytest.approx(0, abs=1e-12)


def test_finesse_is_fsr_over_linewidth() -> None:
    r = 0.99
    rho = r * r
    phase = np.linspace(0, 0.2, 200001)
    drop = (1 - rho) ** 2 / (1 - 2 * rho * np.cos(phase) + rho**2)
    half_width = phase[np.argmin(np.abs(drop - 0.5))]
    # The exact width is 2·arcsin of half of it, 4e-5 wider, and the grid has steps of 1e-6.
    assert float(physics.finesse(rho)) == pytest.approx(math.pi / half_width, rel=1e-3)


@given(st.floats(0.5, 1e4))
def test_rho_of_finesse(finesse: float) -> None:
    rho = physics.rho_of_finesse(finesse)
    # 1 - ρ carries the rounding of ρ.
    tolerance = 1e-5 + 1e-6 * finesse
    assert float(physics.finesse(rho)) == pytest.approx(finesse, rel=tolerance)


def test_widths() -> None:
    assert float(physics.linewidth(1550e-9, 1e4)) == pytest.approx(155e-12, rel=1e-6)
    assert float(physics.q_factor(1550e-9, 155e-12)) == pytest.approx(1e4, rel=1e-6)
    fsr = physics.free_spectral_range(1550e-9, 4.2, 62.8e-6)
    assert float(fsr) == pytest.approx(1550e-9**2 / (4.2 * 62.8e-6), rel=1e-6)
    fsr_hz = physics.free_spectral_range_hz(4.2, 62.8e-6)
    assert float(physics.spacing_in_wavelength(fsr_hz, 1550e-9)) == pytest.approx(
        float(fsr), rel=1e-5
    )
    assert float(physics.spacing_in_wavelength(100e9, 1550e-9)) == pytest.approx(0.80e-9, rel=2e-3)
    grid = physics.itu_frequency_hz(jnp.arange(-1, 2))
    np.testing.assert_allclose(grid, [193.0e12, 193.1e12, 193.2e12], rtol=1e-7)


@given(st.floats(-0.99, 1.0))
def test_detuning_of_weight(weight: float) -> None:
    fwhm = 155e-12
    detuning = physics.detuning_of_weight(weight, fwhm)
    assert float(2 * physics.lorentzian(detuning, fwhm) - 1) == pytest.approx(weight, abs=1e-5)


def test_lorentzian_slope() -> None:
    x = np.linspace(0, 2, 2_000_001)
    slope = np.abs(np.gradient(1 / (1 + 4 * x**2), x)).max()
    assert slope == pytest.approx(physics.LORENTZIAN_SLOPE, rel=1e-6)
    assert pytest.approx(1.299, abs=5e-4) == physics.LORENTZIAN_SLOPE


def test_drift() -> None:
    assert float(physics.drift_gain(0.5, 155e-12)) == pytest.approx(0.81, abs=5e-3)
    # dn/dT of 1.86e-4 over n_g = 3.85 gives the 75 pm/K of silicon.
    slope = physics.thermal_drift(1550e-9, 3.85, 1.863e-4)
    assert float(slope) == pytest.approx(75e-12, rel=1e-3)
    budget = physics.half_lsb_drift(4, 155e-12)
    assert float(budget) == pytest.approx(155e-12 / 32 / 1.299, rel=1e-4)
    kelvin = physics.half_lsb_temperature(4, 155e-12)
    assert float(kelvin) == pytest.approx(float(budget) / 75e-12, rel=1e-6)


@pytest.mark.parametrize("bits", [4, 6, 8, 10])
def test_half_lsb_drift_moves_the_steepest_weight_by_half_an_lsb(bits: int) -> None:
    steepest = 1 / (2 * math.sqrt(3))
    shift = float(physics.half_lsb_drift(bits, 1.0))
    x = np.array([steepest, steepest + shift])
    moved = abs(np.diff(1 / (1 + 4 * x**2))[0])
    assert moved == pytest.approx(2 ** -(bits + 1), rel=2**-bits)


def _comb(channels: int, rho: float) -> np.ndarray:
    d = np.subtract.outer(np.arange(channels), np.arange(channels))
    return (1 - rho) ** 2 / (1 - 2 * rho * np.cos(2 * np.pi * d / channels) + rho**2)


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 9, 64, 128, 368])
def test_comb(channels: int) -> None:
    closed_forms = jax.jit(
        lambda rho: (
            physics.comb_matrix(channels, rho),
            physics.comb_total(channels, rho),
            physics.comb_eigenvalues(channels, rho),
            physics.comb_condition(channels, rho),
        )
    )
    for finesse in (5.0, 50.0, 368.0):
        rho = float(physics.rho_of_finesse(finesse))
        matrix, total, eigenvalues, condition = closed_forms(rho)
        c = _comb(channels, rho)
        # f32 angles near π make the far entries good to 1e-6 of the largest.
        np.testing.assert_allclose(matrix, c, rtol=RTOL, atol=1e-7)
        assert float(total) == pytest.approx(c[0].sum() - 1, rel=RTOL, abs=1e-7)
        # The eigenvalues of a circulant matrix are the transform of its first row.
        transform = np.fft.fft(c[0]).real
        np.testing.assert_allclose(eigenvalues, transform, rtol=RTOL, atol=1e-12 * channels)
        if 0 < transform.max() / transform.min() < 1e4:
            expected = transform.max() / transform.min()
            assert float(condition) == pytest.approx(expected, rel=RTOL)


def test_condition_at_one_linewidth() -> None:
    rho = physics.rho_of_finesse(368.0)
    assert float(physics.comb_condition(368, rho)) == pytest.approx(2.509, abs=5e-4)
    assert float(physics.comb_condition(736, rho)) == pytest.approx(np.cosh(np.pi), rel=1e-4)


@given(st.floats(0.2, 200))
def test_lorentzian_comb(spacing: float) -> None:
    k = np.arange(1, 400_001)
    x = 1 / (1 + (2 * k * spacing) ** 2)
    # The tail of the first sum is an integral; that of the second is below 1e-16.
    tail = 2 / (4 * spacing**2) / (k[-1] + 0.5)
    assert float(physics.lorentzian_comb_total(spacing)) == pytest.approx(
        2 * x.sum() + tail, rel=RTOL
    )
    assert float(physics.lorentzian_comb_rms(spacing)) == pytest.approx(2 * (x**2).sum(), rel=RTOL)


def test_comb_limits() -> None:
    assert float(physics.lorentzian_comb_total(100.0)) == pytest.approx(math.pi**2 / 12e4, rel=1e-3)
    assert float(physics.sir_db(2.0)) == pytest.approx(
        -10 * math.log10(float(physics.lorentzian_comb_rms(2.0))), rel=1e-6
    )
    # Many channels of a high finesse are an infinite comb of Lorentzians.
    rho = physics.rho_of_finesse(3000.0)
    assert float(physics.comb_total(1000, rho)) == pytest.approx(
        float(physics.lorentzian_comb_total(3.0)), rel=1e-3
    )


@pytest.mark.parametrize(
    "function",
    [physics.lorentzian_comb_total, physics.lorentzian_comb_rms, physics.sir_db],
)
@pytest.mark.parametrize("spacing", [0.3, 1.0, 1.5, 30.0])
def test_comb_gradients(function: Callable[..., jax.Array], spacing: float) -> None:
    gradient = jax.jit(jax.grad(function))(spacing)
    step = 0.01 * spacing
    difference = (function(spacing + step) - function(spacing - step)) / (2 * step)
    assert float(gradient) == pytest.approx(float(difference), rel=1e-3)


def test_vmap() -> None:
    rhos = jnp.array([0.5, 0.9, 0.99], jnp.float32)
    mapped = jax.vmap(lambda rho: physics.comb_eigenvalues(8, rho))(rhos)
    np.testing.assert_allclose(mapped, physics.comb_eigenvalues(8, rhos), rtol=1e-6)
    np.testing.assert_allclose(
        jax.vmap(lambda rho: physics.comb_total(8, rho))(rhos), physics.comb_total(8, rhos)
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: physics.all_pass(0.0, 1.0, 0.9), ValueError,
         "all_pass: `r` must be below 1, got 1.0"),
        (lambda: physics.add_drop(0.0, 0.9, 1.1), ValueError,
         "add_drop: `a` must be at most 1, got 1.1"),
        (lambda: physics.finesse(0.0), ValueError, "finesse: `rho` must be above 0, got 0.0"),
        (lambda: physics.detuning_of_weight(-1.0, 1e-10), ValueError,
         "detuning_of_weight: `weight` must be above -1, got -1.0"),
        (lambda: physics.comb_matrix(0, 0.9), ValueError,
         "comb_matrix: `channels` must be at least 1, got 0"),
        (lambda: physics.comb_total(4.0, 0.9), TypeError,
         "comb_total: `channels` must be an int, got 4.0"),
        (lambda: physics.comb_condition(4, 1.0), ValueError,
         "comb_condition: `rho` must be below 1, got 1.0"),
        (lambda: physics.lorentzian_comb_rms(0.0), ValueError,
         "lorentzian_comb_rms: `spacing` must be above 0, got 0.0"),
        (lambda: physics.half_lsb_drift(0, 1e-10), ValueError,
         "half_lsb_drift: `bits` must be at least 1, got 0"),
        (lambda: physics.drift_gain(math.nan, 1e-10), ValueError,
         "drift_gain: `temperature_k` must be finite, got nan"),
    ],
)  # fmt: skip
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()
