"""Rules that express JAX primitives in the ops of a `.lmn` file, one file per family.

A rule takes a `Context` and returns one graph value per result of the equation. It raises
`Unsupported` for what it cannot express, and the walker reports all of these together.
"""

from . import (
    contraction,
    control,
    convolution,
    elementwise,
    fourier,
    fused,
    indexing,
    layout,
    optical,
    ordering,
    random,
    reduction,
    window,
)
from ._registry import can_be_left, primitives, reasons, rule_of

__all__ = [
    "can_be_left",
    "contraction",
    "control",
    "convolution",
    "elementwise",
    "fourier",
    "fused",
    "indexing",
    "layout",
    "optical",
    "ordering",
    "primitives",
    "random",
    "reasons",
    "reduction",
    "rule_of",
    "window",
]
