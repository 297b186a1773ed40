"""A function of JAX as a program on NumPy memory, so that arrays of any library are not copied.

JAX copies memory of others that is not at a multiple of 64 bytes, which most of NumPy's is not. So
the jaxpr of a function is made once for each type of its arguments, and run without JAX:

    our ops                          the kernels, on the memory of the operands
    reshape, transpose, slice, ...   views of NumPy, or copies
    all else                         JAX, one equation at a time, as it runs them outside of `jit`

What no argument enters is computed when the program is made, and what no result needs is left out.
What is left beside the ops are a few small arrays, unless the function itself makes new large ones,
as the losses of a profile make of the weights.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from .._jaxpr import ClosedJaxpr, Interpreter, Site, array_type, evaluate, sites
from ..ops import OPS, OpDef, optical_matmul_grad

Array: TypeAlias = np.ndarray[Any, Any]

_LARGE = 1 << 16
"""Elements of a constant that is made anew in each run rather than kept."""


class Step(NamedTuple):
    """A computation of a program: from values to values, by their numbers."""

    run: Callable[..., Sequence[Array]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Program:
    """Steps in order, on numbered values."""

    constants: dict[int, Array]
    inputs: tuple[int, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    size: int
    """How many values there are."""

    def __call__(self, *arrays: Array) -> list[Array]:
        """The results for arrays of the types that it was made for, in memory of their own."""
        values: list[Any] = [None] * self.size
        for number, constant in self.constants.items():
            values[number] = constant
        for number, array in zip(self.inputs, arrays, strict=True):
            values[number] = array
        for run, inputs, outputs in self.steps:
            results = run(*[values[number] for number in inputs])
            for number, result in zip(outputs, results, strict=True):
                values[number] = result
        owned: list[Array] = []
        for number in self.outputs:
            owned.append(_owned(values[number], (*arrays, *owned)))
        return owned

    def part(self, inputs: Iterable[int], outputs: Sequence[int]) -> Program:
        """The steps between those values."""
        inputs = tuple(inputs)
        wanted, steps = set(outputs) - set(inputs), []
        for step in reversed(self.steps):
            if not wanted.isdisjoint(step.outputs):
                steps.append(step)
                wanted = (wanted - set(step.outputs)) | (set(step.inputs) - set(inputs))
        constants = {number: array for number, array in self.constants.items() if number in wanted}
        return Program(constants, inputs, tuple(reversed(steps)), tuple(outputs), self.size)

    def dependents(self, inputs: Iterable[int]) -> set[int]:
        """The values that follow from any of `inputs`, which are among them."""
        found = set(inputs)
        for step in self.steps:
            if not found.isdisjoint(step.inputs):
                found.update(step.outputs)
        return found


def _owned(result: Array, arrays: Sequence[Array]) -> Array:
    """A result in memory of its own: not that of JAX, which never changes, nor of `arrays`."""
    if result.flags.writeable and not any(np.may_share_memory(result, a) for a in arrays):
        return result
    return result.copy()


def program_of(
    function: Callable[..., Any], types: Sequence[Any]
) -> tuple[Program, list[jax.ShapeDtypeStruct]]:
    """The program of a function of arrays of those types, and the types of its results, flattened.

    Raises:
        What the function raises for arrays whose values are not known.
    """
    with _outside():
        jaxpr = jax.make_jaxpr(function)(*types)
        program = _Recorder(len(types)).program(jaxpr)
    return program, [jax.ShapeDtypeStruct(*array_type(v)) for v in jaxpr.jaxpr.outvars]


@dataclass(frozen=True)
class _Value:
    """A value of the program, by its number."""

    number: int


class _Recorder(Interpreter[Any]):
    """Runs a jaxpr on values that are known, and records what is done with those that are not."""

    def __init__(self, inputs: int) -> None:
        self._size = inputs
        self._inputs = tuple(range(inputs))
        self._steps: list[Step] = []
        self._constants: dict[int, Array] = {}

    def program(self, jaxpr: ClosedJaxpr) -> Program:
        """The program of `jaxpr`."""
        results = self.run(jaxpr, [_Value(number) for number in self._inputs])
        outputs = tuple(map(self._number, results))
        whole = Program(self._constants, self._inputs, tuple(self._steps), outputs, self._size)
        return whole.part(self._inputs, outputs)

    def constant(self, array: Any) -> Any:
        return array

    def enters(self, site: Site) -> bool:
        # JAX compiles the body of a `jit` as a whole, which can round in other places.
        is_compiled = site.name in ("jit", "pjit")
        return not is_compiled or any(s.name in OPS for body in site.bodies for s in sites(body))

    def equation(self, site: Site, operands: list[Any]) -> Sequence[Any]:
        is_known = not any(isinstance(operand, _Value) for operand in operands)
        if is_known and site.name not in OPS and not _is_large(site):
            return evaluate(site.eqn, operands)
        numbers = range(self._size, self._size + len(site.eqn.outvars))
        self._size += len(numbers)
        inputs = tuple(map(self._number, operands))
        self._steps.append(Step(_step(site), inputs, tuple(numbers)))
        return [_Value(number) for number in numbers]

    def _number(self, operand: Any) -> int:
        if isinstance(operand, _Value):
            return operand.number
        number = self._size
        self._size += 1
        constant = np.asarray(operand).view()
        constant.flags.writeable = False
        self._constants[number] = constant
        return number


def _is_large(site: Site) -> bool:
    shapes = (array_type(v)[0] for v in site.eqn.outvars)
    return any(math.prod(shape) > _LARGE for shape in shapes)


def _step(site: Site) -> Callable[..., Sequence[Array]]:
    """What computes one equation."""
    if site.name in OPS:
        op = OPS[site.name]
        return functools.partial(_on_kernel, op, op.attrs(**site.params))
    moved = _MOVED.get(site.name)
    if moved is None or not moved.applies(site):
        return functools.partial(_in_jax, site.eqn)
    return lambda *operands: [moved.of(site.params, *operands)]


_TRANSPOSED: Mapping[str, str] = {"transpose_weight": "w", "transpose_w": "w", "transpose_x": "x"}
"""Attributes that say how an operand lies in memory, and the operand."""


def _on_kernel(op: OpDef[Any, Any], attrs: Any, *arrays: Array) -> Sequence[Array]:
    """The results of an op, whose kernel takes rows that follow each other in memory.

    A matrix whose columns do is given as its transpose, where the op can be told that it is one.
    """
    operands, of_gradient = op.operands(*arrays), False
    for attribute, name in _TRANSPOSED.items():
        array = getattr(operands, name, None)
        if array is None or not hasattr(attrs, attribute):
            continue
        if array.flags.f_contiguous and not array.flags.c_contiguous:
            attrs = replace(attrs, **{attribute: not getattr(attrs, attribute)})
            operands = operands._replace(**{name: array.T})
            # The gradient of the weights lies as they do.
            of_gradient = op.name in _GRADIENTS
    rows_follow = [np.require(operand, requirements=("C", "A")) for operand in operands]
    results = op.on_numpy(attrs, type(operands)(*rows_follow))
    if of_gradient:
        results[_OF_W] = results[_OF_W].T
    return results


_GRADIENTS = frozenset(name for name in OPS if name.endswith("optical_matmul_grad"))
_OF_W = optical_matmul_grad.Gradients._fields.index("w")


@contextlib.contextmanager
def _outside() -> Iterator[None]:
    """Outside of the transformation of JAX that runs, and on the CPU, where the arrays are."""
    with (
        jax.ensure_compile_time_eval(),
        jax.default_device(_cpu()),
        jax.transfer_guard("allow"),  # a guard is one of the programs of JAX
    ):
        yield


@functools.cache
def _cpu() -> Any:
    return jax.local_devices(backend="cpu")[0]


def _in_jax(eqn: Any, *arrays: Array) -> Sequence[Array]:
    with _outside():
        return [np.asarray(result) for result in evaluate(eqn, arrays)]


class _Moved(NamedTuple):
    """An equation that only says where the elements of its operands go."""

    of: Callable[..., Array]
    """Its result, of its parameters and operands."""
    applies: Callable[[Site], bool] = lambda site: True


def _broadcast(params: Mapping[str, Any], array: Array) -> Array:
    extents = [1] * len(params["shape"])
    for axis, extent in zip(params["broadcast_dimensions"], array.shape, strict=True):
        extents[axis] = extent
    return np.broadcast_to(array.reshape(extents), params["shape"])


def _sliced(params: Mapping[str, Any], array: Array) -> Array:
    strides = params["strides"] or (1,) * array.ndim
    return array[tuple(map(slice, params["start_indices"], params["limit_indices"], strides))]


def _keeps_type(site: Site) -> bool:
    return site.params["new_dtype"] == array_type(site.eqn.invars[0])[1]


_MOVED: Mapping[str, _Moved] = {
    "broadcast_in_dim": _Moved(_broadcast),
    "concatenate": _Moved(lambda params, *arrays: np.concatenate(arrays, params["dimension"])),
    "convert_element_type": _Moved(lambda params, array: array, _keeps_type),
    "copy": _Moved(lambda params, array: array),
    "reshape": _Moved(
        lambda params, array: array.reshape(params["new_sizes"]),
        lambda site: site.params["dimensions"] is None,
    ),
    "rev": _Moved(lambda params, array: np.flip(array, params["dimensions"])),
    "slice": _Moved(_sliced),
    "squeeze": _Moved(lambda params, array: np.squeeze(array, params["dimensions"])),
    "stack": _Moved(lambda params, *arrays: np.stack(arrays, params["axis"])),
    "stop_gradient": _Moved(lambda params, array: array),
    "transpose": _Moved(lambda params, array: array.transpose(params["permutation"])),
}
