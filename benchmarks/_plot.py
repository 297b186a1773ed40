"""Roofline plot of a report: operations per second over operations per byte."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import _summary
from ._peers import HEADLINE, OURS
from ._summary import Row

_COLORS = {OURS: "#c1272d", "jax": "#1f6fb4", "torch": "#e08a00"}
_MARKERS = {OURS: "o", "jax": "s", "torch": "^"}


def save(report: dict[str, Any], path: Path) -> None:
    """A panel for each workload, at the largest number of threads, as PNG.

    A ValueError where the report has no row with operations.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    threads = max(report["threads"])
    limits = next(entry for entry in report["limits"] if entry["threads"] == threads)
    groups = [
        (f"{suite}: {workload}", rows)
        for (suite, workload, count), rows in _summary.tables(report["rows"])
        if count == threads and any(_summary.rate(row, OURS) for row in rows)
    ]
    if not groups:
        raise ValueError("benchmarks: no row has operations, so there is no roofline to plot")
    across = min(2, len(groups))
    down = -(-len(groups) // across)
    figure, panels = pyplot.subplots(
        down, across, figsize=(6.4 * across, 4.4 * down + 1.4), squeeze=False, sharey=True
    )
    letters = _letters([rows for _, rows in groups])
    for panel, (title, rows) in zip(panels.flat, groups, strict=False):
        _panel(panel, title, rows, limits, letters)
    for panel in list(panels.flat)[len(groups) :]:
        panel.set_visible(False)
    for panel in panels[:, 0]:
        panel.set_ylabel("GFLOP/s")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False)
    shapes = [f"{letter} {shape}" for shape, letter in letters.items()]
    lines = ["    ".join(shapes[i : i + 6]) for i in range(0, len(shapes), 6)]
    figure.text(0.5, 0.01, "\n".join(lines), ha="center", va="bottom", fontsize=9)
    cpu = report["machine"]["cpu"]
    figure.suptitle(f"{cpu}, {threads} thread{'s' if threads > 1 else ''}", y=1.02)
    figure.tight_layout(rect=(0, 0.03 + 0.02 * len(lines), 1, 0.96))
    figure.savefig(path, dpi=130, bbox_inches="tight")
    pyplot.close(figure)


def _letters(groups: Sequence[Sequence[Row]]) -> dict[str, str]:
    shapes = dict.fromkeys(row["shape"] for rows in groups for row in rows)
    return {shape: chr(ord("a") + i) for i, shape in enumerate(shapes)}


def _panel(
    panel: Any, title: str, rows: Sequence[Row], limits: dict[str, Any], letters: dict[str, str]
) -> None:
    panel.set_title(title, fontsize=10)
    intensity = {row["shape"]: sum(row["operations"].values()) / row["bytes"] for row in rows}
    for name in (OURS, *HEADLINE):
        points = [
            (intensity[row["shape"]], rate * 1e-9)
            for row in rows
            if (rate := _summary.rate(row, name))
        ]
        if points:
            panel.plot(
                *zip(*points, strict=True),
                linestyle="none",
                marker=_MARKERS[name],
                markersize=7 if name == OURS else 5,
                markerfacecolor=_COLORS[name] if name == OURS else "none",
                color=_COLORS[name],
                label=name,
                zorder=3,
            )
    for row in rows:
        if rate := _summary.rate(row, OURS):
            panel.annotate(
                letters[row["shape"]],
                (intensity[row["shape"]], rate * 1e-9),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    _roof(panel, limits, rows, list(intensity.values()))
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("FLOP per byte")
    panel.grid(True, which="major", alpha=0.25)


def _roof(
    panel: Any, limits: dict[str, Any], rows: Sequence[Row], intensities: Sequence[float]
) -> None:
    kinds = {kind for row in rows for kind in row["operations"]}
    reads = [value for name, value in limits.items() if name.startswith("read ")]
    low, high = min(intensities) / 2, max(intensities) * 2
    for kind in sorted(kinds):
        peak = limits.get(f"peak {kind}")
        if not peak or not reads:
            continue
        corner = peak / max(reads)
        xs = [low, corner, high] if low < corner < high else [low, high]
        panel.plot(
            xs,
            [min(peak, x * max(reads)) * 1e-9 for x in xs],
            color="black",
            linewidth=1,
            zorder=1,
        )
        panel.annotate(
            f"peak {kind}",
            (high, peak * 1e-9),
            xytext=(-2, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
