"""The sections of a `.lmn` file as a graph. Nothing in them is trusted.

Whatever is wrong is a ValueError that says so. The types of intermediate values are not in the
file; they are inferred, op by op.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from . import _lmn_pb2 as pb
from ._container import ALIGN, GRAPH, META, WEIGHTS
from ._dim import Dim, Shape
from ._encode import GRAPH_LIMIT, OPSET, ROLES
from ._graph import Attr, DType, Graph, Node, Port, Tensor, TestVector, Value
from ._ops import infer
from ._upgrade import upgraded

_MOST_POWER = 8
_MOST_RANK = 8
_MOST_EXTENT = 1 << 47
# Terms of an extent. Padding multiplies two of them, so that their number could double each time.
_MOST_TERMS = 64


class Contents(NamedTuple):
    """What a file holds."""

    graph: Graph
    tests: tuple[TestVector, ...]
    producer: str


def decode(sections: Mapping[int, memoryview]) -> Contents:
    """Graph, test vectors and producer; arrays are read-only views of the sections."""
    data = sections.get(GRAPH, memoryview(b""))
    if not 0 < len(data) <= GRAPH_LIMIT:
        raise ValueError(
            f"section GRAPH has {len(data)} bytes, expected some, at most {GRAPH_LIMIT}"
        )
    try:
        message = pb.Graph.FromString(bytes(data))
    except DecodeError as fault:
        raise ValueError(f"section GRAPH cannot be decoded: {fault}") from fault
    if not 1 <= message.opset <= OPSET:
        raise ValueError(f"`opset` is {message.opset}, expected 1 to {OPSET}")
    for field in ("wdm", "crosstalk"):
        if message.HasField(field):
            raise ValueError(f"the graph has a `{field}`, which only the runtime reads")
    return _Decoder(message, sections).contents()


class _Decoder:
    def __init__(self, message: pb.Graph, sections: Mapping[int, memoryview]) -> None:
        self.message = message
        self.sections = sections
        self.values: dict[int, Value] = {}

    def contents(self) -> Contents:
        message = self.message
        if len(set(message.symbols)) < len(message.symbols) or not all(message.symbols):
            raise ValueError(f"`symbols` are {list(message.symbols)}, expected names, each once")
        inputs = tuple(self.port(port, f"input `{port.name}`") for port in message.inputs)
        self.values.update((port.value.id, port.value) for port in inputs)
        tensors = tuple(self.tensor(tensor) for tensor in message.tensors)
        nodes = tuple(self.node(i, node) for i, node in enumerate(message.nodes))
        outputs = tuple(self.port(port, f"output `{port.name}`") for port in message.outputs)
        for ports, what in ((inputs, "inputs"), (outputs, "outputs")):
            names = [port.name for port in ports]
            if len(set(names)) < len(names):
                raise ValueError(f"the {what} are {names}, expected each name once")
        graph = Graph(inputs, tensors, nodes, outputs)
        graph.validate()
        tests = tuple(self.test(i, test, graph) for i, test in enumerate(message.tests))
        return Contents(graph, tests, message.producer)

    def port(self, port: pb.Value, place: str) -> Port:
        roles = [role for role, number in ROLES.items() if number == port.role]
        if not roles:
            raise ValueError(f"{place} has the unknown role {port.role}")
        dtype, shape = _dtype(port.dtype, place), self.shape(port.shape, place)
        return Port(Value(port.id, dtype, shape), port.name, roles[0])

    def tensor(self, tensor: pb.Tensor) -> Tensor:
        place = f"tensor {tensor.id} `{tensor.name}`"
        if tensor.HasField("quantization"):
            raise ValueError(f"{place} is quantized, which only the runtime reads")
        data = self.array(tensor, WEIGHTS, place)
        value = Value(tensor.id, _dtype(tensor.dtype, place), Shape.of(data.shape))
        self.define([value], place)
        return Tensor(value, tensor.name, data)

    def node(self, index: int, node: pb.Node) -> Node:
        place = f"node {index} (`{node.op}`, {node.source})"
        unknown = [id_ for id_ in node.inputs if id_ not in self.values]
        if unknown:
            raise ValueError(f"{place} reads value {unknown[0]}, which is not defined")
        inputs = tuple(self.values[id_] for id_ in node.inputs)
        attrs = {name: self.attr(attr, f"{place}: `{name}`") for name, attr in node.attrs.items()}
        op, attrs = upgraded(self.message.opset, node.op, attrs)
        try:
            facts = infer(op, inputs, attrs)
        except ValueError as fault:
            raise ValueError(f"{place}: {fault}") from fault
        if len(facts) != len(node.outputs):
            raise ValueError(f"{place} has {len(node.outputs)} outputs, expected {len(facts)}")
        for _, shape in facts:
            _check_shape(shape, place)
        outputs = tuple(Value(id_, *fact) for id_, fact in zip(node.outputs, facts, strict=True))
        self.define(outputs, place)
        return Node(op, inputs, outputs, attrs, node.source)

    def attr(self, attr: pb.Attr, place: str) -> Attr:
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
            case "shape":
                return self.shape(attr.shape.dims, place)
            case kind:
                raise ValueError(f"{place} is {kind or 'empty'}, which only the runtime reads")

    def shape(self, dims: Iterable[pb.Dim], place: str) -> Shape:
        shape = Shape(self.dim(dim, place) for dim in dims)
        _check_shape(shape, place)
        return shape

    def dim(self, dim: pb.Dim, place: str) -> Dim:
        symbols, total = self.message.symbols, Dim.of(0)
        if len(dim.terms) > _MOST_TERMS:
            raise ValueError(f"{place} has an extent of {len(dim.terms)} terms")
        for term in dim.terms:
            product = Dim.of(term.coefficient)
            for factor in term.factors:
                if not (factor.symbol < len(symbols) and 1 <= factor.power <= _MOST_POWER):
                    raise ValueError(
                        f"{place} has symbol {factor.symbol} to the power {factor.power}, expected "
                        f"one of the {len(symbols)} symbols and a power from 1 to {_MOST_POWER}"
                    )
                product = product * Dim.symbol(symbols[factor.symbol], factor.power)
            total = total + product
        return total

    def array(self, tensor: pb.Tensor | pb.TestTensor, kind: int, place: str) -> np.ndarray:
        dtype, shape = _dtype(tensor.dtype, place).numpy, tuple(tensor.shape)
        if len(shape) > _MOST_RANK:
            raise ValueError(f"{place} has rank {len(shape)}, expected at most {_MOST_RANK}")
        section = self.sections.get(kind, memoryview(b""))
        size = math.prod(shape) * dtype.itemsize
        if tensor.offset % ALIGN or tensor.offset + size > len(section):
            raise ValueError(
                f"{place} has `offset` {tensor.offset}, expected a multiple of {ALIGN} with "
                f"{size} bytes from there on in a section of {len(section)}"
            )
        if max(shape, default=0) > _MOST_EXTENT:
            raise ValueError(f"{place} has shape {list(shape)}, which no memory holds")
        if not size:
            return np.empty(shape, dtype)
        array = np.frombuffer(section, dtype, math.prod(shape), tensor.offset).reshape(shape)
        if dtype == np.bool_ and array.view(np.uint8).max() > 1:
            raise ValueError(f"{place} holds bytes that are no truth values")
        return array

    def define(self, values: Sequence[Value], place: str) -> None:
        for value in values:
            if value.id in self.values:
                raise ValueError(f"{place} defines value {value.id} a second time")
            self.values[value.id] = value

    def test(self, index: int, test: pb.TestVector, graph: Graph) -> TestVector:
        def arrays(
            tensors: Sequence[pb.TestTensor], ports: Sequence[Port], what: str
        ) -> tuple[np.ndarray, ...]:
            place = f"test vector {index}: {what}"
            found = tuple(self.array(t, META, f"{place} {i}") for i, t in enumerate(tensors))
            got = [(array.dtype, array.ndim) for array in found]
            if got != [(port.value.dtype.numpy, len(port.value.shape)) for port in ports]:
                raise ValueError(f"{place}s have types and ranks {got}, not those of the graph")
            return found

        tolerances = (test.absolute_tolerance, test.relative_tolerance)
        if not all(math.isfinite(tolerance) and tolerance >= 0 for tolerance in tolerances):
            raise ValueError(
                f"test vector {index} has tolerances {tolerances}, expected finite ones from 0 on"
            )
        inputs = arrays(test.inputs, graph.inputs, "input")
        return TestVector(inputs, arrays(test.outputs, graph.outputs, "output"), *tolerances)


def _check_shape(shape: Shape, place: str) -> None:
    if len(shape) > _MOST_RANK:
        raise ValueError(f"{place} has rank {len(shape)}, expected at most {_MOST_RANK}")
    for dim in shape:
        if len(dim.terms) > _MOST_TERMS:
            raise ValueError(f"{place} has an extent of {len(dim.terms)} terms")


def _dtype(number: int, place: str) -> DType:
    try:
        return DType.named(number)
    except ValueError as fault:
        raise ValueError(f"{place}: {fault}") from fault
