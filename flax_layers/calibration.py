"""Ranges of all converters of a model, from a few batches."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util

from lumina_jax import _html, _progress
from lumina_jax._arguments import instance

from ._context import quiet_calls_observe
from ._measure import CANDIDATES, PER_OCTAVE, Pass, measuring
from .nnx import FullScale

__all__ = ["CalibratedRange", "Calibration", "calibrate"]

Method: TypeAlias = Literal["absmax", "percentile", "mse"]

_OP = "calibrate"
_HEAD = ("converter", "full scale", "largest", "clipped", "values")


@dataclass(frozen=True, kw_only=True)
class CalibratedRange:
    """The range of one converter, and what it clips."""

    path: str
    """Where it is kept, names joined by "/"; "[i]" is its place in a stack of layers."""
    full_scale: float
    """The range (unit of the signal); 0 where no batch had a signal."""
    largest: float
    """The largest finite magnitude seen."""
    clipped: float
    """Share of the values that are beyond the range, 0 to 1."""
    values: int
    """How many were seen; 0 with "absmax", which does not count."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Calibration:
    """What `calibrate` found; `str` is a table."""

    method: Method
    """How the ranges were chosen."""
    batches: int
    """Batches seen."""
    ranges: tuple[CalibratedRange, ...]
    """One for each converter that is on."""
    variables: Any
    """Linen: the variables with these ranges. NNX: None, the model has them."""

    def to_json(self) -> str:
        """The ranges as JSON, the keys being the names of the fields."""
        content = {
            "method": self.method,
            "batches": self.batches,
            "ranges": [asdict(found) for found in self.ranges],
        }
        return json.dumps(content, indent=2, ensure_ascii=False)

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                found.path,
                f"{found.full_scale:.4g}",
                f"{found.largest:.4g}",
                f"{100 * found.clipped:.3g} %",
                str(found.values or "-"),
            )
            for found in self.ranges
        ]

    def __repr__(self) -> str:
        return (
            f"Calibration of {len(self.ranges)} converters by {self.method!r} over "
            f"{self.batches} batches"
        )

    def _repr_html_(self) -> str:
        return _html.table(repr(self), _HEAD, self._rows())

    def __str__(self) -> str:
        return f"{self!r}\n\n{_html.plain(_HEAD, self._rows())}"


def calibrate(
    model: nn.Module | nnx.Module,
    batches: Iterable[Any],
    *,
    variables: Mapping[str, Any] | None = None,
    method: Method = "absmax",
    percentile: float = 99.9,
    progress: bool | None = None,
    **options: Any,
) -> Calibration:
    """The ranges of all converters of a model, from what batches show of its signals.

        calibration = calibrate(model, batches, variables=variables, method="mse")    # Linen
        variables = calibration.variables
        calibrate(model, batches, method="mse")                              # NNX, in place
        print(calibration)

    The model infers, without noise and with nothing clipped; weights, statistics of norms and
    learned factors on the ranges stay as they are. The full scale of a converter then is

        "absmax"        the largest finite magnitude
        "percentile"    the magnitude that `percentile` % of the values do not exceed
        "mse"           that with the least mean square of rounding and clipping

    "absmax" goes over the batches once, the others twice. They choose among 16 full scales for each
    factor of two; between two of them a percentile is interpolated.

    Args:
        model: a Linen or NNX model with optical layers, converted or written with them.
        batches: inputs, each what the model is called with: an array, or a tuple of arguments. All
            are kept until the end.
        variables: Linen only: those of the model.
        method: how a full scale is chosen.
        percentile: of "percentile", above 0 and at most 100.
        progress: whether to show a bar; None: where someone watches.
        **options: arguments of every call: `train=False`, and for Linen those of `apply`, such as
            `method`.

    Returns:
        What was found. An NNX model keeps its new ranges, and its modes are those that it had.

    Raises:
        TypeError: `model` is no Flax module, or `variables` are missing or too many.
        ValueError: there are no batches or no ranges, or an argument is out of its range.
    """
    kinds = "a flax.linen.Module or a flax.nnx.Module"
    instance(_OP, "model", model, nn.Module | nnx.Module, kinds)
    if method not in get_args(Method):
        raise ValueError(f"{_OP}: `method` is {method!r}, expected 'absmax', 'percentile' or 'mse'")
    if not 0 < percentile <= 100:
        raise ValueError(f"{_OP}: `percentile` is {percentile}, expected above 0 and at most 100")
    given = [batch if isinstance(batch, tuple) else (batch,) for batch in batches]
    if not given:
        raise ValueError(f"{_OP}: `batches` is empty, expected at least one batch")
    if isinstance(model, nn.Module):
        instance(_OP, "variables", variables, Mapping, "the variables of the Linen model")
        assert variables is not None
        subject: _Linen | _Nnx = _Linen(model, variables, options)
    else:
        instance(_OP, "variables", variables, type(None), "None with an NNX model")
        subject = _Nnx(model, options)
    if not subject.ranges:
        raise ValueError(
            f"{_OP}: `model` keeps no ranges, expected optical layers whose DAC or ADC is on, and "
            f"with a Linen model `variables` that have the ranges which its `init` makes"
        )

    passes = 1 if method == "absmax" else 2
    with _progress.bar(_OP, "step", passes * len(given), progress=progress) as advance:
        zeros = {path: jnp.zeros_like(value) for path, value in subject.ranges.items()}
        peaks = _over(given, subject.measure("peak"), zeros, np.maximum, advance)
        spreads = None
        if passes == 2:
            # The sums are there from the start, as those that a loop carries are.
            none = {path: _with_no_sums(peak) for path, peak in peaks.items()}
            spreads = _over(given, subject.measure("spread"), none, _sums_added, advance)

    found, scales = [], {}
    for path, peak in peaks.items():
        spread = None if spreads is None else spreads[path]
        results = [
            _chosen(_indexed(path, place), largest, _at(spread, place), method, percentile)
            for place, largest in np.ndenumerate(np.asarray(peak))
        ]
        found += results
        scale = np.array([result.full_scale for result in results], np.float32)
        scales[path] = jnp.asarray(scale.reshape(peak.shape))
    return Calibration(
        method=method,
        batches=len(given),
        ranges=tuple(found),
        variables=subject.put(scales),
    )


def _over(
    batches: list[Any],
    measure: Callable[[dict[Any, Any], Any], dict[Any, Any]],
    start: dict[Any, Any],
    add: Callable[[Any, Any], Any],
    advance: Callable[[int], Any],
) -> dict[Any, Any]:
    """What all batches show, each measured from `start`."""
    seen: dict[Any, Any] | None = None
    for batch in batches:
        new = {path: np.asarray(value) for path, value in measure(start, batch).items()}
        seen = new if seen is None else {path: add(seen[path], new[path]) for path in new}
        advance(1)
    assert seen is not None
    return seen


def _with_no_sums(peak: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [peak[..., None], np.zeros((*peak.shape, 3 * CANDIDATES), np.float32)], axis=-1
    )


def _sums_added(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Two measurements of one spread: the peak before the sums is that of both."""
    return np.concatenate([a[..., :1], a[..., 1:] + b[..., 1:]], axis=-1)


def _indexed(path: tuple[Any, ...], place: tuple[int, ...]) -> str:
    return "/".join(map(str, path)) + (f"[{', '.join(map(str, place))}]" if place else "")


def _at(spread: Any, place: tuple[int, ...]) -> np.ndarray | None:
    """The sums of one layer in a stack; None where none were asked for."""
    return None if spread is None else spread[place][1:].reshape(3, -1)


def _chosen(
    path: str, peak: Any, sums: np.ndarray | None, method: Method, percentile: float
) -> CalibratedRange:
    largest = float(peak)
    if sums is None or largest == 0:
        return CalibratedRange(
            path=path, full_scale=largest, largest=largest, clipped=0.0, values=0
        )
    errors, beyond, values = sums.astype(np.float64)
    total = max(values[0], 1.0)
    if method == "mse":
        place, clipped = float(np.argmin(errors)), beyond[np.argmin(errors)] / total
    else:
        clipped = 1 - percentile / 100
        share = beyond / total
        # The first candidate beyond which there are more, and the range is just above it.
        after = int(np.searchsorted(share, clipped, side="right"))
        if after == len(share):
            place = float(after - 1)
        else:
            low, high = share[after - 1], share[after]
            place = after - 1 + (clipped - low) / (high - low)
    return CalibratedRange(
        path=path,
        full_scale=largest * math.exp2(-place / PER_OCTAVE),
        largest=largest,
        clipped=float(clipped),
        values=int(values[0]),
    )


class _Linen:
    """A Linen model and its variables, of which "ranges" are measured."""

    def __init__(self, model: nn.Module, variables: Mapping[str, Any], options: Any) -> None:
        self.model = model
        self.variables = variables
        self.options = options
        self.ranges: dict[Any, Any] = traverse_util.flatten_dict(
            nn.meta.unbox(variables.get("ranges", {}))
        )

    def measure(self, what: Pass) -> Callable[[dict[Any, Any], Any], dict[Any, Any]]:
        rest = {name: value for name, value in self.variables.items() if name != "ranges"}

        @jax.jit
        def measured(rest: Any, ranges: Any, batch: Any) -> Any:
            with quiet_calls_observe(), measuring(what):
                _, updates = self.model.apply(
                    {**rest, "ranges": ranges}, *batch, mutable=["ranges"], **self.options
                )
            return updates["ranges"]

        def run(ranges: dict[Any, Any], batch: Any) -> dict[Any, Any]:
            nested = traverse_util.unflatten_dict(ranges)
            return traverse_util.flatten_dict(nn.meta.unbox(measured(rest, nested, batch)))

        return run

    def put(self, ranges: dict[Any, Any]) -> Any:
        nested = traverse_util.unflatten_dict(ranges)
        boxed = self.variables["ranges"]
        return {**self.variables, "ranges": nn.meta.replace_boxed(boxed, nested)}


class _Nnx:
    """An NNX model, of which the `FullScale`s are measured."""

    def __init__(self, model: nnx.Module, options: Any) -> None:
        self.model = model
        self.options = options
        state = nnx.state(model, FullScale)
        self.ranges: dict[Any, Any] = traverse_util.flatten_dict(nnx.to_pure_dict(state))

    def measure(self, what: Pass) -> Callable[[dict[Any, Any], Any], dict[Any, Any]]:
        inferring = nnx.clone(self.model)
        inferring.eval()
        graph, state, rest = nnx.split(inferring, FullScale, ...)

        @jax.jit
        def measured(rest: Any, ranges: Any, batch: Any) -> Any:
            model = nnx.merge(graph, ranges, rest)
            with quiet_calls_observe(), measuring(what):
                model(*batch, **self.options)
            return nnx.to_pure_dict(nnx.state(model, FullScale))

        def run(ranges: dict[Any, Any], batch: Any) -> dict[Any, Any]:
            nnx.replace_by_pure_dict(state, traverse_util.unflatten_dict(ranges))
            return traverse_util.flatten_dict(measured(rest, state, batch))

        return run

    def put(self, ranges: dict[Any, Any]) -> None:
        state = nnx.state(self.model, FullScale)
        nnx.replace_by_pure_dict(state, traverse_util.unflatten_dict(ranges))
        nnx.update(self.model, state)
