"""The layers for Flax Linen."""

from __future__ import annotations

from .conv import OpticalConv
from .dense import OpticalDense
from .general import OpticalDenseGeneral, OpticalEinsum

__all__ = ["OpticalConv", "OpticalDense", "OpticalDenseGeneral", "OpticalEinsum"]
from .complex import ComplexOpticalDense

__all__ = ["ComplexOpticalDense", "OpticalDense", "OpticalDenseGeneral", "OpticalEinsum"]
from .attention import OpticalMultiHeadDotProductAttention

__all__ = [
    "OpticalDense",
    "OpticalDenseGeneral",
    "OpticalEinsum",
    "OpticalMultiHeadDotProductAttention",
]
