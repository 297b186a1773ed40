"""Compares two reports by ours / peer within each run, whatever the speed of their machines."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import _summary
from ._peers import OURS
from ._table import console

TOLERANCE = 1.15


class Change(NamedTuple):
    """Ours / peer in both runs."""

    where: str
    old: float
    new: float

    @property
    def factor(self) -> float:
        """Above 1 where ours has become slower than it was, next to the peer."""
        return self.new / self.old


def main(arguments: Sequence[str]) -> int:
    """0 where nothing regressed, 1 where something did, 2 where there is nothing to compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, help="factor that is no regression yet"
    )
    given = parser.parse_args(arguments)
    try:
        old, new = _read(given.old), _read(given.new)
    except (OSError, ValueError) as error:
        print(f"benchmarks compare: {error}", file=sys.stderr)
        return 2
    compared = changes(old, new)
    if not compared:
        print("benchmarks compare: the files have no row and peer in common", file=sys.stderr)
        return 2
    return _show(compared, sorted(_ratios(old).keys() - _ratios(new).keys()), given.tolerance)


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Of every row and peer that both reports have, the worst first."""
    before, after = _ratios(old), _ratios(new)
    common = [Change(where, before[where], after[where]) for where in before if where in after]
    return sorted(common, key=lambda change: change.factor, reverse=True)


def _show(compared: Sequence[Change], missing: Sequence[str], tolerance: float) -> int:
    to = console()
    regressed = [change for change in compared if change.factor > tolerance]
    for change in regressed:
        to.print(
            f"slower by {change.factor:.2f}: {change.where}: "
            f"ours/peer {change.old:.3f} → {change.new:.3f}",
            markup=False,
        )
    for where in missing:
        to.print(f"no longer measured: {where}", markup=False)
    mean = _summary.geometric_mean([change.factor for change in compared])
    to.print(
        f"{len(compared)} compared, {len(regressed)} slower by more than {tolerance:g}; "
        f"geometric mean of new/old {mean:.3f}"
    )
    return 1 if regressed else 0


def _ratios(report: dict[str, Any]) -> dict[str, float]:
    return {
        f"{row['suite']}, {row['workload']}, {row['shape']}, threads {row['threads']}, {peer}": 1
        / value
        for row in report["rows"]
        for peer in row["results"]
        if peer != OURS and (value := _summary.ratio(row, peer))
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(report, dict) or report.get("schema") != 1:
        raise ValueError(f"{path} is not a report of schema 1")
    return report
