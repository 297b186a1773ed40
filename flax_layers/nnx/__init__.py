"""The layers for Flax NNX."""

from __future__ import annotations

from ._layer import FullScale
from .conv import OpticalConv
from .dense import OpticalDense
from .general import OpticalDenseGeneral, OpticalEinsum

__all__ = ["FullScale", "OpticalConv", "OpticalDense", "OpticalDenseGeneral", "OpticalEinsum"]
from .complex import ComplexOpticalDense

__all__ = [
    "ComplexOpticalDense",
from .attention import OpticalMultiHeadDotProductAttention
from .dense import OpticalDense
from .general import OpticalDenseGeneral, OpticalEinsum

__all__ = [
    "FullScale",
    "OpticalDense",
    "OpticalDenseGeneral",
    "OpticalEinsum",
    "OpticalMultiHeadDotProductAttention",
]
