"""The namespace of the Array API standard, on a simulated processor."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, NoReturn, TypeAlias

import jax
import jax.numpy as jnp

from .._arguments import integer, no_mask
from .._values import native_order
from ..custom_vjp._operands import seed_words
from ..hardware.describe import Explanation
from ..hardware.profiles import HardwareProfile
from ._array import GIVEN, OpticalArray
from ._describe import description
from ._device import Device
from ._standard import CONSTANTS, DTYPES, FFT, FUNCTIONS, LINALG, LISTS, VERSION, VERSIONS, VIEWS

_NAME = "array_api"

Axes: TypeAlias = int | Sequence[int] | Sequence[Sequence[int]]
"""How many axes are summed over, or which of both arrays."""


def namespace(
    device: HardwareProfile | str | None = None,
    *,
    key: jax.Array | None = None,
    api_version: str = VERSION,
) -> Namespace:
    """A namespace of the Array API standard whose matrix products run on that device.

    `matmul`, `@`, `vecdot`, `tensordot`, and in `linalg` these and `matrix_power`, of floats and
    complex numbers, pass its converters and its noise; the left factor is the signal, the right one
    the weights. All else is `jax.numpy`. `describe()` says it at length, docs/array_api.md too.

    Product i of a namespace draws its noise from `jax.random.fold_in(key, i)`, so a script that is
    run again gives the same bits. Within `jax.jit` take `with_key`.

    Args:
        device: a processor, or the name of a preset. None: the ideal one, which is exact.
        key: random key of any kind; raw uint32 keys are accepted too. Needed for products on a
            device that has noise.
        api_version: of the standard, up to "2025.12". The one of `jax.numpy` is the default.

    Raises:
        TypeError, ValueError: `device` is none, `key` is no key, or there is no such version.
    """
    if device is None:
        if key is not None:
            seed_words(f"{_NAME}.namespace", key)
        return _ideal()._of_version(api_version)
    return Namespace(Device(device), _Draws(key), _version(api_version))


@functools.cache
def _ideal() -> Namespace:
    """The only one, as the arrays of all ideal devices are alike."""
    return Namespace(Device(None), _Draws(None), VERSION)


class _Functions:
    """Functions of a module of JAX, for arrays of a namespace."""

    _module: Any
    _names: frozenset[str]

    def _joined(self, op: str, *values: Any) -> tuple[Namespace, list[Any]]:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(
                f"{_NAME}: the standard has no {name!r}; jax.numpy may, whose functions take "
                f"these arrays too, and compute digitally"
            )
        value = getattr(self._module, name)
        if callable(value) and not isinstance(value, type) and name not in DTYPES:
            value = self._function(name, value)
        self.__dict__[name] = value
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._names})

    def _function(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function, updated=())
        def wrapped(*args: Any, **options: Any) -> Any:
            namespace, (args, values) = self._joined(name, args, tuple(options.values()))
            results = function(*args, **dict(zip(options, values, strict=True)))
            return namespace._wrapped(results)

        return wrapped


class _Draws:
    """The keys of the products of a namespace, one after the other."""

    def __init__(self, key: Any) -> None:
        if key is not None:
            seed_words(f"{_NAME}.namespace", key)
        self.key: Any = key
        self.count = 0
        self._lock = threading.Lock()

    def next(self) -> jax.Array:
        with self._lock:
            index, self.count = self.count, self.count + 1
        return jax.random.fold_in(self.key, index)


class Namespace(_Functions):
    """What `namespace` makes; its functions are those of the standard.

    It knows its device, its key, and how many products have drawn from it. It is no pytree: arrays
    carry it as what is static about them.
    """

    __name__ = "lumina_jax.array_api"
    _module = jnp
    _names = frozenset((*FUNCTIONS, *DTYPES, *CONSTANTS))

    def __init__(
        self, device: Device, draws: _Draws, version: str, root: Namespace | None = None
    ) -> None:
        self.__array_api_version__ = version
        self._device, self._draws = device, draws
        self._root = self if root is None else root
        self.fft = _Extension(self, jnp.fft, FFT)
        self.linalg = _LinearAlgebra(self, jnp.linalg, LINALG)

    def __array_namespace_info__(self) -> Any:
        return _Info(self._has_tuples)

    def __repr__(self) -> str:
        return f"<array API {self.__array_api_version__} on {self.device_name!r}>"

    def __deepcopy__(self, memo: Any) -> Namespace:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{_NAME}: a device is not pickled; pass numpy.asarray(array), and the profile and the "
            f"key that make the namespace"
        )

    @property
    def device_name(self) -> str:
        """Name of the processor."""
        return self._device.name

    def describe(self) -> Explanation:
        """What is optical, in which precision, at which ranges, with which noise; to print."""
        return Explanation(description(self._device, self._draws.key, self._draws.count))

    def with_key(self, key: jax.Array) -> Namespace:
        """The namespace of the same device whose products draw from `key`, counted from 0.

        Within `jit`, `scan` or the like make it where it is used, of a key that is an argument
        there, and bring arrays into it with its `asarray`, or call its functions on them:

            @jax.jit
            def f(key, a, b):
                xp = device.with_key(key)
                return xp.matmul(a, b)

        What leaves the compiled function belongs to the namespace that this one was made of.
        """
        if key is None:
            raise TypeError(f"{_NAME}: with_key needs a key such as jax.random.key(0), got None")
        return Namespace(self._device, _Draws(key), self.__array_api_version__, self._root)

    def calibrate(self) -> AbstractContextManager[None]:
        """Within `with xp.calibrate():` products show their ranges, which are fixed from then on.

        Products are known by the shape [k, n] of their weights: behind the block those of a shape
        have full scales for signal and output that are the largest magnitudes which the block saw.
        One of a shape that it did not see finds its own, as all do without a calibration. What
        `jit` compiled before it for plain arrays of JAX keeps the ranges that it was compiled with.
        """
        return self._device.calibrate()

    def asarray(
        self, obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None
    ) -> OpticalArray:
        """An array in this namespace, of numbers, or of an array of any library or device.

        The memory of arrays that lend it by DLPack is shared where it is laid out as JAX needs
        it, contiguous and at a multiple of 64 bytes; a change of the original is then seen. With
        `copy=True` it never is, and `copy=False` is a ValueError where it cannot be.
        """
        given = obj
        origin = GIVEN if not copy and device is None else None
        if isinstance(obj, OpticalArray):
            obj = obj._array
        elif isinstance(obj, list | tuple):
            _, (obj,) = self._joined("asarray", obj)
        else:
            obj = _lent(obj, copy)
        array = jnp.asarray(obj, dtype=dtype, device=device, copy=copy)
        if isinstance(given, OpticalArray):
            if given._array is array and given._namespace is self:
                return given
            origin = origin if given._origin is GIVEN else None
        return OpticalArray(array, self, origin)

    def from_dlpack(
        self, x: Any, /, *, device: Any = None, copy: bool | None = None
    ) -> OpticalArray:
        """An array in this namespace, of one that has `__dlpack__`."""
        array = jnp.from_dlpack(x, device=device, copy=copy)
        return OpticalArray(array, self, None if copy else GIVEN)

    def searchsorted(
        self, x1: Any, x2: Any, /, *, side: Any = "left", sorter: Any = None
    ) -> OpticalArray:
        """Where the elements of x2 would stand in the sorted x1, as the integers of an index."""
        namespace, (x1, x2, sorter) = self._joined("searchsorted", x1, x2, sorter)
        places = jnp.searchsorted(x1, x2, side=side, sorter=sorter)
        return namespace._wrapped(places.astype(jnp.result_type(int)))

    def matmul(self, x1: Any, x2: Any, /) -> OpticalArray:
        """`x1 @ x2` on the device: of [..., m, k] and [..., k, n], or vectors [k]."""
        namespace, x, w = self._factors("matmul", x1, x2)
        return OpticalArray(namespace._multiplied(x, w), namespace)

    def vecdot(self, x1: Any, x2: Any, /, *, axis: int = -1) -> OpticalArray:
        """Σ conj(x1)·x2 along an axis, on the device."""
        namespace, x, w = self._factors("vecdot", x1, x2)
        if not self._device.runs(x, w):
            return namespace._wrapped(jnp.vecdot(x, w, axis=axis))
        x, w = (jnp.moveaxis(a, axis, -1) for a in (jnp.conj(x), w))
        if w.ndim > 1:
            return namespace._wrapped(
                namespace._multiplied(x[..., None, :], w[..., None])[..., 0, 0]
            )
        return namespace._wrapped(namespace._multiplied(x, w))

    def tensordot(self, x1: Any, x2: Any, /, *, axes: Axes = 2) -> OpticalArray:
        """The sum of products along pairs of axes, on the device."""
        namespace, x, w = self._factors("tensordot", x1, x2)
        if not self._device.runs(x, w):
            return namespace._wrapped(jnp.tensordot(x, w, axes=axes))
        # What is wrong about axes and shapes, JAX says.
        shape = jax.eval_shape(functools.partial(jnp.tensordot, axes=axes), x, w).shape
        of_x, of_w = _contracted(axes, x.ndim, w.ndim)
        rows, columns = (
            [axis for axis in range(a.ndim) if axis not in taken]
            for a, taken in ((x, of_x), (w, of_w))
        )
        m, k, n = (
            math.prod(a.shape[axis] for axis in axes)
            for a, axes in ((x, rows), (x, of_x), (w, columns))
        )
        x = x.transpose([*rows, *of_x]).reshape(m, k)
        w = w.transpose([*of_w, *columns]).reshape(k, n)
        return namespace._wrapped(namespace._multiplied(x, w).reshape(shape))

    def _joined(self, op: str, *values: Any) -> tuple[Namespace, list[Any]]:
        """The arrays of JAX in `values`, and in which namespace the result is."""
        namespace = self

        def plain(value: Any) -> Any:
            nonlocal namespace
            if isinstance(value, OpticalArray):
                if value._namespace is not namespace:
                    namespace = self._with(namespace, value._namespace, op)
                return value._array
            if type(value) in (tuple, list):
                return type(value)(map(plain, value))
            return value

        arrays = list(map(plain, values))
        return namespace, arrays

    def _factors(self, op: str, *factors: Any) -> tuple[Namespace, jax.Array, jax.Array]:
        namespace, arrays = self._joined(op, *factors)
        x, w = (a if isinstance(a, jax.Array) else jnp.asarray(a) for a in arrays)
        return namespace, x, w

    def _with(self, chosen: Namespace, other: Namespace, op: str) -> Namespace:
        """The namespace of what a function of this one makes of arrays of `other` too."""
        if other._root is not self._root:
            raise TypeError(
                f"{_NAME}: {op} of arrays of two devices, {self.device_name!r} and "
                f"{other.device_name!r}; bring one to the other with xp.asarray(array)"
            )
        of_device = self._root._draws
        if self._draws is not of_device or other._draws in (of_device, chosen._draws):
            return chosen
        if chosen._draws is of_device:
            return other
        raise ValueError(
            f"{_NAME}: {op} of arrays of two namespaces that with_key made, which draw from "
            f"different keys; bring one to the other with xp.asarray(array), or call a function of "
            f"one, such as xp.{op}"
        )

    def _wrapped(self, results: Any) -> Any:
        """Arrays of JAX, alone or in a tuple or list, as arrays of this namespace."""
        if isinstance(results, jax.Array):
            return OpticalArray(results, self)
        if isinstance(results, tuple) and hasattr(results, "_fields"):
            return type(results)(*map(self._wrapped, results))
        if isinstance(results, tuple | list):
            return type(results)(map(self._wrapped, results))
        return results

    @property
    def _has_tuples(self) -> bool:
        return self.__array_api_version__ > VERSION

    def _of_version(self, version: str | None) -> Namespace:
        if version is None or _version(version) == self.__array_api_version__:
            return self
        return Namespace(self._device, self._draws, version, self._root)

    def _function(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if name in LISTS and self._has_tuples:
            function = _with_tuple(function)
        wrapped = super()._function(name, function)
        return _seeing(function, wrapped) if name in VIEWS else wrapped

    def _structure(self) -> tuple[Namespace, int]:
        """What is static about an array: other ranges are other programs."""
        return self._root, self._device.calibrations

    def _multiplied(self, x: jax.Array, w: jax.Array) -> jax.Array:
        if self._device.runs(x, w):
            return self._device.matmul(x, w, self._next_key)
        return jnp.matmul(x, w, precision="highest")

    def _next_key(self) -> jax.Array:
        if self._draws.key is None:
            raise ValueError(
                f"{_NAME}: {self.device_name!r} has noise, and the namespace no key to draw it "
                f"from; make it with namespace(device, key=jax.random.key(0))"
            )
        key = self._draws.next()
        # A key that is a constant of a compiled program would draw the same in each run.
        if _trace(key) is not _trace(self._draws.key):
            raise ValueError(
                f"{_NAME}: within jit, scan or the like this product would draw the same noise in "
                f"every run, as the key of its namespace comes from outside; use "
                f"xp = xp.with_key(key) there, with a key that is an argument of the function, and "
                f"a = xp.asarray(a)"
            )
        return key


class _Extension(_Functions):
    """An extension of the standard."""

    def __init__(self, namespace: Namespace, module: ModuleType, names: tuple[str, ...]) -> None:
        self._namespace, self._module, self._names = namespace, module, frozenset(names)

    def _joined(self, op: str, *values: Any) -> tuple[Namespace, list[Any]]:
        return self._namespace._joined(op, *values)


class _LinearAlgebra(_Extension):
    """The extension `linalg`, with its products on the device."""

    def matmul(self, x1: Any, x2: Any, /) -> OpticalArray:
        """As `matmul` of the namespace."""
        return self._namespace.matmul(x1, x2)

    def vecdot(self, x1: Any, x2: Any, /, *, axis: int = -1) -> OpticalArray:
        """As `vecdot` of the namespace."""
        return self._namespace.vecdot(x1, x2, axis=axis)

    def tensordot(self, x1: Any, x2: Any, /, *, axes: Axes = 2) -> OpticalArray:
        """As `tensordot` of the namespace."""
        return self._namespace.tensordot(x1, x2, axes=axes)

    def matrix_power(self, x: Any, n: int, /) -> OpticalArray:
        """x @ x @ … of n factors on the device, by repeated squares; of a negative n the inverse's.

        Raises:
            TypeError, ValueError: n is no int, or x no square matrix.
        """
        namespace, (a,) = self._joined("matrix_power", x)
        a = jnp.asarray(a)
        if not namespace._device.runs(a):
            return namespace._wrapped(jnp.linalg.matrix_power(a, n))
        n = integer(_NAME, "n", n)
        if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
            raise ValueError(f"{_NAME}: matrix_power of shape {a.shape}, expected (..., m, m)")
        if n < 0:
            a, n = jnp.linalg.inv(a), -n
        power: jax.Array | None = None
        while n:
            if n & 1:
                power = a if power is None else namespace._multiplied(power, a)
            n >>= 1
            if n:
                a = namespace._multiplied(a, a)
        if power is None:
            power = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
        return namespace._wrapped(power)


class _Info:
    """What the namespace can do: what `jax.numpy` can."""

    def __init__(self, has_tuples: bool) -> None:
        self._of_jax, self._has_tuples = jnp.__array_namespace_info__(), has_tuples

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of_jax, name)

    def devices(self) -> Any:
        """Those of JAX, where values can be."""
        devices = self._of_jax.devices()
        return tuple(devices) if self._has_tuples else devices


def _seeing(function: Callable[..., Any], wrapped: Callable[..., Any]) -> Callable[..., Any]:
    """`wrapped`, whose result passes on to its argument what is written to it."""

    @functools.wraps(wrapped, updated=())
    def seen(x: Any, /, *args: Any, **options: Any) -> Any:
        result = wrapped(x, *args, **options)
        if isinstance(x, OpticalArray):
            origin = x._seen_by(lambda array: function(array, *args, **options))
            return OpticalArray(result._array, result._namespace, origin)
        return result

    return seen


def _with_tuple(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function, updated=())
    def wrapped(*args: Any, **options: Any) -> tuple[Any, ...]:
        return tuple(function(*args, **options))

    return wrapped


def _version(version: Any) -> str:
    if version not in VERSIONS:
        raise ValueError(
            f"{_NAME}: version {version!r} of the standard, expected {', '.join(VERSIONS)}"
        )
    return version


def _contracted(axes: Axes, x_ndim: int, w_ndim: int) -> tuple[list[int], list[int]]:
    """The axes of x and of w that are summed over, pair by pair."""
    if isinstance(axes, int):
        return list(range(x_ndim - axes, x_ndim)), list(range(axes))
    of_x, of_w = ([each] if isinstance(each, int) else list(each) for each in axes)
    return [axis % x_ndim for axis in of_x], [axis % w_ndim for axis in of_w]


def _lent(obj: Any, copy: bool | None) -> Any:
    """An array of another library as one of JAX, in the same memory where that is possible."""
    no_mask(f"{_NAME}.asarray", "obj", obj)
    obj = native_order(obj)
    if isinstance(obj, jax.Array) or copy or not hasattr(obj, "__dlpack__"):
        return obj
    if copy is False:
        return jnp.from_dlpack(obj, copy=False)
    try:
        return jnp.from_dlpack(obj)
    except (BufferError, RuntimeError, TypeError, ValueError):
        # Not contiguous, read-only, or on a device that JAX does not have.
        return obj


def _trace(value: Any) -> Any:
    """The transformation of JAX that a value is traced by, None where it is known."""
    return getattr(value, "_trace", None)
