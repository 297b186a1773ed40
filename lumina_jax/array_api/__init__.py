"""The Array API standard on a simulated photonic processor, and our ops on arrays of any library.

`namespace(device, key=...)` is a namespace of the standard whose matrix products run on the device:
code that is written against the standard needs no change. The ops of `lumina_jax` under their names
take arrays of NumPy, PyTorch, JAX, Dask and others. docs/array_api.md explains both.
"""

from __future__ import annotations

import importlib
from typing import Any

from ._array import OpticalArray
from ._namespace import Namespace, namespace
from ._ops import (
    causal_softmax,
    complex_matmul,
    complex_optical_matmul,
    optical_attention,
    optical_conv,
    optical_matmul,
    optical_noise,
    quantize,
)

__all__ = [
    "Namespace",
    "OpticalArray",
    "causal_softmax",
    "complex_matmul",
    "complex_optical_matmul",
    "namespace",
    "optical_attention",
    "optical_conv",
    "optical_matmul",
    "optical_noise",
    "quantize",
]


def __getattr__(name: str) -> Any:
    # Importing it imports PyTorch.
    if name == "torch":
        return importlib.import_module(".torch", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
