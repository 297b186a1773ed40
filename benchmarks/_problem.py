"""The data of one optical matmul, the same for everyone who computes it.

    y = quant(x) · quant(w)        y' = y + relative·|y|·ε        out = quant(y')

The gradients of a random cotangent g are straight through each quantizer, zero where it clips, and
through the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ._options import Shape

Array = NDArray[np.float32]
GradPrecision = Literal["float32", "bfloat16", "int8"]

RELATIVE = 0.1
"""Standard deviation of the noise over |y|."""


class Workload(NamedTuple):
    """Bits of the converters, 0 for none, and the type that the products of the gradient have."""

    name: str
    dac_bits: int
    weight_bits: int
    adc_bits: int
    grad_precision: GradPrecision = "float32"


ADC_ONLY = Workload("ADC 8 bit", 0, 0, 8)
ALL_BITS = Workload("DAC, weights, ADC 8 bit", 8, 8, 8)


class Operands(Protocol):
    """x, w and the cotangent g of the output, whatever else a problem says of them."""

    @property
    def x(self) -> np.ndarray: ...
    @property
    def w(self) -> np.ndarray: ...
    @property
    def g(self) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Operands of one shape (B, K, N)."""

    workload: Workload
    x: Array
    """f32[B, K]."""
    w: Array
    """f32[K, N]."""
    g: Array
    """Cotangent of the output, f32[B, N]."""
    x_full_scale: float
    w_full_scale: Array
    """f32[N]."""
    y_full_scale: float

    @property
    def shape(self) -> Shape:
        """(B, K, N)."""
        return (*self.x.shape, self.w.shape[1])

    @property
    def rms(self) -> float:
        """Expected root mean square of y, for peers whose noise does not depend on y."""
        return float(np.sqrt(self.x.shape[1]))


def quantized(v: Array, full_scale: Any, bits: int) -> Array:
    """`clamp(rint(v / s), -Q, Q) · s` with `s = full_scale / Q`, `Q = 2^(bits-1) - 1`; 0 is off."""
    if not bits:
        return v
    largest = np.float32(2 ** (bits - 1) - 1)
    step = np.asarray(full_scale, np.float32) / largest
    return np.clip(np.rint(v / step), -largest, largest) * step


def make(workload: Workload, shape: Shape) -> Problem:
    """Standard normal x, w and g; the full scales of w are its largest magnitudes."""
    batch, depth, columns = shape
    rng = np.random.default_rng([batch, depth, columns])
    x = rng.standard_normal((batch, depth), np.float32)
    w = rng.standard_normal((depth, columns), np.float32)
    g = rng.standard_normal((batch, columns), np.float32)
    # Libraries differ in the gradient of a value right at its full scale.
    x_full_scale = 1.001 * float(np.abs(x).max())
    w_full_scale = np.abs(w).max(axis=0)
    y = quantized(x, x_full_scale, workload.dac_bits) @ quantized(
        w, w_full_scale, workload.weight_bits
    )
    return Problem(
        workload=workload,
        x=x,
        w=w,
        g=g,
        x_full_scale=x_full_scale,
        w_full_scale=w_full_scale,
        y_full_scale=between_values(np.abs(y)),
    )


def between_values(magnitudes: Array) -> float:
    """A full scale that clips a few of the largest values, and lies far from each.

    Some quantizers pass the gradient up to half a step beyond the full scale, and some lose it at
    the last code. In the middle of the widest gap among the largest values all of them agree.
    """
    largest = np.sort(magnitudes, axis=None)[-16:]
    if len(largest) == 1:
        return float(1.1 * largest[0])
    gap = int(np.argmax(np.diff(largest)))
    return float((largest[gap] + largest[gap + 1]) / 2)
