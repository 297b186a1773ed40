"""What a model costs on a device: its matmuls, and the energy they take."""

from __future__ import annotations

from .energy import EnergyAssumptions, energy_report
from .reports import Assumption, EnergyReport, LayerEnergy
from .workload import MatmulLayer, layers_of

__all__ = [
    "Assumption",
    "EnergyAssumptions",
    "EnergyReport",
    "LayerEnergy",
    "MatmulLayer",
    "energy_report",
    "layers_of",
]
