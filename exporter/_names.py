"""Names of arguments, results and constants, as people know them from their own code."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from lumina_jax._jaxpr import is_library

# Objects that are looked into for the names of arrays; a model is a few thousand.
_MOST_OBJECTS = 20_000


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

    Seen are free variables, globals, defaults, arguments of a partial, the object of a method,
    pytrees in all of these, and functions and attributes of objects among them:
    "variables['params']['Dense_0']['kernel']". Models of Keras name their variables themselves.
    Where two arrays have the same path, the first one has it.
    """
    names: dict[int, str] = {}
    taken: set[str] = set()
    seen: dict[int, Any] = {}

    def visit(root: str, value: Any) -> None:
        for path, leaf in _leaves(value):
            if isinstance(leaf, jax.Array):
                name = path_name(root, path)
                if name not in taken and id(leaf) not in names:
                    names[id(leaf)] = name
                    taken.add(name)
            elif id(leaf) not in seen and len(seen) < _MOST_OBJECTS:
                seen[id(leaf)] = leaf
                held = _held(leaf) if _is_function(leaf) else _attributes(root, path, leaf)
                for inner, part in held:
                    visit(inner, part)

    visit("", function)
    return names


def _leaves(value: Any) -> Sequence[tuple[Sequence[Any], Any]]:
    try:
        return jax.tree_util.tree_flatten_with_path(
            value, is_leaf=lambda part: isinstance(part, functools.partial)
        )[0]
    except (TypeError, ValueError):  # a dict whose keys have no order is no pytree
        return []


def _is_function(leaf: Any) -> bool:
    return isinstance(leaf, functools.partial) or hasattr(inspect.unwrap(leaf), "__code__")


def _attributes(root: str, path: Sequence[Any], leaf: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of what an object holds that is no pytree."""
    if isinstance(leaf, type | types.ModuleType):
        return
    for variable in _variables(leaf):
        yield variable.path, variable.value
    name = path_name(root, path) if path else root
    for attribute, held in getattr(leaf, "__dict__", {}).items():
        if attribute == "__wrapped__":
            yield name, held
            continue
        public = attribute.lstrip("_")
        shown = public if hasattr(type(leaf), public) else attribute
        yield f"{name}.{shown}" if name else shown, held


def _variables(model: Any) -> Sequence[Any]:
    """Those of a model of Keras, each with a path of its own."""
    found = getattr(model, "variables", None) if hasattr(model, "stateless_call") else None
    return found if isinstance(found, list | tuple) else ()


def _held(function: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of what a function holds on to."""
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
        defaults = inner.__defaults__ or ()
        yield from zip(code.co_varnames[code.co_argcount - len(defaults) :], defaults, strict=False)
        yield from (inner.__kwdefaults__ or {}).items()
