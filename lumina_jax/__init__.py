"""Noise-aware training of photonic neural networks: optical ops for JAX, with gradients.

`from lumina_jax import export, layers`: the exporter and the Flax layers, which are loaded then.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import _moved, cost, hardware, nat, numpy, physics, planner, quantizer
from .cost import EnergyAssumptions, energy_report
from .custom_vjp.optical_matmul import optical_matmul, optical_matmul_with_linear
from .custom_vjp.optical_noise import optical_noise
from .custom_vjp.quantize import quantize
from .hardware import HardwareProfile, NoiseModel, compensate, crosstalk, drift, explain
from .numpy import (
    hello_lumina,
    optical_linear_forward,
    optical_linear_fused,
    optical_linear_infer,
    version,
)
from .planner import WDMPlanner
from .quantizer import DynamicRangeEstimator, WeightQuantizer, allocate_bits
from .spec import OpticalSpec

_moved.install()

__version__ = version()

__all__ = [
    "DynamicRangeEstimator",
    "EnergyAssumptions",
    "HardwareProfile",
    "NoiseModel",
    "OpticalSpec",
    "WDMPlanner",
    "WeightQuantizer",
    "__version__",
    "allocate_bits",
    "compensate",
    "cost",
    "crosstalk",
    "drift",
    "energy_report",
    "explain",
    "hardware",
    "hello_lumina",
    "nat",
    "numpy",
    "optical_linear_forward",
    "optical_linear_fused",
    "optical_linear_infer",
    "optical_matmul",
    "optical_matmul_with_linear",
    "optical_noise",
    "physics",
    "planner",
    "quantize",
    "quantizer",
    "version",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in ("export", "layers"):
            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
