"""Roofline plot of a report: operations per second over operations per byte."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import _summary
from ._peers import HEADLINE, OURS
from ._summary import Row

_STYLES = {OURS: ("#c1272d", "o"), HEADLINE[0]: ("#1f6fb4", "s"), HEADLINE[1]: ("#e08a00", "^")}
_COLUMNS = 2
_CLOSE = 1.25
"""Factor between two intensities, or two roofs, below which their labels would overlap."""


def save(report: dict[str, Any], path: Path) -> None:
    """A panel for each workload, at the largest number of threads, as PNG.

    A ValueError where the report has no row with operations.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    threads = max(report["threads"])
    limits = next(entry for entry in report["limits"] if entry["threads"] == threads)
    groups = [
        (f"{suite}: {workload}", rows)
        for (suite, workload, count), rows in _summary.tables(report["rows"])
        if count == threads and any(_summary.rate(row, OURS) for row in rows)
    ]
    if not groups:
        raise ValueError("benchmarks: no row has operations, so there is no roofline to plot")
    columns = min(_COLUMNS, len(groups))
    lines = -(-len(groups) // columns)
    figure, panels = pyplot.subplots(
        lines,
        columns,
        figsize=(6.2 * columns, 4.0 * lines + 1.2),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    letters = _letters([rows for _, rows in groups])
    for panel, (title, rows) in zip(panels.flat, groups, strict=False):
        _panel(panel, title, rows, limits, letters)
        panel.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        panel.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        panel.tick_params(labelbottom=True)
    for panel in list(panels.flat)[len(groups) :]:
        panel.set_visible(False)
    for panel in panels[:, 0]:
        panel.set_ylabel("GFLOP/s")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title=f"{report['machine']['cpu']}, {threads} thread{'s' if threads > 1 else ''}",
        loc="outside upper center",
        ncols=len(labels),
        frameon=False,
    )
    shapes = [f"{letter} = {shape}" for shape, letter in letters.items()]
    keys = ["     ".join(shapes[i : i + 3 * columns]) for i in range(0, len(shapes), 3 * columns)]
    figure.supxlabel("\n".join(keys), fontsize=9)
    figure.savefig(path, dpi=120, format="png")
    pyplot.close(figure)


def _letters(groups: Sequence[Sequence[Row]]) -> dict[str, str]:
    shapes = dict.fromkeys(row["shape"] for rows in groups for row in rows)
    names = [*string.ascii_lowercase, *map(str, range(len(shapes)))]
    return dict(zip(shapes, names, strict=False))


def _panel(
    panel: Any, title: str, rows: Sequence[Row], limits: dict[str, Any], letters: dict[str, str]
) -> None:
    panel.set_title(title, fontsize=10)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("FLOP per byte of operands and results")
    panel.grid(True, which="major", alpha=0.25)
    intensity = {row["shape"]: _operations(row) / row["bytes"] for row in rows}
    _roof(panel, rows, limits, list(intensity.values()))
    reachable = [
        (intensity[row["shape"]], _operations(row) / row["limit"] * 1e-9)
        for row in rows
        if row["limit"]
    ]
    if reachable:
        xs, ys = zip(*reachable, strict=True)
        panel.plot(xs, ys, "_", color="black", markersize=14, label="limit with noise", zorder=2)
    for name, (color, marker) in _STYLES.items():
        points = [
            (intensity[row["shape"]], rate * 1e-9)
            for row in rows
            if (rate := _summary.rate(row, name))
        ]
        if not points:
            continue
        xs, ys = zip(*points, strict=True)
        fill = color if name == OURS else "none"
        panel.plot(
            xs, ys, marker, color=color, markerfacecolor=fill, markersize=6, label=name, zorder=3
        )
    _label(panel, {letters[shape]: x for shape, x in intensity.items()})


def _label(panel: Any, places: dict[str, float]) -> None:
    """Letters along the lower edge; those of close intensities on lines of their own."""
    line, last = 0, 0.0
    for letter, x in sorted(places.items(), key=lambda item: item[1]):
        line = line + 1 if last and x < _CLOSE * last else 0
        last = x
        panel.annotate(
            letter,
            (x, 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3 + 9 * line),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )


def _roof(
    panel: Any, rows: Sequence[Row], limits: dict[str, Any], intensities: Sequence[float]
) -> None:
    """Peak of each type in the rows, and the fastest reading that was measured."""
    kinds = {kind for row in rows for kind in row["operations"]}
    peaks = [(peak, kind) for kind in kinds if (peak := limits.get(f"peak {kind}"))]
    read = max((value for name, value in limits.items() if name.startswith("read ")), default=0.0)
    low, high = min(intensities) / 2, max(intensities) * 5
    place, top = 0, 0.0
    for peak, kind in sorted(peaks, reverse=True) if read else ():
        corner = peak / read
        xs = [low, corner, high] if low < corner < high else [low, high]
        panel.plot(xs, [min(peak, x * read) * 1e-9 for x in xs], color="black", linewidth=1)
        # Names of close roofs stand side by side on the highest.
        place, top = (place + 1, top) if 0 < top < _CLOSE * peak else (0, peak)
        panel.annotate(
            f"{kind} {peak * 1e-9:,.0f}",
            (high, top * 1e-9),
            xytext=(-72 * place, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
    # Room for the letters below the points.
    panel.margins(y=0.15)


def _operations(row: Row) -> float:
    return sum(row["operations"].values())
