"""The ops on arrays of Dask: a block at a time, with the bits of one call.

A block holds some of the rows, images or sequences, each of them whole: blocks are cut along the
leading axes. Ids of rows count on from block to block, so every row draws the noise that it draws
in one call. A range that is found in all blocks is a task of the graph, before theirs. Nothing is
computed until the result is.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from .._arguments import kind_of, no_mask
from ..custom_vjp._chain import device_of
from ..spec import OpticalSpec, op_bits
from ._host import Operation, run, types_of
from ._interchange import DASK, refuse_type

# The types that Dask declares are not those that it takes.
da: Any = importlib.import_module("dask.array")
delayed: Any = importlib.import_module("dask.delayed").delayed

Lazy: TypeAlias = Any
"""An array of Dask."""


def on_dask(operation: Operation, arguments: Mapping[str, Any]) -> Any:
    """The results for arrays of Dask, as arrays of Dask."""
    if operation.name == "optical_noise":
        return _noise(operation, arguments)
    arrays = {name: value for name, value in arguments.items() if isinstance(value, da.Array)}
    for name, array in arrays.items():
        _check(operation, name, array)
    # What can be told without the values is told now, and of the whole call.
    stand_ins = {n: np.broadcast_to(a.dtype.type(0), a.shape) for n, a in arrays.items()}
    types, is_single = types_of(operation, {**arguments, **stand_ins})
    if operation.name == "quantize":
        return _quantized(operation, arguments)
    others = {name: value for name, value in arguments.items() if name not in arrays}
    outer, chunks, split, whole = _cut(operation, arrays)
    if _finds_x(operation, arguments):
        whole["x_full_scale"] = _x_range(operation, others, split, whole)
    inner = [kind.shape[len(outer) :] for kind in types]
    rows = math.prod(inner[0][:-1])
    blocks: list[list[Lazy]] = []
    for index, (start, extent) in enumerate(zip(_starts(chunks), chunks, strict=True)):
        own = {name: tasks[index] for name, tasks in split.items()}
        run_block = functools.partial(_run, operation, others, start * rows)
        results = delayed(run_block, pure=False)({**own, **whole})
        blocks.append(
            [
                da.from_delayed(results[number], (extent, *shape), kind.dtype)
                for number, (shape, kind) in enumerate(zip(inner, types, strict=True))
            ]
        )
    results = [
        _reshaped(da.concatenate(of_result), kind.shape)
        for of_result, kind in zip(zip(*blocks, strict=True), types, strict=True)
    ]
    return results[0] if is_single else tuple(results)


def _check(operation: Operation, name: str, array: Lazy) -> None:
    """Raises what can be told of an array before it is computed."""
    no_mask(operation.name, name, array._meta)
    if not isinstance(array._meta, np.ndarray):
        raise TypeError(
            f"{operation.name}: `{name}` is made of blocks of {kind_of(array._meta)}, expected "
            f"those of NumPy; pass {name}.map_blocks(convert), where convert makes one of them"
        )
    dtypes = operation.factors.get(name)
    if dtypes is not None and array.dtype.name not in dtypes:
        refuse_type(operation.name, name, array.dtype.name, DASK, dtypes)
    if any(math.isnan(extent) for extent in array.shape):
        raise ValueError(
            f"{operation.name}: `{name}` has chunks of unknown size, expected known ones, by which "
            f"rows are numbered; call {name}.compute_chunk_sizes() first"
        )


_INNER: Mapping[str, Mapping[str, int]] = {
    "causal_softmax": {"scores": 2},
    "complex_matmul": {"x": 1},
    "complex_optical_matmul": {"x": 1},
    "optical_attention": {"q": 3, "k": 3, "v": 3},
    "optical_matmul": {"x": 1},
}
"""How many axes are behind the leading ones, of each array that has leading ones."""


def _cut(
    operation: Operation, arrays: dict[str, Lazy]
) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, list[Any]], dict[str, Any]]:
    """The leading extents, and how many entries of them each block has; the tasks of arrays.

    Of those that are cut there is one for each block, of the others one for all.
    """
    inner = dict(_INNER.get(operation.name) or {"x": arrays["kernel"].ndim - 1})
    main = next(iter(inner))
    outer = arrays[main].shape[: -inner[main]]
    for name in ("x_full_scale", "lengths"):
        if name in arrays and arrays[name].ndim:
            heads = arrays[main].shape[-2:-1] if arrays[name].ndim > len(outer) else ()
            arrays = {**arrays, name: da.broadcast_to(arrays[name], (*outer, *heads))}
            inner[name] = len(heads)
    flat = {name: _flat(arrays[name], axes) for name, axes in inner.items()}
    (chunks, *_) = flat[main].chunks
    split = {
        name: list(array.rechunk({0: chunks}).to_delayed(optimize_graph=False).ravel())
        for name, array in flat.items()
    }
    whole = {name: _whole(array) for name, array in arrays.items() if name not in flat}
    return outer, chunks, split, whole


def _flat(array: Lazy, inner: int) -> Lazy:
    """The array with all its leading axes as one, and cut along that alone."""
    leading = array.ndim - inner
    array = array.rechunk(dict.fromkeys(range(leading, array.ndim), -1))
    return _reshaped(array, (math.prod(array.shape[:leading]), *array.shape[leading:]))


def _reshaped(array: Lazy, shape: tuple[int, ...]) -> Lazy:
    if array.shape == shape:
        return array
    if array.size == 0:  # which Dask does not reshape
        return da.zeros(shape, dtype=array.dtype, chunks=-1)
    return array.reshape(shape)


def _whole(array: Lazy) -> Any:
    """All of an array, as one task."""
    return array.rechunk(-1).to_delayed(optimize_graph=False).item()


def _starts(chunks: tuple[int, ...]) -> list[int]:
    return [0, *itertools.accumulate(chunks[:-1])]


def _run(
    operation: Operation, others: Mapping[str, Any], before: int, arrays: Mapping[str, Any]
) -> list[np.ndarray[Any, Any]]:
    """The results of a block that has that many rows before it."""
    arguments = {**others, **arrays}
    if "first_row" in operation.parameters:
        first_row = int(arguments.get("first_row", 0)) + before
        arguments["first_row"] = np.uint32(first_row % 2**32)
    results = run(operation, arguments)
    return results if isinstance(results, list) else [results]


def _finds_x(operation: Operation, arguments: Mapping[str, Any]) -> bool:
    """Whether the DAC of x has the range of all rows, and so of all blocks."""
    if "x_full_scale" not in operation.parameters or arguments.get("x_full_scale") is not None:
        return False
    device = device_of(operation.name, *map(arguments.get, ("profile", "spec", "noise")))
    return bool(op_bits(device.spec.dac_bits))


def _x_range(
    operation: Operation,
    others: Mapping[str, Any],
    split: Mapping[str, list[Any]],
    whole: Mapping[str, Any],
) -> Any:
    """The largest finite magnitude that the DAC of x sees, as a task."""
    if "kernel" not in whole:
        return _largest_of(split["x"])
    geometry = {name: others[name] for name in _GEOMETRY if name in others}
    seen = delayed(functools.partial(_largest_in_patches, operation, geometry), pure=False)
    return delayed(max)([seen(images, whole["kernel"]) for images in split["x"]])


_GEOMETRY = ("strides", "padding", "input_dilation", "kernel_dilation", "feature_group_count")


def _largest_in_patches(
    operation: Operation, geometry: Mapping[str, Any], x: Any, kernel: Any
) -> np.float32:
    """What elements of x are in a patch does not depend on the columns: one of each group does."""
    columns = geometry.get("feature_group_count", 1)
    if 0 in (x.size, kernel.size):
        return np.float32(0)
    few = {"x": x, "kernel": kernel[..., :columns], "spec": OpticalSpec(), "return_x_peak": True}
    _, peaks = run(operation, {**geometry, **few})
    return peaks.max()


def _largest_of(tasks: list[Any]) -> Any:
    """The largest finite magnitude of all blocks, as a task."""
    return delayed(max)([delayed(_largest, pure=False)(task) for task in tasks])


def _largest(block: Any) -> np.float32:
    """The largest finite magnitude, of real and imaginary parts alike; 0 where there is none."""
    parts = np.abs(np.ascontiguousarray(block).view(np.float32))
    return np.max(parts, where=np.isfinite(parts), initial=np.float32(0))


def _quantized(operation: Operation, arguments: Mapping[str, Any]) -> Lazy:
    """`quantize`, whose blocks are those of its array, however it is cut."""
    others, arrays = dict(arguments), []
    v, full_scale = others.pop("v"), others.get("full_scale")
    if full_scale is None and op_bits(others["bits"]):
        tasks = list(v.to_delayed(optimize_graph=False).ravel())
        full_scale = da.from_delayed(_largest_of(tasks), (), np.float32)
    axes = tuple(range(v.ndim))
    if full_scale is not None and isinstance(full_scale, da.Array):
        others.pop("full_scale", None)
        arrays = [full_scale, axes[v.ndim - full_scale.ndim :]]
    block = functools.partial(_quantized_block, operation, others)
    meta = np.empty((0,) * v.ndim, np.float32)
    return da.blockwise(block, axes, v, axes, *arrays, dtype=np.float32, meta=meta)


def _quantized_block(
    operation: Operation, others: Mapping[str, Any], v: Any, full_scale: Any = None
) -> Any:
    own = {} if full_scale is None else {"full_scale": np.asarray(full_scale)}
    return run(operation, {**others, "v": v, **own})


def _noise(operation: Operation, arguments: Mapping[str, Any]) -> Lazy:
    """`optical_noise`, in blocks of as many rows as Dask finds right."""
    (kind,), _ = types_of(operation, arguments)
    rows, _ = da.core.normalize_chunks(("auto", -1), shape=kind.shape, dtype=kind.dtype)
    blocks = []
    for start, extent in zip(_starts(rows), rows, strict=True):
        shape = (extent, kind.shape[1])
        block = functools.partial(_run, operation, {**arguments, "shape": shape}, start)
        task = delayed(block, pure=False)({})[0]
        blocks.append(da.from_delayed(task, shape, kind.dtype))
    return da.concatenate(blocks)
