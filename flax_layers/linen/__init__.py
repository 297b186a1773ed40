"""The layers for Flax Linen."""

from __future__ import annotations

from .attention import OpticalMultiHeadDotProductAttention
from .complex import ComplexOpticalDense
from .conv import OpticalConv
from .dense import OpticalDense
from .embed import OpticalEmbed
from .general import OpticalDenseGeneral, OpticalEinsum

__all__ = [
    "ComplexOpticalDense",
    "OpticalConv",
    "OpticalDense",
    "OpticalDenseGeneral",
    "OpticalEinsum",
    "OpticalEmbed",
    "OpticalMultiHeadDotProductAttention",
]
