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

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from . import _gradient_products, optical_noise, quantize
from ._op import define
from ._partition import Axes
from ._signature import Signature, f32
from .optical_matmul import chain_operands, residuals, slope_of_signs, slopes, variance


def _signature(
    *,
    dac_bits: int,
    weight_bits: int,
    adc_bits: int,
    transpose_weight: bool,
    noisy: bool,
    residual: str,
    grad_precision: str,
    with_inputs: bool,
    with_ranges: bool,
) -> Signature:
    del dac_bits, weight_bits, with_inputs
    if residual == "none":
        raise ValueError(
            "optical_matmul_grad: `residual` must be pre_noise, slope or signs, got none"
        )
    (saved,) = residuals("optical_matmul_grad", residual)
    if residual != "pre_noise":
        for name, got, expected in (
            ("noisy", noisy and residual == "slope", False),
            ("adc_bits", adc_bits, 0),
            ("with_ranges", with_ranges, False),
        ):
            if got != expected:
                raise ValueError(
                    f'optical_matmul_grad: with `residual`="{residual}" `{name}` must be '
                    f"{expected}, got {got}"
                )
    w = f32("n", "k") if transpose_weight else f32("k", "n")
    return Signature(
        {"g": f32("m", "n"), "saved": saved, "x": f32("m", "k"), "w": w,
         **chain_operands(draws=noisy or grad_precision == "int8")},
        (f32("m", "k"), w, f32("n"), f32("m"), f32("n"), f32("n"), f32("m", 4)),
        # σ holds ‖x_q‖², which no shard of the depth knows.
        whole=frozenset("k") if noisy and residual == "pre_noise" else frozenset(),
    )  # fmt: skip


def _reference(
    g: jax.Array,
    saved: jax.Array,
    x: jax.Array,
    w: jax.Array,
    x_full_scale: jax.Array,
    w_full_scale: jax.Array,
    y_full_scale: jax.Array,
    noise: jax.Array,
    seed: jax.Array,
    rows: jax.Array,
    columns: jax.Array,
    *,
    dac_bits: int,
    weight_bits: int,
    adc_bits: int,
    transpose_weight: bool,
    noisy: bool,
    residual: str,
    grad_precision: str,
    with_inputs: bool,
    with_ranges: bool,
) -> list[jax.Array]:
    w = w.T if transpose_weight else w
    x_range, w_range = x_full_scale[:, None], w_full_scale[None, :]
    x_factor = _gradient_products.factor(x, x_range, dac_bits)
    w_factor = _gradient_products.factor(w, w_range, weight_bits)
    x_q = x_factor.value
    x_norm_sq = jnp.sum(x_q * x_q, axis=1, keepdims=True)
    thermal, shot, relative, weight = (noise[:, i : i + 1] for i in range(4))

    dx_by_weight_noise = np.float32(0)
    dnoise = jnp.zeros((g.shape[0], 4), np.float32)
    if residual == "slope":
        slope, y_by_full_scale = saved, jnp.zeros_like(g)
    elif residual == "signs":
        eps = optical_noise.normals(seed, rows, columns) if noisy else None
        slope, y_by_full_scale = slope_of_signs(saved, eps, noise), jnp.zeros_like(g)
    else:
        sigma = eps = None
        if noisy:
            sigma = jnp.sqrt(variance(saved, x_norm_sq, noise))
            eps = optical_noise.normals(seed, rows, columns)
        slope, noise_cotangent, y_by_full_scale = slopes(
            saved, sigma, eps, noise, y_full_scale, adc_bits
        )
        if noisy:
            noise_cotangent = g * noise_cotangent
            row_cotangent = jnp.sum(noise_cotangent, axis=1, keepdims=True)
            dx_by_weight_noise = x_q * (weight * weight) * row_cotangent
            by_parameter = [
                thermal * row_cotangent,
                shot * jnp.sum(noise_cotangent * jnp.abs(saved), axis=1, keepdims=True),
                relative * jnp.sum(noise_cotangent * saved * saved, axis=1, keepdims=True),
                weight * x_norm_sq * row_cotangent,
            ]
            dnoise = jnp.concatenate(by_parameter, axis=1)
    dz = g * slope

    match grad_precision:
        case "float32":
            dx_q, dw_q = _gradient_products.exact(dz, x_factor, w_factor)
        case "bfloat16":
            dx_q, dw_q = _gradient_products.bfloat16(dz, x_factor, w_factor)
        case "int8":
            dx_q, dw_q = _gradient_products.int8(dz, x_factor, w_factor, seed, rows, columns)
        case _:
            raise ValueError(f"optical_matmul_grad: unknown `grad_precision` {grad_precision!r}")
    dx_q = dx_q + dx_by_weight_noise
    x_slope, x_by_full_scale = quantize.slopes(x, x_range, dac_bits)
    w_slope, w_by_full_scale = quantize.slopes(w, w_range, weight_bits)
    dx, dw = dx_q * x_slope, dw_q * w_slope
    by_ranges = [
        _range_gradient(dx_q, x_by_full_scale, dac_bits, 1),
        _range_gradient(dw_q, w_by_full_scale, weight_bits, 0),
        _range_gradient(g, y_by_full_scale, adc_bits, 0),
        dnoise,
    ]
    return [
        dx if with_inputs else jnp.zeros_like(dx),
        dw.T if transpose_weight else dw,
        jnp.sum(dz, axis=0),
        *(by_ranges if with_ranges else map(jnp.zeros_like, by_ranges)),
    ]


def _range_gradient(
    upstream: jax.Array, by_full_scale: jax.Array, bits: int, axis: int
) -> jax.Array:
    # A converter that is off has no full scale, also where the gradient is NaN.
    terms = by_full_scale if quantize.is_off(bits) else upstream * by_full_scale
    return jnp.sum(terms, axis=axis)


def _local(axes: Axes, *operands: jax.Array, **attrs: int) -> list[jax.Array]:
    dx, dw, dbias, dx_range, dw_range, dy_range, dnoise = op(*operands, **attrs)
    m, n, k = (axes.get(name, ()) for name in "mnk")
    # Each gradient is a sum over the dimensions that it lacks.
    dx, dnoise = _sum_over(n, [dx, dnoise])
    (dx_range,) = _sum_over((*n, *k), [dx_range])
    if k:
        (dw_range,) = _sum_over((*m, *k), [dw_range])
        dw, dbias, dy_range = _sum_over(m, [dw, dbias, dy_range])
    else:
        dw, dbias, dw_range, dy_range = _sum_over(m, [dw, dbias, dw_range, dy_range])
    return [dx, dw, dbias, dx_range, dw_range, dy_range, dnoise]


def _sum_over(axes: tuple[str, ...], parts: Sequence[jax.Array]) -> Sequence[jax.Array]:
    """The sums of all parts over mesh axes, in one all-reduce."""
    if not axes:
        return parts
    flat = jax.lax.psum(jnp.concatenate([part.ravel() for part in parts]), axes)
    ends = np.cumsum([part.size for part in parts])[:-1]
    pieces = jnp.split(flat, ends)
    return [piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True)]


op = define("optical_matmul_grad", signature=_signature, reference=_reference, local=_local)
