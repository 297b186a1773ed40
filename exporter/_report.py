"""What weights take in a file, and what those stand for that are codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lumina_jax import _html
from lumina_jax.ops import OPS

from ._graph import Graph, Tensor, constants_of, with_constants


@dataclass(frozen=True)
class StoredWeight:
    """A weight as a file has it."""

    name: str
    """Path of the parameter; what folding made has none."""
    shape: tuple[int, ...]
    """Of the weight, not of the words of its codes."""
    bits: float
    """Of an element: those of its code or of its number."""
    scale: str
    """What has a scale of its own: "tensor", "column", "row", "group of 64"; "" without codes."""
    nbytes: int
    """Bytes in the file: of codes with scales, zero points and tables."""

    @property
    def count(self) -> int:
        """Elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class WeightsReport:
    """What weights take in a file, the largest first."""

    weights: tuple[StoredWeight, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(weight.nbytes for weight in self.weights)

    @property
    def float32_bytes(self) -> int:
        """Bytes that they would take as float32."""
        return sum(4 * weight.count for weight in self.weights)

    def __str__(self) -> str:
        return f"{self._summary}\n{_html.plain(_HEAD, self._rows())}"

    def _repr_html_(self) -> str:
        return _html.table(self._summary, _HEAD, self._rows())

    @property
    def _summary(self) -> str:
        share = self.nbytes / self.float32_bytes if self.float32_bytes else 1.0
        return (
            f"{len(self.weights)} weights of {size(self.nbytes)}, {share:.3g} of the "
            f"{size(self.float32_bytes)} that they take as float32"
        )

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                weight.name or "(folded)",
                str(list(weight.shape)),
                f"{weight.bits:g}",
                weight.scale,
                size(weight.nbytes),
                size(4 * weight.count),
            )
            for weight in self.weights
        ]


_HEAD = ("weight", "shape", "bits", "scale of a", "bytes", "as float32")


@dataclass(frozen=True, eq=False)
class _Coded:
    """A node `dequantize` of constants."""

    attrs: Mapping[str, Any]
    operands: tuple[Tensor, ...]


def report(graphs: Sequence[Graph]) -> WeightsReport:
    """What the constants of the graphs take."""
    coded, parts = _coded(graphs)
    found = []
    for key, tensor in constants_of(graphs).items():
        data = tensor.data
        if key in coded:
            found.append(_of_codes(tensor.name, coded[key]))
        elif tensor.name or (key not in parts and data.ndim > 1):
            bits = 8 * data.dtype.itemsize
            found.append(StoredWeight(tensor.name, data.shape, bits, "", data.nbytes))
    return WeightsReport(tuple(sorted(found, key=lambda weight: -weight.nbytes)))


def values(graphs: Sequence[Graph]) -> dict[str, np.ndarray]:
    """Named constants; what codes stand for in their place, read-only."""
    coded, _ = _coded(graphs)
    found = {}
    for key, tensor in constants_of(graphs).items():
        if tensor.name:
            found[tensor.name] = _weight(coded[key]) if key in coded else tensor.data
    return found


def _coded(graphs: Sequence[Graph]) -> tuple[dict[tuple[str, int], _Coded], set[tuple[str, int]]]:
    """The first node that reads each tensor of codes, and what else such nodes read, by key."""
    coded: dict[tuple[str, int], _Coded] = {}
    parts = set()
    for graph in graphs:
        outer = {tensor.value.id: tensor for tensor in graph.tensors}
        for node, constants in with_constants(graph.nodes, outer):
            operands = tuple(constants[v.id] for v in node.inputs if v.id in constants)
            if node.op == "dequantize" and len(operands) == len(node.inputs):
                coded.setdefault(operands[0].key, _Coded(node.attrs, operands))
                parts.update(operand.key for operand in operands[1:])
    return coded, parts


def _weight(coded: _Coded) -> np.ndarray:
    op = OPS["dequantize"]
    operands = op.operands(*(tensor.data for tensor in coded.operands))
    (weight,) = op.on_numpy(op.attrs(**coded.attrs), operands)
    weight.flags.writeable = False
    return weight


def _of_codes(name: str, coded: _Coded) -> StoredWeight:
    scale, group = coded.operands[1].data, coded.attrs["group"]
    rows, columns = scale.shape
    what = "tensor" if columns == 1 else "column"
    if rows > 1:
        what = "row" if columns == group == 1 else f"group of {group}"
    if coded.operands[3].data.size:
        what = f"{what}, with a table"
    nbytes = sum(tensor.data.nbytes for tensor in coded.operands)
    return StoredWeight(name, coded.attrs["shape"], coded.attrs["bits"], what, nbytes)


def size(number: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
