"""What a value holds, whichever library it is of: whether it can be looked at, and its numbers.

JAX is imported by the function that returns its arrays, so that the NumPy entry does without it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import jax

Floats = NDArray[np.float64]


def is_traced(value: Any) -> bool:
    # Where JAX is not imported, nothing is.
    core = sys.modules.get("jax.core")
    return core is not None and isinstance(value, core.Tracer)


def is_known(array: Any) -> bool:
    """Whether the values are there to be looked at."""
    return not is_traced(array) and getattr(array, "is_fully_addressable", True)


def native_order(value: Any) -> Any:
    """Arrays of the other byte order, which JAX does not take, in the order of this machine."""
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.isnative:
        return value.astype(value.dtype.newbyteorder("="))
    return value


def plain_number(value: Any) -> Any:
    """The Python number in a NumPy scalar or in an array of shape (); any other `value` itself."""
    dtype = getattr(value, "dtype", None)
    is_number = getattr(dtype, "kind", "") in (*"biufcV",) and not getattr(dtype, "names", None)
    if not is_number or value.shape != () or not is_known(value):
        return value
    plain = np.asarray(value).item()
    # That of an extension type such as bfloat16 is no number of Python.
    return plain if isinstance(plain, int | float | complex) else float(plain)


def to_floats(value: Any) -> Floats:
    return np.vectorize(float, otypes=[np.float64])(np.asarray(value, object))


def known_numbers(value: Any) -> NDArray[Any] | None:
    """The numbers of `value`, which may be a list, or None where one of them is traced.

    Inside `jit` even the array of a Python number is traced; the number itself is known.
    """
    items = value if isinstance(value, list | tuple) else ()
    if not is_known(value) or any(known_numbers(item) is None for item in items):
        return None
    array = np.asarray(value)
    if array.dtype == object:
        return to_floats(value)
    # Floats of 16 bits are compared to limits that they do not hold.
    return array.astype(np.float32) if array.dtype.kind in "fV" and array.itemsize < 4 else array


def to_jax(value: Any) -> jax.Array:
    """`value` as JAX converts it, and integers too large for that as floats."""
    import jax.numpy as jnp

    # What f32 does not hold becomes infinite, and is for the caller to look at.
    with np.errstate(over="ignore"):
        try:
            return jnp.asarray(native_order(value))
        except OverflowError:
            return jnp.asarray(to_floats(value), jnp.result_type(float))
