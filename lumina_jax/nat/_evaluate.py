"""Evaluation of a model over a grid of operating points and draws of the noise."""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from .. import _progress
from .._arguments import F32_MAX, file_path, instance, integer, number_f32
from .._files import is_stream
from ._evaluation import Evaluation, Value, is_traced, load, save

_OP = "evaluate"
_SCALAR = "metric"
_DRAWS = 10**7
"""Most seeds that a number stands for: each is computed at every point."""
_Rows: TypeAlias = dict[int, dict[str, NDArray[np.float64]]]


def evaluate(
    fn: Callable[..., Any],
    params: Any,
    grid: Mapping[str, Sequence[Any]],
    seeds: int | Sequence[int],
    *,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool | None = None,
    batch: int = 8,
) -> Evaluation:
    """Mean and spread of metrics over draws of the noise, at every point of a grid.

        def accuracy(params, key, *, noise, bits):
            logits = predict(params, key, NoiseModel(relative=noise), bits)
            return jnp.mean(jnp.argmax(logits, axis=-1) == labels)

        result = nat.evaluate(
            accuracy, params, {"noise": [0.0, 0.1, 0.2], "bits": [4, 8]}, seeds=15
        )
        result.mean                                     f64[3, 2]

    The slow version is one call `fn(params, jax.random.key(seed), noise=noise, bits=bits)` for each
    seed and point. Here `fn` is compiled once for each combination of static values, and mapped by
    `vmap` over all seeds of up to `batch` points. Every point sees the same keys, so that what is
    common to their noise cancels in differences. Numbers are those of the slow version as far as
    `vmap` and `jit` keep the bits, which all ops of this package do.

    Args:
        fn: `fn(params, key, **point)` gives a real scalar, or a mapping from names to such.
        params: pytree of arrays.
        grid: from names of arguments to their values. An axis that has a float is traced and its
            values are f32; any other, of int, bool, str and None, is static and compiles for each
            value. So temperatures are written 300.0, and bits 4.
        seeds: n for the seeds 0 … n-1, or the seeds.
        checkpoint: file that holds the finished points, replaced after every call; what it holds
            already is not computed again. It knows grid, seeds and params, but not `fn`. It is
            kept, and is what `Evaluation.to_json` writes. A device or a pipe gets a line of JSON
            after every call, and is not read.
        progress: whether to say on the error output how far it is, by a bar or, without tqdm, in
            lines. None: a bar on a terminal and in a notebook, elsewhere a line every ten seconds.
        batch: points in one call of a compiled function; memory grows with it.

    Returns:
        The metrics of every seed, by name in sorted order, with their mean and spread. Values that
        are NaN or infinite stay so, with a warning that says where the first is.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of its range; a metric is no
            real scalar; the checkpoint is of another grid, of other seeds or params, or none at
            all.
    """
    if not callable(fn):
        raise TypeError(f"{_OP}: `fn` must be a function, got {type(fn).__name__}")
    axes = _axes(grid)
    chosen = _seeds(seeds)
    instance(_OP, "progress", progress, bool | None, "a bool or None")
    batch = integer(_OP, "batch", batch, at_least=1)
    result = Evaluation(axes=axes, seeds=chosen, metrics={}, params=_fingerprint(params))
    path = None if checkpoint is None else file_path(_OP, "checkpoint", checkpoint)
    rows: _Rows = {}
    if path is not None and path.exists() and not is_stream(path):
        rows = _resume(path, result)

    metrics_of = _compiler(fn, params, chosen)
    shown = _progress.bar(_OP, "point", result.points, progress=progress, done=len(rows))
    with shown as advance:
        for call in _calls(axes, rows, batch):
            found = metrics_of(call)
            _same_metrics(path, rows, found)
            rows.update(found)
            advance(len(found))
            if path is not None:
                save(path, result, rows)
    result = result.with_rows(rows)
    _warn(result)
    return result


def _axes(grid: Any) -> dict[str, tuple[Value, ...]]:
    if not isinstance(grid, Mapping):
        raise TypeError(f"{_OP}: `grid` must be a mapping, got {type(grid).__name__}")
    axes: dict[str, tuple[Value, ...]] = {}
    for name, given in grid.items():
        if not isinstance(name, str):
            raise TypeError(f"{_OP}: names of `grid` must be str, got {name!r}")
        unordered = isinstance(given, str | bytes | Mapping | Set)
        if unordered or not hasattr(given, "__len__") or getattr(given, "ndim", 1) == 0:
            raise TypeError(f"{_OP}: `grid[{name!r}]` must be a sequence of values, got {given!r}")
        values = tuple(_value(name, value) for value in given)
        if not values:
            raise ValueError(f"{_OP}: `grid[{name!r}]` is empty, expected at least one value")
        if any(isinstance(value, float) for value in values):
            if any(isinstance(value, bool | str | None) for value in values):
                raise TypeError(
                    f"{_OP}: `grid[{name!r}]` mixes floats with other values, got {values}"
                )
            values = tuple(
                number_f32(_OP, f"grid[{name!r}]", value, -F32_MAX, "a number") for value in values
            )
        if len(set(map(repr, values))) != len(values):
            raise ValueError(f"{_OP}: `grid[{name!r}]` has a value twice, got {values}")
        axes[name] = values
    return axes


def _value(name: str, value: Any) -> Value:
    dtype = getattr(value, "dtype", None)
    if isinstance(dtype, np.dtype) and np.ndim(value) == 0:
        # The element of an extension type such as bfloat16 is no number of Python.
        value = np.asarray(value, np.float32 if dtype.kind == "V" and not dtype.names else None)
        value = value.item()
    if not isinstance(value, int | float | str | None):
        raise TypeError(
            f"{_OP}: `grid[{name!r}]` has {value!r}, expected float, int, bool, str or None"
        )
    if isinstance(value, float) and not np.isfinite(value):
        raise ValueError(f"{_OP}: `grid[{name!r}]` must be finite, got {value}")
    return value


def _seeds(seeds: Any) -> tuple[int, ...]:
    if isinstance(seeds, str | bytes):
        raise TypeError(f"{_OP}: `seeds` must be an int or ints, got {seeds!r}")
    if not np.iterable(seeds) or isinstance(seeds, Mapping | Set):
        return tuple(range(integer(_OP, "seeds", seeds, at_least=1, at_most=_DRAWS)))
    chosen = tuple(integer(_OP, "seeds", seed, at_least=0, at_most=2**32 - 1) for seed in seeds)
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"{_OP}: `seeds` must be at least one, and different, got {chosen}")
    return chosen


def _fingerprint(params: Any) -> str:
    """A digest of structure, types and values."""
    leaves, tree = jax.tree.flatten(params)
    digest = hashlib.sha256(str(tree).encode())
    for leaf in leaves:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _resume(path: Path, wanted: Evaluation) -> _Rows:
    found, rows = load(_OP, path)
    for what, old, new in (
        ("grid", found.axes, wanted.axes),
        ("grid", list(found.axes), list(wanted.axes)),
        ("seeds", found.seeds, wanted.seeds),
        ("params", found.params, wanted.params),
    ):
        if old != new:
            raise ValueError(
                f"{_OP}: `checkpoint` {path} is of other {what}, {_short(old)}, expected "
                f"{_short(new)}; remove the file or name another"
            )
    return rows


def _same_metrics(path: Path | None, rows: _Rows, found: _Rows) -> None:
    if not rows:
        return
    old, new = (list(next(iter(some.values()))) for some in (rows, found))
    if old != new:
        raise ValueError(
            f"{_OP}: `fn` returned the metrics {new}, expected {old} as before"
            + (f" in `checkpoint` {path}" if path is not None else "")
        )


def _short(value: Any) -> str:
    text = f"{value[:12]}…" if isinstance(value, str) else str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


@dataclass(frozen=True)
class _Call:
    """Points that differ in traced values alone."""

    static: dict[str, Value]
    points: dict[int, dict[str, Value]]
    """Traced values by the index of the point."""
    width: int
    """Points of the widest call with these static values, so that one compilation serves all."""


def _calls(
    axes: dict[str, tuple[Value, ...]], done: Collection[int], batch: int
) -> Iterator[_Call]:
    """All points that are not done."""
    groups: dict[Any, list[tuple[int, dict[str, Value]]]] = {}
    for index, values in enumerate(itertools.product(*axes.values())):
        point = dict(zip(axes, values, strict=True))
        # `repr`, since 1 == True.
        static = tuple(repr(v) for name, v in point.items() if not is_traced(axes[name]))
        if index not in done:
            groups.setdefault(static, []).append((index, point))
    for members in groups.values():
        static = {name: v for name, v in members[0][1].items() if not is_traced(axes[name])}
        for i in range(0, len(members), batch):
            points = {
                index: {name: v for name, v in point.items() if name not in static}
                for index, point in members[i : i + batch]
            }
            yield _Call(static, points, min(batch, len(members)))


def _compiler(
    fn: Callable[..., Any], params: Any, seeds: tuple[int, ...]
) -> Callable[[_Call], _Rows]:
    """A function that computes the metrics of the points of a call, f64[seeds] each."""
    keys = jax.vmap(jax.random.key)(np.asarray(seeds, np.uint32))
    compiled: dict[str, Any] = {}

    def compiled_for(static: dict[str, Value]) -> Any:
        if repr(static) not in compiled:
            # Calls come in the order of their static values: what is before is not needed again.
            compiled.clear()

            def one(params: Any, key: jax.Array, traced: dict[str, Any], _: Any) -> Any:
                return _checked(fn(params, key, **traced, **static))

            over_seeds = jax.vmap(one, in_axes=(None, 0, None, None))
            # The last argument is an axis to map over where no value is traced.
            over_points = jax.vmap(over_seeds, in_axes=(None, None, 0, 0))
            compiled[repr(static)] = jax.jit(over_points)
        return compiled[repr(static)]

    def metrics(call: _Call) -> _Rows:
        indices = list(call.points)
        padded = indices + indices[-1:] * (call.width - len(indices))
        traced = {
            name: np.asarray([call.points[index][name] for index in padded], np.float32)
            for name in call.points[indices[0]]
        }
        out = compiled_for(call.static)(params, keys, traced, np.arange(call.width))
        host = {name: np.asarray(values, np.float64) for name, values in out.items()}
        return {
            index: {name: values[i] for name, values in host.items()}
            for i, index in enumerate(indices)
        }

    return metrics


def _checked(out: Any) -> dict[str, jax.Array]:
    """Metrics by name."""
    named = out if isinstance(out, Mapping) else {_SCALAR: out}
    if not named:
        raise ValueError(f"{_OP}: `fn` returned no metrics, expected at least one")
    metrics = {}
    for name, value in named.items():
        if not isinstance(name, str):
            raise TypeError(f"{_OP}: names of metrics must be str, got {name!r}")
        try:
            with np.errstate(over="ignore"):
                array = jnp.asarray(value)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(
                f"{_OP}: `fn` returned {type(value).__name__} as {name!r}, expected a real scalar"
            ) from None
        if array.shape != () or jnp.issubdtype(array.dtype, jnp.complexfloating):
            raise ValueError(
                f"{_OP}: `fn` returned {array.dtype}{list(array.shape)} as {name!r}, "
                "expected a real scalar"
            )
        metrics[name] = array
    return metrics


def _warn(result: Evaluation) -> None:
    for name, values in result.metrics.items():
        broken = np.argwhere(~np.isfinite(values))
        if not len(broken):
            continue
        *place, seed = broken[0]
        at = ", ".join(
            f"{axis}={axis_values[i]!r}"
            for (axis, axis_values), i in zip(result.axes.items(), place, strict=True)
        )
        warnings.warn(
            f"{_OP}: {len(broken)} of {values.size} values of {name!r} are not finite, the first "
            f"at {at or 'the only point'}, seed {result.seeds[seed]}",
            RuntimeWarning,
            stacklevel=3,
        )
