"""The whole signal chain: convert, multiply, add bias and noise, convert back.

    x_q = DAC(x)        w_q = DAC(w)        y = x_q · w_q + bias
    σ²  = thermal² + shot²·|y| + relative²·y² + weight²·‖x_q‖²        out = ADC(y + σ·ε)

Where both DACs have at most 8 bits the products are summed as integers, and so exactly.

`residual` says what else there is for the backward pass: "none", or "pre_noise": y, or "slope",
which is ∂out/∂y, straight through the ADC and through the noise:

    slope = [y'] · (1 + ε·(shot²·sign(y)/2 + relative²·y)/σ)        y' = y + σ·ε

with [y'] the mask of the ADC, 1 within its full scale and 0 beyond it. The term of ε is 0 where
σ = 0, and the slope is NaN where y' is not finite or its converted value is NaN.

Where relative noise is all there is, the slope is [y'] · (1 + ε·relative·sign(y)). "signs" is what
of it cannot be drawn again, in a quarter of the memory: i8[m, n], 0 where [y'] is 0, -128 where the
slope is NaN, and else sign(y), with 2 for y = 0.

`with_peak` asks for the largest finite |y| of each row too, f32[m], 0 where there is none.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import optical_noise, quantize
from ._op import Matmul, define
from ._partition import Axes
from ._signature import Signature, Tensor, f32, i8, u32


def chain_operands(*, draws: bool) -> dict[str, Tensor]:
    """Operands of the chain behind `w` and `bias`, the same forward and backward.

    Where the op draws no random numbers, the ids are not looked at.
    """
    return {
        "x_full_scale": f32("m?"),
        "w_full_scale": f32("n?"),
        "y_full_scale": f32("n?"),
        "noise": f32("m?", 4),
        "seed": u32("m?", 2),
        "rows": u32("m" if draws else "m?"),
        "columns": u32("n" if draws else "n?"),
    }


def residuals(op: str, residual: str) -> tuple[Tensor, ...]:
    """What the forward op saves: one tensor, or nothing."""
    match residual:
        case "none":
            return ()
        case "pre_noise" | "slope":
            return (f32("m", "n"),)
        case "signs":
            return (i8("m", "n"),)
        case _:
            raise ValueError(
                f"{op}: `residual` must be none, pre_noise, slope or signs, got {residual}"
            )


def variance(y: jax.Array, x_norm_sq: jax.Array, noise: jax.Array) -> jax.Array:
    """σ² f32[m, n] of y f32[m, n], x_norm_sq ‖x_q‖² f32[m, 1] and noise f32[1|m, 4]."""
    thermal, shot, relative, weight = (noise[:, i : i + 1] for i in range(4))
    quiet = thermal * thermal + shot * shot * jnp.abs(y)
    return quiet + relative * relative * (y * y) + weight * weight * x_norm_sq


def before_adc(y: jax.Array, sigma: jax.Array | None, eps: jax.Array | None) -> jax.Array:
    """`y + σ·ε`, NaN where that is not finite."""
    noisy = y if sigma is None or eps is None else y + sigma * eps
    return jnp.where(jnp.isfinite(noisy), noisy, np.float32(np.nan))


def slopes(
    y: jax.Array,
    sigma: jax.Array | None,
    eps: jax.Array | None,
    noise: jax.Array,
    y_full_scale: jax.Array,
    adc_bits: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`(∂out/∂y, [y'] · ε/σ, ∂out/∂y_full_scale)`, all f32[m, n].

    The first is the slope, and NaN where y' is not finite or its converted value is NaN. The second
    is 0 where σ = 0 and without noise.
    """
    before = before_adc(y, sigma, eps)
    inside, by_full_scale = quantize.slopes(before, y_full_scale[None, :], adc_bits)
    inside = jnp.where(jnp.isnan(before), np.float32(np.nan), inside)
    if sigma is None or eps is None:
        return inside, jnp.zeros_like(y), by_full_scale
    is_zero = sigma == 0
    noise_slope = inside * jnp.where(is_zero, np.float32(0), eps / jnp.where(is_zero, 1, sigma))
    shot, relative = noise[:, 1:2], noise[:, 2:3]
    by_y = shot * shot * jnp.sign(y) / 2 + relative * relative * y
    return inside + noise_slope * by_y, noise_slope, by_full_scale


def _signature(
    *,
    dac_bits: int,
    weight_bits: int,
    adc_bits: int,
    transpose_weight: bool,
    noisy: bool,
    residual: str,
    with_peak: bool,
) -> Signature:
    del dac_bits, weight_bits, adc_bits
    saved = residuals("optical_matmul", residual)
    return Signature(
        {
            "x": f32("m", "k"),
            "w": f32("n", "k") if transpose_weight else f32("k", "n"),
            "bias": f32("n?"),
            **chain_operands(draws=noisy),
        },
        (
            f32("m", "n"),
            *saved,
            *(f32("m"),) * with_peak,
        ),
    )


def _reference(
    x: jax.Array,
    w: jax.Array,
    bias: jax.Array,
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
    with_peak: bool,
) -> list[jax.Array]:
    w = w.T if transpose_weight else w
    x_range, w_range = x_full_scale[:, None], w_full_scale[None, :]
    x_q = quantize.quantized(x, x_range, dac_bits)
    if _is_integer(x.shape[1], dac_bits, weight_bits):
        product = _integer_product(x, w, x_range, w_range, dac_bits, weight_bits)
    else:
        w_q = quantize.quantized(w, w_range, weight_bits)
        product = jnp.matmul(x_q, w_q, precision=jax.lax.Precision.HIGHEST)
    y = product + bias[None, :]
    sigma = eps = None
    if noisy:
        sigma = jnp.sqrt(variance(y, jnp.sum(x_q * x_q, axis=1, keepdims=True), noise))
        eps = optical_noise.normals(seed, rows, columns)
    out = quantize.quantized(before_adc(y, sigma, eps), y_full_scale[None, :], adc_bits)
    saved = _residual(residual, y, sigma, eps, noise, y_full_scale, adc_bits)
    return [out, *saved, *([quantize.absmax(y, axis=1)] if with_peak else [])]


def _residual(
    residual: str,
    y: jax.Array,
    sigma: jax.Array | None,
    eps: jax.Array | None,
    noise: jax.Array,
    y_full_scale: jax.Array,
    adc_bits: int,
) -> list[jax.Array]:
    match residual:
        case "none":
            return []
        case "pre_noise":
            return [y]
        case "slope":
            return [slopes(y, sigma, eps, noise, y_full_scale, adc_bits)[0]]
        case _:
            before = before_adc(y, sigma, eps)
            inside = slopes(before, None, None, noise, y_full_scale, adc_bits)[0]
            signs = jnp.where(y == 0, _NO_SIGN, jnp.sign(y)) * inside
            return [jnp.where(jnp.isnan(signs), _NO_SLOPE, signs).astype(np.int8)]


_NO_SIGN = np.float32(2)
_NO_SLOPE = np.float32(-128)


def slope_of_signs(signs: jax.Array, eps: jax.Array | None, noise: jax.Array) -> jax.Array:
    """The slope f32[m, n] that signs i8[m, n] tell, of relative noise alone."""
    values = signs.astype(np.float32)
    sign = jnp.where(values == _NO_SIGN, np.float32(0), values)
    by_noise = np.float32(0) if eps is None else eps * jnp.abs(noise[:, 2:3]) * sign
    slope = jnp.where(values == 0, np.float32(0), 1 + by_noise)
    return jnp.where(values == _NO_SLOPE, np.float32(np.nan), slope)


def _is_integer(depth: int, dac_bits: int, weight_bits: int) -> bool:
    largest = quantize.largest_code(dac_bits) * quantize.largest_code(weight_bits)
    return 1 <= dac_bits <= 8 and 1 <= weight_bits <= 8 and depth * largest < 2**31


def _integer_product(
    x: jax.Array,
    w: jax.Array,
    x_range: jax.Array,
    w_range: jax.Array,
    dac_bits: int,
    weight_bits: int,
) -> jax.Array:
    def codes(v: jax.Array, full_scale: jax.Array, bits: int, axis: int) -> tuple[jax.Array, ...]:
        valid = jnp.isfinite(v) & (full_scale >= 0)
        code = jnp.where(valid, quantize.code(v, full_scale, bits), np.float32(0))
        return code.astype(np.int8), jnp.all(valid, axis=axis, keepdims=True)

    x_code, x_valid = codes(x, x_range, dac_bits, 1)
    w_code, w_valid = codes(w, w_range, weight_bits, 0)
    total = jnp.matmul(x_code, w_code, preferred_element_type=np.dtype(np.int32))
    scale = quantize.step(x_range, dac_bits) * quantize.step(w_range, weight_bits)
    return jnp.where(x_valid & w_valid, total.astype(np.float32) * scale, np.float32(np.nan))


def _local(
    axes: Axes,
    x: jax.Array,
    w: jax.Array,
    bias: jax.Array,
    x_full_scale: jax.Array,
    w_full_scale: jax.Array,
    y_full_scale: jax.Array,
    noise: jax.Array,
    *ids: jax.Array,
    dac_bits: int,
    weight_bits: int,
    adc_bits: int,
    transpose_weight: bool,
    noisy: bool,
    residual: str,
    with_peak: bool,
) -> list[jax.Array]:
    ranges = (x_full_scale, w_full_scale, y_full_scale)
    attrs = {
        "dac_bits": dac_bits,
        "weight_bits": weight_bits,
        "transpose_weight": transpose_weight,
    }
    if "k" not in axes:
        results = op(
            x, w, bias, *ranges, noise, *ids,
            adc_bits=adc_bits, noisy=noisy, residual=residual, with_peak=with_peak, **attrs,
        )  # fmt: skip
        return [*results[:-1], _over_shards(axes, results[-1])] if with_peak else results
    # Every shard has part of each sum: what comes after the sums waits for all of them.
    _, share = op(
        x, w, jnp.zeros_like(bias), *ranges, noise, *ids,
        adc_bits=0, noisy=False, residual="pre_noise", with_peak=False, **attrs,
    )  # fmt: skip
    y = jax.lax.psum(share, axes["k"]) + bias[None, :]
    sigma = eps = None
    if noisy:
        (x_q,) = quantize.op(x, x_full_scale[:, None], bits=dac_bits)
        x_norm_sq = jax.lax.psum(jnp.sum(x_q * x_q, axis=1, keepdims=True), axes["k"])
        sigma = jnp.sqrt(variance(y, x_norm_sq, noise))
        (eps,) = optical_noise.op(*ids)
    (out,) = quantize.op(before_adc(y, sigma, eps), y_full_scale[None, :], bits=adc_bits)
    saved = _residual(residual, y, sigma, eps, noise, y_full_scale, adc_bits)
    peak = [_over_shards(axes, quantize.absmax(y, axis=1))] if with_peak else []
    return [out, *saved, *peak]


def _over_shards(axes: Axes, peak: jax.Array) -> jax.Array:
    """The peak of whole rows, from that of the columns of a shard."""
    return jax.lax.pmax(peak, axes["n"]) if "n" in axes else peak


def _matmuls(
    x: tuple[Any, ...], w: tuple[Any, ...], *_: Any, transpose_weight: bool, **attrs: Any
) -> tuple[Matmul, ...]:
    (rows, depth), columns = x, w[0] if transpose_weight else w[1]
    return (Matmul(batch=1, rows=rows, depth=depth, columns=columns),)


op = define(
    "optical_matmul", signature=_signature, reference=_reference, local=_local, matmuls=_matmuls
)
