"""The oracle of the exporter's tests: a graph computed node by node with NumPy, slow and plain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import scipy.special

from exporter._dim import Dim, Shape
from exporter._graph import DType, Graph, Node

Array = np.ndarray

_UNARY: dict[str, Callable[[Array], Array]] = {
    "abs": np.abs,
    "cbrt": np.cbrt,
    "ceil": np.ceil,
    "cos": np.cos,
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "floor": np.floor,
    "is_finite": np.isfinite,
    "log": np.log,
    "log1p": np.log1p,
    "logistic": scipy.special.expit,
    "neg": np.negative,
    "not": np.invert,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sign": np.sign,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "square": np.square,
    "tan": np.tan,
    "tanh": np.tanh,
}

_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "and": np.bitwise_and,
    "atan2": np.arctan2,
    "div": lambda a, b: a / b if a.dtype.kind in "fc" else np.trunc(a / b),
    "eq": np.equal,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "or": np.bitwise_or,
    "pow": np.power,
    "rem": np.fmod,
    "shift_left": np.left_shift,
    "shift_right_arithmetic": np.right_shift,
    "shift_right_logical": lambda a, b: a.view(f"u{a.itemsize}") >> b.view(f"u{b.itemsize}"),
    "sub": np.subtract,
    "xor": np.bitwise_xor,
}

_REDUCE: dict[str, Callable[..., Array]] = {
    "reduce_and": np.all,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_or": np.any,
    "reduce_prod": np.prod,
    "reduce_sum": np.sum,
}


def evaluate(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """Outputs of `graph`, with the shape and type of every value checked on the way."""
    symbols: dict[str, int] = {}
    values: dict[int, Array] = {}
    for port, array in zip(graph.inputs, inputs, strict=True):
        for dim, extent in zip(port.value.shape, array.shape, strict=True):
            for name in dim.symbols():
                assert dim == Dim.symbol(name)
                symbols[name] = extent
        values[port.value.id] = array
    for tensor in graph.tensors:
        values[tensor.value.id] = tensor.data
    for port in graph.inputs:
        _check(values[port.value.id], port.value, symbols, port.name)
    for node in graph.nodes:
        operands = [values[value.id] for value in node.inputs]
        attrs = {k: _resolved(v, symbols) for k, v in node.attrs.items()}
        with np.errstate(all="ignore"):
            results = _apply(node, operands, attrs)
        for value, result in zip(node.outputs, results, strict=True):
            array = np.asarray(result)
            if node.op not in ("iota", "convert_element_type", "dim_as_value"):
                array = array.astype(value.dtype.numpy)
            _check(array, value, symbols, node.op)
            values[value.id] = array
    return [values[port.value.id] for port in graph.outputs]


def _check(array: Array, value: Any, symbols: dict[str, int], what: str) -> None:
    assert array.dtype == value.dtype.numpy, (what, array.dtype, value)
    assert array.shape == value.shape.evaluate(symbols), (what, array.shape, value)


def _resolved(attr: Any, symbols: dict[str, int]) -> Any:
    return attr.evaluate(symbols) if isinstance(attr, Shape) else attr


def _apply(node: Node, x: list[Array], attrs: dict[str, Any]) -> Sequence[Any]:
    op = node.op
    if op in _UNARY:
        return [_UNARY[op](*x)]
    if op in _BINARY:
        assert x[0].shape == x[1].shape or () in (x[0].shape, x[1].shape), (op, x)
        return [_BINARY[op](*x)]
    if op in _REDUCE:
        return [_REDUCE[op](x[0], axis=attrs["axes"])]
    if op in _OTHERS:
        result = _OTHERS[op](*x, **attrs)
        return result if isinstance(result, list) else [result]
    from lumina_jax.ops import OPS

    return OPS[op].reference(*x, **attrs)


def _select_n(which: Array, *cases: Array) -> Array:
    assert all(case.shape == cases[0].shape for case in cases)
    return np.choose(which.astype(np.int32), cases, mode="clip")


def _convert(x: Array, new_dtype: str) -> Array:
    return x.astype(DType(new_dtype).numpy)


def _dot_general(a: Array, b: Array, **dims: tuple[int, ...]) -> Array:
    ca, cb = dims["lhs_contracting"], dims["rhs_contracting"]
    ba, bb = dims["lhs_batch"], dims["rhs_batch"]
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    left = [next(letters) for _ in a.shape]
    right = [next(letters) for _ in b.shape]
    for i, j in [*zip(ca, cb, strict=True), *zip(ba, bb, strict=True)]:
        right[j] = left[i]
    out = [left[i] for i in ba]
    out += [c for i, c in enumerate(left) if i not in (*ca, *ba)]
    out += [c for j, c in enumerate(right) if j not in (*cb, *bb)]
    return np.einsum(f"{''.join(left)},{''.join(right)}->{''.join(out)}", a, b)


def _broadcast_in_dim(x: Array, shape: tuple, broadcast_dimensions: tuple) -> Array:
    aligned = [1] * len(shape)
    for extent, axis in zip(x.shape, broadcast_dimensions, strict=True):
        aligned[axis] = extent
    return np.broadcast_to(x.reshape(aligned), shape)


def _slice(x: Array, start_indices: tuple, limit_indices: tuple, strides: tuple) -> Array:
    for limit, extent in zip(limit_indices, x.shape, strict=True):
        assert 0 <= limit <= extent
    bounds = zip(start_indices, limit_indices, strides, strict=True)
    return x[tuple(slice(*bound) for bound in bounds)]


def _split(x: Array, sizes: tuple, axis: int) -> list[Array]:
    assert sum(sizes) == x.shape[axis]
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _pad(x: Array, value: Array, low: tuple, high: tuple, interior: tuple) -> Array:
    config = list(zip(low, high, interior, strict=True))
    return np.asarray(jax.lax.pad(x, value, config))


def _iota(dtype: str, shape: tuple, dimension: int) -> Array:
    line = np.arange(shape[dimension], dtype=DType(dtype).numpy)
    return _broadcast_in_dim(line, shape, (dimension,))


def _arg(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda x, axes, index_dtype: function(x, axis=axes[0])


def _cumsum(x: Array, axis: int, reverse: bool) -> Array:
    return np.flip(np.cumsum(np.flip(x, axis), axis), axis) if reverse else np.cumsum(x, axis)


def _key(words: Array) -> jax.Array:
    return jax.random.wrap_key_data(words, impl="threefry2x32")


_OTHERS: dict[str, Callable[..., Any]] = {
    "argmax": _arg(np.argmax),
    "argmin": _arg(np.argmin),
    "broadcast_in_dim": _broadcast_in_dim,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
    "concatenate": lambda *x, dimension: np.concatenate(x, dimension),
    "convert_element_type": _convert,
    "cumsum": _cumsum,
    "dim_as_value": lambda dim: np.int32(dim[0]),
    "dot_general": _dot_general,
    "integer_pow": lambda x, y: x**y if x.dtype.kind in "iu" else np.power(x, np.float32(y)),
    "iota": _iota,
    "pad": _pad,
    "reshape": lambda x, new_sizes: x.reshape(new_sizes),
    "rev": lambda x, dimensions: np.flip(x, dimensions),
    "round": lambda x, rounding_method: (
        np.round(x) if rounding_method else np.trunc(x + np.copysign(np.float32(0.5), x))
    ),
    "select_n": _select_n,
    "slice": _slice,
    "split": _split,
    "squeeze": lambda x, dimensions: np.squeeze(x, dimensions),
    "threefry_fold_in": lambda k, n: jax.random.key_data(jax.random.fold_in(_key(k), n)),
    "threefry_split": lambda k, num: jax.random.key_data(jax.random.split(_key(k), num)),
    "transpose": lambda x, permutation: np.transpose(x, permutation),
}
