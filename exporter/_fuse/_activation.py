"""gelu and silu, however they are written: what computes the same numbers of one value is one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .._graph import Attr, Node, Value
from ._evaluate import ELEMENTWISE, NotKnownError, evaluate, is_equal
from ._scope import Cone, Scope, chain

_ANCHORS = {"erf", "erfc", "exp", "logistic", "tanh"}
_INNER = {*ELEMENTWISE, "broadcast_in_dim", "integer_pow"}
_STEPS = 6
"""Nodes before and behind the function that makes an activation what it is."""

# Small and large ones, of both signs, and few that two functions could agree on by chance.
_POINTS = np.concatenate([np.linspace(-9, 9, 181), [-1e-4, 1e-3, -30, 30]])


def fuse_activation(scope: Scope, node: Node) -> tuple[Cone, list[Node]] | None:
    """The activation that `node`, an elementary function, is the heart of."""
    if node.op not in _ANCHORS or node.outputs[0].dtype.name != "f32":
        return None
    for last in chain(scope, node, _STEPS):
        if last.op not in _INNER:
            return None
        if last.op not in ("mul", "div"):
            continue
        for x in _origins(scope, node):
            cone = _of_one(scope, x, last)
            found = None if cone is None else _known(scope, cone, x)
            if cone is not None and found is not None:
                op, attrs = found
                made = scope.node(op, [x], attrs, last.source)
                return cone, [made]
    return None


def _origins(scope: Scope, node: Node) -> Iterator[Value]:
    """What the operand of the node may be a function of, the nearest first."""
    waiting, seen = [(node.inputs[0], 0)], set()
    for value, steps in waiting:
        if value.id in seen or scope.scalar(value) is not None:
            continue
        seen.add(value.id)
        yield value
        producer = scope.producer(value)
        if producer is not None and producer.op in _INNER and steps < _STEPS:
            waiting += [(read, steps + 1) for read in producer.inputs]


def _of_one(scope: Scope, x: Value, last: Node) -> Cone | None:
    """The nodes from x to `last`, where they are a function of each element of x alone."""
    cone = scope.cone([x], last)
    if cone is None or not scope.is_private(cone) or last.outputs[0].shape != x.shape:
        return None
    if any(node.op not in ELEMENTWISE and node.op != "integer_pow" for node in cone.nodes):
        return None
    is_one = all(scope.scalar(value) is not None for value in cone.others)
    return cone if is_one and x.dtype.name == "f32" else None


def _known(scope: Scope, cone: Cone, x: Value) -> tuple[str, dict[str, Attr]] | None:
    values = {value.id: np.asarray(scope.scalar(value)) for value in cone.others}
    try:
        got = evaluate(cone.nodes, {**values, x.id: _POINTS})
    except NotKnownError:
        return None
    for approximate in (False, True):
        if is_equal(got, gelu(_POINTS, approximate)):
            return "gelu", {"approximate": approximate}
    beta = _slope(got)
    if beta is not None and is_equal(got, silu(_POINTS, beta)):
        return "silu", {"beta": beta}
    return None


def _slope(got: np.ndarray) -> float | None:
    """The β of x/(1 + e^-βx), from one of its values."""
    at = int(np.argmin(np.abs(_POINTS - 1)))
    x, y = float(_POINTS[at]), float(got[at])
    if not 0 < y < x:
        return None
    beta = -np.log(x / y - 1) / x
    near = round(float(beta), 6)
    return near if abs(near - beta) < 1e-6 else float(beta)


def gelu(x: np.ndarray, approximate: bool) -> np.ndarray:
    """x·Φ(x), or the form of it with tanh."""
    if approximate:
        return x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x * 0.5 * ELEMENTWISE["erfc"](-x / np.sqrt(2))


def silu(x: np.ndarray, beta: float) -> np.ndarray:
    """`x / (1 + e^-βx)`, of each number."""
    return x / (1 + np.exp(-beta * x))
