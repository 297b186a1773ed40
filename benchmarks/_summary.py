"""Figures that the table, the plot and the comparison derive from the rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from ._peers import ONE_ARRAY, ONNX_RUNTIME, OURS, PEERS

Row = Any
"""A `_bench.Row`, fresh or from a file."""


def median(row: Row, peer: str) -> float | None:
    """Median of a peer, None where it did not take part."""
    result = row["results"].get(peer)
    return result["median"] if result else None


def ratio(row: Row, peer: str) -> float | None:
    """Time (or bytes) of the peer over ours; None where one is 0, as memory of a small step is."""
    theirs, ours = median(row, peer), median(row, OURS)
    return theirs / ours if theirs and ours else None


def fraction_of_limit(row: Row, peer: str) -> float | None:
    """Least possible time over that of the peer: 1 is as fast as the machine can be."""
    time = median(row, peer)
    return row["limit"] / time if row["limit"] is not None and time else None


def rate(row: Row, peer: str) -> float | None:
    """Operations per second."""
    time, operations = median(row, peer), sum(row["operations"].values())
    return operations / time if time and operations else None


def peers(rows: Iterable[Row]) -> list[str]:
    """Whoever was asked for, ours first."""
    names = {name for row in rows for name in (*row["results"], *row["notes"])}
    return [
        name for name in (OURS, *PEERS, ONNX_RUNTIME, ONE_ARRAY) if name in names or name == OURS
    ]


def geometric_mean(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def known(values: Iterable[float | None]) -> list[float]:
    """Those that are not None."""
    return [value for value in values if value is not None]


def tables(rows: Sequence[Row]) -> list[tuple[tuple[str, str, int], list[Row]]]:
    """Rows that stand in one table, by suite, workload and threads, in the order of the run."""

    def key(row: Row) -> tuple[str, str, int]:
        return row["suite"], row["workload"], row["threads"]

    order = {k: i for i, k in enumerate(dict.fromkeys(map(key, rows)))}
    ordered = sorted(rows, key=lambda row: order[key(row)])
    return [(k, list(group)) for k, group in groupby(ordered, key)]
