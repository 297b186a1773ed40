"""What the exporter's tests share: exports that `lumina verify` recomputes and that read back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import exporter


class Program:
    """The `lumina` program on one model in a folder."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.binary, self.folder = binary, folder

    def call(self, *args: object) -> str:
        run = subprocess.run(
            [self.binary, *map(str, args)], capture_output=True, text=True, check=False, timeout=60
        )
        assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
        return run.stdout

    def export(self, fn: Callable[..., Any], *args: Any, **options: Any) -> exporter.Model:
        """The model of `fn`, whose every output at every test vector the runtime has computed."""
        model = exporter.export(fn, *args, **options)
        assert len(model.tests) == (2 if options.get("batch") else 1)
        self.verified(model)
        return model

    def verified(self, model: exporter.Model) -> Path:
        """Saves the model, has its test vectors recomputed, and reads it back."""
        path = model.save(self.folder / "m.lmn")
        self.call("verify", path)
        same(model, exporter.load(path))
        return path

    def run(self, path: Path, x: np.ndarray, *options: object) -> np.ndarray:
        source, target = self.folder / "x.npy", self.folder / "y.npy"
        np.save(source, x)
        self.call("run", path, "--input", source, "--output", target, *options)
        return np.load(target)


def same(model: exporter.Model, loaded: exporter.Model) -> None:
    """Asserts that `loaded` is what `model` was, to the types of values inside."""
    assert loaded.graph.inputs == model.graph.inputs
    assert loaded.graph.nodes == model.graph.nodes
    assert loaded.graph.outputs == model.graph.outputs
    assert loaded.to_bytes() == model.to_bytes()
