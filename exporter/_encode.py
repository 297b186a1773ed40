"""A graph as the sections of a `.lmn` file: a protobuf message, and raw bytes beside it."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from . import _lmn_pb2 as pb
from ._container import GRAPH, META, WEIGHTS, Section
from ._device import Device
from ._device_messages import device_fields, execution_of
from ._dim import Derived, Dim, Shape, Symbol
from ._errors import SaveError
from ._graph import (
    Attr,
    DType,
    Graph,
    Node,
    Port,
    Region,
    Role,
    State,
    Tensor,
    TestVector,
    constants_of,
    every_node,
)
from ._upgrade import written

OPSET = 6
"""The newest op set."""

GRAPH_LIMIT = 64 << 20
TEXT_LIMIT = 4096
SYMBOL_LIMIT = 64

KINDS = {
    "floordiv": pb.DerivedSymbol.FLOOR_DIVISION,
    "max": pb.DerivedSymbol.MAXIMUM,
}
ROLES = {Role.PLAIN: pb.PLAIN, Role.NOISE_SEED: pb.NOISE_SEED}


def encode(
    graphs: Sequence[Graph],
    tests: Sequence[TestVector],
    producer: str,
    device: Device | None = None,
) -> dict[int, Section]:
    """The sections of the file by kind, with an entry point for each graph.

    Raises SaveError where a graph, or a text in it, is larger than a reader takes.
    """
    sections = {kind: Section() for kind in (GRAPH, WEIGHTS, META)}
    tensors, graphs = _shared(graphs)
    opset = max(map(_opset, graphs))
    if len(graphs) > 1:
        opset = max(opset, 6)
    first, *further = (_entry(graph, opset) for graph in graphs)
    message = pb.Graph(
        producer=producer,
        opset=opset,
        tensors=[_tensor(tensor, sections[WEIGHTS]) for tensor in tensors],
        tests=[_test(test, sections[META]) for test in tests],
        entries=[pb.Entry(**fields) for fields in further],
        **first,
        **device_fields(device),
    )
    _check_texts(message, tensors, graphs)
    data = message.SerializeToString(deterministic=True)
    if len(data) > GRAPH_LIMIT:
        raise SaveError(
            errno.EFBIG,
            f"the graph takes {len(data)} bytes in the file, expected at most {GRAPH_LIMIT}; "
            "export fewer unrolled steps",
        )
    sections[GRAPH].add(data)
    return sections


def _shared(graphs: Sequence[Graph]) -> tuple[Sequence[Tensor], Sequence[Graph]]:
    """The constants of all graphs, each once, and the graphs, in which they have the same ids."""
    if len(graphs) == 1:
        return graphs[0].tensors, graphs
    tensors = constants_of(graphs)
    places = {key: place for place, key in enumerate(tensors)}
    numbered = [
        replace(tensor, value=replace(tensor.value, id=places[key]))
        for key, tensor in tensors.items()
    ]
    ids = ({tensor.value.id: places[tensor.key] for tensor in graph.tensors} for graph in graphs)
    return numbered, [g.numbered(own, len(tensors)) for g, own in zip(graphs, ids, strict=True)]


def _entry(graph: Graph, opset: int) -> dict[str, Any]:
    """The fields of the messages Graph and Entry that say what an entry point is."""
    names, derived = graph.symbols(), graph.derived()
    symbols: dict[Symbol, int] = {symbol: i for i, symbol in enumerate((*names, *derived))}
    return {
        "name": graph.name,
        "symbols": names,
        "derived": [_derived(symbol, symbols) for symbol in derived],
        "inputs": [_port(port, symbols) for port in graph.inputs],
        "states": [_state(state) for state in graph.states],
        "nodes": [_node(node, opset, symbols) for node in graph.nodes],
        "outputs": [_port(port, symbols) for port in graph.outputs],
    }


def _state(state: State) -> pb.State:
    return pb.State(
        name=state.name,
        id=state.before.id,
        dtype=state.before.dtype.number,
        shape=state.before.shape.evaluate({}),
        next=None if state.after == state.before else state.after.id,
        initial=None if state.initial is None else state.initial.id,
    )


def _check_texts(message: pb.Graph, tensors: Sequence[Tensor], graphs: Sequence[Graph]) -> None:
    symbols = (symbol for entry in (message, *message.entries) for symbol in entry.symbols)
    texts = [("a symbol", symbol, SYMBOL_LIMIT) for symbol in symbols]
    for what, names in (
        ("an input", (port.name for graph in graphs for port in graph.inputs)),
        ("an output", (port.name for graph in graphs for port in graph.outputs)),
        ("a state", (state.name for graph in graphs for state in graph.states)),
        ("an entry point", (graph.name for graph in graphs)),
        ("a weight", (tensor.name for tensor in tensors)),
    ):
        texts += [(f"the name of {what}", name, TEXT_LIMIT) for name in names]
    nodes = [node for graph in graphs for node in every_node(graph.nodes)]
    sources = (text for node in nodes for text in (node.source, *node.fused))
    texts += [("the source of a node", source, TEXT_LIMIT) for source in sources]
    layers = (product.layer for node in nodes for product in node.execution)
    texts += [("the name of a layer", layer, TEXT_LIMIT) for layer in layers]
    texts.append(("the name of a device", message.device.name, TEXT_LIMIT))
    for what, text, limit in texts:
        size = len(text.encode())
        if size > limit:
            raise SaveError(
                errno.ENAMETOOLONG,
                f"{what} has {size} bytes, expected at most {limit}, got `{text[:SYMBOL_LIMIT]}...`"
                "; give it a shorter one",
            )


def _opset(graph: Graph) -> int:
    """The oldest op set that says what `graph` does, so that older runtimes read what they can."""
    oldest = 6 if graph.states else 5 if graph.derived() else 1
    return max(oldest, *map(_opset_of, every_node(graph.nodes)), 1)


def _opset_of(node: Node) -> int:
    if node.attrs.get("array_rows"):
        return 4
    match node.op:
        case "optical_matmul_fwd":
            return 3
        case "optical_matmul":
            # Op set 3 has full scales of x and w that are left to the op.
            left = any(value.shape == Shape.of([0]) for value in node.inputs[3:5])
            return 3 if left else 2
        case _:
            return 1


def _port(port: Port, symbols: Mapping[Symbol, int]) -> pb.Value:
    value = port.value
    return pb.Value(
        id=value.id,
        name=port.name,
        dtype=value.dtype.number,
        shape=_dims(value.shape, symbols),
        role=ROLES[port.role],
    )


def _tensor(tensor: Tensor, weights: Section) -> pb.Tensor:
    return pb.Tensor(
        id=tensor.value.id,
        name=tensor.name,
        dtype=tensor.value.dtype.number,
        shape=tensor.data.shape,
        offset=weights.add(tensor.data),
    )


def _node(node: Node, opset: int, symbols: Mapping[Symbol, int]) -> pb.Node:
    attrs = written(opset, node.op, node.attrs)
    return pb.Node(
        op=node.op,
        inputs=[value.id for value in node.inputs],
        outputs=[value.id for value in node.outputs],
        attrs={name: _attr(attrs[name], opset, symbols) for name in sorted(attrs)},
        source=node.source,
        fused=node.fused,
        execution=execution_of(node.execution, lambda dim: _dim(dim, symbols)),
    )


def _attr(attr: Attr, opset: int, symbols: Mapping[Symbol, int]) -> pb.Attr:
    match attr:
        case bool():
            return pb.Attr(flag=attr)
        case int():
            return pb.Attr(integer=attr)
        case float():
            return pb.Attr(number=attr)
        case str():
            return pb.Attr(text=attr)
        case Shape():
            return pb.Attr(shape=pb.Shape(dims=_dims(attr, symbols)))
        case tuple():
            return pb.Attr(integers=pb.Integers(values=attr))
        case Region():
            return pb.Attr(region=_region(attr, opset, symbols))
        case _:
            raise TypeError(
                f"an attribute is a {type(attr).__name__}, expected a bool, an int, a float, a "
                "str, a tuple of ints, a Shape or a Region"
            )


def _region(region: Region, opset: int, symbols: Mapping[Symbol, int]) -> pb.Region:
    return pb.Region(
        captures=[value.id for value in region.captures],
        inputs=len(region.inputs),
        nodes=[_node(node, opset, symbols) for node in region.nodes],
        outputs=[value.id for value in region.outputs],
    )


def _dims(shape: Shape, symbols: Mapping[Symbol, int]) -> list[pb.Dim]:
    return [_dim(dim, symbols) for dim in shape]


def _dim(dim: Dim, symbols: Mapping[Symbol, int]) -> pb.Dim:
    return pb.Dim(
        terms=[
            pb.Term(
                coefficient=coefficient,
                factors=[
                    pb.Factor(symbol=symbols[symbol], power=power) for symbol, power in monomial
                ],
            )
            for monomial, coefficient in dim.terms
        ]
    )


def _derived(symbol: Derived, symbols: Mapping[Symbol, int]) -> pb.DerivedSymbol:
    return pb.DerivedSymbol(
        kind=KINDS[symbol.kind],
        left=_dim(symbol.left, symbols),
        right=_dim(symbol.right, symbols),
    )


def _test(test: TestVector, meta: Section) -> pb.TestVector:
    def tensors(arrays: Sequence[np.ndarray]) -> list[pb.TestTensor]:
        return [
            pb.TestTensor(dtype=_dtype(array), shape=array.shape, offset=meta.add(array))
            for array in arrays
        ]

    return pb.TestVector(
        inputs=tensors(test.inputs),
        outputs=tensors(test.outputs),
        absolute_tolerance=test.absolute_tolerance,
        relative_tolerance=test.relative_tolerance,
        entry=test.entry,
        continues=test.continues,
    )


def _dtype(array: np.ndarray) -> int:
    dtype = DType.of(array.dtype)
    assert dtype is not None, f"a test vector holds {array.dtype}"
    return dtype.number
