"""Flax layers whose matmul runs on a noisy photonic device.

`OpticalDense` is the Linen layer; `flax_layers.nnx.OpticalDense` is the same layer for NNX.
"""

from __future__ import annotations

from .linen import OpticalDense

__all__ = ["OpticalDense"]
