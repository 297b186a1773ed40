"""The device: its profile, noise, crosstalk and drift, as presets, as fits, and in words."""

from __future__ import annotations

from . import crosstalk, drift
from .compensation import Compensation, compensate
from .crosstalk import Crosstalk
from .describe import explain
from .measurements import NoiseFit, fit_noise
from .noise import NoiseModel
from .profiles import HardwareProfile

__all__ = [
    "Compensation",
    "Crosstalk",
    "HardwareProfile",
    "NoiseFit",
    "NoiseModel",
    "compensate",
    "crosstalk",
    "drift",
    "explain",
    "fit_noise",
]
