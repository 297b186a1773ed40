"""How a program uses a weight: which axes it sums over, and whether only converters see it.

Axes are followed through what moves elements. A product decides; an embedding, of which rows are
taken, has the sums of a later product along its rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._codes import BITS
from ._program import Constant, Equation, Operand, Program, Variable

_SAME = {"convert_element_type", "copy", "neg", "quantize", "rev"}
_OF_EACH = {"add", "div", "mul", "sub"}
_CUTS = {"concatenate", "dynamic_slice", "pad", "slice", "split"}
_CONVERTING = {
    f"{op}{suffix}" for op in ("optical_conv", "optical_matmul") for suffix in ("", "_fwd")
}
_OPTICAL = {*_CONVERTING, "complex_optical_matmul", "complex_optical_matmul_fwd"}
_W, _FULL_SCALE = 1, 4


@dataclass(frozen=True)
class _Axis:
    """An axis of a value that holds elements of the weight."""

    of: tuple[int, ...]
    """Which axes of the weight it is."""
    extent: Any


_Axes = tuple[_Axis, ...]


def contracted(program: Program, weight: Variable) -> tuple[int, ...] | None:
    """The axes of `weight` that are summed over, ascending; None where no use tells."""
    found: dict[bool, tuple[int, ...]] = {}
    for is_product, axes in _sums(program, {weight: _axes_of(weight)}):
        if axes:
            found.setdefault(is_product, tuple(sorted(axes)))
    return found.get(True, found.get(False))


def _axes_of(weight: Variable) -> _Axes:
    return tuple(_Axis((axis,), extent) for axis, extent in enumerate(weight.shape))


def _sums(program: Program, known: dict[Operand, _Axes]) -> Iterator[tuple[bool, set[int]]]:
    """For each use, whether it is a product, and the axes of the weight that it sums over."""
    for equation in program.equations:
        for place, operand in enumerate(equation.inputs):
            if operand in known:
                axes = known[operand]
                summed = _summed(equation, place, axes)
                if summed is not None:
                    yield summed[0], {axis for at in summed[1] for axis in axes[at].of}
                moved = _moved(equation, place, axes)
                if moved is not None:
                    known.update(dict.fromkeys(equation.outputs, moved))
        for body in equation.bodies:
            inner = dict(known)
            if equation.primitive == "scan":
                carried = equation.params["num_carry"]
                pairs = zip(equation.inputs[carried:], body.inputs[carried:], strict=True)
                inner.update((own, known[outer][1:]) for outer, own in pairs if outer in known)
            yield from _sums(body, inner)


def _summed(equation: Equation, place: int, axes: _Axes) -> tuple[bool, Sequence[int]] | None:
    """Whether a product uses the operand, and the axes that it sums over; None for other uses."""
    params = equation.params
    match equation.primitive:
        case "dot_general":
            return True, params["dimension_numbers"][0][place]
        case "conv_general_dilated" if place == 1:
            outputs = params["dimension_numbers"].rhs_spec[0]
            return True, [axis for axis in range(len(axes)) if axis != outputs]
        case name if name in _OPTICAL and place == _W:
            last = len(axes) - 1
            return True, [last] if params.get("transpose_weight") else range(last)
        case "gather" if place == 0:
            indexed = params["dimension_numbers"].start_index_map
            return False, [axis for axis in range(len(axes)) if axis not in indexed]
    return None


def _moved(equation: Equation, place: int, axes: _Axes) -> _Axes | None:
    """The axes of the results, where they hold elements of the operand; None where they do not."""
    result = equation.outputs[0].shape
    match equation.primitive:
        case name if name in _SAME and place == 0:
            return axes
        case name if name in _OF_EACH and result == tuple(axis.extent for axis in axes):
            return axes
        case name if name in _CUTS and (place == 0 or name == "concatenate"):
            return tuple(_Axis(axis.of, extent) for axis, extent in zip(axes, result, strict=True))
        case "transpose":
            return tuple(axes[axis] for axis in equation.params["permutation"])
        case "squeeze":
            dropped = equation.params["dimensions"]
            return tuple(axis for at, axis in enumerate(axes) if at not in dropped)
        case "broadcast_in_dim":
            dims = equation.params["broadcast_dimensions"]
            places = dict(zip(dims, axes, strict=True))
            return tuple(places.get(at, _Axis((), extent)) for at, extent in enumerate(result))
        case "reshape":
            return _reshaped(axes, result)
        case "gather" if place == 0:
            return _gathered(equation, axes)
    return None


def _reshaped(axes: _Axes, shape: Sequence[Any]) -> _Axes | None:
    """The axes of another shape: each is made of whole ones, or is a part of one."""
    if not all(isinstance(extent, int) for extent in (*shape, *(axis.extent for axis in axes))):
        return None
    left, made = list(axes), list[_Axis]()
    for extent in shape:
        of, size = tuple[int, ...](), 1
        while left and size != extent:
            axis = left.pop(0)
            if size == 1 and extent and axis.extent % extent == 0 and axis.extent > extent:
                left.insert(0, _Axis(axis.of, axis.extent // extent))
                axis = _Axis(axis.of, extent)
            of, size = (*of, *axis.of), size * axis.extent
        if size != extent:
            return None
        made.append(_Axis(of, extent))
    return tuple(made) if math.prod(axis.extent for axis in left) == 1 else None


def _gathered(equation: Equation, axes: _Axes) -> _Axes | None:
    """The axes of lines that are taken whole, such as the weights of one of many layers."""
    numbers = equation.params["dimension_numbers"]
    gone = {*numbers.collapsed_slice_dims, *getattr(numbers, "operand_batching_dims", ())}
    kept = [axis for at, axis in enumerate(axes) if at not in gone]
    result = [_Axis((), extent) for extent in equation.outputs[0].shape]
    for at, axis in zip(numbers.offset_dims, kept, strict=True):
        result[at] = _Axis(axis.of, result[at].extent)
    others = [at for at in range(len(result)) if at not in numbers.offset_dims]
    if len(others) == len(numbers.start_index_map) == 1 and _is_order(equation):
        result[others[0]] = axes[numbers.start_index_map[0]]
    return tuple(result)


def _is_order(equation: Equation) -> bool:
    """Whether lines are taken in another order, all of them."""
    is_known = isinstance(equation.inputs[1], Constant)
    return is_known and equation.outputs[0].shape == equation.inputs[0].shape


@dataclass(frozen=True)
class Converters:
    """The converters that a weight enters, and that nothing else reads it."""

    bits: int
    """The most that one of them has."""
    is_direct: bool
    """Whether they read the weight itself, in whatever shape, and not what follows from it."""


def converters(program: Program, weight: Variable) -> Converters | None:
    """The converters of weights that alone use `weight`; None where something else does."""
    seen = _Converting()
    seen.program(program, {weight: True})
    return Converters(max(seen.bits), seen.is_direct) if seen.is_alone and seen.bits else None


class _Converting:
    """Follows what is made of a weight and constants, as an export folds it."""

    def __init__(self) -> None:
        self.bits: set[int] = set()
        self.is_direct = True
        self.is_alone = True

    def program(self, program: Program, known: dict[Operand, bool]) -> None:
        """Goes on where `known` has what follows from the weight, and whether it is the weight."""
        for equation in program.equations:
            reads = [operand for operand in equation.inputs if operand in known]
            of_body = {free for body in equation.bodies for free in body.free()}
            if equation.primitive in _CONVERTING:
                self._converted(equation, known)
            elif equation.bodies:
                self.is_alone &= not reads
                for body in equation.bodies:
                    self.program(body, {k: v for k, v in known.items() if k in of_body})
            elif reads and all(o in known or isinstance(o, Constant) for o in equation.inputs):
                is_weight = known[reads[0]] and equation.primitive in ("reshape", "transpose")
                known.update(dict.fromkeys(equation.outputs, is_weight))
            elif reads:
                self.is_alone = False
        self.is_alone &= not any(output in known for output in program.outputs)

    def _converted(self, equation: Equation, known: Mapping[Operand, bool]) -> None:
        for place, operand in enumerate(equation.inputs):
            if operand in known:
                bits = equation.params["weight_bits"]
                if place == _W and bits in BITS:
                    self.bits.add(bits)
                    self.is_direct &= known[operand]
                elif place == _FULL_SCALE:
                    self.is_direct = False
                else:
                    self.is_alone = False
