"""Which layer of a plan of wavelengths a product of a graph is."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lumina_jax.planner import Plan

from ._device import weights_of
from ._dim import Dim
from ._errors import ExportError, quoted
from ._graph import Graph, Node

# What a stored weight goes through on its way to a product.
_SAME_WEIGHT = ("convert_element_type", "dequantize", "reshape", "transpose")


class _Layer(NamedTuple):
    """A layer of a plan, or one of its runs where it runs several times."""

    name: str
    slots: tuple[int, ...]


class PlanLayers:
    """The layers of a plan by the products of graphs.

    A product is known by the module that it comes from, by the path of its weights, or, where
    the plan has no names, by its number. Whole names count first, then ends of paths, so that
    "Dense_0" is the layer of "Net/Dense_0".
    """

    def __init__(self, plan: Plan | None, graphs: Sequence[Graph]) -> None:
        self.plan = plan
        self.layers: dict[str, list[_Layer]] = defaultdict(list)
        for layer in _layers(plan) if plan is not None else ():
            self.layers[layer.name].append(layer)
        self.used: set[str] = set()
        self.runs: dict[str, dict[Any, _Layer]] = defaultdict(dict)
        self.titles: list[str] = []
        self.unplanned: list[str] = []
        self.placed: list[tuple[str, tuple[int, ...]]] = []
        """Name and slots of each product that the plan has."""
        self.paths: dict[int, list[str]] = {}
        self.numbers: dict[int, int] = {}
        for graph in graphs:
            self._know(graph)

    def of(self, node: Node, index: int, inputs: Dim, rows: int) -> tuple[str, tuple[int, ...]]:
        """Name and slots of product number `index` of a node; empty without any in the plan."""
        if self.plan is None:
            return "", ()
        name = self._name(node, index)
        if name is None:
            self.unplanned.append(_title(node, index))
            return "", ()
        layer = self._run(name, node, index)
        self.used.add(name)
        if inputs.constant() != len(layer.slots):
            raise ExportError(
                f"export: layer {name!r} of `plan` has {len(layer.slots)} inputs, but "
                f"`{_title(node, index)}` has {inputs}"
            )
        _check_tiles(layer, rows)
        self.placed.append((name, layer.slots))
        return layer

    def check_all_are_used(self) -> None:
        """Raises ExportError where a layer of the plan is none of the model."""
        lost = [name for name in self.layers if name not in self.used]
        if lost:
            known = quoted(self.titles) or "none"
            raise ExportError(
                f"export: `plan` has {quoted(lost)}, which no optical layer of the model is: "
                f"it has {known}"
            )

    def _know(self, graph: Graph) -> None:
        """Notes the path of the weights of each node, and its number as the planner counts."""
        names = {tensor.value.id: tensor.name for tensor in graph.tensors}
        first: dict[tuple[int, ...], int] = {}
        found = 0
        for node in graph.nodes:
            if node.op in _SAME_WEIGHT:
                names[node.outputs[0].id] = names.get(node.inputs[0].id, "")
            count = len(weights_of(node.op, node.attrs, [value.shape for value in node.inputs]))
            if not count:
                continue
            # A layer that is not calibrated yet multiplies a second time, to find its range.
            factors = tuple(value.id for value in node.inputs[:2])
            if factors not in first:
                first[factors], found = found, found + count
            self.numbers[id(node)] = first[factors]
            # A kernel that is computed from the parameters has no path; a bias beside it may have.
            self.paths[id(node)] = [n for v in node.inputs[1:] if (n := names.get(v.id, ""))]
            self.titles += [_title(node, index) for index in range(count)]

    def _name(self, node: Node, index: int) -> str | None:
        """The layer that a product is, by name; None where it is none of the plan."""
        number = self.numbers.get(id(node))
        title, paths = _title(node, index), self.paths.get(id(node), [])
        whole = [title, *paths, *([] if number is None else [f"layer {number + index}"])]
        if (known := next((name for name in whole if name in self.layers), None)) is not None:
            return known
        own = [_words(title), *map(_path_words, paths)]
        found = [name for name in self.layers if any(_ends_alike(_words(name), o) for o in own)]
        if len(found) > 1:
            raise ExportError(
                f"export: `{title}` may be each of the layers {quoted(found)} of `plan`; plan the "
                "model that is exported, so that the names are the same"
            )
        return found[0] if found else None

    def _run(self, name: str, node: Node, index: int) -> _Layer:
        """Of a layer that runs several times, the run that this node is."""
        runs, seen = self.layers[name], self.runs[name]
        key = (index, *(value.id for value in node.inputs[:2]))
        if key not in seen:
            seen[key] = runs[min(len(seen), len(runs) - 1)]
        return seen[key]


def _layers(plan: Plan) -> Iterator[_Layer]:
    """The layers, whose buses follow each other; inputs that begin again are another run."""
    name, slots = "", []
    for bus in plan.buses:
        if slots and (bus.layer != name or bus.streams[0].input != len(slots)):
            yield _Layer(name, tuple(slots))
            slots = []
        name = bus.layer
        slots += [stream.slot for stream in bus.streams]
    if slots:
        yield _Layer(name, tuple(slots))


def _title(node: Node, index: int) -> str:
    """The module of a product as the planner calls it, or the op and its line."""
    scope = node.source.partition("(")[2].rstrip(")")
    title = scope or f"{node.op} at {node.source}"
    return f"{title}[{index}]" if node.op == "optical_attention" else title


def _words(name: str) -> list[str]:
    return [word for word in name.split("/") if word]


def _path_words(path: str) -> list[str]:
    """Of the path of a weight, "params['Net']['kernel']", the words that lead to its layer."""
    return [a or b for a, b in re.findall(r"\['?([^'\]]+)'?\]|\.(\w+)", path)][:-1]


def _ends_alike(one: list[str], other: list[str]) -> bool:
    """Whether one path is the end of the other."""
    shared = min(len(one), len(other))
    return shared > 0 and one[-shared:] == other[-shared:]


def _check_tiles(layer: _Layer, rows: int) -> None:
    for start in range(0, len(layer.slots), rows):
        tile = layer.slots[start : start + rows]
        if len(set(tile)) < len(tile):
            raise ExportError(
                f"export: `plan` puts two of the inputs {start} to {start + len(tile) - 1} of "
                f"{layer.name!r}, which are in a bank at once, on one slot; plan with a grid of "
                f"{rows} slots, as many as a bank has inputs"
            )


def on_slots(matrix: Any, slots: Any) -> Any:
    """Crosstalk among the slots: `matrix` in each group of as many as it has, 0 between groups."""
    group, place = np.divmod(slots, len(matrix))
    return np.where(np.equal.outer(group, group), matrix[np.ix_(place, place)], 0.0)
