"""The result of an evaluation, and its file."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import _figure
from .._arguments import file_path
from .._files import write
from .._html import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Value: TypeAlias = float | int | str | None
_Rows: TypeAlias = Mapping[int, Mapping[str, NDArray[np.float64]]]

_FORMAT = "lumina-evaluation"
_VERSION = 1
_READ = 40
"""Points that a table shows."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Evaluation:
    """Metrics at every point of a grid and for every seed, from `evaluate`.

    `mean`, `std`, `min` and `max` are f64[grid], over the seeds, of the only metric; of several,
    take one by `result["accuracy"]`. `std` is that of the seeds at hand, not an estimate from them.
    """

    axes: dict[str, tuple[Value, ...]]
    """Values of each axis, in the order of the axes of the arrays."""
    seeds: tuple[int, ...]
    """Seeds of the noise."""
    metrics: dict[str, NDArray[np.float64]]
    """By name, in sorted order, f64[*grid, seeds]."""
    params: str = ""
    """Digest of the params."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the grid."""
        return tuple(map(len, self.axes.values()))

    @property
    def points(self) -> int:
        """Number of points of the grid."""
        return math.prod(self.shape)

    @property
    def values(self) -> NDArray[np.float64]:
        """Of the only metric, f64[*grid, seeds]."""
        if len(self.metrics) != 1:
            known = ", ".join(map(repr, self.metrics))
            raise ValueError(f"Evaluation: there are the metrics {known}; take one by result[name]")
        return next(iter(self.metrics.values()))

    @property
    def mean(self) -> NDArray[np.float64]:
        """Over the seeds."""
        return self.values.mean(axis=-1)

    @property
    def std(self) -> NDArray[np.float64]:
        """Over the seeds; NaN where a value is not finite."""
        with np.errstate(invalid="ignore"):
            return self.values.std(axis=-1)

    @property
    def min(self) -> NDArray[np.float64]:
        """Over the seeds."""
        return self.values.min(axis=-1)

    @property
    def max(self) -> NDArray[np.float64]:
        """Over the seeds."""
        return self.values.max(axis=-1)

    def __getitem__(self, metric: str) -> Evaluation:
        """The same with that metric alone."""
        if metric not in self.metrics:
            known = ", ".join(map(repr, self.metrics))
            raise KeyError(f"Evaluation: there is no metric {metric!r}, expected one of {known}")
        return dataclasses.replace(self, metrics={metric: self.metrics[metric]})

    def select(self, **point: Value) -> Evaluation:
        """Without the axes named, at the values given: `result.select(bits=4)`."""
        axes, index = dict(self.axes), []
        unknown = [name for name in point if name not in axes]
        if unknown:
            raise ValueError(
                f"Evaluation.select: there is no axis {unknown[0]!r}, "
                f"expected one of {', '.join(map(repr, axes))}"
            )
        for name, values in self.axes.items():
            if name not in point:
                index.append(slice(None))
                continue
            if point[name] not in values:
                raise ValueError(
                    f"Evaluation.select: `{name}` has no value {point[name]!r}, "
                    f"expected one of {values}"
                )
            index.append(values.index(point[name]))
            del axes[name]
        metrics = {name: values[tuple(index)] for name, values in self.metrics.items()}
        return dataclasses.replace(self, axes=axes, metrics=metrics)

    def to_json(self, path: str | PathLike[str]) -> Path:
        """Writes the file whole or not at all, and returns its path. NaN is null in it.

        A symbolic link stays, and its target is written; a device or a pipe is written to.
        """
        target = file_path("Evaluation.to_json", "path", path)
        rows = {
            i: {name: self.metrics[name][index] for name in self.metrics}
            for i, index in enumerate(np.ndindex(self.shape))
        }
        return save(target, self, rows)

    @classmethod
    def from_json(cls, path: str | PathLike[str]) -> Self:
        """Reads what `to_json`, or a finished evaluation as its checkpoint, has written.

        Raises:
            ValueError: the file is something else, or the evaluation is not finished.
        """
        op = "Evaluation.from_json"
        found, rows = load(op, file_path(op, "path", path))
        if len(rows) < found.points:
            raise ValueError(
                f"{op}: {path} holds {len(rows)} of {found.points} points; "
                "finish it by evaluate(..., checkpoint=path)"
            )
        whole = found.with_rows(rows)
        return cls(axes=whole.axes, seeds=whole.seeds, metrics=whole.metrics, params=whole.params)

    def __repr__(self) -> str:
        grid = ", ".join(f"{name}: {len(values)}" for name, values in self.axes.items())
        names = ", ".join(self.metrics)
        return f"Evaluation of {names} ({grid or 'one point'}, {len(self.seeds)} seeds)"

    def __str__(self) -> str:
        head, rows = self._table()
        widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        lines = ("  ".join(map(str.rjust, row, widths)) for row in (head, *rows))
        return "\n".join([repr(self), *lines])

    def _repr_html_(self) -> str:
        return table(repr(self), *self._table())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """Mean ± std of every metric at every point, up to as many points as one reads."""
        rows = []
        for index in itertools.islice(np.ndindex(self.shape), _READ):
            point = [str(values[i]) for values, i in zip(self.axes.values(), index, strict=True)]
            of = (values[index] for values in self.metrics.values())
            with np.errstate(invalid="ignore"):
                rows.append([*point, *(f"{v.mean():.4g} ± {v.std():.2g}" for v in of)])
        if self.points > _READ:
            rows.append(["…"] * (len(self.axes) + len(self.metrics)))
        return [*self.axes, *self.metrics], rows

    def plot(
        self,
        path: str | PathLike[str] | None = None,
        *,
        x: str | None = None,
        title: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Figure:
        """The mean over one axis, a line for each point of the others, bands of one `std`.

        Args:
            path: file to write, such as "noise.png"; None writes none.
            x: axis along the figure; None is the first traced one, or else the first.
            title: above the figure; None says what mean and band are of.
            labels: from names of axes and metrics to what the figure calls them, such as
                {"noise": "noise, part of y", "metric": "accuracy, %"}.

        Returns:
            A matplotlib figure, which shows itself in a notebook.

        Raises:
            ImportError: matplotlib is missing.
            ValueError: there is no axis, or none of that name; there are more than 12 lines.
        """
        from ._plot import draw

        figure = draw(self, _axis(self, x), title, labels or {})
        return _figure.finished("Evaluation.plot", figure, path)

    def with_rows(self, rows: _Rows) -> Self:
        """With the metrics of all points."""
        metrics = {
            name: np.stack([rows[i][name] for i in range(self.points)]).reshape(*self.shape, -1)
            for name in rows[0]
        }
        return dataclasses.replace(self, metrics=metrics)


def is_traced(values: tuple[Value, ...]) -> bool:
    """Whether an axis is traced: its values are floats."""
    return isinstance(values[0], float)


def _axis(result: Evaluation, x: str | None) -> str:
    """The axis along a figure."""
    if not result.axes:
        raise ValueError("Evaluation.plot: the grid has no axis, expected at least one")
    if x is None:
        traced = [name for name, values in result.axes.items() if is_traced(values)]
        return (traced or list(result.axes))[0]
    if x not in result.axes:
        known = ", ".join(map(repr, result.axes))
        raise ValueError(f"Evaluation.plot: there is no axis {x!r}, expected one of {known}")
    return x


def save(path: Path, result: Evaluation, rows: _Rows) -> Path:
    """Writes what is finished."""
    names = list(rows[next(iter(rows))]) if rows else list(result.metrics)
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "grid": {name: list(values) for name, values in result.axes.items()},
        "seeds": list(result.seeds),
        "params": result.params,
        "metrics": {
            name: [
                [_number_out(v) for v in rows[i][name]] if i in rows else None
                for i in range(result.points)
            ]
            for name in names
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, [(json.dumps(document, allow_nan=False) + "\n").encode()])
    return path


def load(op: str, path: Path) -> tuple[Evaluation, dict[int, dict[str, NDArray[np.float64]]]]:
    """The evaluation without its metrics, and what is finished of them by point."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if (document["format"], document["version"]) != (_FORMAT, _VERSION):
            raise ValueError
        axes = {str(name): tuple(values) for name, values in document["grid"].items()}
        empty = Evaluation(
            axes=axes,
            seeds=tuple(document["seeds"]),
            metrics={},
            params=document["params"],
        )
        if any(
            not values or not all(isinstance(v, Value) for v in values) for values in axes.values()
        ):
            raise ValueError
        if not all(type(seed) is int for seed in empty.seeds):
            raise ValueError
        columns: dict[str, Any] = document["metrics"]
        if any(len(column) != empty.points for column in columns.values()):
            raise ValueError
        rows = {}
        # Without metrics nothing is finished, however many points the grid has.
        for i in range(empty.points if columns else 0):
            if any(column[i] is None for column in columns.values()):
                continue
            rows[i] = {
                name: np.array([_number_in(v) for v in column[i]])
                for name, column in columns.items()
            }
            if any(row.shape != (len(empty.seeds),) for row in rows[i].values()):
                raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ValueError(f"{op}: {path} is no evaluation of version {_VERSION}") from None
    return empty, rows


def _number_out(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else ("inf" if value > 0 else "-inf")


def _number_in(value: Any) -> float:
    return math.nan if value is None else float(value)
