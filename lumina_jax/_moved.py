"""Modules that have moved: their old names work for one release, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType
from typing import Any

PACKAGE = "lumina_jax"

MOVED = {
    "compensation": "lumina_jax.hardware.compensation",
    "crosstalk": "lumina_jax.hardware.crosstalk",
    "drift": "lumina_jax.hardware.drift",
    "energy": "lumina_jax.cost.energy",
    "explain": "lumina_jax.hardware.describe",
    "kernel": "lumina_jax.numpy",
    "measurements": "lumina_jax.hardware.measurements",
    "noise": "lumina_jax.hardware.noise",
    "profiles": "lumina_jax.hardware.profiles",
    "ranges": "lumina_jax.layers.ranges",
    "reports": "lumina_jax.cost.reports",
    "workload": "lumina_jax.cost.workload",
}
"""Old name in the package → full name of the module that holds what was there."""


class _Moved(ModuleType):
    """Stands at an old name; each use warns and is answered by the module at the new one.

    Pickles name the module of a class, so those written with old names load too.
    """

    def __init__(self, old: str, new: str) -> None:
        super().__init__(old, f"Moved to `{new}`.")
        self._new = new

    def __getattr__(self, name: str) -> Any:
        # The import system asks for such names too, and they are not what moved.
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(self._new), name)
        warnings.warn(
            f"`{self.__name__}.{name}` has moved to `{self._new}.{name}`, and the old name goes "
            "with the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        return value


def install() -> None:
    """Makes the old names importable; those that name something else in the package keep it."""
    package = sys.modules[PACKAGE]
    for name, new in MOVED.items():
        module = _Moved(f"{PACKAGE}.{name}", new)
        sys.modules[module.__name__] = module
        if name not in package.__all__:
            setattr(package, name, module)
