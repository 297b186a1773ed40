"""What the differentiable functions of the signal chain share: all but what is multiplied."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._arguments import complex_array, float32, magnitude
from .._signal_chain import DeviceAttrs
from ..hardware.crosstalk import in_light
from ..hardware.noise import NoiseModel, is_known_zero, is_quiet
from ..hardware.profiles import HardwareProfile, profile_of
from ..ops import OPS, OpDef
from ..ops._complex import floats
from ..ops._op import vary_together
from ..ops.quantize import absmax
from ..spec import OpticalSpec, op_array_rows, op_bits
from ._derivative import Forward, Rule, differentiable
from ._operands import counted_from, gradient_of, ids, row_id, row_ids, seed_words

_MANY_OUTPUTS = 1 << 20
"""Outputs whose slope no cache of a core holds."""


@dataclass(frozen=True)
class Device:
    """What a public function is told of the hardware."""

    profile: HardwareProfile | None
    spec: OpticalSpec
    noise: NoiseModel | None

    def in_light(self, w: jax.Array) -> tuple[jax.Array, OpticalSpec]:
        """What it multiplies by, of w f32[k, n], and the converters that are left to do."""
        if self.profile is None:
            return w, self.spec
        path, crosstalk = self.profile.path, self.profile.crosstalk
        return in_light(w, path.transmission, crosstalk, self.spec)


def device_of(op: str, profile: Any, spec: Any, noise: Any) -> Device:
    """The device of `profile`, whose bits and noise `spec` and `noise` stand in for.

    Noise that is known to be 0 is none.

    Raises:
        TypeError: there is no spec, or `noise` is no NoiseModel.
    """
    if profile is not None:
        profile = profile_of(op, profile)
        spec = profile.spec if spec is None else spec
        noise = profile.noise if noise is None else noise
    if not isinstance(spec, OpticalSpec):
        cure = "; pass one, or a `profile`" if spec is None else ""
        raise TypeError(f"{op}: `spec` must be an OpticalSpec, got {type(spec).__name__}{cure}")
    if not (noise is None or isinstance(noise, NoiseModel)):
        raise TypeError(f"{op}: `noise` must be a NoiseModel, got {type(noise).__name__}")
    return Device(profile, spec, None if noise is None or is_quiet(noise) else noise)


@dataclass(frozen=True)
class Wanted:
    """What is returned beside the output."""

    pre_noise: bool
    peak: bool
    x_peak: bool


def run(
    op: str,
    attrs: Callable[..., DeviceAttrs],
    x: jax.Array,
    w: jax.Array,
    bias: Any,
    *,
    outer: tuple[Any, ...],
    places: tuple[Any, ...] = (),
    spec: OpticalSpec,
    noise: NoiseModel | None,
    key: Any,
    first_row: Any,
    x_full_scale: Any,
    w_full_scale: Any,
    y_full_scale: Any,
    wanted: Wanted,
) -> list[jax.Array]:
    """The results of the op of that name, differentiable: the output, and what is wanted beside it.

    Args:
        op: name of the op of files; those of training and of the gradient begin with it.
        attrs: makes its attributes of the converters' and of `noisy`.
        x: the first operand, with `outer` as one axis.
        w: the second operand; the last axis are the columns.
        bias: f32[n], or None.
        outer: extents for which x may have a full scale each.
        places: extents of the output between `outer` and the columns.
        spec, noise, key, first_row, x_full_scale, w_full_scale, y_full_scale: as in
            `optical_matmul`.
        wanted: what is returned.
    """
    static = attrs(
        dac_bits=op_bits(spec.dac_bits),
        weight_bits=op_bits(spec.weight_bits),
        adc_bits=op_bits(spec.adc_bits),
        noisy=noise is not None,
        array_rows=op_array_rows(spec.array_rows, math.prod(w.shape[:-1])),
    )
    shape = (math.prod(outer), *places, w.shape[-1])
    size = math.prod(shape)
    call = _Call(
        op=op,
        attrs=static,
        is_complex=jnp.iscomplexobj(w),
        weight_noise=not _is_known_to_lack(noise, "weight"),
        only_relative=_is_known_to_lack(noise, "thermal", "shot", "weight"),
        is_large=isinstance(size, int) and size >= _MANY_OUTPUTS,
        wanted=wanted,
        grad_precision=spec.grad_precision,
        has_key=key is not None,
    )
    if static.adc_bits and y_full_scale is None:
        raise ValueError(
            f"{op}: `adc_bits`={spec.adc_bits} needs `y_full_scale`, got None; pass the range "
            f"of the ADC, a scalar or f32[n], or adc_bits=None"
        )

    if noise is not None and noise.unit == "full_scale":
        if y_full_scale is None:
            raise ValueError(
                f"{op}: `noise` is in parts of the full scale of the ADC and needs "
                f"`y_full_scale`, got None; pass that range, or noise=noise.to_signal(range)"
            )
        if jnp.ndim(y_full_scale) == 1:
            return _with_noise_by_column(
                op, attrs, x, w, bias, y_full_scale, w_full_scale, wanted, outer=outer,
                places=places, spec=spec, x_full_scale=x_full_scale, noise=noise, key=key,
                first_row=first_row,
            )  # fmt: skip
        noise = noise.to_signal(magnitude(op, "y_full_scale", y_full_scale))

    m, *_, n = shape
    # The op finds a range that it is not given.
    found, off = jnp.zeros(0, np.float32), jnp.ones(1, np.float32)
    if x_full_scale is None:
        x_range = found if static.dac_bits else off
    else:
        x_range = _range(op, "x_full_scale", x_full_scale, outer, m)
    if w_full_scale is None:
        w_range = found if static.weight_bits else off
    else:
        w_range = _range(op, "w_full_scale", w_full_scale, (n,), n)
    y_range = off if y_full_scale is None else _range(op, "y_full_scale", y_full_scale, (n,), n)
    operands = OPS[op].operands(
        x,
        w,
        jnp.zeros(1, w.dtype) if bias is None else _bias(op, bias, w),
        x_full_scale=x_range,
        w_full_scale=w_range,
        y_full_scale=y_range,
        **_noise_operands(call, noise, key, shape, row_id(op, first_row)),
    )
    out, *others = _differentiable(op)(call, vary_together(operands))
    return [out, *map(jax.lax.stop_gradient, others)]


def _with_noise_by_column(
    op: str,
    attrs: Callable[..., DeviceAttrs],
    x: jax.Array,
    w: jax.Array,
    bias: Any,
    y_full_scale: Any,
    w_full_scale: Any,
    wanted: Wanted,
    **chain: Any,
) -> list[jax.Array]:
    """The op where every column has noise on the scale of its own ADC.

    σ is the same number for all columns once each is counted in parts of its full scale, so the
    columns are brought to one full scale by their weights, and back afterwards.
    """
    n = w.shape[-1]
    full_scale = _range(op, "y_full_scale", y_full_scale, (n,), n)
    largest = jax.lax.stop_gradient(full_scale.max(initial=0.0))
    lit = full_scale > 0
    share = jnp.where(lit, full_scale / jnp.where(largest > 0, largest, 1.0), 1.0)
    out, *others = run(
        op,
        attrs,
        x,
        w / share.astype(w.dtype).reshape((1,) * (w.ndim - 1) + (n,)),
        None if bias is None else _bias(op, bias, w) / share.astype(w.dtype),
        w_full_scale=None if w_full_scale is None else w_full_scale / share,
        y_full_scale=largest,
        wanted=Wanted(wanted.pre_noise or wanted.peak, peak=False, x_peak=wanted.x_peak),
        **chain,
    )
    by_column = (1,) * (out.ndim - 1) + (n,)
    out = jnp.where(lit, share, 0.0).astype(out.dtype).reshape(by_column) * out
    of_y: list[jax.Array] = []
    if wanted.pre_noise or wanted.peak:
        y = others.pop(0)
        y = jax.lax.stop_gradient(share.astype(y.dtype).reshape((1,) * (y.ndim - 1) + (n,)) * y)
        # The peak is that of the columns in their own units.
        by_row = floats(y.reshape(y.shape[0], math.prod(y.shape[1:])))
        of_y = [*([y] if wanted.pre_noise else []), *([absmax(by_row, 1)] if wanted.peak else [])]
    return [out, *of_y, *others]


def _is_known_to_lack(noise: NoiseModel | None, *names: str) -> bool:
    return all(is_known_zero(getattr(noise, name, 0)) for name in names)


def _bias(op: str, bias: Any, w: jax.Array) -> jax.Array:
    n = w.shape[-1]
    bias = (complex_array if jnp.iscomplexobj(w) else float32)(op, "bias", bias)
    if bias.shape != (n,):
        raise ValueError(f"{op}: `bias` has shape {bias.shape}, expected (n,) with n = {n}")
    return bias


def _range(op: str, name: str, value: Any, shape: tuple[Any, ...], extent: Any) -> jax.Array:
    full_scale = magnitude(op, name, value)
    if full_scale.ndim == 0:
        return full_scale.reshape(1)
    if full_scale.shape != shape:
        raise ValueError(
            f"{op}: `{name}` has shape {full_scale.shape}, expected a scalar or {shape}"
        )
    return full_scale.reshape(extent)


def _noise_operands(
    call: _Call,
    noise: NoiseModel | None,
    key: Any,
    shape: tuple[Any, ...],
    first_row: jax.Array | None,
) -> dict[str, jax.Array]:
    """Operands from noise to columns, for an output of that shape."""
    if noise is None:
        # The gradient alone may draw: it makes the ids when it does.
        draws = call.grad_precision == "int8" and call.has_key
        return {
            "noise": jnp.zeros((1, 4), np.float32),
            "seed": seed_words(call.op, key) if draws else jnp.zeros((1, 2), np.uint32),
            "rows": counted_from(first_row, jnp.zeros(1, np.uint32)),
            "columns": jnp.zeros(1, np.uint32),
        }
    if key is None:
        raise ValueError(
            f"{call.op}: `noise` needs a `key`, got None; pass key=jax.random.key(seed), "
            f"or noise=NoiseModel() for a quiet device"
        )
    parameters = []
    for name in ("thermal", "shot", "relative", "weight"):
        parameter = magnitude(call.op, f"noise.{name}", getattr(noise, name))
        if parameter.shape != ():
            raise ValueError(
                f"{call.op}: `noise.{name}` has shape {parameter.shape}, expected a scalar"
            )
        parameters.append(parameter)
    return {
        "noise": jnp.stack(parameters).reshape(1, 4),
        "seed": seed_words(call.op, key),
        "rows": row_ids(shape, first_row),
        "columns": ids(shape[-1]),
    }


@dataclass(frozen=True)
class _Call:
    """What is static in a call."""

    op: str
    """Name of the op of files."""
    attrs: DeviceAttrs
    """What the op and its gradient share."""
    is_complex: bool
    """Whether numbers are."""
    weight_noise: bool
    """False where it is known when tracing that there is none."""
    only_relative: bool
    """Whether it is known when tracing that there is no noise but the relative one."""
    is_large: bool
    """Whether no cache of a core holds the slopes of the outputs."""
    wanted: Wanted
    grad_precision: str
    has_key: bool

    def residual(self, *, ranges: bool) -> str:
        """What the forward op saves, with or without gradients of `ranges`."""
        if self.wanted.pre_noise:
            return "pre_noise"
        if not (self.attrs.noisy or self.attrs.adc_bits):
            # The output is what the backward pass needs to know of y.
            return "none"
        # Ranges, noise and the norm of x take other factors from y than its slope, and a part of a
        # complex number has none.
        if ranges or self.weight_noise or self.is_complex:
            return "pre_noise"
        # A slope that no cache holds is written and read as slowly as ε is drawn again.
        signs = not self.attrs.noisy or (self.only_relative and self.is_large)
        return "signs" if signs else "slope"


def _primal(call: _Call, operands: Any) -> list[jax.Array]:
    residual = "pre_noise" if call.wanted.pre_noise else "none"
    return _forward(call, operands, residual, keeps_ranges=False)[0]


def _forward(
    call: _Call, operands: Any, residual: str, *, keeps_ranges: bool
) -> tuple[list[jax.Array], jax.Array, Any]:
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
    with_x_peak = call.wanted.x_peak or finds_x
    if residual == "none" and not (call.wanted.peak or with_x_peak or finds_w):
        (out,) = OPS[call.op](call.attrs, seen)
        return [out], out, operands
    training = OPS[f"{call.op}_fwd"]
    attrs = training.attrs(
        **vars(call.attrs),
        residual=residual,
        with_peak=call.wanted.peak,
        with_x_peak=with_x_peak,
        with_w_peak=finds_w,
    )
    out, *others = training(attrs, seen)
    saved = out if residual == "none" else others.pop(0)
    peak = [others.pop(0)] if call.wanted.peak else []
    x_peak = [others.pop(0)] if with_x_peak else []
    if finds_x:
        operands = operands._replace(x_full_scale=jnp.max(x_peak[0], initial=0.0).reshape(1))
    if finds_w:
        operands = operands._replace(w_full_scale=others.pop(0))
    pre_noise = [saved] if call.wanted.pre_noise else []
    return [out, *pre_noise, *peak, *(x_peak if call.wanted.x_peak else [])], saved, operands


@dataclass(frozen=True)
class _Saved:
    """What is static in a gradient: the call, which gradients cost something, and the residual."""

    call: _Call
    inputs: bool
    ranges: bool
    residual: str


def _differentiated(call: _Call, operands: Any, wanted: Any) -> Forward:
    if call.grad_precision == "int8" and not call.has_key:
        raise ValueError(
            f'{call.op}: the gradient with `grad_precision`="int8" needs a `key`, got None; '
            f"pass key=jax.random.key(seed) (to a layer: the stream `noise`), or take another "
            f"precision"
        )
    ranges = wanted.x_full_scale or wanted.w_full_scale or wanted.y_full_scale or wanted.noise
    residual = call.residual(ranges=ranges)
    results, saved, operands = _forward(call, operands, residual, keeps_ranges=True)
    return Forward(results, _Saved(call, wanted.x, ranges, residual), (saved, operands))


def _gradient(
    of_op: Callable[[OpDef[Any, Any], Any, Any], Sequence[jax.Array]],
    static: _Saved,
    residuals: tuple[jax.Array, Any],
    g: jax.Array,
) -> Any:
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
    op = OPS[f"{call.op}_grad"]
    attrs = op.attrs(
        **vars(chain),
        residual=residual,
        grad_precision=call.grad_precision,
        with_inputs=static.inputs,
        with_ranges=static.ranges,
    )
    forward = operands._asdict()
    del forward["bias"]
    if call.grad_precision == "int8" and not call.attrs.noisy:
        # The one id is that of the first row.
        forward["rows"] = row_ids(g.shape, operands.rows)
        forward["columns"] = ids(g.shape[-1])
    # A cotangent of JAX is the conjugate of the derivatives by both parts.
    upstream = op.operands(g=_conjugate(g), saved=saved, **forward)
    gradients = map(_conjugate, of_op(op, attrs, upstream))
    # Those of the operands up to the noise; seed and ids have none.
    by_operand = [
        gradient_of(o, gradient) for o, gradient in zip(operands, gradients, strict=False)
    ]
    return type(operands)(*by_operand, seed=None, rows=None, columns=None)


def _conjugate(numbers: jax.Array) -> jax.Array:
    return jnp.conj(numbers) if jnp.iscomplexobj(numbers) else numbers


def _by_kernel(op: OpDef[Any, Any], attrs: Any, operands: Any) -> Sequence[jax.Array]:
    return op(attrs, operands)


def _by_definition(op: OpDef[Any, Any], attrs: Any, operands: Any) -> Sequence[jax.Array]:
    return op.reference(op.smooth(attrs), operands)


@functools.cache
def _differentiable(op: str) -> Callable[[_Call, Any], list[jax.Array]]:
    return differentiable(
        Rule[_Call, Any](
            name=op,
            primal=_primal,
            forward=_differentiated,
            gradient=functools.partial(_gradient, _by_kernel),
            definition=functools.partial(_gradient, _by_definition),
        )
    )
