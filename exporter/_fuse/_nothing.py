"""What multiplies by ones, or masks nothing."""

from __future__ import annotations

from .._graph import Node
from ._scope import Cone, Scope


def fuse_nothing(scope: Scope, node: Node) -> tuple[Cone, list[Node]] | None:
    """A view in the place of a node that leaves every element as it is."""
    if node.op not in ("and", "dot_general"):
        return None
    numbers = [scope.scalar(value) for value in node.inputs]
    if 1 not in numbers:
        return None
    ones = numbers.index(1)
    x = node.inputs[1 - ones]
    if node.op == "and":
        shape = node.outputs[0].shape
        if x.dtype.name != "bool" or x.shape != shape:
            return None
        attrs = {"new_sizes": shape if shape.constant() is None else shape.constant()}
        return Cone((node,), node.inputs), [scope.node("reshape", [x], attrs, node.source)]
    names = ("lhs", "rhs") if ones else ("rhs", "lhs")
    batch, of_ones = (node.attrs[f"{name}_batch"] for name in names)
    assert isinstance(batch, tuple)
    assert isinstance(of_ones, tuple)
    is_product_of_each = len(of_ones) == len(node.inputs[ones].shape)
    if not is_product_of_each or node.attrs["lhs_contracting"] or x.dtype.name != "f32":
        return None
    order = (*batch, *(axis for axis in range(len(x.shape)) if axis not in batch))
    moved = scope.node("transpose", [x], {"permutation": order}, node.source)
    return Cone((node,), node.inputs), [moved]
