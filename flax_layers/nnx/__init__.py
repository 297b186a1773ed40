"""The layers for Flax NNX."""

from __future__ import annotations

from ._layer import FullScale
from .attention import OpticalMultiHeadDotProductAttention
from .complex import ComplexOpticalDense
from .conv import OpticalConv
from .dense import OpticalDense
from .embed import OpticalEmbed
from .general import OpticalDenseGeneral, OpticalEinsum

__all__ = [
    "ComplexOpticalDense",
    "FullScale",
    "OpticalConv",
    "OpticalDense",
    "OpticalDenseGeneral",
    "OpticalEinsum",
    "OpticalEmbed",
    "OpticalMultiHeadDotProductAttention",
]
