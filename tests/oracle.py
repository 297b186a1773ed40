"""The signal chain in plain NumPy: slow, obvious, and written without a look at the kernels.

Every value that the specification fixes to the bit is computed in float32, one rounding per
operation and in the order of the specification; what it fixes only up to the order of a sum is
computed in float64 and comes with the sum of the magnitudes, from which a test derives its
tolerance.

Kernel threads treat subnormal floats as zero, so each float32 result here passes `flush`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]
Wide = NDArray[np.float64]

EPS32 = 2.0**-24
"""Relative error of one float32 rounding."""

_SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal


def flush(v: ArrayLike) -> Array:
    """`v` in float32, subnormals replaced by zero of the same sign."""
    v = np.asarray(v, np.float32)
    return np.where(np.abs(v) < _SMALLEST_NORMAL, np.copysign(np.float32(0), v), v)


def is_off(bits: int) -> bool:
    """Whether a converter of that many bits is left out of the chain."""
    return bits == 0 or bits >= 24


def levels(bits: int) -> int:
    """Largest code of a converter: `Q = 2**(bits-1) - 1`, and 1 for the sign converter."""
    return max(2 ** (bits - 1) - 1, 1)


class Quantized(NamedTuple):
    """What a converter makes of its input."""

    value: Array
    code: Array
    step: Array


def quantize(v: ArrayLike, full_scale: ArrayLike, bits: int) -> Quantized:
    """Signed mid-tread quantizer: `clamp(rint(v / s), -Q, Q) * s` with `s = full_scale / Q`."""
    v, full_scale = flush(v), flush(full_scale)
    v, full_scale = np.broadcast_arrays(v, full_scale)
    if is_off(bits):
        return Quantized(v, v, np.ones_like(v))
    q = np.float32(levels(bits))
    with np.errstate(all="ignore"):
        step = flush(full_scale / q)
        if bits == 1:
            code = np.where(v < 0, -q, q)
        else:
            code = np.clip(np.rint(flush(v / step)), -q, q)
        value = flush(code * step)
    value = np.where(step == 0, np.float32(0), value)
    value = np.where(np.isfinite(v) & (full_scale >= 0), value, np.float32(np.nan))
    return Quantized(value, code, step)


_CPU_FLAGS = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
FUSED = "fma" in _CPU_FLAGS and "avx2" in _CPU_FLAGS
"""Whether the kernels multiply and add with one rounding on this CPU."""


def chained_sum(a: Array, b: Array) -> Array:
    """`sum_k a[m, k] * b[k, n]` by multiply-add in the order of k: f32[m, n].

    The product of two float32 is exact in float64. Its sum with the accumulator is rounded to odd
    in float64, which makes the second rounding, to float32, the correct single rounding.
    """
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    with np.errstate(all="ignore"):
        for k in range(a.shape[1]):
            product = np.outer(a[:, k].astype(np.float64), b[k].astype(np.float64))
            if not FUSED:
                product = flush(product).astype(np.float64)
            wide = total.astype(np.float64)
            s = product + wide
            t = s - product
            error = (product - (s - t)) + (wide - t)
            even = (s.view(np.int64) & 1) == 0
            towards = np.where(error > 0, np.inf, -np.inf)
            s = np.where((error != 0) & np.isfinite(s) & even, np.nextafter(s, towards), s)
            total = flush(s.astype(np.float32))
    return total


@dataclass(frozen=True, kw_only=True)
class Bits:
    """Widths of the three converters; 0 is off."""

    dac: int = 0
    weight: int = 0
    adc: int = 0

    def integer_path(self, k: int) -> bool:
        """Whether the products are summed as integers."""
        narrow = 1 <= self.dac <= 8 and 1 <= self.weight <= 8
        return narrow and k * levels(self.dac) * levels(self.weight) < 2**31

    def attrs(self) -> dict[str, int]:
        """The same, as attributes of the op, of one array that has all inputs."""
        bits = {"dac_bits": self.dac, "weight_bits": self.weight, "adc_bits": self.adc}
        return {**bits, "array_rows": 0}


@dataclass(frozen=True, kw_only=True)
class Operands:
    """Operands of one optical product; `w` is f32[k, n] whatever layout the op is given."""

    x: Array
    w: Array
    bias: Array
    x_full_scale: Array
    w_full_scale: Array
    y_full_scale: Array
    noise: Array
    eps: Array
    """f32[m, n], or zeros where there is no noise."""


class Forward(NamedTuple):
    """Every stage of the chain that a test looks at."""

    out: Array
    linear: Array
    before_adc: Array
    sigma: Array
    xq: Quantized
    wq: Quantized
    rounding: Wide
    """f64[m, n]: how far a float32 sum in any order may be from the exact `linear`."""


def optical_matmul(op: Operands, bits: Bits, *, noisy: bool) -> Forward:
    """The chain `DAC -> matmul + bias -> noise -> ADC`, bit for bit."""
    x, w, bias = flush(op.x), flush(op.w), flush(op.bias)
    k = x.shape[1]
    xq = quantize(x, op.x_full_scale[:, None], bits.dac)
    wq = quantize(w, op.w_full_scale[None, :], bits.weight)
    with np.errstate(all="ignore"):
        if bits.integer_path(k):
            total = _integer_sum(xq, wq)
            total[~np.isfinite(xq.value).all(axis=1), :] = np.nan
            total[:, ~np.isfinite(wq.value).all(axis=0)] = np.nan
            x_step = flush(flush(op.x_full_scale) / np.float32(levels(bits.dac)))
            w_step = flush(flush(op.w_full_scale) / np.float32(levels(bits.weight)))
            product = flush(total * flush(x_step[:, None] * w_step[None, :]))
        else:
            product = chained_sum(xq.value, wq.value)
        linear = flush(product + bias)
        sigma, before_adc = np.zeros_like(linear), linear
        if noisy:
            free = (flush(op.noise) == 0).all(axis=1)[:, None]
            sigma = _sigma(linear, xq.value, op.noise)
            sigma = np.where(free, np.float32(0), sigma)
            before_adc = np.where(free, linear, flush(linear + flush(sigma * op.eps)))
        before_adc = np.where(np.isfinite(before_adc), before_adc, np.float32(np.nan))
        magnitude = np.abs(xq.value).astype(np.float64) @ np.abs(wq.value).astype(np.float64)
    out = quantize(before_adc, op.y_full_scale[None, :], bits.adc).value
    rounding = (k + 2) * EPS32 * (magnitude + np.abs(bias))
    return Forward(out, linear, before_adc, sigma, xq, wq, rounding)


def _integer_sum(xq: Quantized, wq: Quantized) -> Array:
    a, b = (np.where(np.isfinite(q.value), q.code, 0) for q in (xq, wq))
    a, b = (np.nan_to_num(code).astype(np.int64) for code in (a, b))
    return (a @ b).astype(np.float32)


def _sigma(y: Array, xq: Array, noise: Array) -> Array:
    """The root of the variance, in float32 where that loses no square that counts, else in float64.

    What is lost is below the smallest normal number times 1 or the square of a coefficient; it does
    not count below 2^-24 of the sum. A negative coefficient is none: all is NaN.
    """
    noise = np.where((noise >= 0).all(axis=1, keepdims=True), flush(noise), np.float32(np.nan))
    narrow = _variance(y, xq, noise)
    thermal, shot, relative, weight = (noise[:, i : i + 1].astype(np.float64) for i in range(4))
    factor = np.maximum(1, np.maximum(relative**2, weight**2))
    holds = np.isfinite(narrow) & (narrow >= 2.0**24 * _SMALLEST_NORMAL * factor)
    squares = noise[:, 1:].astype(np.float64) ** 2
    holds &= ((squares == 0) | (squares >= _SMALLEST_NORMAL)).all(axis=1, keepdims=True)
    holds |= (y == 0) & (thermal == 0) & (weight == 0)
    y_wide, power = y.astype(np.float64), (xq.astype(np.float64) ** 2).sum(axis=1)[:, None]
    wide = thermal**2 + shot**2 * np.abs(y_wide) + relative**2 * y_wide**2
    wide += np.where(weight == 0, 0, weight**2 * power)
    return flush(np.sqrt(np.where(holds, narrow, wide)))


def _variance(y: Array, xq: Array, noise: Array) -> Array:
    """`thermal² + shot²·|y| + relative²·y² + weight²·sum_k xq²`, in this order of operations."""
    thermal, shot, relative, weight = (flush(noise[:, i])[:, None] for i in range(4))
    # A sum in no specified order: correctly rounded here, and a few roundings off in the kernel.
    # Without weight noise it is not looked at, so that it cannot overflow.
    power = flush((xq.astype(np.float64) ** 2).sum(axis=1))[:, None]
    power = np.where(weight == 0, np.float32(0), power)
    shot_term = flush(flush(shot * shot) * np.abs(y))
    relative_term = flush(flush(relative * relative) * flush(y * y))
    weight_term = flush(flush(weight * weight) * power)
    return flush(flush(flush(flush(thermal * thermal) + shot_term) + relative_term) + weight_term)
