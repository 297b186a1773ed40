"""The figure of an evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import _figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ._evaluation import Evaluation

# More lines than this cannot be told apart.
_LINES = 12
_MARKERS = "osD^vP"


def draw(result: Evaluation, axis: str, title: str | None, labels: Mapping[str, str]) -> Figure:
    """Mean along an axis with a band of one standard deviation, of the only metric."""
    figure = _figure.new("Evaluation.plot", 7.0, 4.4)
    from matplotlib import colormaps

    shown = _lines(result, axis, labels)
    if len(shown) > _LINES:
        raise ValueError(
            f"Evaluation.plot: {len(shown)} lines, expected at most {_LINES}; "
            "leave axes out by result.select(name=value)"
        )
    values = result.axes[axis]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    order = np.argsort(np.asarray(values, float)) if numeric else np.arange(len(values))
    places = np.asarray(values, float)[order] if numeric else order

    axes = figure.subplots()
    colors = colormaps["viridis"](np.linspace(0.0, 0.85, len(shown)))
    for i, (label, take) in enumerate(shown):
        mean, std = take(result.mean)[order], take(result.std)[order]
        axes.plot(
            places, mean, color=colors[i], marker=_MARKERS[i % len(_MARKERS)], label=label or None
        )
        axes.fill_between(places, mean - std, mean + std, color=colors[i], alpha=0.2, linewidth=0)
    if not numeric:
        axes.set_xticks(places, [str(value) for value in values])
    metric = next(iter(result.metrics))
    axes.set_xlabel(labels.get(axis, axis))
    axes.set_ylabel(labels.get(metric, metric))
    spread = f"mean and standard deviation of {len(result.seeds)} draws of the noise"
    axes.set_title(spread if title is None else title)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(shown) > 1:
        axes.legend(frameon=False)
    return figure


def _lines(
    result: Evaluation, x: str, labels: Mapping[str, str]
) -> list[tuple[str, Callable[[NDArray], NDArray]]]:
    """A label for each point of the other axes, and what takes its line from an array."""
    others = [name for name in result.axes if name != x]
    place = list(result.axes).index(x)

    def taker(chosen: tuple[int, ...]) -> Callable[[NDArray], NDArray]:
        return lambda array: np.moveaxis(array, place, -1)[chosen]

    found = []
    for chosen in itertools.product(*(range(len(result.axes[name])) for name in others)):
        label = ", ".join(
            f"{labels.get(name, name)} {result.axes[name][i]}"
            for name, i in zip(others, chosen, strict=True)
        )
        found.append((label, taker(chosen)))
    return found
