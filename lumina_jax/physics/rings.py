"""Microring resonators: transmission, linewidth, weights, and their drift with temperature.

Detunings and widths are wavelengths in m unless said; φ is the round-trip phase, 0 at resonance, r
the self-coupling of a coupler (r² of the power stays), a the round-trip amplitude transmission (1
is lossless). Source: Bogaerts et al., "Silicon microring resonators", Laser Photon. Rev. 6, 47
(2012). All hold for one mode, without backscattering and without dispersion within an FSR.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._arguments import real
from ._constants import LIGHT_SPEED, root

SILICON_DRIFT_M_PER_K = 75e-12
"""dλ/dT of a silicon ring at 1550 nm, m/K."""
LORENTZIAN_SLOPE = 3 * math.sqrt(3) / 4
"""Largest |dX/dΔ|·FWHM of a Lorentzian, 1.299 (no unit)."""
ITU_ANCHOR_HZ = 193.1e12
"""Anchor of the ITU-T G.694.1 grid, Hz."""


def all_pass(phase_rad: ArrayLike, r: ArrayLike, a: ArrayLike) -> jax.Array:
    """Power transmission of a ring on one waveguide, 0 to 1.

    `T = (a² - 2ra·cos φ + r²) / (1 - 2ra·cos φ + (ra)²)`; critical coupling, T(0) = 0, at r = a.

    Source: Bogaerts et al., Laser Photon. Rev. 6, 47 (2012). Valid for one mode, no
    backscattering, no dispersion within an FSR; phase in rad, 0 < r < 1, 0 < a ≤ 1.
    """
    phase, r, a = _ring("all_pass", phase_rad, r, a)
    half = 4 * jnp.square(jnp.sin(phase / 2))
    # cos φ = 1 - 2·sin²(φ/2) keeps the digits where a and r are close to 1.
    return (jnp.square(a - r) + r * a * half) / (jnp.square(1 - r * a) + r * a * half)


def add_drop(phase_rad: ArrayLike, r: ArrayLike, a: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Power transmission of a ring between two waveguides with equal couplers: `(drop, through)`.

    `T_d = a·(1-r²)²/D`, `T_t = ((ar)² - 2r²a·cos φ + r²)/D`, `D = 1 - 2ar²·cos φ + (ar²)²`. Their
    sum is 1 where a = 1.

    Source: Bogaerts et al., Laser Photon. Rev. 6, 47 (2012). Valid for one mode, no
    backscattering, no dispersion within an FSR; phase in rad, 0 < r < 1, 0 < a ≤ 1.
    """
    phase, r, a = _ring("add_drop", phase_rad, r, a)
    half = 4 * jnp.square(jnp.sin(phase / 2))
    rho = a * r * r
    denominator = jnp.square(1 - rho) + rho * half
    drop = a * jnp.square(1 - r * r) / denominator
    through = (jnp.square(r * (1 - a)) + rho * half) / denominator
    return drop, through


def ring_weight(phase_rad: ArrayLike, r: ArrayLike, a: ArrayLike) -> jax.Array:
    """Weight of an add-drop ring on a balanced pair: `w = drop - through`, in (-1, 1].

    Tait et al., Sci. Rep. 7, 7430 (2017).

    Source: Tait et al., Sci. Rep. 7, 7430 (2017). Valid for one mode, no backscattering, no
    dispersion within an FSR; phase in rad, no unit.
    """
    drop, through = add_drop(phase_rad, r, a)
    return drop - through


def detuning_of_weight(weight: ArrayLike, fwhm_m: ArrayLike) -> jax.Array:
    """Detuning that sets a weight, m: `Δ = (FWHM/2)·√((1 - w)/(1 + w))`.

    The inverse of w = 2X(Δ) - 1. For a lossless Lorentzian line, -1 < w ≤ 1.

    Source: Tait et al., Sci. Rep. 7, 7430 (2017). Valid for a lossless Lorentzian line, -1 < w
    ≤ 1; m.
    """
    w = real("detuning_of_weight", "weight", weight, above=-1, at_most=1)
    fwhm = real("detuning_of_weight", "fwhm_m", fwhm_m, above=0)
    return fwhm / 2 * root((1 - w) / (1 + w))


def lorentzian(detuning_m: ArrayLike, fwhm_m: ArrayLike) -> jax.Array:
    """Drop transmission over its peak: `X = 1/(1 + (2Δ/FWHM)²)`, valid for |Δ| ≪ FSR.

    Source: Bogaerts et al., Laser Photon. Rev. 6, 47 (2012). Valid for |Δ| ≪ FSR; no unit.

    Args:
        detuning_m: Δ from resonance, m or any unit.
        fwhm_m: full width at half maximum, same unit; above 0.
    """
    detuning = real("lorentzian", "detuning_m", detuning_m)
    fwhm = real("lorentzian", "fwhm_m", fwhm_m, above=0)
    return 1 / (1 + jnp.square(2 * detuning / fwhm))


def finesse(rho: ArrayLike) -> jax.Array:
    """Finesse, FSR/FWHM: `F = π·√ρ/(1 - ρ)`.

    Source: Bogaerts et al., Laser Photon. Rev. 6, 47 (2012). Valid for one mode, no
    backscattering, no dispersion within an FSR; no unit.

    Args:
        rho: round-trip amplitude with couplers, 0 < ρ < 1: a·r (all-pass) or a·r² (add-drop).
    """
    rho = real("finesse", "rho", rho, above=0, below=1)
    return math.pi * jnp.sqrt(rho) / (1 - rho)


def rho_of_finesse(finesse: ArrayLike) -> jax.Array:
    """Round-trip amplitude of a finesse F > 0: `√ρ = 2F/(π + √(π² + 4F²))`.

    Source: Bogaerts et al., Laser Photon. Rev. 6, 47 (2012), solved for ρ. Valid for one mode,
    no backscattering, no dispersion within an FSR; no unit.
    """
    # In 1/F, which no large F takes out of the range of f32.
    h = (math.pi / 2) / real("rho_of_finesse", "finesse", finesse, above=0)
    return jnp.square(1 / (h + jnp.hypot(h, 1.0)))


def free_spectral_range(
    wavelength_m: ArrayLike, group_index: ArrayLike, length_m: ArrayLike
) -> jax.Array:
    """Distance of two resonances, m: `FSR = λ²/(n_g·L)`; L is the round-trip length, m.

    Source: Bogaerts et al., Laser Photon. Rev. 6, 47 (2012). Valid for FSR ≪ λ; λ and L in m
    above 0, n_g above 0.
    """
    name = "free_spectral_range"
    wavelength = real(name, "wavelength_m", wavelength_m, above=0)
    length = real(name, "group_index", group_index, above=0) * real(
        name, "length_m", length_m, above=0
    )
    return wavelength * (wavelength / length)


def free_spectral_range_hz(group_index: ArrayLike, length_m: ArrayLike) -> jax.Array:
    """Distance of two resonances, Hz: `c/(n_g·L)`; L is the round-trip length, m.

    Source: Bogaerts et al., Laser Photon. Rev. 6, 47 (2012). Valid for no dispersion within an
    FSR; L in m above 0, n_g above 0.
    """
    name = "free_spectral_range_hz"
    length = real(name, "length_m", length_m, above=0)
    return LIGHT_SPEED / (real(name, "group_index", group_index, above=0) * length)


def linewidth(wavelength_m: ArrayLike, q_factor: ArrayLike) -> jax.Array:
    """Full width at half maximum, m: `FWHM = λ/Q`, Q the loaded quality factor; Q = λ/FWHM.

    Source: Bogaerts et al., Laser Photon. Rev. 6, 47 (2012). Valid for Q ≫ 1; λ in m above 0.
    """
    wavelength = real("linewidth", "wavelength_m", wavelength_m, above=0)
    return wavelength / real("linewidth", "q_factor", q_factor, above=0)


def q_factor(wavelength_m: ArrayLike, fwhm_m: ArrayLike) -> jax.Array:
    """Loaded quality factor: `Q = λ/FWHM`, both in m and above 0; also `Q = F·n_g·L/λ`.

    Source: Bogaerts et al., Laser Photon. Rev. 6, 47 (2012). Valid for FWHM ≪ λ; no unit.
    """
    wavelength = real("q_factor", "wavelength_m", wavelength_m, above=0)
    return wavelength / real("q_factor", "fwhm_m", fwhm_m, above=0)


def itu_frequency_hz(n: ArrayLike, spacing_hz: ArrayLike = 100e9) -> jax.Array:
    """Channel n of the ITU-T G.694.1 grid, Hz: `193.1 THz + n·spacing`.

    In f32 it resolves 16 MHz. The spacing is 12.5, 25, 50 or 100 GHz.

    Source: ITU-T G.694.1. Valid for the fixed grid.
    """
    n = real("itu_frequency_hz", "n", n)
    return ITU_ANCHOR_HZ + n * real("itu_frequency_hz", "spacing_hz", spacing_hz, above=0)


def spacing_in_wavelength(spacing_hz: ArrayLike, wavelength_m: ArrayLike) -> jax.Array:
    """A small distance in frequency as one in wavelength, m: `Δλ = λ²·Δf/c`; 100 GHz is 0.80 nm.

    Source: first derivative of λ = c/f. Valid for Δf ≪ f; Hz and m.
    """
    name = "spacing_in_wavelength"
    wavelength = real(name, "wavelength_m", wavelength_m, above=0)
    spacing = real(name, "spacing_hz", spacing_hz, at_least=0)
    return wavelength * (wavelength * (spacing / LIGHT_SPEED))


def thermal_drift(
    wavelength_m: ArrayLike, group_index: ArrayLike, index_per_k: ArrayLike
) -> jax.Array:
    """Shift of a resonance, m/K: `dλ/dT = (λ/n_g)·dn_eff/dT`; 75 pm/K for silicon at 1550 nm.

    Source: Bogaerts et al., Laser Photon. Rev. 6, 47 (2012). Valid for small changes of
    temperature; m above 0, 1/K.
    """
    name = "thermal_drift"
    wavelength = real(name, "wavelength_m", wavelength_m, above=0)
    group_index = real(name, "group_index", group_index, above=0)
    return wavelength / group_index * real(name, "index_per_k", index_per_k)


def drift_gain(
    temperature_k: ArrayLike,
    fwhm_m: ArrayLike,
    *,
    drift_m_per_k: ArrayLike = SILICON_DRIFT_M_PER_K,
) -> jax.Array:
    """Gain of a channel on resonance after a change of temperature: `X(ΔT·dλ/dT)`, 0 to 1.

    0.81 for 0.5 K at Q = 10⁴ and 1550 nm.

    Source: `lorentzian` at the drifted resonance. Valid for drifts well below the FSR.

    Args:
        temperature_k: ΔT, K.
        fwhm_m: linewidth, m; above 0.
        drift_m_per_k: dλ/dT, m/K.
    """
    temperature = real("drift_gain", "temperature_k", temperature_k)
    drift = real("drift_gain", "drift_m_per_k", drift_m_per_k)
    # In linewidths: a detuning in m squared is near the smallest f32.
    widths = temperature * (drift / real("drift_gain", "fwhm_m", fwhm_m, above=0))
    return 1 / (1 + jnp.square(2 * widths))


def half_lsb_drift(bits: ArrayLike, fwhm_m: ArrayLike) -> jax.Array:
    """Largest drift that moves no weight by more than ½ LSB, m: `δλ = 2^-(b+1)·FWHM/1.299`.

    On the steepest point of a Lorentzian, for an LSB of 2^-b of the range of X; to first order.

    Source: steepest point of a Lorentzian, slope 1.299/FWHM. Valid to first order in the drift.

    Args:
        bits: b, 1 to 32.
        fwhm_m: linewidth, m; above 0.
    """
    bits = real("half_lsb_drift", "bits", bits, at_least=1, at_most=32)
    fwhm = real("half_lsb_drift", "fwhm_m", fwhm_m, above=0)
    return jnp.exp2(-(bits + 1)) * fwhm / LORENTZIAN_SLOPE


def half_lsb_temperature(
    bits: ArrayLike, fwhm_m: ArrayLike, *, drift_m_per_k: ArrayLike = SILICON_DRIFT_M_PER_K
) -> jax.Array:
    """Change of temperature that uses up `half_lsb_drift`, K; drift in m/K, above 0.

    Source: `half_lsb_drift` over dλ/dT. Valid to first order in the drift.
    """
    drift = real("half_lsb_temperature", "drift_m_per_k", drift_m_per_k, above=0)
    return half_lsb_drift(bits, fwhm_m) / drift


def _ring(
    name: str, phase_rad: ArrayLike, r: ArrayLike, a: ArrayLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    phase = real(name, "phase_rad", phase_rad)
    r = real(name, "r", r, at_least=0, below=1)
    return phase, r, real(name, "a", a, above=0, at_most=1)
