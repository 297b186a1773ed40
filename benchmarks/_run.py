"""Runs the workers one after the other, and puts what they measured together."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import _machine, _worker
from ._options import Options
from ._suites import DEFAULT_ALLOCATOR

ROOT = Path(__file__).parent.parent
SCHEMA = 1


class WorkerError(RuntimeError):
    """A worker ended before its work; the text has the end of what it said."""


def run(options: Options, threads: Sequence[int], console: Console) -> dict[str, Any]:
    """The report of a run, as it is written to JSON."""
    rows: list[Any] = []
    limits: list[Any] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        for count in threads:
            task = progress.add_task(_threads_text(count), total=None)
            cases, reached = 0, []
            for message in _messages(options, count):
                if "cases" in message:
                    cases += message["cases"]
                    progress.update(task, total=cases)
                elif "starts" in message:
                    text = f"{_threads_text(count)}: {message['starts']}"
                    progress.update(task, description=text)
                elif "row" in message:
                    rows.append(message["row"])
                    progress.advance(task)
                else:
                    reached.append(message["limits"])
            limits.append(_together(reached))
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": _machine.describe(),
        "quick": options.quick,
        "threads": list(threads),
        "limits": limits,
        "rows": rows,
    }


def _threads_text(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _messages(options: Options, threads: int) -> Iterator[dict[str, Any]]:
    """Those of a worker for each allocator that the suites ask for."""
    for keeps_freed in (True, False):
        suites = tuple(s for s in options.suites if (s in DEFAULT_ALLOCATOR) != keeps_freed)
        if suites:
            yield from _worker_messages(replace(options, suites=suites), threads, keeps_freed)


def _together(limits: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Whatever one of the workers measured; the first says what several did."""
    merged: dict[str, Any] = {"notes": {}}
    for of_worker in reversed(limits):
        notes = merged["notes"] | of_worker["notes"]
        merged = {**merged, **of_worker, "notes": notes}
    return merged


def _worker_messages(options: Options, threads: int, keeps_freed: bool) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        worker = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._worker"],
            cwd=ROOT,
            env=_worker.environment(dict(os.environ), threads, keeps_freed=keeps_freed),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert worker.stdin is not None
            assert worker.stdout is not None
            _send(worker.stdin, {"threads": threads, "options": options.to_json()})
            for line in worker.stdout:
                yield json.loads(line)
            if worker.wait():
                errors.seek(0)
                tail = "".join(errors.readlines()[-20:])
                raise WorkerError(
                    f"benchmarks: the worker with {_threads_text(threads)} ended with status "
                    f"{worker.returncode}:\n{tail}"
                )
        finally:
            worker.kill()
            worker.wait()


def _send(stream: IO[str], job: dict[str, Any]) -> None:
    json.dump(job, stream)
    stream.close()
