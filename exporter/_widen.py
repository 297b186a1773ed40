"""Narrow element types: arithmetic on them is done in float32 and int32, as XLA does it on CPUs.

The ops of a file compute with float32, int32, uint32 and bools. An equation that computes with
bfloat16, float16 or integers of 8 and 16 bits becomes one of the wide type between conversions;
what only moves elements keeps them. A product of two types becomes one of the type of its result.

XLA keeps more than the narrow type has between operations that it joins, and rounds where it does
not; here each result is rounded, as JAX defines it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lumina_jax.ops import OPS

from ._program import Constant, Equation, Operand, Program, Variable
from ._types import is_key

_WIDE = {
    **dict.fromkeys(("bfloat16", "float16"), np.dtype(np.float32)),
    **dict.fromkeys(("int8", "int16", "uint8", "uint16"), np.dtype(np.int32)),
}
# They move elements, or call what computes.
_MOVES = {
    "bitcast_convert_type",
    "broadcast_in_dim",
    "concatenate",
    "cond",
    "convert_element_type",
    "dynamic_slice",
    "dynamic_update_slice",
    "expand_dims",
    "gather",
    "pad",
    "reshape",
    "rev",
    "scan",
    "scatter",
    "select_and_gather_add",
    "select_n",
    "slice",
    "sort",
    "split",
    "squeeze",
    "stack",
    "tile",
    "top_k",
    "transpose",
    "unstack",
    "while",
}
# They see the bits of a narrow number, which are others in a wide one.
_OF_BITS = {
    "clz": {"int8", "int16", "uint8"},
    "nextafter": {"bfloat16", "float16"},
    "population_count": {"int8", "int16"},
    "shift_right_logical": {"int8", "int16"},
}
_PRODUCTS = {"conv_general_dilated", "dot_general"}
# They give the least or the largest number of their type where they have nothing to reduce.
_OF_NOTHING = {
    "reduce_max": ("max", "min"),
    "reduce_min": ("min", "max"),
    "reduce_window_max": ("max", "min"),
    "reduce_window_min": ("min", "max"),
}
# Parameters that name the type of a result.
_TYPE_PARAMS = ("dtype", "index_dtype", "out_dtype", "preferred_element_type")


def widened(program: Program) -> Program:
    """The program, and those in it, without arithmetic on narrow types."""
    equations = (part for equation in program.equations for part in _wide(equation))
    return replace(program, equations=tuple(equations))


def _wide(equation: Equation) -> Iterator[Equation]:
    if equation.bodies:
        equation = replace(equation, bodies=tuple(map(widened, equation.bodies)))
    values = (*equation.inputs, *equation.outputs)
    narrow = {str(value.dtype) for value in values if _of(value) is not None}
    is_mixed = equation.primitive in _PRODUCTS and len({str(v.dtype) for v in values}) > 1
    is_of_bits = not narrow.isdisjoint(_OF_BITS.get(equation.primitive, ()))
    stays = equation.primitive in _MOVES or equation.primitive in OPS or is_of_bits
    if stays or not (narrow or is_mixed):
        yield equation
        return
    to = _of(equation.outputs[0]) or equation.outputs[0].dtype if is_mixed else None
    inputs: list[Operand] = []
    for operand in equation.inputs:
        wide = to or _of(operand)
        if wide is None or wide == operand.dtype:
            inputs.append(operand)
        else:
            conversion = _converted(operand, Variable(operand.shape, wide), equation)
            inputs += conversion.outputs
            yield conversion
    outputs = [
        variable if (wide := _of(variable)) is None else Variable(variable.shape, wide)
        for variable in equation.outputs
    ]
    params = _wide_params(equation.params, outputs[0].dtype if to else None)
    yield replace(equation, params=params, inputs=tuple(inputs), outputs=tuple(outputs), place=None)
    for variable, wide in zip(equation.outputs, outputs, strict=True):
        if variable is not wide:
            bounded = _bounded(wide, variable, equation)
            if bounded is not None:
                yield bounded
                (wide,) = bounded.outputs
            yield _converted(wide, variable, equation)


def _of(value: Operand) -> np.dtype[Any] | None:
    """The type to compute with in place of a narrow one."""
    return None if is_key(value.dtype) else _WIDE.get(str(value.dtype))


def _bounded(wide: Variable, narrow: Variable, equation: Equation) -> Equation | None:
    """What brings a wide result of nothing to the bound of a narrow type of integers."""
    if equation.primitive not in _OF_NOTHING or np.dtype(narrow.dtype).kind not in "iu":
        return None
    operation, bound = _OF_NOTHING[equation.primitive]
    of_narrow = Constant(np.asarray(getattr(np.iinfo(narrow.dtype), bound), wide.dtype))
    result = Variable(wide.shape, wide.dtype)
    return Equation(operation, {}, (of_narrow, wide), (result,), equation.source)


def _converted(operand: Operand, result: Variable, equation: Equation) -> Equation:
    params = {"new_dtype": result.dtype, "weak_type": False}
    return Equation("convert_element_type", params, (operand,), (result,), equation.source)


def _wide_params(params: Mapping[str, Any], product: np.dtype[Any] | None) -> dict[str, Any]:
    changed = dict(params)
    for name in _TYPE_PARAMS:
        if (dtype := params.get(name)) is not None and not is_key(np.dtype(dtype)):
            changed[name] = _WIDE.get(str(np.dtype(dtype)), dtype)
    if product is not None:
        changed["preferred_element_type"] = product
    return changed
