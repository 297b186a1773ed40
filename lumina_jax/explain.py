"""A profile in words and numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .profiles import HardwareProfile

_ELEMENTARY_CHARGE = 1.602176634e-19
_BOLTZMANN = 1.380649e-23


@dataclass(frozen=True, kw_only=True)
class _Stage:
    name: str
    what: str
    lsb: float | None
    """Distance of two levels, in units of the full scale; None where nothing is converted."""
    snr_db: float


def explain(profile: HardwareProfile) -> str:
    """The signal chain of a profile, stage by stage, as a text to print.

    LSB is in units of the full scale of the converter. SNR is that of a sine of full scale, in
    electrical dB; ENOB is the full-scale-sine one, `(SNR - 1.76) / 6.02`, not
    `log2(FS / (σ·√12))`. The last line combines the stages that the layers compute:
    `1/SINAD = Σ 1/SNR`. The receiver line is what its least optical power P allows
    (Al-Qadasi et al., APL Photonics 7, 020902 (2022)):

        SNR = R·P / ((√(2q(R·P + I_d) + 4kT/R_L + (R·P)²·RIN) + √(2q·I_d + 4kT/R_L)) · √(rate/√2))
    """
    bits = profile.precision
    lsb = _lsb(bits)
    dac = _Stage(
        name="DAC x", what=f"{bits} bits, range of x", lsb=lsb, snr_db=_converter_snr_db(lsb)
    )
    weights = _Stage(
        name="DAC w", what=f"{bits} bits, range of w", lsb=lsb, snr_db=_converter_snr_db(lsb)
    )
    adc = _Stage(
        name="ADC y", what=f"{bits} bits, range of y", lsb=lsb, snr_db=_converter_snr_db(lsb)
    )
    level = profile.noise_level
    noise = _Stage(
        name="noise",
        what=f"relative {level:g} of y",
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
        receiver = _Stage(
            name="receiver",
            what=f"{sensitivity:g} dBm at {rate / 1e9:g} GS/s",
            lsb=None,
            snr_db=_receiver_snr_db(profile, rate, sensitivity),
        )
        lines.append(_line(receiver))
    if profile.ring_q:
        lines.append(f"rings: Q {profile.ring_q:g}, FWHM {profile.ring_fwhm_pm:g} pm")
    lines.append("ENOB = (SNR - 1.76) / 6.02, of a full-scale sine; LSB in units of full scale")
    return "\n".join(lines)


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


def _receiver_snr_db(profile: HardwareProfile, rate_hz: float, power_dbm: float) -> float:
    current = profile.responsivity_a_per_w * 1e-3 * 10 ** (power_dbm / 10)
    thermal = 4 * _BOLTZMANN * profile.temperature_k / profile.load_ohm
    rin = current**2 * 10 ** (profile.rin_db_per_hz / 10)
    lit = 2 * _ELEMENTARY_CHARGE * (current + profile.dark_current_a) + thermal + rin
    dark = 2 * _ELEMENTARY_CHARGE * profile.dark_current_a + thermal
    bandwidth = rate_hz / math.sqrt(2)
    return 20 * math.log10(current / ((math.sqrt(lit) + math.sqrt(dark)) * math.sqrt(bandwidth)))
