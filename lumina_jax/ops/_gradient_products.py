"""The two products of the backward pass, dz · w_qᵀ and x_qᵀ · dz, at each precision.

The definition stands in `optical_matmul_grad.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import optical_noise, quantize
from ._op import vary_over, varying_axes

_LARGEST = 127
_ROWS = 256
"""Rows that share the scales of "int8" in the product x_qᵀ · dz."""
_SEED = 0xD1B5_4A32_D192_ED03
"""Keeps the rounding independent of the noise, which has the same seed."""


class Factor(NamedTuple):
    """A converted operand of the forward product: `value` is `code * step`."""

    value: jax.Array
    code: jax.Array
    """Integers of at most 8 bits; `value` itself where the converter has more, or is off."""
    step: jax.Array | None
    """None where there are no codes."""
    largest: int
    """Largest magnitude of a code; 0 where there are none."""


def factor(v: jax.Array, full_scale: jax.Array, bits: int) -> Factor:
    """`v` after its converter."""
    value = quantize.quantized(v, full_scale, bits)
    if not 1 <= bits <= 8:
        return Factor(value, value, None, 0)
    # What is not finite reaches the gradient through dz: the outputs that saw it are NaN.
    valid = jnp.isfinite(v) & (full_scale >= 0)
    code = jnp.where(valid, quantize.code(v, full_scale, bits), np.float32(0))
    step = quantize.step(full_scale, bits)
    return Factor(value, code, step, quantize.largest_code(bits))


def exact(dz: jax.Array, x: Factor, w: Factor) -> tuple[jax.Array, jax.Array]:
    """`(dx_q, dw_q)` f32[m, k], f32[k, n] of dz f32[m, n], x [m, k] and w [k, n] in float32."""
    return _float_product(dz, w.value.T), _float_product(x.value.T, dz)


def bfloat16(dz: jax.Array, x: Factor, w: Factor) -> tuple[jax.Array, jax.Array]:
    """The same from factors rounded to bfloat16."""

    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        # A conversion to bfloat16 and back is one that XLA may leave out; this rounding is not.
        a, b = (jax.lax.reduce_precision(v, 8, 7).astype(jnp.bfloat16) for v in (a, b))
        return jnp.matmul(a, b, preferred_element_type=np.dtype(np.float32))

    by_w, by_x = _scaled(dz, x, w)
    return product(by_w, w.code.T), product(x.code.T, by_x)


def int8(
    dz: jax.Array, x: Factor, w: Factor, seed: jax.Array, rows: jax.Array, columns: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The same from dz rounded stochastically to 8 bits; seed and ids as the op has them."""
    words = optical_noise.words(_rounding_seed(seed), rows, columns)
    by_w, by_x = _scaled(dz, x, w)
    code, scale = _rounded(by_w, _uniform(words >> np.uint32(16)), 1)
    dx_q = scale * _code_product(code, w.code.T, by_w.shape[1] * w.largest)
    return dx_q, _by_row_blocks(x, by_x, _uniform(words & np.uint32(0xFFFF)))


def _scaled(dz: jax.Array, x: Factor, w: Factor) -> tuple[jax.Array, jax.Array]:
    """dz with the steps of the codes that it meets: for dx_q, for dw_q."""
    return (
        dz if w.step is None else dz * w.step,
        dz if x.step is None else dz * x.step,
    )


def _float_product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _rounding_seed(seed: jax.Array) -> jax.Array:
    return seed ^ np.array([[_SEED >> 32, _SEED & 0xFFFF_FFFF]], np.uint32)


def _uniform(bits: jax.Array) -> jax.Array:
    """Numbers inside (0, 1) from integers of 16 bits."""
    return (bits.astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-16)


def _rounded(t: jax.Array, u: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Codes as f32, and their scale along `axis`: NaN where something along it is not finite."""
    largest = jnp.max(jnp.abs(t), axis=axis, keepdims=True, initial=np.float32(0))
    # A maximum is not everywhere NaN where one of the numbers is.
    finite = jnp.all(jnp.isfinite(t), axis=axis, keepdims=True)
    scale = jnp.where(finite, quantize.step(largest, 8), np.float32(np.nan))
    limit = np.float32(_LARGEST)
    code = jnp.clip(jnp.floor(t * (limit / largest) + u), -limit, limit)
    return jnp.where(scale > 0, code, np.float32(0)), scale


def _code_product(a: jax.Array, b: jax.Array, terms: int) -> jax.Array:
    """`a · b` where one holds codes of dz, and the other codes as well unless `terms` is 0.

    `terms` is the number of terms times the largest code of the other: what tells whether the sum
    is sure to fit into an i32.
    """
    if 0 < terms * _LARGEST < 2**31:
        a, b = a.astype(np.int8), b.astype(np.int8)
        return jnp.matmul(a, b, preferred_element_type=np.dtype(np.int32)).astype(np.float32)
    return _float_product(a, b)


def _by_row_blocks(x: Factor, t: jax.Array, u: jax.Array) -> jax.Array:
    """`x_qᵀ · dz`: blocks of rows one after the other, each with scales of its own."""
    m, k, n = t.shape[0], x.code.shape[1], t.shape[1]
    blocks = (m + _ROWS - 1) // _ROWS

    def cut(v: jax.Array) -> jax.Array:
        padded = jnp.pad(v, ((0, blocks * _ROWS - m), (0, 0)))
        return padded.reshape(blocks, _ROWS, v.shape[1])

    def add(total: jax.Array, block: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        x_code, t, u = block
        code, scale = _rounded(t, u, 0)
        return total + scale * _code_product(x_code.T, code, _ROWS * x.largest), None

    zeros = vary_over(jnp.zeros((k, n), np.float32), varying_axes(t))
    return jax.lax.scan(add, zeros, (cut(x.code), cut(t), cut(u)))[0]
