"""The figure of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._evaluation import Evaluation, is_traced, lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# More lines than this cannot be told apart.
_LINES = 12
_MARKERS = "osD^vP"


def draw(result: Evaluation, x: str | None) -> Figure:
    """Mean with a band of one standard deviation, of the only metric."""
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "Evaluation.plot needs matplotlib: pip install 'lumina-jax[examples]'"
        ) from None
    axis = _axis(result, x)
    shown = lines(result, axis)
    if len(shown) > _LINES:
        raise ValueError(
            f"Evaluation.plot: {len(shown)} lines, expected at most {_LINES}; "
            "leave axes out by result.select(name=value)"
        )
    values = result.axes[axis]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    order = np.argsort(np.asarray(values, float)) if numeric else np.arange(len(values))
    places = np.asarray(values, float)[order] if numeric else order

    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
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
    axes.set_xlabel(axis)
    axes.set_ylabel(next(iter(result.metrics)))
    axes.set_title(f"mean ± std over {len(result.seeds)} seeds")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(shown) > 1:
        axes.legend(frameon=False)
    return figure


def _axis(result: Evaluation, x: str | None) -> str:
    if not result.axes:
        raise ValueError("Evaluation.plot: the grid has no axis, expected at least one")
    if x is None:
        traced = [name for name, values in result.axes.items() if is_traced(values)]
        return (traced or list(result.axes))[0]
    if x not in result.axes:
        known = ", ".join(map(repr, result.axes))
        raise ValueError(f"Evaluation.plot: there is no axis {x!r}, expected one of {known}")
    return x
