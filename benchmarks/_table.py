"""The report as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import _summary
from ._peers import OURS
from ._summary import Row

_WIDTH = 160
"""Columns where the output is no terminal."""


def console(**options: Any) -> Console:
    """Where the tables go: a file gets them whole."""
    plain = Console(**options)
    return plain if plain.is_terminal else Console(width=_WIDTH, **options)


def show(report: dict[str, Any], to: Console) -> None:
    """Machine, limits, a table for each workload and thread count, and their summary."""
    _machine(report, to)
    everywhere = _everywhere(report["rows"])
    for name, note in everywhere:
        to.print(f"{name}: {note}", style="dim", markup=False, highlight=False)
    to.print()
    groups = _summary.tables(report["rows"])
    for (suite, workload, threads), rows in groups:
        title = f"{suite}: {workload}, {_threads(threads)}"
        if any(row["results"] for row in rows):
            to.print(_table(title, rows))
        else:
            to.print(title, style="bold")
        _notes(rows, to, everywhere)
    to.print(_means(groups))


def _machine(report: dict[str, Any], to: Console) -> None:
    machine = report["machine"]
    to.print(f"{machine['cpu']} ({machine['family_model_stepping']}), {machine['cpus']} CPUs")
    to.print(", ".join(f"{name} {version}" for name, version in machine["versions"].items()))
    for limits in report["limits"]:
        parts = [
            f"{name.removeprefix('peak ')} {value / 1e9:.0f} GOP/s"
            for name, value in limits.items()
            if name.startswith("peak") and value
        ]
        reads = [name for name in limits if name.startswith("read ")]
        parts += [
            f"read {int(name.split()[1]) * limits['threads'] / 2**20:g} MiB "
            f"{limits[name] / 1e9:.0f} GB/s"
            for name in sorted(reads, key=lambda name: int(name.split()[1]))
        ]
        if limits.get("normal"):
            parts.append(f"normal {limits['normal'] * 1e9:.2f} ns")
        to.print(f"limits with {_threads(limits['threads'])}: " + (", ".join(parts) or "none"))
        for name, note in limits["notes"].items():
            to.print(f"  {name}: {note}", style="dim", markup=False, highlight=False)


def _table(title: str, rows: Sequence[Row]) -> Table:
    seconds = rows[0]["unit"] == "s"
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("shape")
    unit = "µs" if seconds else "MiB"
    table.add_column(f"{OURS}\n{unit}", justify="right", style="bold")
    table.add_column("min\n", justify="right")
    rated = any(_summary.rate(row, OURS) for row in rows)
    per_normal = not rated and any(row["normals"] for row in rows)
    if rated:
        table.add_column("\nGFLOP/s", justify="right")
        table.add_column("of\nlimit", justify="right")
    if per_normal:
        table.add_column("normals\nper ns", justify="right")
    shown = [name for name in _summary.peers(rows) if name != OURS]
    shown = [name for name in shown if any(name in row["results"] for row in rows)]
    for name in shown:
        table.add_column(f"{name}\n{unit}  ratio", justify="right")
    for row in rows:
        cells = [row["shape"]]
        ours = row["results"].get(OURS)
        cells += (
            [_amount(ours["median"], seconds), _amount(ours["min"], seconds)] if ours else ["–"] * 2
        )
        if rated:
            cells.append(_number(_summary.rate(row, OURS), 1e-9))
            cells.append(_percent(_summary.fraction_of_limit(row, OURS)))
        if per_normal:
            cells.append(f"{row['normals'] / ours['median'] * 1e-9:.2f}" if ours else "–")
        table.add_row(*cells, *(_peer_cell(row, name, seconds) for name in shown))
    means = [_summary.geometric_mean(_ratios(rows, name)) for name in shown]
    fractions = _summary.known(_summary.fraction_of_limit(row, OURS) for row in rows)
    filler = ["", ""]
    if rated:
        filler += ["", f"≥ {_percent(min(fractions))}" if fractions else ""]
    if per_normal:
        filler.append("")
    table.add_section()
    table.add_row(
        "mean", *filler, *(f"×{mean:.2f}" if mean else "" for mean in means), style="italic"
    )
    return table


def _peer_cell(row: Row, name: str, seconds: bool) -> Text:
    value, ratio = _summary.median(row, name), _summary.ratio(row, name)
    if value is None:
        return Text("–", style="dim")
    cell = Text(_amount(value, seconds))
    if ratio is not None:
        cell.append(f" {'×' + format(ratio, '.2f'):>7}", "green" if ratio >= 1 else "red")
    return cell


def _everywhere(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Peers that took no part in any row, for one reason, and that reason."""
    reasons: dict[str, set[str | None]] = {}
    for row in rows:
        for name in (*row["results"], *row["notes"]):
            reasons.setdefault(name, set()).add(row["notes"].get(name))
    return [
        (name, note) for name, notes in reasons.items() if len(notes) == 1 for note in notes if note
    ]


def _notes(rows: Sequence[Row], to: Console, known: Sequence[tuple[str, str]]) -> None:
    """Each other reason once, with the shapes it holds for unless these are all."""
    shapes: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name, note in row["notes"].items():
            shapes.setdefault((name, note), []).append(row["shape"])
    for (name, note), where in shapes.items():
        if (name, note) in known:
            continue
        place = "" if len(where) == len(rows) else f" at {', '.join(where)}"
        to.print(f"  {name}{place}: {note}", style="dim", markup=False, highlight=False)
    to.print()


def _means(groups: Sequence[tuple[tuple[str, str, int], list[Row]]]) -> Table:
    table = Table(
        title="geometric mean over the shapes of peer / ours",
        title_justify="left",
        title_style="bold",
        pad_edge=False,
    )
    names = [
        name for name in _summary.peers([r for _, rows in groups for r in rows]) if name != OURS
    ]
    table.add_column("suite")
    table.add_column("workload")
    for heading in ("threads", *names, "least of limit"):
        table.add_column(heading, justify="right")
    for (suite, workload, threads), rows in groups:
        means = (_summary.geometric_mean(_ratios(rows, name)) for name in names)
        fractions = _summary.known(_summary.fraction_of_limit(row, OURS) for row in rows)
        table.add_row(
            suite,
            workload,
            str(threads),
            *(f"×{mean:.2f}" if mean else "–" for mean in means),
            _percent(min(fractions)) if fractions else "–",
        )
    return table


def _ratios(rows: Sequence[Row], name: str) -> list[float]:
    return _summary.known(_summary.ratio(row, name) for row in rows)


def _amount(value: float, seconds: bool) -> str:
    scaled = value * 1e6 if seconds else value / 2**20
    return f"{scaled:,.1f}" if scaled < 100 else f"{scaled:,.0f}"


def _number(value: float | None, scale: float) -> str:
    if value is None:
        return "–"
    return f"{value * scale:,.0f}" if value * scale >= 10 else f"{value * scale:.2f}"


def _percent(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.0f} %" if value >= 0.1 else f"{100 * value:.1f} %"


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"
