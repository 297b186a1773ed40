"""The optical ops whose nodes in a file are not themselves; `_registry.py` copies all others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lumina_jax.ops import OPS
from lumina_jax.ops._conv import met

from .._dim import Shape
from .._errors import Unsupported
from .._graph import Value
from .._lower import Context
from .._program import Constant
from ._registry import rule


@rule("uncalibrated_range")
def _uncalibrated_range(ctx: Context) -> list[Value]:
    """The range of this batch, which stands in for one that was never calibrated."""
    return [ctx.value(ctx.inputs[1])]


@rule("optical_matmul_fwd")
@rule("complex_optical_matmul_fwd")
def _optical_matmul_fwd(ctx: Context) -> list[Value]:
    """The chain with one product."""
    results, y = _chain(ctx)
    x, w = (ctx.value(operand) for operand in ctx.inputs[:2])
    of_w = (1,) if ctx.params["transpose_weight"] else (0,)
    return _with_peaks(ctx, results, ((y, (1,)), (x, (1,)), (w, of_w)))


@rule("optical_conv_fwd")
def _optical_conv_fwd(ctx: Context) -> list[Value]:
    """A convolution, whose x counts where a patch has it."""
    results, y = _chain(ctx)
    x, kernel = (ctx.value(operand) for operand in ctx.inputs[:2])
    if ctx.params["with_x_peak"]:
        x = _met(ctx, x, kernel)
    of_image, of_column = (1, 2, 3), (0, 1, 2)
    return _with_peaks(ctx, results, ((y, of_image), (x, of_image), (kernel, of_column)))


def _met(ctx: Context, x: Value, kernel: Value) -> Value:
    """x with 0 where it is in no patch."""
    attrs = OPS["optical_conv_fwd"].attrs(**ctx.params)
    extents, taps = (Shape(shape).constant() for shape in (x.shape[1:3], kernel.shape[:2]))
    if extents is None or taps is None:
        raise Unsupported(
            "the peak of its patches is for images of known size; export the function at one size"
        )
    lines, columns = (np.asarray(met(attrs, axis, extents[axis], taps[axis])) for axis in (0, 1))
    is_met = lines[:, None] & columns[None, :]
    if is_met.all():
        return x
    mask = ctx.value(Constant(is_met))
    everywhere = {"shape": x.shape}
    masks = ctx.node("broadcast_in_dim", [mask], **everywhere, broadcast_dimensions=(1, 2))
    zero = ctx.value(Constant(np.float32(0)))
    zeros = ctx.node("broadcast_in_dim", [zero], **everywhere, broadcast_dimensions=())
    (counted,) = ctx.node("select_n", [*masks, *zeros, x])
    return counted


def _chain(ctx: Context) -> tuple[list[Value], Value | None]:
    """The chain as training runs it: that of files, and for y the same without noise and ADC.

    These are the bits of y; only where y is infinite, the output of a chain is NaN. Of several
    arrays there is no y.
    """
    params = {name: value for name, value in ctx.params.items() if name not in _OF_TRAINING}
    residual, op = ctx.params["residual"], ctx.primitive.removesuffix("_fwd")
    (out,) = ctx.node(op, **params)
    y = None
    if not params["array_rows"]:
        (y,) = ctx.node(op, **{**params, "noisy": False, "adc_bits": 0})
    if residual == "none":
        return [out], y
    if residual == "pre_noise":
        return [out, _unless_used(ctx, 1, _OF_ARRAYS) if y is None else y], y
    refusal = (
        f'its residual "{residual}" is for the gradient alone; export the function without its '
        "gradient, or take the gradient of the ranges and the noise, too"
    )
    return [out, _unless_used(ctx, 1, refusal)], y


def _unless_used(ctx: Context, index: int, refusal: str) -> Value:
    """What stands in for result number `index`; an error where anything reads it."""
    if ctx.is_used(index):
        raise Unsupported(refusal)
    return ctx.stand_in(index)


_OF_ARRAYS = (
    "the signals of its arrays are for training alone; export the function without "
    "`return_pre_noise` and `return_peak`, and without its gradient"
)
_PEAKS = ("with_peak", "with_x_peak", "with_w_peak")
_OF_TRAINING = ("residual", *_PEAKS)
"""Attributes that the op of files does not have."""


def _with_peaks(
    ctx: Context, results: list[Value], of: Sequence[tuple[Value | None, tuple[int, ...]]]
) -> list[Value]:
    """The results, and the peaks that are wanted of y, x and w."""
    for name, (values, axes) in zip(_PEAKS, of, strict=True):
        if ctx.params[name] and values is None:
            results.append(_unless_used(ctx, len(results), _OF_ARRAYS))
        elif ctx.params[name] and values is not None:
            results += _peak(ctx, values, axes)
    return results


def _peak(ctx: Context, values: Value, axes: tuple[int, ...]) -> list[Value]:
    """The largest finite magnitude along some axes, of parts if complex; 0 where there is none."""
    if values.dtype.name == "c64":
        parts = [ctx.node(part, [values])[0] for part in ("real", "imag")]
        return ctx.node("max", [peak for part in parts for peak in _peak(ctx, part, axes)])
    (magnitude,) = ctx.node("abs", [values])
    (finite,) = ctx.node("is_finite", [values])
    zero = ctx.value(Constant(np.float32(0)))
    zeros = ctx.node("broadcast_in_dim", [zero], shape=values.shape, broadcast_dimensions=())
    known = ctx.node("select_n", [finite, *zeros, magnitude])
    return ctx.node("reduce_max", known, axes=axes)
