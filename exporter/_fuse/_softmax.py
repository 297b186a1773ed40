"""Softmax along one axis."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .._dim import Shape
from .._graph import Node, Value
from ._evaluate import NotKnownError, evaluate, extents, is_equal, signature
from ._scope import Cone, Scope, chain, integers


class FuseSoftmax:
    """Finds softmax at its exponential."""

    def __init__(self) -> None:
        self._proven: dict[object, bool] = {}

    def __call__(self, scope: Scope, node: Node) -> tuple[Cone, list[Node]] | None:
        if node.op != "exp" or node.outputs[0].dtype.name != "f32":
            return None
        for reader in scope.readers(node.outputs[0]):
            if reader.op != "reduce_sum":
                continue
            axes = integers(reader, "axes")
            if len(axes) != 1:
                continue
            for last in _ends(scope, node, reader):
                for x, rows, order in _origins(scope, node):
                    cone = scope.cone([x], last)
                    if cone is not None and self._is_softmax(scope, cone, x, order, axes[0]):
                        attrs = {"axis": axes[0]}
                        return cone, [scope.node("softmax", [rows], attrs, last.source)]
        return None

    def _is_softmax(
        self, scope: Scope, cone: Cone, x: Value, order: tuple[int, ...], axis: int
    ) -> bool:
        result = cone.nodes[-1].outputs[0]
        shape = Shape(x.shape[i] for i in order)
        if (result.dtype, result.shape) != (x.dtype, shape) or not scope.is_private(cone):
            return False
        if any(scope.scalar(value) is None for value in cone.others):
            return False
        key = signature(scope, cone, (order, axis))
        if key not in self._proven:
            self._proven[key] = _agree(scope, cone, x, order, axis)
        return self._proven[key]


def _ends(scope: Scope, exponential: Node, total: Node) -> Iterator[Node]:
    """Where exponentials meet their sum."""
    for after in chain(scope, total, 6):
        if after.op in ("div", "mul") and any(
            value.id == exponential.outputs[0].id for value in after.inputs
        ):
            yield after


def _origins(scope: Scope, node: Node) -> Iterator[tuple[Value, Value, tuple[int, ...]]]:
    """What it may be the softmax of: the operand, or what that is less its maximum.

    A value, the same in the order of axes in which softmax is taken, and that order.
    """
    operand = node.inputs[0]
    order = tuple(range(len(operand.shape)))
    difference = scope.producer(operand)
    if difference is not None and difference.op == "sub":
        rows = difference.inputs[0]
        yield rows, rows, order
        moved = scope.producer(rows)
        if moved is not None and moved.op == "transpose":
            yield moved.inputs[0], rows, integers(moved, "permutation")
    yield operand, operand, order


def _agree(scope: Scope, cone: Cone, x: Value, order: tuple[int, ...], axis: int) -> bool:
    """Whether the nodes compute softmax, of rows with infinities too."""
    rng = np.random.default_rng(0)
    try:
        numbers = rng.normal(size=extents(x.shape)) * 3
        values = {v.id: np.full(extents(v.shape), scope.scalar(v)) for v in cone.others}
        # Views of the same numbers, of which one is -inf, and the last row altogether.
        rows = np.moveaxis(numbers.transpose(order), axis, -1)
        if rows.size and rows.shape[-1] > 1 and rows.ndim > 1:
            rows[(0,) * rows.ndim] = -np.inf
            rows[(-1,) * (rows.ndim - 1)] = -np.inf
        got = evaluate(cone.nodes, {**values, x.id: numbers})
    except NotKnownError:
        return False
    with np.errstate(all="ignore"):
        e = np.exp(rows - rows.max(-1, keepdims=True))
        return is_equal(got, np.moveaxis(e / e.sum(-1, keepdims=True), -1, axis))
