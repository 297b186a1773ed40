"""What the machine is, and what it can do at most: operations per second, and reading memory.

The limits are loops of the Rust module that compute nothing else, those of `lumina bench`: that of
a matmul tile on factors in the nearest cache for the operations, on a buffer of a given size for
reading. All threads run them together, and what counts is the time until the last one is done.
"""

from __future__ import annotations

import math
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from lumina_jax._native import _lumina

_PACKAGES = (
    "lumina-jax",
    "jax",
    "jaxlib",
    "numpy",
    "torch",
    "qwix",
    "aihwkit-lightning",
    "analogvnn",
    "aihwkit",
)


def describe() -> dict[str, Any]:
    """CPU, its flags, the system, and the versions of all who are compared."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""

    def field(name: str) -> str:
        found = re.search(rf"^{name}\s*:\s*(.*)$", text, re.MULTILINE)
        return found[1] if found else ""

    numbers = "/".join(field(name) for name in ("cpu family", "model", "stepping"))
    return {
        "cpu": field("model name") or platform.processor() or platform.machine(),
        "family_model_stepping": numbers,
        "flags": sorted(field("flags").split()),
        "cpus": len(cpus()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def cpus() -> list[int]:
    """The CPUs that this process may use."""
    return sorted(os.sched_getaffinity(0))


class Limits:
    """What a number of threads reaches together; each is measured when first asked for."""

    def __init__(self, threads: int, *, quick: bool) -> None:
        self.threads = threads
        self.notes: dict[str, str] = {}
        """For each limit that this CPU has not, why."""
        self._seconds = 0.1 if quick else 0.5
        self._known: dict[str, float | None] = {}

    def peak(self, kind: str) -> float | None:
        """Operations per second of `float32`, `bfloat16` or `int8`; None where not measurable."""
        return self._remember(f"peak {kind}", lambda: self._peak(kind))

    def bandwidth(self, size: float) -> float:
        """Bytes per second of reading `size` bytes over and over.

        Operands of a benchmark stay in whatever cache holds them, so that is what limits it.
        """
        size = min(math.ceil(size), sys.maxsize)
        rate = self._remember(
            f"read {size}",
            lambda: _lumina.read_bandwidth(size, self._seconds / 4, self.threads),
        )
        assert rate is not None
        return rate

    def normal(self) -> float | None:
        """Seconds per normal number of our generator."""
        return self._remember("normal", self._normal)

    def seconds(
        self, operations: dict[str, float], size: float, normals: float = 0
    ) -> float | None:
        """Least time: max(Σ operations/peak, bytes/bandwidth) + normals · seconds of each."""
        total = 0.0
        for kind, count in operations.items():
            peak = self.peak(kind)
            if peak is None:
                return None
            total += count / peak
        total = max(total, size / self.bandwidth(size))
        if not normals:
            return total
        normal = self.normal()
        return None if normal is None else total + normals * normal

    def to_json(self) -> dict[str, Any]:
        """Whatever was measured."""
        return {"threads": self.threads, **self._known, "notes": self.notes}

    def _remember(self, name: str, measure: Callable[[], float | None]) -> float | None:
        if name not in self._known:
            self._known[name] = measure()
        return self._known[name]

    def _peak(self, kind: str) -> float | None:
        try:
            return _lumina.machine_peak(kind, self._seconds, self.threads)
        except ValueError as error:
            self.notes[kind] = str(error)
            return None

    def _normal(self) -> float | None:
        from .peers import _ours

        rows, columns = 512, 1024
        return _best(_ours.normals(rows, columns).bind(0)) / (rows * columns)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _best(call: Callable[[], Any], repeats: int = 7) -> float:
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
