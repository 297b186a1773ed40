"""The differentiable optical matmul."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .. import ops
from .._arguments import float32, magnitude
from ..hardware.crosstalk import in_light
from ..hardware.noise import NoiseModel, is_known_zero
from ..hardware.profiles import HardwareProfile, profile_of
from ..ops._chain import ChainAttrs, Operands
from ..ops._op import vary_together
from ..ops.quantize import absmax
from ..spec import OpticalSpec, op_array_rows, op_bits
from ._derivative import Forward, Rule, differentiable
from ._operands import gradient_of, ids, seed_words


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
    from 0, so fold the index of the shard into the key there.

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
    if profile is not None:
        profile = profile_of(_NAME, profile)
        spec = profile.spec if spec is None else spec
        noise = profile.noise if noise is None else noise
    if not isinstance(spec, OpticalSpec):
        cure = "; pass one, or a `profile`" if spec is None else ""
        raise TypeError(f"{_NAME}: `spec` must be an OpticalSpec, got {type(spec).__name__}{cure}")
    if x.ndim < 1:
        raise ValueError(f"{_NAME}: `x` has shape (), expected (..., k)")
    if w.ndim != 2 or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"{_NAME}: `w` has shape {w.shape}, expected (k, n) with k = {x.shape[-1]}, "
            f"the last extent of `x`"
        )
    if profile is not None:
        w, spec = in_light(w, profile.path.transmission, profile.crosstalk, spec)
    attrs = ChainAttrs(
        dac_bits=op_bits(spec.dac_bits),
        weight_bits=op_bits(spec.weight_bits),
        adc_bits=op_bits(spec.adc_bits),
        transpose_weight=False,
        noisy=noise is not None,
        array_rows=op_array_rows(spec.array_rows, x.shape[-1]),
    )
    call = _Call(
        attrs=attrs,
        weight_noise=not _is_known_to_lack(noise, "weight"),
        only_relative=_is_known_to_lack(noise, "thermal", "shot", "weight"),
        return_pre_noise=return_pre_noise,
        return_peak=return_peak,
        return_x_peak=return_x_peak,
        grad_precision=spec.grad_precision,
        has_key=key is not None,
    )
    if attrs.adc_bits and y_full_scale is None:
        raise ValueError(
            f"{_NAME}: `adc_bits`={spec.adc_bits} needs `y_full_scale`, got None; pass the range "
            f"of the ADC, a scalar or f32[n], or adc_bits=None"
        )

    if isinstance(noise, NoiseModel) and noise.unit == "full_scale":
        if y_full_scale is None:
            raise ValueError(
                f"{_NAME}: `noise` is in parts of the full scale of the ADC and needs "
                f"`y_full_scale`, got None; pass that range, or noise=noise.to_signal(range)"
            )
        if jnp.ndim(y_full_scale) == 1:
            return _with_noise_by_column(
                x, w, bias, y_full_scale, w_full_scale,
                (return_pre_noise, return_peak, return_x_peak),
                spec=spec, x_full_scale=x_full_scale, noise=noise, key=key,
            )  # fmt: skip
        noise = noise.to_signal(magnitude(_NAME, "y_full_scale", y_full_scale))

    outer = x.shape[:-1]
    m, n = math.prod(outer), w.shape[1]
    # The op finds a range that it is not given.
    found, off = jnp.zeros(0, np.float32), jnp.ones(1, np.float32)
    if x_full_scale is None:
        x_range = found if attrs.dac_bits else off
    else:
        x_range = _range("x_full_scale", x_full_scale, outer, m)
    if w_full_scale is None:
        w_range = found if attrs.weight_bits else off
    else:
        w_range = _range("w_full_scale", w_full_scale, (n,), n)
    y_range = off if y_full_scale is None else _range("y_full_scale", y_full_scale, (n,), n)
    operands = Operands(
        x=x.reshape(m, x.shape[-1]),
        w=w,
        bias=jnp.zeros(1, np.float32) if bias is None else _bias(bias, n),
        x_full_scale=x_range,
        w_full_scale=w_range,
        y_full_scale=y_range,
        **_noise_operands(call, noise, key, m, n),
    )
    out, *others = (
        result.reshape(*outer, *result.shape[1:])
        for result in _differentiable(call, vary_together(operands))
    )
    return (out, *map(jax.lax.stop_gradient, others)) if others else out


def _with_noise_by_column(
    x: jax.Array,
    w: jax.Array,
    bias: Any,
    y_full_scale: Any,
    w_full_scale: Any,
    returned: tuple[bool, bool, bool],
    **chain: Any,
) -> jax.Array | tuple[jax.Array, ...]:
    """The op where every column has noise on the scale of its own ADC.

    σ is the same number for all columns once each is counted in parts of its full scale, so the
    columns are brought to one full scale by their weights, and back afterwards.
    """
    return_pre_noise, return_peak, return_x_peak = returned
    n = w.shape[1]
    full_scale = _range("y_full_scale", y_full_scale, (n,), n)
    largest = jax.lax.stop_gradient(full_scale.max(initial=0.0))
    lit = full_scale > 0
    share = jnp.where(lit, full_scale / jnp.where(largest > 0, largest, 1.0), 1.0)
    results = optical_matmul(
        x,
        w / share[None, :],
        None if bias is None else _bias(bias, n) / share,
        w_full_scale=None if w_full_scale is None else w_full_scale / share,
        y_full_scale=largest,
        return_pre_noise=return_pre_noise or return_peak,
        return_x_peak=return_x_peak,
        **chain,
    )
    out, *others = results if isinstance(results, tuple) else (results,)
    by_column = (1,) * (out.ndim - 1) + (n,)
    out = jnp.where(lit, share, 0.0).reshape(by_column) * out
    x_peak = others[-1:] if return_x_peak else []
    of_y: list[jax.Array] = []
    if return_pre_noise or return_peak:
        of_arrays = others[0].ndim - out.ndim
        y = jax.lax.stop_gradient(share.reshape((1,) * of_arrays + by_column) * others[0])
        # The peak of a row is that of its columns in their own units.
        peaks = [absmax(y.reshape(*out.shape[:-1], -1), axis=-1)] if return_peak else []
        of_y = [*([y] if return_pre_noise else []), *peaks]
    return (out, *of_y, *x_peak) if others else out


def optical_matmul_with_linear(*args: Any, **kwargs: Any) -> tuple[jax.Array, ...]:
    """The former name of `optical_matmul` with `return_pre_noise=True`."""
    warnings.warn(
        "optical_matmul_with_linear goes with the next release; use "
        "optical_matmul(..., return_pre_noise=True)",
        DeprecationWarning,
        stacklevel=2,
    )
    return optical_matmul(*args, **kwargs, return_pre_noise=True)


_NAME = "optical_matmul"
_MANY_OUTPUTS = 1 << 20
"""Outputs whose slope no cache of a core holds."""


def _is_known_to_lack(noise: Any, *names: str) -> bool:
    return all(is_known_zero(getattr(noise, name, 0)) for name in names)


def _bias(bias: Any, n: int) -> jax.Array:
    bias = float32(_NAME, "bias", bias)
    if bias.shape != (n,):
        raise ValueError(f"{_NAME}: `bias` has shape {bias.shape}, expected (n,) with n = {n}")
    return bias


def _range(name: str, value: Any, shape: tuple[Any, ...], extent: Any) -> jax.Array:
    full_scale = magnitude(_NAME, name, value)
    if full_scale.ndim == 0:
        return full_scale.reshape(1)
    if full_scale.shape != shape:
        raise ValueError(
            f"{_NAME}: `{name}` has shape {full_scale.shape}, expected a scalar or {shape}"
        )
    return full_scale.reshape(extent)


def _noise_operands(
    call: _Call, noise: NoiseModel | None, key: Any, m: Any, n: int
) -> dict[str, jax.Array]:
    if noise is None:
        # The gradient alone may draw: it makes the ids when it does.
        draws = call.grad_precision == "int8" and call.has_key
        return {
            "noise": jnp.zeros((1, 4), np.float32),
            "seed": seed_words(_NAME, key) if draws else jnp.zeros((1, 2), np.uint32),
            "rows": jnp.zeros(1, np.uint32),
            "columns": jnp.zeros(1, np.uint32),
        }
    if not isinstance(noise, NoiseModel):
        raise TypeError(f"{_NAME}: `noise` must be a NoiseModel, got {type(noise).__name__}")
    if key is None:
        raise ValueError(
            f"{_NAME}: `noise` needs a `key`, got None; pass key=jax.random.key(seed), "
            f"or noise=NoiseModel() for a quiet device"
        )
    parameters = []
    for name in ("thermal", "shot", "relative", "weight"):
        parameter = magnitude(_NAME, f"noise.{name}", getattr(noise, name))
        if parameter.shape != ():
            raise ValueError(
                f"{_NAME}: `noise.{name}` has shape {parameter.shape}, expected a scalar"
            )
        parameters.append(parameter)
    return {
        "noise": jnp.stack(parameters).reshape(1, 4),
        "seed": seed_words(_NAME, key),
        "rows": ids(m),
        "columns": ids(n),
    }


@dataclass(frozen=True)
class _Call:
    """What is static in a call."""

    attrs: ChainAttrs
    """What the op and its gradient share."""
    weight_noise: bool
    """False where it is known when tracing that there is none."""
    only_relative: bool
    """Whether it is known when tracing that there is no noise but the relative one."""
    return_pre_noise: bool
    return_peak: bool
    return_x_peak: bool
    grad_precision: str
    has_key: bool

    def residual(self, *, ranges: bool, size: Any) -> str:
        """What the forward op saves of `size` outputs, with or without gradients of `ranges`."""
        if self.return_pre_noise:
            return "pre_noise"
        if not (self.attrs.noisy or self.attrs.adc_bits):
            # The output is what the backward pass needs to know of y.
            return "none"
        # Ranges, noise and the norm of x take other factors from y than its slope.
        if ranges or self.weight_noise:
            return "pre_noise"
        # A slope that no cache holds is written and read as slowly as ε is drawn again.
        is_large = isinstance(size, int) and size >= _MANY_OUTPUTS
        return "signs" if not self.attrs.noisy or (self.only_relative and is_large) else "slope"


def _primal(call: _Call, operands: Operands[jax.Array]) -> list[jax.Array]:
    residual = "pre_noise" if call.return_pre_noise else "none"
    return _forward(call, operands, residual, keeps_ranges=False)[0]


def _forward(
    call: _Call, operands: Operands[jax.Array], residual: str, *, keeps_ranges: bool
) -> tuple[list[jax.Array], jax.Array, Operands[jax.Array]]:
    """What the caller gets, and what the backward pass does.

    That is the residual, or the output, and the operands, with `keeps_ranges` those with the ranges
    that the op found.
    """
    seen = operands
    if not call.attrs.noisy:
        # A seed that only the gradient draws from is no part of the forward program.
        seen = operands._replace(seed=jnp.zeros_like(operands.seed))
    finds_x, finds_w = (
        keeps_ranges and scale.shape[0] == 0
        for scale in (operands.x_full_scale, operands.w_full_scale)
    )
    with_x_peak = call.return_x_peak or finds_x
    if residual == "none" and not (call.return_peak or with_x_peak or finds_w):
        (out,) = ops.optical_matmul.op(call.attrs, seen)
        return [out], out, operands
    attrs = ops.optical_matmul_fwd.Attrs(
        **vars(call.attrs),
        residual=residual,
        with_peak=call.return_peak,
        with_x_peak=with_x_peak,
        with_w_peak=finds_w,
    )
    out, *others = ops.optical_matmul_fwd.op(attrs, seen)
    saved = out if residual == "none" else others.pop(0)
    peak = [others.pop(0)] if call.return_peak else []
    x_peak = [others.pop(0)] if with_x_peak else []
    if finds_x:
        operands = operands._replace(x_full_scale=jnp.max(x_peak[0], initial=0.0).reshape(1))
    if finds_w:
        operands = operands._replace(w_full_scale=others.pop(0))
    pre_noise = [saved] if call.return_pre_noise else []
    return [out, *pre_noise, *peak, *(x_peak if call.return_x_peak else [])], saved, operands


@dataclass(frozen=True)
class _Saved:
    """What is static in a gradient: the call, which gradients cost something, and the residual."""

    call: _Call
    inputs: bool
    ranges: bool
    residual: str


def _differentiated(call: _Call, operands: Operands[jax.Array], wanted: Operands[bool]) -> Forward:
    if call.grad_precision == "int8" and not call.has_key:
        raise ValueError(
            f'{_NAME}: the gradient with `grad_precision`="int8" needs a `key`, got None; '
            f"pass key=jax.random.key(seed) (to a layer: the stream `noise`), or take another "
            f"precision"
        )
    ranges = wanted.x_full_scale or wanted.w_full_scale or wanted.y_full_scale or wanted.noise
    size = operands.x.shape[0] * operands.w.shape[1]
    residual = call.residual(ranges=ranges, size=size)
    results, saved, operands = _forward(call, operands, residual, keeps_ranges=True)
    return Forward(results, _Saved(call, wanted.x, ranges, residual), (saved, operands))


def _gradient(
    of_op: Callable[[ops.optical_matmul_grad.Attrs, Any], Sequence[jax.Array]],
    static: _Saved,
    residuals: tuple[jax.Array, Operands[jax.Array]],
    g: jax.Array,
) -> Operands[jax.Array | None]:
    saved, operands = residuals
    call, chain = static.call, static.call.attrs
    match static.residual:
        case "slope":
            residual, chain = "slope", replace(chain, noisy=False, adc_bits=0)
        case "signs":
            residual, chain = "signs", replace(chain, adc_bits=0)
        case "none":
            # Without noise and ADC the arrays are one product.
            residual, chain = "pre_noise", replace(chain, array_rows=0)
        case _:
            residual = "pre_noise"
    attrs = ops.optical_matmul_grad.Attrs(
        **vars(chain),
        residual=residual,
        grad_precision=call.grad_precision,
        with_inputs=static.inputs,
        with_ranges=static.ranges,
    )
    forward = operands._asdict()
    del forward["bias"]
    if call.grad_precision == "int8" and not call.attrs.noisy:
        forward["rows"], forward["columns"] = (ids(extent) for extent in saved.shape)
    inputs = ops.optical_matmul_grad.Operands(g=g, saved=saved, **forward)
    gradients = ops.optical_matmul_grad.Gradients(*of_op(attrs, inputs))
    by_operand = {
        name: gradient_of(getattr(operands, name), gradient)
        for name, gradient in gradients._asdict().items()
    }
    return Operands(**by_operand, seed=None, rows=None, columns=None)


def _definition(
    attrs: ops.optical_matmul_grad.Attrs, operands: ops.optical_matmul_grad.Operands[jax.Array]
) -> Sequence[jax.Array]:
    op = ops.optical_matmul_grad.op
    return op.reference(op.smooth(attrs), operands)


_differentiable = differentiable(
    Rule[_Call, Operands[Any]](
        name=_NAME,
        primal=_primal,
        forward=_differentiated,
        gradient=functools.partial(_gradient, ops.optical_matmul_grad.op),
        definition=functools.partial(_gradient, _definition),
    )
)
