"""Codes for the output of a layer instead of its weights."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from .._arguments import concrete, number
from .._floating_point import numpy_defaults
from . import _params
from ._params import QuantizerParams

_OP = "error_feedback"
_BLOCK = 128
_MOST_DAMPING = 1e9
"""With more, the other inputs are lost in the rounding of f64 already."""


@numpy_defaults
def error_feedback(
    weights: ArrayLike, params: QuantizerParams, activations: ArrayLike, *, damping: float = 0.01
) -> jax.Array:
    """Codes that make ‖X·Ŵ - X·W‖² small, by error feedback over the inputs of a layer.

    With H = XᵀX + damping·mean(diag XᵀX)·I and Uᵀ·U = H⁻¹, U upper triangular, for the inputs k in
    descending order of their power H_kk:

        code_k = quantize(W_k)                            row k of W, all outputs at once
        W_l <- W_l - (W_k - Ŵ_k)/U_kk · U_kl              for the inputs l after k

    which is the best correction of the rows still free (E. Frantar et al., "GPTQ", ICLR 2023). The
    nearest levels are returned for the outputs where they are better on X, as no order of inputs
    excludes; so no output is worse for it.

    Runs on the host in f64, in O(K³ + K²·N).

    Args:
        weights: f32[K, N], finite.
        params: from `WeightQuantizer.calibrate`; per tensor, per output or per input.
        activations: inputs of the layer, f32[..., K].
        damping: not negative.

    Returns:
        Codes [K, N], as `quantize` has them.

    Raises:
        TypeError: an operand is traced or not real.
        ValueError: shapes do not fit, values are not finite, `damping` is negative.
    """
    w = concrete(_OP, "weights", weights)
    x = concrete(_OP, "activations", activations)
    damping = number(_OP, "damping", damping, at_least=0.0)
    if damping > _MOST_DAMPING:
        raise ValueError(f"{_OP}: `damping` must be at most {_MOST_DAMPING:g}, got {damping:g}")
    if w.ndim != 2:
        raise ValueError(f"{_OP}: `weights` has shape {w.shape}, expected [K, N]")
    if x.ndim == 0 or x.shape[-1] != w.shape[0]:
        raise ValueError(f"{_OP}: `activations` has shape {x.shape}, expected [..., {w.shape[0]}]")
    _params.check_channels(_OP, "weights", w.shape, params)
    x = x.reshape(-1, w.shape[0]).astype(np.float64)
    gram = x.T @ x
    nearest = np.asarray(_params.quantize(w, params))
    if not np.any(gram):
        return jnp.asarray(nearest)
    corrected = _corrected(w.astype(np.float64), params, gram, damping)

    def squared_error(codes: NDArray[np.integer]) -> NDArray[np.float64]:
        error = np.asarray(_params.dequantize(codes, params), np.float64) - w
        return np.sum(error * (gram @ error), axis=0)

    better = squared_error(corrected) < squared_error(nearest)
    return jnp.asarray(np.where(better, corrected, nearest))


def _corrected(
    w: NDArray[np.float64], params: QuantizerParams, gram: NDArray[np.float64], damping: float
) -> NDArray[np.integer]:
    order = np.argsort(-np.diag(gram), kind="stable")
    w, gram = w[order], gram[np.ix_(order, order)]
    factor = _factor(gram, damping)
    codes = np.empty(w.shape, np.int16)
    convert, restore = jax.jit(_params.quantize), jax.jit(_params.dequantize)
    for start in range(0, len(w), _BLOCK):
        block = range(start, min(start + _BLOCK, len(w)))
        errors = np.empty((len(block), w.shape[1]))
        for k in block:
            of_row = _row(params, int(order[k]))
            code = convert(np.asarray(w[k : k + 1], np.float32), of_row)
            codes[order[k]] = np.asarray(code)[0]
            restored = np.asarray(restore(code, of_row), np.float64)[0]
            errors[k - start] = (w[k] - restored) / factor[k, k]
            rest = slice(k + 1, block.stop)
            w[rest] -= np.outer(factor[k, rest], errors[k - start])
        after = slice(block.stop, len(w))
        w[after] -= factor[block.start : block.stop, after].T @ errors
    return codes.astype(params.dtype)


def _factor(gram: NDArray[np.float64], damping: float) -> NDArray[np.float64]:
    """U of the inverse of the damped Gram matrix."""
    mean = float(np.mean(np.diag(gram)))
    # Inputs that never vary together with others leave the matrix singular without any damping.
    damped = gram + max(damping, 1e-9) * mean * np.eye(len(gram))
    # Cholesky in reversed order is H = V·Vᵀ with V upper triangular, and U = V⁻¹.
    upper = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    return np.asarray(np.linalg.inv(upper), np.float64)


def _row(params: QuantizerParams, k: int) -> QuantizerParams:
    """Params for row k of the weights, [1, N]."""
    if params.axis == 1 and params.group is not None:
        scale, zero_point = (v[:, k // params.group] for v in (params.scale, params.zero_point))
        return dataclasses.replace(params, scale=scale, zero_point=zero_point, group=None)
    if params.axis != 0:
        return params
    row = slice(k, k + 1)
    lut = None if params.lut is None else params.lut[row]
    return dataclasses.replace(
        params, scale=params.scale[row], zero_point=params.zero_point[row], lut=lut
    )
