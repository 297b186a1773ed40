"""Batch norm, or any factor and summand of each output, into the weights of a product."""

from __future__ import annotations

import numpy as np

from .._graph import Node, Value
from ._product import output_axis
from ._scope import Cone, Scope, chain, extents_of

_STEPS = 8


def fuse_affine(scope: Scope, node: Node) -> tuple[Cone, list[Node]] | None:
    """The product `node` with scaled weights, and one summand."""
    axis = output_axis(node)
    weights = None if axis is None else scope.constant(node.inputs[1])
    if axis is None or weights is None or weights.dtype != np.float32:
        return None
    of_result, of_weights = axis
    if scope.only_reader(node.inputs[1]) is None:
        return None
    count = weights.shape[of_weights]
    factor, summand = np.ones(count), np.zeros(count)
    value, last, is_scaled = node.outputs[0], None, False
    for after in chain(scope, node, _STEPS):
        own = [v.id == value.id for v in after.inputs]
        if after.op not in ("add", "div", "mul", "sub") or after.outputs[0].shape != value.shape:
            break
        of_outputs = _of_outputs(scope, after.inputs[own.index(False)], value, of_result, count)
        if of_outputs is None or (after.op == "div" and not own[0]):
            break
        match after.op:
            case "add":
                summand = summand + of_outputs
            case "sub":
                sign = 1 if own[0] else -1
                factor, summand = factor * sign, sign * (summand - of_outputs)
            case "mul":
                factor, summand = factor * of_outputs, summand * of_outputs
            case _:
                factor, summand = factor / of_outputs, summand / of_outputs
        # To scale a product as a whole, as attention does, is no reason to store its weights anew.
        is_reason = of_outputs.size > 1 or node.op != "dot_general"
        is_scaled = is_scaled or (after.op in ("mul", "div") and is_reason)
        value, last = after.outputs[0], after
    cone = None if last is None or not is_scaled else scope.cone(node.outputs, last)
    if cone is None or last is None:
        return None
    wide = [1] * weights.ndim
    wide[of_weights] = -1
    scaled = (weights * factor.reshape(wide)).astype(np.float32)
    bias = summand.astype(np.float32)
    if not (np.isfinite(scaled).all() and np.isfinite(bias).all()):
        return None
    product = scope.node(node.op, [node.inputs[0], scope.tensor(scaled)], node.attrs, node.source)
    shape = extents_of(product.outputs[0].shape)
    attrs = {"shape": shape, "broadcast_dimensions": (of_result,)}
    repeated = scope.node("broadcast_in_dim", [scope.tensor(bias)], attrs, last.source)
    total = scope.node("add", [*product.outputs, *repeated.outputs], {}, last.source)
    whole = Cone((node, *cone.nodes), (*node.inputs, *cone.others))
    return whole, [product, repeated, total]


def _of_outputs(
    scope: Scope, other: Value, value: Value, axis: int, count: int
) -> np.ndarray | None:
    """What is one constant for each output, or for all of them; None where it is more."""
    number = scope.scalar(other)
    if number is not None:
        return np.full(1, number)
    narrow, dims = scope.narrow(other)
    data = scope.constant(narrow)
    if data is None or other.shape != value.shape:
        return None
    axes = [axis for axis, extent in zip(dims, data.shape, strict=True) if extent > 1]
    if axes != [axis] or data.size != count:
        return None
    return data.reshape(-1).astype(np.float64)
