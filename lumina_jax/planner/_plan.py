"""What the planner decides, and how it reads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _figure, _html
from .._arguments import integer
from ..hardware.crosstalk import CrosstalkMatrix
from ._objectives import Objective
from ._ring import Grid, Ring

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_DB_PER_BIT = 6.02
_HEAD = ("input", "slot", "THz", "nm", "power", "crosstalk", "ENOB", "margin", "±½ LSB")
_WIDTHS = (7, 6, 11, 11, 11, 12, 8, 9, 10)


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
    limit: str | None
    """What takes most of the effective bits, "crosstalk" or "receiver"; None where nothing does."""
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


@dataclass(frozen=True, kw_only=True, repr=False)
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

    def permutation(self, layer: str | None = None) -> NDArray[np.intp]:
        """The inputs of a layer in the order of their slots, bus by bus: i[K].

        `x[..., permutation]` is what comes in on slots 0, 1, … , and `kernel[permutation]` the
        weights for it; the product is the same.

        Args:
            layer: name of the layer; None where the plan has one alone.

        Raises:
            ValueError: there is no such layer, or more than one and no name.
        """
        order = [
            stream.input
            for bus in self._of_layer("Plan.permutation", layer)
            for stream in sorted(bus.streams, key=lambda stream: stream.slot)
        ]
        return np.array(order, np.intp)

    def crosstalk(self, layer: str | None = None) -> CrosstalkMatrix:
        """The crosstalk among the inputs of a layer on their slots, in the order of the model.

        C_ij = X(π_i, π_j) on one bus and 0 between buses. It is what a profile takes, and with it
        the layer, `dataclasses.replace(profile, crosstalk=plan.crosstalk(name))`, its export, and
        `compensate`.

        Args:
            layer: name of the layer; None where the plan has one alone.

        Raises:
            ValueError: there is no such layer, or more than one and no name.
        """
        buses = self._of_layer("Plan.crosstalk", layer)
        coupling = self.ring.coupling(self.grid.frequencies_hz)
        blocks = [coupling[np.ix_(bus.order, bus.order)] for bus in buses]
        first = blocks[0]
        if all(np.array_equal(block, first[: len(block), : len(block)]) for block in blocks):
            return CrosstalkMatrix(first)
        whole, at = np.zeros((sum(map(len, blocks)),) * 2), 0
        for block in blocks:
            whole[at : at + len(block), at : at + len(block)] = block
            at += len(block)
        return CrosstalkMatrix(whole)

    def _of_layer(self, op: str, layer: str | None) -> list[Bus]:
        names = list(dict.fromkeys(bus.layer for bus in self.buses))
        if layer is None and len(names) == 1:
            layer = names[0]
        if layer not in names:
            known = ", ".join(map(repr, names))
            raise ValueError(f"{op}: `layer` is {layer!r}, expected one of {known}")
        return [bus for bus in self.buses if bus.layer == layer]

    @property
    def fits(self) -> bool | None:
        """Whether every stream with light has the target; None without a target or any light."""
        if self.enob_target is None or self.worst is None:
            return None
        return self.worst.enob is not None and self.worst.enob >= self.enob_target

    def _verdict(self) -> str:
        worst = self.worst
        if worst is None:
            return "no light: no stream of the plan carries any power"
        at = next(i for i, bus in enumerate(self.buses) if any(s is worst for s in bus.streams))
        where = (
            f"worst is input {worst.input} of {self.buses[at].layer} on bus {at}, "
            f"{worst.enob:.2f} bits"
        )
        if self.enob_target is None:
            return f"no target was given; {where}"
        lit = [s for bus in self.buses for s in bus.streams if s.margin_bits is not None]
        decibel = _DB_PER_BIT * (worst.margin_bits or 0.0)
        if self.fits:
            return (
                f"fits: all {len(lit)} streams with light have {self.enob_target:g} bits; {where}, "
                f"a margin of {worst.margin_bits:.2f}, which is {decibel:.1f} dB"
            )
        missed = sum(s.margin_bits is not None and s.margin_bits < 0 for s in lit)
        cure = {
            "crosstalk": "put fewer or wider spaced channels on a bus, or take rings of higher Q",
            "receiver": "bring more light to the detector, or take a quieter receiver",
            None: "lower the target",
        }[worst.limit]
        short = -(worst.margin_bits or 0.0)
        return (
            f"does not fit: {missed} of {len(lit)} streams with light have less than "
            f"{self.enob_target:g} bits; {where}, {short:.2f} too few, which is {-decibel:.1f} dB, "
            f"mostly by {worst.limit or 'the target'}: {cure}"
        )

    def __repr__(self) -> str:
        inputs = sum(len(bus.streams) for bus in self.buses)
        return f"Plan of {inputs} inputs on {len(self.buses)} buses: {self._verdict()}"

    def _repr_html_(self) -> str:
        rows = [
            (bus.layer, str(index), *_cells(stream))
            for index, bus in enumerate(self.buses)
            for stream in sorted(bus.streams, key=lambda s: s.slot)
        ]
        return _html.table(self._verdict(), ("layer", "bus", *_HEAD), rows)

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
        """Whether the plan fits, what limits it, and every stream, as a text to print.

        Of each stream wavelength, power, crosstalk, ENOB and margin. Streams without power carry
        nothing and do not count.
        """
        ring, grid = self.ring, self.grid
        lines = [
            self._verdict(),
            "",
            f"WDM plan, objective {self.objective!r}: {grid.slots} slots of "
            f"{grid.spacing_hz / 1e9:g} GHz from {grid.frequencies_hz[0] / 1e12:.4f} THz",
            f"rings: Q {ring.q:g}, FWHM {1e12 * ring.fwhm_m:.4g} pm, finesse {ring.finesse:.4g}; "
            f"slots are {grid.spacing_hz / ring.fwhm_hz:.3g} linewidths apart",
        ]
        for index, bus in enumerate(self.buses):
            lines += ["", f"bus {index}, {bus.layer}: J = {bus.cost:.4g}"]
            lines.append(_line(_HEAD))
            lines += [_line(_cells(s)) for s in sorted(bus.streams, key=lambda s: s.slot)]
        lines.append("")
        tolerance = self.thermal_tolerance_k
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

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        bus: int = 0,
        title: str | None = None,
        labels: Mapping[int, str] | None = None,
    ) -> Figure:
        """The spectrum of a bus with its powers, and the heat map of its crosstalk.

        Args:
            path: where to save the figure; the ending says the format. None saves nothing.
            bus: index of the bus.
            title: above the spectrum; None names the layer and its effective bits.
            labels: from inputs to what the figure calls them; None: their indices.

        Returns:
            A matplotlib figure, which shows itself in a notebook.

        Raises:
            ImportError: matplotlib is missing.
            IndexError: there is no such bus.
        """
        from ._plot import draw

        bus = integer("Plan.plot", "bus", bus)
        if not 0 <= bus < len(self.buses):
            raise IndexError(f"Plan.plot: `bus` is {bus}, expected 0 to {len(self.buses) - 1}")
        figure = draw(self, self.buses[bus], title, labels or {})
        return _figure.finished("Plan.plot", figure, path)


def _line(cells: Sequence[str]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))


def _cells(stream: Stream) -> tuple[str, ...]:
    return (
        str(stream.input),
        str(stream.slot),
        f"{stream.frequency_hz / 1e12:.4f}",
        f"{1e9 * stream.wavelength_m:.3f}",
        _watts(stream.power_w) if stream.power_w else "dark",
        _decibel(stream.crosstalk_db),
        _number(stream.enob, ".2f"),
        _number(stream.margin_bits, "+.2f"),
        "-" if stream.tolerance_k is None else _temperature(stream.tolerance_k),
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
