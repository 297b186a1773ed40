"""The differentiable optical matmul of complex numbers."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, overload

import jax
from jax.typing import ArrayLike

from .._arguments import complex_array
from ..hardware.crosstalk import Crosstalk
from ..hardware.noise import NoiseModel
from ..hardware.profiles import HardwareProfile
from ..spec import OpticalSpec
from ._chain import Device, Wanted, device_of
from .optical_matmul import matmul

_NAME = "complex_optical_matmul"


@overload
def complex_optical_matmul(  # pyright: ignore[reportOverlappingOverload], a bool that is not known
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
def complex_optical_matmul(
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


def complex_optical_matmul(
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
    """`x @ w + bias` of complex numbers as a coherent photonic processor computes it.

        x_q = DAC(re x) + i·DAC(im x)        w_q alike        y = x_q · w_q + bias
        σ²  = thermal² + shot²·|y| + relative²·|y|² + weight²·‖x_q‖²
        y'  = y + σ·(ε_re + i·ε_im)/√2       out = ADC(re y') + i·ADC(im y')

    The light carries amplitude and phase; a homodyne receiver reads both quadratures, with noise
    that is circular: independent of the phase. A full scale holds for both parts. Converters, the
    unit of the noise and its independence of batch and devices are as in `optical_matmul`; ε_re and
    ε_im are those of the columns 2n and 2n + 1 of a real product.

    Gradients are straight through the converters, part by part, and through the noise, in the
    convention of JAX: without converters and noise those of `jnp.matmul`. They flow to x, w, bias,
    to the fields of `noise`, and to the full scales given. Their matrix products are computed in
    `spec.grad_precision`.

    Args:
        x: c64[..., K].
        w: c64[K, N].
        bias: c64[N], or None.
        spec: bits of the converters, precision of the gradient; None: the bits of the profile.
        profile: the device, or the name of a preset: its bits, its noise, and its transmission, of
            whose root fields are multiplied. None: what `spec` and `noise` say alone.
        y_full_scale: range of the ADC, scalar or f32[N] (unit of y). Needed with `adc_bits`, and
            for noise in parts of it.
        x_full_scale: range of the DAC of x, scalar or f32[...], one per row (unit of x). None is
            the largest finite |re x| or |im x|.
        w_full_scale: range of the DAC of w, scalar or f32[N] (unit of w). None is the largest
            finite |re w| or |im w| of each column.
        noise: standard deviations of the noise; None: that of the profile, or a quiet device where
            there is none.
        key: random key of any kind; raw uint32 keys are accepted too. Needed with `noise`, and for
            the gradient with `grad_precision="int8"`.
        first_row: as in `optical_matmul`.
        return_pre_noise: whether to return y too, the signal before noise and ADC, of each array.
        return_peak: whether to return the largest finite |re y| or |im y| of each row too, of any
            array, 0 where there is none: what a calibration of the range of the ADC looks at.
        return_x_peak: the same of x, for the range of its DAC.

    Returns:
        out c64[..., N]; a row of x that holds NaN or inf is NaN in full. Or a tuple of out and of
        what was asked for: y c64[..., N], or c64[..., T, N] of the T arrays that `spec.array_rows`
        makes, the peaks of y f32[...], those of x f32[...]. None of these is differentiated.

    Raises:
        TypeError: `x`, `w` or `bias` is not complex64.
        ValueError: shapes do not fit; `noise` without `key`; `adc_bits`, or noise in parts of the
            full scale, without `y_full_scale`; a full scale or a noise parameter that is negative
            or NaN; a `profile` with crosstalk, which is that of powers. When the gradient is taken:
            `grad_precision="int8"` without `key`.
    """
    x, w = complex_array(_NAME, "x", x), complex_array(_NAME, "w", w)
    device = device_of(_NAME, profile, spec, noise)
    return matmul(
        _NAME, x, w, bias, functools.partial(_in_light, device), noise=device.noise, key=key,
        first_row=first_row, x_full_scale=x_full_scale, w_full_scale=w_full_scale,
        y_full_scale=y_full_scale,
        wanted=Wanted(return_pre_noise, return_peak, return_x_peak),
    )  # fmt: skip


def fields_in_light(
    op: str, w: jax.Array, transmission: float, crosstalk: Crosstalk | None
) -> jax.Array:
    """What a coherent device multiplies by: w c64[K, N] after the losses of the light.

    `transmission` is that of power, of which fields have the root. A ValueError in the name of `op`
    where there is crosstalk.
    """
    if crosstalk is not None:
        raise ValueError(
            f"{op}: `profile` has crosstalk, which is that of powers on wavelengths; expected "
            f"one without, such as dataclasses.replace(profile, crosstalk=None)"
        )
    return w if transmission == 1.0 else w * math.sqrt(transmission)


def _in_light(device: Device, w: jax.Array) -> tuple[jax.Array, OpticalSpec]:
    if device.profile is None:
        return w, device.spec
    path, crosstalk = device.profile.path, device.profile.crosstalk
    return fields_in_light(_NAME, w, path.transmission, crosstalk), device.spec
