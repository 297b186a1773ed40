"""Energy of data converters."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._arguments import real
from ._constants import BOLTZMANN
from .conversions import db_to_ratio, enob_to_sinad_db


def walden_energy(enob: ArrayLike, fom_j: ArrayLike) -> jax.Array:
    """Energy of one conversion, J: `E = FoM·2^ENOB`.

    Walden, IEEE J. Sel. Areas Commun. 17, 539 (1999). A fit of what has been built, good to an
    order of magnitude, and for medium resolution: above 10 bits or so thermal noise makes energy
    grow as 4^ENOB (`thermal_energy_limit`). DACs are commonly given the same form, with a figure
    of their own.

    Source: Walden, IEEE J. Sel. Areas Commun. 17, 539 (1999). Valid for an order of magnitude,
    up to about 10 bits.

    Args:
        enob: effective bits, 0 to 32.
        fom_j: figure of merit, J per conversion step; above 0.
    """
    enob = real("walden_energy", "enob", enob, at_least=0, at_most=32)
    return real("walden_energy", "fom_j", fom_j, above=0) * jnp.exp2(enob)


def walden_power(enob: ArrayLike, fom_j: ArrayLike, sample_rate_hz: ArrayLike) -> jax.Array:
    """Power of a converter that runs all the time, W: `FoM·2^ENOB·f_s`, f_s in Hz.

    Source: Walden, IEEE J. Sel. Areas Commun. 17, 539 (1999). Valid for a converter that runs
    all the time, up to about 10 bits.
    """
    rate = real("walden_power", "sample_rate_hz", sample_rate_hz, at_least=0)
    return walden_energy(enob, fom_j) * rate


def walden_fom(power_w: ArrayLike, enob: ArrayLike, sample_rate_hz: ArrayLike) -> jax.Array:
    """Figure of merit of a converter from its data sheet, J per step: `P/(2^ENOB·f_s)`.

    Source: Walden, IEEE J. Sel. Areas Commun. 17, 539 (1999). Valid for P in W above 0, ENOB in
    bits from 0 to 32, f_s in Hz above 0.
    """
    power = real("walden_fom", "power_w", power_w, above=0)
    enob = real("walden_fom", "enob", enob, at_least=0, at_most=32)
    rate = real("walden_fom", "sample_rate_hz", sample_rate_hz, above=0)
    return power / rate * jnp.exp2(-enob)


def walden_enob(energy_j: ArrayLike, fom_j: ArrayLike) -> jax.Array:
    """Effective bits that an energy per conversion pays for: `log2(E/FoM)`; both in J, above 0.

    Source: Walden, IEEE J. Sel. Areas Commun. 17, 539 (1999). Valid for up to about 10 bits.
    """
    energy = real("walden_enob", "energy_j", energy_j, above=0)
    return jnp.log2(energy / real("walden_enob", "fom_j", fom_j, above=0))


def thermal_energy_limit(enob: ArrayLike, *, temperature_k: ArrayLike = 300.0) -> jax.Array:
    """Least energy of a conversion against thermal noise, J: `8kT·SNR`.

    SNR = 10^((6.02·ENOB + 1.76)/10). Murmann, "A/D converter trends", IEEE CICC (2008): an ideal
    class-B amplifier that charges the sampling capacitor at full swing. A bound from below; built
    converters are well above it.

    Source: Murmann, IEEE CICC (2008). A bound from below, J.

    Args:
        enob: effective bits, 0 to 32.
        temperature_k: T, K; not negative.
    """
    enob = real("thermal_energy_limit", "enob", enob, at_least=0, at_most=32)
    temperature = real("thermal_energy_limit", "temperature_k", temperature_k, at_least=0)
    return 8 * BOLTZMANN * temperature * db_to_ratio(enob_to_sinad_db(enob))


def lsb(full_scale: ArrayLike, bits: ArrayLike) -> jax.Array:
    """Step of a symmetric converter, unit of its full scale: `FS/(2^(b-1) - 1)`; 2·FS for 1 bit.

    Source: definition of the signed mid-tread converter of the ops. Valid for 1 to 32 bits.

    Args:
        full_scale: largest magnitude that is not clipped; not negative.
        bits: b, 1 to 32, need not be whole.
    """
    full_scale = real("lsb", "full_scale", full_scale, at_least=0)
    bits = real("lsb", "bits", bits, at_least=1, at_most=32)
    levels = jnp.expm1(math.log(2) * (bits - 1))
    return full_scale * jnp.where(bits == 1, 2.0, 1 / jnp.where(bits == 1, 1.0, levels))
