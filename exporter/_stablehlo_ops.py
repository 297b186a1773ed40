"""The operations of StableHLO, by the functions of `jax.lax` that are lowered to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo

from ._errors import ExportError


class Numbers:
    """An array of integers that are made of symbolic extents."""

    def __init__(self, values: np.ndarray, dtype: Any) -> None:
        self.values = values.astype(object)
        self.dtype = dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return self.values.shape

    def array(self) -> jax.Array:
        """The same as an array of JAX."""
        flat = [jnp.asarray(value).astype(self.dtype) for value in self.values.reshape(-1)]
        return jnp.stack(flat).reshape(self.values.shape) if flat else jnp.zeros(0, self.dtype)


def _dtype(op: Any, index: int = 0) -> np.dtype[Any]:
    kind = str(ir.RankedTensorType(op.results[index].type).element_type)
    names = {
        **{f"f{bits}": f"float{bits}" for bits in (16, 32, 64)},
        **{f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
        **{f"ui{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
        "i1": "bool",
        "bf16": "bfloat16",
        "complex<f32>": "complex64",
        "complex<f64>": "complex128",
    }
    if kind not in names:
        raise ExportError(f"a program of jax.export has elements of type {kind}, cast them to f32")
    # Numbers of 64 bits are those of 32 bits, as in any function of JAX, unless they are enabled.
    return jax.dtypes.canonicalize_dtype(names[kind])


def _shape(op: Any) -> list[int]:
    return list(ir.RankedTensorType(op.results[0].type).shape)


def _ints(op: Any, name: str, default: int | None = None, rank: int = 0) -> tuple[int, ...]:
    """Integers of an attribute; `rank` times the default where it is left out."""
    if name not in op.attributes:
        return (default,) * rank if default is not None else ()
    return tuple(int(value) for value in np.asarray(op.attributes[name]).reshape(-1))


def _int(op: Any, name: str, default: int = 0) -> int:
    return int(ir.IntegerAttr(op.attributes[name])) if name in op.attributes else default


def _pairs(op: Any, name: str, rank: int) -> list[tuple[int, int]]:
    flat = _ints(op, name, 0, 2 * rank)
    return [(low, high) for low, high in zip(flat[::2], flat[1::2], strict=True)]


def extents(value: Any) -> list[Any]:
    """A shape that is an operand."""
    if isinstance(value, Numbers):
        return list(value.values.reshape(-1))
    if isinstance(value, np.ndarray):
        return [int(extent) for extent in value.reshape(-1)]
    raise ExportError(
        "a program of jax.export computes a shape by more than sums and products of extents; "
        "export the function that it was made of"
    )


def _constant(op: Any) -> np.ndarray:
    dtype, shape = _dtype(op), _shape(op)
    attr = ir.DenseElementsAttr(op.attributes["value"])
    if dtype == jnp.bfloat16:  # of which there are no buffers
        values = _bfloat16(str(attr))
        return np.full(shape, values[0]) if values.size == 1 else values.reshape(shape)
    data = np.array(attr)
    if dtype.kind in "iu" and not np.array_equal(data.astype(dtype), data):
        raise ExportError(
            f"a program of jax.export has {data.dtype} that do not fit {dtype}; set jax_enable_x64"
        )
    return data.astype(dtype).reshape(shape)


def _bfloat16(text: str) -> np.ndarray:
    """The numbers of "dense<[1.0, 0x7F80]> : ...", flat, or of its bytes in hexadecimal."""
    inner = text.partition("dense<")[2].rpartition("> :")[0]
    if inner.startswith('"0x'):
        return np.frombuffer(bytes.fromhex(inner.strip('"')[2:]), jnp.bfloat16)
    tokens = inner.replace("[", " ").replace("]", " ").replace(",", " ").split()
    bits = [np.uint16(int(token, 16)) if token.startswith("0x") else None for token in tokens]
    numbers = [
        np.asarray(float(token), jnp.bfloat16) if word is None else word.view(jnp.bfloat16)
        for token, word in zip(tokens, bits, strict=True)
    ]
    return np.asarray(numbers, jnp.bfloat16)


def _on_numbers(function: Callable[..., Any], of_numbers: Callable[..., Any]) -> Callable[..., Any]:
    """`of_numbers` where operands are numbers, else `function`."""

    def apply(op: Any, *operands: Any) -> Any:
        known = [isinstance(operand, Numbers | np.ndarray) for operand in operands]
        if all(known) and any(isinstance(operand, Numbers) for operand in operands):
            values = [o.values if isinstance(o, Numbers) else o.astype(object) for o in operands]
            return Numbers(np.asarray(of_numbers(op, *values), object), _dtype(op))
        if all(known) and operands and _dtype(op).kind in "iu":
            # Constants of which shapes are made stay as they are.
            return np.asarray(of_numbers(op, *operands)).astype(_dtype(op))
        arrays = (o.array() if isinstance(o, Numbers) else o for o in operands)
        return function(op, *arrays)

    return apply


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda op, *operands: function(*operands)


def _compare(op: Any, x: Any, y: Any) -> Any:
    direction = str(op.attributes["comparison_direction"]).split()[-1].strip(">").lower()
    return getattr(lax, direction)(x, y)


def _dot(op: Any, x: Any, y: Any) -> Any:
    numbers = stablehlo.DotDimensionNumbers(op.attributes["dot_dimension_numbers"])
    contracting = (
        tuple(numbers.lhs_contracting_dimensions),
        tuple(numbers.rhs_contracting_dimensions),
    )
    batch = tuple(numbers.lhs_batching_dimensions), tuple(numbers.rhs_batching_dimensions)
    return lax.dot_general(x, y, (contracting, batch), preferred_element_type=_dtype(op))


def _convolution(op: Any, x: Any, kernel: Any, padding: Any = None) -> Any:
    rank = len(x.shape) - 2
    of = stablehlo.ConvDimensionNumbers(op.attributes["dimension_numbers"])
    if any(_ints(op, "window_reversal", 0, rank)):
        raise ExportError("a program of jax.export has a convolution with a reversed window")
    pads = _pairs(op, "padding", rank) if padding is None else _padding(padding)
    return lax.conv_general_dilated(
        x,
        kernel,
        _ints(op, "window_strides", 1, rank),
        pads,
        _ints(op, "lhs_dilation", 1, rank),
        _ints(op, "rhs_dilation", 1, rank),
        lax.ConvDimensionNumbers(
            (of.input_batch_dimension, of.input_feature_dimension, *of.input_spatial_dimensions),
            (
                of.kernel_output_feature_dimension,
                of.kernel_input_feature_dimension,
                *of.kernel_spatial_dimensions,
            ),
            (
                of.output_batch_dimension,
                of.output_feature_dimension,
                *of.output_spatial_dimensions,
            ),
        ),
        _int(op, "feature_group_count", 1),
        _int(op, "batch_group_count", 1),
        preferred_element_type=_dtype(op),
    )


def _padding(value: Any) -> list[tuple[Any, Any]]:
    flat = extents(value)
    return list(zip(flat[::2], flat[1::2], strict=True))


def _gather(op: Any, x: Any, indices: Any, sizes: Any = None) -> Any:
    of = stablehlo.GatherDimensionNumbers(op.attributes["dimension_numbers"])
    numbers = lax.GatherDimensionNumbers(
        offset_dims=tuple(of.offset_dims),
        collapsed_slice_dims=tuple(of.collapsed_slice_dims),
        start_index_map=tuple(of.start_index_map),
        operand_batching_dims=tuple(of.operand_batching_dims),
        start_indices_batching_dims=tuple(of.start_indices_batching_dims),
    )
    slice_sizes = _ints(op, "slice_sizes") if sizes is None else tuple(extents(sizes))
    return lax.gather(x, _vectors(indices, of.index_vector_dim), numbers, slice_sizes, mode="clip")


def _scatter(op: Any, x: Any, indices: Any, updates: Any) -> Any:
    of = stablehlo.ScatterDimensionNumbers(op.attributes["scatter_dimension_numbers"])
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=tuple(of.update_window_dims),
        inserted_window_dims=tuple(of.inserted_window_dims),
        scatter_dims_to_operand_dims=tuple(of.scattered_dims_to_operand_dims),
        operand_batching_dims=tuple(of.input_batching_dims),
        scatter_indices_batching_dims=tuple(of.scatter_indices_batching_dims),
    )
    function = scatter_of(op)
    assert function is not None, "the program has been looked through"
    vectors = _vectors(indices, of.index_vector_dim)
    return function(x, vectors, updates, numbers, mode=lax.GatherScatterMode.FILL_OR_DROP)


def _vectors(indices: Any, axis: int) -> Any:
    """Indices whose last axis has those of one slice."""
    return indices[..., None] if axis == len(indices.shape) else jnp.moveaxis(indices, axis, -1)


def _reduce(op: Any, *operands: Any) -> Any:
    axes = _ints(op, "dimensions")
    function = operation_of(op)
    if function is not None:
        x, initial = operands
        return lax.reduce(x, initial, function, axes)
    extremum = extremum_of(op)
    assert extremum is not None, "the program has been looked through"
    x, indices = operands[:2]
    (axis,) = axes
    of_values = jnp.max if extremum is lax.argmax else jnp.min
    return of_values(x, axis), extremum(x, axis, indices.dtype)


def _reduce_window(op: Any, x: Any, initial: Any) -> Any:
    rank, operation = len(x.shape), operation_of(op)
    assert operation is not None, "the program has been looked through"
    return lax.reduce_window(
        x,
        initial,
        operation,
        _ints(op, "window_dimensions"),
        _ints(op, "window_strides", 1, rank),
        _pairs(op, "padding", rank),
        _ints(op, "base_dilations", 1, rank),
        _ints(op, "window_dilations", 1, rank),
    )


def _sort(op: Any, *operands: Any) -> Any:
    """Lines in the order of the operands that the comparison reads, the first ones."""
    block = op.regions[0].blocks[0]
    read = {value for inner in block.operations for value in inner.operands}
    keys = sum(argument in read for argument in list(block.arguments)[::2])
    compared = [inner for inner in block.operations if _kind(inner) == "compare"]
    order = str(compared[0].attributes["comparison_direction"])
    if "LT" not in order and "EQ" not in order:
        raise ExportError("a program of jax.export sorts in another order than jax.lax.sort")
    return lax.sort(tuple(operands), dimension=_int(op, "dimension"), num_keys=keys)


def _fft(op: Any, x: Any) -> Any:
    kind = str(op.attributes["fft_type"]).split()[-1].strip(">")
    return lax.fft(x, kind, _ints(op, "fft_length"))


def _pad(op: Any, x: Any, value: Any, *numbers: Any) -> Any:
    if numbers:
        low, high, interior = map(extents, numbers)
    else:
        low, high = _ints(op, "edge_padding_low"), _ints(op, "edge_padding_high")
        interior = _ints(op, "interior_padding")
    return lax.pad(x, value, list(zip(low, high, interior, strict=True)))


def _size(op: Any, x: Any) -> Any:
    extent = x.shape[_int(op, "dimension")]
    return Numbers(np.asarray(extent, object), _dtype(op))


def _top_k(op: Any, x: Any) -> Any:
    kinds = ("composite_attributes", "mhlo.attributes")
    (attributes,) = (ir.DictAttr(op.attributes[kind]) for kind in kinds if kind in op.attributes)
    return lax.top_k(x, int(ir.IntegerAttr(attributes["k"])))


def _kind(op: Any) -> str:
    return op.operation.name.partition(".")[2]


_BY_NAME = {
    "add": lax.add,
    "and": lax.bitwise_and,
    "maximum": lax.max,
    "minimum": lax.min,
    "multiply": lax.mul,
    "or": lax.bitwise_or,
    "xor": lax.bitwise_xor,
}
_SCATTER = {
    "add": lax.scatter_add,
    "maximum": lax.scatter_max,
    "minimum": lax.scatter_min,
    "multiply": lax.scatter_mul,
    "return": lax.scatter,
}


def operation_of(op: Any) -> Callable[..., Any] | None:
    """The operation of two numbers that is all that the region of a reduction does."""
    kinds = _kinds(op)
    return _BY_NAME.get(kinds[0]) if len(kinds) == 2 and len(op.operands) == 2 else None


def scatter_of(op: Any) -> Callable[..., Any] | None:
    """The function that scatters so; what only returns has to return the update."""
    block = op.regions[0].blocks[0]
    kinds = _kinds(op)
    if len(op.operands) != 3 or len(kinds) > 2:
        return None
    if kinds == ["return"] and block.operations[0].operands[0] != block.arguments[1]:
        return None
    return _SCATTER.get(kinds[0])


def extremum_of(op: Any) -> Callable[..., Any] | None:
    """argmax or argmin: of numbers and their places, the first of the largest or smallest."""
    if len(op.operands) != 4 or "select" not in _kinds(op):
        return None
    for inner in op.regions[0].blocks[0].operations:
        if _kind(inner) == "compare":
            direction = str(inner.attributes["comparison_direction"])
            if "GT" in direction:
                return lax.argmax
            if "LT" in direction:
                return lax.argmin
    return None


def _kinds(op: Any) -> list[str]:
    return [_kind(inner) for inner in op.regions[0].blocks[0].operations]


ALIASES: dict[str, Callable[..., Sequence[Any]]] = {
    "chlo.top_k": _top_k,
    **{
        f"chlo.{name}": lambda op, *xs, function=function: [function(*xs)]
        for name, function in {
            **{name: getattr(lax, name) for name in ("acos", "acosh", "asin", "asinh", "atan")},
            **{name: getattr(lax, name) for name in ("atanh", "cosh", "erf", "erf_inv", "erfc")},
            **{name: getattr(lax, name) for name in ("digamma", "lgamma", "sinh", "square", "tan")},
            "next_after": lax.nextafter,
        }.items()
    },
}
"""Composites, and custom calls of older releases, that a function of JAX computes."""

OPS: dict[str, Callable[..., Any]] = {
    **{
        name: _plain(function)
        for name, function in {
            "abs": lax.abs,
            "and": lax.bitwise_and,
            "atan2": lax.atan2,
            "cbrt": lax.cbrt,
            "ceil": lax.ceil,
            "clamp": lax.clamp,
            "complex": lax.complex,
            "cosine": lax.cos,
            "count_leading_zeros": lax.clz,
            "exponential": lax.exp,
            "exponential_minus_one": lax.expm1,
            "floor": lax.floor,
            "imag": lax.imag,
            "is_finite": lax.is_finite,
            "log": lax.log,
            "log_plus_one": lax.log1p,
            "logistic": lax.logistic,
            "not": lax.bitwise_not,
            "optimization_barrier": lambda *operands: operands,
            "or": lax.bitwise_or,
            "popcnt": lax.population_count,
            "power": lax.pow,
            "real": lax.real,
            "round_nearest_afz": lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO),
            "round_nearest_even": lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN),
            "rsqrt": lax.rsqrt,
            "select": lax.select,
            "shift_left": lax.shift_left,
            "shift_right_arithmetic": lax.shift_right_arithmetic,
            "shift_right_logical": lax.shift_right_logical,
            "sign": lax.sign,
            "sine": lax.sin,
            "sqrt": lax.sqrt,
            "tan": lax.tan,
            "tanh": lax.tanh,
            "xor": lax.bitwise_xor,
        }.items()
    },
    "add": _on_numbers(_plain(lax.add), lambda op, x, y: x + y),
    "subtract": _on_numbers(_plain(lax.sub), lambda op, x, y: x - y),
    "multiply": _on_numbers(_plain(lax.mul), lambda op, x, y: x * y),
    "negate": _on_numbers(_plain(lax.neg), lambda op, x: -x),
    "divide": _plain(lax.div),
    "remainder": _plain(lax.rem),
    "maximum": _plain(lax.max),
    "minimum": _plain(lax.min),
    "convert": _on_numbers(lambda op, x: lax.convert_element_type(x, _dtype(op)), lambda op, x: x),
    "reshape": _on_numbers(
        lambda op, x: lax.reshape(x, _shape(op)), lambda op, x: x.reshape(_shape(op))
    ),
    "concatenate": _on_numbers(
        lambda op, *xs: lax.concatenate(xs, _int(op, "dimension")),
        lambda op, *xs: np.concatenate(xs, _int(op, "dimension")),
    ),
    "slice": _on_numbers(
        lambda op, x: lax.slice(
            x, _ints(op, "start_indices"), _ints(op, "limit_indices"), _ints(op, "strides")
        ),
        lambda op, x: x[
            tuple(
                map(
                    slice,
                    _ints(op, "start_indices"),
                    _ints(op, "limit_indices"),
                    _ints(op, "strides"),
                )
            )
        ],
    ),
    "sdy.sharding_constraint": lambda op, x: x,
    "bitcast_convert": lambda op, x: lax.bitcast_convert_type(x, _dtype(op)),
    "broadcast_in_dim": lambda op, x: lax.broadcast_in_dim(
        x, _shape(op), _ints(op, "broadcast_dimensions")
    ),
    "compare": _compare,
    "constant": _constant,
    "convolution": _convolution,
    "dot_general": _dot,
    "dynamic_broadcast_in_dim": lambda op, x, shape: lax.broadcast_in_dim(
        x, extents(shape), _ints(op, "broadcast_dimensions")
    ),
    "dynamic_conv": _convolution,
    "dynamic_gather": _gather,
    "dynamic_iota": lambda op, shape: lax.broadcasted_iota(
        _dtype(op), extents(shape), _int(op, "iota_dimension")
    ),
    "dynamic_pad": _pad,
    "dynamic_reshape": lambda op, x, shape: lax.reshape(x, extents(shape)),
    "dynamic_slice": lambda op, x, *starts: lax.dynamic_slice(x, starts, _ints(op, "slice_sizes")),
    "dynamic_update_slice": lambda op, x, update, *starts: lax.dynamic_update_slice(
        x, update, starts
    ),
    "fft": _fft,
    "gather": _gather,
    "get_dimension_size": _size,
    "iota": lambda op: lax.broadcasted_iota(_dtype(op), _shape(op), _int(op, "iota_dimension")),
    "pad": _pad,
    "real_dynamic_slice": lambda op, x, start, limit, strides: lax.slice(
        x, extents(start), extents(limit), extents(strides)
    ),
    "reduce": _reduce,
    "reduce_precision": lambda op, x: lax.reduce_precision(
        x, _int(op, "exponent_bits"), _int(op, "mantissa_bits")
    ),
    "reduce_window": _reduce_window,
    "reverse": lambda op, x: lax.rev(x, _ints(op, "dimensions")),
    "scatter": _scatter,
    "sort": _sort,
    "transpose": lambda op, x: lax.transpose(x, _ints(op, "permutation")),
}
"""The results of an operation, by its name, of the operation and its operands."""

TAKE_NUMBERS = {
    *("add", "concatenate", "convert", "multiply", "negate", "reshape", "slice", "subtract"),
    *("dynamic_broadcast_in_dim", "dynamic_conv", "dynamic_gather", "dynamic_iota"),
    *("dynamic_pad", "dynamic_reshape", "real_dynamic_slice"),
}
"""Operations that take numbers as they are."""
