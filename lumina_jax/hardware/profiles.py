"""Hardware profiles: what a device does to a signal, and the optics behind it."""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass, field
from typing import Any, Self, TextIO

from .._arguments import instance
from ..physics import LinkBudget, Receiver
from ..physics._constants import LIGHT_SPEED
from ..spec import OpticalSpec
from . import _files, _former
from .crosstalk import Crosstalk, NearestNeighbor, RingComb
from .measurements import NoiseFit, fit_noise
from .noise import NoiseModel
from .parts import (
    Converters,
    Laser,
    Microring,
    OpticalPath,
    Part,
    Photodetector,
    WavelengthGrid,
    WeightBank,
)


@dataclass(frozen=True, kw_only=True)
class HardwareProfile:
    """One photonic processor: everything that layers and tools know of it.

    Layers compute with `converters`, `noise`, `bank.rows`, `path.transmission` and `crosstalk`;
    planning tools, the energy report and `explain` read the rest too.
    `HardwareProfile.preset(name)` is one of `presets()`, and `dataclasses.replace` makes a variant.
    Wherever a profile is taken, so is the name of a preset.

    Link formulas and constants follow Al-Qadasi et al., "Scaling up silicon photonic-based
    accelerators", APL Photonics 7, 020902 (2022).

    Raises:
        TypeError, ValueError: a part is of another type, or two parts contradict each other.
    """

    name: str = "custom"
    """Name of the profile."""
    source: str = ""
    """Where its figures come from."""
    converters: Converters = field(default_factory=Converters)
    """Bits and rate of DACs and ADCs."""
    noise: NoiseModel = field(default_factory=lambda: NoiseModel(relative=0.1))
    """Noise of one readout; plain numbers, so that a profile can be compared and saved."""
    bank: WeightBank = field(default_factory=WeightBank)
    """The array of weights."""
    ring: Microring = field(default_factory=Microring)
    """The ring that holds one weight."""
    grid: WavelengthGrid = field(default_factory=WavelengthGrid)
    """The wavelengths of one bus."""
    detector: Photodetector = field(default_factory=Photodetector)
    """Photodiode and load."""
    laser: Laser = field(default_factory=Laser)
    """The light of one wavelength."""
    path: OpticalPath = field(default_factory=OpticalPath)
    """What the light loses on its way."""
    crosstalk: Crosstalk | None = None
    """Between the wavelength channels of the weight bank; None is none."""
    fit: NoiseFit | None = field(default=None, repr=False, compare=False)
    """How well the noise fits the measurements it comes from; None where it is not measured."""

    def __post_init__(self) -> None:
        for name, kind in _PARTS.items():
            value = getattr(self, name)
            instance(_NAME, name, value, kind, f"a {kind.__name__}")
        instance(_NAME, "noise", self.noise, NoiseModel, "a NoiseModel")
        kinds = "CrosstalkMatrix, RingComb, NearestNeighbor or None"
        instance(_NAME, "crosstalk", self.crosstalk, Crosstalk | None, kinds)
        for name in ("name", "source"):
            text = getattr(self, name)
            instance(_NAME, name, text, str, "a str")
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise ValueError(f"{_NAME}: `{name}` must be text that UTF-8 holds, got {text!r}")
        for name in ("relative", "shot", "thermal", "weight"):
            if not isinstance(getattr(self.noise, name), int | float):
                kind = type(getattr(self.noise, name)).__name__
                raise TypeError(
                    f"{_NAME}: `noise.{name}` is of type {kind}, expected a Python number; "
                    f"pass float(...), or give arrays to the layer as `noise`"
                )
        self._check_contradictions()

    def _check_contradictions(self) -> None:
        comb = self.crosstalk
        # A matrix may be that of several buses.
        if isinstance(comb, RingComb | NearestNeighbor) and comb.channels > self.grid.channels:
            raise ValueError(
                f"{_NAME}: `crosstalk` is among {comb.channels} channels, expected at "
                f"most the {self.grid.channels} of `grid.channels`"
            )
        width = self.grid.channels * self.grid.spacing_hz
        if self.ring.fsr_nm is not None and width > self.fsr_hz * (1 + 1e-9):
            raise ValueError(
                f"{_NAME}: `grid` takes {width / 1e12:.3g} THz, expected at most the free spectral "
                f"range, `ring.fsr_nm`={self.ring.fsr_nm:g} or {self.fsr_hz / 1e12:.3g} THz"
            )
        if self.ring.q is not None and self.fsr_hz <= self.linewidth_hz:
            raise ValueError(
                f"{_NAME}: `ring.q`={self.ring.q:g} has a linewidth of "
                f"{self.linewidth_hz / 1e9:.3g} GHz, expected less than the free spectral range, "
                f"{self.fsr_hz / 1e9:.3g} GHz"
            )
        if self.bank.rows is not None and self.bank.rows > self.grid.channels:
            raise ValueError(
                f"{_NAME}: `bank.rows` is {self.bank.rows}, expected at most the "
                f"{self.grid.channels} wavelengths of `grid.channels`"
            )

    @classmethod
    def preset(cls, name: str) -> HardwareProfile:
        """The preset of that name; a ValueError that lists all names where there is none."""
        return _preset(f"{_NAME}.preset", "name", name)

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

        thermal = √a0, shot = √a1, relative = √a2, in parts of the full scale of the ADC, which is
        what the columns read `full_scale` at: every layer has this noise at its own full scale. How
        well they fit is in `fit`: `print(profile.fit)`.

        Args:
            source: path or open text file of a CSV with the column `signal` and either `noise`, a
                standard deviation, or repeated readings in columns `reading…`: see `fit_noise`.
            full_scale: what the columns read at the full scale of the ADC; above 0.
            skip_bad_rows: leave bad rows out instead of an error.
            values: the other fields of the profile.

        Raises:
            TypeError: `values` holds the noise or the fit.
            ValueError: columns are missing, a row is bad, or there are too few signals.
        """
        name = f"{_NAME}.from_measurements"
        for given in ("noise", "noise_level", "shot_noise", "thermal_noise", "fit"):
            if given in values:
                raise TypeError(f"{name}: `{given}` comes from the measurements, got it as well")
        fit = fit_noise(source, full_scale=full_scale, skip_bad_rows=skip_bad_rows)
        noise = NoiseModel(
            relative=math.sqrt(fit.a2),
            shot=math.sqrt(fit.a1),
            thermal=math.sqrt(fit.a0),
            unit="full_scale",
        )
        return cls(noise=noise, fit=fit, **values)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The profile in a file of `save`, or one written by hand: TOML or JSON by its ending.

        Every figure may be left out, and is then that of `HardwareProfile()`:

            name = "my chip"
            [converters]
            dac_bits = 6
            [noise]
            unit = "full_scale"
            thermal = 0.004

        Raises:
            FileNotFoundError: there is no such file.
            TypeError, ValueError: the ending is neither, the file is malformed, or it names a
                figure that there is not, or one out of its range.
        """
        return _files.load(cls, path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes all figures to a file that `load` reads: TOML or JSON by its ending."""
        _files.save(self, path)

    def to_dict(self) -> dict[str, Any]:
        """All figures, as JSON has them; `from_dict` reads it."""
        return _files.to_dict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The profile of such figures; what is left out is that of `HardwareProfile()`.

        Raises:
            TypeError, ValueError: there is no figure of that name, or it is out of its range.
        """
        return _files.from_dict(cls, values, f"{_NAME}.from_dict")

    @property
    def spec(self) -> OpticalSpec:
        """Bits of the converters and inputs of the array, as the ops take them."""
        converters = self.converters
        return OpticalSpec(
            dac_bits=converters.dac_bits,
            weight_bits=converters.weight_bits,
            adc_bits=converters.adc_bits,
            array_rows=self.bank.rows,
        )

    @property
    def receiver(self) -> Receiver:
        """Photodiode and load, in a bandwidth of rate/√2; a ValueError without a symbol rate."""
        rate = self.converters.symbol_rate_hz
        if rate is None:
            raise ValueError(
                f"{_NAME}.receiver: `converters.symbol_rate_hz` is None, expected the rate, which "
                f"sets the bandwidth of the noise"
            )
        detector = self.detector
        return Receiver(
            bandwidth_hz=rate / math.sqrt(2),
            responsivity_a_per_w=detector.responsivity_a_per_w,
            dark_current_a=detector.dark_current_a,
            load_ohm=detector.load_ohm,
            temperature_k=detector.temperature_k,
            rin_db_per_hz=self.laser.rin_db_per_hz,
        )

    @property
    def link_budget(self) -> LinkBudget:
        """Losses from the laser to the receiver, without network penalty."""
        return LinkBudget(
            laser_dbm=self.laser.power_dbm,
            edge_coupler_db=self.path.edge_coupler_db,
            modulator_db=self.path.modulator_db,
            waveguide_db_per_mm=self.path.waveguide_db_per_mm,
            ring_pitch_mm=1e-3 * self.ring.pitch_um,
            ring_through_db=self.ring.through_db,
            splitter_db=self.path.splitter_db,
        )

    @property
    def fsr_hz(self) -> float:
        """Free spectral range, Hz: c·FSR/λ², or the width of the grid where it is not known."""
        if self.ring.fsr_nm is None:
            return self.grid.channels * self.grid.spacing_hz
        return LIGHT_SPEED * 1e-9 * self.ring.fsr_nm / self._wavelength_m**2

    @property
    def linewidth_hz(self) -> float:
        """Linewidth of a ring, Hz: c/(λ·Q); a ValueError without `ring.q`."""
        if self.ring.q is None:
            raise ValueError(f"{_NAME}: `ring.q` is None, expected the quality factor of the rings")
        return LIGHT_SPEED / (self._wavelength_m * self.ring.q)

    @property
    def ring_fwhm_pm(self) -> float | None:
        """Full width at half maximum of a ring, λ/Q, in pm; None without `ring.q`."""
        return None if self.ring.q is None else 1e3 * self.laser.wavelength_nm / self.ring.q

    @property
    def _wavelength_m(self) -> float:
        return 1e-9 * self.laser.wavelength_nm

    def __str__(self) -> str:
        return _files.text(self)

    def _repr_html_(self) -> str:
        return _files.html(self)


_NAME = "HardwareProfile"
_PARTS: dict[str, type[Part]] = {
    "converters": Converters,
    "bank": WeightBank,
    "ring": Microring,
    "grid": WavelengthGrid,
    "detector": Photodetector,
    "laser": Laser,
    "path": OpticalPath,
}

_former.accept(HardwareProfile)


def profile_of(op: str, profile: HardwareProfile | str) -> HardwareProfile:
    """The profile that an argument `profile` stands for: itself, or the preset of that name."""
    if isinstance(profile, str):
        return _preset(op, "profile", profile)
    expected = "a HardwareProfile or the name of a preset"
    instance(op, "profile", profile, HardwareProfile, expected)
    return profile


def _preset(op: str, argument: str, name: Any) -> HardwareProfile:
    known = presets()
    if not isinstance(name, str) or name not in known:
        names = ", ".join(sorted(known))
        raise ValueError(f"{op}: unknown `{argument}` {name!r}, expected {names}")
    return known[name]


_SOURCE = (
    "round figures of Lumina-JAX for a device of this class, measured on none; losses and detector "
    "after Al-Qadasi et al., APL Photonics 7, 020902 (2022)"
)


class Presets(dict[str, HardwareProfile]):
    """Profiles by name, which print as a table with their sources."""

    def __repr__(self) -> str:
        lines = [f"{'preset':<27}{'DAC, weight, ADC bits':<23}noise"]
        for name, profile in self.items():
            c = profile.converters
            bits = f"{c.dac_bits}, {c.weight_bits}, {c.adc_bits}"
            noise = f"{profile.noise.relative:.0%} of y"
            lines += [f"{name:<27}{bits:<23}{noise}", f"    {profile.source}"]
        return "\n".join(lines)


def presets() -> Presets:
    """The devices that can be had by name, each with its `source`; prints as a table.

    Their noise is relative: a fraction of y, and so the same on the scale of the signal and on that
    of the full scale.
    """
    return Presets(_presets())


@functools.cache
def _presets() -> Presets:
    def bits(count: int, rate: float, sensitivity: float, resolved: int, **parts: object) -> dict:
        source = f"{_SOURCE}; sensitivity for {resolved} bits by physics.sensitivity_w"
        return {
            "converters": Converters.all(count, symbol_rate_hz=rate),
            "detector": Photodetector(sensitivity_dbm=sensitivity),
            "source": source,
            **parts,
        }

    figures = {
        "lumina_nano_v1": bits(
            4, 5e9, -17.5, 3,
            noise=NoiseModel(relative=0.15),
            bank=WeightBank(drift=0.05),
            path=OpticalPath(transmission=0.85),
            ring=Microring(q=1e4),
        ),
        "lumina_micro_v1": bits(
            8, 5e9, -14.4, 4,
            noise=NoiseModel(relative=0.10),
            bank=WeightBank(drift=0.03),
            path=OpticalPath(transmission=0.90),
            ring=Microring(q=1e4),
        ),
        "edge_ultra_low_power": bits(
            2, 1e9, -24.0, 2,
            noise=NoiseModel(relative=0.20),
            bank=WeightBank(drift=0.10),
            path=OpticalPath(transmission=0.75),
            ring=Microring(q=5e3),
        ),
        "datacenter_high_precision": bits(
            12, 1e9, -11.7, 6,
            noise=NoiseModel(relative=0.05),
            bank=WeightBank(drift=0.01),
            path=OpticalPath(transmission=0.95),
            ring=Microring(q=2e4),
        ),
        "custom": {"source": "the defaults of HardwareProfile, to start from"},
    }  # fmt: skip
    return Presets({name: HardwareProfile(name=name, **parts) for name, parts in figures.items()})
