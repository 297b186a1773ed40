"""Peak memory that a training step needs on top of its operands, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .. import _timing
from .._bench import Bench, Case, Row
from .._options import Options, Shape
from .._peers import OURS
from .._problem import ADC_ONLY, ALL_BITS, Workload

QUICK = ((8192, 64, 256),)
FULL = ((8192, 64, 256), (256, 1024, 1024), (4096, 128, 128))
PEERS = ("jax", "torch")
_TIMEOUT = 300.0
_RETURN_FREED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Makes glibc return freed arrays at once: kept, they would hide what the next step allocates."""


def cases(options: Options) -> list[Case]:
    """Steps with all converters and, unless it must be quick, with an ADC alone."""
    return [
        Case(workload.name, shape, _runner(workload, shape))
        for workload in ((ALL_BITS,) if options.quick else (ADC_ONLY, ALL_BITS))
        for shape in options.shapes_of(3, QUICK, FULL)
    ]


def _runner(workload: Workload, shape: Shape) -> Callable[[Bench], Row]:
    return lambda bench: _run(bench, workload, shape)


def _run(bench: Bench, workload: Workload, shape: Shape) -> Row:
    results: dict[str, _timing.Result] = {}
    notes: dict[str, str] = {}
    for peer in (OURS, *bench.peers(PEERS, PEERS)):
        answer = _measure(peer, workload, shape)
        if "note" in answer:
            notes[peer] = answer["note"]
        else:
            results[peer] = _timing.summary(answer["bytes"])
    return bench.row("memory", workload.name, shape, unit="bytes", results=results, notes=notes)


def _measure(peer: str, workload: Workload, shape: Shape) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._memory_probe"],
        input=json.dumps({"peer": peer, "workload": workload, "shape": shape}),
        cwd=Path(__file__).parents[2],
        env={**os.environ, **_RETURN_FREED},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode:
        return {"note": f"exit status {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"}
    return json.loads(done.stdout)
