"""Everything here that is not JAX's stable public interface. Checked with jax 0.8 and 0.10."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from jax._src import source_info_util
from jax._src.core import InconclusiveDimensionOperation
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

__all__ = [
    "ClosedJaxpr",
    "InconclusiveDimensionOperation",
    "Jaxpr",
    "JaxprEqn",
    "Literal",
    "Var",
    "array_type",
    "called_jaxpr",
    "closed",
    "evaluate",
    "is_library",
    "mentions_symbol",
    "scope",
    "user_frame",
]

# Primitives that only call a jaxpr, and the parameter that holds it.
_CALLS = {
    "call": "call_jaxpr",
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vmap_call": "call",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}

_ROOT = Path(__file__).parent.parent
_LIBRARIES = (
    *(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib")),
    *(str(_ROOT / name) for name in ("flax_layers", "lumina_jax")),
)
_EXPORTER = str(Path(__file__).parent)


def array_type(var: Var | Literal) -> tuple[tuple[Any, ...], Any]:
    """Shape and dtype of `var`; () and the aval itself where it is no array."""
    return getattr(var.aval, "shape", ()), getattr(var.aval, "dtype", var.aval)


def closed(jaxpr: Jaxpr | ClosedJaxpr) -> ClosedJaxpr:
    """`jaxpr` with its constants; an open jaxpr has none."""
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def called_jaxpr(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """The jaxpr that `eqn` calls with its own operands, or None where it is not such a call."""
    parameter = _CALLS.get(eqn.primitive.name)
    return None if parameter is None else closed(eqn.params[parameter])


def evaluate(eqn: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """Results of `eqn` for concrete `operands`, computed op by op."""
    results = eqn.primitive.bind(*operands, **eqn.params)
    return list(results) if eqn.primitive.multiple_results else [results]


def mentions_symbol(eqn: JaxprEqn) -> bool:
    """Whether a parameter or result of `eqn`, or of a jaxpr inside it, has a symbolic dimension."""
    if any(_symbolic(getattr(var.aval, "shape", ())) for var in eqn.outvars):
        return True
    return any(_symbolic(value) for value in eqn.params.values())


def _symbolic(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(_symbolic(item) for item in value)
    if isinstance(value, Jaxpr | ClosedJaxpr):
        return any(mentions_symbol(eqn) for eqn in closed(value).jaxpr.eqns)
    return jax.export.is_symbolic_dim(value)


def user_frame(eqn: JaxprEqn, libraries: bool = False) -> tuple[str, int, str] | None:
    """File, line and function of the user's code, or else of `libraries` above JAX, for `eqn`.

    None where that code is outside of the function whose jaxpr `eqn` is in: JAX keeps the jaxpr of
    a function that is jitted, so frames outside of it belong to whichever call came first.
    """
    for frame in _frames(eqn):
        if libraries or not is_library(frame.file_name):
            return frame.file_name, frame.start_line, frame.function_name
    return None


def is_library(file: str) -> bool:
    """Whether the source `file` is not the user's own code."""
    return file.startswith(_LIBRARIES)


def _frames(eqn: JaxprEqn) -> Iterator[Any]:
    traceback = eqn.source_info.traceback
    if traceback is None:
        return
    codes, instructions = traceback.raw_frames()
    for code, instruction in zip(codes, instructions, strict=True):
        if code.co_name.startswith("trace_to_jaxpr"):
            return
        file = code.co_filename
        if source_info_util.is_user_filename(file) and not file.startswith(_EXPORTER):
            yield source_info_util.raw_frame_to_frame(code, instruction)


def scope(eqn: JaxprEqn) -> str:
    """`jax.named_scope`s around `eqn`, such as the path of a Flax module: "MLP/Dense_0"."""
    return str(eqn.source_info.name_stack)
