"""What can be exported: functions, and what holds one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from ._errors import ExportError


def function_of(given: Any) -> Callable[..., Any]:
    """The function that `given` is or holds.

    Raises ExportError where it is none, with what to write instead.
    """
    title = type(given).__name__
    if isinstance(given, jax.stages.Lowered | jax.stages.Compiled):
        raise ExportError(
            f"the function is {title}, a program that was made of one; export the function that "
            "was lowered"
        )
    if hasattr(given, "init") and hasattr(given, "apply") and not callable(given):
        raise ExportError(
            f"the function is {title}, a pair of functions; export its `apply` with the parameters "
            "as `params`, of Haiku that of hk.without_apply_rng(...)"
        )
    if not callable(given):
        raise ExportError(f"the function is {given!r} of type {title}, expected a function")
    return given


def title_of(function: Callable[..., Any]) -> str:
    """What a function is called in messages."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__name__)
    return str(name)
