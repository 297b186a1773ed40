"""The report as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import _summary
from ._peers import OURS
from ._summary import Row

_WIDTH = 220
"""Of the output, where it is no terminal."""
_OWN_WIDTH = 56
_PEER_WIDTH = 20


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
            for table in _tables(title, rows, to.width):
                to.print(table)
        else:
            to.print(title, style="bold")
        _profiles(title, rows, to)
        _notes(rows, to, everywhere)
    to.print(_means(groups))
    methods = (row["profile"]["method"] for row in report["rows"] if row.get("profile"))
    for method in dict.fromkeys(methods):
        to.print(f"parts of a step: {method}", style="dim", markup=False, highlight=False)


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
        sizes = sorted(int(name.split()[1]) for name in limits if name.startswith("read "))
        parts += [
            f"read {size / 2**20:.3g} MiB {limits[f'read {size}'] / 1e9:.0f} GB/s"
            for size in dict.fromkeys([*sizes[:1], *sizes[-1:]])
        ]
        if limits.get("normal"):
            parts.append(f"normal {limits['normal'] * 1e9:.2f} ns")
        to.print(f"limits with {_threads(limits['threads'])}: " + (", ".join(parts) or "none"))
        for name, note in limits["notes"].items():
            to.print(f"  {name}: {note}", style="dim", markup=False, highlight=False)


def _tables(title: str, rows: Sequence[Row], width: int) -> Iterator[Table]:
    """The rows beside as many peers as fit into the width, until all have had their turn."""
    present = [name for name in _summary.peers(rows) if any(name in r["results"] for r in rows)]
    peers = [name for name in present if name != OURS]
    fit = max(1, (width - _OWN_WIDTH) // _PEER_WIDTH)
    for start in range(0, max(1, len(peers)), fit):
        yield _table(
            title if not start else f"{title}, continued", rows, peers[start : start + fit]
        )


def _table(title: str, rows: Sequence[Row], peers: Sequence[str]) -> Table:
    unit = "µs" if rows[0]["unit"] == "s" else "MiB"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("shape", no_wrap=True)
    columns = _columns(rows, unit)
    for heading, _, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for name in peers:
        table.add_column(f"{name}\n{unit}   ratio", justify="right", no_wrap=True)
    for row in rows:
        own = (cell(row) for _, cell, _ in columns)
        table.add_row(row["shape"], *own, *(_peer_cell(row, name) for name in peers))
    table.add_section()
    means = (_summary.geometric_mean(_ratios(rows, name)) for name in peers)
    table.add_row(
        "mean",
        *(last for _, _, last in columns),
        *(f"×{mean:.2f}" if mean else "" for mean in means),
        style="italic",
    )
    return table


def _columns(rows: Sequence[Row], unit: str) -> list[tuple[str, Callable[[Row], str], str]]:
    """Of ours: the heading, the cell of a row, and what stands in the last line."""

    def own(figure: str) -> Callable[[Row], str]:
        return lambda row: _amount(row, row["results"].get(OURS, {}).get(figure))

    columns = [(f"{OURS}\n{unit}", own("median"), ""), ("min", own("min"), "")]
    if any(_summary.rate(row, OURS) for row in rows):
        fractions = _summary.known(_summary.fraction_of_limit(row, OURS) for row in rows)
        least = f"≥ {_percent(min(fractions))}" if fractions else ""
        columns += [
            ("GFLOP/s", lambda row: _number(_summary.rate(row, OURS), 1e-9), ""),
            ("of limit", lambda row: _percent(_summary.fraction_of_limit(row, OURS)), least),
        ]
    elif any(row["normals"] for row in rows):
        columns.append(("normals\nper ns", _normals_per_nanosecond, ""))
    return columns


def _normals_per_nanosecond(row: Row) -> str:
    time = _summary.median(row, OURS)
    return f"{row['normals'] / time * 1e-9:.2f}" if time else "–"


def _peer_cell(row: Row, name: str) -> Text:
    value, ratio = _summary.median(row, name), _summary.ratio(row, name)
    if value is None:
        return Text("–", style="dim")
    cell = Text(_amount(row, value))
    if ratio is not None:
        cell.append(f" {'×' + format(ratio, '.2f'):>7}", "green" if ratio >= 1 else "red")
    return cell


def _profiles(title: str, rows: Sequence[Row], to: Console) -> None:
    """Where the time of ours goes, in the rows that say so."""
    profiled = [row for row in rows if row.get("profile")]
    if not profiled:
        return
    table = Table(
        title=f"{title}: parts of a step of ours, µs",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("shape", no_wrap=True)
    for part in (*profiled[0]["profile"]["parts"], "traced step"):
        table.add_column(part.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in profiled:
        parts = row["profile"]["parts"].values()
        whole = sum(parts)
        cells = (f"{_amount(row, part)}\n{_percent(part / whole)}" for part in parts)
        table.add_row(row["shape"], *cells, _amount(row, whole))
    to.print(table)


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
        box=box.SIMPLE_HEAD,
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


def _amount(row: Row, value: float | None) -> str:
    if value is None:
        return "–"
    scaled = value * 1e6 if row["unit"] == "s" else value / 2**20
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
