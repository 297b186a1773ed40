"""The differentiable product of complex matrices."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any

import jax
from jax.typing import ArrayLike

from .._arguments import complex_array
from ..ops._op import vary_together
from ..ops.complex_matmul import Attrs, Operands, op
from ._derivative import Forward, Rule, differentiable
from ._operands import gradient_of

_NAME = "complex_matmul"


def complex_matmul(x: ArrayLike, w: ArrayLike) -> jax.Array:
    """`x @ w` of complex numbers, by three real products instead of four.

        common = Σ (re x + im x)·re w
        out    = common - Σ im x·(re w + im w)  +  i·(common + Σ re x·(im w - re w))

    The error of both parts is a few roundings of Σ |x|·|w| over the contracted axis: as small as
    that of four products beside the magnitude of what is summed, but a part that is much smaller
    than the other one has fewer digits. Sums of two parts must be finite in the type: numbers up
    to half of the largest are. A NaN or an infinity makes both parts of every result that depends
    on it NaN or infinite, where four products would leave one part finite now and then.

    Gradients are those of `jnp.matmul`, in the convention of JAX: `gx = g·wᵀ` and `gw = xᵀ·g`,
    without conjugates.

    Source: Higham, "Stability of a method for multiplying complex matrices with three real matrix
    multiplications", SIAM J. Matrix Anal. Appl. 13 (1992).

    Args:
        x: c64[..., K], or c128 where JAX has 64-bit types enabled.
        w: c64[K, N], or c128 as x.

    Returns:
        c[..., N], of the type of x.

    Raises:
        TypeError: `x` or `w` is not complex64 or complex128, or they are of different types.
        ValueError: shapes do not fit.
    """
    kinds = ("complex64", "complex128")
    x, w = complex_array(_NAME, "x", x, kinds), complex_array(_NAME, "w", w, kinds)
    if x.dtype != w.dtype:
        raise TypeError(f"{_NAME}: `w` must be {x.dtype} as `x` is, got {w.dtype}")
    if x.ndim < 1:
        raise ValueError(f"{_NAME}: `x` has shape (), expected (..., k)")
    if w.ndim != 2 or x.shape[-1] != w.shape[0]:
        raise ValueError(
            f"{_NAME}: `w` has shape {w.shape}, expected (k, n) with k = {x.shape[-1]}, "
            f"the last extent of `x`"
        )
    outer = x.shape[:-1]
    attrs = Attrs(dtype=_DTYPES[x.dtype.name], transpose_x=False, transpose_w=False)
    operands = Operands(x=x.reshape(math.prod(outer), x.shape[-1]), w=w)
    (out,) = _differentiable(attrs, vary_together(operands))
    return out.reshape(*outer, w.shape[1])


_DTYPES = {"complex64": "c64", "complex128": "c128"}


def _forward(attrs: Attrs, operands: Operands[jax.Array], wanted: Operands[bool]) -> Forward:
    return Forward(op(attrs, operands), (attrs, wanted), operands)


def _gradient(
    run: Any, static: tuple[Attrs, Operands[bool]], operands: Operands[jax.Array], g: jax.Array
) -> Operands[Any]:
    (attrs, wanted), (x, w) = static, operands
    by_x = by_w = None
    if wanted.x:
        (gradient,) = run(replace(attrs, transpose_w=True), Operands(x=g, w=w))
        by_x = gradient_of(x, gradient)
    if wanted.w:
        (gradient,) = run(replace(attrs, transpose_x=True), Operands(x=x, w=g))
        by_w = gradient_of(w, gradient)
    return Operands(x=by_x, w=by_w)


_differentiable = differentiable(
    Rule[Attrs, Operands[Any]](
        name=_NAME,
        primal=op,
        forward=_forward,
        gradient=functools.partial(_gradient, op),
        definition=functools.partial(_gradient, op.reference),
    )
)
