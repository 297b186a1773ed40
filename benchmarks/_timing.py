"""Time of calls that take turns: A B C, then C B A, and so on."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any, TypedDict

Call = Callable[[], Any]

SAMPLE = 1e-3
"""Least time of a sample, s: shorter calls are repeated, so that the clock does not count."""
REST = 2e-3
"""Rest before each sample, s, and again while threads of the one before spin for more work."""
LONGEST_REST = 50e-3
"""Rest at most, s: a thread that computes for longer does so whoever is timed."""
IDLE = 0.05
"""Share of one CPU below which a process rests."""

LONG = 50e-3
"""Time of a call, s, from which on the state that it finds does not count."""


class Result(TypedDict):
    """Of one call, in the unit of its row."""

    median: float
    min: float
    samples: int


def interleave(calls: dict[str, Call], *, seconds: float, rounds: tuple[int, int]) -> Any:
    """`Result` of each call in s, from turns that last about `seconds` for each of them.

    Every sample follows a rest and, if it is short, one call that is not counted: it finds the
    caches and the threads of its own library awake. The order turns around in every other round.
    """
    repeats = {name: _repeats(call) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        end = time.perf_counter() + seconds * len(calls)
        count = 0
        while count < rounds[0] or (count < rounds[1] and time.perf_counter() < end):
            for name in names if count % 2 else reversed(names):
                rest()
                if not samples[name] or samples[name][-1] < LONG:
                    calls[name]()
                samples[name].append(_sample(calls[name], repeats[name]))
            count += 1
    finally:
        if enabled:
            gc.enable()
    return {name: summary(values) for name, values in samples.items()}


def rest() -> None:
    """Return when no thread of this process computes any more, or `LONGEST_REST` is over."""
    end = time.perf_counter() + LONGEST_REST
    while time.perf_counter() < end:
        wall, computed = time.perf_counter(), time.process_time()
        time.sleep(REST)
        if time.process_time() - computed < IDLE * (time.perf_counter() - wall):
            break


def summary(values: list[float]) -> Result:
    """Median and minimum."""
    return {"median": statistics.median(values), "min": min(values), "samples": len(values)}


def _sample(call: Call, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _repeats(call: Call) -> int:
    call()
    repeats = 1
    while (seconds := _sample(call, repeats) * repeats) < SAMPLE:
        repeats = max(repeats + 1, min(10 * repeats, round(1.2 * SAMPLE * repeats / seconds)))
    return repeats
