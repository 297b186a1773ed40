"""Noise-aware training of photonic neural networks: optical ops for JAX, with gradients.

`from lumina_jax import export, layers`: the exporter and the Flax layers, which are loaded then.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import crosstalk, drift, nat, physics, planner
from .compensation import compensate
from .custom_vjp.optical_matmul import optical_matmul, optical_matmul_with_linear
from .custom_vjp.optical_noise import optical_noise
from .custom_vjp.quantize import quantize
from .energy import EnergyAssumptions, energy_report
from .explain import explain
from .kernel import (
    hello_lumina,
    optical_linear_forward,
    optical_linear_fused,
    optical_linear_infer,
    version,
)
from .noise import NoiseModel
from .planner import WDMPlanner
from .profiles import HardwareProfile
from .quantizer import DynamicRangeEstimator, WeightQuantizer, allocate_bits
from .spec import OpticalSpec

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
    "crosstalk",
    "drift",
    "energy_report",
    "explain",
    "hello_lumina",
    "nat",
    "optical_linear_forward",
    "optical_linear_fused",
    "optical_linear_infer",
    "optical_matmul",
    "optical_matmul_with_linear",
    "optical_noise",
    "physics",
    "planner",
    "quantize",
    "version",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in ("export", "layers"):
            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
