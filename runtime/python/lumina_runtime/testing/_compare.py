"""Comparison of results with those of a reference, element by element."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._tensors import values_of

_SHOWN = 1000


def get_tolerance(
    tolerance_map: Mapping[Any, Mapping[str, float]],
    tensor_dtype: Any,
    default_atol: float = 0,
    default_rtol: float = 1e-3,
) -> tuple[float, float]:
    """`atol` and `rtol` of a type, by their names; the defaults where the map has none."""
    found = tolerance_map.get(tensor_dtype, {})
    return found.get("atol", default_atol), found.get("rtol", default_rtol)


def debug(
    actual: Any,
    desired: Any,
    atol: float = 0,
    rtol: float = 1e-2,
    equal_nan: bool = False,
    verbose: bool = True,
) -> None:
    """Reports where `|actual - desired| > atol + rtol·|desired|`, and raises if it is anywhere.

    Arrays and torch tensors are taken alike. Infinities must be equal, and a NaN differs from
    everything, unless `equal_nan` says that two of them are the same.

    Raises:
      AssertionError: an element differs.
      ValueError: the shapes differ.
    """
    found = len(print_discrepancy(actual, desired, atol, rtol, equal_nan, verbose))
    if found:
        count = values_of(actual).size
        raise AssertionError(f"{found} of {count} elements differ with atol {atol}, rtol {rtol}")


def debug_all(
    actual_vals: Sequence[Any],
    desired_vals: Sequence[Any],
    condition: str,
    atol: float = 0,
    rtol: float = 1e-2,
    equal_nan: bool = False,
    verbose: bool = True,
) -> None:
    """As `debug`, pair by pair: all must agree where `condition` is `and`, one where it is `or`.

    Raises:
      AssertionError: they do not.
      ValueError: the lengths or shapes differ, or `condition` is another word.
    """
    if condition not in ("and", "or"):
        raise ValueError(f"debug_all: `condition` must be `and` or `or`, got {condition!r}")
    if len(actual_vals) != len(desired_vals):
        raise ValueError(
            f"debug_all: {len(actual_vals)} `actual_vals`, {len(desired_vals)} `desired_vals`"
        )
    wrong: list[int] = []
    for number, pair in enumerate(zip(actual_vals, desired_vals, strict=True), 1):
        if verbose:
            print(f" {_colored(f'pair {number}', 36)}")
        if len(print_discrepancy(*pair, atol, rtol, equal_nan, verbose)):
            wrong.append(number)
    count = len(actual_vals)
    if (condition == "and" and wrong) or (condition == "or" and count and len(wrong) == count):
        raise AssertionError(f"pairs {wrong} of {count} differ with atol {atol}, rtol {rtol}")


def print_discrepancy(
    actual: Any,
    expected: Any,
    atol: float = 0,
    rtol: float = 1e-3,
    equal_nan: bool = True,
    verbose: bool = True,
) -> np.ndarray:
    """The indices of the elements that differ, `i64[count, rank]`; printed if `verbose`.

    Of more than a thousand elements the first thousand are printed. Colors are for terminals alone.

    Raises:
      ValueError: the shapes differ.
    """
    got, want = values_of(actual), values_of(expected)
    if got.shape != want.shape:
        raise ValueError(f"shapes differ: got {list(got.shape)}, expected {list(want.shape)}")
    wide_got, wide_want = _wide(got), _wide(want)
    with np.errstate(invalid="ignore", over="ignore"):
        delta = wide_got - wide_want
        near = np.abs(delta) <= atol + rtol * np.abs(wide_want)
    same = wide_got == wide_want
    if equal_nan:
        same |= np.isnan(wide_got) & np.isnan(wide_want)
    # What is infinite is within any relative tolerance of infinity.
    near &= np.isfinite(wide_got) & np.isfinite(wide_want)
    indices = np.argwhere(~(same | near))
    if verbose:
        for index in map(tuple, indices[:_SHOWN].tolist()):
            print(
                f" > {index!s:<20} actual {_colored(_shown(wide_got[index]), 31)} "
                f"expected {_colored(_shown(wide_want[index]), 32)} "
                f"difference {_colored(_shown(delta[index]), 33)}"
            )
        if len(indices) > _SHOWN:
            print(f" > and {len(indices) - _SHOWN} more")
        _summary(got, want, delta, len(indices), atol, rtol)
    return indices


def _summary(
    got: np.ndarray,
    want: np.ndarray,
    delta: np.ndarray,
    wrong: int,
    atol: float,
    rtol: float,
) -> None:
    share = 100 * wrong / max(got.size, 1)
    print(f" {got.dtype} beside {want.dtype}, atol {atol}, rtol {rtol}")
    print(f" {_colored(f'{wrong} of {got.size} elements differ', 35)}, {share:.3g} %")
    finite = np.abs(delta[np.isfinite(delta)])
    if finite.size:
        print(f" largest difference {_shown(finite.max())}, mean {_shown(finite.mean())}")


def _wide(values: np.ndarray) -> np.ndarray:
    """A type in which differences are exact: that of 64-bit integers is none of 64 bits."""
    if values.dtype.kind == "c":
        return values.astype(np.complex128)
    return values.astype(np.longdouble if values.dtype.kind in "iu" else np.float64)


def _shown(value: Any) -> str:
    if np.iscomplexobj(value):
        return f"{complex(value):.9g}"
    return f"{float(value):<16.9g}"


def _colored(text: str, code: int) -> str:
    return f"\033[{code}m{text}\033[0m" if sys.stdout.isatty() else text
