"""The array of a namespace: one of JAX, and whose products run where."""

from __future__ import annotations

import copy
import operator
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ._standard import FUNCTIONS

if TYPE_CHECKING:
    from ._namespace import Namespace

_NUMBERS = (bool, int, float, complex, np.generic, np.ndarray, jax.Array)
"""What an operator takes beside an array of the namespace."""

_PLACES = (int, np.integer, slice, types.EllipsisType)
"""What an index without arrays is made of, besides None."""

GIVEN = "given"
"""Origin of an array that came from outside, and cannot be changed."""

Origin: TypeAlias = "str | tuple[OpticalArray, Callable[[jax.Array], jax.Array]] | None"
"""The array that an array is part of, and which part; None where it stands by itself."""


def _is_operand(value: Any) -> bool:
    return isinstance(value, (OpticalArray, *_NUMBERS))


def _unary(name: str) -> Callable[..., Any]:
    function = getattr(operator, name)

    def method(self: OpticalArray, /) -> OpticalArray:
        return self._like(function(self._array))

    return method


def _binary(name: str, *, is_reflected: bool = False) -> Callable[..., Any]:
    function = getattr(operator, name)

    def method(self: OpticalArray, other: Any, /) -> OpticalArray:
        if not _is_operand(other):
            return NotImplemented
        pair = (other, self) if is_reflected else (self, other)
        namespace, (left, right) = self._namespace._root._joined(name.strip("_"), *pair)
        return OpticalArray(function(left, right), namespace)

    return method


def _in_place(name: str) -> Callable[..., Any]:
    function = getattr(operator, name)

    def method(self: OpticalArray, other: Any, /) -> OpticalArray:
        if not _is_operand(other):
            return NotImplemented
        if not isinstance(self._origin, tuple):
            return function(self, other)
        self[...] = function(self._like(self._seen()), other)
        return self

    return method


class OpticalArray:
    """An array of the Array API standard whose matrix products run on a simulated processor.

    `Namespace.asarray` and the other functions of a namespace make one; it has the attributes and
    the operators of the standard, with the promotion of `jax.numpy`. Python numbers and arrays of
    NumPy and JAX may stand beside it in an operator; another device's may not. It is a pytree, and
    goes into and out of `jit`, `grad`, `vmap` and `scan`. For functions of `jax.numpy` and NumPy it
    is a plain array, and what they compute is digital.

    What was given cannot be changed: to `asarray` without `copy=True` or a device, to
    `from_dlpack`, or as an argument of a compiled function. Code of the standard fills the arrays
    that functions and operators have made, so these take `a[index] = value`. No memory is written
    for it: the array then holds a new one of JAX. If it is a slice of another array, or one with
    its axes in another order, that one changes too, by `a += value` as well, and no other does.
    """

    __slots__ = ("__weakref__", "_array", "_namespace", "_origin")

    __array_priority__ = 100
    """Above that of NumPy, whose operators then leave it to ours."""

    _array: jax.Array
    _namespace: Namespace
    _origin: Origin

    def __init__(self, array: jax.Array, namespace: Namespace, origin: Origin = None) -> None:
        object.__setattr__(self, "_array", array)
        object.__setattr__(self, "_namespace", namespace)
        object.__setattr__(self, "_origin", origin)

    def __array_namespace__(self, *, api_version: str | None = None) -> Namespace:
        return self._namespace._of_version(api_version)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._array.dtype

    @property
    def device(self) -> Any:
        """Where the values are, as JAX has it; `repr` and `describe()` name the processor."""
        return self._array.device

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def size(self) -> int:
        return self._array.size

    @property
    def T(self) -> OpticalArray:  # noqa: N802, the name of the standard
        """The transpose of a matrix."""
        return OpticalArray(self._array.T, self._namespace, self._seen_by(jnp.transpose))

    @property
    def mT(self) -> OpticalArray:  # noqa: N802, the name of the standard
        """The transpose of each matrix."""
        seen = self._seen_by(jnp.matrix_transpose)
        return OpticalArray(self._array.mT, self._namespace, seen)

    @property
    def at(self) -> _At:
        """`a.at[index].set(value)` and so on: what JAX has in place of `a[index] = value`."""
        return _At(self)

    def to_device(self, device: Any, /, *, stream: Any = None) -> OpticalArray:
        """The array in the memory of a device of JAX."""
        return self._like(self._array.to_device(device, stream=stream))

    __abs__ = _unary("__abs__")
    __invert__ = _unary("__invert__")
    __neg__ = _unary("__neg__")
    __pos__ = _unary("__pos__")

    __eq__ = _binary("__eq__")
    __ge__ = _binary("__ge__")
    __gt__ = _binary("__gt__")
    __le__ = _binary("__le__")
    __lt__ = _binary("__lt__")
    __ne__ = _binary("__ne__")
    __hash__ = None  # pyright: ignore[reportAssignmentType], as `==` gives an array

    __add__ = _binary("__add__")
    __and__ = _binary("__and__")
    __floordiv__ = _binary("__floordiv__")
    __lshift__ = _binary("__lshift__")
    __mod__ = _binary("__mod__")
    __mul__ = _binary("__mul__")
    __or__ = _binary("__or__")
    __pow__ = _binary("__pow__")
    __rshift__ = _binary("__rshift__")
    __sub__ = _binary("__sub__")
    __truediv__ = _binary("__truediv__")
    __xor__ = _binary("__xor__")

    __radd__ = _binary("__add__", is_reflected=True)
    __rand__ = _binary("__and__", is_reflected=True)
    __rfloordiv__ = _binary("__floordiv__", is_reflected=True)
    __rlshift__ = _binary("__lshift__", is_reflected=True)
    __rmod__ = _binary("__mod__", is_reflected=True)
    __rmul__ = _binary("__mul__", is_reflected=True)
    __ror__ = _binary("__or__", is_reflected=True)
    __rpow__ = _binary("__pow__", is_reflected=True)
    __rrshift__ = _binary("__rshift__", is_reflected=True)
    __rsub__ = _binary("__sub__", is_reflected=True)
    __rtruediv__ = _binary("__truediv__", is_reflected=True)
    __rxor__ = _binary("__xor__", is_reflected=True)

    __iadd__ = _in_place("__add__")
    __iand__ = _in_place("__and__")
    __ifloordiv__ = _in_place("__floordiv__")
    __ilshift__ = _in_place("__lshift__")
    __imod__ = _in_place("__mod__")
    __imul__ = _in_place("__mul__")
    __ior__ = _in_place("__or__")
    __ipow__ = _in_place("__pow__")
    __irshift__ = _in_place("__rshift__")
    __isub__ = _in_place("__sub__")
    __itruediv__ = _in_place("__truediv__")
    __ixor__ = _in_place("__xor__")

    def __matmul__(self, other: Any, /) -> OpticalArray:
        return self._product(self, other)

    def __rmatmul__(self, other: Any, /) -> OpticalArray:
        return self._product(other, self)

    def __getitem__(self, index: Any, /) -> OpticalArray:
        namespace, (array, plain) = self._namespace._root._joined("indexing", self, index)
        return OpticalArray(array[plain], namespace, self._sliced_by(index))

    def __setitem__(self, index: Any, value: Any, /) -> None:
        if self._origin is GIVEN:
            raise TypeError(
                "OpticalArray that was given cannot be changed; make a new one with "
                "a.at[index].set(value), xp.where(condition, value, a) or xp.asarray(a, copy=True)"
            )
        _, (array, plain, value) = self._namespace._root._joined("a[index] =", self, index, value)
        self._hold(self._seen().at[plain].set(_of_kind(value, array.dtype)))

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"OpticalArray cannot be changed, and `{name}` is not set")

    def __getattr__(self, name: str) -> NoReturn:
        cure = ""
        if name in FUNCTIONS:
            cure = f"; the standard has functions, such as a.__array_namespace__().{name}(a)"
        raise AttributeError(f"OpticalArray has no attribute {name!r}{cure}")

    def __iter__(self) -> Iterator[OpticalArray]:
        for i, array in enumerate(self._array):
            yield OpticalArray(array, self._namespace, self._sliced_by(i))

    def __len__(self) -> int:
        return len(self._array)

    def __bool__(self) -> bool:
        return bool(self._array)

    def __int__(self) -> int:
        return int(self._array)

    def __float__(self) -> float:
        return float(self._array)

    def __complex__(self) -> complex:
        return complex(self._array)

    def __index__(self) -> int:
        return operator.index(self._array)

    def __format__(self, spec: str) -> str:
        return format(self._array, spec) if spec else repr(self)

    def __copy__(self) -> OpticalArray:
        return self if self._origin is GIVEN else self._like(self._array)

    def __deepcopy__(self, memo: Any) -> OpticalArray:
        return copy.copy(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "OpticalArray is not pickled, as its device is not; pass numpy.asarray(array)"
        )

    def __repr__(self) -> str:
        values = repr(self._array).removeprefix("Array(").removesuffix(")")
        return f"OpticalArray({values}, device={self._namespace.device_name!r})"

    def __jax_array__(self) -> jax.Array:
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self._array, dtype, copy=copy)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[Any, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        array: Any = self._array
        return array.__dlpack__(
            stream=stream, max_version=max_version, dl_device=dl_device, copy=copy
        )

    def __dlpack_device__(self) -> tuple[Any, int]:
        array: Any = self._array
        return array.__dlpack_device__()

    def _like(self, array: jax.Array) -> OpticalArray:
        return OpticalArray(array, self._namespace)

    def _sliced_by(self, index: Any) -> Origin:
        """Origin of what is at `index`, which in NumPy shares memory with this array or not."""
        parts = index if isinstance(index, tuple) else (index,)
        if not all(part is None or isinstance(part, _PLACES) for part in parts):
            return None
        return self._seen_by(operator.itemgetter(index))

    def _seen_by(self, part: Callable[[jax.Array], jax.Array]) -> Origin:
        """Origin of a part of this array, or of the same in another order."""
        return GIVEN if self._origin is GIVEN else (self, part)

    def _seen(self) -> jax.Array:
        """The part as it is by now in the array that this one is part of."""
        if not isinstance(self._origin, tuple):
            return self._array
        whole, part = self._origin
        return part(whole._seen())

    def _hold(self, changed: jax.Array) -> None:
        """Holds `changed` from now on, and so does what this array is a part of."""
        object.__setattr__(self, "_array", changed)
        if isinstance(self._origin, tuple):
            whole, part = self._origin
            places = part(jnp.arange(whole.size).reshape(whole.shape))
            flat = whole._seen().reshape(-1).at[places].set(changed)
            whole._hold(flat.reshape(whole.shape))

    def _product(self, left: Any, right: Any) -> OpticalArray:
        if not _is_operand(left if right is self else right):
            return NotImplemented
        return self._namespace._root.matmul(left, right)


def _of_kind(value: Any, dtype: np.dtype[Any]) -> jax.Array:
    """`value` as `dtype`, whose kind must be no lesser one: bool, integer, real, complex."""
    array = value if isinstance(value, jax.Array) else np.asarray(value)
    if _kind(array.dtype) > _kind(dtype):
        raise TypeError(
            f"OpticalArray of {dtype} does not take {array.dtype} by a[index] = value; convert it "
            f"with xp.astype(value, {dtype})"
        )
    return jnp.asarray(array, dtype)


def _kind(dtype: np.dtype[Any]) -> int:
    kinds = jnp.bool, jnp.integer, jnp.floating, jnp.complexfloating
    return next(i for i, kind in enumerate(kinds) if jnp.issubdtype(dtype, kind))


class _At:
    """Updates of an array out of place."""

    def __init__(self, array: OpticalArray, index: Any = None) -> None:
        self._array, self._index = array, index

    def __getitem__(self, index: Any) -> _At:
        return _At(self._array, index)

    def __getattr__(self, name: str) -> Callable[..., OpticalArray]:
        def updated(*values: Any, **options: Any) -> OpticalArray:
            namespace, (array, index, values) = self._array._namespace._root._joined(
                f"at[].{name}", self._array, self._index, values
            )
            return OpticalArray(getattr(array.at[index], name)(*values, **options), namespace)

        return updated


def _flatten(array: OpticalArray) -> tuple[tuple[jax.Array], Any]:
    return (array._array,), array._namespace._structure()


def _flatten_with_keys(array: OpticalArray) -> tuple[Any, Any]:
    (leaf,), structure = _flatten(array)
    return ((jax.tree_util.GetAttrKey("_array"), leaf),), structure


def _unflatten(structure: Any, leaves: Any) -> OpticalArray:
    return OpticalArray(leaves[0], structure[0], GIVEN)


jax.tree_util.register_pytree_with_keys(
    OpticalArray, _flatten_with_keys, _unflatten, flatten_func=_flatten
)
