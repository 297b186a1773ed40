"""What the machine is, and what it can do at most: operations per second, and reading memory.

The limits are loops of the Rust module that compute nothing else: that of a matmul tile on
factors in the nearest cache for the operations, on a buffer of a given size for reading. Every
thread runs one of its own, at once.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

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
_SMALLEST_BUFFER = 1 << 16
_LARGEST_BUFFER = 1 << 29


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
        """For each limit that is an estimate, what stands in for it."""
        self._seconds = 0.1 if quick else 0.5
        self._known: dict[str, float | None] = {}

    def peak(self, kind: str) -> float | None:
        """Operations per second of `float32`, `bfloat16` or `int8`; None where not measurable."""
        return self._remember(f"peak {kind}", lambda: self._peak(kind))

    def bandwidth(self, size: float) -> float:
        """Bytes per second of reading `size` bytes over and over, rounded up to a power of two.

        Operands of a benchmark stay in whatever cache holds them, so that is what limits it.
        """
        each = _SMALLEST_BUFFER
        while each < min(size / self.threads, _LARGEST_BUFFER / self.threads):
            each *= 2
        value = self._remember(f"read {each}", lambda: self._bandwidth(each))
        assert value is not None
        return value

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
        probe = _probe("machine_peak")
        if probe is not None:
            try:
                return self._together(lambda: probe(kind, self._seconds))
            except (RuntimeError, ValueError) as error:
                self.notes[kind] = str(error)
                return None
        rate = _matmul_rate(kind)
        self.notes[kind] = (
            "no peak loop in this build: the best large matmul stands in for it"
            if rate
            else "no peak loop in this build, and no matmul to stand in for it"
        )
        return rate

    def _bandwidth(self, size: int) -> float:
        probe = _probe("read_bandwidth")
        if probe is not None:
            return self._together(lambda: probe(size, self._seconds / 4))
        self.notes["read"] = "no read loop in this build: numpy.dot of a vector stands in for it"
        return self._together(lambda: _dot_rate(size, self._seconds / 4))

    def _together(self, measure: Callable[[], float]) -> float:
        with ThreadPoolExecutor(self.threads) as pool:
            runs = [pool.submit(measure) for _ in range(self.threads)]
            return sum(run.result() for run in runs)

    def _normal(self) -> float | None:
        from .peers import _ours

        rows, columns = 512, 1024
        return _best(_ours.normals(rows, columns).bind(0)) / (rows * columns)


def _probe(name: str) -> Callable[..., float] | None:
    try:
        from lumina_jax import _lumina
    except ImportError:
        return None
    return getattr(_lumina, name, None)


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


def _dot_rate(size: int, seconds: float) -> float:
    vector = np.ones(size // 4, np.float32)
    repeats = max(1, (1 << 22) // size)
    rates, end = [], time.perf_counter() + seconds
    while not rates or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(repeats):
            np.dot(vector, vector)
        rates.append(size * repeats / (time.perf_counter() - start))
    return max(rates)


def _matmul_rate(kind: str) -> float | None:
    """Operations per second of the fastest product of two square matrices."""
    import jax
    import jax.numpy as jnp

    n = 1024
    calls: list[Callable[[], Any]] = []
    ones = np.ones((n, n), np.float32)
    if kind == "float32":
        calls.append(lambda: ones @ ones)
    if kind != "int8":
        a = jnp.asarray(ones, jnp.dtype(kind))
        product = jax.jit(jnp.matmul)
        calls.append(lambda: jax.block_until_ready(product(a, a)))
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        torch = None
    if torch is not None:
        b = torch.ones((n, n), dtype=getattr(torch, kind))
        if kind == "int8":
            calls.append(lambda: torch._int_mm(b, b))  # pyright: ignore
        else:
            calls.append(lambda: torch.mm(b, b))
    if kind == "int8":
        from ._problem import ALL_BITS, make
        from .peers import _ours

        calls.append(_ours.forward(make(ALL_BITS, (n, n, n))).bind(0))
    return 2 * n**3 / min(map(_best, calls)) if calls else None
