"""Views of weights that are codes: those of another order are codes in the same words."""

from __future__ import annotations

import math

from .._graph import Attr, Node
from ._scope import Cone, Scope, integers

_SHAPES = ("expand_dims", "reshape", "squeeze")


def fuse_coded(scope: Scope, node: Node) -> tuple[Cone, list[Node]] | None:
    """The weight that `node` gives another shape, or of which it exchanges rows and columns."""
    source = scope.producer(node.inputs[0]) if len(node.inputs) == 1 else None
    shape = node.outputs[0].shape.constant()
    if source is None or source.op != "dequantize" or shape is None:
        return None
    if node.op == "transpose":
        if not _exchanges(source, integers(node, "permutation")):
            return None
        changed: dict[str, Attr] = {"transpose": not source.attrs["transpose"]}
    elif node.op in _SHAPES:
        changed = {}
    else:
        return None
    attrs = {**source.attrs, **changed, "shape": shape}
    return Cone((node,), node.inputs), [scope.node("dequantize", source.inputs, attrs, node.source)]


def _exchanges(source: Node, order: tuple[int, ...]) -> bool:
    """Whether the axes of the columns of its matrix change places with those of the rows."""
    extents = integers(source, "shape")
    columns = source.inputs[0].shape.constant()
    assert columns is not None
    for split in range(1, len(extents)):
        ends = (extents[:split], extents[split:])
        of_columns = ends[0] if source.attrs["transpose"] else ends[1]
        if order == (*range(split, len(extents)), *range(split)):
            return math.prod(of_columns) == columns[1]
    return False
