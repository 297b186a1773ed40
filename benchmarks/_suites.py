"""The suites: a module in `suites` and a line here for each."""

from __future__ import annotations

from collections.abc import Callable

from ._bench import Case
from ._options import Options
from .suites import (
    attention,
    conv,
    edge,
    forward,
    memory,
    models,
    noise,
    softmax,
    start,
    step,
    tiles,
    train,
)
from .suites import complex as complex_suite

SUITES: dict[str, Callable[[Options], list[Case]]] = {
    "forward": forward.cases,
    "step": step.cases,
    "train": train.cases,
    "noise": noise.cases,
    "softmax": softmax.cases,
    "conv": conv.cases,
    "complex": complex_suite.cases,
    "attention": attention.cases,
    "tiles": tiles.cases,
    "models": models.cases,
    "start": start.cases,
    "edge": edge.cases,
    "memory": memory.cases,
}

DEFAULT_ALLOCATOR = frozenset({"train"})
"""Suites that run as a user starts Python; for the others glibc keeps freed memory."""
PROFILED = frozenset({"train"})
"""Suites that can say where the time of ours goes."""
