"""Standard normal numbers alone, f32[rows, columns]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._bench import Bench, Case, Row, load
from .._options import Options, Shape
from .._peers import OURS, Program

QUICK = ((1024, 1024),)
# No more than glibc keeps: from 32 MiB on it maps each result anew, and page faults are timed.
FULL = ((32, 512), (1024, 1024), (4096, 1024))
PEERS = ("jax", "torch", "numpy")
_DEVIATIONS = 5
"""Standard errors that the mean and the variance may be off: one draw in a million is further."""


def cases(options: Options) -> list[Case]:
    """All shapes."""
    return [Case("normals", shape, _runner(shape)) for shape in options.shapes_of(2, QUICK, FULL)]


def _runner(shape: Shape) -> Callable[[Bench], Row]:
    return lambda bench: _run(bench, shape)


def _run(bench: Bench, shape: Shape) -> Row:
    rows, columns = shape

    def build(name: str) -> Callable[[], object]:
        peer = load(name)
        program: Program = peer.normals(rows, columns)
        call = program.bind(0.0)
        (drawn,) = program.to_numpy(call())
        _check(drawn, shape)
        return call

    peers = [name for name in bench.peers(PEERS, PEERS) if name in PEERS]
    calls, notes = bench.attempt([OURS, *peers], build)
    return bench.row(
        "noise",
        "normals",
        shape,
        normals=rows * columns,
        results=bench.time(calls),
        notes=notes,
    )


def _check(drawn: np.ndarray, shape: Shape) -> None:
    if drawn.shape != shape or drawn.dtype != np.float32:
        raise ValueError(f"drew {drawn.dtype}{list(drawn.shape)}, expected float32{list(shape)}")
    wide = drawn.astype(np.float64)
    errors = wide.mean() * np.sqrt(wide.size), (wide.var() - 1) * np.sqrt(wide.size / 2)
    if max(map(abs, errors)) > _DEVIATIONS:
        raise ValueError(f"not standard normal: mean {wide.mean():.3g}, variance {wide.var():.3g}")
