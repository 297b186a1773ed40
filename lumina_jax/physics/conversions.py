"""Decibels, and the figures of merit of noise: SNR, SINAD, ENOB.

ENOB is the full-scale-sine one throughout, `(SINAD_dB - 1.76) / 6.02` (IEEE Std 1241). The other
definition in use, `log2(FS / (σ·√12))`, is `range_enob`. Of a sine that spans the range FS they
agree to 0.01 bit; of a smaller one the first says less, so no function mixes them.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._arguments import real

DECIBELS = {"at_least": -300.0, "at_most": 300.0}
"""Limits of a level in dB: what is beyond is no measured one, and not a ratio that f32 holds."""


def dbm_to_w(power_dbm: ArrayLike) -> jax.Array:
    """Optical power in W of a level in dBm: `P = 1 mW · 10^(p/10)`.

    Source: definition of the unit. Valid for any level that f32 holds.
    """
    return 1e-3 * db_to_ratio(real("dbm_to_w", "power_dbm", power_dbm, **DECIBELS))


def w_to_dbm(power_w: ArrayLike) -> jax.Array:
    """Level in dBm of an optical power in W: `p = 10·log10(P / 1 mW)`, P > 0.

    Source: definition of the unit. Valid for P > 0, W.
    """
    return ratio_to_db(real("w_to_dbm", "power_w", power_w, above=0)) + 30


def db_to_ratio(power_db: ArrayLike) -> jax.Array:
    """Ratio of two powers (no unit) from dB: `10^(dB/10)`.

    Source: definition of the unit. Valid for powers, no unit; for amplitudes take half the dB.
    """
    return jnp.power(10.0, real("db_to_ratio", "power_db", power_db, **DECIBELS) / 10)


def ratio_to_db(ratio: ArrayLike) -> jax.Array:
    """dB of a ratio of two powers: `10·log10(ratio)`, ratio > 0.

    Source: definition of the unit. Valid for powers, no unit; ratio > 0.
    """
    return (10 / math.log(10)) * jnp.log(real("ratio_to_db", "ratio", ratio, above=0))


def optical_to_electrical_db(optical_db: ArrayLike) -> jax.Array:
    """Electrical dB of a change in optical dB: `2·dB`, as the current follows the optical power.

    Source: the photocurrent is proportional to the optical power. Valid for dB, far from
    saturation of the photodiode.
    """
    return 2 * real("optical_to_electrical_db", "optical_db", optical_db)


def sinad_db_to_enob(sinad_db: ArrayLike) -> jax.Array:
    """Effective bits of a full-scale sine: `ENOB = (SINAD_dB - 1.76) / 6.02` (IEEE Std 1241).

    Source: IEEE Std 1241. Valid for a sine that spans the full scale; dB to bits.
    """
    return (real("sinad_db_to_enob", "sinad_db", sinad_db) - 1.76) / 6.02


def enob_to_sinad_db(enob: ArrayLike) -> jax.Array:
    """SINAD in electrical dB: `6.02·ENOB + 1.76`; for an int, the SQNR of an ideal b-bit ADC.

    Source: IEEE Std 1241. Valid for a sine that spans the full scale; bits to electrical dB.
    """
    return 6.02 * real("enob_to_sinad_db", "enob", enob) + 1.76


def range_enob(full_scale: ArrayLike, noise_std: ArrayLike) -> jax.Array:
    """The *other* ENOB, of a range instead of a sine: `log2(FS / (σ·√12))`.

    The bits of the ideal converter over the range FS (peak to peak) whose rounding error has the
    standard deviation σ. It equals `sinad_db_to_enob` to 0.01 bit where the sine spans FS.

    Source: inverse of the rounding error LSB/√12 of an ideal converter. Valid for noise that is
    white over the range.

    Args:
        full_scale: FS, peak to peak, any unit; above 0.
        noise_std: σ, same unit; above 0.
    """
    full_scale = real("range_enob", "full_scale", full_scale, above=0)
    noise_std = real("range_enob", "noise_std", noise_std, above=0)
    return jnp.log2(full_scale / (noise_std * math.sqrt(12)))


def combine_snr_db(*snr_db: ArrayLike) -> jax.Array:
    """SINAD of independent noise sources, electrical dB: `1/SINAD = Σ 1/SNR_k`, linear.

    Source: variances of independent sources add. Valid for independent sources, of which each
    SNR is of the same signal.
    """
    if not snr_db:
        raise ValueError("combine_snr_db: `snr_db` must have at least one entry, got none")
    terms = [real("combine_snr_db", "snr_db", value, **DECIBELS) for value in snr_db]
    return -ratio_to_db(sum((db_to_ratio(-term) for term in terms[1:]), db_to_ratio(-terms[0])))


def sinad_db(snr_db: ArrayLike, thd_db: ArrayLike) -> jax.Array:
    """SINAD in dB from SNR and total harmonic distortion (negative, dB below the carrier).

    `SINAD = -10·log10(10^(-SNR/10) + 10^(THD/10))`

    Source: IEEE Std 1241. Valid for dB; distortion and noise that are independent.
    """
    thd_db = real("sinad_db", "thd_db", thd_db, at_least=-300, at_most=0)
    return combine_snr_db(real("sinad_db", "snr_db", snr_db, **DECIBELS), -thd_db)


def dithered_std(noise_std: ArrayLike, lsb: ArrayLike) -> jax.Array:
    """Standard deviation after an ADC that noise dithers: `√(σ² + LSB²/12)`.

    Valid from LSB ≤ 2σ on; then E[ADC(y)] = y to a fraction of a percent of the LSB, and finer
    bits are wasted power (Widrow's pseudo-quantization noise). Both arguments in the unit of y.

    Source: Widrow and Kollár, "Quantization Noise", ch. 4. Valid for LSB ≤ 2σ.
    """
    noise_std = real("dithered_std", "noise_std", noise_std, at_least=0)
    return jnp.hypot(noise_std, real("dithered_std", "lsb", lsb, at_least=0) / math.sqrt(12))
