"""Where the time of a training step goes, from the trace that JAX's profiler writes on a CPU.

The trace has an event for each operation that XLA compiled, with its name; what that operation is
of stands in the compiled program: the target of a custom call, or the path of scopes in its
`op_name`. A moment at which several threads compute counts for the parts of all in equal shares, so
that the parts add up to the time of a step.
"""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

RANGES, FORWARD, BACKWARD = "ranges", "forward op", "backward op"
UPDATE, OTHER, BETWEEN, DISPATCH = "update", "other XLA", "between ops", "dispatch"
PARTS = (RANGES, FORWARD, BACKWARD, UPDATE, OTHER, BETWEEN, DISPATCH)
METHOD = (
    "from the operations in the trace of jax.profiler; mean of the middle half of the steps by "
    "their time. ranges: all that layers compute beside their op, mostly largest magnitudes; "
    "other XLA: ReLU, loss, keys, copies; between ops: XLA has begun, and no operation runs; "
    "dispatch: before the first operation and after the last"
)

LAYER = "layer"
"""With its number the scope of a layer, as UPDATE is that of the update."""

_STEP = "benchmarks training step"
_UPDATE_SCOPE = re.compile(rf"(^|[/(]){UPDATE}[/)]")
_LAYER_SCOPE = re.compile(rf"(^|[/(]){LAYER}\d+[/)]")
_OP = re.compile(r"optical_(matmul|conv|attention)(?P<gradient>_grad)?")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = ", re.MULTILINE)
_ATTRIBUTE = re.compile(r'\b(custom_call_target|op_name)="([^"]*)"')


class Profile(TypedDict):
    """Of one step, s."""

    method: str
    steps: int
    """Traced."""
    parts: dict[str, float]
    """Of PARTS; their sum is the step while it is traced."""


class Event(NamedTuple):
    """What a thread did, µs."""

    start: float
    end: float
    thread: Any
    part: str


def profile(call: Callable[[], Any], hlo: str, steps: int) -> Profile:
    """The parts of a call that waits for its results.

    Args:
        call: one step.
        hlo: the program that it runs, `compiled.as_text()`.
        steps: how many to trace.

    Raises:
        ValueError: the trace has no operations of that program.
    """
    parts = parts_of(hlo)
    with tempfile.TemporaryDirectory() as folder:
        _trace(call, steps, folder)
        (path,) = Path(folder).rglob("*.trace.json.gz")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            events = json.load(file)["traceEvents"]
    walls = [(e["ts"], e["ts"] + e["dur"]) for e in events if e.get("name") == _STEP]
    operations = [
        Event(e["ts"], e["ts"] + e["dur"], e["tid"], parts.get(e["args"]["hlo_op"], OTHER))
        for e in events
        if "dur" in e and "hlo_op" in e.get("args", {})
    ]
    shares = [
        share(start, end, [e for e in operations if start <= e.start < end]) for start, end in walls
    ]
    if not any(of_step[FORWARD] for of_step in shares):
        raise ValueError("the trace has no operations of the step")
    shares.sort(key=lambda of_step: of_step.total())
    middle = shares[len(shares) // 4 : len(shares) - len(shares) // 4]
    mean = {part: sum(s[part] for s in middle) / len(middle) * 1e-6 for part in PARTS}
    return {"method": METHOD, "steps": steps, "parts": mean}


def parts_of(hlo: str) -> dict[str, str]:
    """The part of each instruction of a program, by its name."""
    parts = {}
    for line in hlo.splitlines():
        if name := _INSTRUCTION.match(line):
            parts[name[1]] = _part(**dict(_ATTRIBUTE.findall(line)))
    return parts


def _part(custom_call_target: str = "", op_name: str = "") -> str:
    op = _OP.search(custom_call_target)
    if op and op["gradient"]:
        return BACKWARD
    if op:
        return FORWARD
    if _LAYER_SCOPE.search(op_name):
        return RANGES
    return UPDATE if _UPDATE_SCOPE.search(op_name) else OTHER


def share(start: float, end: float, operations: Sequence[Event]) -> Counter[str]:
    """The time from start to end by part, from the operations that began in it."""
    # A Counter holds floats as well, which its type does not say.
    seconds: Any = Counter()
    if not operations:
        seconds[DISPATCH] = end - start
        return seconds
    # Of operations within others, as branches are, the innermost comes last.
    nested = sorted(operations, key=lambda e: (e.start, -e.end))
    first, last = nested[0].start, min(end, max(e.end for e in nested))
    seconds[DISPATCH] = (first - start) + (end - last)
    points = sorted({min(point, end) for e in nested for point in (e.start, e.end)})
    for before, after in pairwise(points):
        running = {e.thread: e.part for e in nested if e.start <= before and after <= e.end}
        for part in running.values() or (BETWEEN,):
            seconds[part] += (after - before) / max(1, len(running))
    return seconds


def _trace(call: Callable[[], Any], steps: int, folder: str) -> None:
    import jax

    options = jax.profiler.ProfileOptions()
    # Events of Python calls would take longer than the dispatch that they are of.
    options.python_tracer_level = 0
    call()
    with jax.profiler.trace(folder, profiler_options=options):
        for _ in range(steps):
            with jax.profiler.TraceAnnotation(_STEP):
                call()
