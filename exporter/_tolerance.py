"""How far two right ways to compute a graph may be apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._graph import Graph, Node, Value, every_node

_TOLERANCE = 1e-5
_ROUNDINGS = 64
"""As many operations, one after the other, have that tolerance; their errors add up as a random
walk does."""
_NARROW = {"bf16": 2.0**-6, "f16": 2.0**-9}
"""A few roundings to a narrow type: XLA leaves some of them out."""

# Extents of symbols that are not known yet; a loop over one is this long.
_EXTENT = 16

MOVES = {
    "broadcast_in_dim",
    "concatenate",
    "copy",
    "dynamic_slice",
    "dynamic_update_slice",
    "gather",
    "iota",
    "neg",
    "pad",
    "reshape",
    "rev",
    "select_n",
    "slice",
    "split",
    "squeeze",
    "transpose",
}
"""Ops that round nothing."""


def tolerance(graph: Graph) -> float:
    """The relative tolerance of the outputs of `graph`."""
    values = [port.value for port in (*graph.inputs, *graph.outputs)]
    for node in every_node(graph.nodes):
        values += node.outputs
        values += [value for region in node.regions for value in region.inputs]
    narrow = max((_NARROW.get(value.dtype.name, 0.0) for value in values), default=0.0)
    outputs = [port.value for port in graph.outputs]
    longest = _longest(graph.nodes, outputs)
    return max(_TOLERANCE, narrow) * math.sqrt(max(1.0, longest / _ROUNDINGS))


def absolute_tolerance(
    outputs: Sequence[np.ndarray], relative: float, given: float | None
) -> float:
    """The one that is given, or else the relative one of numbers as large as the outputs."""
    return relative * _scale(outputs) if given is None else given


def _scale(outputs: Sequence[np.ndarray]) -> float:
    """The size of the smallest of the outputs, and at least 1."""
    floats = [array for array in outputs if array.size and array.dtype.kind not in "biu"]
    finite = [np.abs(array[np.isfinite(array)].astype(np.complex128)) for array in floats]
    sizes = [float(np.sqrt(np.mean(values**2))) for values in finite if values.size]
    return max(1.0, min(sizes, default=1.0))


def _longest(nodes: Sequence[Node], outputs: Sequence[Value]) -> int:
    """Most roundings on a way to one of `outputs`."""
    depth: dict[int, int] = {}
    for node in nodes:
        before = max((depth.get(value.id, 0) for value in node.reads), default=0)
        after = before + _roundings(node)
        depth.update((value.id, after) for value in node.outputs)
    return max((depth.get(value.id, 0) for value in outputs), default=0)


def _roundings(node: Node) -> int:
    if node.regions:
        inner = max(_longest(region.nodes, region.outputs) for region in node.regions)
        return inner * _trips(node)
    return int(node.op not in MOVES and any(value.is_float for value in node.outputs))


def _trips(node: Node) -> int:
    match node.op, node.attrs.get("length"):
        case "scan", (length,):
            known = length if isinstance(length, int) else length.constant()
            return _EXTENT if known is None else known
        case "while", _:
            return _EXTENT
    return 1
