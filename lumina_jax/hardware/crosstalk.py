"""Crosstalk between the wavelength channels of a weight bank, and its place in the weights.

Ring i of a bank lets C_ij of the light of channel j through, so that weights W that act on the
inputs x compute

    y = (C·x)ᵀ·W = xᵀ·(Cᵀ·W)        W_eff = Cᵀ·W

The inputs are on buses of `channels` wavelengths each: inputs 0 … n-1 on the first, n … 2n-1 on the
second. Buses do not see each other, and a last bus that is not full has the leading rows and
columns of C. Folding costs one small matmul per step, after which crosstalk costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from .._arguments import constant, integer, nonnegative, numeric, real
from .._floating_point import numpy_defaults
from .._values import Floats
from ..custom_vjp.quantize import quantize
from ..ops.quantize import absmax
from ..spec import OpticalSpec, op_bits
from .parts import MAX_CHANNELS

_WIDEST = 1e15
"""Of what is squared and summed, in f32 as well; no measurement tells more from infinity."""


@dataclass(frozen=True)
class CrosstalkMatrix:
    """A measured crosstalk matrix, `CrosstalkMatrix([[1, 0.01], [0.02, 1]])`.

    Raises:
        TypeError: it is not of real numbers.
        ValueError: it is ragged, not square, or has NaN or negative entries.
    """

    rows: Any
    """C, f[n, n]: part of the power of channel j that ring i lets through, relative to what it
    lets through of its own; kept as tuples, so that a profile can be compared and hashed."""

    def __post_init__(self) -> None:
        rows = _matrix("CrosstalkMatrix", "rows", self.rows)
        object.__setattr__(self, "rows", tuple(map(tuple, rows.tolist())))

    def __repr__(self) -> str:
        return f"CrosstalkMatrix({self.channels} channels)"

    @property
    def channels(self) -> int:
        """Wavelengths on one bus, n."""
        return len(self.rows)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """C, f64[n, n]."""
        return np.array(self.rows)


@dataclass(frozen=True, kw_only=True)
class RingComb:
    """Equally spaced channels, each picked by a ring of the same linewidth.

        C_ij = 1 / (1 + (2F/π)²·sin²(π·(s·(i - j) + δ)/F))

    Where the channels fill the free spectral range, N·s = F, this is the circulant matrix of
    `physics.comb_matrix`; for F = inf it is the Lorentzian 1/(1 + 4(s·(i - j) + δ)²).

    Raises:
        TypeError, ValueError: a field is not a number or out of its range; the channels do not
            fit the free spectral range.
    """

    channels: int
    """Wavelengths on one bus, N."""
    spacing: float
    """Distance of neighboring channels, s, in linewidths (FWHM); above 0."""
    finesse: float | None = None
    """FSR/FWHM, F; None: the channels fill the free spectral range, F = N·s."""
    detuning: float = 0.0
    """How far all rings are off their channels, δ, in linewidths."""

    def __post_init__(self) -> None:
        op = "RingComb"
        figures: dict[str, Any] = {
            "channels": integer(op, "channels", self.channels, at_least=1, at_most=MAX_CHANNELS),
            "spacing": constant(op, "spacing", self.spacing),
            "detuning": constant(op, "detuning", self.detuning),
        }
        if self.finesse is not None:
            figures["finesse"] = constant(op, "finesse", self.finesse, infinite=True)
            if figures["finesse"] > _WIDEST**2 and figures["finesse"] != math.inf:
                raise ValueError(f"{op}: `finesse` must be at most {_WIDEST**2:g}, or math.inf")
        for name, value in figures.items():
            object.__setattr__(self, name, value)
        if self.spacing <= 0:
            raise ValueError(f"{op}: `spacing` must be above 0, got {self.spacing}")
        # Their squares are numbers of f64, and so is what a finesse of N·s divides.
        if self.spacing < 1 / _WIDEST:
            raise ValueError(
                f"{op}: `spacing` must be at least {1 / _WIDEST:g} linewidths, got {self.spacing:g}"
            )
        for name in ("spacing", "detuning"):
            if abs(figures[name]) > _WIDEST:
                raise ValueError(
                    f"{op}: `{name}` must be at most {_WIDEST:g} linewidths, got {figures[name]:g}"
                )
        if self.finesse is not None and self.finesse < self.channels * self.spacing * (1 - 1e-9):
            raise ValueError(
                f"RingComb: `finesse` is {self.finesse:g}, expected at least "
                f"channels · spacing = {self.channels * self.spacing:g}"
            )

    @property
    @numpy_defaults
    def matrix(self) -> NDArray[np.float64]:
        """C, f64[N, N]; symmetric where there is no detuning."""
        finesse = self.channels * self.spacing if self.finesse is None else self.finesse
        index = np.arange(self.channels)
        return ring_transmission(
            self.spacing * np.subtract.outer(index, index) + self.detuning, finesse
        )


@dataclass(frozen=True, kw_only=True)
class NearestNeighbor:
    """Channels of which only neighbors see each other: `C_ij = coupling` for |i - j| = 1.

    Raises:
        TypeError, ValueError: a field is not a number or out of its range.
    """

    channels: int
    """Wavelengths on one bus."""
    coupling: float
    """Part of the power of a neighbor that a ring lets through, 0 to 1 (no unit)."""

    def __post_init__(self) -> None:
        op = "NearestNeighbor"
        channels = integer(op, "channels", self.channels, at_least=1, at_most=MAX_CHANNELS)
        coupling = constant(op, "coupling", self.coupling)
        if not 0 <= coupling <= 1:
            raise ValueError(f"{op}: `coupling` must be from 0 to 1, got {coupling}")
        object.__setattr__(self, "channels", channels)
        object.__setattr__(self, "coupling", coupling)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """C, f64[n, n]."""
        n = self.channels
        return np.eye(n) + self.coupling * (np.eye(n, k=1) + np.eye(n, k=-1))


Crosstalk: TypeAlias = CrosstalkMatrix | RingComb | NearestNeighbor
"""What a profile may have as its `crosstalk`."""


def ring_transmission(detuning: Any, finesse: Any) -> Any:
    """Drop transmission of a ring over its peak: `X = 1/(1 + (2F/π)²·sin²(π·Δ/F))`, 0 to 1.

    The Airy function of F = π·√ρ/(1 - ρ); with F = inf the Lorentzian 1/(1 + 4Δ²). Differentiable;
    NumPy arguments give NumPy in their precision.

    Args:
        detuning: Δ in linewidths (FWHM), any shape.
        finesse: F = FSR/FWHM, scalar, above 0.
    """
    traced = isinstance(detuning, jax.Array) or isinstance(finesse, jax.Array)
    if not traced and math.isinf(finesse):
        return 1 / (1 + (2 * detuning) ** 2)
    xp = jnp if traced else np
    return 1 / (1 + (2 * finesse / math.pi * xp.sin(math.pi / finesse * detuning)) ** 2)


def fold(w: ArrayLike, crosstalk: Crosstalk | ArrayLike) -> jax.Array:
    """The weights that act where there is crosstalk: `W_eff = Cᵀ·W`, bus by bus.

    Differentiable in `w`, and in the matrix where that is an array.

    Args:
        w: f32[K, N], the input of a layer is axis 0.
        crosstalk: C as a type of this module or f[n, n], for buses of n channels.

    Returns:
        f32[K, N].

    Raises:
        TypeError: `w` is not float32, or `crosstalk` is not of real numbers.
        ValueError: an array is ragged, or a shape does not fit.
    """
    w = numeric("fold", "w", w, "float32")
    if w.dtype != np.float32:
        raise TypeError(f"fold: `w` must be float32, got {w.dtype}")
    if w.ndim != 2:
        raise ValueError(f"fold: `w` has shape {w.shape}, expected [K, N]")
    return on_buses(jnp.asarray(matrix_of("fold", crosstalk), np.float32).T, w)


def fold_quantized(
    w: jax.Array, crosstalk: Crosstalk, spec: OpticalSpec
) -> tuple[jax.Array, OpticalSpec]:
    """What a layer multiplies by: its weights after their converter, then with crosstalk.

    The converter sets the rings, and crosstalk acts on what they are set to: Cᵀ·DAC(W). The spec
    that comes back has no converter of weights any more.

    Args:
        w: f32[K, N].
        crosstalk: C.
        spec: bits of the converters of the layer.
    """
    if op_bits(spec.weight_bits):
        w = quantize(w, bits=spec.weight_bits, full_scale=absmax(w, axis=0))
    return fold(w, crosstalk), replace(spec, weight_bits=None)


def in_light(
    w: jax.Array, transmission: float, crosstalk: Crosstalk | None, spec: OpticalSpec
) -> tuple[jax.Array, OpticalSpec]:
    """What a device multiplies by: w f32[K, N] after the losses of the light and with crosstalk.

    The spec that comes back has no converter of weights any more where crosstalk acts behind it.
    """
    w = w if transmission == 1.0 else w * transmission
    return (w, spec) if crosstalk is None else fold_quantized(w, crosstalk, spec)


def on_buses(matrix: Any, w: Any) -> Any:
    """`matrix`, [n, n], times each n rows of `w`, [K, N], and its corner times those left over."""
    n, (rows, columns) = matrix.shape[0], w.shape
    full = rows - rows % n
    whole = _matmul(matrix, w[:full].reshape(full // n, n, columns)).reshape(full, columns)
    if full == rows:
        return whole
    left = _matmul(matrix[: rows - full, : rows - full], w[full:])
    return jnp.concatenate((whole, left))


def _matmul(a: Any, b: Any) -> Any:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a @ b
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def matrix_of(op: str, crosstalk: Any) -> Any:
    """C of a type of this module in f64, or the array that was given."""
    if isinstance(crosstalk, CrosstalkMatrix | RingComb | NearestNeighbor):
        return crosstalk.matrix
    if isinstance(crosstalk, jax.Array):
        c = real(op, "crosstalk", crosstalk, at_least=0)
        if c.ndim != 2 or not c.size or c.shape[0] != c.shape[1]:
            raise ValueError(f"{op}: `crosstalk` has shape {c.shape}, expected [n, n]")
        return c
    return _matrix(op, "crosstalk", crosstalk)


def _matrix(op: str, name: str, value: Any) -> Floats:
    matrix = nonnegative(op, name, value, expected="[n, n]")
    if matrix.max() > _WIDEST:
        raise ValueError(f"{op}: `{name}` must be at most {_WIDEST:g}, got {matrix.max():g}")
    return matrix
