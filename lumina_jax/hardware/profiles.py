"""Hardware profiles: what a device does to a signal, and the optics behind it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields
from typing import Any, Self, TextIO

from .._arguments import constant, instance
from ..physics import LinkBudget, Receiver
from ..spec import OpticalSpec, check_bits
from .crosstalk import Crosstalk
from .measurements import NoiseFit, fit_noise
from .noise import NoiseModel


@dataclass(frozen=True, kw_only=True)
class HardwareProfile:
    """One photonic processor.

    The first group of fields is what layers compute with, through `spec`, `noise`, `attenuation`
    and `crosstalk`; the second describes the optical link for planning tools and `explain`. Make
    a variant of a preset with `dataclasses.replace`.

    Link formulas and constants follow Al-Qadasi et al., "Scaling up silicon photonic-based
    accelerators", APL Photonics 7, 020902 (2022).

    Raises:
        TypeError, ValueError: a field is not a number, or is out of its range.
    """

    name: str = "custom"
    """Name of the profile."""

    noise_level: float = 0.1
    """Multiplicative noise, standard deviation as a fraction of the output (no unit)."""
    shot_noise: float = 0.0
    """Shot noise, standard deviation at |y| = 1 (square root of the unit of y)."""
    thermal_noise: float = 0.0
    """Additive noise, standard deviation (unit of y)."""
    precision: int = 8
    """Resolution of the DACs and of the ADC, bits."""
    temp_drift: float = 0.0
    """Relative drift of the weights with temperature (no unit)."""
    attenuation: float = 1.0
    """Transmission of the optical path, linear: 1 is lossless."""
    crosstalk: Crosstalk | None = None
    """Between the wavelength channels of the weight bank; None is none."""

    symbol_rate_hz: float | None = None
    """Vectors per second, Hz; None where unknown."""
    receiver_sensitivity_dbm: float | None = None
    """Least optical power at the receiver, dBm; None where unknown."""
    ring_q: float | None = None
    """Loaded quality factor of the weight rings (no unit); None where unknown."""
    wavelength_nm: float = 1550.0
    """Center wavelength, nm."""
    responsivity_a_per_w: float = 1.2
    """Of the photodiode, A/W."""
    dark_current_a: float = 35e-9
    """Of the photodiode, A."""
    load_ohm: float = 50.0
    """Load of the photodiode, Ω."""
    rin_db_per_hz: float = -140.0
    """Relative intensity noise of the laser, dB/Hz."""
    temperature_k: float = 300.0
    """Of the receiver, K."""
    laser_dbm: float = 10.0
    """Power of the laser, dBm."""
    edge_coupler_db: float = 1.6
    """Loss of the edge coupler, optical dB."""
    modulator_db: float = 4.0
    """Loss of the modulator, optical dB."""
    waveguide_db_per_mm: float = 0.3
    """Loss of the waveguide, optical dB/mm."""
    splitter_db: float = 0.01
    """Excess loss of a splitter, optical dB."""
    ring_through_db: float = 0.01
    """Loss of a ring that is passed by, optical dB."""
    ring_pitch_um: float = 20.0
    """Distance of neighboring rings, µm."""
    max_channels: int = 16
    """Wavelength channels on one bus, at most."""

    fit: NoiseFit | None = field(default=None, repr=False, compare=False)
    """How well the noise fits the measurements it comes from; None where it is not measured."""

    def __post_init__(self) -> None:
        if check_bits("HardwareProfile", "precision", self.precision) is None:
            raise TypeError("HardwareProfile: `precision` must be an int, got None")
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name in ("name", "fit", "crosstalk"):
                continue
            if value is None and entry.default is None:
                continue
            if constant("HardwareProfile", entry.name, value) < 0 and not entry.name.endswith(
                ("_dbm", "_db_per_hz")
            ):
                raise ValueError(
                    f"HardwareProfile: `{entry.name}` must not be negative, got {value}"
                )
        instance(
            "HardwareProfile",
            "crosstalk",
            self.crosstalk,
            Crosstalk | None,
            "CrosstalkMatrix, RingComb, NearestNeighbor or None",
        )
        if not 0 < self.attenuation <= 1:
            raise ValueError(
                "HardwareProfile: `attenuation` must be above 0 and at most 1, "
                f"got {self.attenuation}"
            )

    @classmethod
    def preset(cls, name: str) -> Self:
        """The preset of that name; a ValueError that lists all names where there is none."""
        if name not in _PRESETS:
            known = ", ".join(sorted(_PRESETS))
            raise ValueError(f"HardwareProfile.preset: unknown `name` {name!r}, expected {known}")
        return cls(name=name, **_PRESETS[name])

    @classmethod
    def from_measurements(
        cls,
        source: str | os.PathLike[str] | TextIO,
        *,
        full_scale: float = 1.0,
        skip_bad_rows: bool = False,
        **values: Any,
    ) -> Self:
        """A profile whose noise is fitted to measurements: σ² = a0 + a1·|y| + a2·y².

        thermal_noise = √a0, shot_noise = √a1, noise_level = √a2, in the unit of y that
        `full_scale` sets; `NoiseModel.scaled` takes them to others. How well they fit is in `fit`:
        `print(profile.fit)`.

        Args:
            source: path or open text file of a CSV with the column `signal` and either `noise`, a
                standard deviation, or repeated readings in columns `reading…`: see `fit_noise`.
            full_scale: what the columns read where y is 1; above 0.
            skip_bad_rows: leave bad rows out instead of an error.
            values: the other fields of the profile.

        Raises:
            TypeError: `values` holds the noise or the fit.
            ValueError: columns are missing, a row is bad, or there are too few signals.
        """
        name = "HardwareProfile.from_measurements"
        for given in ("noise_level", "shot_noise", "thermal_noise", "fit"):
            if given in values:
                raise TypeError(f"{name}: `{given}` comes from the measurements, got it as well")
        fit = fit_noise(source, full_scale=full_scale, skip_bad_rows=skip_bad_rows)
        return cls(
            noise_level=math.sqrt(fit.a2),
            shot_noise=math.sqrt(fit.a1),
            thermal_noise=math.sqrt(fit.a0),
            fit=fit,
            **values,
        )

    @property
    def spec(self) -> OpticalSpec:
        """Bits of the converters: all three have the profile's precision."""
        bits = self.precision
        return OpticalSpec(dac_bits=bits, weight_bits=bits, adc_bits=bits)

    @property
    def noise(self) -> NoiseModel:
        """The noise of one readout."""
        return NoiseModel(
            relative=self.noise_level, shot=self.shot_noise, thermal=self.thermal_noise
        )

    @property
    def receiver(self) -> Receiver:
        """Photodiode and load, in a bandwidth of rate/√2; a ValueError without `symbol_rate_hz`."""
        if not self.symbol_rate_hz:
            raise ValueError(
                "HardwareProfile.receiver: `symbol_rate_hz` must be above 0, "
                f"got {self.symbol_rate_hz}"
            )
        return Receiver(
            bandwidth_hz=self.symbol_rate_hz / math.sqrt(2),
            responsivity_a_per_w=self.responsivity_a_per_w,
            dark_current_a=self.dark_current_a,
            load_ohm=self.load_ohm,
            temperature_k=self.temperature_k,
            rin_db_per_hz=self.rin_db_per_hz,
        )

    @property
    def link_budget(self) -> LinkBudget:
        """Losses from the laser to the receiver, without network penalty."""
        return LinkBudget(
            laser_dbm=self.laser_dbm,
            edge_coupler_db=self.edge_coupler_db,
            modulator_db=self.modulator_db,
            waveguide_db_per_mm=self.waveguide_db_per_mm,
            ring_pitch_mm=1e-3 * self.ring_pitch_um,
            ring_through_db=self.ring_through_db,
            splitter_db=self.splitter_db,
        )

    @property
    def ring_fwhm_pm(self) -> float | None:
        """Full width at half maximum of a ring, λ/Q, in pm; None without `ring_q`."""
        return None if not self.ring_q else 1e3 * self.wavelength_nm / self.ring_q


_PRESETS: dict[str, dict[str, Any]] = {
    "lumina_nano_v1": {
        "noise_level": 0.15,
        "precision": 4,
        "temp_drift": 0.05,
        "attenuation": 0.85,
        "symbol_rate_hz": 5e9,
        "receiver_sensitivity_dbm": -17.5,
        "ring_q": 1e4,
    },
    "lumina_micro_v1": {
        "noise_level": 0.10,
        "precision": 8,
        "temp_drift": 0.03,
        "attenuation": 0.90,
        "symbol_rate_hz": 5e9,
        "receiver_sensitivity_dbm": -14.4,
        "ring_q": 1e4,
    },
    "edge_ultra_low_power": {
        "noise_level": 0.20,
        "precision": 2,
        "temp_drift": 0.10,
        "attenuation": 0.75,
        "symbol_rate_hz": 1e9,
        "receiver_sensitivity_dbm": -24.0,
        "ring_q": 5e3,
    },
    "datacenter_high_precision": {
        "noise_level": 0.05,
        "precision": 12,
        "temp_drift": 0.01,
        "attenuation": 0.95,
        "symbol_rate_hz": 1e9,
        "receiver_sensitivity_dbm": -11.7,
        "ring_q": 2e4,
    },
    "custom": {},
}
