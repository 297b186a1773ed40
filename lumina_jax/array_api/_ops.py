"""The public ops on arrays of any library.

They are the functions of `lumina_jax` of the same names and arguments, with `seed` beside `key`,
and the bits are the same. What is theirs alone is where arrays come from and where results go.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .._arguments import F32_MAX, integer
from ..custom_vjp._operands import seed_words
from ..custom_vjp.causal_softmax import causal_softmax as _causal_softmax
from ..custom_vjp.complex_matmul import complex_matmul as _complex_matmul
from ..custom_vjp.complex_optical_matmul import complex_optical_matmul as _complex_optical_matmul
from ..custom_vjp.optical_attention import optical_attention as _optical_attention
from ..custom_vjp.optical_conv import optical_conv as _optical_conv
from ..custom_vjp.optical_matmul import optical_matmul as _optical_matmul
from ..custom_vjp.optical_noise import optical_noise as _optical_noise
from ..custom_vjp.quantize import quantize as _quantize
from ._array import OpticalArray
from ._host import Operation, given_by, lent_to, run
from ._interchange import DASK, JAX, NUMPY, OPTICAL, TORCH, Library, library_of


def on_arrays(library: Library | None, operation: Operation, arguments: Mapping[str, Any]) -> Any:
    """The results for arrays of one library, as arrays of it; numbers alone are left to JAX."""
    if library is None or library is JAX:
        return operation.function(**arguments)
    if library is OPTICAL:
        return _on_optical(operation, arguments)
    key = arguments.get("key")
    if key is not None and not isinstance(key, np.ndarray):
        words = np.asarray(seed_words(operation.name, key)).reshape(2)
        arguments = {**arguments, "key": words}
    if library is DASK:
        from ._dask import on_dask

        return on_dask(operation, arguments)
    if library is TORCH:
        from ._torch import on_torch

        return on_torch(operation, arguments)
    results = run(operation, lent_to(library, operation, arguments))
    return given_by(library, results)


def optical_noise(seed: Any, shape: tuple[int, int], *, first_row: Any = 0, xp: Any = None) -> Any:
    """Standard normal noise: what `optical_matmul` draws for that seed as its ε.

    This is `lumina_jax.optical_noise` for arrays of any library.

    Args:
        seed: an int from 0 to 2^64 - 1, which stands for jax.random.key(seed), or a key of JAX.
        shape: `(rows, columns)`.
        first_row: index of the first row, from 0 to 2^32 - 1.
        xp: the library of the result, such as torch or dask.array, or a namespace of ours. None is
            NumPy.

    Returns:
        f32[rows, columns]. It has no gradient.

    Raises:
        TypeError, ValueError: `seed` or `first_row` is out of range, `shape` is not two extents, or
            `xp` no library that is known.
    """
    op = "optical_noise"
    is_key = hasattr(seed, "dtype") and not isinstance(seed, np.generic)
    key = _key(op, None, seed) if is_key else _key(op, seed, None)
    arguments = {"key": key, "shape": shape, "first_row": first_row}
    library = NUMPY if xp is None else library_of(op, {"xp": getattr(xp, "zeros", lambda _: xp)(0)})
    if library is OPTICAL and xp is not None:
        return xp.asarray(_optical_noise(**arguments))
    return on_arrays(library, OPERATIONS[op], arguments)


def _on_optical(operation: Operation, arguments: Mapping[str, Any]) -> Any:
    """The results for arrays of a namespace of ours, in that namespace."""
    first = next(value for value in arguments.values() if isinstance(value, OpticalArray))
    joined, values = first._namespace._root._joined(operation.name, *arguments.values())
    return joined._wrapped(operation.function(**dict(zip(arguments, values, strict=True))))


def _on_any_array(operation: Operation) -> Callable[..., Any]:
    """The function of users."""
    function = operation.function
    parameters = dict(inspect.signature(function).parameters)
    if "key" in parameters:
        seed = parameters["key"].replace(name="seed")
        parameters = {
            name: parameter
            for key, value in parameters.items()
            for name, parameter in ([("seed", seed)] if key == "key" else []) + [(key, value)]
        }
    signature = inspect.Signature([p.replace(annotation=Any) for p in parameters.values()])

    def run(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(*args, **kwargs).arguments
        if "seed" in arguments:
            arguments["key"] = _key(operation.name, arguments.pop("seed"), arguments.get("key"))
        arrays = {name: arguments.get(name) for name in operation.arrays}
        return on_arrays(library_of(operation.name, arrays), operation, arguments)

    @functools.wraps(function)
    def on_any_array(*args: Any, **kwargs: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch is not None and torch.compiler.is_compiling():
            return torch.compiler.disable(run)(*args, **kwargs)
        return run(*args, **kwargs)

    on_any_array.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
    on_any_array.__module__ = __package__ or ""
    on_any_array.__doc__ = _documentation(function)
    return on_any_array


def _documentation(function: Callable[..., Any]) -> str:
    first, _, rest = (function.__doc__ or "").partition("\n\n")
    return f"""{first}

    This is `lumina_jax.{function.__name__}` for arrays of NumPy, PyTorch, JAX, Dask or another
    library of the Array API standard, on the CPU: the result is an array of theirs, and the bits
    are the same. Where a `key` is taken, `seed`, an int from 0 to 2^64 - 1, stands for
    jax.random.key(seed). docs/array_api.md says what is copied and what is not.

{rest}"""


def _key(op: str, seed: Any, key: Any) -> Any:
    """The key that `seed` stands for, as its two words."""
    if seed is None:
        return key
    if key is not None:
        raise TypeError(f"{op}: `seed` and `key` are given, expected one of them")
    number = integer(op, "seed", seed, at_least=0, at_most=2**64 - 1)
    return np.array([number >> 32, number & 0xFFFFFFFF], np.uint32)


def _is_count(value: Any, at_most: int | None) -> bool:
    """Whether there are integers that need no look at them, or that are within their limits."""
    if value is None or isinstance(value, bool):
        return True
    known = np.asarray(value)
    if known.dtype.kind not in "iu" or not known.size:
        return True
    limits = np.iinfo(np.int32)
    least, largest = (0, at_most) if at_most is not None else (limits.min, limits.max)
    return bool(known.min() >= least and known.max() <= largest)


def _is_scale(value: Any) -> bool:
    known = np.asarray(0.0 if value is None else value)
    return known.dtype.kind in "fiu" and bool(np.all(np.abs(known) <= F32_MAX))


def _accepts_softmax(arguments: Mapping[str, Any]) -> bool:
    columns = np.shape(arguments["scores"])[-1:]
    return (
        len(columns) == 1
        and _is_scale(arguments.get("scale"))
        and _is_count(arguments.get("offset"), None)
        and _is_count(arguments.get("lengths"), columns[0])
    )


def _accepts_attention(arguments: Mapping[str, Any]) -> bool:
    keys = np.shape(arguments["k"])[-3:-2]
    offset = arguments.get("offset", 0)
    is_zero = type(offset) is int and offset == 0
    return (
        len(keys) == 1
        and _is_scale(arguments.get("scale"))
        and (is_zero or bool(arguments.get("causal")))
        and _is_count(offset, None)
        and _is_count(arguments.get("lengths"), keys[0])
        and _accepts_row(arguments)
    )


def _accepts_row(arguments: Mapping[str, Any]) -> bool:
    first_row = np.asarray(arguments.get("first_row", 0))
    if first_row.dtype.kind not in "iu" or first_row.shape:
        return False
    return 0 <= int(first_row) < 2**32


_F32, _C64 = ("float32",), ("complex64",)
_CHAIN: Mapping[str, Any] = {
    "magnitudes": ("x_full_scale", "w_full_scale", "y_full_scale"),
    "others": ("first_row",),
    "accepts": _accepts_row,
}

OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation(
            _causal_softmax,
            {"scores": _F32},
            others=("scale", "offset", "lengths"),
            accepts=_accepts_softmax,
        ),
        Operation(
            _complex_matmul,
            {"x": ("complex64", "complex128"), "w": ("complex64", "complex128")},
        ),
        Operation(_complex_optical_matmul, {"x": _C64, "w": _C64, "bias": _C64}, **_CHAIN),
        Operation(
            _optical_attention,
            {"q": _F32, "k": _F32, "v": _F32},
            tuple(f"{name}_full_scale" for name in ("q", "k", "p", "v", "scores", "out")),
            others=("scale", "offset", "lengths", "first_row"),
            accepts=_accepts_attention,
        ),
        Operation(_optical_conv, {"x": _F32, "kernel": _F32, "bias": _F32}, **_CHAIN),
        Operation(_optical_matmul, {"x": _F32, "w": _F32, "bias": _F32}, **_CHAIN),
        Operation(_optical_noise, {}, others=("first_row",), accepts=_accepts_row),
        Operation(_quantize, {"v": _F32}, ("full_scale",)),
    )
}
"""By name, what runs on arrays of any library."""

causal_softmax = _on_any_array(OPERATIONS["causal_softmax"])
complex_matmul = _on_any_array(OPERATIONS["complex_matmul"])
complex_optical_matmul = _on_any_array(OPERATIONS["complex_optical_matmul"])
optical_attention = _on_any_array(OPERATIONS["optical_attention"])
optical_conv = _on_any_array(OPERATIONS["optical_conv"])
optical_matmul = _on_any_array(OPERATIONS["optical_matmul"])
quantize = _on_any_array(OPERATIONS["quantize"])
