"""Crosstalk of equispaced channels in closed form.

N channels that fill one free spectral range of ideal add-drop rings see each other through a
circulant matrix C; ρ is the round-trip amplitude, `rho_of_finesse`. With δ = -ln ρ the forms below
are hyperbolic functions of δ, which is how they are computed: 1 - ρ and the sums less one would
lose digits. They follow from the Poisson kernel Σ_k ρ^|k|·e^{ikθ} = (1-ρ²)/(1-2ρ·cos θ+ρ²).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._arguments import integer, real


def comb_matrix(channels: int, rho: ArrayLike) -> jax.Array:
    """Crosstalk matrix, f32[N, N]: `C_ij = (1-ρ)² / (1 - 2ρ·cos(2π(i-j)/N) + ρ²)`.

    Source: follows from the Poisson kernel, see the head of the module. Valid for ideal add-
    drop rings, channels that fill one FSR; no unit.

    Args:
        channels: N, at least 1.
        rho: scalar, 0 < ρ < 1.
    """
    n, _ = _comb("comb_matrix", channels, rho)
    rho = real("comb_matrix", "rho", rho, above=0, below=1)
    index = jnp.arange(n)
    around = jnp.abs(index[:, None] - index[None, :])
    distance = jnp.minimum(around, n - around).astype(rho.dtype)
    half = jnp.square(jnp.sin(distance * (math.pi / n)))
    loss = jnp.square(1 - rho)
    return loss / (loss + 4 * rho * half)


def comb_total(channels: int, rho: ArrayLike) -> jax.Array:
    """Crosstalk into one channel from all others of equal power (no unit).

    `Σ_{j≠i} C_ij = N·(1-ρ)/(1+ρ)·(1+ρ^N)/(1-ρ^N) - 1`

    Source: follows from the Poisson kernel, see the head of the module. Valid for ideal add-
    drop rings, channels that fill one FSR.

    Args:
        channels: N, at least 1.
        rho: any shape, 0 < ρ < 1.
    """
    n, delta = _comb("comb_total", channels, rho)
    u = n * delta / 2
    # N·tanh(δ/2)/tanh(u) - 1, as (1 + a)(1 + b) - 1 of what is small in either factor.
    a, b = _coth_excess(u), _tanh_excess(delta / 2)
    return a + b + a * b


def comb_eigenvalues(channels: int, rho: ArrayLike) -> jax.Array:
    """Eigenvalues of C, f32[..., N]: `λ_k = N·(1-ρ)/(1+ρ)·(ρ^k + ρ^(N-k))/(1-ρ^N)`, k = 0 … N-1.

    Source: follows from the Poisson kernel, see the head of the module. Valid for ideal add-
    drop rings, channels that fill one FSR; no unit.

    Args:
        channels: N, at least 1.
        rho: f32[...], 0 < ρ < 1.
    """
    n, delta = _comb("comb_eigenvalues", channels, rho)
    delta = delta[..., None]
    k = jnp.arange(n, dtype=delta.dtype).reshape((1,) * (delta.ndim - 1) + (n,))
    powers = jnp.exp(-delta * k) + jnp.exp(-delta * (n - k))
    return n * jnp.tanh(delta / 2) * powers / -jnp.expm1(-n * delta)


def comb_condition(channels: int, rho: ArrayLike) -> jax.Array:
    """Condition number of C: `(1 + ρ^N)/(ρ^⌊N/2⌋ + ρ^⌈N/2⌉)`; `cosh(N·δ/2)` for even N, δ = -ln ρ.

    About cosh(πN/(2F)) at a finesse F; 2.509 at a spacing of one linewidth, N = F.

    Source: follows from the Poisson kernel, see the head of the module. Valid for ideal add-
    drop rings, channels that fill one FSR; no unit.

    Args:
        channels: N, at least 1.
        rho: any shape, 0 < ρ < 1.
    """
    n, delta = _comb("comb_condition", channels, rho)
    all_of, odd = n * delta / 2, (n % 2) * delta / 2
    # A ratio of two cosh, neither of which need be a number that f32 holds.
    return jnp.exp(all_of - odd) * (1 + jnp.exp(-2 * all_of)) / (1 + jnp.exp(-2 * odd))


def lorentzian_comb_total(spacing: ArrayLike) -> jax.Array:
    """Worst-case crosstalk of an infinite comb of Lorentzians: `Σ_{k≠0} X(k·s) = u·coth u - 1`.

    u = π/(2s); about π²/(12 s²) for s ≫ 1. Same as `comb_total` for N → ∞ at a fixed spacing.

    Source: limit of `comb_total` for N → ∞. Valid for Lorentzian lines, an infinite comb; no
    unit.

    Args:
        spacing: s, in linewidths (FWHM); above 0.
    """
    return _coth_excess(_inverse_spacing("lorentzian_comb_total", spacing))


def lorentzian_comb_rms(spacing: ArrayLike) -> jax.Array:
    """Crosstalk of independent signals: `Σ_{k≠0} X² = ½u·coth u + ½u²/sinh²u - 1`.

    u = π/(2s), signals of equal power in an infinite comb. The signal-to-interference
    ratio (electrical, linear) is the inverse of it.

    Source: sum of squared Lorentzians over an infinite comb. Valid for independent signals of
    equal power; no unit.

    Args:
        spacing: s, in linewidths (FWHM); above 0.
    """
    u = _inverse_spacing("lorentzian_comb_rms", spacing)
    small = u < 1.5
    series = _polynomial(jnp.where(small, u, 1.5), _RMS_SERIES)
    large = jnp.where(small, 1.5, u)
    decay = jnp.exp(-large)
    ratio = 4 * jnp.square(large * decay / (1 - decay * decay))
    exact = (_coth_excess(large) + ratio - 1) / 2
    return jnp.where(small, series, exact)


def sir_db(spacing: ArrayLike) -> jax.Array:
    """Signal-to-interference ratio of `lorentzian_comb_rms`, electrical dB; s in linewidths.

    Source: `-10·log10` of `lorentzian_comb_rms`. Valid for independent signals of equal power
    in an infinite comb, s > 0.
    """
    return (-10 / math.log(10)) * jnp.log(lorentzian_comb_rms(spacing))


def _comb(name: str, channels: int, rho: ArrayLike) -> tuple[int, jax.Array]:
    """N, and δ = -ln ρ."""
    rho = real(name, "rho", rho, above=0, below=1)
    # 1 - ρ keeps the digits where ρ is close to 1, and is 1 where it is tiny.
    delta = jnp.where(rho > 0.5, -jnp.log1p(-(1 - rho)), -jnp.log(rho))
    return integer(name, "channels", channels, at_least=1), delta


def _inverse_spacing(name: str, spacing: ArrayLike) -> jax.Array:
    return (math.pi / 2) / real(name, "spacing", spacing, above=0)


# B_2, B_4, … of the series u·coth u = Σ 2^(2k)·B_2k/(2k)!·u^(2k), which tanh u shares.
_BERNOULLI = (
    1 / 6,
    -1 / 30,
    1 / 42,
    -1 / 30,
    5 / 66,
    -691 / 2730,
    7 / 6,
    -3617 / 510,
    43867 / 798,
    -174611 / 330,
    854513 / 138,
    -236364091 / 2730,
)
_COTH_SERIES = tuple(4.0**k * b / math.factorial(2 * k) for k, b in enumerate(_BERNOULLI, start=1))
_TANH_SERIES = tuple((4.0**k - 1) * c for k, c in enumerate(_COTH_SERIES, start=1))[1:]
# ½(c + (c - u·dc/du)) of c = u·coth u - 1.
_RMS_SERIES = tuple((1 - k) * c for k, c in enumerate(_COTH_SERIES, start=1))


def _coth_excess(u: jax.Array) -> jax.Array:
    """u·coth u - 1, without cancellation at small u."""
    small = u < 1.0
    large = jnp.where(small, 1.0, u)
    series = _polynomial(jnp.where(small, u, 1.0), _COTH_SERIES)
    return jnp.where(small, series, large / jnp.tanh(large) - 1)


def _tanh_excess(u: jax.Array) -> jax.Array:
    """tanh(u)/u - 1, without cancellation at small u."""
    small = u < 0.5
    large = jnp.where(small, 0.5, u)
    series = _polynomial(jnp.where(small, u, 0.5), _TANH_SERIES)
    return jnp.where(small, series, jnp.tanh(large) / large - 1)


def _polynomial(u: jax.Array, coefficients: tuple[float, ...]) -> jax.Array:
    """Σ c_k·u^(2k), k = 1, 2, … ."""
    square = jnp.square(u)
    total = jnp.zeros_like(u)
    for coefficient in reversed(coefficients):
        total = square * (coefficient + total)
    return total
