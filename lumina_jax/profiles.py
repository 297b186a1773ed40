"""Hardware profiles: what a device does to a signal, and the optics behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Self

from .noise import NoiseModel
from .spec import OpticalSpec, check_bits


@dataclass(frozen=True, kw_only=True)
class HardwareProfile:
    """One photonic processor.

    The first group of fields is what layers compute with, through `spec`, `noise` and
    `attenuation`; the second describes the optical link for planning tools and `explain`. Make a
    variant of a preset with `dataclasses.replace`.

    Link formulas and constants follow Al-Qadasi et al., "Scaling up silicon photonic-based
    accelerators", APL Photonics 7, 020902 (2022).

    Raises:
        TypeError, ValueError: a field is not a number, or is out of its range.
    """

    name: str = "custom"
    """Name of the profile."""

    noise_level: float = 0.1
    """Multiplicative noise, standard deviation as a fraction of the output (no unit)."""
    precision: int = 8
    """Resolution of the DACs and of the ADC, bits."""
    temp_drift: float = 0.0
    """Relative drift of the weights with temperature (no unit)."""
    attenuation: float = 1.0
    """Transmission of the optical path, linear: 1 is lossless."""

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

    def __post_init__(self) -> None:
        if check_bits("HardwareProfile", "precision", self.precision) is None:
            raise TypeError("HardwareProfile: `precision` must be an int, got None")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "name" or (value is None and field.default is None):
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"HardwareProfile: `{field.name}` must be a number, got {value!r}")
            if not math.isfinite(value):
                raise ValueError(f"HardwareProfile: `{field.name}` must be finite, got {value}")
            if value < 0 and not field.name.endswith(("_dbm", "_db_per_hz")):
                raise ValueError(
                    f"HardwareProfile: `{field.name}` must not be negative, got {value}"
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

    @property
    def spec(self) -> OpticalSpec:
        """Bits of the converters: all three have the profile's precision."""
        bits = self.precision
        return OpticalSpec(dac_bits=bits, weight_bits=bits, adc_bits=bits)

    @property
    def noise(self) -> NoiseModel:
        """The noise of one readout."""
        return NoiseModel(relative=self.noise_level)

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
