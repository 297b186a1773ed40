"""Noise-aware training of photonic neural networks: optical ops for JAX, with gradients.

`from lumina_jax import export, layers`: the exporter and the Flax layers. Names are imported when
they are first asked for, so that `lumina_jax.numpy` runs where JAX is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import _moved
from ._native import __version__

if TYPE_CHECKING:
    from . import array_api, cost, hardware, nat, numpy, physics, planner, quantizer
    from .cost import EnergyAssumptions, energy_report
    from .custom_vjp.causal_softmax import causal_softmax
    from .custom_vjp.complex_matmul import complex_matmul
    from .custom_vjp.complex_optical_matmul import complex_optical_matmul
    from .custom_vjp.optical_attention import optical_attention
    from .custom_vjp.optical_conv import optical_conv
    from .custom_vjp.optical_matmul import optical_matmul, optical_matmul_with_linear
    from .custom_vjp.optical_noise import optical_noise
    from .custom_vjp.quantize import quantize
    from .hardware import HardwareProfile, NoiseModel, compensate, crosstalk, drift, explain
    from .layers import ConversionRule, calibrate, convert, fold_batch_norm
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

__all__ = [
    "ConversionRule",
    "DynamicRangeEstimator",
    "EnergyAssumptions",
    "HardwareProfile",
    "NoiseModel",
    "OpticalSpec",
    "WDMPlanner",
    "WeightQuantizer",
    "__version__",
    "allocate_bits",
    "array_api",
    "calibrate",
    "causal_softmax",
    "compensate",
    "complex_matmul",
    "complex_optical_matmul",
    "convert",
    "cost",
    "crosstalk",
    "drift",
    "energy_report",
    "explain",
    "fold_batch_norm",
    "hardware",
    "hello_lumina",
    "nat",
    "numpy",
    "optical_attention",
    "optical_conv",
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

_NAMES = {
    ".cost": ("EnergyAssumptions", "energy_report"),
    ".custom_vjp.causal_softmax": ("causal_softmax",),
    ".custom_vjp.optical_attention": ("optical_attention",),
    ".custom_vjp.optical_conv": ("optical_conv",),
    ".custom_vjp.complex_matmul": ("complex_matmul",),
    ".custom_vjp.complex_optical_matmul": ("complex_optical_matmul",),
    ".custom_vjp.optical_matmul": ("optical_matmul", "optical_matmul_with_linear"),
    ".custom_vjp.optical_noise": ("optical_noise",),
    ".custom_vjp.quantize": ("quantize",),
    ".hardware": (
        "HardwareProfile",
        "NoiseModel",
        "compensate",
        "crosstalk",
        "drift",
        "explain",
    ),
    ".layers": ("ConversionRule", "calibrate", "convert", "fold_batch_norm"),
    ".numpy": (
        "hello_lumina",
        "optical_linear_forward",
        "optical_linear_fused",
        "optical_linear_infer",
        "version",
    ),
    ".planner": ("WDMPlanner",),
    ".quantizer": ("DynamicRangeEstimator", "WeightQuantizer", "allocate_bits"),
    ".spec": ("OpticalSpec",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}
"""Public name → the module that has it, and is imported when it is first asked for."""

_MODULES = frozenset(__all__) - {*_HOMES, "__version__"} | {"export", "layers"}


if not TYPE_CHECKING:  # A type checker knows the names from above, and that there are no others.

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            value = getattr(importlib.import_module(_HOMES[name], __name__), name)
        elif name in _MODULES:
            value = importlib.import_module(f".{name}", __name__)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})


_moved.install()
