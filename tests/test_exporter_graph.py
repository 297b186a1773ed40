"""Laws of the graph, each broken once."""

import dataclasses

import numpy as np
import pytest

from exporter._dim import Dim, Shape
from exporter._graph import DTYPES, DType, Graph, Node, Port, Role, Tensor, Value
from lumina_jax import _lumina

F32, U32 = DType.named("f32"), DType.named("u32")
N = Dim.symbol("n")
X = Value(0, F32, Shape.of([N, 2]))
ONE = Value(1, F32, Shape.of([2]))
Y = Value(2, F32, Shape.of([N, 2]))
TENSOR = Tensor(ONE, "one", np.ones(2, np.float32))
ADD = Node("add", (X, ONE), (Y,), source="a.py:1 (f)")
GRAPH = Graph((Port(X, "x"),), (TENSOR,), (ADD,), (Port(Y, "y"),))


def test_a_valid_graph() -> None:
    GRAPH.validate()
    assert GRAPH.symbols() == ["n"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": (ADD, ADD)}, r"node `add` \(a.py:1 \(f\)\) defines value 2 a second time"),
        ({"tensors": ()}, r"node `add` .* reads value 1 \(f32\[2\]\), which is not defined"),
        ({"nodes": ()}, r"output `y` reads value 2 \(f32\[n, 2\]\), which is not defined"),
        (
            {"tensors": (Tensor(ONE, "one", np.ones(3, np.float32)),)},
            r"tensor `one` holds float32\[3\], expected f32\[2\]",
        ),
        (
            {"tensors": (TENSOR, Tensor(dataclasses.replace(ONE, id=9), "", TENSOR.data))},
            r"value ids are not dense: 4 values, ids \[0, 1, 2, 9\]",
        ),
        (
            {
                "nodes": (dataclasses.replace(ADD, attrs={"shape": Shape.of([Dim.symbol("m")])}),),
            },
            "uses the symbol `m`, which no input has",
        ),
        (
            {
                "inputs": (
                    Port(X, "x"),
                    *(Port(Value(i, U32, Shape.of([2])), f"k{i}", Role.NOISE_SEED) for i in (3, 4)),
                ),
            },
            "more than one input is the noise seed: k3, k4",
        ),
    ],
)
def test_broken_graphs(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(GRAPH, **change).validate()


@pytest.mark.parametrize("extent", [N * N, N * Dim.symbol("m")])
def test_a_symbol_that_no_extent_determines(extent: Dim) -> None:
    x = Value(0, F32, Shape((extent,)))
    with pytest.raises(ValueError, match="no input has an extent that determines the symbol"):
        Graph((Port(x, "x"),), (), (), (Port(x, "y"),)).validate()


def test_a_linear_extent_determines_its_symbol() -> None:
    x = Value(0, F32, Shape((N * 2 + 1,)))
    Graph((Port(x, "x"),), (), (), (Port(x, "y"),)).validate()


def test_dead_nodes_and_tensors_go_and_ids_close_up() -> None:
    dead = Node("neg", (X,), (Value(3, F32, X.shape),))
    unused = Tensor(Value(4, F32, Shape()), "", np.float32(1).reshape(()))
    graph = Graph(GRAPH.inputs, (unused, TENSOR), (dead, ADD), GRAPH.outputs).without_dead()
    assert [node.op for node in graph.nodes] == ["add"]
    assert [tensor.name for tensor in graph.tensors] == ["one"]
    graph.validate()


def test_element_types_are_those_of_the_rust_module() -> None:
    assert len(DTYPES) == len(_lumina.dtypes()) > 0
    for dtype in DTYPES:
        assert DType.of(dtype.numpy) is DType.named(dtype.name) is DType.named(dtype.number)
    assert DType.of(np.dtype("float8_e5m2")) is None
    with pytest.raises(ValueError, match="there is no element type 'f8'"):
        DType.named("f8")
