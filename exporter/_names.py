"""Names of arguments, results and constants, as people know them from their own code."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from lumina_jax._jaxpr import is_library


def signature_names(function: Callable[..., Any], count: int) -> list[str]:
    """What the first `count` positional parameters of `function` are called in messages."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [parameter.name for parameter in parameters if parameter.kind in kinds][:count]
    kind = inspect.Parameter.VAR_POSITIONAL
    rest = next((parameter.name for parameter in parameters if parameter.kind is kind), "args")
    return names + [f"{rest}[{i}]" for i in range(count - len(names))]


def path_name(root: str, path: Sequence[Any]) -> str:
    """Name of a leaf: "args[0]['image']"; with no root the first key stands bare: "a['b']"."""
    text = jax.tree_util.keystr(tuple(path))
    if root:
        return root + text
    bare = re.match(r"\['(\w+)'\]|\.(\w+)", text)
    return (bare[1] or bare[2]) + text[bare.end() :] if bare else text


def closure_names(function: Callable[..., Any]) -> dict[int, str]:
    """Path of each JAX array that `function` closes over, by the id of the array.

    Seen are free variables, globals, arguments of a partial and the object of a method, pytrees
    in all of these, and functions among them: "variables['params']['Dense_0']['kernel']". Where
    two arrays have the same path, the first one has it.
    """
    names: dict[int, str] = {}
    taken: set[str] = set()
    seen: set[int] = set()

    def visit(root: str, value: Any) -> None:
        for path, leaf in _leaves(value):
            if isinstance(leaf, jax.Array):
                name = path_name(root, path)
                if name not in taken and id(leaf) not in names:
                    names[id(leaf)] = name
                    taken.add(name)
            elif callable(leaf) and id(leaf) not in seen:
                seen.add(id(leaf))
                for inner, held in _held(leaf):
                    visit(inner, held)

    visit("", function)
    return names


def _leaves(value: Any) -> Sequence[tuple[Sequence[Any], Any]]:
    try:
        return jax.tree_util.tree_flatten_with_path(value)[0]
    except (TypeError, ValueError):  # a dict whose keys have no order is no pytree
        return []


def _held(function: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of what a callable holds on to."""
    if isinstance(function, functools.partial):
        yield "", function.func
        yield from zip(
            signature_names(function.func, len(function.args)), function.args, strict=True
        )
        yield from function.keywords.items()
    if inspect.ismethod(function):
        yield "self", function.__self__
    inner = inspect.unwrap(function)
    code = getattr(inner, "__code__", None)
    if code is not None:
        for name, cell in zip(code.co_freevars, inner.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # the variable has no value yet
                yield name, cell.cell_contents
        # What a library holds in its own globals is none of the user's arrays.
        for name in () if is_library(code.co_filename) else code.co_names:
            if name in inner.__globals__:
                yield name, inner.__globals__[name]
