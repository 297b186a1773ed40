"""Nodes that change nothing, or no more than the order of axes."""

from __future__ import annotations

from .._graph import Attr, Node, Value
from ._scope import Cone, Scope, extents_of, integers

_UNIT = ("reshape", "squeeze", "broadcast_in_dim")


def fuse_views(scope: Scope, node: Node) -> tuple[Cone, list[Node]] | None:
    """A view for a node that leaves all elements as they are, or one product for two nodes."""
    match node.op:
        case "and":
            return _of_truth(scope, node)
        case "dot_general":
            return _of_ones(scope, node) or _swapped(scope, node)
    return None


def drop_views(scope: Scope, node: Node) -> None:
    """Lets those that read a value in the shape that it had before read it as it was before.

    As Equinox has an axis of extent 1 around a convolution, which `vmap` moves about.
    """
    if node.op not in _UNIT:
        return
    value: Value = node.inputs[0]
    result = node.outputs[0]
    while node is not None and node.op in _UNIT and _keeps_all(node):
        value = node.inputs[0]
        if (value.shape, value.dtype) == (result.shape, result.dtype):
            scope.redirect(result, value)
            return
        producer = scope.producer(value)
        if producer is None:
            return
        node = producer


def _keeps_all(node: Node) -> bool:
    """Whether the result has the elements of the operand, in their order."""
    if node.op != "broadcast_in_dim":
        return True
    one = [extent for extent in node.inputs[0].shape if extent.constant() != 1]
    dims = integers(node, "broadcast_dimensions")
    is_in_order = list(dims) == sorted(dims)
    return is_in_order and one == [e for e in node.outputs[0].shape if e.constant() != 1]


def _of_truth(scope: Scope, node: Node) -> tuple[Cone, list[Node]] | None:
    """What is masked by a mask of which all is true."""
    numbers = [scope.scalar(value) for value in node.inputs]
    if 1 not in numbers:
        return None
    x = node.inputs[1 - numbers.index(1)]
    shape = node.outputs[0].shape
    if x.dtype.name != "bool" or x.shape != shape:
        return None
    attrs: dict[str, Attr] = {"new_sizes": extents_of(shape)}
    return Cone((node,), node.inputs), [scope.node("reshape", [x], attrs, node.source)]


def _of_ones(scope: Scope, node: Node) -> tuple[Cone, list[Node]] | None:
    """A product of each element and 1."""
    numbers = [scope.scalar(value) for value in node.inputs]
    if 1 not in numbers:
        return None
    ones = numbers.index(1)
    x = node.inputs[1 - ones]
    names = ("lhs", "rhs") if ones else ("rhs", "lhs")
    batch, of_ones = (integers(node, f"{name}_batch") for name in names)
    is_of_each = len(of_ones) == len(node.inputs[ones].shape)
    if not is_of_each or node.attrs["lhs_contracting"] or x.dtype.name != "f32":
        return None
    order = (*batch, *(axis for axis in range(len(x.shape)) if axis not in batch))
    moved = scope.node("transpose", [x], {"permutation": order}, node.source)
    return Cone((node,), node.inputs), [moved]


def _swapped(scope: Scope, node: Node) -> tuple[Cone, list[Node]] | None:
    """A product whose rows and columns are exchanged then: that of the operands exchanged."""
    after = scope.only_reader(node.outputs[0])
    if after is None or after.op != "transpose":
        return None
    batch, rank = len(integers(node, "lhs_batch")), len(node.outputs[0].shape)
    rows = len(node.inputs[0].shape) - batch - len(integers(node, "lhs_contracting"))
    order = (*range(batch), *range(batch + rows, rank), *range(batch, batch + rows))
    if integers(after, "permutation") != order:
        return None
    attrs: dict[str, Attr] = {
        f"{to}_{name}": node.attrs[f"{of}_{name}"]
        for to, of in (("lhs", "rhs"), ("rhs", "lhs"))
        for name in ("contracting", "batch")
    }
    product = scope.node("dot_general", node.inputs[::-1], attrs, node.source)
    return Cone((node, after), node.inputs), [product]
