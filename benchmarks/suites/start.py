"""From the start of the process `lumina run` to its end, for one row, with the file in memory.

An MLP f32[1, width] of some layers, whose file is read, or mapped and checked, or mapped alone.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lumina_jax import export

from .._bench import Bench, Case, Row
from .._options import Options, Shape
from .._peers import OURS, Unsupported

QUICK = ((64, 3),)
FULL = ((64, 3), (4096, 7))
"""Width and layers."""
FLAGS = {
    "read": (),
    "mapped": ("--mmap",),
    "mapped, weights unchecked": ("--mmap", "--skip-checksum"),
}


def cases(options: Options) -> list[Case]:
    """Each shape by each way to load it."""
    return [
        Case(workload, shape, _runner(workload, shape))
        for shape in options.shapes_of(2, QUICK, FULL)
        for workload in FLAGS
    ]


def _runner(workload: str, shape: Shape) -> Callable[[Bench], Row]:
    return lambda bench: _run(bench, workload, shape)


def _run(bench: Bench, workload: str, shape: Shape) -> Row:
    def build(_: str) -> Callable[[], object]:
        command = [program(), "run", path(shape), "--input", path(shape).with_suffix(".npy")]
        command += ["--output", os.devnull, "--threads", str(bench.threads), *FLAGS[workload]]
        return lambda: subprocess.run(command, check=True, stderr=subprocess.DEVNULL)

    calls, notes = bench.attempt([OURS], build)
    width, layers = shape
    return bench.row(
        "start",
        workload,
        shape,
        operations={"float32": 2.0 * width * width * layers},
        size=4.0 * width * width * layers,
        results=bench.time(calls) if calls else {},
        notes=notes,
    )


def program() -> Path:
    """The `lumina` program: `$LUMINA_BIN`, or what `make build` has left."""
    built = Path(__file__).parents[2] / "target" / "release" / "lumina"
    found = Path(os.environ.get("LUMINA_BIN", built))
    if not found.is_file():
        raise Unsupported(f"there is no program at {found}: run make build")
    return found


@functools.cache
def path(shape: Shape) -> Path:
    """The file of the MLP, and beside it x, for as long as this process runs."""
    width, layers = shape
    rng = np.random.default_rng(shape)
    draw = functools.partial(rng.standard_normal, dtype=np.float32)
    weights = [draw((width, width)) * np.float32(width**-0.5) for _ in range(layers)]

    def mlp(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        for weight in weights:
            x = jnp.tanh(x @ weight)
        return x

    x = draw((1, width))
    model = export.export(mlp, x, params=weights)
    folder = Path(_folder().name)
    np.save(folder / f"{width}x{layers}.npy", x)
    # Test vectors are no part of what a run needs.
    return dataclasses.replace(model, tests=()).save(folder / f"{width}x{layers}.lmn")


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="lumina-start-")
