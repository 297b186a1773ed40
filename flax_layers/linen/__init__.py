"""The layers for Flax Linen."""

from __future__ import annotations

from .dense import OpticalDense

__all__ = ["OpticalDense"]
