"""The exported model: a graph, its test vectors, and how to save it."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import _write
from ._graph import Graph, Port, Role


@dataclass(frozen=True)
class TestVector:
    """Inputs, and the outputs that the exported function computed for them with JAX.

    A runtime passes where |got - want| <= absolute_tolerance + relative_tolerance * |want|.
    """

    # Keeps pytest from collecting the class.
    __test__ = False

    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    absolute_tolerance: float
    relative_tolerance: float


@dataclass(frozen=True, repr=False)
class Model:
    """A function that has been exported, as it goes into a `.lmn` file."""

    graph: Graph
    """Nodes, constants, inputs and outputs."""
    tests: tuple[TestVector, ...]
    """What `lumina verify` recomputes."""
    producer: str
    """Who wrote the file: "lumina-jax 0.1.0"."""

    @property
    def inputs(self) -> dict[str, str]:
        """Type of each input by its name: {"x": "f32[batch, 64]"}."""
        return {port.name: str(port.value) for port in self.graph.inputs}

    @property
    def outputs(self) -> dict[str, str]:
        """Type of each output by its name."""
        return {port.name: str(port.value) for port in self.graph.outputs}

    @property
    def ops(self) -> dict[str, int]:
        """Number of nodes of each op, the most frequent first."""
        return dict(Counter(node.op for node in self.graph.nodes).most_common())

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Parameters by their path; constants that folding made have none and are left out."""
        return {tensor.name: tensor.data for tensor in self.graph.tensors if tensor.name}

    @property
    def weight_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(tensor.data.nbytes for tensor in self.graph.tensors)

    def to_bytes(self) -> bytes:
        """The contents of the file. The same model gives the same bytes."""
        return b"".join(_write.chunks(self))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the file at `path`, and returns the path.

        A file that is there is replaced only once the new one is complete on disk.

        Raises:
          SaveError: the directory is missing, or the system refuses to write.
        """
        return _write.save(self, Path(path))

    def __repr__(self) -> str:
        tensors, size = len(self.graph.tensors), _size(self.weight_bytes)
        lines = [
            f"Model({_count(len(self.graph.nodes), 'node')}, "
            f"{_count(tensors, 'constant')} of {size}, "
            f"{_count(len(self.tests), 'test vector')})"
        ]
        lines += [f"  input   {_port(port)}" for port in self.graph.inputs]
        lines += [f"  output  {_port(port)}" for port in self.graph.outputs]
        ops = ", ".join(op if n == 1 else f"{op} x{n}" for op, n in self.ops.items())
        lines.append(f"  ops     {ops or 'none'}")
        return "\n".join(lines)


def _port(port: Port) -> str:
    note = ", the noise seed" if port.role is Role.NOISE_SEED else ""
    return f"{port.name}: {port.value}{note}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
