"""Figures of results: they show themselves in a notebook, and need matplotlib alone."""

from __future__ import annotations

import functools
import io
from os import PathLike
from typing import TYPE_CHECKING, Any

from ._arguments import file_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new(op: str, width: float, height: float) -> Figure:
    """An empty figure of that size in inches, which no window or global state keeps.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError(f"{op} needs matplotlib: pip install 'lumina-jax[plot]'") from None
    return _kind()(figsize=(width, height), layout="constrained")


def finished(op: str, figure: Figure, path: str | PathLike[str] | None) -> Figure:
    """The figure, once it is in the file `path`, whose ending says the format; None is no file."""
    if path is not None:
        figure.savefig(file_path(op, "path", path), dpi=150)
    return figure


@functools.cache
def _kind() -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class SelfShowing(Figure):
        """A figure that a notebook shows, whatever its backend."""

        def _repr_png_(self) -> bytes:
            png = io.BytesIO()
            FigureCanvasAgg(self).print_png(png)
            return png.getvalue()

    return SelfShowing
