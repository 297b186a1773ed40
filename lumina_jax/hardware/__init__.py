"""The device: its profile, noise, crosstalk and drift, as presets, as fits, and in words."""

from __future__ import annotations

from . import crosstalk, drift
from .compensation import Compensation, compensate
from .crosstalk import Crosstalk
from .describe import explain
from .measurements import NoiseFit, fit_noise
from .noise import NoiseModel
from .parts import (
    Converters,
    Laser,
    Microring,
    OpticalPath,
    Photodetector,
    WavelengthGrid,
    WeightBank,
)
from .profiles import HardwareProfile, Presets, presets

__all__ = [
    "Compensation",
    "Converters",
    "Crosstalk",
    "HardwareProfile",
    "Laser",
    "Microring",
    "NoiseFit",
    "NoiseModel",
    "OpticalPath",
    "Photodetector",
    "Presets",
    "WavelengthGrid",
    "WeightBank",
    "compensate",
    "crosstalk",
    "drift",
    "explain",
    "fit_noise",
    "presets",
]
