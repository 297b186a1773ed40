"""The differentiable optical matmul."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, Literal, overload

import jax
from jax.typing import ArrayLike

from .._arguments import float32
from .._signal_chain import ChainAttrs
from ..hardware.noise import NoiseModel
from ..hardware.profiles import HardwareProfile
from ..spec import OpticalSpec
from ._chain import Wanted, device_of, run

_NAME = "optical_matmul"


@overload
def optical_matmul(  # pyright: ignore[reportOverlappingOverload], a bool that is not known
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    spec: OpticalSpec | None = None,
    profile: HardwareProfile | str | None = None,
    y_full_scale: ArrayLike | None = None,
    x_full_scale: ArrayLike | None = None,
    w_full_scale: ArrayLike | None = None,
    noise: NoiseModel | None = None,
    key: jax.Array | None = None,
    first_row: ArrayLike = 0,
    return_pre_noise: Literal[False] = False,
    return_peak: Literal[False] = False,
    return_x_peak: Literal[False] = False,
) -> jax.Array: ...


@overload
def optical_matmul(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    spec: OpticalSpec | None = None,
    profile: HardwareProfile | str | None = None,
    y_full_scale: ArrayLike | None = None,
    x_full_scale: ArrayLike | None = None,
    w_full_scale: ArrayLike | None = None,
    noise: NoiseModel | None = None,
    key: jax.Array | None = None,
    first_row: ArrayLike = 0,
    return_pre_noise: bool = False,
    return_peak: bool = False,
    return_x_peak: bool = False,
) -> tuple[jax.Array, ...]: ...


def optical_matmul(
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    spec: OpticalSpec | None = None,
    profile: HardwareProfile | str | None = None,
    y_full_scale: Any = None,
    x_full_scale: Any = None,
    w_full_scale: Any = None,
    noise: NoiseModel | None = None,
    key: Any = None,
    first_row: Any = 0,
    return_pre_noise: bool = False,
    return_peak: bool = False,
    return_x_peak: bool = False,
) -> jax.Array | tuple[jax.Array, ...]:
    """`x @ w + bias` as a photonic processor computes it.

        x_q = DAC(x)        w_q = DAC(w)        y = x_q · w_q + bias
        σ²  = thermal² + shot²·|y| + relative²·y² + weight²·‖x_q‖²        out = ADC(y + σ·ε)

    or, where the noise has `unit="full_scale"`, (σ/F)² is that of y/F with F = `y_full_scale`.

    With `spec.array_rows` of R, arrays of R inputs each (the last may have fewer) compute y_t, the
    first with the bias, each is read by an ADC of its own, and out = Σ_t ADC(y_t + σ_t·ε_t).

    A converter of b bits rounds to the 2^b - 1 levels `code · full_scale / (2^(b-1) - 1)`, half to
    even, and clips at its full scale. ε is standard normal; it depends on the key, on the index of
    the row in x flattened to f32[m, K] and on the column alone: splitting the batch over devices
    or mapping with `vmap` draws the same noise. Inside `shard_map` every shard numbers its own rows
    from 0, so fold the index of the shard into the key there, or count on with `first_row`.

    Gradients are straight through the converters (zero beyond their full scale) and through the
    noise. They flow to x, w, bias, to the fields of `noise`, and to the full scales given. Their
    matrix products are computed in `spec.grad_precision`.

    Args:
        x: f32[..., K].
        w: f32[K, N].
        bias: f32[N], or None.
        spec: bits of the converters, precision of the gradient; None: the bits of the profile.
        profile: the device, or the name of a preset: its bits, noise, transmission and crosstalk,
            the last two of which act on w. None: what `spec` and `noise` say alone.
        y_full_scale: range of the ADC, scalar or f32[N] (unit of y). Needed with `adc_bits`, and
            for noise in parts of it.
        x_full_scale: range of the DAC of x, scalar or f32[...], one per row (unit of x). None is
            the largest finite |x|.
        w_full_scale: range of the DAC of w, scalar or f32[N] (unit of w). None is the largest
            finite |w| of each column.
        noise: standard deviations of the noise; None: that of the profile, or a quiet device where
            there is none.
        key: random key of any kind; raw uint32 keys are accepted too. Needed with `noise`, and for
            the gradient with `grad_precision="int8"`.
        first_row: index that ε takes the first row for, an int or an integer scalar that may be
            traced, from 0 to 2^32 - 1: x[a:b] with `first_row=a` has the noise that it has as a
            part of x.
        return_pre_noise: whether to return y too, the signal before noise and ADC, of each array.
        return_peak: whether to return the largest finite |y| of each row too, of any array, 0 where
            there is none: what a calibration of the range of the ADC looks at.
        return_x_peak: the same of x, for the range of its DAC.

    Returns:
        out f32[..., N]; a row of x that holds NaN or inf is NaN in full. Or a tuple of out and of
        what was asked for: y f32[..., N], or f32[..., T, N] of T arrays, the peaks of y f32[...],
        those of x f32[...]. None of these is differentiated.

    Raises:
        TypeError: `x`, `w` or `bias` is not float32.
        ValueError: shapes do not fit; `noise` without `key`; `adc_bits`, or noise in parts of the
            full scale, without `y_full_scale`; a full scale or a noise parameter that is negative
            or NaN. When the gradient is taken: `grad_precision="int8"` without `key`.
    """
    x, w = float32(_NAME, "x", x), float32(_NAME, "w", w)
    device = device_of(_NAME, profile, spec, noise)
    return matmul(
        _NAME, x, w, bias, device.in_light, noise=device.noise, key=key,
        first_row=first_row, x_full_scale=x_full_scale, w_full_scale=w_full_scale,
        y_full_scale=y_full_scale,
        wanted=Wanted(return_pre_noise, return_peak, return_x_peak),
    )  # fmt: skip


def matmul(
    op: str,
    x: jax.Array,
    w: jax.Array,
    bias: Any,
    in_light: Callable[[jax.Array], tuple[jax.Array, OpticalSpec]],
    **chain: Any,
) -> jax.Array | tuple[jax.Array, ...]:
    """`optical_matmul` of real or complex numbers, by the op of that name.

    `in_light` gives what the device multiplies by, and the converters that are left to do; `chain`
    is what `run` takes too.
    """
    if x.ndim < 1:
        raise ValueError(f"{op}: `x` has shape (), expected (..., k)")
    if w.ndim != 2 or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"{op}: `w` has shape {w.shape}, expected (k, n) with k = {x.shape[-1]}, "
            f"the last extent of `x`"
        )
    w, spec = in_light(w)
    outer = x.shape[:-1]
    attrs = functools.partial(ChainAttrs, transpose_weight=False)
    rows = x.reshape(math.prod(outer), x.shape[-1])
    results = run(op, attrs, rows, w, bias, outer=outer, spec=spec, **chain)
    out, *others = (result.reshape(*outer, *result.shape[1:]) for result in results)
    return (out, *others) if others else out


def optical_matmul_with_linear(*args: Any, **kwargs: Any) -> tuple[jax.Array, ...]:
    """The former name of `optical_matmul` with `return_pre_noise=True`."""
    warnings.warn(
        "optical_matmul_with_linear goes with the next release; use "
        "optical_matmul(..., return_pre_noise=True)",
        DeprecationWarning,
        stacklevel=2,
    )
    return optical_matmul(*args, **kwargs, return_pre_noise=True)
