"""The suites: a module in `suites` and a line here for each."""

from __future__ import annotations

from collections.abc import Callable

from ._bench import Case
from ._options import Options
from .suites import forward, memory, noise, step

SUITES: dict[str, Callable[[Options], list[Case]]] = {
    "forward": forward.cases,
    "step": step.cases,
    "noise": noise.cases,
    "memory": memory.cases,
}
