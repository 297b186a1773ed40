"""Windows over the axes of an array: what convolutions and reductions of windows share."""

from __future__ import annotations

from collections.abc import Sequence

from .._dim import Dim, Shape
from .._graph import Attr
from .._lower import Context
from .._types import shape


def geometry(ctx: Context, base_dilation: str, window_dilation: str) -> dict[str, Attr]:
    """The attributes that say where a window lies; padding may be symbolic, as of "SAME"."""
    low, high = zip(*ctx.params["padding"], strict=True) if ctx.params["padding"] else ((), ())
    return {
        "window_strides": ctx.ints("window_strides"),
        "low": shape(low),
        "high": shape(high),
        base_dilation: ctx.ints(base_dilation),
        window_dilation: ctx.ints(window_dilation),
    }


def places(
    extents: Sequence[Dim],
    taps: Sequence[int | Dim],
    window_strides: Sequence[int],
    low: Sequence[int | Dim],
    high: Sequence[int | Dim],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> Shape:
    """How many places a window of `taps` has along each axis.

    That is max(0, (padded - window) // stride + 1), where `padded` is the dilated extent with its
    padding, and `window` the dilated window.
    """
    axes = zip(
        extents, taps, window_strides, low, high, base_dilation, window_dilation, strict=True
    )
    return Shape(
        _not_negative(
            (dilated(extent, base) + before + after - dilated(Dim.of(tap), window)) // stride + 1
        )
        for extent, tap, stride, before, after, base, window in axes
    )


def dilated(dim: Dim, dilation: int) -> Dim:
    """The extent of `dim` elements that are `dilation` apart."""
    return dim if dim.constant() == 0 else (dim - 1) * dilation + 1


def _not_negative(dim: Dim) -> Dim:
    """The larger of `dim` and 0: as JAX has it, `dim` itself where that is never negative.

    Extents grow with every symbol, so they are least where all symbols are 1.
    """
    least = dim.evaluate(dict.fromkeys(dim.symbols(), 1))
    return dim if least >= 0 else dim.maximum(0)
