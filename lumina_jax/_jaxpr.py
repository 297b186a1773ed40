"""The one walker of jaxprs: which equations run, where they stand, and on what.

`sites` lists the equations of a jaxpr in order, those inside calls, branches and loops too, and
computes nothing. An `Interpreter` runs a jaxpr on values of its own kind, arrays or the operands
of a graph, and enters calls. Both know an equation as a `Site`: with the calls around it, the named
scopes, the number of runs, and the line of the user's code.

Jaxprs are read in no other file. What is not JAX's stable public interface is checked with the
oldest and the newest JAX that the package allows.
"""

from __future__ import annotations

import abc
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from jax._src import source_info_util
from jax._src.core import InconclusiveDimensionOperation
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

__all__ = [
    "ClosedJaxpr",
    "Frame",
    "InconclusiveDimensionOperation",
    "Interpreter",
    "Place",
    "Site",
    "array_type",
    "binary_operation",
    "evaluate",
    "is_library",
    "sites",
]

T = TypeVar("T")

Place = tuple[int, ...]
"""The numbers of the calls around an equation, the outer one first, and its own.

Behind the number of a `cond` is that of its branch.
"""

# Primitives that only call a jaxpr with their own operands, and the parameter that holds it.
_CALLS = {
    "call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vmap_call": "call",
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "remat2": "jaxpr",
}

_ROOT = Path(__file__).parent.parent
_LIBRARIES = (
    *(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib")),
    *(str(_ROOT / name) for name in ("exporter", "flax_layers", "lumina_jax")),
)
# Frames of what walks jaxprs itself stand above every equation, and are the source of none.
_WALKERS = str(_ROOT / "exporter")


class Frame(NamedTuple):
    """A place in source code."""

    file: str
    line: int
    function: str


@dataclass(frozen=True, eq=False)
class Site:
    """One equation in a walk, and the site of the equation whose jaxpr it is in."""

    eqn: JaxprEqn
    caller: Site | None = None
    index: int = 0
    """Its number in the jaxpr that it is in."""
    branch: int | None = None
    """Of a `cond` the number of the branch that is taken, where that is known."""

    @property
    def name(self) -> str:
        """The name of the primitive."""
        return self.eqn.primitive.name

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters of the primitive."""
        return self.eqn.params

    @property
    def shapes(self) -> list[tuple[Any, ...]]:
        """Shape of each operand."""
        return [array_type(atom)[0] for atom in self.eqn.invars]

    @property
    def bodies(self) -> list[ClosedJaxpr]:
        """The jaxprs in its parameters: what it calls, its branches, the body of a loop."""
        return list(_bodies(tuple(self.params.values())))

    @cached_property
    def place(self) -> Place | None:
        """Where it is in the whole jaxpr.

        None in what may run another number of times than once: loops, and branches that may not be
        taken.
        """
        around = self.caller
        if around is None:
            return (self.index,)
        if around.place is None or (around.name not in _CALLS and around.branch is None):
            return None
        taken = () if around.branch is None else (around.branch,)
        return *around.place, *taken, self.index

    @cached_property
    def scope(self) -> str:
        """The `jax.named_scope`s around it, such as the path of a Flax module: "MLP/Dense_0"."""
        outer = self.caller.scope if self.caller else ""
        return "/".join(filter(None, (outer, str(self.eqn.source_info.name_stack))))

    @cached_property
    def runs(self) -> int:
        """How often it runs: the product of the lengths of the scans around it."""
        if self.caller is None:
            return 1
        repeated = self.caller.params["length"] if self.caller.name == "scan" else 1
        return self.caller.runs * repeated

    @cached_property
    def frame(self) -> Frame | None:
        """The user's line that it comes from, or else that of a library above JAX.

        JAX keeps the jaxpr of a function that is jitted, so frames outside of that function belong
        to whichever call came first; the site of the call knows the right one.
        """
        found = next((f for f in _frames(self.eqn) if not is_library(f.file)), None)
        if found is None and self.caller is not None:
            found = self.caller.frame
        return found or next(_frames(self.eqn), None)


def sites(
    jaxpr: ClosedJaxpr,
    choose: Callable[[Sequence[list[Site]]], list[Site]] | None = None,
    caller: Site | None = None,
) -> Iterator[Site]:
    """Every equation of `jaxpr` and of the jaxprs inside it, the outer one before the inner ones.

    The body of a loop comes once. Of the branches of a `cond` come all, or those sites that
    `choose` makes of the sites of each.
    """
    for index, eqn in enumerate(jaxpr.jaxpr.eqns):
        site = Site(eqn, caller, index)
        yield site
        inner = (sites(body, choose, site) for body in site.bodies)
        if choose is not None and site.name == "cond":
            yield from choose([list(branch) for branch in inner])
        else:
            for body in inner:
                yield from body


class Interpreter(abc.ABC, Generic[T]):
    """Runs jaxprs on values of type T: calls that it `enters`; all else is up to `equation`."""

    @abc.abstractmethod
    def constant(self, array: Any) -> T:
        """The value of an array in the jaxpr."""

    @abc.abstractmethod
    def equation(self, site: Site, operands: list[T]) -> Sequence[T]:
        """The results of one equation, which may `run` a jaxpr that is in it."""

    def enters(self, site: Site) -> bool:
        """Whether the jaxpr of a call is run equation by equation; else the call is one of them."""
        del site
        return True

    def run(
        self, jaxpr: Jaxpr | ClosedJaxpr, operands: Sequence[T], caller: Site | None = None
    ) -> list[T]:
        """The results of `jaxpr` for `operands`."""
        whole = _closed(jaxpr)
        constvars = whole.jaxpr.constvars
        values = {v: self.constant(c) for v, c in zip(constvars, whole.consts, strict=True)}
        values.update(zip(whole.jaxpr.invars, operands, strict=True))

        def read(atom: Var | Literal) -> T:
            if isinstance(atom, Literal):
                return self.constant(np.asarray(atom.val, array_type(atom)[1]))
            return values[atom]

        for index, eqn in enumerate(whole.jaxpr.eqns):
            site, inputs = Site(eqn, caller, index), [read(atom) for atom in eqn.invars]
            parameter = _CALLS.get(site.name)
            if parameter is None or not self.enters(site):
                results = self.equation(site, inputs)
            else:
                results = self.run(eqn.params[parameter], inputs, site)
            values.update(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in whole.jaxpr.outvars]


def evaluate(eqn: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """Results of `eqn` for arrays, computed op by op."""
    results = eqn.primitive.bind(*operands, **eqn.params)
    return list(results) if eqn.primitive.multiple_results else [results]


def binary_operation(jaxpr: Jaxpr | ClosedJaxpr) -> str | None:
    """The one primitive that `jaxpr` applies to its two arguments, in either order, if it does."""
    arguments = range(len(_closed(jaxpr).jaxpr.invars))
    match _Expression().run(jaxpr, arguments):
        case [(str(name), (0, 1) | (1, 0))] if len(arguments) == 2:
            return name
    return None


class _Expression(Interpreter[Any]):
    """Arguments stand for themselves, results for the primitive and what it was applied to."""

    def constant(self, array: Any) -> Any:
        return ()

    def equation(self, site: Site, operands: list[Any]) -> Sequence[Any]:
        return [(site.name, tuple(operands))] * len(site.eqn.outvars)


def array_type(atom: Var | Literal) -> tuple[tuple[Any, ...], Any]:
    """Shape and dtype of `atom`; () and the aval itself where it is no array."""
    return getattr(atom.aval, "shape", ()), getattr(atom.aval, "dtype", atom.aval)


def is_library(file: str) -> bool:
    """Whether the source `file` is not the user's own code."""
    return file.startswith(_LIBRARIES)


def _closed(jaxpr: Jaxpr | ClosedJaxpr) -> ClosedJaxpr:
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def _bodies(value: Any) -> Iterator[ClosedJaxpr]:
    """The jaxprs in a parameter, in lists and tuples too."""
    if isinstance(value, Jaxpr | ClosedJaxpr):
        yield _closed(value)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _bodies(item)


def _frames(eqn: JaxprEqn) -> Iterator[Frame]:
    traceback = eqn.source_info.traceback
    if traceback is None:
        return
    codes, instructions = traceback.raw_frames()
    for code, instruction in zip(codes, instructions, strict=True):
        if code.co_name.startswith("trace_to_jaxpr"):
            return
        file = code.co_filename
        if source_info_util.is_user_filename(file) and not file.startswith(_WALKERS):
            frame = source_info_util.raw_frame_to_frame(code, instruction)
            yield Frame(frame.file_name, frame.start_line, frame.function_name)
