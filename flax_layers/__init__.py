"""Flax layers whose matmul runs on a noisy photonic device.

`from lumina_jax import layers`: `layers.OpticalDense` is the Linen layer, as are all that have no
family before their names, and `layers.nnx.OpticalDense` the same layer for NNX.
For complex networks there are initializers (`complex_glorot`, `complex_he`, `unitary`) and
activations (`mod_relu`, `complex_relu`, `cardioid`, and `detect`, which is what a photodiode sees).
`layers.convert` makes a model of Flax optical, `layers.calibrate` finds its ranges, and
`layers.load_dense` takes the parameters of a network of ordinary layers into one that is written
with optical ones.
"""

from __future__ import annotations

try:
    import flax as flax
except ModuleNotFoundError as fault:
    if fault.name != "flax":
        raise
    raise ImportError(
        "the layers need Flax, which is not installed; run `pip install 'lumina-jax[flax]'`"
    ) from fault

from . import calibration, conversion, folding, linen
from ._load import load_dense
from .activations import cardioid, complex_relu, detect, mod_relu
from .calibration import *  # noqa: F403
from .conversion import *  # noqa: F403
from .folding import *  # noqa: F403
from .initializers import complex_glorot, complex_he, unitary
from .linen import *  # noqa: F403

# `lumina_jax.layers` knows its package by this line.
__distribution__ = "lumina-jax"

__all__ = [
    "cardioid",
    "complex_glorot",
    "complex_he",
    "complex_relu",
    "detect",
    "load_dense",
    "mod_relu",
    "unitary",
]
__all__ += calibration.__all__
__all__ += conversion.__all__
__all__ += folding.__all__
__all__ += linen.__all__
