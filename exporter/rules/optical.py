"""The optical ops whose nodes in a file are not themselves; `_registry.py` copies all others."""

from __future__ import annotations

import numpy as np

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
def _optical_matmul_fwd(ctx: Context) -> list[Value]:
    """The chain as training runs it: that of files, and for y the same without noise and ADC.

    These are the bits of y; only where y is infinite, the output of a chain is NaN.
    """
    params = dict(ctx.params)
    residual, *wanted = (
        params.pop(name) for name in ("residual", "with_peak", "with_x_peak", "with_w_peak")
    )
    (out,) = ctx.node("optical_matmul", **params)
    results = [out]
    y = None
    if not params["array_rows"]:
        (y,) = ctx.node("optical_matmul", **{**params, "noisy": False, "adc_bits": 0})
    of_arrays = (
        "the signals of its arrays are for training alone; export the function without "
        "`return_pre_noise` and `return_peak`, and without its gradient"
    )
    if residual == "pre_noise":
        results.append(_unless_used(ctx, 1, of_arrays) if y is None else y)
    elif residual != "none":
        refusal = (
            f'its residual "{residual}" is for the gradient alone; export the function without '
            "its gradient, or take the gradient of the ranges and the noise, too"
        )
        results.append(_unless_used(ctx, 1, refusal))
    x, w = (ctx.value(operand) for operand in ctx.inputs[:2])
    axes = (1, 1, 1 if params["transpose_weight"] else 0)
    for is_wanted, values, axis in zip(wanted, (y, x, w), axes, strict=True):
        if is_wanted:
            results += (
                [_unless_used(ctx, len(results), of_arrays)]
                if values is None
                else _peak(ctx, values, axis)
            )
    return results


def _unless_used(ctx: Context, index: int, refusal: str) -> Value:
    """What stands in for result number `index`; an error where anything reads it."""
    if ctx.is_used(index):
        raise Unsupported(refusal)
    return ctx.stand_in(index)


def _peak(ctx: Context, values: Value, axis: int) -> list[Value]:
    """The largest finite magnitude along an axis; 0 where there is none."""
    (magnitude,) = ctx.node("abs", [values])
    (finite,) = ctx.node("is_finite", [values])
    zero = ctx.value(Constant(np.float32(0)))
    zeros = ctx.node("broadcast_in_dim", [zero], shape=values.shape, broadcast_dimensions=())
    known = ctx.node("select_n", [finite, *zeros, magnitude])
    return ctx.node("reduce_max", known, axes=(axis,))
