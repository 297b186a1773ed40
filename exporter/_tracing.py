"""Tracing the exported function, and what to say where JAX cannot."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from lumina_jax._jaxpr import ClosedJaxpr, InconclusiveDimensionOperation, is_library, sites

from ._errors import ExportError
from ._names import path_name
from ._program import Source

_NUMBERS = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)

_HASHED_OR_SIZE = re.compile(r"unhashable type: '\w*Tracer'|concrete values.*Tracer[(<]", re.DOTALL)
_TAKEN = "take extents from the arguments, by x.shape, in place of numbers, or "

# What to write in place of what needs the values of arrays, the more special errors first.
_VALUES: dict[type[Exception], tuple[str, str]] = {
    jax.errors.NonConcreteBooleanIndexError: (
        "indexes with a mask, so that the size of the result depends on values",
        "keep the shape: reduce with `where=mask`, choose by jnp.where, or give `size` to "
        "jnp.nonzero",
    ),
    jax.errors.TracerBoolConversionError: (
        "decides by the value of an array, in an `if`, a `while`, an `and` or the like",
        "choose by jnp.where or jax.lax.cond, repeat by jax.lax.while_loop, or bind an argument "
        "that is no input of the model with functools.partial",
    ),
    jax.errors.TracerIntegerConversionError: (
        "takes the value of an array for a Python integer, as an index of a list or a size",
        "index a jnp array by it, or bind an argument that is no input of the model with "
        "functools.partial",
    ),
    jax.errors.TracerArrayConversionError: (
        "hands an array to NumPy, which knows no traced ones",
        "use jax.numpy in place of numpy, and jnp.asarray of what is indexed",
    ),
    jax.errors.UnexpectedTracerError: (
        "uses an array that another call of a function has left behind",
        "return what is needed later instead of keeping it in an object or a global variable",
    ),
    jax.errors.ConcretizationTypeError: (
        "needs the value of an array in Python",
        "stay with jnp arrays (x.astype in place of int and float), give sizes as Python integers "
        "(// in place of /), or bind an argument that is no input of the model with "
        "functools.partial",
    ),
}  # fmt: skip


def trace(
    flat: Callable[..., Any], structs: Sequence[jax.ShapeDtypeStruct], title: str, has_batch: bool
) -> tuple[ClosedJaxpr, Any]:
    """The jaxpr of `flat` for these arguments, and the shapes of its results as it returns them.

    Raises ExportError, with the line of the user, where the function needs what is not known while
    tracing; what the function itself raises for arrays of fixed shapes is passed on.
    """

    def checked(*leaves: Any) -> Any:
        results = flat(*leaves)
        _check_results(results, title)
        return results

    try:
        jaxpr, results = jax.make_jaxpr(checked, return_shape=True)(*structs)
        check_constants(jaxpr.consts)
        return jaxpr, results
    except ExportError:
        raise
    except Exception as fault:
        said = _of_libraries(fault)
        if said is None and _is_symbolic(structs) and _traces(flat, structs):
            said = _of_extents(fault, has_batch)
        said = said or _of_values(fault)
        if said is None:
            raise
        raise _error(title, fault, said) from fault


def constants_of_jaxpr(jaxpr: ClosedJaxpr) -> list[Any]:
    """The arrays in `jaxpr` and in those inside it, each once."""
    bodies = [jaxpr, *(body for site in sites(jaxpr) for body in site.bodies)]
    return list({id(array): array for body in bodies for array in body.consts}.values())


def check_constants(constants: Sequence[Any]) -> None:
    """Raises UnexpectedTracerError where one is of another trace."""
    for constant in constants:
        if isinstance(constant, Tracer):
            raise jax.errors.UnexpectedTracerError("it is a constant of the function")


def refused(
    title: str, fault: Exception, shapes: Sequence[tuple[int, ...]] | None
) -> ExportError | None:
    """What to say where a function that has been traced is not traced once more.

    `shapes` are those of the arguments, if they are others than before.
    """
    if _of_values(fault) is not None:
        return _error(title, fault, _VALUES[jax.errors.UnexpectedTracerError])
    if shapes is None:
        return None
    listed = ", ".join(str(list(shape)) for shape in shapes)
    what = (
        "does not take other extents than those of the example: for arguments of shapes "
        f"{listed} it says {_first_line(fault)}"
    )
    return _error(title, fault, (what, _TAKEN + "export with fixed extents, without `batch`"))


def _error(title: str, fault: Exception, said: tuple[str, str]) -> ExportError:
    what, cure = said
    return ExportError(f"`{title}` {what}{_where(fault)}; {cure}")


def _of_values(fault: Exception) -> tuple[str, str] | None:
    found = next((said for kind, said in _VALUES.items() if isinstance(fault, kind)), None)
    if found is None and isinstance(fault, TypeError) and _HASHED_OR_SIZE.search(str(fault)):
        return _VALUES[jax.errors.ConcretizationTypeError]
    return found


def _of_libraries(fault: Exception) -> tuple[str, str] | None:
    """Errors of libraries that are not imported here, by name."""
    match type(fault).__name__:
        case "TraceContextError":
            return (
                f"changes a module while it is traced ({_first_line(fault)})",
                "call `model.eval()` first, so that neither statistics nor random streams change",
            )
        case "CallCompactUnboundModuleError":
            return (
                "is a Linen module, which holds no parameters",
                "export its `apply`, with the variables as `params`",
            )
        case "IndivisibleError" | "ValueError" if "sharding" in str(fault).lower():
            return (
                f"splits an array over devices ({_first_line(fault)})",
                "export the function without `in_shardings` and `out_shardings`",
            )
    return None


def _of_extents(fault: Exception, has_batch: bool) -> tuple[str, str]:
    """Errors of a function that traces where all extents are numbers."""
    fixed = "export without `batch`" if has_batch else "export with numbers in place of symbols"
    text = str(fault)
    if isinstance(fault, InconclusiveDimensionOperation):
        return (
            f"decides by the value of a symbolic extent: {_first_line(fault)}",
            "write it so that it holds for every size, with jnp.where of jnp.asarray(x.shape[0]) "
            f"or jax.lax.scan in place of a Python loop; or {fixed}",
        )
    if "_DimExpr" in text or "dim_as_value" in text or _of_values(fault) is not None:
        return (
            f"takes a symbolic extent for a Python number: {_first_line(fault)}",
            "use jax.numpy in place of numpy and math for what is made of an extent "
            "(jnp.asarray(x.shape[0])), jax.lax.scan in place of a Python loop over it; "
            f"or {fixed}",
        )
    return (
        f"does not take symbolic extents, though it takes those of the example: "
        f"{_first_line(fault)}",
        f"{_TAKEN}give the other array the same symbol; or {fixed}",
    )


def _is_symbolic(structs: Sequence[jax.ShapeDtypeStruct]) -> bool:
    return any(jax.export.is_symbolic_dim(dim) for struct in structs for dim in struct.shape)


def _traces(flat: Callable[..., Any], structs: Sequence[jax.ShapeDtypeStruct]) -> bool:
    """Whether it does with all symbols of one size, one of some."""
    for size in (4, 8, 3, 16, 2, 1):
        fixed = [
            jax.ShapeDtypeStruct(
                tuple(size if jax.export.is_symbolic_dim(d) else d for d in struct.shape),
                struct.dtype,
            )
            for struct in structs
        ]
        try:
            jax.eval_shape(flat, *fixed)
        except Exception:
            continue
        return True
    return False


def _check_results(results: Any, title: str) -> None:
    for path, leaf in jax.tree_util.tree_flatten_with_path(results)[0]:
        if not isinstance(leaf, _NUMBERS):
            raise ExportError(
                f"`{title}` returns {_short(leaf)} of type {type(leaf).__name__} as "
                f"`{path_name('output', path)}`, expected arrays in dicts, tuples and the like; "
                "register a class of results with jax.tree_util.register_dataclass, and leave out "
                "what is no array"
            )


def _short(leaf: Any) -> str:
    text = repr(leaf)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _first_line(fault: Exception) -> str:
    """The first sentence, with what a colon at its end introduces."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    lines = lines or [type(fault).__name__]
    said = lines[0]
    for line in lines[1:]:
        if not said.endswith(":"):
            break
        said = f"{said} {line}"
    return said.rstrip(".")


def _where(fault: Exception) -> str:
    """The line of the user that it comes from, " at net.py:12 (Net.__call__)", if there is one."""
    frames = list(traceback.walk_tb(fault.__traceback__))
    for frame, line in reversed(frames):
        code = frame.f_code
        if not is_library(code.co_filename):
            return f" at {Source(code.co_filename, line, code.co_qualname).path()}"
    return ""
