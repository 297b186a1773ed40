"""Who is compared, and what each of them has to offer."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

OURS = "ours"
PEERS = (
    "jax",
    "torch",
    "torch-compile",
    "numpy",
    "qwix",
    "lightning",
    "analogvnn",
    "aihwkit",
)
"""Each is a module in `peers`: `_` and the name, with `_` for `-`."""

ONE_ARRAY = "one array"
"""Ours with all inputs in one array, beside which suite `tiles` puts arrays of fewer."""

ONNX_RUNTIME = "onnxruntime"
"""Runs whole networks that `lumina convert` has written, in suite `models`."""

HEADLINE = ("jax", "torch")
"""The peers of a quick run."""

ADDITIVE = frozenset({"lightning", "analogvnn", "aihwkit"})
"""Peers whose output noise has the same variance for every y."""


class Unsupported(Exception):  # noqa: N818
    """A peer that is absent or has no such computation; the text says why."""


class Program(NamedTuple):
    """One computation of one peer, compiled and with its operands in place."""

    bind: Callable[[Any], Callable[[], Any]]
    """A call with noise of that relative level; it returns when its results are complete."""
    to_numpy: Callable[[Any], tuple[np.ndarray, ...]]
    """What a call returned: y, or y, dX f32[B, K] and dW f32[K, N]; the loss of a training."""
    hlo: Callable[[Any], str] | None = None
    """What XLA compiled for that level, where a profile may be asked for."""


def load(name: str) -> ModuleType:
    """The module of a peer; `Unsupported` where what it needs cannot be imported."""
    try:
        return importlib.import_module(f".peers._{name.replace('-', '_')}", __package__)
    except Exception as error:
        # A package that is broken on this machine fails in its own way: any of them is a note.
        raise Unsupported(f"{type(error).__name__}: {error}".splitlines()[0]) from error
