"""Types of JAX arrays as types of the graph."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from ._dim import Dim, Shape
from ._errors import Unsupported
from ._graph import DTYPES, DType


def fact(extents: Iterable[Any], dtype: Any) -> tuple[DType, Shape]:
    """Element type and shape in the graph of an array of JAX dtype `dtype`."""
    if is_key(dtype):
        if str(dtype) != "key<fry>":
            raise Unsupported(
                "only threefry keys can be exported, which is what jax.random.key(seed, "
                "impl='threefry2x32') makes",
                f"{dtype} PRNG key",
            )
        return DType.named("u32"), shape((*extents, 2))
    known = DType.of(np.dtype(dtype))
    if known is None:
        names = type_names(known.name for known in DTYPES)
        raise Unsupported(f"element types are {names}; cast to one", f"dtype {dtype}")
    return known, shape(extents)


def shape(extents: Iterable[Any]) -> Shape:
    """The shape for JAX extents, integers or symbolic."""
    return Shape.of(dim(extent) for extent in extents)


def dim(extent: Any) -> Dim:
    """The dimension for one JAX extent, read from its text form, such as "2*batch^2 + 1"."""
    if isinstance(extent, int | np.integer):
        return Dim.of(int(extent))
    return _polynomial(ast.parse(str(extent).replace("^", "**"), mode="eval").body)


def type_names(dtypes: Iterable[str]) -> str:
    """The `dtypes` in a message: "f32, i32 or c64"."""
    *rest, last = dtypes
    return f"{', '.join(rest)} or {last}" if rest else last


def is_key(dtype: Any) -> bool:
    """Whether `dtype` is that of typed PRNG keys."""
    return jax.numpy.issubdtype(dtype, jax.dtypes.prng_key)


def is_raw_key(array: Any) -> bool:
    """Whether `array` has the type of jax.random.PRNGKey: u32[2]."""
    return not is_key(array.dtype) and array.dtype == np.uint32 and tuple(array.shape) == (2,)


# As JAX writes what is no polynomial.
_FUNCTIONS = {
    "floordiv": Dim.__floordiv__,
    "max": Dim.maximum,
    "min": Dim.minimum,
    "mod": Dim.__mod__,
}


def _polynomial(tree: ast.expr) -> Dim:
    match tree:
        case ast.Constant(value=int(value)):
            return Dim.of(value)
        case ast.Name(id=name):
            return Dim.symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_polynomial(operand)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _polynomial(left) + _polynomial(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _polynomial(left) - _polynomial(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _polynomial(left) * _polynomial(right)
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))):
            base, result = _polynomial(left), Dim.of(1)
            for _ in range(power):
                result = result * base
            return result
        case ast.Call(func=ast.Name(id=name), args=[left, right]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](_polynomial(left), _polynomial(right))
    raise Unsupported(
        "a symbolic extent must be made of sums, products, quotients and the larger or smaller of "
        "two extents; export with fixed extents",
        f"extent {ast.unparse(tree)}",
    )
