"""Noise of signed multiply-accumulates, where two photodetectors subtract.

The detectors see all the light and not the difference, so shot noise does not vanish at y = 0. Each
mode is the σ² = a0 + a1·|y| + a2·y² + r_row of the optical matmul with a1 = 0; what is below is the
part due to shot noise, in units of y², for x and w in their own units (full scale 1).
`NoiseModel.from_receiver` turns each into coefficients. n counts photoelectrons in a symbol,
`Receiver.photoelectrons`. All hold for n ≫ 1 and Poisson statistics.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._arguments import real
from ._constants import ELEMENTARY_CHARGE, root
from .conversions import db_to_ratio
from .receiver import MAX_POWER_W, Receiver, excess_noise_factor, relative_intensity_noise


def ring_mac_variance(x: ArrayLike, n_max: ArrayLike) -> jax.Array:
    """Add-drop ring, w = drop - thru: `Var[y] = (Σ_j x_j) / n_max`, whatever the weights are.

    Drop and thru port of a lossless ring together carry x_j·n_max photons, and variances add.

    Source: Poisson statistics of two ports that share all the light. Valid for lossless rings,
    n ≫ 1.

    Args:
        x: f32[..., K], channel powers over full scale, not negative.
        n_max: photoelectrons of one channel at x = 1; above 0.

    Returns:
        f32[..., 1], to be broadcast over the columns of y.
    """
    name = "ring_mac_variance"
    x = real(name, "x", x, at_least=0)
    return jnp.sum(x, axis=-1, keepdims=True) / real(name, "n_max", n_max, above=0)


def arms_mac_variance(x: ArrayLike, w: ArrayLike, n_max: ArrayLike) -> jax.Array:
    """W = W⁺ - W⁻ on two arms: `Var[y] = |x|·|W| / n_max`; each weight is lit on one arm alone.

    Source: Poisson statistics of two arms. Valid for n ≫ 1.

    Args:
        x: f32[..., K], signal over full scale.
        w: f32[K, N], weights over full scale.
        n_max: photoelectrons of one channel at |x·w| = 1; above 0.

    Returns:
        f32[..., N].
    """
    name = "arms_mac_variance"
    x, w = real(name, "x", x), real(name, "w", w)
    _check_product(name, x, w)
    return jnp.abs(x) @ jnp.abs(w) / real(name, "n_max", n_max, above=0)


def homodyne_mac_variance(x: ArrayLike, w: ArrayLike, n_mac: ArrayLike) -> jax.Array:
    """Coherent homodyne: `Var[y] = (‖w_n‖·‖x‖)² / (K·n_mac)`, for each column w_n of w.

    Hamerly et al., Phys. Rev. X 9, 021032 (2019): time-multiplexed fields, interfered and
    integrated over the K products of one output. Shot noise alone, perfect overlap of the modes.

    Source: Hamerly et al., Phys. Rev. X 9, 021032 (2019). Valid for shot noise alone, perfect
    overlap of the modes.

    Args:
        x: f32[..., K], fields.
        w: f32[K, N], weights as fields.
        n_mac: photoelectrons per multiply-accumulate; above 0.

    Returns:
        f32[..., N].
    """
    name = "homodyne_mac_variance"
    x, w = real(name, "x", x), real(name, "w", w)
    _check_product(name, x, w)
    photons = w.shape[0] * real(name, "n_mac", n_mac, above=0)
    row = jnp.sum(x * x, axis=-1, keepdims=True)
    column = jnp.sum(w * w, axis=0)
    return row * column.reshape((1,) * (row.ndim - 1) + column.shape) / photons


def weight_noise_std(x: ArrayLike, weight_std: ArrayLike) -> jax.Array:
    """Fresh additive noise on every weight: exactly Gaussian on y, of std `σ_w·‖x‖` for a row.

    Source: a sum of independent Gaussians. Valid for weights that are drawn anew for every row.

    Args:
        x: f32[..., K].
        weight_std: σ_w, unit of w; not negative.

    Returns:
        f32[..., 1].
    """
    x = real("weight_noise_std", "x", x)
    weight_std = real("weight_noise_std", "weight_std", weight_std, at_least=0)
    return weight_std * root(jnp.sum(x * x, axis=-1, keepdims=True))


def balanced_noise(
    plus_w: ArrayLike,
    minus_w: ArrayLike,
    *,
    receiver: Receiver,
    cmrr_db: ArrayLike | None = None,
) -> jax.Array:
    """Noise of a balanced pair of photodiodes on one amplifier, A rms.

        i² = 2q·(R·(P₊ + P₋) + 2·I_d)·M²·F·B + i_th² + (I₊ - I₋)²·rin + (I₊ + I₋)²·rin·10^(-CMRR/10)

    with rin = 10^(RIN/10)·B: both arms see one laser, so its noise cancels in the difference but
    for the finite common-mode rejection.

    Source: Agrawal, "Fiber-Optic Communication Systems", ch. 4; Poisson statistics of two
    photodiodes. Valid for n ≫ 1, one laser for both arms.

    Args:
        plus_w: P₊, optical power on the first photodiode, W; not negative.
        minus_w: P₋, on the second.
        receiver: photodiodes (two alike) and amplifier.
        cmrr_db: common-mode rejection ratio, electrical dB, not negative; None is ideal.
    """
    name = "balanced_noise"
    plus, minus = (
        real(name, arm, power, at_least=0, at_most=MAX_POWER_W / 2)
        for arm, power in (("plus_w", plus_w), ("minus_w", minus_w))
    )
    rin = relative_intensity_noise(receiver.rin_db_per_hz, receiver.bandwidth_hz)
    total = receiver.current(plus + minus)
    difference = receiver.current(plus) - receiver.current(minus)
    variance = (
        receiver.shot_noise(plus + minus) ** 2
        + receiver.dark_noise(photodiodes=2) ** 2
        + (rin * difference) ** 2
    )
    if cmrr_db is not None:
        leak = db_to_ratio(-real(name, "cmrr_db", cmrr_db, at_least=0, at_most=300))
        variance = variance + (rin * total) ** 2 * leak
    return root(variance)


def homodyne_current(
    signal_w: ArrayLike, oscillator_w: ArrayLike, phase_rad: ArrayLike, *, receiver: Receiver
) -> jax.Array:
    """Difference current of balanced homodyne detection, A: `2·M·R·√(P_s·P_lo)·cos φ`.

    Behind a 50:50 coupler, with equal photodiodes and matched polarization. Its shot noise is that
    of all the light, `balanced_noise` with P₊ + P₋ = P_s + P_lo.

    Source: interference behind a 50:50 coupler. Valid for equal photodiodes, matched
    polarization.

    Args:
        signal_w: P_s, W; not negative.
        oscillator_w: P_lo, W; not negative.
        phase_rad: φ between the two fields, rad.
        receiver: photodiodes.
    """
    name = "homodyne_current"
    signal = real(name, "signal_w", signal_w, at_least=0)
    oscillator = real(name, "oscillator_w", oscillator_w, at_least=0)
    phase = real(name, "phase_rad", phase_rad)
    return 2 * receiver.current(1.0) * root(signal) * root(oscillator) * jnp.cos(phase)


def shot_limited_power(snr: ArrayLike, *, receiver: Receiver) -> jax.Array:
    """Least optical power for an SNR (linear) against shot noise alone, W: `P = 2q·B·F·SNR/R`.

    Source: Agrawal, "Fiber-Optic Communication Systems", ch. 4. Valid for shot noise alone, n ≫
    1; SNR > 0, no unit.
    """
    snr = real("shot_limited_power", "snr", snr, at_least=0)
    factor = excess_noise_factor(receiver.gain, receiver.ionization)
    per_photon = (2 * ELEMENTARY_CHARGE) * real(
        "shot_limited_power", "bandwidth_hz", receiver.bandwidth_hz, above=0
    )
    return snr * factor * (per_photon / receiver.primary_current(1.0))


def _check_product(name: str, x: jax.Array, w: jax.Array) -> None:
    if x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"{name}: `w` has shape {w.shape}, expected (k, n) with k the last extent of `x`, "
            f"which has shape {x.shape}"
        )
