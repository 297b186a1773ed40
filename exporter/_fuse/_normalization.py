"""Layer, RMS, group and instance norm: what is divided by its deviation along some axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .._dim import Shape
from .._graph import Node, Value
from ._evaluate import ELEMENTWISE, NotKnownError, evaluate, extents, is_equal, signature
from ._scope import Cone, Scope, extents_of, integers

_INNER = {*ELEMENTWISE, "broadcast_in_dim", "reshape", "squeeze", "transpose", "integer_pow"}
_STEPS = 10


@dataclass(frozen=True)
class _Form:
    """A normalization that some nodes may be."""

    x: Value
    rows: Value
    """x in the shape in which it is normalized."""
    axes: tuple[int, ...]
    epsilon: float
    center: bool
    others: tuple[Value, ...]
    """Scale, and bias."""


class FuseNormalization:
    """Finds normalizations at their root."""

    def __init__(self) -> None:
        self._proven: dict[object, bool] = {}

    def __call__(self, scope: Scope, node: Node) -> tuple[Cone, list[Node]] | None:
        if node.op not in ("rsqrt", "sqrt") or node.outputs[0].dtype.name != "f32":
            return None
        epsilon = _epsilon(scope, node)
        if epsilon is None:
            return None
        ends = _ends(scope, node)
        for x, rows, axes in _origins(scope, node):
            for last in reversed(ends):
                if last.outputs[0].shape != x.shape:
                    continue
                cone = scope.cone([x], last)
                if cone is None or not scope.is_private(cone):
                    continue
                others = tuple(v for v in cone.others if scope.scalar(v) is None)
                if len(others) > 2 or not all(_fits(v.shape, x.shape) for v in others):
                    continue
                for form in _forms(x, rows, axes, epsilon, others):
                    made = self._made(scope, cone, form)
                    if made is not None:
                        return cone, made
        return None

    def _made(self, scope: Scope, cone: Cone, form: _Form) -> list[Node] | None:
        """The nodes of that form, if it is what the cone computes and can be written."""
        order = tuple(cone.others.index(value) for value in form.others)
        key = signature(scope, cone, (form.axes, form.epsilon, form.center, order))
        if key not in self._proven:
            self._proven[key] = _agree(scope, cone, form)
        return _written(scope, cone.nodes[-1], form) if self._proven[key] else None


def _ends(scope: Scope, root: Node) -> list[Node]:
    """The nodes behind the root that it may end at, the nearest first."""
    waiting, found = [root], []
    for node in waiting:
        for after in scope.readers(node.outputs[0]):
            is_new = all(other is not after for other in found)
            if is_new and after.op in _INNER and len(found) < 2 * _STEPS:
                found.append(after)
                waiting.append(after)
    return found


def _fits(shape: Shape, whole: Shape) -> bool:
    """Whether it is that of `whole` but for extents of 1."""
    one = Shape.of([1])[0]
    return len(shape) == len(whole) and all(
        a in (one, b) for a, b in zip(shape, whole, strict=True)
    )


def _epsilon(scope: Scope, root: Node) -> float | None:
    """What is added to the variance."""
    node = scope.producer(root.inputs[0])
    while node is not None and node.op in ("broadcast_in_dim", "reshape", "squeeze"):
        node = scope.producer(node.inputs[0])
    if node is None or node.op != "add":
        return None
    found = [scope.scalar(value) for value in node.inputs]
    return next((number for number in found if number is not None), None)


def _origins(scope: Scope, root: Node) -> Iterator[tuple[Value, Value, tuple[int, ...]]]:
    """What may be normalized, in its own shape and in that of the sums, and along which axes."""
    waiting, seen = [root.inputs[0]], set()
    for value in waiting:
        node = scope.producer(value)
        if node is None or value.id in seen or len(seen) > 2 * _STEPS:
            continue
        seen.add(value.id)
        if node.op != "reduce_sum":
            if node.op in _INNER:
                waiting += node.inputs
            continue
        axes = integers(node, "axes")
        square = scope.producer(node.inputs[0])
        if square is None:
            continue
        is_square = square.op in ("square", "integer_pow", "mul", "pow")
        deviation = square.inputs[0] if is_square else node.inputs[0]
        difference = scope.producer(deviation)
        candidates = [deviation]
        if difference is not None and difference.op in ("sub", "add", "abs"):
            candidates.insert(0, difference.inputs[0])
        for rows in candidates:
            yield rows, rows, axes
            reshape = scope.producer(rows)
            if reshape is not None and reshape.op == "reshape":
                yield reshape.inputs[0], rows, axes


def _forms(
    x: Value, rows: Value, axes: tuple[int, ...], epsilon: float, others: Sequence[Value]
) -> Iterator[_Form]:
    for center in (True, False):
        for order in (tuple(others), tuple(others[::-1]))[: max(1, len(others))]:
            yield _Form(x, rows, axes, epsilon, center, order)


def _agree(scope: Scope, cone: Cone, form: _Form) -> bool:
    """Whether the nodes compute it, of numbers beside which epsilon is small, and is not."""
    rng = np.random.default_rng(0)
    try:
        for deviation, mean in ((1.0, 0.5), (np.sqrt(abs(form.epsilon)) + 1e-12, 0.0)):
            x = rng.normal(size=extents(form.x.shape)) * deviation + mean
            values = {v.id: rng.normal(size=extents(v.shape)) + 1 for v in form.others}
            for value in cone.others:
                number = scope.scalar(value)
                if number is not None:
                    values[value.id] = np.full(extents(value.shape), number)
            got = evaluate(cone.nodes, {**values, form.x.id: x})
            want = normalized(x.reshape(extents(form.rows.shape)), form).reshape(x.shape)
            for value, operation in zip(form.others, (np.multiply, np.add), strict=False):
                want = operation(want, values[value.id])
            if not is_equal(got, want):
                return False
    except NotKnownError:
        return False
    return True


def normalized(x: np.ndarray, form: _Form) -> np.ndarray:
    """`(x - mean) / √(variance + epsilon)`, along the axes of the form."""
    x = x - (x.mean(form.axes, keepdims=True) if form.center else 0)
    return x / np.sqrt((x**2).mean(form.axes, keepdims=True) + form.epsilon)


def _written(scope: Scope, last: Node, form: _Form) -> list[Node] | None:
    attrs = {"axes": form.axes, "epsilon": form.epsilon, "center": form.center}
    is_regrouped = form.rows is not form.x
    into, others = [], []
    for value in form.others:
        if value.shape == form.x.shape and not is_regrouped:
            others.append(value)
            continue
        narrow, dims = scope.narrow(value)
        shape = form.rows.shape
        if is_regrouped:
            nodes = _of_groups(scope, narrow, dims, form, last.source)
            if nodes is None:
                return None
            into += nodes
            narrow, dims = nodes[-1].outputs[0], (len(shape) - 2, len(shape) - 1)
        repeat = {"shape": extents_of(shape), "broadcast_dimensions": dims}
        into.append(scope.node("broadcast_in_dim", [narrow], repeat, last.source))
        others.append(into[-1].outputs[0])
    made = [*into, scope.node("normalization", [form.rows, *others], attrs, last.source)]
    if is_regrouped:
        back = {"new_sizes": extents_of(form.x.shape)}
        made.append(scope.node("reshape", made[-1].outputs, back, last.source))
    return made


def _of_groups(
    scope: Scope, narrow: Value, dims: tuple[int, ...], form: _Form, source: str
) -> list[Node] | None:
    """What there is one of for each channel, by group and by channel of a group."""
    one, rank = Shape.of([1])[0], len(form.x.shape)
    groups = Shape(form.rows.shape[-2:])
    wide = [axis for axis, extent in zip(dims, narrow.shape, strict=True) if extent != one]
    is_of_channels = wide == [rank - 1] and len(form.rows.shape) == rank + 1
    if not is_of_channels or groups[0] * groups[1] != form.x.shape[-1]:
        return None
    return [scope.node("reshape", [narrow], {"new_sizes": extents_of(groups)}, source)]
