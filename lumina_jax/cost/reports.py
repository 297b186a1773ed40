"""Reports of cost: figures, and the assumptions they rest on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from .. import _html
from .workload import MatmulLayer


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """One number that a report rests on."""

    name: str
    """What it is."""
    value: float | str
    """Its value."""
    unit: str
    """Of the value; empty where there is none."""
    source: str
    """Where it comes from: profile, assumption, or model."""


@dataclass(frozen=True, kw_only=True)
class LayerEnergy:
    """One matmul on the processor."""

    layer: MatmulLayer
    """What it computes."""
    tiles: int
    """Settings of a weight bank that one call takes."""
    dac_conversions: int
    """Of inputs, over all calls."""
    weight_conversions: int
    """Of weights, over all calls."""
    adc_conversions: int
    """Of outputs and partial sums, over all calls."""
    latency_s: float
    """Of all calls, s."""
    energy_j: Mapping[str, float]
    """By part, J."""

    @property
    def total_j(self) -> float:
        """Energy of all parts, J."""
        return sum(self.energy_j.values())


@dataclass(frozen=True, kw_only=True, repr=False)
class EnergyReport:
    """An estimate and all that it assumes; `str` is a table."""

    profile: str
    """Name of the profile."""
    channels: int
    """Inputs of a bank, a wavelength each."""
    columns: int
    """Outputs of a bank."""
    banks: int
    """Weight banks."""
    converters: Mapping[str, int]
    """Converters that are built, by kind."""
    layers: tuple[LayerEnergy, ...]
    """The matmuls."""
    macs: int
    """Multiply-accumulates."""
    energy_j: Mapping[str, float]
    """By part, J."""
    total_j: float
    """Energy, J."""
    energy_per_mac_j: float
    """J per multiply-accumulate."""
    latency_s: float
    """From the first symbol to the last, s, one layer after another."""
    power_w: float
    """Mean power, W."""
    area_m2: float
    """Rings and converters, m²."""
    assumptions: tuple[Assumption, ...]
    """Everything the figures rest on."""

    def to_json(self) -> str:
        """The report as JSON, SI units, the keys being the names of the fields."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    @property
    def simulated(self) -> str:
        """Whether the ops and layers simulate the same array, in a sentence."""
        cut = [
            i
            for i, cost in enumerate(self.layers)
            if cost.layer.k > self.channels and cost.layer.array_rows != self.channels
        ]
        if not cut:
            return "the array is the one that layers simulate: each part of an output is read once"
        most = max(math.ceil(self.layers[i].layer.k / self.channels) for i in cut)
        return (
            f"not the array that layers simulate: layers {', '.join(map(str, cut))} have more than "
            f"{self.channels} inputs and are read in up to {most} parts here, each with its noise "
            f"and its ADC, but in others there; give them OpticalSpec(array_rows={self.channels})"
        )

    def __repr__(self) -> str:
        return (
            f"EnergyReport of {len(self.layers)} layers on {self.profile}: "
            f"{_si(self.total_j, 'J')}, {_si(self.latency_s, 's')}"
        )

    def _repr_html_(self) -> str:
        summary = str(self).partition("\n\n")[0]
        head = ("layer", "rows x k x n", "calls", "tiles", "latency", "energy", "J/MAC")
        rows = [
            (
                str(i),
                f"{cost.layer.rows} x {cost.layer.k} x {cost.layer.n}",
                str(cost.layer.calls),
                str(cost.tiles),
                _si(cost.latency_s, "s"),
                _si(cost.total_j, "J"),
                _si(cost.total_j / cost.layer.macs, "J"),
            )
            for i, cost in enumerate(self.layers)
        ]
        parts = [
            (part, _si(energy, "J"), f"{100 * energy / self.total_j:.1f} %")
            for part, energy in self.energy_j.items()
        ]
        assumed = [
            (a.name, a.value if isinstance(a.value, str) else f"{a.value:g}", a.unit, a.source)
            for a in self.assumptions
        ]
        return (
            _html.table(summary, head, rows)
            + _html.table("energy by part", ("part", "energy", "share"), parts)
            + _html.table("assumptions", ("name", "value", "unit", "source"), assumed)
        )

    def __str__(self) -> str:
        built = ", ".join(f"{number} {kind}" for kind, number in self.converters.items())
        lines = [
            self.simulated,
            f"{self.profile}: {self.banks} bank(s) of {self.channels} x {self.columns}; {built}",
            f"{_si(self.total_j, 'J')} for {self.macs} MACs, "
            f"{_si(self.energy_per_mac_j, 'J')}/MAC; {_si(self.latency_s, 's')}, "
            f"{_si(self.power_w, 'W')}, {1e6 * self.area_m2:.3g} mm²",
            "",
            f"{'layer':<8}{'rows x k x n':<22}{'tiles':>7}"
            f"{'latency':>12}{'energy':>12}{'J/MAC':>12}",
        ]
        for i, cost in enumerate(self.layers):
            layer = cost.layer
            shape = f"{layer.rows} x {layer.k} x {layer.n}"
            shape += f" ({layer.calls} times)" if layer.calls > 1 else ""
            lines.append(
                f"{i:<8}{shape:<22}{cost.tiles:>7}{_si(cost.latency_s, 's'):>12}"
                f"{_si(cost.total_j, 'J'):>12}{_si(cost.total_j / layer.macs, 'J'):>12}"
            )
        lines += ["", f"{'part':<18}{'energy':>12}{'share':>8}"]
        for part, energy in self.energy_j.items():
            lines.append(f"{part:<18}{_si(energy, 'J'):>12}{100 * energy / self.total_j:>7.1f}%")
        lines += ["", "assumptions"]
        for known in self.assumptions:
            value = known.value if isinstance(known.value, str) else f"{known.value:g}"
            lines.append(f"  {known.name}: {value} {known.unit}".rstrip() + f" ({known.source})")
        return "\n".join(lines)


def _si(value: float, unit: str) -> str:
    """Three digits and a prefix: 1.23 pJ."""
    if value == 0:
        return f"0 {unit}"
    exponent = max(-6, min(4, math.floor(math.log10(value) / 3)))
    return f"{value / 1000.0**exponent:.3g} {_PREFIXES[exponent]}{unit}"


_PREFIXES = dict(
    zip(range(-6, 5), ("a", "f", "p", "n", "µ", "m", "", "k", "M", "G", "T"), strict=True)
)
