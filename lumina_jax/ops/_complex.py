"""Complex numbers in the signal chain, as the real ones that they are.

A row of complex numbers is one of twice as many floats, real and imaginary parts in turns. To such
a row of x the weights are the real matrix

    rows 2k       re w[k, j]    im w[k, j]
    rows 2k+1    -im w[k, j]    re w[k, j]

so that the chain of complex numbers is that of these floats, each with its own converters. Only the
noise knows that they are pairs: it is circular, with σ of the magnitude,

    σ² = thermal² + shot²·|y| + relative²·|y|² + weight²·‖x_q‖²        σ·(ε_re + i·ε_im)/√2

and ε_re and ε_im those of the columns 2j and 2j + 1.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from . import optical_matmul_grad, optical_noise, quantize
from ._chain import (
    ChainAttrs,
    Operands,
    Signal,
    norm,
    parameters,
    sigma,
    with_full_scales_of_shards,
    x_norm,
)
from ._chain import factors as _factors
from ._chain import found_in_rows as _found_in_rows
from ._op import Factors
from ._partition import Axes

A = TypeVar("A", bound=ChainAttrs)
_ROOT_HALF = np.float32(math.sqrt(0.5))


def floats(z: jax.Array) -> jax.Array:
    """f32[..., 2n] of c64[..., n]; what is real already as it is."""
    if not jnp.iscomplexobj(z):
        return z
    return jnp.stack([z.real, z.imag], axis=-1).reshape(*z.shape[:-1], 2 * z.shape[-1])


def numbers(parts: jax.Array) -> jax.Array:
    """c64[..., n] of f32[..., 2n]."""
    pairs = parts.reshape(*parts.shape[:-1], parts.shape[-1] // 2, 2)
    return jax.lax.complex(pairs[..., 0], pairs[..., 1])


def in_floats(attrs: A, operands: Any) -> tuple[A, Any]:
    """Attributes and operands of the chain of floats: of those of an op on complex numbers."""
    w = operands.w.T if attrs.transpose_weight else operands.w
    columns = w.shape[1]
    both = np.arange(2, dtype=np.uint32)[None]
    changed: dict[str, jax.Array] = {
        "x": floats(operands.x),
        "w": _as_real(w, attrs.weight_bits),
        "w_full_scale": _of_parts(operands.w_full_scale),
        "y_full_scale": _of_parts(operands.y_full_scale),
        "columns": (operands.columns[:, None] * np.uint32(2) + both).reshape(-1),
    }
    if isinstance(operands, Operands):
        changed["bias"] = floats(jnp.broadcast_to(operands.bias, (columns,)))
    else:
        changed |= {"g": floats(operands.g), "saved": floats(operands.saved)}
    of_floats = replace(attrs, transpose_weight=False, array_rows=2 * attrs.array_rows)
    return of_floats, operands._replace(**changed)


def _as_real(w: jax.Array, bits: int) -> jax.Array:
    # The sign of 0 is positive, and that of its negative must not be.
    zero = np.float32(-np.finfo(np.float32).tiny if bits == 1 else 0)
    minus_im = jnp.where(w.imag == 0, zero, -w.imag)
    rotated = floats(jax.lax.complex(minus_im, w.real))
    return jnp.stack([floats(w), rotated], axis=1).reshape(2 * w.shape[0], 2 * w.shape[1])


def _of_parts(by_column: jax.Array) -> jax.Array:
    return by_column if by_column.shape[0] in (0, 1) else jnp.repeat(by_column, 2)


def sigma_of_parts(y: jax.Array, norm_of_x: jax.Array, noise: jax.Array) -> jax.Array:
    """σ of each part, f32[m, 2n]: 1/√2 of that of the number."""
    return jnp.repeat(_ROOT_HALF * sigma(_magnitude(y), norm_of_x, noise), 2, axis=1)


def _magnitude(y: jax.Array) -> jax.Array:
    """f32[m, n] of f32[m, 2n], with the derivative 0 at 0."""
    re, im = y[:, ::2], y[:, 1::2]
    return norm(jnp.maximum(jnp.abs(re), jnp.abs(im)), (re, im))


def factors(attrs: ChainAttrs, operands: Operands[jax.Array]) -> tuple[Factors, ...]:
    """The one product of the chain, of floats: each complex one is four of them."""
    return _factors(*in_floats(attrs, operands))


def found_in_rows(attrs: ChainAttrs, operands: Operands[jax.Array]) -> dict[str, jax.Array]:
    """The full scale of x, the largest finite part, if it is left to the op."""
    return _found_in_rows(attrs, operands._replace(x=floats(operands.x)))


def with_ranges_of_shards(
    axes: Axes, attrs: ChainAttrs, operands: Operands[jax.Array]
) -> Operands[jax.Array]:
    """The operands of a shard with the full scales given that it cannot find alone."""
    found = with_full_scales_of_shards(axes, *in_floats(attrs, operands))
    given = {"x_full_scale": found.x_full_scale}
    if operands.w_full_scale.shape[0] == 0:
        given["w_full_scale"] = found.w_full_scale[::2]
    return operands._replace(**given)


def fold(
    attrs: ChainAttrs, gradients: optical_matmul_grad.Gradients[jax.Array]
) -> optical_matmul_grad.Gradients[jax.Array]:
    """Gradients by the numbers, from those by their floats."""
    rows, columns = gradients.w.shape
    by_w = gradients.w.reshape(rows // 2, 2, columns // 2, 2)
    re = by_w[:, 0, :, 0] + by_w[:, 1, :, 1]
    w = jax.lax.complex(re, by_w[:, 0, :, 1] - by_w[:, 1, :, 0])
    return gradients._replace(
        x=numbers(gradients.x),
        w=w.T if attrs.transpose_weight else w,
        bias=numbers(gradients.bias),
        w_full_scale=gradients.w_full_scale.reshape(-1, 2).sum(1),
        y_full_scale=gradients.y_full_scale.reshape(-1, 2).sum(1),
    )


def at_output(
    attrs: ChainAttrs, operands: optical_matmul_grad.Operands[jax.Array], x_q: jax.Array
) -> optical_matmul_grad.AtOutput:
    """What the gradient takes from the output stage, all of floats."""
    g, y, noise = operands.g, operands.saved, operands.noise
    of_x = x_norm(x_q)
    at_adc = Signal(y)
    if attrs.noisy:
        eps = optical_noise.normals(operands.seed, operands.rows, operands.columns)
        at_adc = Signal(y, sigma_of_parts(y, of_x, noise), eps)
    before = at_adc.before_adc()
    inside, by_full_scale = quantize.slopes(before, operands.y_full_scale[None, :], attrs.adc_bits)
    h = g * jnp.where(jnp.isnan(before), np.float32(np.nan), inside)
    if at_adc.sigma is None or at_adc.eps is None:
        nothing = jnp.zeros_like(x_q), jnp.zeros((x_q.shape[0], 4), np.float32)
        return optical_matmul_grad.AtOutput(h, by_full_scale, *nothing)
    std = at_adc.sigma[:, ::2] / _ROOT_HALF
    is_zero = std == 0
    upstream = _ROOT_HALF * (h * at_adc.eps).reshape(*std.shape, 2).sum(2)
    cotangent = jnp.where(is_zero, np.float32(0), upstream / jnp.where(is_zero, np.float32(1), std))
    thermal, shot, relative, weight = parameters(noise)
    magnitude = jnp.repeat(_magnitude(y), 2, axis=1)
    unit = jnp.where(magnitude == 0, np.float32(0), y / jnp.where(magnitude == 0, 1, magnitude))
    of_parts = jnp.repeat(cotangent, 2, axis=1)
    # In this order no square leaves the range of f32.
    by_y = shot * (shot * of_parts) * unit / 2 + relative * (relative * of_parts * y)
    by_row = jnp.sum(cotangent, axis=1, keepdims=True)
    size = magnitude[:, ::2]
    dnoise = [
        thermal * by_row,
        shot * jnp.sum(cotangent * size, axis=1, keepdims=True),
        jnp.sum(cotangent * size * (relative * size), axis=1, keepdims=True),
        weight * of_x * (of_x * by_row),
    ]
    return optical_matmul_grad.AtOutput(
        h + by_y,
        by_full_scale,
        x_q * (weight * (weight * by_row)),
        jnp.concatenate(dnoise, axis=1),
    )
