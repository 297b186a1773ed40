"""Arrays of any library as those of NumPy, and back, in the same memory.

A library is known by its arrays, never imported: where nobody has imported PyTorch, there is none
of its tensors.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol, TypeAlias

import jax
import numpy as np

from .._arguments import kind_of, no_mask
from .._values import native_order
from ._array import OpticalArray

Array: TypeAlias = np.ndarray[Any, Any]

_CPU = 1
"""The number of the CPU in DLPack."""


class Library(Protocol):
    """Where arrays come from and results go to."""

    @property
    def name(self) -> str:
        """As errors name it."""
        ...

    @property
    def maker(self) -> str:
        """The function that makes an array of the library of one of another, as Python."""
        ...

    def lend(self, op: str, name: str, array: Any) -> Array:
        """The memory of the argument `name`; a ValueError where it is not that of the CPU."""
        ...

    def give(self, array: Array) -> Any:
        """An array of the library in the memory of a result."""
        ...

    def cast(self, name: str, dtype: str) -> str:
        """How a user casts the array of that name, as Python."""
        ...


def library_of(op: str, arguments: Mapping[str, Any]) -> Library | None:
    """The library of the arrays among `arguments`, by name; numbers are of none.

    Raises:
        TypeError: there is an array of no library that is known, or there are two libraries.
    """
    found: tuple[str, Library] | None = None
    for name, value in arguments.items():
        if value is None or isinstance(value, NUMBERS):
            continue
        library = _library(value)
        if library is None:
            raise TypeError(
                f"{op}: `{name}` must be an array of NumPy, PyTorch, JAX, Dask or another library "
                f"of the Array API standard, got {kind_of(value)}"
            )
        if found is None:
            found = name, library
        elif found[1] != library:
            first, other = found
            raise TypeError(
                f"{op}: `{name}` is an array of {library.name} and `{first}` one of {other.name}; "
                f"bring it there with {other.maker}({name})"
            )
    return None if found is None else found[1]


NUMBERS = (bool, int, float, complex, np.generic)


def lent(
    op: str, name: str, array: Any, library: Library, dtypes: tuple[str, ...] | None = None
) -> Array:
    """The memory of an array, of one of the `dtypes`; None is any."""
    memory = native_order(library.lend(op, name, array))
    if dtypes is not None and memory.dtype.name not in dtypes:
        refuse_type(op, name, memory.dtype.name, library, dtypes)
    return memory


def refuse_type(op: str, name: str, got: str, library: Library, dtypes: tuple[str, ...]) -> None:
    """Raises the TypeError that an array has another type than one of `dtypes`."""
    expected = dtypes[0]
    if got.startswith("complex") and not expected.startswith("complex"):
        cure = f"pass its real part, or use complex_{op.removeprefix('complex_')}"
        if op not in ("optical_matmul", "complex_matmul"):
            cure = "pass its real and its imaginary part one after the other"
    else:
        cure = f"cast it with {library.cast(name, expected)}"
    raise TypeError(f"{op}: `{name}` must be {' or '.join(dtypes)}, got {got}; {cure}")


def _library(array: Any) -> Library | None:
    if isinstance(array, np.ndarray):
        return NUMPY
    if isinstance(array, jax.Array):
        return JAX
    if isinstance(array, OpticalArray):
        return OPTICAL
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        return TORCH
    dask = sys.modules.get("dask.array")
    if dask is not None and isinstance(array, dask.Array):
        return DASK
    if hasattr(array, "__array_namespace__") and hasattr(array, "__dlpack__"):
        return Standard(array.__array_namespace__())
    return None


@dataclass(frozen=True)
class _NumPy:
    name: str = "NumPy"
    maker: str = "numpy.asarray"

    def lend(self, op: str, name: str, array: Any) -> Array:
        no_mask(op, name, array)
        return np.asarray(array)

    def give(self, array: Array) -> Any:
        return array

    def cast(self, name: str, dtype: str) -> str:
        return f"{name}.astype(numpy.{dtype})"


@dataclass(frozen=True)
class _InPlace:
    """A library whose arrays are not lent to NumPy: our ops run on them as they are."""

    name: str
    maker: str
    cast_as: str

    def lend(self, op: str, name: str, array: Any) -> Array:
        raise NotImplementedError

    def give(self, array: Array) -> Any:
        raise NotImplementedError

    def cast(self, name: str, dtype: str) -> str:
        return self.cast_as.format(name=name, dtype=dtype)


@dataclass(frozen=True)
class _PyTorch:
    name: str = "PyTorch"
    maker: str = "torch.asarray"

    def lend(self, op: str, name: str, array: Any) -> Array:
        torch = sys.modules["torch"]
        if array.device.type != "cpu":
            raise ValueError(
                f"{op}: `{name}` is on {array.device}, expected a tensor on the CPU; "
                f"pass {name}.cpu()"
            )
        if array.layout is not torch.strided:
            raise TypeError(
                f"{op}: `{name}` has the layout {array.layout}, expected torch.strided; "
                f"pass {name}.to_dense()"
            )
        try:
            # What is still to be conjugated or negated is so in its memory first.
            return array.detach().resolve_conj().resolve_neg().numpy()
        except TypeError:  # NumPy has no bfloat16
            raise TypeError(
                f"{op}: `{name}` must be float32, got {str(array.dtype).removeprefix('torch.')}; "
                f"cast it with {self.cast(name, 'float32')}"
            ) from None
        except RuntimeError as error:
            raise TypeError(
                f"{op}: `{name}` is a tensor without memory of its own ({error}), such as those "
                f"within torch.func; expected one outside of it, whose loss.backward() works"
            ) from None

    def give(self, array: Array) -> Any:
        return sys.modules["torch"].from_numpy(array)

    def cast(self, name: str, dtype: str) -> str:
        return f"{name}.to(torch.{dtype})"


@dataclass(frozen=True)
class Standard:
    """A library of the standard that has no more than that."""

    namespace: ModuleType

    @property
    def name(self) -> str:
        return self.namespace.__name__

    @property
    def maker(self) -> str:
        return f"{self.name}.asarray"

    def lend(self, op: str, name: str, array: Any) -> Array:
        default = self.namespace.__array_namespace_info__().default_device()
        if array.__dlpack_device__()[0] != _CPU or array.device != default:
            raise ValueError(
                f"{op}: `{name}` is on {array.device}, expected an array on the CPU; "
                f"pass numpy.from_dlpack({name}, device='cpu')"
            )
        try:
            return np.from_dlpack(array)
        except BufferError:  # of read-only memory, before NumPy 2.1
            return np.asarray(array)

    def give(self, array: Array) -> Any:
        # What NumPy before 2.1 makes of DLPack cannot be written to.
        return self.namespace.asarray(array)

    def cast(self, name: str, dtype: str) -> str:
        return f"{self.name}.astype({name}, {self.name}.{dtype})"


NUMPY = _NumPy()
JAX = _InPlace("JAX", "jnp.asarray", "{name}.astype(jnp.{dtype})")
OPTICAL = _InPlace("lumina_jax.array_api", "xp.asarray", "xp.astype({name}, xp.{dtype})")
DASK = _InPlace("Dask", "dask.array.from_array", "{name}.astype({dtype!r})")
TORCH = _PyTorch()
