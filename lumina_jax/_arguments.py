"""Arguments of public functions: what they become, and the error for what they may not be.

One function for each kind of argument. Each takes the function that asks, the name of the argument
and its value, and either returns the value as the function uses it, or raises a TypeError (it is of
another kind) or a ValueError (out of range) that says what was got and what was expected. A number
is a Python number of any size, a NumPy scalar or an array of shape (), and never a bool. Values
that are traced are trusted.

JAX is imported by the functions that return its arrays, so that the NumPy entry does without it.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from ._floating_point import numpy_defaults
from ._values import Floats, is_known, is_traced, known_numbers, plain_number, to_jax

if TYPE_CHECKING:
    import jax

F32_MAX = float(np.finfo(np.float32).max)


def integer(
    op: str,
    name: str,
    value: Any,
    *,
    at_least: int | None = None,
    at_most: int | None = None,
    got: Callable[[Any], str] = repr,
) -> int:
    """A Python int within its limits; `got` shows what is no int."""
    try:
        if isinstance(value, bool):
            raise TypeError
        converted = operator.index(value)
    except TypeError:
        raise TypeError(f"{op}: `{name}` must be an int, got {got(value)}") from None
    low = -math.inf if at_least is None else at_least
    high = math.inf if at_most is None else at_most
    if not low <= converted <= high:
        expected = f"at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        raise ValueError(f"{op}: `{name}` must be {expected}, got {converted}")
    return converted


def seed(op: str, value: Any) -> int:
    """An int that is not negative, the argument `seed`."""
    converted = integer(op, "seed", value)
    if converted < 0:
        raise ValueError(f"{op}: `seed` must not be negative, got {converted}")
    return converted


def axis(op: str, value: Any, rank: int) -> int | None:
    """An axis of an array of that rank, counted from 0, or None; the argument `axis`."""
    if value is None:
        return None
    try:
        index = integer(op, "axis", value)
    except TypeError:
        raise TypeError(f"{op}: `axis` must be an int or None, got {value!r}") from None
    if not -rank <= index < rank:
        raise ValueError(f"{op}: `axis` is {index}, expected -{rank} to {rank - 1} for rank {rank}")
    return index % rank


def choice(op: str, name: str, value: Any, options: Any) -> None:
    """One of the strings of the `Literal` type `options`."""
    if not isinstance(value, str) or value not in get_args(options):
        known = ", ".join(map(repr, get_args(options)))
        raise ValueError(f"{op}: `{name}` is {value!r}, expected one of {known}")


def instance(op: str, name: str, value: Any, kinds: Any, expected: str) -> None:
    """An instance of `kinds`, in words `expected`."""
    if not isinstance(value, kinds):
        raise TypeError(f"{op}: `{name}` is of type {type(value).__name__}, expected {expected}")


def file_path(op: str, name: str, value: Any) -> Path:
    """The path of a file, which may have any name that the file system takes."""
    try:
        text = os.fsdecode(value)
    except TypeError:
        expected = "a str, bytes or an os.PathLike"
        raise TypeError(f"{op}: `{name}` must be {expected}, got {kind_of(value)}") from None
    if not text:
        raise ValueError(f"{op}: `{name}` is empty, expected the name of a file")
    if "\0" in text:
        raise ValueError(f"{op}: `{name}` must have no NUL character, got {text!r}")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(
            f"{op}: `{name}` has characters that the file system cannot encode, got {text!r}"
        ) from None
    return Path(text)


def constant(op: str, name: str, value: Any, *, infinite: bool = False) -> float:
    """A Python number, kept as it is: it can be compared and hashed. Never NaN."""
    number = plain_number(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{op}: `{name}` must be a number, got {value!r}")
    if math.isnan(_float(number)) or (math.isinf(_float(number)) and not infinite):
        raise ValueError(f"{op}: `{name}` must be finite, got {number}")
    return number


def number(
    op: str, name: str, value: Any, *, above: float | None = None, at_least: float | None = None
) -> float:
    """A finite number within its limits, as a Python float."""
    value = plain_number(value)
    try:
        # NumPy finds no rank in ragged lists.
        if isinstance(value, bool | str | bytes | complex | list | tuple) or np.ndim(value) != 0:
            raise TypeError
        converted = _float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{op}: `{name}` must be a number, got {value!r}") from None
    if not math.isfinite(converted):
        raise ValueError(f"{op}: `{name}` must be finite, got {converted}")
    if above is not None and converted <= above:
        raise ValueError(f"{op}: `{name}` must be above {above:g}, got {converted:g}")
    if at_least is not None and converted < at_least:
        raise ValueError(f"{op}: `{name}` must be at least {at_least:g}, got {converted:g}")
    return converted


def positive(op: str, name: str, value: Any) -> float:
    """A finite number above 0, as a Python float."""
    converted = number(op, name, value)
    if not converted > 0:
        raise ValueError(f"{op}: `{name}` must be positive, got {value}")
    return converted


def number_f32(
    op: str, name: str, value: Any, at_least: float, expected: str, *, at_most: float = F32_MAX
) -> float:
    """A Python or NumPy number within its limits, in words `expected`, that is finite in f32."""
    number = plain_number(value)
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise TypeError(f"{op}: `{name}` must be a number, got {kind_of(value)}")
    converted = _float(number)
    if not at_least <= converted <= at_most:
        raise ValueError(f"{op}: `{name}` must be {expected} and finite in float32, got {value}")
    return converted


@numpy_defaults
def numeric(op: str, name: str, value: Any, expected: str) -> jax.Array:
    """A JAX array of numbers, which should be `expected`."""
    import jax

    no_mask(op, name, value)
    # JAX would take a string in a list for the name of a dtype.
    leaves = jax.tree.leaves(value, is_leaf=lambda v: v is None or isinstance(v, Iterator))
    if isinstance(value, bool) or any(
        leaf is None or isinstance(leaf, str | bytes) for leaf in leaves
    ):
        raise TypeError(f"{op}: `{name}` must be {expected}, got {value!r}")
    try:
        return to_jax(value)
    except TypeError:
        raise TypeError(f"{op}: `{name}` must be {expected}, got {_shown(value)}") from None
    except OverflowError:  # an int beyond float64
        raise ValueError(f"{op}: `{name}` must be finite in float32, got {value}") from None
    except ValueError:
        message = f"{op}: `{name}` must be a rectangular array, got rows of unequal length"
        raise ValueError(message) from None


@numpy_defaults
def integers(
    op: str,
    name: str,
    value: Any,
    expected: str,
    *,
    at_least: int | None = None,
    at_most: int | None = None,
) -> jax.Array:
    """A JAX array of integers within their limits, which should be `expected`."""
    import jax.numpy as jnp

    array = numeric(op, name, value, expected)
    known = known_numbers(value)
    # An int beyond those of JAX is a float by now.
    if known is not None and known.size and known.dtype.kind in "iu":
        least, largest = known.min(), known.max()
        if at_least is not None and least < at_least:
            raise ValueError(f"{op}: `{name}` must be at least {at_least}, got {least}")
        if at_most is not None and largest > at_most:
            raise ValueError(f"{op}: `{name}` must be at most {at_most}, got {largest}")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{op}: `{name}` must be {expected}, got {array.dtype}")
    return array


@numpy_defaults
def real(
    op: str,
    name: str,
    value: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> jax.Array:
    """A JAX array of finite reals within their limits, f32 or wider; integers become floats."""
    import jax.numpy as jnp

    array = numeric(op, name, value, "a real number")
    if jnp.issubdtype(array.dtype, jnp.integer):
        array = array.astype(jnp.result_type(float))
    elif not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{op}: `{name}` must be a real number, got {array.dtype}")
    elif array.dtype.itemsize < 4:
        # Squared currents and energies are far below the smallest float of 16 bits.
        array = array.astype(np.float32)
    # Inside jit even the array of a Python number is traced; the number itself is known.
    known = known_numbers(value)
    if known is None:
        return array
    kind = np.finfo(array.dtype)
    # What XLA computes with: beyond the largest it is infinite, below the least normal it is 0.
    used = np.where(np.abs(known) < float(kind.tiny), 0.0, known)
    rules: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("be finite", lambda: np.isfinite(known)),
        (f"be finite in {array.dtype}", lambda: np.abs(known) <= float(kind.max)),
        (f"be at least {at_least}", lambda: at_least is None or known >= at_least),
        (f"be above {above}", lambda: above is None or known > above),
        (
            f"be above {above} in {array.dtype}, at least {kind.tiny:.3g}",
            lambda: above is None or used > above,
        ),
        (f"be at most {at_most}", lambda: at_most is None or known <= at_most),
        (f"be below {below}", lambda: below is None or known < below),
    )
    for rule, holds in rules:
        if not np.all(holds()):
            got = known if known.size <= 8 else f"values from {known.min()} to {known.max()}"
            raise ValueError(f"{op}: `{name}` must {rule}, got {got}")
    return array


def field(op: str, name: str, value: Any, **limits: float) -> None:
    """A field of a pytree, at its construction: a Python or NumPy number within its limits.

    Arrays of JAX may be traced, or not be there yet, and are checked where they are used; so is
    whatever else a transformation puts into a field.
    """
    if isinstance(value, str | bytes):
        raise TypeError(f"{op}: `{name}` must be a real number, got {value!r}")
    if isinstance(value, bool | int | float | complex | np.generic | np.ndarray):
        real(op, name, value, **limits)


def scalar(op: str, name: str, value: Any, **limits: float) -> jax.Array:
    """As `real`, of shape ()."""
    array = real(op, name, value, **limits)
    if array.shape != ():
        raise ValueError(f"{op}: `{name}` has shape {array.shape}, expected a scalar")
    return array


def complex_matrix(op: str, name: str, value: Any) -> jax.Array:
    """A JAX array of finite numbers, real or complex."""
    import jax.numpy as jnp

    array = numeric(op, name, value, "a matrix of numbers")
    if not jnp.issubdtype(array.dtype, jnp.number):
        raise TypeError(f"{op}: `{name}` must be a matrix of numbers, got {array.dtype}")
    if is_known(array) and not np.all(np.isfinite(np.asarray(array))):
        raise ValueError(f"{op}: `{name}` must be finite, got NaN or infinity")
    return array


@numpy_defaults
def float32(op: str, name: str, value: Any) -> jax.Array:
    """A JAX array that is f32 already."""
    no_mask(op, name, value)
    array = to_jax(value)
    if array.dtype != np.float32:
        cure = f"cast it with {name}.astype(jnp.float32)"
        if array.dtype.kind == "c":
            cure = f"pass {name}.real or layers.detect({name}), or use {_COMPLEX}"
        raise TypeError(f"{op}: `{name}` must be float32, got {array.dtype}; {cure}")
    return array


_COMPLEX = "lumina_jax.complex_optical_matmul or layers.ComplexOpticalDense"


@numpy_defaults
def complex_array(
    op: str, name: str, value: Any, kinds: tuple[str, ...] = ("complex64",)
) -> jax.Array:
    """A JAX array that is complex already, of one of the `kinds`."""
    no_mask(op, name, value)
    array = to_jax(value)
    if array.dtype.name not in kinds:
        raise TypeError(
            f"{op}: `{name}` must be {' or '.join(kinds)}, got {array.dtype}; "
            f"cast it with {name}.astype(jnp.complex64)"
        )
    return array


@numpy_defaults
def magnitude(op: str, name: str, value: Any) -> jax.Array:
    """A JAX array of reals that are finite and not negative, in f32."""
    import jax.numpy as jnp

    array = numeric(op, name, value, "a real number")
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise TypeError(f"{op}: `{name}` must be a real number, got {array.dtype}")
    known = known_numbers(value)
    if known is not None:
        if not np.all(known >= 0):
            raise ValueError(f"{op}: `{name}` must not be negative or NaN, got {known}")
        if not np.all(known.astype(np.float64) <= F32_MAX):
            raise ValueError(f"{op}: `{name}` must be finite in float32, got {known}")
    return array.astype(np.float32)


@numpy_defaults
def reals(op: str, name: str, value: Any, *, expected: str | None = None) -> Floats:
    """A NumPy array of finite reals, in f64.

    Args:
        op: the function that asks.
        name: the argument.
        value: what was passed.
        expected: the shape in words that begin with it, such as "[n]", "[n, n]" for a square matrix
            or "[K, N]"; then it must have a value. None: any shape.
    """
    given = _host_array(op, name, value, "fiu", ragged="rows of equal length")
    if expected is not None:
        extents = expected[1 : expected.index("]")].split(", ")
        sizes = dict(zip(extents, given.shape, strict=False))
        if not given.size or given.shape != tuple(map(sizes.get, extents)):
            raise ValueError(f"{op}: `{name}` has shape {given.shape}, expected {expected}")
    floats = given.astype(np.float64)
    if not np.isfinite(floats).all():
        raise ValueError(f"{op}: `{name}` has NaN or infinite values, expected finite ones")
    return floats


def nonnegative(op: str, name: str, value: Any, *, expected: str) -> Floats:
    """As `reals`, none of them negative."""
    floats = reals(op, name, value, expected=expected)
    if floats.min() < 0:
        raise ValueError(f"{op}: `{name}` must not be negative, got {floats.min():g}")
    return floats


@numpy_defaults
def concrete(op: str, name: str, value: Any) -> NDArray[np.float32]:
    """A NumPy array of at least one finite real, in f32."""
    if is_traced(value):
        raise TypeError(f"{op}: `{name}` is traced, expected an array outside of jax.jit")
    # bfloat16 has kind "V"; nothing else of that kind converts to a float.
    array = _host_array(op, name, value, "fiuV", ragged="an array")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not array.size:
        raise ValueError(f"{op}: `{name}` has shape {array.shape}, expected at least one value")
    if not np.isfinite(array).all():
        raise ValueError(f"{op}: `{name}` has NaN or infinite values, expected finite f32")
    return array


def distinct(
    op: str, name: str, value: Any, count: int, below: int | None = None
) -> NDArray[np.intp]:
    """A NumPy vector of `count` distinct slots, from 0 and `below` a limit."""
    given = _host_array(op, name, value, "iu", ragged=f"({count},)", kind="integers")
    if given.shape != (count,):
        raise ValueError(f"{op}: `{name}` has shape {given.shape}, expected ({count},)")
    if len(np.unique(given)) != count or given.min() < 0:
        raise ValueError(f"{op}: `{name}` must name distinct slots from 0, got {given.tolist()}")
    if below is not None and given.max() >= below:
        raise ValueError(f"{op}: `{name}` names slot {given.max()}, expected less than {below}")
    return given.astype(np.intp)


def array_of(
    op: str, name: str, value: Any, types: tuple[type[Any], ...], expected: str, rank: int
) -> NDArray[Any]:
    """A NumPy array of one of those types, in the layout of the kernels: itself where it has it.

    Arrays of other libraries are taken where they lend their memory as one, as those of JAX and the
    tensors of PyTorch on the CPU do.
    """
    no_mask(op, name, value)
    if not isinstance(value, np.ndarray):
        value = _lent(op, name, value)
    names = [kind.__name__ for kind in types]
    if value.dtype not in types:
        raise TypeError(
            f"{op}: `{name}` must be {' or '.join(names)}, got {value.dtype}; pass "
            # A cast of complex numbers would drop a part of them.
            + (
                f"{name}.real, or use complex_optical_linear or complex_matmul"
                if value.dtype.kind == "c" and names == ["float32"]
                else f"numpy.asarray({name}, numpy.{names[0]})"
            )
        )
    if value.ndim != rank:
        raise ValueError(f"{op}: `{name}` must be {expected}, got shape {value.shape}")
    return np.require(value, requirements=["C_CONTIGUOUS", "ALIGNED"])


def kind_of(value: Any) -> str:
    """The type of a value by its full name."""
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return module + kind.__qualname__


def _lent(op: str, name: str, value: Any) -> NDArray[Any]:
    """An array of another library as one of NumPy, in the same memory."""
    got = f"{op}: `{name}` must be a numpy.ndarray, got {kind_of(value)}"
    if not hasattr(value, "__array__") or isinstance(value, np.generic) or is_traced(value):
        raise TypeError(got)
    try:
        return np.asarray(value)
    except (TypeError, RuntimeError, ValueError) as error:
        # A tensor of PyTorch that has a gradient, lies on a GPU, or is of a type of its own.
        hint = (
            f"pass {name}.detach().cpu().numpy()"
            if hasattr(value, "detach")
            else "pass its values as a numpy.ndarray"
        )
        raise TypeError(f"{got} that NumPy cannot read ({error}); {hint}") from None


def no_mask(op: str, name: str, value: Any) -> None:
    # Where the module is not imported, there is no masked array.
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise TypeError(
            f"{op}: `{name}` is a masked array, whose mask would be lost; "
            f"fill it with {name}.filled(0)"
        )


def _shown(value: Any) -> str:
    """A value in an error: an array by its type alone."""
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else repr(value)


def _host_array(
    op: str, name: str, value: Any, kinds: str, *, ragged: str, kind: str = "real numbers"
) -> NDArray[Any]:
    no_mask(op, name, value)
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{op}: `{name}` is ragged, expected {ragged}") from None
    except TypeError:  # such as keys of JAX
        raise TypeError(f"{op}: `{name}` is of type {kind_of(value)}, expected {kind}") from None
    if array.dtype.kind not in kinds or array.dtype.names:
        raise TypeError(f"{op}: `{name}` is of type {array.dtype}, expected {kind}")
    return array


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an int beyond float64
        return math.inf if value > 0 else -math.inf
