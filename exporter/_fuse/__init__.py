"""Several nodes that are one op: batch norm in a convolution, softmax, attention and the like.

Each fusion has a file. It looks at one node, the heart of what it knows, and returns the nodes that
are to become others. What computes functions of numbers is recognized by the numbers: the nodes are
evaluated in float64 (`_evaluate.py`) and compared with the op, so that it does not matter how a
library writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from .._graph import Graph, Node, Region, Tensor, Value, needed, region_of
from .._lower import Shared
from ._activation import fuse_activation
from ._affine import fuse_affine
from ._attention import fuse_attention
from ._coded import fuse_coded
from ._normalization import FuseNormalization
from ._product import fuse_product
from ._scope import Cone, Scope, described
from ._softmax import FuseSoftmax
from ._views import drop_views, fuse_views

Fusion = Callable[[Scope, Node], tuple[Cone, list[Node]] | None]


def fused(graph: Graph, shared: Shared) -> Graph:
    """The graph with fewer nodes that computes the same; equal new constants are one array."""
    # In this order: what a later one looks for, an earlier one made.
    fusions: list[Fusion] = [
        fuse_coded,
        fuse_views,
        fuse_affine,
        fuse_activation,
        FuseSoftmax(),
        FuseNormalization(),
        fuse_attention,
        fuse_product,
    ]
    return rewritten(graph, shared, lambda scope: _run(scope, fusions))


def rewritten(graph: Graph, shared: Shared, change: Callable[[Scope], None]) -> Graph:
    """The graph after `change` of its scope and of that of each region, the inner ones first."""
    constants = {tensor.value.id: tensor for tensor in graph.tensors}
    results = [port.value for port in graph.outputs]
    results += [state.after for state in graph.states]
    scope = Scope(graph.nodes, results, constants, shared)
    scope.reserve(port.value for port in graph.inputs)
    scope.reserve(state.before for state in graph.states)
    _change(scope, change)
    tensors = (*graph.tensors, *scope.tensors)
    graph = replace(graph, tensors=tensors, nodes=tuple(scope.nodes())).without_dead()
    graph.validate()
    return graph


def _change(scope: Scope, change: Callable[[Scope], None]) -> None:
    for node in scope.nodes():
        if node.regions:
            attrs = {
                name: _region(attr, scope, change) if isinstance(attr, Region) else attr
                for name, attr in node.attrs.items()
            }
            scope.replace(Cone((node,), ()), [replace(node, attrs=attrs)])
    change(scope)


def _run(scope: Scope, fusions: list[Fusion]) -> None:
    for node in scope.nodes():
        drop_views(scope, node)
    for fusion in fusions:
        for node in scope.nodes():
            if scope.producer(node.outputs[0]) is not node:
                continue  # it is part of another one by now
            found = fusion(scope, node)
            if found is not None:
                cone, made = found
                scope.replace(cone, _finished(cone, made))


def _finished(cone: Cone, made: list[Node]) -> list[Node]:
    """The new nodes: the last has the results of those before, the new op says what it is of."""
    own = {"broadcast_in_dim", "reshape", "transpose"}
    others = [i for i, node in enumerate(made) if node.op not in own]
    main = others[-1] if others else len(made) - 1
    if made[main].op == "add":  # of a product and its summand, the product
        main = others[0]
    nodes = list(made)
    nodes[main] = replace(nodes[main], fused=described(cone.nodes))
    nodes[-1] = replace(nodes[-1], outputs=cone.nodes[-1].outputs)
    return nodes


def _region(region: Region, around: Scope, change: Callable[[Scope], None]) -> Region:
    """The region with fewer nodes, whose new constants are those of the scope around it."""
    own = [_own(region, index) for index in range(len(region.captures))]
    constants: dict[int, Tensor] = {}
    for value, outer in zip(own, region.captures, strict=True):
        tensor = around.tensor_of(outer)
        if tensor is not None:
            constants[value.id] = tensor
    scope = Scope(region.nodes, region.outputs, constants, around.shared, around)
    scope.reserve([*own, *region.inputs])
    _change(scope, change)
    captures: Mapping[Value, Value] = {
        **dict(zip(own, region.captures, strict=True)),
        **scope.captures,
    }
    nodes, live = needed(scope.nodes(), region.outputs)
    kept = {value: outer for value, outer in captures.items() if value.id in live}
    return region_of(kept, region.inputs, nodes, region.outputs)


def _own(region: Region, index: int) -> Value:
    """What a capture is called in the region."""
    return replace(region.captures[index], id=index)
