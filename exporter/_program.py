"""A jaxpr as one flat list of equations over constants and variables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lumina_jax._jaxpr import Place, Site

from ._types import is_key


@dataclass(frozen=True)
class Source:
    """Where an equation comes from."""

    file: str
    line: int
    function: str
    scope: str = ""

    @staticmethod
    def of(site: Site) -> Source | None:
        """That of an equation, None where JAX knows neither line nor module."""
        if site.frame is None:
            return Source("", 0, "", site.scope) if site.scope else None
        return Source(*site.frame, scope=site.scope)

    def __str__(self) -> str:
        """For the file: free of machine paths, "model.py:12 (MLP/Dense_0)"."""
        if not self.file:
            return f"({self.scope})"
        return f"{Path(self.file).name}:{self.line} ({self.scope or self.function})"

    def path(self) -> str:
        """For a person at this machine: "src/model.py:12 (MLP.__call__)"."""
        if not self.file:
            return "no source line"
        path = Path(self.file)
        here = Path.cwd()
        shown = path.relative_to(here) if path.is_relative_to(here) else path
        return f"{shown}:{self.line} ({self.function})"


class Constant:
    """A value known while exporting: a NumPy array, or a JAX array of typed PRNG keys.

    `name` is its path in the parameters, "" for what follows from others.
    """

    def __init__(self, data: Any, name: str = "") -> None:
        self._data = data
        self.name = name

    @staticmethod
    def of(value: Any, name: str = "") -> Constant:
        """The constant for any array."""
        dtype = getattr(value, "dtype", None)
        typed = dtype is not None and is_key(dtype)
        return Constant(value if typed else np.asarray(value), name)

    @property
    def data(self) -> Any:
        """The array."""
        return self._data

    @property
    def is_known(self) -> bool:
        """Whether the data are there, rather than computed when they are asked for."""
        return True

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents, of keys where `data` holds keys."""
        return self._data.shape

    @property
    def dtype(self) -> Any:
        """JAX dtype, possibly of keys."""
        return self._data.dtype

    def array(self) -> np.ndarray:
        """The data as NumPy array; a key is its u32[2] words."""
        if is_key(self.dtype):
            return np.asarray(jax.random.key_data(self.data))
        return np.asarray(self.data)


@dataclass(frozen=True, eq=False)
class Variable:
    """A value that depends on an argument or on a symbolic dimension."""

    shape: tuple[Any, ...]
    dtype: Any


Operand = Constant | Variable


@dataclass(frozen=True)
class Equation:
    """A primitive applied to operands, with nothing left to inline or to fold."""

    primitive: str
    params: dict[str, Any]
    inputs: tuple[Operand, ...]
    outputs: tuple[Variable, ...]
    source: Source | None
    bodies: tuple[Program, ...] = ()
    """What it repeats or chooses; these read variables of the program around them too."""
    place: Place | None = None
    """Where JAX has the equation of these operands; None where it has none, or in a loop."""

    @property
    def reads(self) -> list[Operand]:
        """Its operands, and what its bodies read of the program around it."""
        return [*self.inputs, *(free for body in self.bodies for free in body.free())]


@dataclass(frozen=True)
class Program:
    """Equations in topological order from `inputs` to `outputs`."""

    inputs: tuple[Variable, ...]
    equations: tuple[Equation, ...]
    outputs: tuple[Operand, ...]

    def free(self) -> list[Operand]:
        """What it reads and does not define."""
        own = {*self.inputs, *(result for eqn in self.equations for result in eqn.outputs)}
        reads = [read for equation in self.equations for read in equation.reads]
        return [read for read in dict.fromkeys((*reads, *self.outputs)) if read not in own]

    def without_dead(self) -> Program:
        """This program less the equations that no output needs."""
        live = set(self.outputs)
        equations = []
        for equation in reversed(self.equations):
            if live.intersection(equation.outputs):
                live.update(equation.reads)
                equations.append(equation)
        return Program(self.inputs, tuple(reversed(equations)), self.outputs)
