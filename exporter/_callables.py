"""What can be exported: functions, and what holds one."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

import jax

from ._errors import ExportError
from ._stablehlo import argument_names


def function_of(given: Any) -> Callable[..., Any]:
    """The function that `given` is or holds.

    Raises ExportError where it is none, with what to write instead.
    """
    title = type(given).__name__
    if isinstance(given, jax.export.Exported):
        return _called(given)
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


def is_exportable(given: Any) -> bool:
    """Whether it is something that `function_of` may take."""
    return callable(given) or isinstance(given, jax.export.Exported)


def examples_of(given: Any) -> tuple[Any, ...]:
    """The arguments that a program of `jax.export` was made for; of others nothing is known."""
    if not isinstance(given, jax.export.Exported):
        return ()
    arguments, named = _arguments(given)
    return (*arguments, *named.values())


def _arguments(program: jax.export.Exported) -> tuple[tuple[Any, ...], dict[str, Any]]:
    structs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in program.in_avals]
    return jax.tree_util.tree_unflatten(program.in_tree, structs)


def _called(program: jax.export.Exported) -> Callable[..., Any]:
    """The function that calls a program of `jax.export`, with the names of its arguments."""
    name = program.fun_name
    if "cpu" not in program.platforms:
        raise ExportError(
            f"`{name}` is a program of jax.export for {', '.join(program.platforms)}, expected cpu "
            'among them; make it with platforms=("cpu", ...)'
        )
    if program.nr_devices > 1:
        raise ExportError(
            f"`{name}` is a program of jax.export for {program.nr_devices} devices, expected one; "
            "make it of the function without shardings"
        )
    if program.ordered_effects or program.unordered_effects:
        effects = ", ".join(map(str, (*program.ordered_effects, *program.unordered_effects)))
        raise ExportError(
            f"`{name}` is a program of jax.export with effects, {effects}; make it of the function "
            "without callbacks and printing"
        )
    arguments, named = _arguments(program)

    def call(*given: Any) -> Any:
        count = len(arguments)
        return program.call(*given[:count], **dict(zip(named, given[count:], strict=True)))

    call.__qualname__ = name
    leaves = iter(argument_names(program))
    roots = []
    for argument in (*arguments, *named.values()):
        found = [next(leaves) for _ in jax.tree_util.tree_leaves(argument)]
        root = re.match(r"[A-Za-z_]\w*", found[0] or "") if found else None
        roots.append(root[0] if root else "")
    if all(roots) and len(set(roots)) == len(roots):
        kind = inspect.Parameter.POSITIONAL_ONLY
        parameters = [inspect.Parameter(root, kind) for root in roots]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


def title_of(function: Callable[..., Any]) -> str:
    """What a function is called in messages."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__name__)
    return str(name)
