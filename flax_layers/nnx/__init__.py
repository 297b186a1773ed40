"""The layers for Flax NNX."""

from __future__ import annotations

from ._layer import FullScale
from .dense import OpticalDense
from .general import OpticalDenseGeneral, OpticalEinsum

__all__ = ["FullScale", "OpticalDense", "OpticalDenseGeneral", "OpticalEinsum"]
