"""Ops on the memory of NumPy arrays: which program a call runs, made once for each kind of call."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from .._arguments import F32_MAX
from ..custom_vjp._chain import device_of
from ..hardware.noise import NoiseModel
from ._interchange import NUMBERS, Library, lent
from ._program import Program, program_of

Array: TypeAlias = np.ndarray[Any, Any]


def _accepts_all(arguments: Mapping[str, Any]) -> bool:
    del arguments
    return True


@dataclass(frozen=True, eq=False)
class Operation:
    """A public function of JAX that runs on arrays of any library."""

    function: Callable[..., Any]
    factors: Mapping[str, tuple[str, ...]]
    """The arrays that it takes, and the types that each may have."""
    magnitudes: tuple[str, ...] = ()
    """Its arguments that are numbers, or small arrays, which are not negative."""
    others: tuple[str, ...] = ()
    """Those of any sign: a scale, an offset, lengths, the id of the first row."""

    accepts: Callable[[Mapping[str, Any]], bool] = _accepts_all
    """Whether the values of the others are such that the function takes them."""

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.function.__name__

    @functools.cached_property
    def parameters(self) -> frozenset[str]:
        """The names of those of the function."""
        return frozenset(inspect.signature(self.function).parameters)

    @functools.cached_property
    def arrays(self) -> tuple[str, ...]:
        """All arguments that can be arrays."""
        return (*self.factors, *self.magnitudes, *self.others)


def lent_to(library: Library, operation: Operation, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with NumPy arrays in the memory of those of the library."""
    op, memory = operation.name, dict(arguments)
    for name in operation.arrays:
        value = arguments.get(name)
        if value is not None and not isinstance(value, NUMBERS):
            memory[name] = lent(op, name, value, library, operation.factors.get(name))
    noise = arguments.get("noise")
    if isinstance(noise, NoiseModel):
        memory["noise"] = jax.tree.map(functools.partial(_lent_number, op, library), noise)
    return memory


def _lent_number(op: str, library: Library, number: Any) -> Any:
    """A parameter of noise, which may be an array of the library, or one of JAX or NumPy."""
    if isinstance(number, (*NUMBERS, np.ndarray, jax.Array)):
        return number
    return lent(op, "noise", number, library)


def given_by(library: Library, results: Any) -> Any:
    """An array of the library in the memory of one, or a tuple of them for a list."""
    give: Callable[[Any], Any] = library.give
    return tuple(map(give, results)) if isinstance(results, list) else give(results)


def run(operation: Operation, arguments: Mapping[str, Any]) -> Array | list[Array]:
    """The results for arguments whose arrays are NumPy's, and whose `key` are two words or None."""
    return results_of(operation, arguments, prepare(operation, arguments))


def results_of(
    operation: Operation, arguments: Mapping[str, Any], call: Call | None
) -> Array | list[Array]:
    """The results of a call that is prepared."""
    if call is None:
        # The function itself says what is wrong.
        results = operation.function(**arguments)
        return [*map(np.asarray, results)] if type(results) is tuple else np.asarray(results)
    made = call.kind.program
    results = made.whole(*call.arrays)
    return results[0] if made.is_single else results


def types_of(
    operation: Operation, arguments: Mapping[str, Any]
) -> tuple[list[jax.ShapeDtypeStruct], bool]:
    """The types of the results, and whether there is one alone; nothing is computed."""
    call = prepare(operation, arguments)
    if call is None:
        results = operation.function(**arguments)
        several = results if isinstance(results, tuple) else (results,)
        return [jax.ShapeDtypeStruct(r.shape, r.dtype) for r in several], results is not several
    return call.kind.program.types, call.kind.program.is_single


class Call(NamedTuple):
    """A call: of which kind it is, and the arrays that enter its program."""

    kind: Kind
    arrays: list[Array]
    places: list[int]
    """Which of the leaves of `dynamic` each array is."""


def dynamic(operation: Operation, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments whose values a program does not know: a pytree of arrays and numbers."""
    names = (*operation.arrays, "key", "noise")
    return {name: arguments[name] for name in names if name in arguments}


def prepare(operation: Operation, arguments: Mapping[str, Any]) -> Call | None:
    """The call with such arguments; None where the function refuses them.

    It does not look at the values of traced arrays, so they are looked at here.
    """
    if not (_are_magnitudes(operation, arguments) and operation.accepts(arguments)):
        return None
    values = dynamic(operation, arguments)
    leaves, tree = jax.tree.flatten(values)
    types = tuple(map(_type, leaves))
    places, arrays = [], []
    for place, kind in enumerate(types):
        if isinstance(kind, _Type):
            places.append(place)
            arrays.append(np.asarray(leaves[place], kind.dtype))
    static = {name: value for name, value in arguments.items() if name not in values}
    wide = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    key = operation.name, tree, types, _frozen(static), wide
    try:
        hash(key)
    except TypeError:
        return None
    # A kind of call is kept, and its arrays are not.
    known = tuple(k if isinstance(k, _Type) else v for k, v in zip(types, leaves, strict=True))
    return Call(Kind(key, operation, tree, known, static), arrays, places)


def _are_magnitudes(operation: Operation, arguments: Mapping[str, Any]) -> bool:
    noise = arguments.get("noise")
    numbers = [arguments.get(name) for name in operation.magnitudes]
    if isinstance(noise, NoiseModel):
        numbers += jax.tree.leaves(noise)
    return all(map(_is_magnitude, numbers))


def _is_magnitude(value: Any) -> bool:
    if value is None or (type(value) in (int, float) and 0 <= value <= F32_MAX):
        return True
    if not isinstance(value, np.generic | np.ndarray | jax.Array):
        return False
    known = np.asarray(value)
    if known.dtype.kind == "V":  # such as bfloat16
        known = known.astype(np.float32)
    return known.dtype.kind in "fiu" and bool(np.all((known >= 0) & (known <= F32_MAX)))


class _Type(NamedTuple):
    """The type of an array that enters a program."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    weak: bool

    def traced(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.shape, self.dtype, weak_type=self.weak)


class _Known(NamedTuple):
    """A value that a program is made for, equal where it looks the same."""

    kind: type
    text: str


def _type(leaf: Any) -> _Type | _Known:
    if isinstance(leaf, np.ndarray | jax.Array):
        return _Type(leaf.shape, _canonical(leaf.dtype), False)
    # Zero is known to be none, such as no noise.
    kind: Any = type(leaf)
    if isinstance(leaf, np.generic) and leaf != 0:
        return _Type((), _canonical(leaf.dtype), False)
    if kind in (int, float) and 0 < abs(leaf) < 2**31:  # pyright: ignore[reportArgumentType]
        return _Type((), _canonical(np.dtype(kind)), True)
    return _Known(kind, repr(leaf))


def _canonical(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype == np.complex128 else jax.dtypes.canonicalize_dtype(dtype)


def _frozen(value: Any) -> Any:
    """What is equal where static arguments are the same, of the same types."""
    if isinstance(value, Mapping):
        return tuple((name, _frozen(item)) for name, item in value.items())
    if isinstance(value, list | tuple):
        return type(value), tuple(map(_frozen, value))
    return type(value), value


class _Made(NamedTuple):
    """The program of a kind of call."""

    whole: Program
    types: list[jax.ShapeDtypeStruct]
    """Those of the results."""
    is_single: bool
    """Whether the function returns an array, and no tuple."""


class Derivative(NamedTuple):
    """The program of a kind of call, and of its gradient."""

    forward: Program
    """From the arrays to the results, and to what is saved."""
    backward: Program
    """From arrays, results, what is saved, and the gradient of the first result, to gradients."""
    is_single: bool
    keeps: tuple[bool, ...]
    """Of each array and each result, whether the gradient looks at it."""


@dataclass(frozen=True)
class Kind:
    """A kind of call; those of equal `key` run the same program."""

    key: Any
    operation: Operation = field(compare=False)
    tree: Any = field(compare=False)
    leaves: tuple[Any, ...] = field(compare=False)
    """A `_Type` in place of each array."""
    static: Mapping[str, Any] = field(compare=False)

    @property
    def program(self) -> _Made:
        """That of the function."""
        return _program(self)

    def derivative(self, wanted: tuple[int, ...]) -> Derivative:
        """That of the function and of its gradient by those arrays."""
        return _derivative(self, wanted)

    @property
    def types(self) -> tuple[_Type, ...]:
        """Those of the arrays."""
        return tuple(kind for kind in self.key[2] if isinstance(kind, _Type))

    def call(self, *arrays: Any) -> Any:
        """The function on arrays that may be traced."""
        found = iter(arrays)
        leaves = [next(found) if isinstance(leaf, _Type) else leaf for leaf in self.leaves]
        return self.operation.function(**jax.tree.unflatten(self.tree, leaves), **self.static)

    def check_key(self, *, gradient: bool = False) -> None:
        """Raises the ValueError that something is to be drawn without a seed."""
        arguments = jax.tree.unflatten(self.tree, self.leaves) | self.static
        if "noise" not in self.operation.parameters or arguments.get("key") is not None:
            return
        op = self.operation.name
        device = device_of(op, *map(arguments.get, ("profile", "spec", "noise")))
        if device.noise is not None:
            raise ValueError(
                f"{op}: `noise` needs a `seed`, got None; pass an int such as seed=0, or "
                f"noise=NoiseModel() for a quiet device"
            )
        if gradient and device.spec.grad_precision == "int8" and op != "optical_attention":
            raise ValueError(
                f'{op}: the gradient with `grad_precision`="int8" needs a `seed`, got None; pass '
                f"an int such as seed=0, or take another precision"
            )


@functools.lru_cache(maxsize=512)
def _program(kind: Kind) -> _Made:
    kind.check_key()
    is_single = True

    def function(*arrays: Any) -> Any:
        nonlocal is_single
        results = kind.call(*arrays)
        is_single = not isinstance(results, tuple)
        return results

    program, types = _traced(function, kind.types)
    return _Made(program, types, is_single)


@functools.lru_cache(maxsize=512)
def _derivative(kind: Kind, wanted: tuple[int, ...]) -> Derivative:
    made = kind.program
    kind.check_key(gradient=True)
    out = made.types[0]

    def function(*operands: Any) -> Any:
        *arrays, g = operands

        def of_wanted(*active: Any) -> tuple[Any, Any]:
            at = list(arrays)
            for index, array in zip(wanted, active, strict=True):
                at[index] = array
            results = kind.call(*at)
            first, *others = [results] if made.is_single else results
            return first, others

        at = [arrays[index] for index in wanted]
        first, pulled_back, others = jax.vjp(of_wanted, *at, has_aux=True)
        return [first, *others, *pulled_back(g)]

    g = _Type(out.shape, np.dtype(out.dtype), False)
    whole, _ = _traced(function, (*kind.types, g))
    results = whole.outputs[: len(made.whole.outputs)]
    gradients = whole.outputs[len(results) :]
    *arrays, of_g = whole.inputs
    late = whole.dependents((of_g,))
    after = whole.part((*set(range(whole.size)) - late, of_g), gradients)
    needed = {number for step in after.steps for number in step.inputs} | set(gradients)
    seen = (*arrays, *results)
    saved = tuple(sorted(needed - late - set(seen) - set(whole.constants)))
    forward = whole.part(arrays, (*results, *saved))
    backward = whole.part((*seen, *saved, of_g), gradients)
    return Derivative(forward, backward, made.is_single, tuple(number in needed for number in seen))


def _traced(function: Callable[..., Any], types: Sequence[_Type]) -> Any:
    wide = any(kind.dtype == np.complex128 for kind in types)
    # Products of complex128 are computed whether or not JAX has its 64-bit types enabled.
    with jax.enable_x64(True) if wide else contextlib.nullcontext():
        return program_of(function, [kind.traced() for kind in types])
