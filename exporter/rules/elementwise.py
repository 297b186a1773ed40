"""Elementwise primitives: arithmetic, functions, comparisons, selection, casts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._dim import Shape
from .._errors import COMPLEX, Unsupported
from .._graph import DTYPES, DType, Value
from .._lower import Context, Rule
from .._ops import Fact, gives
from .._program import Constant, Operand
from .._types import fact, is_key
from ._registry import rule

_INTEGER = ("i32", "u32", "i8")
_REAL = ("f32", *_INTEGER)
_ORDERED = (*_REAL, "bool")

# Element types of the last operand, by the primitives that are the op of the same name without
# attributes; JAX has made sure that the other operands fit it.
_TYPES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("atan2", "bessel_i0e", "bessel_i1e", "cbrt", "ceil", "digamma", "erf", "erf_inv"): ("f32",),
    ("erfc", "floor", "is_finite", "lgamma", "nextafter"): ("f32",),
    ("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp"): ("f32", "c64"),
    ("exp2", "expm1", "log", "log1p", "logistic", "rsqrt", "sin", "sinh"): ("f32", "c64"),
    ("sqrt", "tan", "tanh"): ("f32", "c64"),
    ("abs",): ("f32", "i32", "i8", "c64"),
    ("complex",): ("f32",),
    ("imag", "real"): ("c64",),
    ("add", "div", "neg", "sign", "square", "sub"): (*_REAL, "c64"),
    ("clamp", "rem"): _REAL,
    ("max", "min", "ge", "gt", "le", "lt"): _ORDERED,
    ("clz", "population_count"): (*_INTEGER, "u8", "i16", "i64"),
    ("eq", "ne"): (*_ORDERED, "c64"),
    ("select_n",): tuple(dtype.name for dtype in DTYPES),
    ("and", "not", "or", "xor"): ("bool", *_INTEGER),
    ("shift_left", "shift_right_arithmetic", "shift_right_logical"): _INTEGER,
}
_PREDICATES = {"eq", "ge", "gt", "is_finite", "le", "lt", "ne"}
_BINARY = {
    *("add", "and", "atan2", "div", "eq", "ge", "gt", "le", "lt", "max", "min", "mul", "ne", "or"),
    *("nextafter", "rem", "shift_left", "shift_right_arithmetic", "shift_right_logical", "sub"),
    "xor",
}


def _same(dtypes: tuple[str, ...]) -> Rule:
    def apply(ctx: Context) -> list[Value]:
        last = ctx.require(len(ctx.inputs) - 1, *dtypes)
        if len(ctx.inputs) == 2 and ctx.primitive == "select_n":
            return [last]  # of one case there is nothing to select
        _, extents = fact(ctx.outputs[0].shape, ctx.outputs[0].dtype)
        return ctx.node(inputs=[_stretched(ctx, operand, extents) for operand in ctx.inputs])

    return apply


def _compared(dtypes: tuple[str, ...]) -> Rule:
    compare = _same(dtypes)

    def apply(ctx: Context) -> Sequence[Value]:
        if is_key(ctx.inputs[-1].dtype):
            raise Unsupported("it compares PRNG keys; compare their jax.random.key_data")
        return compare(ctx)

    return apply


def _stretched(ctx: Context, operand: Operand, extents: Shape) -> Value:
    """`operand` with its extents of 1 repeated to `extents`; a scalar needs no repetition."""
    value = ctx.value(operand)
    if value.shape in (Shape(), extents):
        return value
    narrow, dims = value, tuple(range(len(value.shape)))
    producer = ctx.producer(value)
    if producer is not None and producer.op == "broadcast_in_dim":
        narrow, dims = producer.inputs[0], producer.attrs["broadcast_dimensions"]
    return ctx.node("broadcast_in_dim", [narrow], shape=extents, broadcast_dimensions=dims)[0]


def _elementwise(*inputs: Value) -> Fact:
    """The type of the last operand, and the shape of those that are no scalars."""
    # An operand may come many times, and its shape may be long.
    by_id = {value.id: value.shape for value in inputs if value.shape}
    shape, *others = dict.fromkeys(by_id.values()) or [Shape()]
    if others:
        raise ValueError(f"the operands have shapes {shape} and {others[0]}")
    return inputs[-1].dtype, shape


def _unary(x: Value) -> Fact:
    return x.dtype, x.shape


def _binary(x: Value, y: Value) -> Fact:
    return _elementwise(x, y)


def _part(x: Value) -> Fact:
    return DType.named("f32") if x.dtype.name == "c64" else x.dtype, x.shape


def _number(re: Value, im: Value) -> Fact:
    return DType.named("c64"), _elementwise(re, im)[1]


def _unary_truth(x: Value) -> Fact:
    return DType.named("bool"), x.shape


def _binary_truth(x: Value, y: Value) -> Fact:
    return DType.named("bool"), _elementwise(x, y)[1]


@gives("clamp")
def _clamped(low: Value, x: Value, high: Value) -> Fact:
    return x.dtype, _elementwise(low, high, x)[1]


@gives("select_n")
def _selected(which: Value, *cases: Value) -> Fact:
    return cases[-1].dtype, _elementwise(which, *cases)[1]


for _primitives, _dtypes in _TYPES.items():
    rule(*_primitives)(_compared(_dtypes) if "eq" in _primitives else _same(_dtypes))
    for _primitive in {*_primitives} - {"abs", "clamp", "complex", "imag", "real", "select_n"}:
        _arity = _primitive in _BINARY, _primitive in _PREDICATES
        gives(_primitive)(
            {
                (False, False): _unary,
                (True, False): _binary,
                (False, True): _unary_truth,
                (True, True): _binary_truth,
            }[_arity]
        )


gives("mul")(_binary)
gives("abs", "imag", "real")(_part)
gives("complex")(_number)


@rule("mul")
def _mul(ctx: Context) -> list[Value]:
    lhs = ctx.require(0, *_REAL, "c64")
    ctx.require_result(lhs.dtype.name)
    return list(_same((lhs.dtype.name,))(ctx))


@rule("pow")
def _pow(ctx: Context) -> list[Value]:
    x = ctx.require(0, "f32", "c64")
    return list(_same((x.dtype.name, "i32"))(ctx))


@gives("pow")
def _powered(x: Value, y: Value) -> Fact:
    return x.dtype, _elementwise(x, y)[1]


@rule("conj")
def _conj(ctx: Context) -> list[Value]:
    """Of a real number it is the complex number without an imaginary part."""
    x = ctx.require(0, "f32", "c64")
    if x.dtype.name == "c64":
        return ctx.node()
    return ctx.node("convert_element_type", new_dtype="c64")


gives("conj")(_unary)


@rule("log2")
def _log2(ctx: Context) -> list[Value]:
    """log2(x) = log(x)·(1/ln 2), the two steps of JAX."""
    ctx.require(0, "f32")
    return ctx.node("mul", [*ctx.node("log"), Constant(np.asarray(1 / np.log(2), np.float32))])


@rule("one_minus_square")
def _one_minus_square(ctx: Context) -> list[Value]:
    """1 − x² = (1 + x)·(1 − x), which is exact where x is near 1."""
    x = ctx.require(0, *_REAL)
    one = Constant(np.asarray(1, x.dtype.numpy))
    return ctx.node("mul", [*ctx.node("add", [one, x]), *ctx.node("sub", [one, x])])


@rule("polynomial")
def _polynomial(ctx: Context) -> list[Value]:
    """c₀ + x·(c₁ + x·(c₂ + …)), from the inside out."""
    ctx.require(0, *_REAL)
    _, extents = fact(ctx.outputs[0].shape, ctx.outputs[0].dtype)
    x, *rest, value = (_stretched(ctx, operand, extents) for operand in ctx.inputs)
    for coefficient in reversed(rest):
        product = ctx.node("mul", [value, x])
        (value,) = ctx.node("add", [*product, coefficient])
    return [value]


@rule("integer_pow")
def _integer_pow(ctx: Context) -> list[Value]:
    ctx.require(0, *_REAL, "c64")
    return ctx.node(y=int(ctx.params["y"]))


@gives("integer_pow")
def _power(x: Value, y: int) -> Fact:
    return x.dtype, x.shape


@rule("round")
def _round(ctx: Context) -> list[Value]:
    ctx.require(0, "f32")
    return ctx.node(rounding_method=int(ctx.params["rounding_method"]))


@gives("round")
def _rounded(x: Value, rounding_method: int) -> Fact:
    return x.dtype, x.shape


@rule("convert_element_type")
def _convert_element_type(ctx: Context) -> list[Value]:
    operand = ctx.value(ctx.inputs[0])
    dtype, _ = fact((), ctx.outputs[0].dtype)
    if operand.dtype == dtype:
        return [operand]
    if operand.dtype.numpy.kind == "c" and dtype.numpy.kind != "c":
        raise Unsupported(COMPLEX)
    return ctx.node(new_dtype=dtype.name)


@gives("convert_element_type")
def _converted(x: Value, new_dtype: str) -> Fact:
    return DType.named(new_dtype), x.shape


@rule("bitcast_convert_type")
def _bitcast_convert_type(ctx: Context) -> list[Value]:
    dtype, _ = fact((), ctx.outputs[0].dtype)
    operand = ctx.value(ctx.inputs[0])
    return [operand] if operand.dtype == dtype else ctx.node(new_dtype=dtype.name)


@gives("bitcast_convert_type")
def _bits(x: Value, new_dtype: str) -> Fact:
    dtype = DType.named(new_dtype)
    from_size, to_size = x.dtype.numpy.itemsize, dtype.numpy.itemsize
    if from_size > to_size:
        return dtype, x.shape.appended(from_size // to_size)
    return dtype, x.shape if from_size == to_size else Shape(tuple(x.shape)[:-1])


@rule("reduce_precision")
def _reduce_precision(ctx: Context) -> list[Value]:
    """In the format: exponents of up to 8 bits and mantissas of up to 23, those of f32."""
    ctx.require(0, "f32")
    info = np.finfo(np.float32)
    exponent_bits = min(int(ctx.params["exponent_bits"]), info.iexp)
    mantissa_bits = min(int(ctx.params["mantissa_bits"]), info.nmant)
    if (exponent_bits, mantissa_bits) == (info.iexp, info.nmant):
        return [ctx.value(ctx.inputs[0])]
    return ctx.node(exponent_bits=exponent_bits, mantissa_bits=mantissa_bits)


@gives("reduce_precision")
def _reduced_precision(x: Value, exponent_bits: int, mantissa_bits: int) -> Fact:
    return x.dtype, x.shape
