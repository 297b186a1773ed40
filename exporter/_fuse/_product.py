"""Products, and what is done with their results."""

from __future__ import annotations

from .._graph import Node, Value
from ._scope import Cone, Scope, chain, extents_of, integers

_PRODUCTS = ("conv_general_dilated", "dot_general")
_MOST_ADDED = 4


def output_axis(node: Node) -> tuple[int, int] | None:
    """The axis of the outputs in the result of a product, and in its second operand."""
    if node.op not in _PRODUCTS or node.outputs[0].dtype.name != "f32":
        return None
    if node.op == "dot_general":
        bound = (*integers(node, "rhs_contracting"), *integers(node, "rhs_batch"))
        free = [axis for axis in range(len(node.inputs[1].shape)) if axis not in bound]
        is_plain = len(free) == 1 and not integers(node, "rhs_batch")
        return (len(node.outputs[0].shape) - 1, free[0]) if is_plain else None
    if node.attrs["batch_group_count"] != 1:
        return None
    return integers(node, "out_spec")[1], integers(node, "rhs_spec")[0]


def fuse_product(scope: Scope, node: Node) -> tuple[Cone, list[Node]] | None:
    """The product `node` with what is added to it, and its activation."""
    if node.op not in _PRODUCTS or node.outputs[0].dtype.name != "f32":
        return None
    nodes, added, activation = [node], list[Value](), "none"
    made: list[Node] = []
    shape = node.outputs[0].shape
    for after in chain(scope, node, _MOST_ADDED + 1):
        value = nodes[-1].outputs[0]
        if after.outputs[0].shape != shape or after.outputs[0].dtype.name != "f32":
            break
        other = next((v for v in after.inputs if v.id != value.id), None)
        if after.op == "add" and other is not None and len(added) < _MOST_ADDED:
            if other.shape != shape:
                attrs = {"shape": extents_of(shape), "broadcast_dimensions": ()}
                made.append(scope.node("broadcast_in_dim", [other], attrs, after.source))
                other = made[-1].outputs[0]
            added.append(other)
            nodes.append(after)
            continue
        known = _activation(scope, after, other)
        if known is not None:
            activation = known
            nodes.append(after)
        break
    if len(nodes) == 1:
        return None
    attrs = {**node.attrs, "activation": activation}
    made.append(scope.node(f"fused_{node.op}", [*node.inputs, *added], attrs, node.source))
    return Cone(tuple(nodes), (*node.inputs, *added)), made


def _activation(scope: Scope, node: Node, other: Value | None) -> str | None:
    match node.op:
        case "max" if other is not None and scope.scalar(other) == 0:
            return "relu"
        case "gelu":
            return "gelu_tanh" if node.attrs["approximate"] else "gelu"
        case "silu" if node.attrs["beta"] == 1:
            return "silu"
        case "logistic":
            return "logistic"
    return None
