"""The layers for Flax Linen."""

from __future__ import annotations

from .dense import OpticalDense
from .general import OpticalDenseGeneral, OpticalEinsum

__all__ = ["OpticalDense", "OpticalDenseGeneral", "OpticalEinsum"]
