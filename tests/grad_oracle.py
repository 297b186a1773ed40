"""The gradient of the signal chain in float64, term by term from its formulas.

Converters pass their gradient straight through inside their range and drop it outside; the noise
is differentiated, with ε held fixed.

What "bfloat16" and "int8" round is known up to rounding errors of float32. Where those decide to
which side a value goes, the tolerance takes in both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import noise_oracle
from oracle import (
    EPS32,
    Array,
    Bits,
    Forward,
    Operands,
    Quantized,
    Wide,
    flush,
    is_off,
    levels,
    quantize,
)


@dataclass(frozen=True)
class Sum:
    """A sum and the sum of the magnitudes of its terms, both in float64."""

    value: Wide
    magnitude: Wide
    terms: int
    slack: Wide | float = 0.0
    """What roundings to either side may make of it."""

    def __add__(self, other: Sum) -> Sum:
        magnitude = self.magnitude + other.magnitude
        slack = self.slack + other.slack
        return Sum(self.value + other.value, magnitude, self.terms + other.terms, slack)

    def __mul__(self, factor: Wide) -> Sum:
        size = np.abs(factor)
        return Sum(self.value * factor, self.magnitude * size, self.terms, self.slack * size)

    def sum(self, axis: int) -> Sum:
        """Sum over an axis."""
        terms = self.terms + self.value.shape[axis]
        slack = np.broadcast_to(self.slack, self.value.shape).sum(axis)
        return Sum(self.value.sum(axis), self.magnitude.sum(axis), terms, slack)

    def __matmul__(self, other: Wide) -> Sum:
        size, terms = np.abs(other), self.terms + self.value.shape[1]
        slack = np.broadcast_to(self.slack, self.value.shape) @ size
        return Sum(self.value @ other, self.magnitude @ size, terms, slack)

    @property
    def T(self) -> Sum:  # noqa: N802, the name in NumPy
        slack = np.broadcast_to(self.slack, self.value.shape).T
        return Sum(self.value.T, self.magnitude.T, self.terms, slack)

    @property
    def tolerance(self) -> Wide:
        """Bound on the rounding errors of a float32 sum, in any order, of rounded terms."""
        return (self.terms + _ROUNDINGS_PER_TERM) * EPS32 * self.magnitude + self.slack


_ROUNDINGS_PER_TERM = 16
"""A term is a product of few factors, each of few roundings: σ, its slope, and ε / σ."""


class Gradient(NamedTuple):
    """Gradients in the order of the outputs of the op; `w` is f[k, n]."""

    x: Sum
    w: Sum
    bias: Sum
    x_full_scale: Sum
    w_full_scale: Sum
    y_full_scale: Sum
    noise: Sum


def optical_matmul_grad(
    g: Array,
    op: Operands,
    forward: Forward,
    bits: Bits,
    *,
    noisy: bool,
    precision: str = "float32",
    seed: int = 0,
) -> Gradient:
    """Gradient of `sum(g * out)` at those operands; NaN is a value like any other here.

    `seed` is that of the call, whose rows and columns are numbered from 0; "int8" draws from it.
    """
    with np.errstate(invalid="ignore"):
        return _optical_matmul_grad(g, op, forward, bits, noisy, precision, seed)


def _optical_matmul_grad(
    g: Array,
    op: Operands,
    forward: Forward,
    bits: Bits,
    noisy: bool,
    precision: str,
    seed: int,
) -> Gradient:
    y, sigma, eps = (v.astype(np.float64) for v in (forward.linear, forward.sigma, op.eps))
    g64 = flush(g).astype(np.float64)
    after_adc = Sum(g64, np.abs(g64), 0)
    passed = after_adc * inside(forward.before_adc, op.y_full_scale[None, :], bits.adc)
    # An output that is not finite is NaN even without an ADC, and so is what flows back from it.
    passed = passed * np.where(np.isfinite(forward.before_adc), 1.0, np.nan)
    thermal, shot, relative, weight = (
        flush(op.noise[:, i]).astype(np.float64)[:, None] for i in range(4)
    )
    xq = forward.xq.value.astype(np.float64)
    if noisy:
        per_sigma = np.divide(eps, sigma, out=np.zeros_like(eps), where=sigma > 0)
        slope = shot**2 * np.sign(y) / 2 + relative**2 * y
        noise_pull = passed * per_sigma
        dz = passed + noise_pull * slope
    else:
        noise_pull = Sum(np.zeros_like(y), np.zeros_like(y), 0)
        dz = passed

    x = _factor(forward.xq, op.x_full_scale, bits.dac)
    w = _factor(forward.wq, op.w_full_scale, bits.weight)
    dxq, dwq = _products(dz, x, w, precision, seed)
    dxq = dxq + _outer(noise_pull.sum(1), xq * weight**2)
    x_inside = inside(op.x, op.x_full_scale[:, None], bits.dac)
    w_inside = inside(op.w, op.w_full_scale[None, :], bits.weight)
    noise = [
        (noise_pull * np.broadcast_to(factor if noisy else 0.0, y.shape)).sum(1)
        for factor in (
            thermal,
            shot * np.abs(y),
            relative * y * y,
            weight * (xq * xq).sum(1, keepdims=True),
        )
    ]
    return Gradient(
        x=dxq * x_inside,
        w=dwq * w_inside,
        bias=dz.sum(0),
        x_full_scale=_range_gradient(dxq, op.x, op.x_full_scale[:, None], forward.xq, bits.dac, 1),
        w_full_scale=_range_gradient(
            dwq, op.w, op.w_full_scale[None, :], forward.wq, bits.weight, 0
        ),
        y_full_scale=_range_gradient(
            after_adc,
            forward.before_adc,
            op.y_full_scale[None, :],
            quantize(forward.before_adc, op.y_full_scale[None, :], bits.adc),
            bits.adc,
            0,
        ),
        noise=Sum(
            np.stack([n.value for n in noise], -1),
            np.stack([n.magnitude for n in noise], -1),
            noise[0].terms,
        ),
    )


class _Factor(NamedTuple):
    """A converted operand: its values, and the codes and steps whose products they are."""

    value: Wide
    code: Wide
    step: Wide
    """Of each row of x, of each column of w; 1 where `code` is the value."""


def _factor(quantized: Quantized, full_scale: Array, bits: int) -> _Factor:
    value = quantized.value.astype(np.float64)
    if not 1 <= bits <= 8:
        return _Factor(value, value, np.ones(len(full_scale)))
    step = flush(flush(full_scale) / np.float32(levels(bits)))
    return _Factor(value, quantized.code.astype(np.float64), step.astype(np.float64))


def _products(dz: Sum, x: _Factor, w: _Factor, precision: str, seed: int) -> tuple[Sum, Sum]:
    """dz · w_qᵀ and x_qᵀ · dz."""
    if precision == "float32":
        return dz @ w.value.T, (dz.T @ x.value).T
    by_w, by_x = dz * w.step[None, :], (dz * x.step[:, None]).T
    if precision == "bfloat16":
        return _bfloat16_product(by_w, w.code.T), _bfloat16_product(by_x, x.code).T
    assert precision == "int8"
    words = rounding_words(seed, *dz.value.shape)
    for_dx, for_dw = (((bits & 0xFFFF) + 0.5) / 2**16 for bits in (words >> 16, words))
    columns = max(by_w.value.shape[1], 1)
    return (
        _int8_product(by_w, for_dx, w.code.T, block=columns),
        _int8_product(by_x, for_dw.T, x.code, block=256).T,
    )


def rounding_words(seed: int, rows: int, columns: int) -> NDArray[np.int64]:
    """The 32-bit word of each element of a call, from the 64-bit words of its block of noise."""
    blocks = -(-columns // noise_oracle.BLOCK)
    u = noise_oracle.raw(
        seed ^ 0xD1B54A32D192ED03, np.arange(rows)[:, None], np.arange(blocks)[None, :]
    ).reshape(rows, blocks, noise_oracle.BLOCK // noise_oracle.GROUP, noise_oracle.PAIRS)
    halves = np.concatenate([u >> np.uint64(32), u & np.uint64(0xFFFFFFFF)], axis=-1)
    whole = halves.reshape(rows, blocks * noise_oracle.BLOCK)
    return whole[:, :columns].astype(np.int64)


def to_bfloat16(v: Wide) -> Wide:
    """The nearest number of 8 significant bits, half to even; the exponent is never at its end."""
    fraction, exponent = np.frexp(v)
    return np.ldexp(np.rint(np.ldexp(fraction, 8)), exponent - 8)


def _bfloat16_product(t: Sum, factor: Wide) -> Sum:
    return _rounded(t, t.tolerance, to_bfloat16) @ to_bfloat16(factor)


def _int8_product(t: Sum, u: Wide, factor: Wide, *, block: int) -> Sum:
    """`t · factor` where each row of t has one scale per `block` columns."""
    zeros = np.zeros((len(t.value), factor.shape[1]))
    total = Sum(zeros, zeros, 0)
    for start in range(0, t.value.shape[1], block):
        columns = slice(start, start + block)
        value, tolerance = t.value[:, columns], t.tolerance[:, columns]
        largest = np.abs(value).max(axis=1, keepdims=True, initial=0)
        largest_off = tolerance.max(axis=1, keepdims=True, initial=0)
        largest = np.where(np.isfinite(largest), largest, np.nan)
        per_step = np.divide(127, largest, out=np.zeros_like(largest), where=largest != 0)
        # The errors of t and of the largest of them, and four roundings of numbers below 128.
        off = (tolerance + np.abs(value) * (largest_off * per_step / 127)) * per_step + 2.0**-16
        position = Sum(value * per_step + u[:, columns], np.abs(value * per_step), 0)
        code = _rounded(position, off, lambda v: np.clip(np.floor(v), -127, 127))
        part = code @ factor[columns] * (largest / 127)
        scale_slack = np.abs(code.value @ factor[columns]) * (largest_off / 127)
        total = total + Sum(part.value, part.magnitude, part.terms, part.slack + scale_slack)
    return total


def _rounded(t: Sum, tolerance: Wide, rounding: Callable[[Wide], Wide]) -> Sum:
    """The rounded values, where what is rounded is off by at most `tolerance`."""
    value = rounding(t.value)
    either_side = rounding(t.value + tolerance) - rounding(t.value - tolerance)
    return Sum(value, np.abs(value), 0, either_side)


def inside(v: Array, full_scale: Array, bits: int) -> Wide:
    """The mask of a converter: 1 within its full scale, 0 beyond it, NaN where there is none."""
    if is_off(bits):
        return np.ones(v.shape)
    v, full_scale = flush(v), flush(full_scale)
    within = np.where(np.abs(v) <= full_scale, 1.0, 0.0)
    return np.where(np.isfinite(v) & (full_scale >= 0), within, np.nan)


def _range_gradient(
    upstream: Sum, v: Array, full_scale: Array, quantized: Quantized, bits: int, axis: int
) -> Sum:
    """`sum upstream * d value / d full_scale`: the learned step size rule of Esser et al."""
    if is_off(bits):
        zero = np.zeros(np.delete(v.shape, axis))
        return Sum(zero, zero, 0)
    q = levels(bits)
    v64 = flush(v).astype(np.float64)
    with np.errstate(all="ignore"):
        ratio = v64 / (flush(full_scale).astype(np.float64) / q)
    sign = np.where(v64 < 0, -1.0, 1.0)
    within = sign if bits == 1 else (quantized.code - ratio) / q
    mask = inside(v, full_scale, bits)
    slope = np.where(np.isnan(mask), np.nan, np.where(mask > 0, within, sign))
    result = upstream * slope
    # `code - v / s` cancels, so what float32 loses of it is a share of the two, not of it.
    magnitude = result.magnitude + upstream.magnitude
    return Sum(result.value, magnitude, upstream.terms, result.slack).sum(axis)


def _outer(column: Sum, matrix: Wide) -> Sum:
    wide = Sum(column.value[:, None], column.magnitude[:, None], column.terms)
    return wide * matrix
