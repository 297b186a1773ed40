"""A profile in words and numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .._arguments import instance
from ..physics import dbm_to_w, enob_to_sinad_db, link_enob
from .crosstalk import Crosstalk
from .profiles import HardwareProfile


@dataclass(frozen=True, kw_only=True)
class _Stage:
    name: str
    what: str
    lsb: float | None
    """Distance of two levels, in units of the full scale; None where nothing is converted."""
    snr_db: float


def explain(profile: HardwareProfile) -> str:
    """Prints the signal chain of a profile, stage by stage, and returns the text.

    LSB is in units of the full scale of the converter. SNR is that of a sine of full scale, in
    electrical dB; ENOB is the full-scale-sine one, `(SNR - 1.76) / 6.02`, not
    `log2(FS / (σ·√12))`. The chain line combines the stages that convert and add noise:
    `1/SINAD = Σ 1/SNR`. The receiver line is what its least optical power allows,
    `physics.link_enob`.

    The crosstalk line is the channel that suffers most among independent signals of equal power,
    `SIR = C_ii² / Σ_{j≠i} C_ij²`. It is apart from the chain, as it repeats itself from readout to
    readout and `compensate` undoes it.

    Raises:
        TypeError: `profile` is no HardwareProfile.
    """
    instance("explain", "profile", profile, HardwareProfile, "a HardwareProfile")
    bits = profile.precision
    lsb = _lsb(bits)
    dac, weights, adc = (
        _Stage(
            name=f"{converter} {signal}",
            what=f"{bits} bits, range of {signal}",
            lsb=lsb,
            snr_db=_converter_snr_db(lsb),
        )
        for converter, signal in (("DAC", "x"), ("DAC", "w"), ("ADC", "y"))
    )
    level = math.hypot(profile.noise_level, profile.shot_noise, profile.thermal_noise)
    relative = level == profile.noise_level
    noise = _Stage(
        name="noise",
        what=f"relative {level:g} of y" if relative else f"σ {level:.4g} at y = 1",
        lsb=None,
        snr_db=-20 * math.log10(level) if level > 0 else math.inf,
    )
    chain = [dac, weights, noise, adc]
    total = _Stage(name="chain", what="all of the above", lsb=None, snr_db=_combined_db(chain))
    lines = [
        f"{profile.name}: {bits} bits, transmission {profile.attenuation:g} "
        f"({10 * math.log10(profile.attenuation):.2f} dB), drift {profile.temp_drift:g}",
        f"{'stage':<10}{'':<24}{'LSB':>12}{'SNR dB':>10}{'ENOB':>8}",
        *(_line(stage) for stage in (*chain, total)),
    ]
    rate, sensitivity = profile.symbol_rate_hz, profile.receiver_sensitivity_dbm
    if rate and sensitivity is not None:
        enob = link_enob(dbm_to_w(sensitivity), rate, receiver=profile.receiver)
        receiver = _Stage(
            name="receiver",
            what=f"{sensitivity:g} dBm at {rate / 1e9:g} GS/s",
            lsb=None,
            snr_db=float(enob_to_sinad_db(enob)),
        )
        lines.append(_line(receiver))
    if profile.crosstalk is not None:
        lines += _crosstalk_lines(profile.crosstalk)
    if profile.ring_q:
        lines.append(f"rings: Q {profile.ring_q:g}, FWHM {profile.ring_fwhm_pm:g} pm")
    lines.append("ENOB = (SNR - 1.76) / 6.02, of a full-scale sine; LSB in units of full scale")
    text = "\n".join(lines)
    print(text)
    return text


def _crosstalk_lines(crosstalk: Crosstalk) -> list[str]:
    matrix = crosstalk.matrix
    own = np.diagonal(matrix)
    leaked = matrix - np.diag(own)
    stage = _Stage(
        name="crosstalk",
        what=f"{crosstalk.channels} channels, worst",
        lsb=None,
        snr_db=_least_db(np.square(own), np.square(leaked).sum(axis=1)),
    )
    total = -_least_db(own, leaked.sum(axis=1))
    condition = float(np.linalg.cond(matrix))
    return [
        _line(stage),
        f"crosstalk: {total:.1f} dB of light from all other channels, condition number "
        f"{condition:.4g}",
    ]


def _least_db(signal: np.ndarray, disturbance: np.ndarray) -> float:
    """The least ratio of the two, dB; a channel that nothing disturbs has inf."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(disturbance > 0, signal / disturbance, np.inf)
        return float(10 * np.log10(ratio.min()))


def _line(stage: _Stage) -> str:
    lsb = "-" if stage.lsb is None else f"{stage.lsb:.3g}"
    enob = (stage.snr_db - 1.76) / 6.02
    return f"{stage.name:<10}{stage.what:<24}{lsb:>12}{stage.snr_db:>10.1f}{enob:>8.2f}"


def _lsb(bits: int) -> float:
    """Distance of two levels over the full scale; the sign converter has two, at ±1."""
    return 2.0 if bits == 1 else 1 / (2 ** (bits - 1) - 1)


def _converter_snr_db(lsb: float) -> float:
    """Power of a sine of amplitude 1 over the rounding error, LSB²/12."""
    return 10 * math.log10(0.5 / (lsb**2 / 12))


def _combined_db(stages: list[_Stage]) -> float:
    return -10 * math.log10(sum(10 ** (-stage.snr_db / 10) for stage in stages))
