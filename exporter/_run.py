"""A model as a function in this process: what it is given, and what it returns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ._errors import quoted
from ._graph import Port, Role
from ._names import path_name
from ._types import is_key

_STEP = re.compile(r"\['(?P<key>[^']*)'\]|\[(?P<index>\d+)\]|\.(?P<name>\w+)")


def given(
    ports: Sequence[Port], args: Sequence[Any], options: Mapping[str, Any]
) -> list[np.ndarray]:
    """The inputs of a graph, in order, of the arguments of a call.

    Raises TypeError or ValueError where they are not those of the exported function.
    """
    names = [port.name for port in ports]
    leaves: dict[str, Any] = {}
    for arg in args:
        for path, leaf in jax.tree_util.tree_flatten_with_path(arg)[0]:
            if len(leaves) == len(names):
                raise TypeError(f"model: takes the arrays {quoted(names)}, got more")
            name, suffix = names[len(leaves)], jax.tree_util.keystr(tuple(path))
            if not name.endswith(suffix):
                raise ValueError(f"model: expected `{name}`, got an array at {suffix} of a pytree")
            leaves[name] = leaf
    for root, value in options.items():
        for path, leaf in jax.tree_util.tree_flatten_with_path(value)[0]:
            name = path_name(root, path)
            if name in leaves or name not in names:
                what = "given twice" if name in leaves else f"unknown, expected {quoted(names)}"
                raise TypeError(f"model: `{name}` is {what}")
            leaves[name] = leaf
    missing = [name for name in names if name not in leaves]
    if missing:
        raise TypeError(f"model: {quoted(missing)} is missing")
    return [array_of(port, leaves[port.name]) for port in ports]


def array_of(port: Port, leaf: Any) -> np.ndarray:
    """The array as the runtime takes it; raises TypeError where it has another type."""
    if is_key(getattr(leaf, "dtype", np.dtype(bool))):
        leaf = jax.random.key_data(leaf)
    elif port.role is Role.NOISE_SEED and isinstance(leaf, int):
        leaf = np.array([leaf >> 32, leaf & 0xFFFFFFFF], np.uint32)
    array = np.asarray(leaf)
    want = port.value.dtype.numpy
    if array.dtype != want:
        fits = np.can_cast(array.dtype, want, "same_kind") or isinstance(leaf, int | float)
        cast = array.astype(want) if fits else array
        exact = want.kind in "iub" or array.dtype.kind in "iu"
        if not fits or (exact and not np.array_equal(cast, array)):
            raise TypeError(
                f"model: `{port.name}` must be {port.value.dtype}, got {array.dtype}"
                + (" with numbers that do not fit" if fits else "; convert it with `astype`")
            )
        array = cast
    return np.ascontiguousarray(array).reshape(array.shape)


def returned(names: Sequence[str], arrays: Sequence[Any]) -> Any:
    """The results of the exported function: "output['a'][0]" is in a tuple in a dict."""
    tree = _Tree()
    for name, array in zip(names, arrays, strict=True):
        tree.put(_steps(name), array)
    return tree.built()


def _steps(name: str) -> list[str | int]:
    path = name.removeprefix("output")
    steps: list[str | int] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            return [name]
        index = match["index"]
        steps.append(int(index) if index is not None else match["key"] or match["name"] or "")
        at = match.end()
    return steps


class _Tree:
    """Nested results by the steps of their paths."""

    def __init__(self) -> None:
        self.leaf: Any = None
        self.children: dict[str | int, _Tree] = {}

    def put(self, steps: Sequence[str | int], leaf: Any) -> None:
        if not steps:
            self.leaf = leaf
            return
        self.children.setdefault(steps[0], _Tree()).put(steps[1:], leaf)

    def built(self) -> Any:
        if not self.children:
            return self.leaf
        built = {step: child.built() for step, child in self.children.items()}
        return tuple(built.values()) if list(built) == list(range(len(built))) else built
