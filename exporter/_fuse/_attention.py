"""Attention: two products, and a softmax of masked scores between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .._graph import Node, Value
from ._scope import Cone, Scope, chain, integers

_STEPS = 8
_MOVES = ("transpose",)


@dataclass
class _Scores:
    """What softmax is taken of, from its operand back to the product of queries and keys."""

    value: Value
    axes: list[int]
    """Each axis of `value`, by its number in the operand of softmax."""
    scale: float = 1.0
    fill: float = 0.0
    bias: tuple[Value, list[int]] | None = None
    mask: tuple[Value, list[int]] | None = None
    nodes: list[Node] = field(default_factory=list)
    scaled: list[Node] = field(default_factory=list)
    """What scales the queries before the product."""


def fuse_attention(scope: Scope, node: Node) -> tuple[Cone, list[Node]] | None:
    """The attention that the softmax `node` is part of."""
    if node.op != "softmax":
        return None
    operand = node.inputs[0]
    scores = _Scores(operand, list(range(len(operand.shape))))
    product = _product_behind(scope, scores)
    if product is None or scope.only_reader(operand) is None:
        return None
    along, after, axes = node.attrs["axis"], [node], list(range(len(operand.shape)))
    for reader in chain(scope, node, _STEPS):
        after.append(reader)
        if reader.op == "dot_general":
            made = _attention(scope, product, scores, along, reader, after[-2].outputs[0], axes)
            if made is None:
                return None
            inner = [*scores.scaled, product, *reversed(scores.nodes), *after]
            return Cone(tuple(inner), made[0].inputs), made
        if reader.op not in _MOVES:
            return None
        axes = [axes[i] for i in integers(reader, "permutation")]
    return None


def _product_behind(scope: Scope, scores: _Scores) -> Node | None:
    """The product that the scores come from; what lies between is noted."""
    for _ in range(_STEPS):
        node = scope.producer(scores.value)
        if node is None or (scores.nodes and scope.only_reader(scores.value) is None):
            return None
        if node.op == "dot_general" and node.outputs[0].dtype.name == "f32":
            return node
        following = _step(scope, scores, node)
        if following is None:
            return None
        scores.nodes.append(node)
        scores.value = following
    return None


def _step(scope: Scope, scores: _Scores, node: Node) -> Value | None:
    """The operand of the node that holds scores; None where it is no step of attention."""
    is_plain = scores.scale == 1 and scores.bias is None
    shape = node.outputs[0].shape
    match node.op:
        case "transpose":
            axes = scores.axes[:]
            for i, axis in enumerate(integers(node, "permutation")):
                axes[axis] = scores.axes[i]
            scores.axes = axes
            return node.inputs[0]
        case "mul" | "div":
            numbers = [scope.scalar(value) for value in node.inputs]
            if numbers[1] is not None and numbers[1] != 0:
                scores.scale *= numbers[1] if node.op == "mul" else 1 / numbers[1]
                return node.inputs[0]
            if numbers[0] is not None and node.op == "mul":
                scores.scale *= numbers[0]
                return node.inputs[1]
        case "add" if scores.bias is None and scores.scale == 1:
            inner = [value for value in node.inputs if _leads_to_product(scope, value)]
            other = [value for value in node.inputs if value is not inner[0]] if inner else []
            if len(other) == 1 and other[0].shape == shape:
                scores.bias = other[0], scores.axes[:]
                return inner[0]
        case "select_n" if is_plain and scores.mask is None and len(node.inputs) == 3:
            which, otherwise, inner = node.inputs
            fill = scope.scalar(otherwise)
            if fill is not None and which.shape == shape and which.dtype.name == "bool":
                scores.mask, scores.fill = (which, scores.axes[:]), fill
                return inner
    return None


def _leads_to_product(scope: Scope, value: Value) -> bool:
    """Whether the value is a product that was scaled or moved at most."""
    for _ in range(_STEPS):
        node = scope.producer(value)
        if node is None or scope.only_reader(value) is None:
            return False
        if node.op == "dot_general":
            return True
        if node.op not in ("mul", "div", "transpose"):
            return False
        value = next((v for v in node.inputs if scope.scalar(v) is None), node.inputs[0])
    return False


def _unscaled(scope: Scope, scores: _Scores, queries: _Side) -> _Side:
    """The queries before they were scaled, which the scores are then."""
    node = scope.producer(queries.value)
    if node is None or node.op not in ("mul", "div") or scope.only_reader(queries.value) is None:
        return queries
    number = scope.scalar(node.inputs[1])
    if number is None or number == 0 or node.inputs[0].shape != queries.value.shape:
        return queries
    scores.scale *= number if node.op == "mul" else 1 / number
    scores.scaled.append(node)
    return replace(queries, value=node.inputs[0])


@dataclass(frozen=True)
class _Side:
    """One operand of a product, and which of its axes are which."""

    value: Value
    batch: tuple[int, ...]
    contracting: tuple[int, ...]

    @property
    def free(self) -> tuple[int, ...]:
        bound = {*self.batch, *self.contracting}
        return tuple(axis for axis in range(len(self.value.shape)) if axis not in bound)


def _sides(node: Node) -> tuple[_Side, _Side]:
    lhs, rhs = (
        _Side(value, integers(node, f"{name}_batch"), integers(node, f"{name}_contracting"))
        for name, value in zip(("lhs", "rhs"), node.inputs, strict=True)
    )
    return lhs, rhs


def _attention(
    scope: Scope,
    product: Node,
    scores: _Scores,
    along: object,
    second: Node,
    weights: Value,
    weight_axes: list[int],
) -> list[Node] | None:
    """Its nodes, where `second` is the product of the softmax, `weights`, and the values."""
    lhs, rhs = _sides(product)
    batch = scores.axes[: len(lhs.batch)]
    left = scores.axes[len(batch) : len(batch) + len(lhs.free)]
    right = scores.axes[len(batch) + len(lhs.free) :]
    queries, keys, time = (lhs, rhs, left) if right == [along] else (rhs, lhs, right)
    is_known = (left if queries is rhs else right) == [along] and len(queries.contracting) == 1
    if not is_known or not time:
        return None
    sides = _sides(second)
    if sides[0].value.id == sides[1].value.id:
        return None
    at = 0 if sides[0].value.id == weights.id else 1
    probabilities, values = sides[at], sides[1 - at]
    summed = [weight_axes[axis] for axis in probabilities.contracting]
    batch_of_second = [weight_axes[axis] for axis in probabilities.batch]
    is_known = summed == [along] and sorted(batch_of_second) == sorted(batch)
    if not is_known or len(values.free) != 1:
        return None
    of_batch = dict(zip(batch_of_second, values.batch, strict=True))
    value_axes = (*(of_batch[axis] for axis in batch), *values.contracting, *values.free)
    order = [*batch, *time, along]
    queries = _unscaled(scope, scores, queries)
    nodes: list[Node] = []

    def moved(value: Value, permutation: Sequence[int]) -> Value:
        if list(permutation) == list(range(len(value.shape))):
            return value
        attrs = {"permutation": tuple(permutation)}
        nodes.append(scope.node("transpose", [value], attrs, second.source))
        return nodes[-1].outputs[0]

    operands = [
        moved(queries.value, (*queries.batch, *queries.free, *queries.contracting)),
        moved(keys.value, (*keys.batch, *keys.free, *keys.contracting)),
        moved(values.value, value_axes),
    ]
    for masked in (scores.bias, scores.mask):
        if masked is not None:
            operands.append(moved(masked[0], [masked[1].index(axis) for axis in order]))
    attrs = {"scale": scores.scale, "fill": scores.fill}
    attention = scope.node("attention", operands, attrs, second.source)
    nodes.append(attention)
    free = [weight_axes[axis] for axis in probabilities.free]
    features = [-1]
    found = [*batch_of_second, *(free + features if at == 0 else features + free)]
    result = [*batch, *time, -1]
    if found != result:
        moved(attention.outputs[0], [result.index(axis) for axis in found])
    # The node of attention says what it was made of.
    return nodes
