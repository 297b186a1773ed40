"""What a suite has to work with in a worker, and the rows that it makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict

from . import _peers, _problem, _timing
from ._machine import Limits
from ._options import Options, Shape, shape_text
from ._peers import OURS, Program
from ._profile import Profile
from ._timing import Result


class Row(TypedDict):
    """One computation of one shape: what everyone took for it, and what it takes at least."""

    suite: str
    workload: str
    shape: str
    threads: int
    unit: str
    """s or bytes."""
    operations: dict[str, float]
    """Number of operations of each type."""
    bytes: float
    """Read and written at least once."""
    normals: float
    limit: float | None
    """Least time by the measured limits of the machine, s; None where there is none."""
    results: dict[str, Result]
    notes: dict[str, str]
    """Of the peers that did not take part, and why."""
    profile: Profile | None
    """Of one call of ours, where it was asked for."""


class Case(NamedTuple):
    """One row to be."""

    workload: str
    shape: Shape
    run: Callable[[Bench], Row]


class Bench:
    """The thread count, the limits of the machine, and whom to compare."""

    def __init__(self, options: Options, threads: int) -> None:
        self.options = options
        self.threads = threads
        self.limits = Limits(threads, quick=options.quick)

    def peers(self, quick: Sequence[str], full: Sequence[str]) -> list[str]:
        """The peers of a row: those asked for, else the choice of the suite."""
        return list(self.options.peers or (quick if self.options.quick else full))

    def time(self, calls: dict[str, _timing.Call]) -> dict[str, Result]:
        """Median and minimum of each, taken in turns."""
        if self.options.quick:
            return _timing.interleave(calls, seconds=0.08, rounds=(5, 40))
        return _timing.interleave(calls, seconds=0.35, rounds=(5, 100))

    def attempt(
        self, peers: Sequence[str], build: Callable[[str], _timing.Call]
    ) -> tuple[dict[str, _timing.Call], dict[str, str]]:
        """The call of each peer, and a note for each that has none."""
        calls: dict[str, _timing.Call] = {}
        notes: dict[str, str] = {}
        for name in peers:
            try:
                calls[name] = build(name)
            except _peers.Unsupported as reason:
                notes[name] = str(reason)
            except Exception as error:
                # Whatever breaks in another library must not end the run.
                notes[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        return calls, notes

    def compare(
        self,
        peers: Sequence[str],
        make: Callable[[str], Program],
        check: Callable[[str, Program, Program], None],
    ) -> tuple[dict[str, _timing.Call], dict[str, str], Program | None]:
        """The noisy call of ours and of each peer that computes the same, notes, and our program.

        Args:
            peers: whom to compare.
            make: the program of ours or of a peer.
            check: raises where the program of that peer differs from ours, the last.
        """
        ours: list[Program] = []

        def build(name: str) -> _timing.Call:
            program = make(name)
            if name == OURS:
                program.bind(0.0)()
                ours.append(program)
            else:
                check(name, program, ours[0])
            return program.bind(_problem.RELATIVE)

        calls, notes = self.attempt([OURS], build)
        if not ours:
            return calls, notes, None
        others, reasons = self.attempt(peers, build)
        return calls | others, notes | reasons, ours[0]

    def row(
        self,
        suite: str,
        workload: str,
        shape: Shape,
        *,
        unit: str = "s",
        operations: dict[str, float] | None = None,
        size: float = 0,
        normals: float = 0,
        results: dict[str, Result],
        notes: dict[str, str],
        profile: Profile | None = None,
    ) -> Row:
        """A row, its limit from the operations, bytes and normals."""
        operations = operations or {}
        limit = None
        if unit == "s" and (operations or size):
            limit = self.limits.seconds(operations, size, normals)
        return {
            "suite": suite,
            "workload": workload,
            "shape": shape_text(shape),
            "threads": self.threads,
            "unit": unit,
            "operations": operations,
            "bytes": size,
            "normals": normals,
            "limit": limit,
            "results": results,
            "notes": notes,
            "profile": profile,
        }


def load(name: str) -> Any:
    """Ours or a peer."""
    return _peers.load(name)
