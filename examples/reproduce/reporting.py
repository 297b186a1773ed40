"""What the scripts of this folder share: arguments, tables beside a source, style of figures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito, told apart by people of any color vision, and by the marker in print.
COLORS = ("#999999", "#56B4E9", "#E69F00", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("v", "s", "D", "o", "^", "P")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options of every script."""
    options = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    options.add_argument("--out", type=Path, default=Path("build/reproduce"), help="output folder")
    options.add_argument("--json", type=Path, help="file for all figures")
    options.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    return options


@dataclass(frozen=True)
class Figures:
    """One quantity, ours beside that of the source."""

    name: str
    ours: float
    source: float
    unit: str = ""
    tolerance: float | None = None
    """Largest difference that is agreement, in the unit; None makes no claim."""

    @property
    def difference(self) -> float:
        """Ours less the source's."""
        return self.ours - self.source

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.tolerance is None or abs(self.difference) <= self.tolerance


def table(rows: Sequence[Figures]) -> str:
    """The figures, a line each."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'':{width}}  {'ours':>11} {'source':>11} {'difference':>11}"]
    for row in rows:
        mark = "" if row.agrees else f"  beyond {row.tolerance:g}"
        lines.append(
            f"{row.name:{width}}  {row.ours:>11.5g} {row.source:>11.5g} "
            f"{row.difference:>+11.2g} {row.unit}{mark}".rstrip()
        )
    return "\n".join(lines)


def finish(options: argparse.Namespace, name: str, figure: Figure, rows: Sequence[Figures]) -> int:
    """Prints the table, writes figure and JSON; the exit status is 1 where a claim fails."""
    print(table(rows))
    report = {
        row.name: {
            "ours": row.ours,
            "source": row.source,
            "difference": row.difference,
            "unit": row.unit,
            "agrees": row.agrees,
        }
        for row in rows
    }
    save(options, name, figure, report)
    return 0 if all(row.agrees for row in rows) else 1


def save(options: argparse.Namespace, name: str, figure: Figure, report: Any) -> None:
    """Writes `name`.png, and the report as JSON where that is asked for."""
    options.out.mkdir(parents=True, exist_ok=True)
    picture = options.out / f"{name}.png"
    figure.savefig(picture, dpi=150)
    print(picture)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        print(options.json)


def panels(columns: int) -> tuple[Figure, list[Axes]]:
    """A figure of that many panels side by side."""
    figure = Figure(figsize=(7.0 if columns == 1 else 5.4 * columns, 4.6), layout="constrained")
    axes = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    for one in axes:
        one.grid(alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes
