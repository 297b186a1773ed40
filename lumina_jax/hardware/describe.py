"""A profile in words and numbers."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass

import numpy as np

from .._floating_point import numpy_defaults
from ..physics import dbm_to_w, enob_to_sinad_db, link_enob
from .crosstalk import Crosstalk
from .noise import NoiseModel
from .profiles import HardwareProfile, profile_of


@dataclass(frozen=True, kw_only=True)
class _Stage:
    name: str
    what: str
    lsb: float | None
    """Distance of two levels, in units of the full scale; None where nothing is converted."""
    snr_db: float


class Explanation(str):
    """A text that shows itself, at a prompt and in a notebook."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self)}</pre>"


@numpy_defaults
def explain(profile: HardwareProfile | str) -> Explanation:
    """The signal chain of a profile or preset, stage by stage, as a text to print.

    LSB is in units of the full scale of the converter. SNR is that of a sine of full scale, in
    electrical dB; ENOB is the full-scale-sine one, `(SNR - 1.76) / 6.02`, not
    `log2(FS / (σ·√12))`. The noise is that at the largest y: at the full scale of the ADC where the
    noise is in parts of it, else at y = 1. The chain line combines the stages that convert and add
    noise: `1/SINAD = Σ 1/SNR`. The receiver line is what its least optical power allows,
    `physics.link_enob`.

    The crosstalk line is the channel that suffers most among independent signals of equal power,
    `SIR = C_ii² / Σ_{j≠i} C_ij²`. It is apart from the chain, as it repeats itself from readout to
    readout and `compensate` undoes it.

    Raises:
        TypeError: `profile` is neither a HardwareProfile nor a name.
        ValueError: there is no preset of that name.
    """
    profile = profile_of("explain", profile)
    converters = profile.converters
    bits = {"x": converters.dac_bits, "w": converters.weight_bits, "y": converters.adc_bits}
    dac, weights, adc = (
        _Stage(
            name=f"{'ADC' if signal == 'y' else 'DAC'} {signal}",
            what="off" if count is None else f"{count} bits, range of {signal}",
            lsb=None if count is None else _lsb(count),
            snr_db=math.inf if count is None else _converter_snr_db(_lsb(count)),
        )
        for signal, count in bits.items()
    )
    chain = [dac, weights, _noise_stage(profile.noise), adc]
    total = _Stage(name="chain", what="all of the above", lsb=None, snr_db=_combined_db(chain))
    resolution = ", ".join("off" if count is None else str(count) for count in bits.values())
    transmission = profile.path.transmission
    lines = [
        f"{profile.name}: {resolution} bits for x, w, y, transmission {transmission:g} "
        f"({10 * math.log10(transmission):.2f} dB), drift {profile.bank.drift:g}",
        f"{'stage':<10}{'':<28}{'LSB':>8}{'SNR dB':>10}{'ENOB':>8}",
        *(_line(stage) for stage in (*chain, total)),
    ]
    rate, sensitivity = converters.symbol_rate_hz, profile.detector.sensitivity_dbm
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
    if profile.ring.q:
        lines.append(f"rings: Q {profile.ring.q:g}, FWHM {profile.ring_fwhm_pm:g} pm")
    lines.append("ENOB = (SNR - 1.76) / 6.02, of a full-scale sine; LSB in units of full scale")
    return Explanation("\n".join(lines))


def _noise_stage(noise: NoiseModel) -> _Stage:
    """σ over y at the largest y, without the noise of the weights, which no y tells."""
    level = math.hypot(noise.relative, noise.shot, noise.thermal)
    at = "full scale" if noise.unit == "full_scale" else "y = 1"
    return _Stage(
        name="noise",
        what=f"relative {level:g} of y" if level == noise.relative else f"σ {level:.4g} at {at}",
        lsb=None,
        snr_db=-20 * math.log10(level) if level > 0 else math.inf,
    )


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
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ratio = np.where(disturbance > 0, signal / disturbance, np.inf)
        return float(10 * np.log10(ratio.min()))


def _line(stage: _Stage) -> str:
    lsb = "-" if stage.lsb is None else f"{stage.lsb:.3g}"
    enob = (stage.snr_db - 1.76) / 6.02
    return f"{stage.name:<10}{stage.what:<28}{lsb:>8}{stage.snr_db:>10.1f}{enob:>8.2f}"


def _lsb(bits: int) -> float:
    """Distance of two levels over the full scale; the sign converter has two, at ±1."""
    return 2.0 if bits == 1 else 1 / (2 ** (bits - 1) - 1)


def _converter_snr_db(lsb: float) -> float:
    """Power of a sine of amplitude 1 over the rounding error, LSB²/12."""
    return 10 * math.log10(0.5 / (lsb**2 / 12))


def _combined_db(stages: list[_Stage]) -> float:
    return -10 * math.log10(sum(10 ** (-stage.snr_db / 10) for stage in stages))
