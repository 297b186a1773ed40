"""The nodes of a graph or of a region, while some of them become one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .._dim import Shape
from .._graph import Attr, DType, Node, Region, Tensor, Value
from .._lower import Shared
from .._ops import infer

_MOST = 64
"""Nodes that become one, at most: what would need more is none of the forms that are known."""


@dataclass(frozen=True)
class Cone:
    """The nodes between a value and one that follows from it."""

    nodes: tuple[Node, ...]
    """In topological order; each reads the value or follows from it."""
    others: tuple[Value, ...]
    """What else they read."""


class Scope:
    """Nodes by what they define and by who reads them."""

    def __init__(
        self,
        nodes: Sequence[Node],
        outputs: Iterable[Value],
        constants: Mapping[int, Tensor],
        shared: Shared,
        around: Scope | None = None,
    ) -> None:
        self.tensors: list[Tensor] = []
        """Constants that came in addition; those of a region lie in the scope around all."""
        self.captures: dict[Value, Value] = {}
        """The same by what they are called in this region."""
        self.shared = shared
        self._around = around
        self._constants = dict(constants)
        self._outputs = {value.id for value in outputs}
        # The nodes in the place of each node, which is known by its first result.
        self._places = {node.outputs[0].id: [node] for node in nodes}
        self._producers: dict[int, Node] = {}
        self._readers: dict[int, list[Node]] = {}
        self._added: dict[tuple[str, int] | Value, Value] = {}
        self._next = 0
        for value in (value for node in nodes for value in (*node.reads, *node.outputs)):
            self._next = max(self._next, value.id + 1)
        self._next = max([self._next, *(i + 1 for i in (*self._constants, *self._outputs))])
        for node in nodes:
            self._add(node)

    def reserve(self, values: Iterable[Value]) -> None:
        """Keeps new values from having the ids of these."""
        self._next = max([self._next, *(value.id + 1 for value in values)])

    def nodes(self) -> list[Node]:
        """All of them, in order."""
        return [node for place in self._places.values() for node in place]

    def producer(self, value: Value) -> Node | None:
        """The node whose result the value is."""
        return self._producers.get(value.id)

    def readers(self, value: Value) -> list[Node]:
        """The nodes that read it, one that reads it twice comes twice."""
        return self._readers.get(value.id, [])

    def only_reader(self, value: Value) -> Node | None:
        """The node that alone reads it, and once."""
        readers = self.readers(value)
        return readers[0] if len(readers) == 1 and value.id not in self._outputs else None

    def constant(self, value: Value) -> np.ndarray | None:
        """The elements, where the value is a stored constant."""
        tensor = self.tensor_of(value)
        return None if tensor is None else tensor.data

    def tensor_of(self, value: Value) -> Tensor | None:
        """The stored constant that the value is, by its name around all regions."""
        return self._constants.get(value.id)

    def narrow(self, value: Value) -> tuple[Value, tuple[int, ...]]:
        """What the value repeats, and the axes that these are of the value."""
        axes = tuple(range(len(value.shape)))
        node = self.producer(value)
        if node is None or node.op != "broadcast_in_dim":
            return value, axes
        return node.inputs[0], integers(node, "broadcast_dimensions")

    def scalar(self, value: Value) -> float | None:
        """The number that all elements of a constant are; parameters stay parameters."""
        node = self.producer(value)
        while node is not None and (
            node.op in ("broadcast_in_dim", "reshape") or node.attrs.get("new_dtype") == "f32"
        ):
            value = node.inputs[0]
            node = self.producer(value)
        tensor = self.tensor_of(value)
        if tensor is None or tensor.data.size == 0 or tensor.data.dtype.kind not in "fiub":
            return None
        data = tensor.data
        if tensor.name and data.size > 1:
            return None
        first = data.reshape(-1)[0]
        return float(first) if data.size == 1 or bool((data == first).all()) else None

    def cone(self, sources: Iterable[Value], last: Node) -> Cone | None:
        """What lies between the sources and the node, None where it is much or has regions."""
        ids = {value.id for value in sources}
        depends: dict[int, bool] = dict.fromkeys(ids, True)
        order: list[Node] = []

        def visit(node: Node) -> bool:
            """Whether it follows from a source."""
            known = depends.get(node.outputs[0].id)
            if known is not None:
                return known
            if len(depends) > 8 * _MOST:
                raise _TooMuchError
            depends[node.outputs[0].id] = False
            found = False
            for value in node.reads:
                producer = self.producer(value)
                if value.id in ids or (producer is not None and visit(producer)):
                    found = True
            if found:
                if node.regions or len(order) >= _MOST:
                    raise _TooMuchError
                order.append(node)
            for value in node.outputs:
                depends[value.id] = found
            return found

        try:
            if not visit(last):
                return None
        except (_TooMuchError, RecursionError):
            return None
        others = (v for node in order for v in node.inputs if not depends.get(v.id, False))
        return Cone(tuple(order), tuple(dict.fromkeys(others)))

    def is_private(self, cone: Cone) -> bool:
        """Whether nothing but the nodes themselves reads what they compute, the last one apart."""
        own = {id(node) for node in cone.nodes}
        return all(
            value.id not in self._outputs and all(id(r) in own for r in self.readers(value))
            for node in cone.nodes[:-1]
            for value in node.outputs
        )

    def node(
        self, op: str, inputs: Sequence[Value], attrs: Mapping[str, Attr], source: str
    ) -> Node:
        """A new node, which is nowhere yet."""
        facts = infer(op, inputs, attrs)
        outputs = tuple(self._new(dtype, shape) for dtype, shape in facts)
        return Node(op, tuple(inputs), outputs, dict(attrs), source)

    def tensor(self, data: np.ndarray, name: str = "") -> Value:
        """A constant in addition, each once."""
        dtype = DType.of(data.dtype)
        assert dtype is not None
        if self._around is None:
            digest = hashlib.sha256(np.ascontiguousarray(data).data).digest()
            data = self.shared.setdefault((name, dtype, data.shape, digest), data)
            key: tuple[str, int] | Value = (name, id(data))
        else:
            key = self._around.tensor(data, name)
            data = self._around._constants[key.id].data
        if key not in self._added:
            value = self._added[key] = self._new(dtype, Shape.of(data.shape))
            tensor = Tensor(value, name, data)
            self._constants[value.id] = tensor
            if isinstance(key, Value):
                self.captures[value] = key
            else:
                self.tensors.append(tensor)
        return self._added[key]

    def replace(self, cone: Cone, nodes: Sequence[Node]) -> None:
        """Puts `nodes` where the last of the cone is, whose results the last of them has."""
        last = cone.nodes[-1]
        place = self._place(last)
        at = next(i for i, node in enumerate(place) if node is last)
        self._remove(last)
        place[at : at + 1] = nodes
        for node in nodes:
            self._add(node)
        self._prune(last.reads)

    def redirect(self, old: Value, new: Value) -> None:
        """Lets all nodes that read `old` read `new`, which has the same type."""
        for reader in {id(node): node for node in self.readers(old)}.values():
            place = self._place(reader)
            at = next(i for i, node in enumerate(place) if node is reader)
            attrs = {
                name: replace(attr, captures=_exchanged(attr.captures, old, new))
                if isinstance(attr, Region)
                else attr
                for name, attr in reader.attrs.items()
            }
            inputs = _exchanged(reader.inputs, old, new)
            self._remove(reader)
            place[at] = replace(reader, inputs=inputs, attrs=attrs)
            self._add(place[at])
        self._prune([old])

    def _prune(self, values: Iterable[Value]) -> None:
        """Removes the nodes whose results nothing reads any more."""
        waiting = [self.producer(value) for value in values]
        while waiting:
            node = waiting.pop()
            if node is None or self.producer(node.outputs[0]) is not node:
                continue
            if any(self.readers(v) or v.id in self._outputs for v in node.outputs):
                continue
            place = self._place(node)
            place[:] = [other for other in place if other is not node]
            self._remove(node)
            waiting += [self.producer(value) for value in node.reads]

    def _place(self, node: Node) -> list[Node]:
        """The list that the node is in."""
        found = self._places.get(node.outputs[0].id, [])
        if any(other is node for other in found):
            return found
        return next(p for p in self._places.values() if any(other is node for other in p))

    def _add(self, node: Node) -> None:
        for value in node.outputs:
            self._producers[value.id] = node
        for value in node.reads:
            self._readers.setdefault(value.id, []).append(node)

    def _remove(self, node: Node) -> None:
        for value in node.outputs:
            if self._producers.get(value.id) is node:
                del self._producers[value.id]
        for value in dict.fromkeys(node.reads):
            self._readers[value.id] = [n for n in self._readers[value.id] if n is not node]

    def _new(self, dtype: DType, shape: Shape) -> Value:
        self._next += 1
        return Value(self._next - 1, dtype, shape)


def _exchanged(values: tuple[Value, ...], old: Value, new: Value) -> tuple[Value, ...]:
    return tuple(new if value.id == old.id else value for value in values)


class _TooMuchError(Exception):
    """A cone has too many nodes."""


def integers(node: Node, name: str) -> tuple[int, ...]:
    """An attribute that is a list of integers."""
    found = node.attrs[name]
    assert isinstance(found, tuple)
    assert not isinstance(found, Shape)
    return found


def extents_of(shape: Shape) -> Shape | tuple[int, ...]:
    """A shape as an attribute: integers where no extent is symbolic."""
    known = shape.constant()
    return shape if known is None else known


def described(nodes: Iterable[Node]) -> tuple[str, ...]:
    """What nodes a node was put together from, by source line: "exp, div at model.py:12 (Net)"."""
    by_source: dict[str, list[str]] = {}
    texts = []
    for node in nodes:
        if node.fused:
            texts += node.fused
        else:
            by_source.setdefault(node.source, []).append(node.op)
    for source, ops in by_source.items():
        words = ", ".join(ops)
        texts.append(f"{words} at {source}" if source else words)
    return tuple(dict.fromkeys(texts))


def chain(scope: Scope, node: Node, most: int) -> Iterator[Node]:
    """The nodes after it, as long as each one alone reads the result of the one before."""
    for _ in range(most):
        following = scope.only_reader(node.outputs[0]) if len(node.outputs) == 1 else None
        if following is None:
            return
        node = following
        yield node
