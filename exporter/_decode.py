"""The sections of a `.lmn` file as a graph, once the runtime has checked the file.

The runtime's loader, which `load` asks first, checks the file against itself and keeps it small.
What is left to refuse here is what only the runtime reads, and what does not hold for every size:
the types of intermediate values are not in the file, and are inferred, op by op, as polynomials.
Whatever is wrong is a ValueError that says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from . import _lmn_pb2 as pb
from ._container import GRAPH, META, WEIGHTS
from ._device import Device, weights_of
from ._device_messages import device_of, products_of
from ._dim import Derived, Dim, Shape, Symbol
from ._encode import KINDS, ROLES
from ._graph import Attr, DType, Graph, Node, Port, Region, State, Tensor, TestVector, Value
from ._ops import GIVEN, Fact, infer
from ._upgrade import upgraded

_KINDS = {number: kind for kind, number in KINDS.items()}
_ROLES = {number: role for role, number in ROLES.items()}
_MOST_RANK = 8
# What an extent in a file can have: 64 terms, of 16 factors to the power of 8 and a coefficient of
# 64 bits each. Padding multiplies extents, so that those inside could grow with every node.
_MOST_TERMS = 64
_MOST_DEGREE = 16 * 8
_MOST_BITS = 70


class Contents(NamedTuple):
    """What a file holds."""

    graphs: tuple[Graph, ...]
    tests: tuple[TestVector, ...]
    producer: str
    device: Device | None


def decode(sections: Mapping[int, memoryview]) -> Contents:
    """Graphs, test vectors, producer and device; arrays are read-only views of the sections."""
    try:
        message = pb.Graph.FromString(bytes(sections[GRAPH]))
    except DecodeError as fault:
        raise ValueError(f"section GRAPH cannot be decoded: {fault}") from fault
    device = device_of(message)
    file = _File(sections)
    tensors = tuple(file.tensor(tensor) for tensor in message.tensors)
    graphs = tuple(
        _Decoder(entry, message.opset, tensors).graph() for entry in (message, *message.entries)
    )
    if len(graphs) > 1:  # a graph has the constants that it reads
        graphs = tuple(graph.without_dead() for graph in graphs)
    tests = tuple(file.test(test) for test in message.tests)
    return Contents(graphs, tests, message.producer, device)


class _File:
    """What entry points share."""

    def __init__(self, sections: Mapping[int, memoryview]) -> None:
        self.sections = sections

    def tensor(self, tensor: pb.Tensor) -> Tensor:
        if tensor.HasField("quantization"):
            raise ValueError(
                f"tensor {tensor.id} `{tensor.name}` is quantized, which only the runtime reads"
            )
        data = self.array(tensor, WEIGHTS)
        value = Value(tensor.id, DType.named(tensor.dtype), Shape.of(data.shape))
        return Tensor(value, tensor.name, data)

    def array(self, tensor: pb.Tensor | pb.TestTensor, kind: int) -> np.ndarray:
        dtype, shape = DType.named(tensor.dtype).numpy, tuple(tensor.shape)
        count = math.prod(shape)
        if not count:
            return np.empty(shape, dtype)
        return np.frombuffer(self.sections[kind], dtype, count, tensor.offset).reshape(shape)

    def test(self, test: pb.TestVector) -> TestVector:
        def arrays(tensors: Sequence[pb.TestTensor]) -> tuple[np.ndarray, ...]:
            return tuple(self.array(tensor, META) for tensor in tensors)

        tolerances = test.absolute_tolerance, test.relative_tolerance
        ends = arrays(test.inputs), arrays(test.outputs)
        return TestVector(*ends, *tolerances, test.entry, test.continues)


class _Decoder:
    """One entry point."""

    def __init__(
        self, message: pb.Graph | pb.Entry, opset: int, tensors: tuple[Tensor, ...]
    ) -> None:
        self.message, self.opset, self.tensors = message, opset, tensors
        self.symbols: list[Symbol] = list(message.symbols)
        for symbol in message.derived:
            left, right = self.dim(symbol.left), self.dim(symbol.right)
            self.symbols.append(Derived(_KINDS[symbol.kind], left, right))
        self.values: dict[int, Value] = {}

    def graph(self) -> Graph:
        message = self.message
        inputs = tuple(self.port(port) for port in message.inputs)
        self.define(port.value for port in inputs)
        before = [
            Value(state.id, DType.named(state.dtype), Shape.of(state.shape))
            for state in message.states
        ]
        self.define(before)
        self.define(tensor.value for tensor in self.tensors)
        nodes = self.nodes(message.nodes, self.values)
        states = tuple(map(self.state, message.states))
        outputs = tuple(self.output(port) for port in message.outputs)
        graph = Graph(inputs, self.tensors, nodes, outputs, states, message.name)
        lost = set(message.symbols).difference(graph.symbols())
        if lost:
            raise ValueError(f"no input shape determines `{min(lost)}`, whose terms cancel")
        return graph

    def state(self, state: pb.State) -> State:
        after = self.values[state.next if state.HasField("next") else state.id]
        initial = self.values[state.initial] if state.HasField("initial") else None
        return State(self.values[state.id], after, state.name, initial)

    def define(self, values: Iterable[Value]) -> None:
        self.values.update((value.id, value) for value in values)

    def port(self, port: pb.Value) -> Port:
        value = Value(port.id, DType.named(port.dtype), self.shape(port.shape))
        return Port(value, port.name, _ROLES[port.role])

    def output(self, port: pb.Value) -> Port:
        output, computed = self.port(port), self.values[port.id]
        if output.value != computed:
            raise ValueError(
                f"output `{port.name}`: the file says {output.value}, but its nodes compute "
                f"{computed}"
            )
        return output

    def nodes(self, nodes: Iterable[pb.Node], values: dict[int, Value]) -> tuple[Node, ...]:
        """The nodes of a scope, whose values so far are `values`."""
        return tuple(self.node(i, node, values) for i, node in enumerate(nodes))

    def node(self, index: int, node: pb.Node, values: dict[int, Value]) -> Node:
        place = f"node {index} (`{node.op}`, {node.source})"
        inputs = tuple(values[id_] for id_ in node.inputs)
        regions = [name for name, attr in node.attrs.items() if attr.HasField("region")]
        attrs = {name: self.attr(a) for name, a in node.attrs.items() if name not in regions}
        op, attrs = upgraded(self.opset, node.op, attrs)
        try:
            for name in sorted(regions):
                if op not in GIVEN:
                    raise ValueError(f"`{name}` is a region, which the op does not run")
                given = GIVEN[op](inputs, attrs)
                attrs[name] = self.region(node.attrs[name].region, given, values)
            facts = infer(op, inputs, attrs)
        except ValueError as fault:
            raise ValueError(f"{place}: {fault}") from fault
        if len(facts) != len(node.outputs):
            raise ValueError(f"{place} has {len(node.outputs)} outputs, expected {len(facts)}")
        for _, shape in facts:
            _check_inferred(shape, place)
        outputs = tuple(Value(id_, *fact) for id_, fact in zip(node.outputs, facts, strict=True))
        values.update((value.id, value) for value in outputs)
        products = products_of(node.execution, self.dim)
        said = tuple((product.inputs, product.outputs) for product in products)
        computed = weights_of(op, attrs, [value.shape for value in inputs])
        if products and said != computed:
            raise ValueError(
                f"{place}: the file says products of {_listed(said)} weights, but the node has "
                f"{_listed(computed)}"
            )
        return Node(op, inputs, outputs, attrs, node.source, tuple(node.fused), products)

    def region(
        self, region: pb.Region, given: Sequence[Fact], around: Mapping[int, Value]
    ) -> Region:
        captures = [around[id_] for id_ in region.captures]
        facts = [*((value.dtype, value.shape) for value in captures), *given]
        values = {id_: Value(id_, *fact) for id_, fact in enumerate(facts)}
        inputs = tuple(values.values())[len(captures) :]
        nodes = self.nodes(region.nodes, values)
        outputs = tuple(values[id_] for id_ in region.outputs)
        return Region(tuple(captures), inputs, nodes, outputs)

    def attr(self, attr: pb.Attr) -> Attr:
        match attr.WhichOneof("value"):
            case "flag":
                return attr.flag
            case "integer":
                return attr.integer
            case "number":
                return attr.number
            case "text":
                return attr.text
            case "integers":
                return tuple(attr.integers.values)
            case _:
                return self.shape(attr.shape.dims)

    def shape(self, dims: Iterable[pb.Dim]) -> Shape:
        return Shape(self.dim(dim) for dim in dims)

    def dim(self, dim: pb.Dim) -> Dim:
        return Dim.of_terms(
            (((self.symbols[f.symbol], f.power) for f in term.factors), term.coefficient)
            for term in dim.terms
        )


def _listed(products: Iterable[tuple[Dim, Dim]]) -> str:
    return " and ".join(f"{inputs} x {outputs}" for inputs, outputs in products)


def _check_inferred(shape: Shape, place: str) -> None:
    if len(shape) > _MOST_RANK:
        raise ValueError(f"{place} has rank {len(shape)}, expected at most {_MOST_RANK}")
    for dim in shape:
        terms = len(dim.terms)
        degree = max((sum(power for _, power in monomial) for monomial, _ in dim.terms), default=0)
        bits = max((coefficient.bit_length() for _, coefficient in dim.terms), default=0)
        if terms > _MOST_TERMS or degree > _MOST_DEGREE or bits > _MOST_BITS:
            raise ValueError(
                f"{place} has an extent of {terms} terms up to degree {degree} with coefficients "
                f"of {bits} bits, expected at most {_MOST_TERMS}, {_MOST_DEGREE} and {_MOST_BITS}"
            )
