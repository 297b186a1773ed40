"""The parts of a device, as figures: what `HardwareProfile` is made of."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from .._arguments import F32_MAX, constant, integer, number
from ..physics.conversions import DECIBELS
from ..spec import check_bits

MAX_CHANNELS = 1 << 16
"""Wavelengths of one bus: no light has room for more, and a crosstalk matrix is their square."""
_F32_MIN = float(np.finfo(np.float32).tiny)
_LOSS = {"at_least": 0, "at_most": DECIBELS["at_most"]}
"""Limits of a loss in dB."""


def _figure(default: float | None, **limits: float) -> Any:
    """A field that is a number within these limits; None is allowed where it is the default."""
    return field(default=default, metadata={"check": functools.partial(_number, **limits)})


def _count(default: int | None, at_most: int = 2**31 - 1) -> Any:
    """A field that is an int of at least 1; None is allowed where it is the default."""
    check = functools.partial(integer, at_least=1, at_most=at_most)
    return field(default=default, metadata={"check": check})


def _bits(default: int | None) -> Any:
    """A field that is the resolution of a converter, or None."""
    return field(default=default, metadata={"check": check_bits})


def _number(op: str, name: str, value: Any, *, at_most: float = math.inf, **limits: float) -> float:
    figure = number(op, name, constant(op, name, value), **limits)
    if figure > at_most:
        raise ValueError(f"{op}: `{name}` must be at most {at_most:g}, got {figure:g}")
    # What computes with a figure does so in f32, where less than the least normal number is 0.
    if abs(figure) > F32_MAX or ("above" in limits and figure < _F32_MIN):
        raise ValueError(f"{op}: `{name}` must be a normal number of float32, got {figure:g}")
    return figure


@dataclass(frozen=True, kw_only=True)
class Part:
    """A group of figures, each checked and kept as the check in its field returns it."""

    title: ClassVar[str]
    """What the part is, for those who read it."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is not None or entry.default is not None:
                value = entry.metadata["check"](type(self).__name__, entry.name, value)
                object.__setattr__(self, entry.name, value)


@dataclass(frozen=True, kw_only=True)
class Converters(Part):
    """Resolution and rate of the converters.

    Bits are from 1 to 32, or None for no converter, as 24 and more are too.

    Raises:
        TypeError, ValueError: a field is not a number, or out of its range.
    """

    title = "converters"

    dac_bits: int | None = _bits(8)
    """Of the DACs of the inputs."""
    weight_bits: int | None = _bits(8)
    """Of the DACs that set the weights."""
    adc_bits: int | None = _bits(8)
    """Of the ADCs that read the outputs."""
    symbol_rate_hz: float | None = _figure(None, above=0, at_most=1e15)
    """Vectors per second, Hz; None where unknown."""

    @classmethod
    def all(cls, bits: int | None, **others: Any) -> Converters:
        """Converters that all have so many bits."""
        return cls(dac_bits=bits, weight_bits=bits, adc_bits=bits, **others)


@dataclass(frozen=True, kw_only=True)
class WeightBank(Part):
    """The array of weights, `rows` inputs times `columns` outputs.

    Raises:
        TypeError, ValueError: a field is not a number, or out of its range.
    """

    title = "weight bank"

    rows: int | None = _count(None)
    """Inputs that one bank takes, in layers and planning tools. None: in layers as many as there
    are, in planning tools one for each wavelength that the light reaches."""
    columns: int | None = _count(None)
    """Outputs of one bank; None: as many as inputs."""
    drift: float = _figure(0.0, at_least=0, at_most=1)
    """Relative drift of the weights with temperature (no unit)."""


@dataclass(frozen=True, kw_only=True)
class Microring(Part):
    """The ring that holds one weight.

    Raises:
        TypeError, ValueError: a field is not a number, or out of its range.
    """

    title = "rings"

    q: float | None = _figure(None, above=0)
    """Loaded quality factor (no unit); None where unknown."""
    fsr_nm: float | None = _figure(None, above=0)
    """Free spectral range, nm; None: the channels of the grid fill it."""
    through_db: float = _figure(0.01, **_LOSS)
    """Loss of a ring that is passed by, optical dB."""
    pitch_um: float = _figure(20.0, above=0, at_most=1e9)
    """Distance of neighboring rings, µm."""


@dataclass(frozen=True, kw_only=True)
class WavelengthGrid(Part):
    """The wavelengths on one bus.

    Raises:
        TypeError, ValueError: a field is not a number, or out of its range.
    """

    title = "grid"

    channels: int = _count(16, at_most=MAX_CHANNELS)
    """Wavelengths on one bus, at most."""
    spacing_hz: float = _figure(100e9, above=0)
    """Distance of two wavelengths, Hz."""


@dataclass(frozen=True, kw_only=True)
class Photodetector(Part):
    """A photodiode and its load.

    Raises:
        TypeError, ValueError: a field is not a number, or out of its range.
    """

    title = "detector"

    sensitivity_dbm: float | None = _figure(None, at_least=-100, at_most=50)
    """Least optical power that gives the bits of the ADC, dBm; None where unknown."""
    responsivity_a_per_w: float = _figure(1.2, above=0, at_most=1e3)
    """Of the photodiode, A/W."""
    dark_current_a: float = _figure(35e-9, at_least=0)
    """Of the photodiode, A."""
    load_ohm: float = _figure(50.0, above=0)
    """Load of the photodiode, Ω."""
    temperature_k: float = _figure(300.0, at_least=0)
    """Of the load, K."""


@dataclass(frozen=True, kw_only=True)
class Laser(Part):
    """The light of one wavelength.

    Raises:
        TypeError, ValueError: a field is not a number, or out of its range.
    """

    title = "laser"

    power_dbm: float = _figure(10.0, at_least=-100, at_most=50)
    """Optical power, dBm."""
    wavelength_nm: float = _figure(1550.0, above=0)
    """Center wavelength, nm."""
    rin_db_per_hz: float = _figure(-140.0, at_least=-300, at_most=0)
    """Relative intensity noise, dB/Hz."""


@dataclass(frozen=True, kw_only=True)
class OpticalPath(Part):
    """What the light loses on its way.

    Raises:
        TypeError, ValueError: a field is not a number, or out of its range.
    """

    title = "path"

    transmission: float = _figure(1.0, above=0, at_most=1)
    """Factor on the weights that a layer computes with, linear: 1 is lossless."""
    edge_coupler_db: float = _figure(1.6, **_LOSS)
    """Loss of the edge coupler, optical dB."""
    modulator_db: float = _figure(4.0, **_LOSS)
    """Loss of the modulator, optical dB."""
    waveguide_db_per_mm: float = _figure(0.3, **_LOSS)
    """Loss of the waveguide, optical dB/mm."""
    splitter_db: float = _figure(0.01, **_LOSS)
    """Excess loss of a splitter, optical dB."""
