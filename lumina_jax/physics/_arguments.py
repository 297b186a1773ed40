"""Arguments of the formulas: conversion to floating point, checks of known values, safe roots."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

ELEMENTARY_CHARGE = 1.602176634e-19
"""q, C (exact, SI 2019)."""
BOLTZMANN = 1.380649e-23
"""k, J/K (exact, SI 2019)."""
PLANCK = 6.62607015e-34
"""h, J·s (exact, SI 2019)."""
LIGHT_SPEED = 299792458.0
"""c, m/s (exact, SI 2019)."""


def real(
    function: str,
    name: str,
    value: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> jax.Array:
    """`value` as an array of at least f32; integers become floats, and traced values are trusted.

    Raises:
        TypeError: it is not made of real numbers.
        ValueError: a known value is not finite or is out of the range, or rows differ in length.
    """
    array = numeric(function, name, value, "a real number")
    if jnp.issubdtype(array.dtype, jnp.integer):
        array = array.astype(jnp.result_type(float))
    elif not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{function}: `{name}` must be a real number, got {array.dtype}")
    elif array.dtype.itemsize < 4:
        # Squared currents and energies are far below the smallest float of 16 bits.
        array = array.astype(np.float32)
    # Inside jit even the array of a Python number is traced; the number itself is known.
    source = value if isinstance(value, int | float | np.ndarray) else array
    if isinstance(source, Tracer) or not getattr(source, "is_fully_addressable", True):
        return array
    known = np.asarray(source)
    limits = (
        (np.all(np.isfinite(known)), "be finite"),
        (at_least is None or np.all(known >= at_least), f"be at least {at_least}"),
        (above is None or np.all(known > above), f"be above {above}"),
        (at_most is None or np.all(known <= at_most), f"be at most {at_most}"),
        (below is None or np.all(known < below), f"be below {below}"),
    )
    for holds, rule in limits:
        if not holds:
            got = known if known.size <= 8 else f"values from {known.min()} to {known.max()}"
            raise ValueError(f"{function}: `{name}` must {rule}, got {got}")
    return array


def numeric(function: str, name: str, value: Any, expected: str) -> jax.Array:
    """`value` as an array.

    Raises:
        TypeError: it is no array of numbers, but should be `expected`.
        ValueError: rows differ in length.
    """
    # JAX would take a string in a list for the name of a dtype.
    leaves = jax.tree.leaves(value, is_leaf=lambda leaf: leaf is None)
    if isinstance(value, bool) or any(
        leaf is None or isinstance(leaf, str | bytes) for leaf in leaves
    ):
        raise TypeError(f"{function}: `{name}` must be {expected}, got {value!r}")
    try:
        return jnp.asarray(value)
    except TypeError:
        message = f"{function}: `{name}` must be {expected}, got {value!r}"
        raise TypeError(message) from None
    except ValueError:
        message = f"{function}: `{name}` must be a rectangular array, got rows of unequal length"
        raise ValueError(message) from None


def complex_matrix(function: str, name: str, value: Any) -> jax.Array:
    """`value` as an array of numbers, real or complex; traced values are trusted.

    Raises:
        TypeError: it is not made of numbers.
        ValueError: a known value is not finite, or rows differ in length.
    """
    array = numeric(function, name, value, "a matrix of numbers")
    if not jnp.issubdtype(array.dtype, jnp.number):
        raise TypeError(f"{function}: `{name}` must be a matrix of numbers, got {array.dtype}")
    known = not isinstance(array, Tracer) and array.is_fully_addressable
    if known and not np.all(np.isfinite(np.asarray(array))):
        raise ValueError(f"{function}: `{name}` must be finite, got NaN or infinity")
    return array


def count(function: str, name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """`value` as a Python int of at least `least`, or the error that says what is wrong."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        message = f"{function}: `{name}` must be an int, got {value!r}"
        raise TypeError(message) from None
    if number < least or (most is not None and number > most):
        expected = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{function}: `{name}` must be {expected}, got {number}")
    return number


def root(v: jax.Array) -> jax.Array:
    """√v for v ≥ 0, with the gradient 0 instead of inf at v = 0."""
    lit = v > 0
    return jnp.where(lit, jnp.sqrt(jnp.where(lit, v, 1.0)), 0.0)
