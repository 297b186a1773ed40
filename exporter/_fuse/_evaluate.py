"""What nodes compute, in float64: the proof that one op is what several are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._dim import Shape
from .._graph import Node
from ._scope import Cone, Scope

SYMBOL = 3
"""The extent that stands for every symbolic one."""
_MOST = 1 << 23
"""Elements of a value, at most."""

_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])

ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "add": np.add,
    "copy": np.array,
    "div": np.divide,
    "erf": _erf,
    "erfc": _erfc,
    "exp": np.exp,
    "expm1": np.expm1,
    "is_finite": np.isfinite,
    "log": np.log,
    "log1p": np.log1p,
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "neg": np.negative,
    "pow": np.power,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "select_n": lambda which, *cases: np.choose(np.asarray(which, np.int64), cases),
    "sqrt": np.sqrt,
    "square": np.square,
    "sub": np.subtract,
    "tanh": np.tanh,
}


class NotKnownError(Exception):
    """A node is none that can be evaluated here, or too large."""


def evaluate(nodes: Sequence[Node], values: Mapping[int, np.ndarray]) -> np.ndarray:
    """The result of the last node, where values by id are known, and symbols are `SYMBOL`."""
    known = dict(values)
    with np.errstate(all="ignore"):
        for node in nodes:
            try:
                result = _apply(node, [known[value.id] for value in node.inputs])
            except (ValueError, TypeError, KeyError) as fault:
                raise NotKnownError(node.op) from fault
            known[node.outputs[0].id] = result
    return known[nodes[-1].outputs[0].id]


def extents(shape: Shape) -> tuple[int, ...]:
    """The extents that stand for a shape."""
    names = {name for dim in shape for name in dim.symbols()}
    found = shape.evaluate(dict.fromkeys(names, SYMBOL))
    if min(found, default=0) < 0 or math.prod(found) > _MOST:
        raise NotKnownError("a shape")
    return found


def _apply(node: Node, operands: list[np.ndarray]) -> np.ndarray:
    attrs: dict[str, Any] = node.attrs
    if node.op in ELEMENTWISE:
        return ELEMENTWISE[node.op](*operands)
    x = operands[0] if operands else np.zeros(())
    match node.op:
        case "integer_pow":
            return x ** float(attrs["y"])
        case "convert_element_type" if attrs["new_dtype"] == "f32" and x.dtype == np.float64:
            return x
        case "reduce_sum":
            return x.sum(attrs["axes"])
        case "reduce_max":
            return x.max(attrs["axes"])
        case "transpose":
            return x.transpose(attrs["permutation"])
        case "squeeze":
            return x.squeeze(attrs["dimensions"])
        case "reshape":
            return x.reshape(extents(Shape.of(attrs["new_sizes"])))
        case "broadcast_in_dim":
            wide = [1] * len(attrs["shape"])
            for axis, extent in zip(attrs["broadcast_dimensions"], x.shape, strict=True):
                wide[axis] = extent
            return np.broadcast_to(x.reshape(wide), extents(Shape.of(attrs["shape"])))
        case "softmax":
            e = np.exp(x - x.max(attrs["axis"], keepdims=True))
            return e / e.sum(attrs["axis"], keepdims=True)
    raise NotKnownError(node.op)


def is_equal(got: np.ndarray, want: np.ndarray) -> bool:
    """Whether two results are the same but for constants that are rounded to float32."""
    if got.shape != want.shape or not np.array_equal(np.isnan(got), np.isnan(want)):
        return False
    finite = want[np.isfinite(want)]
    size = float(np.abs(finite).max()) if finite.size else 0.0
    return bool(np.allclose(got, want, rtol=1e-6, atol=1e-6 * size, equal_nan=True))


def signature(scope: Scope, cone: Cone, extra: object) -> object:
    """What two cones that compute the same have in common."""
    numbers: dict[int, int] = {}
    parts: list[object] = [extra]
    for value in cone.others:
        number = numbers.setdefault(value.id, len(numbers))
        parts.append((number, str(value), scope.scalar(value)))
    for node in cone.nodes:
        reads = tuple(numbers.setdefault(value.id, len(numbers)) for value in node.inputs)
        numbers.setdefault(node.outputs[0].id, len(numbers))
        shapes = tuple(str(value) for value in (*node.inputs, *node.outputs))
        parts.append((node.op, reads, shapes, str(sorted(node.attrs.items()))))
    return tuple(parts)
