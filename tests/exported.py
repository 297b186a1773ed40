"""What the exporter's tests share: exports that are verified and read back, and changed files."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import exporter
from exporter import _container
from exporter import _lmn_pb2 as pb
from exporter._container import GRAPH, META, WEIGHTS, Section


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

    def export(self, fn: Any, *args: Any, **options: Any) -> exporter.Model:
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


def refused(data: bytes, folder: Path) -> str:
    """What `load` says of a file."""
    path = folder / "m.lmn"
    path.write_bytes(data)
    with pytest.raises(exporter.LoadError) as caught:
        exporter.load(path)
    said = str(caught.value)
    assert said.startswith(f"cannot load `{path}`: ")
    return said.partition(": ")[2]


def packed(graph: pb.Graph | bytes, weights: bytes = b"", meta: bytes = b"") -> bytes:
    """The file with these sections, and all checksums right."""
    message = graph if isinstance(graph, bytes) else graph.SerializeToString()
    contents = {kind: Section() for kind in (GRAPH, WEIGHTS, META)}
    for kind, data in ((GRAPH, message), (WEIGHTS, weights), (META, meta)):
        contents[kind].add(data)
    return b"".join(_container.pack(contents))


def reencoded(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The file with the bytes of its message changed."""
    sections = _container.unpack(data)
    kept = (bytes(sections.get(kind, b"")) for kind in (WEIGHTS, META))
    return packed(change(bytes(sections[GRAPH])), *kept)


def rebuilt(data: bytes, change: Callable[[pb.Graph], object]) -> bytes:
    """The file with its message changed."""

    def changed(message: bytes) -> bytes:
        graph = pb.Graph.FromString(message)
        change(graph)
        return graph.SerializeToString()

    return reencoded(data, changed)
