"""Undoing crosstalk: what to command so that the weights wanted come about, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from numpy.typing import NDArray

from .._arguments import choice, integer, number, reals
from .._floating_point import numpy_defaults
from .._values import Floats
from .crosstalk import Crosstalk, matrix_of, on_buses

Mode: TypeAlias = Literal["fold", "readout", "wiener", "feedback"]

_OP = "compensate"
# Full scales that "feedback" tries for each column, as parts of the largest weight.
_FULL_SCALES = np.linspace(0.3, 1.0, 29)
# Of weights and regularization: what is commanded is a number of f32 at any condition allowed.
_LARGEST = 1e15


@dataclass(frozen=True, eq=False, kw_only=True)
class Compensation:
    """Weights to command, and what compensating costs."""

    weights: NDArray[np.float32]
    """W_cmd, f32[K, N]; with crosstalk they act as Cᵀ·W_cmd."""
    readout: NDArray[np.float32] | None
    """f32[n, n], what to multiply the measured channels y_m = C·y of each bus by, where that is
    how the mode compensates; None otherwise."""
    full_scale: NDArray[np.float32] | None
    """Of the converter of the weights, f32[N], where codes were chosen; None otherwise."""
    condition: float
    """Condition number of what was inverted, ratio of its largest and least singular value."""
    cost_bits: float
    """Bits of range (of the weights) or of noise (of a readout) given up."""

    def __str__(self) -> str:
        return f"condition number {self.condition:.4g}, costs {self.cost_bits:.2f} bits"


@numpy_defaults
def compensate(
    w: ArrayLike,
    crosstalk: Crosstalk | ArrayLike,
    mode: Mode = "fold",
    *,
    bits: int | None = None,
    regularization: float = 0.0,
    max_condition: float = 100.0,
) -> Compensation:
    """Weights, or a readout, that undo the crosstalk y = xᵀ·Cᵀ·W_cmd of a weight bank.

        "fold"      W_cmd = C^-T·W                              no noise is amplified;
                    costs log2 ‖C^-T‖_inf bits of the range of the weights
        "readout"   ŷ = C^-1·y_m, W_cmd = W                     costs log2 √(‖C^-1‖_F²/n) bits, by
                    which the standard deviation of the noise of the channels grows
        "wiener"    W_cmd = (C·Cᵀ + μI)^-1·C·W, or as a readout (Cᵀ·C + μI)^-1·Cᵀ
                    costs log2 ‖(C·Cᵀ + μI)^-1·C‖_inf bits, not all crosstalk is undone
        "feedback"  W_cmd on the levels of a converter, least ‖Cᵀ·Ŵ - W‖²; costs as "fold"

    "feedback" chooses codes row by row with the error of each fed back to the rows still free:
    GPTQ (E. Frantar et al., ICLR 2023) with H = C·Cᵀ around C^-T·W, its full scale per column the
    best of a few; no worse than rounding at that full scale. Set "wiener" where the condition
    number is above about 10 or C is uncertain, with μ = σ_noise²/σ_signal².

    Runs on the host in f64; bus by bus as `crosstalk.fold`.

    Args:
        w: W f[K, N], the weights wanted.
        crosstalk: C as a type of `lumina_jax.crosstalk` or f[n, n].
        mode: how.
        bits: of the converter of the weights, 2 to 16; needed for "feedback" alone.
        regularization: μ, not negative (no unit); for "wiener" alone.
        max_condition: error above this condition number: of C, and for "wiener" the square root of
            that of Cᵀ·C + μI. Beyond, an error of 1 % in C is one of the whole weights.

    Raises:
        TypeError: an argument is not of real numbers, or `bits` no int.
        ValueError: a shape does not fit, a value is not finite, an argument is out of its range or
            not of this mode, or the condition number is above `max_condition`.
    """
    choice(_OP, "mode", mode, Mode)
    weights = reals(_OP, "w", w, expected="[K, N]")
    if np.abs(weights).max() > _LARGEST:
        raise ValueError(f"{_OP}: `w` must be at most {_LARGEST:g}, got {np.abs(weights).max():g}")
    if isinstance(crosstalk, Tracer):
        raise TypeError(f"{_OP}: `crosstalk` is traced, expected an array outside of jax.jit")
    c = np.asarray(matrix_of(_OP, crosstalk), np.float64)
    resolution = _resolution(bits, mode)
    mu = number(_OP, "regularization", regularization, at_least=0.0)
    if mu > _LARGEST:
        raise ValueError(f"{_OP}: `regularization` must be at most {_LARGEST:g}, got {mu:g}")
    if mu and mode != "wiener":
        raise ValueError(f"{_OP}: `regularization` is for mode 'wiener', got {mu:g} in {mode!r}")
    limit = number(_OP, "max_condition", max_condition, at_least=1.0)

    c = c[: len(weights), : len(weights)]

    condition = _condition(c, mu)
    if not condition <= limit:
        raise ValueError(
            f"{_OP}: the condition number of `crosstalk` is {condition:.4g}, expected at most "
            f"`max_condition`={limit:g}; space the channels wider, or use mode 'wiener' with a "
            f"higher `regularization`"
        )
    inverse = _inverse(c, mu)
    if mode == "readout":
        commanded, full_scale = weights, None
        cost = math.log2(math.sqrt(np.sum(inverse**2) / len(c)))
    else:
        commanded, full_scale = _each_bus(c, weights, lambda part: _inverse(part, mu).T), None
        cost = math.log2(np.abs(inverse).sum(axis=0).max())
    if mode == "feedback":
        commanded, full_scale = _feedback(weights, commanded, c, 2 ** (resolution - 1) - 1)
    return Compensation(
        weights=commanded.astype(np.float32),
        readout=inverse.astype(np.float32) if mode in ("readout", "wiener") else None,
        full_scale=None if full_scale is None else full_scale.astype(np.float32),
        condition=condition,
        cost_bits=cost,
    )


def _condition(c: Floats, mu: float) -> float:
    singular = np.linalg.svd(c, compute_uv=False)
    most, least = singular[0] ** 2 + mu, singular[-1] ** 2 + mu
    return math.sqrt(most / least) if least > 0 else math.inf


def _inverse(c: Floats, mu: float) -> Floats:
    """(Cᵀ·C + μI)^-1·Cᵀ, which is C^-1 where μ = 0."""
    if not mu:
        return np.asarray(np.linalg.inv(c), np.float64)
    return np.asarray(np.linalg.solve(c.T @ c + mu * np.eye(len(c)), c.T), np.float64)


def _each_bus(c: Floats, w: Floats, matrix_for: Callable[[Floats], Floats]) -> Floats:
    """`matrix_for(C)` times the rows of each bus; the last bus may have a corner of C only."""
    n = len(c)
    full = len(w) - len(w) % n
    parts = [on_buses(matrix_for(c), w[:full])]
    if full < len(w):
        left = len(w) - full
        parts.append(matrix_for(c[:left, :left]) @ w[full:])
    return np.concatenate(parts)


def _feedback(w: Floats, target: Floats, c: Floats, top: int) -> tuple[Floats, Floats]:
    """Levels for the target C^-T·W of least ‖Cᵀ·Ŵ - W‖² in each column, and their full scales.

    Every column uses its whole range, so that a converter whose full scale is the largest weight
    of a column reproduces it.
    """

    def squared_error(levels: Floats) -> Floats:
        return np.sum(np.square(_each_bus(c, levels, np.transpose) - w), axis=0)

    largest = np.abs(target).max(axis=0)
    steps = [np.where(largest > 0, largest, 1.0) * part / top for part in _FULL_SCALES]
    nearest = [np.clip(np.rint(target / step), -top, top) * step for step in steps]
    best = np.argmin([squared_error(levels) for levels in nearest], axis=0)
    columns = np.arange(w.shape[1])
    step = np.array(steps)[best, columns]
    rounded = np.array(nearest)[best, :, columns].T

    n = len(c)
    fed = [_fed_back(target[k : k + n], c, step, top) for k in range(0, len(target), n)]
    codes = np.concatenate(fed)
    better = (squared_error(codes * step) < squared_error(rounded)) & (
        np.abs(codes).max(axis=0) == top
    )
    return np.where(better, codes * step, rounded), np.where(largest > 0, step * top, 0.0)


def _fed_back(target: Floats, c: Floats, step: Floats, top: int) -> Floats:
    """Codes of one bus by error feedback, with H = C·Cᵀ = (UᵀU)^-1 and U upper triangular."""
    c = c[: len(target), : len(target)]
    gram = c @ c.T
    order = np.argsort(-np.diag(gram), kind="stable")
    gram = gram[np.ix_(order, order)]
    # Cholesky in reversed order is H = V·Vᵀ with V upper triangular, and U = V^-1.
    upper = np.linalg.inv(np.linalg.cholesky(gram[::-1, ::-1])[::-1, ::-1])
    rest = target[order]
    codes = np.empty_like(rest)
    for k in range(len(rest)):
        code = np.clip(np.rint(rest[k] / step), -top, top)
        codes[order[k]] = code
        rest[k + 1 :] -= np.outer(upper[k, k + 1 :], (rest[k] - code * step) / upper[k, k])
    return codes


def _resolution(bits: Any, mode: str) -> int:
    if mode != "feedback":
        if bits is not None:
            raise ValueError(f"{_OP}: `bits` is for mode 'feedback', got {bits!r} in {mode!r}")
        return 0
    if bits is None:
        raise TypeError(f"{_OP}: `bits` must be an int for mode 'feedback', got None")
    return integer(_OP, "bits", bits, at_least=2, at_most=16)
