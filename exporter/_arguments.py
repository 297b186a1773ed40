"""The example arguments of `export`: their names, and what they become while tracing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ._errors import ExportError
from ._names import path_name
from ._types import dim, is_key, is_raw_key

# Rows of the example that a test vector keeps, and copies of an example of one row.
_MOST_ROWS = 64
_COPIES = 3


@dataclass(frozen=True)
class Argument:
    """One array among the example arguments.

    `example` is a JAX array, or a ShapeDtypeStruct. `batch_axis` is the axis whose extent is the
    symbol.
    """

    name: str
    example: Any
    batch_axis: int | None

    @property
    def is_symbolic(self) -> bool:
        """Whether an extent of it is a symbol in the model."""
        symbols = map(jax.export.is_symbolic_dim, self.example.shape)
        return self.batch_axis is not None or any(symbols)


BatchAxes = int | None | Sequence[int | None]


def arguments(
    names: Sequence[str], examples: Sequence[Any], batch: str | None, batch_axes: BatchAxes
) -> list[Argument]:
    """The arrays in `examples`, flat, in order.

    Raises ExportError where a leaf is no array, or where the batch axes do not fit.
    """
    if batch is not None and not re.fullmatch(r"[A-Za-z_]\w*", batch):
        raise ExportError(f"`batch` is {batch!r}, expected a name such as 'batch'")
    if isinstance(batch_axes, int) or batch_axes is None:
        batch_axes = [batch_axes] * len(examples)
        given = False
    else:
        given = True
    if len(batch_axes) != len(examples):
        raise ExportError(
            f"`batch_axes` has {len(batch_axes)} entries, expected one for each of the "
            f"{len(examples)} arguments"
        )
    found = []
    for root, example, axis in zip(names, examples, batch_axes, strict=True):
        for path, leaf in jax.tree_util.tree_flatten_with_path(example)[0]:
            name = path_name(root, path)
            array = _array(name, leaf)
            own = axis if batch is not None else None
            if not given and (is_key(array.dtype) or is_raw_key(array) or array.ndim == 0):
                own = None
            if own is not None and not -array.ndim <= own < array.ndim:
                raise ExportError(
                    f"`batch_axes` of `{name}` is {own}, expected an axis of {list(array.shape)}"
                )
            found.append(Argument(name, array, own % array.ndim if own is not None else None))
    if batch is not None:
        _check_batch(batch, found)
    return found


def _array(name: str, leaf: Any) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct | jax.Array):
        return leaf
    if isinstance(leaf, np.ndarray | np.generic):
        return as_jax(name, leaf)
    raise ExportError(
        f"`{name}` is {leaf!r} of type {type(leaf).__name__}, expected an array; bind what is no "
        "input of the model with functools.partial or a lambda"
    )


def as_jax(name: str, array: np.ndarray | np.generic) -> jax.Array:
    """The elements of a NumPy array, however it lies in memory, as JAX takes them.

    Numbers of 64 bits become 32 bits unless `jax_enable_x64` is set, as in any function of JAX.

    Raises ExportError where JAX has no such elements, and where an integer would become another.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise ExportError(
            f"`{name}` is a masked array of {array.dtype}, expected one without a mask; call "
            "its method `filled`"
        )
    native = np.asarray(array)
    native = native.astype(native.dtype.newbyteorder("="), copy=False)
    try:
        converted = jax.numpy.asarray(native)
    except (TypeError, ValueError) as fault:
        raise ExportError(
            f"`{name}` is an array of {array.dtype}, which JAX does not have; convert it with its "
            "method `astype`"
        ) from fault
    if native.dtype.kind in "iu" and not np.array_equal(native, np.asarray(converted)):
        raise ExportError(
            f"`{name}` is an array of {array.dtype} with numbers that do not fit "
            f"{converted.dtype}; keep them within"
        )
    return converted


def _check_batch(batch: str, found: Sequence[Argument]) -> None:
    extents = {a.name: a.example.shape[a.batch_axis] for a in found if a.batch_axis is not None}
    if not extents:
        raise ExportError(f"`batch` is {batch!r}, but no argument has a batch axis")
    if any(jax.export.is_symbolic_dim(d) for a in found for d in a.example.shape):
        raise ExportError(
            "an argument has symbolic extents of its own; give all of them so, and leave out "
            "`batch`"
        )
    if len(set(extents.values())) > 1:
        listed = ", ".join(f"`{name}` has {extent}" for name, extent in extents.items())
        raise ExportError(
            f"the batch axes of the arguments differ: {listed}; say which axes are the batch with "
            "`batch_axes`"
        )


def traced(found: Sequence[Argument], batch: str | None) -> list[jax.ShapeDtypeStruct]:
    """Shapes and dtypes to trace with; the batch axes have the symbolic extent `batch`."""
    symbol = jax.export.symbolic_shape(batch)[0] if batch is not None else None
    structs = []
    for argument in found:
        shape = list(argument.example.shape)
        if argument.batch_axis is not None:
            shape[argument.batch_axis] = symbol
        structs.append(jax.ShapeDtypeStruct(tuple(shape), argument.example.dtype))
    return structs


def test_inputs(found: Sequence[Argument]) -> list[list[Any]]:
    """Concrete arguments for the test vectors: the example, and another batch size.

    Long examples are cut to their first rows. Arguments given by shape alone get normal deviates,
    or zeros where they are no floating-point numbers; symbolic extents are 2, then 1.
    """
    if any(jax.export.is_symbolic_dim(d) for a in found for d in a.example.shape):
        return [[_made(a.example, extent) for a in found] for extent in (2, 1)]
    first = [_rows(_made(a.example, 1), a.batch_axis, slice(_MOST_ROWS)) for a in found]
    if all(a.batch_axis is None for a in found):
        return [first]
    second = []
    for argument, array in zip(found, first, strict=True):
        axis = argument.batch_axis
        if axis is not None and array.shape[axis] == 1:
            second.append(jax.numpy.repeat(array, _COPIES, axis))
        else:
            second.append(_rows(array, axis, slice(1)))
    return [first, second]


def _rows(array: Any, axis: int | None, rows: slice) -> Any:
    if axis is None:
        return array
    return array[(slice(None),) * axis + (rows,)]


def _made(example: Any, extent: int) -> Any:
    if isinstance(example, jax.Array):
        return example
    if is_key(example.dtype):
        return jax.random.key(0)
    extents = map(dim, example.shape)
    shape = [found.evaluate(dict.fromkeys(found.symbols(), extent)) for found in extents]
    if not jax.numpy.issubdtype(example.dtype, np.floating):
        return jax.numpy.zeros(shape, example.dtype)
    deviates = np.random.default_rng(0).standard_normal(shape)
    return jax.numpy.asarray(deviates, example.dtype)
