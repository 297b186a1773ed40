"""What the planner decides, and how it reads."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .._arguments import file_path
from ._objectives import Objective
from ._ring import Grid, Ring

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One input channel of a layer on its wavelength."""

    input: int
    """Index of the channel in the input of the layer."""
    slot: int
    """Slot of the grid."""
    frequency_hz: float
    """Frequency of the slot, Hz."""
    wavelength_m: float
    """Vacuum wavelength of the slot, m."""
    power_w: float
    """Mean optical power at the detector, W; 0 is a channel that is never lit."""
    crosstalk_db: float | None
    """Crosstalk power over signal power, `Σ_j (p_j/p_i)·X`, optical dB; None without light."""
    enob: float | None
    """Effective bits with crosstalk and receiver noise (full-scale sine); None without light."""
    margin_bits: float | None
    """`enob` less the target; None without light or target."""
    tolerance_k: float | None
    """Change of temperature that costs ½ LSB at these effective bits, at one bit where it has
    fewer, K; None without light."""


@dataclass(frozen=True, kw_only=True)
class Bus:
    """The streams that share one waveguide."""

    layer: str
    """Name of the layer."""
    cost: float
    """J of the objective, over the streams with light; 0 where there is none."""
    streams: tuple[Stream, ...]
    """By input."""

    @property
    def order(self) -> tuple[int, ...]:
        """Slot of each stream."""
        return tuple(stream.slot for stream in self.streams)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Wavelengths for all inputs of all optical layers."""

    objective: Objective
    """What was minimized."""
    ring: Ring
    """The filter of every channel."""
    grid: Grid
    """The slots of every bus."""
    enob_target: float | None
    """Bits that every stream should have; None for no target."""
    buses: tuple[Bus, ...]
    """Layer by layer, and bus by bus of each layer."""

    @property
    def worst(self) -> Stream | None:
        """The stream of fewest effective bits, None where there is no light at all."""
        lit = [stream for bus in self.buses for stream in bus.streams if stream.enob is not None]
        return min(lit, key=lambda stream: stream.enob or 0.0, default=None)

    @property
    def thermal_tolerance_k(self) -> float | None:
        """Change of temperature that costs no stream more than ½ LSB, K.

        Of the target, where there is one; of its own effective bits otherwise.
        """
        if self.enob_target is not None:
            return self.ring.tolerance_k(self.enob_target)
        streams = (stream for bus in self.buses for stream in bus.streams)
        return min((s.tolerance_k for s in streams if s.tolerance_k is not None), default=None)

    def report(self) -> str:
        """Wavelength, power, crosstalk, ENOB and margin of every stream, as a text to print."""
        ring, grid = self.ring, self.grid
        lines = [
            f"WDM plan, objective {self.objective!r}: {grid.slots} slots of "
            f"{grid.spacing_hz / 1e9:g} GHz from {grid.frequencies_hz[0] / 1e12:.4f} THz",
            f"rings: Q {ring.q:g}, FWHM {1e12 * ring.fwhm_m:.4g} pm, finesse {ring.finesse:.4g}; "
            f"slots are {grid.spacing_hz / ring.fwhm_hz:.3g} linewidths apart",
        ]
        for index, bus in enumerate(self.buses):
            lines += ["", f"bus {index}, {bus.layer}: J = {bus.cost:.4g}"]
            lines.append(
                f"{'input':>7}{'slot':>6}{'THz':>11}{'nm':>11}{'power':>11}{'crosstalk':>12}"
                f"{'ENOB':>8}{'margin':>9}{'±½ LSB':>10}"
            )
            lines += [_line(stream) for stream in sorted(bus.streams, key=lambda s: s.slot)]
        lines.append("")
        worst, tolerance = self.worst, self.thermal_tolerance_k
        if worst is not None:
            lines.append(f"worst stream: input {worst.input}, {worst.enob:.2f} bits")
        if tolerance is not None:
            target = self.enob_target
            of = "the bits of every stream" if target is None else f"the target, {target:g} bits"
            lines.append(f"thermal tolerance: {_temperature(tolerance)} for ½ LSB of {of}")
        lines.append("ENOB = (SINAD - 1.76) / 6.02, of a full-scale sine; crosstalk in optical dB")
        return "\n".join(lines)

    def to_json(self) -> str:
        """Everything in the plan as JSON."""
        data = asdict(self) | {"thermal_tolerance_k": self.thermal_tolerance_k}
        return json.dumps(data, indent=2, allow_nan=False)

    def plot(self, path: str | os.PathLike[str] | None = None, *, bus: int = 0) -> Figure:
        """The spectrum of a bus with its powers, and the heat map of its crosstalk.

        Args:
            path: where to save the figure; the ending says the format. None saves nothing.
            bus: index of the bus.

        Raises:
            ImportError: matplotlib is missing.
            IndexError: there is no such bus.
        """
        from ._plot import draw

        if not 0 <= bus < len(self.buses):
            raise IndexError(f"Plan.plot: `bus` is {bus}, expected 0 to {len(self.buses) - 1}")
        figure = draw(self, self.buses[bus])
        if path is not None:
            figure.savefig(file_path("Plan.plot", "path", path), dpi=150)
        return figure


def _line(stream: Stream) -> str:
    tolerance = None if stream.tolerance_k is None else _temperature(stream.tolerance_k)
    power = "dark" if not stream.power_w else _watts(stream.power_w)
    return (
        f"{stream.input:>7}{stream.slot:>6}{stream.frequency_hz / 1e12:>11.4f}"
        f"{1e9 * stream.wavelength_m:>11.3f}{power:>11}"
        f"{_decibel(stream.crosstalk_db):>12}{_number(stream.enob, '.2f'):>8}"
        f"{_number(stream.margin_bits, '+.2f'):>9}{tolerance or '-':>10}"
    )


def _decibel(value: Any) -> str:
    return "-" if value is None else f"{value:.1f} dB"


def _number(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def _watts(value: float) -> str:
    for factor, unit in ((1e3, "mW"), (1e6, "µW"), (1e9, "nW")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{1e12 * value:.3g} pW"


def _temperature(kelvin: float) -> str:
    return f"{kelvin:.3g} K" if kelvin >= 1 else f"{1e3 * kelvin:.3g} mK"
