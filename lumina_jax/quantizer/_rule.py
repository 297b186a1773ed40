"""How many bits the state of the hardware is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._arguments import number, positive

MAX_BITS = 16
"""Finest resolution that is offered."""

REFERENCE_TEMPERATURE_K = 300.0
"""Temperature at which SNR and noise are stated, K."""
REFERENCE_SNR_DB = 40.0
"""SNR of a device that nothing is known of, dB: 8 bits at a loss of 1 dB."""

_STATE = ("snr_db", "noise_std", "temperature_k", "power_budget_mw")
_TOLERANCE_DB = 0.01
"""Figures of SNR are not stated more finely than this."""


def check_state(op: str, state: Mapping[str, Any] | None) -> dict[str, float]:
    """The state as floats.

    Raises:
        TypeError: it is no mapping, or a value is no number.
        ValueError: a key is unknown, or a value is NaN, infinite, or negative where it cannot be.
    """
    if state is None:
        return {}
    if not isinstance(state, Mapping):
        raise TypeError(f"{op}: `hardware_state` is {type(state).__name__}, expected a mapping")
    unknown = sorted(str(key) for key in state if key not in _STATE)
    if unknown:
        raise ValueError(
            f"{op}: unknown key {unknown[0]!r} in `hardware_state`, expected {', '.join(_STATE)}"
        )
    checked = {
        key: number(
            op, f"hardware_state['{key}']", value, at_least=None if key == "snr_db" else 0.0
        )
        for key, value in state.items()
    }
    for key in ("temperature_k", "power_budget_mw"):
        if checked.get(key) == 0:
            raise ValueError(f"{op}: `hardware_state['{key}']` must be positive, got 0")
    return checked


def bits_for_snr(snr_db: float, *, loss_db: float = 1.0) -> int:
    """Fewest bits whose rounding costs no more than `loss_db` of an analog SNR.

        ENOB = (SNR - 1.76) / 6.02                       of the noise, for a sine of full scale
        loss = 10·log10(1 + 4^(ENOB - b))                of SINAD, by the rounding of b bits
        b >= ENOB + ½·log2(1 / (10^(loss/10) - 1))

    1 dB of loss takes 0.97 bits beyond the ENOB, 0.5 dB 1.52, 0.25 dB 2.04. A loss within 0.01 dB
    of the limit passes. 20 dB are 4 bits, 40 dB are 8.

    Args:
        snr_db: electrical dB; infinite for no noise.
        loss_db: dB, positive.

    Returns:
        From 1 to 16.

    Raises:
        TypeError: an argument is no number.
        ValueError: `snr_db` is NaN, or `loss_db` is not positive or not finite.
    """
    op = "bits_for_snr"
    try:
        infinite = not isinstance(snr_db, np.complexfloating) and not math.isfinite(snr_db)
    except (TypeError, OverflowError):
        infinite = False
    if not infinite:
        snr_db = number(op, "snr_db", snr_db)
    elif math.isnan(snr_db):
        raise ValueError(f"{op}: `snr_db` must be a number, got nan")
    loss_db = positive(op, "loss_db", loss_db)
    enob = (snr_db - 1.76) / 6.02
    # 10^(loss/10) - 1, by a function that keeps the digits of a small loss and is 0 at a huge one.
    allowed = min(math.log(10) * (loss_db + _TOLERANCE_DB) / 10, 700.0)
    margin = -0.5 * math.log2(math.expm1(allowed))
    return math.ceil(min(max(enob + margin, 1.0), float(MAX_BITS)))


def snr_at(snr_db: float, temperature_k: float) -> float:
    """SNR in dB at a temperature, of noise stated at 300 K: `SNR - 10·log10(T / 300 K)`.

    All noise counts as thermal, whose power 4kTB/R_L is proportional to T. That is the worst case
    above 300 K; shot noise and laser noise do not depend on T.
    """
    return snr_db - 10 * (math.log10(temperature_k) - math.log10(REFERENCE_TEMPERATURE_K))


def bits_for_power(
    power_mw: float, *, energy_per_step_fj: float = 50.0, rate_hz: float = 1e9
) -> int:
    """Most bits of a converter within a power budget, by Walden's figure of merit.

        P = energy_per_step · rate · 2^b           b <= log2(P / (energy_per_step · rate))

    R. H. Walden, "Analog-to-digital converter survey and analysis", IEEE J. Sel. Areas Commun. 17
    (1999). It holds where comparators and not thermal noise take the power, up to about 10 bits;
    beyond that power grows as 4^b and the cap is too generous.

    Args:
        power_mw: budget of one converter, mW.
        energy_per_step_fj: figure of merit, fJ per conversion step.
        rate_hz: conversions per second, Hz.

    Returns:
        From 1 to 16.

    Raises:
        ValueError: the budget does not pay for one bit, or an argument is not positive.
    """
    return paid_bits(
        "bits_for_power",
        "power_mw",
        power_mw,
        energy_per_step_fj=energy_per_step_fj,
        rate_hz=rate_hz,
    )


def paid_bits(
    op: str, name: str, power_mw: float, *, energy_per_step_fj: float, rate_hz: float
) -> int:
    """`bits_for_power` of the argument `name` of the function `op`."""
    power = positive(op, name, power_mw)
    energy = positive(op, "energy_per_step_fj", energy_per_step_fj)
    rate = positive(op, "rate_hz", rate_hz)
    # In logarithms, which hold the ratio of any three floats. A budget of exactly 2^b steps pays
    # for b bits, whatever they round to.
    steps = math.log2(power) - math.log2(energy) - math.log2(1e-12) - math.log2(rate)
    bits = math.floor(steps + 1e-9)
    if bits < 1:
        raise ValueError(
            f"{op}: `{name}` is {power:g}, expected at least {2e-12 * energy * rate:g} mW, which "
            f"is one bit at {rate:g} Hz and {energy:g} fJ per step"
        )
    return min(bits, MAX_BITS)
