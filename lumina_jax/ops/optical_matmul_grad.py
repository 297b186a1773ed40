"""The gradient of the signal chain, straight through the converters and through the noise.

With y the output before noise, y' after it, and [·] the mask of a converter (1 within its full
scale, 0 beyond it):

    cotangent  = g · [y'] · ε/σ, that of the noise                    0 where σ = 0
    dz         = g · [y'] + cotangent · (shot²·sign(y)/2 + relative²·y)
    dx_q       = dz · w_qᵀ + x_q · weight² · Σ_n cotangent            dx = dx_q · [x]
    dw_q       = x_qᵀ · dz          dw = dw_q · [w]                   dbias = Σ_m dz
    dthermal   = thermal · Σ_n cotangent
    dshot      = shot · Σ_n cotangent·|y|
    drelative  = relative · Σ_n cotangent·y²
    dweight    = weight · ‖x_q‖² · Σ_n cotangent

and the gradient of a full scale is the sum of the upstream gradient times the second slope of
`quantize.slopes`. Gradients are per row or per column even where the operand was broadcast. An
output that is not finite makes its dz NaN.

The attribute `residual` says what the forward op has saved:

    pre_noise  y; ε is drawn again from the seed
    slope      ∂out/∂y, and dz = g · slope. Noise and ADC are in it, so `noisy` is False, `adc_bits`
               is 0, and what needs the cotangent of the noise, the gradients of ranges and noise,
               cannot be asked for.
               Nor is weight noise in dx.
    signs      what of the slope of relative noise cannot be drawn again; ε is, if `noisy`. As with
               the slope, the ADC is in it, and gradients of ranges and noise cannot be asked for.

The attribute `grad_precision` says how the products dz · w_qᵀ and x_qᵀ · dz are computed; all else
is float32. Where a converter has at most 8 bits its values are integer codes times a step, and the
step goes to dz:

    for dx_q:  t[m, n] = dz[m, n] · w_step[n]       f[n, k] = w_code[k, n]
    for dw_q:  t[m, n] = dz[m, n] · x_step[m]       f[k, m] = x_code[m, k]

Otherwise t is dz, and f is w_q or x_q.

    float32    dx_q = dz · w_qᵀ        dw_q = x_qᵀ · dz
    bfloat16   t and f rounded to bfloat16, half to even, and their products summed in float32
    int8       t rounded stochastically to 8-bit codes q, and q · f summed as integers in i32 where
               f is codes (for dx_q, while that sum is sure to fit), as float32 where it is not:

        q = clamp(floor(t · 127 / max|t| + u), -127, 127)       scale = max|t| / 127
        dx_q[m, k] = scale[m] · Σ_n q[m, n] · f[n, k]               max over the row m
        dw_q[k, n] = Σ_b scale[b, n] · Σ_(m in b) f[k, m] · q[m, n]     max over block b, column n

    A block is 256 consecutive rows of the call: 0 … 255, 256 … 511, and so on. A scale of 0, or
    one that float32 rounds to 0, has codes 0; the scale of a row or block that holds NaN or inf is
    NaN. u = (bits + ½) / 2¹⁶ has 16 bits of one random word for each element: the upper ones for
    dx_q, the lower for dw_q. The word is that of `optical_noise.words` for the ids of the element
    and the seed ^ 0xD1B54A32D192ED03.

    The expectation of q · scale is t, so "int8" has no bias. Over a mesh every shard has scales and
    blocks of its own: the law is the same, the bits are not.

`with_inputs` asks for dx, `with_ranges` for the gradients of the full scales and of the noise; what
is not asked for is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from . import _gradient_products, _tiles, optical_matmul_fwd, optical_noise, quantize
from ._chain import ChainAttrs, Signal, operand_types, parameters, root, sigma, x_norm
from ._op import define
from ._partition import Axes, sum_over
from ._signature import Signature, tensor

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Attrs(ChainAttrs):
    """Attributes of the op."""

    residual: str
    grad_precision: str
    with_inputs: bool
    with_ranges: bool


class Operands(NamedTuple, Generic[T]):
    """The gradient of the output, what the forward op saved, and its operands but for the bias."""

    g: T
    """f32[m, n]"""
    saved: T
    """f32[m, n], i8[m, n] for signs; [m, t, n] of each array where `array_rows` limits them."""
    x: T
    w: T
    x_full_scale: T
    w_full_scale: T
    y_full_scale: T
    noise: T
    seed: T
    rows: T
    columns: T


class Gradients(NamedTuple, Generic[T]):
    """The results: gradients by the forward operands of these names."""

    x: T
    """f32[m, k]"""
    w: T
    """f32[k, n]; [n, k] with `transpose_weight`."""
    bias: T
    """f32[n]"""
    x_full_scale: T
    """f32[m]"""
    w_full_scale: T
    """f32[n]"""
    y_full_scale: T
    """f32[n]"""
    noise: T
    """f32[m, 4]"""


def check_residual(op: str, attrs: Attrs) -> None:
    """Raises ValueError where what is asked for is not to be had of the residual."""
    residual = attrs.residual
    if residual == "none":
        raise ValueError(f"{op}: `residual` must be pre_noise, slope or signs, got none")
    if residual != "pre_noise":
        for argument, got, expected in (
            ("noisy", attrs.noisy and residual == "slope", False),
            ("adc_bits", attrs.adc_bits, 0),
            ("with_ranges", attrs.with_ranges, False),
        ):
            if got != expected:
                raise ValueError(
                    f'{op}: with `residual`="{residual}" `{argument}` must be {expected}, got {got}'
                )


def _signature(attrs: Attrs) -> Signature:
    name, residual = "optical_matmul_grad", attrs.residual
    check_residual(name, attrs)
    (saved,) = optical_matmul_fwd.residual_types(name, residual, attrs)
    draws = attrs.noisy or attrs.grad_precision == "int8"
    # The full scales that the forward op found are given.
    given = {"x_full_scale": tensor("f32", "m?"), "w_full_scale": tensor("f32", "n?")}
    forward = {**operand_types(attrs, draws=draws)._asdict(), **given}
    del forward["bias"]
    gradients = Gradients(
        x=forward["x"],
        w=forward["w"],
        bias=tensor("f32", "n"),
        x_full_scale=tensor("f32", "m"),
        w_full_scale=tensor("f32", "n"),
        y_full_scale=tensor("f32", "n"),
        noise=tensor("f32", "m", 4),
    )
    return Signature(
        Operands(g=tensor("f32", "m", "n"), saved=saved, **forward),
        gradients,
        # σ holds ‖x_q‖², which no shard of the depth knows.
        whole=frozenset("k") if attrs.noisy and residual == "pre_noise" else frozenset(),
        derived=_tiles.derived(attrs),
    )


def _reference(attrs: Attrs, operands: Operands[jax.Array]) -> Gradients[jax.Array]:
    return gradients(attrs, operands, _at_output)


def gradients(
    attrs: Attrs, operands: Operands[jax.Array], of_output: OfOutput
) -> Gradients[jax.Array]:
    """The gradients in jnp."""
    if not attrs.array_rows:
        return _of_array(attrs, operands, of_output)
    of_tile = _tiles.of_one_array(attrs)
    parts = [
        _of_array(
            of_tile,
            operands._replace(
                saved=operands.saved[:, tile],
                x=operands.x[:, inputs],
                w=_tiles.weights_of(attrs, operands.w, inputs),
                seed=optical_noise.seed_of_part(operands.seed, tile),
            ),
            of_output,
        )
        for tile, inputs in enumerate(_tiles.inputs_of_tiles(attrs, operands.x.shape[1]))
    ]
    first, *others = (part._asdict() for part in parts)
    # The bias enters the first array alone.
    summed = ("x_full_scale", "w_full_scale", "y_full_scale", "noise")
    return parts[0]._replace(
        x=jnp.concatenate([part.x for part in parts], axis=1),
        w=jnp.concatenate([part.w for part in parts], axis=int(attrs.transpose_weight)),
        **{name: sum((part[name] for part in others), first[name]) for name in summed},
    )


def _of_array(
    attrs: Attrs, operands: Operands[jax.Array], of_output: OfOutput
) -> Gradients[jax.Array]:
    g = operands.g
    x, w = operands.x, operands.w.T if attrs.transpose_weight else operands.w
    x_range, w_range = operands.x_full_scale[:, None], operands.w_full_scale[None, :]
    x_factor = _gradient_products.factor(x, x_range, attrs.dac_bits)
    w_factor = _gradient_products.factor(w, w_range, attrs.weight_bits)
    at_output = of_output(attrs, operands, x_factor.value)
    dz = at_output.dz

    match attrs.grad_precision:
        case "float32":
            dx_q, dw_q = _gradient_products.exact(dz, x_factor, w_factor)
        case "bfloat16":
            dx_q, dw_q = _gradient_products.bfloat16(dz, x_factor, w_factor)
        case "int8":
            ids = (operands.seed, operands.rows, operands.columns)
            dx_q, dw_q = _gradient_products.int8(dz, x_factor, w_factor, *ids)
        case other:
            raise ValueError(f"optical_matmul_grad: unknown `grad_precision` {other!r}")
    dx_q = dx_q + at_output.dx_by_weight_noise
    by_x = quantize.slopes(x, x_range, attrs.dac_bits)
    by_w = quantize.slopes(w, w_range, attrs.weight_bits)
    dx, dw = dx_q * by_x[0], dw_q * by_w[0]
    all_of_them = Gradients(
        x=dx if attrs.with_inputs else jnp.zeros_like(dx),
        w=dw.T if attrs.transpose_weight else dw,
        bias=jnp.sum(dz, axis=0),
        x_full_scale=_range_gradient(dx_q, by_x[1], attrs.dac_bits, 1),
        w_full_scale=_range_gradient(dw_q, by_w[1], attrs.weight_bits, 0),
        y_full_scale=_range_gradient(g, at_output.by_full_scale, attrs.adc_bits, 0),
        noise=at_output.dnoise,
    )
    if attrs.with_ranges:
        return all_of_them
    ranges = ("x_full_scale", "w_full_scale", "y_full_scale", "noise")
    zeros = {name: jnp.zeros_like(getattr(all_of_them, name)) for name in ranges}
    return all_of_them._replace(**zeros)


class AtOutput(NamedTuple):
    """What the gradient takes from the output stage: bias, noise and ADC."""

    dz: jax.Array
    """f32[m, n]"""
    by_full_scale: jax.Array
    """∂out/∂y_full_scale"""
    dx_by_weight_noise: jax.Array
    """f32[m, k]"""
    dnoise: jax.Array
    """f32[m, 4]"""


OfOutput = Callable[[Attrs, Operands[jax.Array], jax.Array], AtOutput]
"""What the output stage gives of attributes, operands and x_q."""


def _at_output(attrs: Attrs, operands: Operands[jax.Array], x_q: jax.Array) -> AtOutput:
    saved, noise = operands.saved, operands.noise
    no_noise = jnp.zeros((x_q.shape[0], 4), np.float32)
    nothing = jnp.zeros_like(operands.g), jnp.zeros_like(x_q), no_noise
    eps = None
    if attrs.noisy:
        eps = optical_noise.normals(operands.seed, operands.rows, operands.columns)
    if attrs.residual == "slope":
        return AtOutput(operands.g * saved, *nothing)
    if attrs.residual == "signs":
        slope = optical_matmul_fwd.slope_of_signs(saved, eps, noise)
        return AtOutput(operands.g * slope, *nothing)
    y, norm = saved, x_norm(x_q)
    at_adc = Signal(y, sigma(y, norm, noise) if attrs.noisy else None, eps)
    slopes = optical_matmul_fwd.slopes(at_adc, noise, operands.y_full_scale, attrs.adc_bits)
    if not attrs.noisy:
        return AtOutput(operands.g * slopes.y, slopes.y_full_scale, *nothing[1:])
    thermal, shot, relative, weight = parameters(noise)
    noise_cotangent = operands.g * slopes.noise
    by_row = jnp.sum(noise_cotangent, axis=1, keepdims=True)
    root_y = root(y)
    # In this order no square leaves the range of f32.
    by_shot = noise_cotangent * root_y * (shot * root_y)
    by_relative = noise_cotangent * y * (relative * y)
    by_parameter = [
        thermal * by_row,
        jnp.sum(by_shot, axis=1, keepdims=True),
        jnp.sum(by_relative, axis=1, keepdims=True),
        weight * norm * (norm * by_row),
    ]
    return AtOutput(
        operands.g * slopes.y,
        slopes.y_full_scale,
        x_q * (weight * (weight * by_row)),
        jnp.concatenate(by_parameter, axis=1),
    )


def _range_gradient(
    upstream: jax.Array, by_full_scale: jax.Array, bits: int, axis: int
) -> jax.Array:
    # A converter that is off has no full scale, also where the gradient is NaN.
    terms = by_full_scale if quantize.is_off(bits) else upstream * by_full_scale
    return jnp.sum(terms, axis=axis)


def _local(axes: Axes, attrs: Attrs, operands: Operands[jax.Array]) -> Gradients[jax.Array]:
    return sum_of_shards(axes, Gradients(*op(attrs, operands)))


def sum_of_shards(axes: Axes, of_shard: Gradients[jax.Array]) -> Gradients[jax.Array]:
    """The gradients of the whole, from those of a shard."""
    m, n, k = (axes.get(name, ()) for name in "mnk")
    # Each gradient is a sum over the dimensions that it lacks.
    groups = [
        (n, ["x", "noise"]),
        ((*n, *k), ["x_full_scale"]),
        ((*m, *k), ["w_full_scale"] if k else []),
        (m, ["w", "bias", "y_full_scale", *([] if k else ["w_full_scale"])]),
    ]
    sums = of_shard._asdict()
    for over, names in groups:
        sums |= sum_over(over, {name: sums[name] for name in names})
    return Gradients(**sums)


op = define(
    "optical_matmul_grad",
    attrs=Attrs,
    operands=Operands,
    signature=_signature,
    reference=_reference,
    local=_local,
    # The expectation of what is rounded is what is not.
    smooth=lambda attrs: replace(attrs, grad_precision="float32"),
)
