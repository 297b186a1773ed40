"""Optical link budget, and how far a photonic dot product scales with it.

Al-Qadasi et al., "Scaling up silicon photonic-based accelerators: challenges and opportunities",
APL Photonics 7, 020902 (2022). N is the fan-in and fan-out of a weight bank. The three
organizations put aggregation (A), modulation (M) and weighting (W) in different orders, which shows
as a network penalty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from .._arguments import instance, integer, real, scalar
from ._constants import BOLTZMANN, ELEMENTARY_CHARGE, root
from .conversions import (
    DECIBELS,
    db_to_ratio,
    dbm_to_w,
    enob_to_sinad_db,
    ratio_to_db,
    sinad_db_to_enob,
)
from .receiver import MAX_POWER_W, Receiver

PENALTY_DB = {"AMW": 5.8, "MAW": 4.8, "MWA": 1.8}
"""Network penalty of each organization, optical dB."""


def link_enob(
    power_w: ArrayLike,
    symbol_rate_hz: ArrayLike,
    *,
    receiver: Receiver,
    elementary_charge_c: float = ELEMENTARY_CHARGE,
) -> jax.Array:
    """Effective bits that on-off levels at an optical power P resolve.

        ENOB = (20·log10(R·P / ((√n₁ + √n₀)·√(rate/√2))) - 1.76) / 6.02
        n₁ = 2q·(R·P + I_d) + 4kT/R_L + (R·P)²·RIN        n₀ = 2q·I_d + 4kT/R_L

    The noise of the lit and of the dark level add (Q factor), in a bandwidth of rate/√2: the
    `bandwidth_hz` of the receiver is not used. For PIN diodes with a load or a TIA.

    Source: Al-Qadasi et al., APL Photonics 7, 020902 (2022). Valid for PIN diodes with a load
    or a TIA, Gaussian noise.

    Args:
        power_w: P, W; above 0.
        symbol_rate_hz: symbols per second, Hz; above 0.
        receiver: photodiode and amplifier.
        elementary_charge_c: q, C; the published figures round it to 1.6e-19.
    """
    name = "link_enob"
    rate = real(name, "symbol_rate_hz", symbol_rate_hz, above=0, at_most=1e15)
    power = real(name, "power_w", power_w, above=0, at_most=MAX_POWER_W)
    q, dark, rin = _densities(name, receiver, elementary_charge_c)
    current = receiver.primary_current(power)
    noise = root(dark + 2 * q * current + rin * current**2) + root(dark)
    ratio = current / (noise * jnp.sqrt(rate / math.sqrt(2)))
    return sinad_db_to_enob(2 * ratio_to_db(ratio))


def sensitivity_w(
    enob: ArrayLike,
    symbol_rate_hz: ArrayLike,
    *,
    receiver: Receiver,
    elementary_charge_c: float = ELEMENTARY_CHARGE,
) -> jax.Array:
    """Least optical power at the receiver for that many effective bits, W: inverse of `link_enob`.

        R·P = (2q + 2·√n₀/S) / (1/S² - RIN)        S = 10^((6.02·ENOB + 1.76)/20)·√(rate/√2)

    Source: Al-Qadasi et al., APL Photonics 7, 020902 (2022). Valid for PIN diodes with a load
    or a TIA, Gaussian noise; ENOB below what RIN leaves.

    Raises:
        ValueError: intensity noise alone leaves fewer bits, however much light there is. Under jit
            such a power is inf.
    """
    name = "sensitivity_w"
    bits = real(name, "enob", enob, at_least=0)
    rate = real(name, "symbol_rate_hz", symbol_rate_hz, above=0, at_most=1e15)
    q, dark, rin = _densities(name, receiver, elementary_charge_c)
    inverse = jnp.exp(enob_to_sinad_db(bits) * (-math.log(10) / 20)) / jnp.sqrt(rate / math.sqrt(2))
    # 1/S² - RIN, factored because a difference of squares loses digits close to the limit.
    margin = (inverse - jnp.sqrt(rin)) * (inverse + jnp.sqrt(rin))
    reachable = inverse > jnp.sqrt(rin)
    if not isinstance(reachable, Tracer) and not np.all(reachable):
        limit = sinad_db_to_enob(-ratio_to_db(rin * jnp.max(rate) / math.sqrt(2)))
        raise ValueError(
            f"{name}: `enob` of {np.max(np.asarray(bits)):g} is out of reach at any power, "
            f"expected less than {float(limit):.2f}, which is what the RIN of the laser leaves "
            "at that `symbol_rate_hz`"
        )
    current = (2 * q + 2 * root(dark) * inverse) / jnp.where(reachable, margin, 1.0)
    return jnp.where(reachable, current / receiver.primary_current(1.0), jnp.inf)


def _densities(
    name: str, receiver: Receiver, elementary_charge_c: float
) -> tuple[float, jax.Array, jax.Array]:
    """q in C, noise density of the dark receiver in A²/Hz, and RIN in 1/Hz."""
    instance(name, "receiver", receiver, Receiver, "a Receiver")
    # Published figures round q; what is far from it is none, and its products end in f32.
    real(name, "elementary_charge_c", elementary_charge_c, at_least=1e-19, at_most=2e-19)
    q = elementary_charge_c
    dark = 2 * q * real(name, "dark_current_a", receiver.dark_current_a, at_least=0)
    if receiver.tia_a_per_rthz is None:
        temperature = real(name, "temperature_k", receiver.temperature_k, at_least=0)
        dark = dark + 4 * BOLTZMANN * temperature / real(
            name, "load_ohm", receiver.load_ohm, above=0
        )
    else:
        dark = dark + real(name, "tia_a_per_rthz", receiver.tia_a_per_rthz, at_least=0) ** 2
    return (
        q,
        dark,
        db_to_ratio(real(name, "rin_db_per_hz", receiver.rin_db_per_hz, at_least=-300, at_most=0)),
    )


_LIMITS: dict[str, dict[str, float]] = {
    # With these the largest N is a number of f32 at any sensitivity.
    "laser_dbm": {"at_least": DECIBELS["at_least"], "at_most": 50},
    "ring_pitch_mm": {"at_least": 0, "at_most": 1e6},
}
"""Of the figures of a `LinkBudget` that are no losses."""


@dataclass(frozen=True, kw_only=True)
class LinkBudget:
    """Losses from the laser to the photodetector of an N × N weight bank, optical dB.

    `output_dbm` adds them up: `P = P_laser - Σ loss`.

    Source: Al-Qadasi et al., APL Photonics 7, 020902 (2022), whose figures are the defaults. Valid
    for one wavelength on a square bank.

    Raises:
        TypeError, ValueError: a field is not a number; a loss is negative.
    """

    laser_dbm: float = 10.0
    """Power of the laser on one wavelength, dBm."""
    edge_coupler_db: float = 1.6
    """Edge coupler."""
    modulator_db: float = 4.0
    """Insertion loss of the modulator."""
    waveguide_db_per_mm: float = 0.3
    """Waveguide, dB/mm."""
    ring_pitch_mm: float = 0.02
    """Waveguide along each ring, mm."""
    ring_through_db: float = 0.01
    """A modulator, or a weight ring, that is passed by off resonance."""
    ring_drop_db: float = 0.01
    """Insertion loss of the weight ring itself."""
    splitter_db: float = 0.01
    """Excess loss of one 1:2 splitter."""
    penalty_db: float = 0.0
    """Network penalty, `PENALTY_DB`: crosstalk, extinction, rings off their place."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            limits = _LIMITS.get(field.name, {"at_least": 0.0, "at_most": DECIBELS["at_most"]})
            scalar("LinkBudget", field.name, value, **limits)
            object.__setattr__(self, field.name, float(value))

    def output_dbm(self, channels: ArrayLike) -> jax.Array:
        """Optical power at the photodetector of an N × N bank, dBm, per wavelength.

            P = P_laser - edge - wg·pitch·N - modulator - through·(N-1)
                - (10·log10 N + splitter·log2 N) - drop - through·(N-1) - penalty

        Source: Al-Qadasi et al., APL Photonics 7, 020902 (2022). Valid for optical dB; one
        wavelength, no penalty but `penalty_db`.

        Args:
            channels: N, at least 1; need not be whole.
        """
        n = real("LinkBudget.output_dbm", "channels", channels, at_least=1)
        fixed = (
            self.laser_dbm
            - self.edge_coupler_db
            - self.modulator_db
            - self.ring_drop_db
            - self.penalty_db
        )
        return (
            fixed
            - self.waveguide_db_per_mm * self.ring_pitch_mm * n
            - 2 * self.ring_through_db * (n - 1)
            - ratio_to_db(n)
            - self.splitter_db * jnp.log2(n)
        )

    def output_w(self, channels: ArrayLike) -> jax.Array:
        """`output_dbm` in W.

        Raises:
            ValueError: so many channels leave less than -300 dBm.
        """
        level = self.output_dbm(channels)
        if not isinstance(level, Tracer) and np.any(np.asarray(level) < DECIBELS["at_least"]):
            raise ValueError(
                f"LinkBudget.output_w: `channels` must leave {DECIBELS['at_least']:g} dBm or more, "
                f"got {np.min(np.asarray(level)):g} dBm"
            )
        return dbm_to_w(level)

    def max_channels(self, sensitivity_dbm: float) -> int:
        """Largest N whose output power is at least the sensitivity, dBm; 0 where not even 1 is."""
        name = "LinkBudget.max_channels"
        need = float(scalar(name, "sensitivity_dbm", sensitivity_dbm, **DECIBELS))
        # Rounding in f32 must not decide a tie: 1e-4 dB is 23 ppm of the power.
        need -= 1e-4
        if float(self.output_dbm(1)) < need:
            return 0
        low, high = 1, 2
        # The loss grows with log N at least, so this ends.
        while float(self.output_dbm(high)) >= need:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if float(self.output_dbm(middle)) >= need else (low, middle)
        return low


def published_receiver() -> Receiver:
    """The receiver of the source: 1.2 A/W, 35 nA, 50 Ω, -140 dB/Hz, kT = 0.0259 eV.

    With `elementary_charge_c=1.6e-19` it gives the sensitivities of the source.

    Source: Al-Qadasi et al., APL Photonics 7, 020902 (2022). Valid for the figures of that
    paper: A/W, A, Ω, dB/Hz, K.
    """
    return Receiver(bandwidth_hz=1e9, temperature_k=0.0259 * 1.6e-19 / BOLTZMANN)


def scaling_table(
    *,
    bits: Iterable[int] = (1, 2, 3, 4),
    symbol_rates_hz: Iterable[float] = (1e9, 5e9, 10e9),
    organizations: Iterable[str] = ("AMW", "MAW", "MWA"),
    budget: LinkBudget | None = None,
    receiver: Receiver | None = None,
    elementary_charge_c: float = 1.6e-19,
    grid_db: float = 0.1,
) -> dict[tuple[str, float], tuple[int, ...]]:
    """Largest N for each number of bits: `{(organization, rate in Hz): (N for each of bits)}`.

    The sensitivity of the receiver is taken to the nearest `grid_db`, as the source does; 0 takes
    it as it is. The defaults are those of the source: `LinkBudget()` with `PENALTY_DB`, and
    `published_receiver()`.

    Source: Al-Qadasi et al., APL Photonics 7, 020902 (2022). Valid for square banks, N × N;
    rates in Hz, sensitivities in dBm.

    Raises:
        ValueError: an organization is unknown; so many bits are out of reach at that rate.
    """
    name = "scaling_table"
    for argument, given in (
        ("bits", bits),
        ("symbol_rates_hz", symbol_rates_hz),
        ("organizations", organizations),
    ):
        if isinstance(given, str | bytes) or not np.iterable(given):
            raise TypeError(f"{name}: `{argument}` must be a sequence, got {given!r}")
    bits = [integer(name, "bits", b, at_least=1, at_most=16) for b in bits]
    grid = float(scalar(name, "grid_db", grid_db, at_least=0, at_most=100))
    receiver = published_receiver() if receiver is None else receiver
    budget = LinkBudget() if budget is None else budget
    instance(name, "budget", budget, LinkBudget, "a LinkBudget or None")
    rates = [
        float(scalar(name, "symbol_rates_hz", rate, above=0, at_most=1e15))
        for rate in symbol_rates_hz
    ]
    needs = {
        (b, rate): _sensitivity_dbm(b, rate, receiver, elementary_charge_c, grid)
        for b in bits
        for rate in rates
    }
    table = {}
    for organization in organizations:
        if not isinstance(organization, str) or organization not in PENALTY_DB:
            known = ", ".join(PENALTY_DB)
            raise ValueError(
                f"{name}: unknown `organizations` entry {organization!r}, expected {known}"
            )
        bank = replace(budget, penalty_db=PENALTY_DB[organization])
        for rate in rates:
            table[organization, rate] = tuple(bank.max_channels(needs[b, rate]) for b in bits)
    return table


def _sensitivity_dbm(
    bits: int, rate: float, receiver: Receiver, elementary_charge_c: float, grid: float
) -> float:
    watts = sensitivity_w(bits, rate, receiver=receiver, elementary_charge_c=elementary_charge_c)
    exact = 10 * math.log10(float(watts) / 1e-3)
    return exact if grid == 0 else round(exact / grid) * grid
