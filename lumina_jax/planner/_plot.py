"""The figure of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ._plan import Bus, Plan

# Labels of more slots than this would run into each other.
_LABELS = 24


def draw(plan: Plan, bus: Bus, title: str | None, labels: Mapping[int, str]) -> Figure:
    """Spectrum with powers above, crosstalk heat map below; all by slot."""
    figure = _figure.new("Plan.plot", 8.0, 9.5)
    spectrum, heat = figure.subplots(2, 1, height_ratios=(1.0, 1.6))
    _spectrum(spectrum, plan, bus, title, labels)
    _heat(figure, heat, plan, bus, labels)
    return figure


def _spectrum(
    axes: Axes, plan: Plan, bus: Bus, title: str | None, labels: Mapping[int, str]
) -> None:
    ring, grid = plan.ring, plan.grid
    lit = [stream for stream in bus.streams if stream.power_w]
    dbm = {s.slot: 10 * np.log10(s.power_w / 1e-3) for s in lit}
    floor = min(dbm.values(), default=-30.0) - 15
    top = max(dbm.values(), default=-10.0) + 3
    frequencies = grid.frequencies_hz / 1e12
    pad = 0.7 * grid.spacing_hz / 1e12
    dense = np.linspace(frequencies[0] - pad, frequencies[-1] + pad, 4000)
    lines = ring.transmission((dense[:, None] - frequencies[None, :]) * 1e12 / ring.fwhm_hz)
    bits = [s.enob for s in lit if s.enob is not None]
    low, high = (min(bits), max(bits)) if bits else (0.0, 1.0)
    color = _colors(low, high)
    for stream in lit:
        peak = dbm[stream.slot]
        curve = peak + 10 * np.log10(lines[:, stream.slot])
        axes.fill_between(
            dense,
            floor,
            np.maximum(curve, floor),
            color=color(stream.enob),
            alpha=0.18,
            linewidth=0,
        )
        axes.vlines(stream.frequency_hz / 1e12, floor, peak, color=color(stream.enob), linewidth=2)
        axes.plot(stream.frequency_hz / 1e12, peak, "o", color=color(stream.enob), markersize=4.5)
        if len(lit) <= _LABELS:
            axes.annotate(
                labels.get(stream.input, str(stream.input)),
                (stream.frequency_hz / 1e12, peak),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    axes.set_xlim(dense[0], dense[-1])
    axes.set_ylim(floor, top)
    axes.set_xlabel("frequency (THz)")
    axes.set_ylabel("power at the detector (dBm)")
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.grid(axis="y", alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    nanometers = axes.secondary_xaxis("top", functions=(_exchange, _exchange))
    nanometers.set_xlabel("wavelength (nm)")
    nanometers.ticklabel_format(useOffset=False)
    worst = f", ENOB {low:.2f} to {high:.2f}" if bits else ", dark"
    named = f"{bus.layer}: inputs on their slots{worst}" if title is None else title
    axes.set_title(named, fontsize=11)
    axes.figure.colorbar(_mappable(low, high), ax=axes, label="ENOB (bits)", pad=0.015)


def _exchange(value: Any) -> Any:
    """Wavelength in nm of a frequency in THz, and the other way round."""
    # Matplotlib tries 0 as well.
    with np.errstate(divide="ignore"):
        return 299792.458 / np.asarray(value)


def _heat(figure: Any, axes: Axes, plan: Plan, bus: Bus, labels: Mapping[int, str]) -> None:
    streams = sorted((s for s in bus.streams if s.power_w), key=lambda s: s.slot)
    powers = np.array([stream.power_w for stream in streams])
    slots = np.array([stream.slot for stream in streams], np.intp)
    axes.set_title("crosstalk: power that leaks over the power received", fontsize=11)
    axes.set_xlabel("input that leaks, by slot")
    axes.set_ylabel("input that receives, by slot")
    if not len(streams):
        return
    coupling = plan.ring.coupling(plan.grid.frequencies_hz)[np.ix_(slots, slots)]
    leaked = 10 * np.log10(np.maximum(coupling, 1e-30) * powers[None, :] / powers[:, None])
    np.fill_diagonal(leaked, np.nan)
    image = axes.imshow(leaked, cmap="magma", interpolation="nearest", aspect="auto")
    figure.colorbar(image, ax=axes, label="crosstalk (optical dB)", pad=0.015)
    axes.set_facecolor("0.85")
    if len(streams) <= _LABELS:
        names = [labels.get(stream.input, str(stream.input)) for stream in streams]
        axes.set_xticks(range(len(streams)), names, fontsize=8)
        axes.set_yticks(range(len(streams)), names, fontsize=8)


def _mappable(low: float, high: float) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(low, max(high, low + 0.1)), "viridis_r")


def _colors(low: float, high: float) -> Any:
    mappable = _mappable(low, high)
    return lambda bits: mappable.to_rgba(low if bits is None else bits)
