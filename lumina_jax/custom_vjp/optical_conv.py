"""The differentiable convolution."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, overload

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._arguments import float32, integer
from ..hardware.noise import NoiseModel
from ..hardware.profiles import HardwareProfile
from ..ops._conv import ConvAttrs, places
from ..spec import OpticalSpec
from ._chain import Wanted, device_of, run

_NAME = "optical_conv"

Sizes: TypeAlias = int | Sequence[int]
"""A number for every spatial axis, or one for each."""
Padding: TypeAlias = str | int | Sequence[int | tuple[int, int]]
"""The name of a rule, or how many zeros there are before and after each spatial axis."""

_WRAPPED = {"CIRCULAR": "wrap", "REFLECT": "reflect"}
"""What is around the image where it is no zeros, as `jnp.pad` names it."""


@overload
def optical_conv(  # pyright: ignore[reportOverlappingOverload], a bool that is not known
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    strides: Sizes | None = 1,
    padding: Padding = "SAME",
    input_dilation: Sizes | None = 1,
    kernel_dilation: Sizes | None = 1,
    feature_group_count: int = 1,
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
def optical_conv(
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    strides: Sizes | None = 1,
    padding: Padding = "SAME",
    input_dilation: Sizes | None = 1,
    kernel_dilation: Sizes | None = 1,
    feature_group_count: int = 1,
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


def optical_conv(
    x: Any,
    kernel: Any,
    bias: Any = None,
    *,
    strides: Sizes | None = 1,
    padding: Padding = "SAME",
    input_dilation: Sizes | None = 1,
    kernel_dilation: Sizes | None = 1,
    feature_group_count: int = 1,
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
    """A convolution as a photonic processor computes it: `optical_matmul` of every patch.

    Place (oh, ow) of image n is row `(n · OH + oh) · OW + ow`, and its patch holds, in the order
    (kh, kw, c), what the kernel meets there:

        patch[kh, kw, c] = padded x[n, oh·stride + kh·dilation, ow·stride + kw·dilation, c]
        out[n, oh, ow]   = optical_matmul(patch, kernel reshaped to f32[KH·KW·C, O], bias)

    so converters, noise and gradients are those of `optical_matmul`, bit for bit in the forward
    pass. Group g of the outputs sees group g of the channels; each column has the noise of its
    own index among all O. Where the kernel meets no element of x there is a zero, which goes
    through the DAC as any other (with one bit it is +full scale); a NaN or an infinity in a patch
    makes its row NaN, in its group.

    Args:
        x: f32[..., W, C] or f32[..., H, W, C]; images n are its leading dimensions, flattened.
        kernel: f32[KW, C / groups, O] or f32[KH, KW, C / groups, O].
        bias: f32[O], or None.
        strides: steps between places.
        padding: "SAME": as many places as x has elements, over the stride. "VALID": no zeros.
            "CIRCULAR" and "REFLECT": what is around the image is the image itself. "CAUSAL", for
            one spatial axis: all zeros are before it. An int, one for each axis, or a pair
            (before, after) for each axis: so many zeros.
        input_dilation: distance of neighboring elements of x, with zeros between them; above 1 it
            is a transposed convolution, with `padding` in numbers.
        kernel_dilation: distance of the elements that neighboring taps of the kernel meet.
        feature_group_count: groups; as many as channels is a depthwise convolution.
        spec, profile, noise, key: as in `optical_matmul`; crosstalk acts along the patch.
        first_row: as in `optical_matmul`, so that of images from n on is `n · OH · OW`.
        y_full_scale: range of the ADC, scalar or f32[O] (unit of y). Needed with `adc_bits`, and
            for noise in parts of it.
        x_full_scale: range of the DAC of x, scalar or f32[...], one per image (unit of x). None is
            the largest finite |x| in any patch.
        w_full_scale: range of the DAC of the kernel, scalar or f32[O] (unit of the kernel). None is
            the largest finite magnitude of each of the O.
        return_pre_noise: whether to return y too, the signal before noise and ADC, of each array.
        return_peak: whether to return the largest finite |y| of each image too, of any array, 0
            where there is none: what a calibration of the range of the ADC looks at.
        return_x_peak: the same of the patches, for the range of the DAC.

    Returns:
        out f32[..., OW, O] or f32[..., OH, OW, O]. Or a tuple of out and of what was asked for: y
        like out, or f32[..., T, O] of T arrays, the peaks of y f32[...], those of x f32[...]. None
        of these is differentiated.

    Raises:
        TypeError: `x`, `kernel` or `bias` is not float32, or a number of the geometry no int.
        ValueError: shapes do not fit, groups do not divide channels or outputs, the kernel is
            bigger than the padded image, a stride or a dilation is below 1, the padding is unknown;
            and as in `optical_matmul`.
    """
    x, kernel = _real("x", x), _real("kernel", kernel)
    device = device_of(_NAME, profile, spec, noise)
    rank = kernel.ndim - 2
    if rank not in (1, 2) or 0 in kernel.shape[:rank]:
        raise ValueError(
            f"{_NAME}: `kernel` has shape {kernel.shape}, expected (kw, c, o) or (kh, kw, c, o) "
            f"with at least one tap"
        )
    if x.ndim < rank + 1:
        expected = "(..., w, c)" if rank == 1 else "(..., h, w, c)"
        raise ValueError(
            f"{_NAME}: `x` has shape {x.shape}, expected {expected} for `kernel` {kernel.shape}"
        )
    groups = integer(_NAME, "feature_group_count", feature_group_count, at_least=1)
    *taps, depth, columns = kernel.shape
    channels = x.shape[-1]
    if channels % groups or channels // groups != depth:
        raise ValueError(
            f"{_NAME}: `kernel` has shape {kernel.shape}, expected {channels} / {groups} channels, "
            f"the last extent of `x` over `feature_group_count`"
        )
    if columns % groups or groups > max(columns, 1):
        raise ValueError(
            f"{_NAME}: `kernel` has {columns} outputs, which `feature_group_count` {groups} does "
            f"not divide"
        )
    steps = _numbers("strides", strides, rank)
    of_input = _numbers("input_dilation", input_dilation, rank)
    of_kernel = _numbers("kernel_dilation", kernel_dilation, rank)
    reach = [(t - 1) * d + 1 for t, d in zip(taps, of_kernel, strict=True)]
    if isinstance(padding, str) and padding in _WRAPPED:
        around = [((r - 1) // 2, r // 2) for r in reach]
        pads = [(0, 0)] * (x.ndim - rank - 1) + around + [(0, 0)]
        x, padding = jnp.pad(x, pads, mode=_WRAPPED[padding]), "VALID"
    outer, extents = x.shape[: -rank - 1], x.shape[-rank - 1 : -1]
    zeros = _zeros(padding, extents, reach, steps, of_input)

    def pair(values: tuple[int, ...]) -> tuple[int, ...]:
        return (1,) * (2 - rank) + values

    attrs = functools.partial(
        ConvAttrs,
        window_strides=pair(steps),
        padding=(0, 0) * (2 - rank) + zeros,
        input_dilation=pair(of_input),
        kernel_dilation=pair(of_kernel),
        feature_group_count=groups,
    )
    geometry = attrs(dac_bits=0, weight_bits=0, adc_bits=0, noisy=False)
    height, width = (pair(tuple(e))[-2:] for e in (extents, taps))
    out = tuple(places(geometry, axis, height[axis], width[axis]) for axis in (0, 1))
    if any(isinstance(extent, int) and extent < 1 for extent in out):
        raise ValueError(
            f"{_NAME}: `kernel` has shape {kernel.shape}, bigger than the padded image: `x` has "
            f"shape {x.shape}, `padding` is {_pairs(zeros)}"
        )
    matrix, spec = device.in_light(kernel.reshape(math.prod(taps) * depth, columns))
    results = run(
        _NAME,
        attrs,
        x.reshape(math.prod(outer), *height, channels),
        matrix.reshape(*width, depth, columns),
        bias,
        outer=outer,
        places=out,
        spec=spec,
        noise=device.noise,
        key=key,
        first_row=first_row,
        x_full_scale=x_full_scale,
        w_full_scale=w_full_scale,
        y_full_scale=y_full_scale,
        wanted=Wanted(return_pre_noise, return_peak, return_x_peak),
    )
    # The peaks are by image alone.
    shape = (*outer, *out[2 - rank :])
    first, *others = (
        r.reshape(*shape, *r.shape[3:]) if r.ndim > 1 else r.reshape(outer) for r in results
    )
    return (first, *others) if others else first


def _real(name: str, value: Any) -> jax.Array:
    if jnp.iscomplexobj(value):
        got = jnp.asarray(value).dtype
        raise TypeError(
            f"{_NAME}: `{name}` must be float32, got {got}; pass {name}.real and {name}.imag one "
            f"after the other"
        )
    return float32(_NAME, name, value)


def _numbers(name: str, value: Any, rank: int) -> tuple[int, ...]:
    """A positive int for each spatial axis."""
    if value is None:
        value = 1
    given = tuple(value) if isinstance(value, Sequence) else (value,) * rank
    if len(given) != rank:
        raise ValueError(f"{_NAME}: `{name}` is {value!r}, expected an int or {rank} of them")
    return tuple(integer(_NAME, name, number, at_least=1) for number in given)


def _zeros(
    padding: Any,
    extents: Sequence[Any],
    reach: Sequence[int],
    steps: Sequence[int],
    input_dilation: Sequence[int],
) -> tuple[int, ...]:
    """Zeros before and after each axis, for a kernel that reaches over so many elements."""
    rank = len(extents)
    expected = "SAME, VALID, CIRCULAR, REFLECT, CAUSAL, an int, or a pair for each spatial axis"
    if isinstance(padding, str):
        if padding == "CAUSAL" and rank == 1:
            return (reach[0] - 1, 0)
        if padding not in ("SAME", "VALID"):
            why = "which is for one spatial axis" if padding == "CAUSAL" else f"expected {expected}"
            raise ValueError(f"{_NAME}: `padding` is {padding!r}, {why}")
        if any(dilation > 1 for dilation in input_dilation):
            raise ValueError(
                f"{_NAME}: `padding` is {padding!r}, expected numbers where `input_dilation` is "
                f"{tuple(input_dilation)}, as for any transposed convolution"
            )
        if padding == "SAME" and not all(isinstance(extent, int) for extent in extents):
            raise ValueError(
                f"{_NAME}: `padding` is 'SAME', expected numbers where `x` has symbolic extents, "
                f"got {tuple(extents)}"
            )
        pads = jax.lax.padtype_to_pads(extents, reach, steps, padding)
        return tuple(int(number) for pad in pads for number in pad)
    given = padding if isinstance(padding, Sequence) else (padding,) * rank
    pairs = [pad if isinstance(pad, Sequence) else (pad, pad) for pad in given]
    if len(pairs) != rank or any(len(pair) != 2 or isinstance(pair, str) for pair in pairs):
        raise ValueError(f"{_NAME}: `padding` is {padding!r}, expected {expected}")
    return tuple(integer(_NAME, "padding", n, at_least=0) for pair in pairs for n in pair)


def _pairs(zeros: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(zip(zeros[::2], zeros[1::2], strict=True))
