"""The `lumina` binary, called as anyone would from a shell."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def find() -> Path:
    """The binary: $LUMINA_BIN, or that of the release build; exits with one sentence without."""
    root = Path(__file__).resolve().parent.parent
    path = Path(os.environ.get("LUMINA_BIN", root / "target" / "release" / "lumina"))
    if not path.is_file():
        sys.exit(
            f"{path} does not exist; build it with `cargo build --release -p lumina-runtime`, "
            "or set LUMINA_BIN"
        )
    return path


def verify(binary: Path, model: Path) -> None:
    """Lets the runtime recompute the test vectors in the file; exits with its message otherwise."""
    _call(binary, "verify", str(model))


def run(binary: Path, model: Path, images: np.ndarray) -> np.ndarray:
    """The output of the model for `images`."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "input.npy"), Path(folder, "output.npy")
        np.save(source, images)
        _call(binary, "run", str(model), "--input", str(source), "--output", str(target))
        return np.load(target)


def start_ms(binary: Path, model: Path, image: np.ndarray, repeats: int = 9) -> float:
    """Median wall time from the start of the process to its end with the result written, ms."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "input.npy"), Path(folder, "output.npy")
        np.save(source, image)
        times = []
        for _ in range(repeats):
            begin = time.perf_counter()
            _call(binary, "run", str(model), "--input", str(source), "--output", str(target))
            times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def _call(binary: Path, *arguments: str) -> None:
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"lumina {' '.join(arguments)} failed: {done.stderr.strip()}")
