"""The gradient of the signal chain in float64, term by term from its formulas.

Converters pass their gradient straight through inside their range and drop it outside; the noise
is differentiated, with ε held fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

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

    def __add__(self, other: Sum) -> Sum:
        magnitude = self.magnitude + other.magnitude
        return Sum(self.value + other.value, magnitude, self.terms + other.terms)

    def __mul__(self, factor: Wide) -> Sum:
        return Sum(self.value * factor, self.magnitude * np.abs(factor), self.terms)

    def sum(self, axis: int) -> Sum:
        """Sum over an axis."""
        terms = self.terms + self.value.shape[axis]
        return Sum(self.value.sum(axis), self.magnitude.sum(axis), terms)

    def __matmul__(self, other: Wide) -> Sum:
        terms = self.terms + self.value.shape[1]
        return Sum(self.value @ other, self.magnitude @ np.abs(other), terms)

    @property
    def tolerance(self) -> Wide:
        """Bound on the rounding errors of a float32 sum, in any order, of rounded terms."""
        return (self.terms + _ROUNDINGS_PER_TERM) * EPS32 * self.magnitude


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
    g: Array, op: Operands, forward: Forward, bits: Bits, *, noisy: bool
) -> Gradient:
    """Gradient of `sum(g * out)` at those operands; NaN is a value like any other here."""
    with np.errstate(invalid="ignore"):
        return _optical_matmul_grad(g, op, forward, bits, noisy)


def _optical_matmul_grad(
    g: Array, op: Operands, forward: Forward, bits: Bits, noisy: bool
) -> Gradient:
    y, sigma, eps = (v.astype(np.float64) for v in (forward.linear, forward.sigma, op.eps))
    g64 = flush(g).astype(np.float64)
    after_adc = Sum(g64, np.abs(g64), 0)
    passed = after_adc * _inside(forward.before_adc, op.y_full_scale[None, :], bits.adc)
    # An output that is not finite is NaN even without an ADC, and so is what flows back from it.
    passed = passed * np.where(np.isfinite(forward.before_adc), 1.0, np.nan)
    thermal, shot, relative, weight = (
        flush(op.noise[:, i]).astype(np.float64)[:, None] for i in range(4)
    )
    xq, wq = forward.xq.value.astype(np.float64), forward.wq.value.astype(np.float64)
    if noisy:
        per_sigma = np.divide(eps, sigma, out=np.zeros_like(eps), where=sigma > 0)
        slope = shot**2 * np.sign(y) / 2 + relative**2 * y
        noise_pull = passed * per_sigma
        dz = passed + noise_pull * slope
    else:
        noise_pull = Sum(np.zeros_like(y), np.zeros_like(y), 0)
        dz = passed

    dxq = dz @ wq.T + _outer(noise_pull.sum(1), xq * weight**2)
    dwq = _transposed(dz) @ xq
    dwq = _transposed(dwq)
    x_inside = _inside(op.x, op.x_full_scale[:, None], bits.dac)
    w_inside = _inside(op.w, op.w_full_scale[None, :], bits.weight)
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


def _inside(v: Array, full_scale: Array, bits: int) -> Wide:
    if is_off(bits):
        return np.ones(v.shape)
    v, full_scale = flush(v), flush(full_scale)
    inside = np.where(np.abs(v) <= full_scale, 1.0, 0.0)
    return np.where(np.isfinite(v) & (full_scale >= 0), inside, np.nan)


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
    inside = sign if bits == 1 else (quantized.code - ratio) / q
    mask = _inside(v, full_scale, bits)
    slope = np.where(np.isnan(mask), np.nan, np.where(mask > 0, inside, sign))
    result = upstream * slope
    # `code - v / s` cancels, so what float32 loses of it is a share of the two, not of it.
    return Sum(result.value, result.magnitude + upstream.magnitude, upstream.terms).sum(axis)


def _outer(column: Sum, matrix: Wide) -> Sum:
    return Sum(column.value[:, None], column.magnitude[:, None], column.terms) * matrix


def _transposed(total: Sum) -> Sum:
    return Sum(total.value.T, total.magnitude.T, total.terms)
