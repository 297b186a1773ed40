"""Hardware-aware quantization of weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from numpy.typing import NDArray

from .. import _arguments
from .._arguments import F32_MAX, choice, concrete, integer, numeric, positive
from .._floating_point import numpy_defaults
from . import _params
from ._feedback import error_feedback
from ._kmeans import kmeans_1d
from ._params import QuantizerParams
from ._range import DynamicRangeEstimator
from ._rule import MAX_BITS, REFERENCE_SNR_DB, bits_for_snr, check_state, paid_bits, snr_at
from ._uniform import Uniform, best_uniform, codes_of, covering, near_best_uniform

Method: TypeAlias = Literal["absmax", "percentile", "optimal", "lut"]

_MAX_LUT_BITS = 8
_MAX_WEIGHT = F32_MAX / 2
"""One level below -max|w| is still an f32, and so is the step of one bit, which is 2·max|w|."""
_MOST_NOISE = F32_MAX
"""Beyond it, as far as any signal is concerned, is no more noise."""
_CALIBRATE = "WeightQuantizer.calibrate"


@dataclass(frozen=True)
class WeightQuantizer:
    """Chooses resolution and levels for weights, and converts weights to codes and back.

        q = WeightQuantizer(method="optimal", axis=1)
        params = q.calibrate(weights, {"snr_db": 20.0})
        codes = q.quantize(weights, params)             round(w / scale + zero_point), clipped
        weights_q = q.dequantize(codes, params)         (codes - zero_point) · scale

    Raises:
        TypeError, ValueError: a field is of the wrong type or out of its range.
    """

    method: Method = "optimal"
    """Where the levels come from, given the bits b:

    "absmax"      the signed converter, levels -Q … Q times s, Q = 2^(b-1) - 1, s = max|w| / Q
    "percentile"  the same at a percentile of |w|, where that has the smaller error
    "optimal"     the uniform quantizer of least mean squared error
    "lut"         the 2^b levels of least mean squared error, b <= 8 (1-D k-means, exact)

    No channel has a larger error than with "absmax", whose one bit is the sign, ±max|w|. A channel
    of zeros stays zero.
    """
    axis: int | None = None
    """Axis whose entries each get levels of their own, as 1 for the outputs of a kernel [K, N]."""
    group: int | None = None
    """Weights of a channel, along the other axes in order, that get levels of their own, as 64 of
    the inputs of a kernel [K, N] with `axis=1`. Needs an `axis`, and a method other than "lut".
    The scales of "optimal" are then the best of some, for all groups at once."""
    affine: bool = True
    """Whether "optimal" may use all 2^b levels and offset them by multiples of half a step.
    Otherwise it keeps to the 2^b - 1 levels of the signed converter, and the zero point to 0."""
    percentile: float = 99.9
    """Of |w|, for "percentile"; above 0, at most 100."""
    loss_db: float = 1.0
    """SINAD that rounding may cost, dB; decides the bits, see `bits_for_snr`."""
    energy_per_step_fj: float = 50.0
    """Walden figure of merit of a converter, fJ per conversion step, for a power budget."""
    rate_hz: float = 1e9
    """Conversions per second, Hz, for a power budget."""
    estimator: DynamicRangeEstimator | None = None
    """What was seen of the signal and the noise of the hardware; None: the weights alone are the
    signal."""

    def __post_init__(self) -> None:
        op = "WeightQuantizer"
        choice(op, "method", self.method, Method)
        if self.group is not None:
            object.__setattr__(self, "group", integer(op, "group", self.group, at_least=1))
            if self.axis is None:
                raise ValueError(f"{op}: `group` is {self.group}, expected None without an `axis`")
            if self.method == "lut":
                raise ValueError(
                    f"{op}: `group` is {self.group}, expected None for the method 'lut', whose "
                    "table is that of a channel"
                )
        if not isinstance(self.affine, bool | np.bool_):
            raise TypeError(f"{op}: `affine` must be a bool, got {self.affine!r}")
        for name in ("percentile", "loss_db", "energy_per_step_fj", "rate_hz"):
            object.__setattr__(self, name, positive(op, name, getattr(self, name)))
        if self.percentile > 100:
            raise ValueError(f"{op}: `percentile` must be at most 100, got {self.percentile}")
        if not isinstance(self.estimator, DynamicRangeEstimator | None):
            raise TypeError(
                f"{op}: `estimator` is {type(self.estimator).__name__}, "
                "expected a DynamicRangeEstimator or None"
            )

    @numpy_defaults
    def calibrate(
        self,
        weights: ArrayLike,
        hardware_state: Mapping[str, Any] | None = None,
        *,
        bits: int | None = None,
    ) -> QuantizerParams:
        """Bits from the state of the hardware, and levels from the weights.

        The state is any subset of

            snr_db           SNR of a sine of full scale at 300 K, electrical dB
            noise_std        standard deviation of the noise at 300 K, unit of the signal; the
                             signal is that of `estimator`, or else the weights
            temperature_k    scales the noise as thermal noise, SNR - 10·log10(T / 300 K)
            power_budget_mw  caps the bits of a converter, P = energy_per_step·rate·2^b

        Where SNR and noise are both given the lower SNR counts; where neither is, the noise that
        `estimator` has seen, and without any an SNR of 40 dB. See `bits_for_snr` for the rule.

        Runs on the host, not under `jax.jit`.

        Args:
            weights: f32[...], finite and at most half of the largest f32, 1.7e38.
            hardware_state: see above.
            bits: 1 to 16, in place of the bits from the state.

        Raises:
            TypeError: an argument is of the wrong type, or the weights are traced.
            ValueError: weights are empty, ragged, not finite or too large; the state has an unknown
                key, a negative or non-finite value, or a budget that does not pay for one bit;
                `bits` is outside 1 to 16, or 1 to 8 for "lut".
        """
        w = concrete(_CALIBRATE, "weights", weights)
        largest = float(np.abs(w).max())
        if largest > _MAX_WEIGHT:
            raise ValueError(
                f"{_CALIBRATE}: `weights` has magnitudes up to {largest:.3g}, expected at most "
                f"{_MAX_WEIGHT:.3g}, so that f32 holds every level; scale them down"
            )
        axis = _arguments.axis(_CALIBRATE, self.axis, w.ndim)
        state = check_state(_CALIBRATE, hardware_state)
        most = _MAX_LUT_BITS if self.method == "lut" else MAX_BITS
        if bits is None:
            seen = DynamicRangeEstimator().update(w) if self.estimator is None else self.estimator
            bits = min(self._bits(state, seen), most)
        bits = integer(_CALIBRATE, "bits", bits, at_least=1, at_most=most)

        rows = w.reshape(1, -1) if axis is None else np.moveaxis(w, axis, 0)
        params = self._levels(rows.reshape(len(rows), -1), bits, axis)
        with np.errstate(over="ignore"):
            mse = np.float32(mean_squared_error(w, params))
        return dataclasses.replace(params, mse=jnp.asarray(mse))

    def quantize(
        self,
        weights: ArrayLike,
        params: QuantizerParams,
        *,
        activations: ArrayLike | None = None,
        damping: float = 0.01,
    ) -> jax.Array:
        """Codes of the weights, int8, int16 or uint8 (look-up table) of their shape.

        Without activations each weight goes to the nearest level; that also runs under `jax.jit`.
        With activations, the error of a weight is made up for by the ones after it, see
        `error_feedback`.

        Args:
            weights: f32[...]; f32[K, N] with activations.
            params: from `calibrate`.
            activations: inputs of the layer, f32[..., K].
            damping: share of the mean input power that is added to each one; not negative.

        Raises:
            ValueError: weights or activations are not finite, or the shapes do not fit.
        """
        if activations is not None:
            return error_feedback(weights, params, activations, damping=damping)
        op = "WeightQuantizer.quantize"
        if not isinstance(weights, Tracer):
            weights = concrete(op, "weights", weights)
        _params.check_channels(op, "weights", np.shape(weights), params)
        return _params.quantize(weights, params)

    def dequantize(self, codes: ArrayLike, params: QuantizerParams) -> jax.Array:
        """The levels of the codes, f32 of their shape; also under `jax.jit`."""
        op = "WeightQuantizer.dequantize"
        code = numeric(op, "codes", codes, "an array of integers")
        if not jnp.issubdtype(code.dtype, jnp.integer):
            raise TypeError(f"{op}: `codes` is {code.dtype}, expected integers")
        _params.check_channels(op, "codes", code.shape, params)
        return _params.dequantize(code, params)

    def _bits(self, state: Mapping[str, float], seen: DynamicRangeEstimator) -> int:
        """Fewest bits for the SNR, capped by the power."""
        if seen.full_scale is None:
            raise ValueError(f"{_CALIBRATE}: `estimator` has seen no signal, expected an update")
        candidates = [state["snr_db"]] if "snr_db" in state else []
        noise = min(state["noise_std"], _MOST_NOISE) if "noise_std" in state else None
        if noise is None and not candidates and seen.noise_std is not None:
            noise = seen.noise_std
        if noise is not None:
            # One resolution serves all channels: the best of them decides.
            candidates.append(float(jnp.max(seen.snr_db(noise))))
        snr_db = min(candidates, default=REFERENCE_SNR_DB)
        if "temperature_k" in state:
            snr_db = snr_at(snr_db, state["temperature_k"])
        bits = bits_for_snr(snr_db, loss_db=self.loss_db)
        if "power_budget_mw" not in state:
            return bits
        most = paid_bits(
            _CALIBRATE,
            "hardware_state['power_budget_mw']",
            state["power_budget_mw"],
            energy_per_step_fj=self.energy_per_step_fj,
            rate_hz=self.rate_hz,
        )
        return min(bits, most)

    def _levels(self, rows: NDArray[np.float32], bits: int, axis: int | None) -> QuantizerParams:
        """Params for rows [channels, n], without their error."""
        if self.method == "lut":
            lut = np.stack([_best_lut(row, bits) for row in rows])
            ones = np.ones(len(rows), np.float32)
            return _shaped(ones, np.zeros_like(ones), lut, bits, axis, (0, 2**bits - 1))
        codes = codes_of(bits, affine=self._all_levels)
        if self.group is None:
            scale, offset = self._of_rows(rows, bits)
            return _shaped(scale, offset, None, bits, axis, codes)
        starts = range(0, rows.shape[1], self.group)
        found = [self._of_rows(rows[:, start : start + self.group], bits) for start in starts]
        scale, offset = (np.stack([part[i] for part in found], axis=1) for i in (0, 1))
        params = _shaped(scale, offset, None, bits, axis, codes)
        return dataclasses.replace(params, group=self.group)

    def _of_rows(
        self, rows: NDArray[np.float32], bits: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scales and offsets of rows [n, values], f32[n]."""
        if self.group is not None and self.method == "optimal":
            scales, offsets = near_best_uniform(rows, bits, affine=self.affine)
        else:
            uniform = [self._uniform(row, bits) for row in rows]
            scales = np.asarray([u.scale for u in uniform])
            offsets = np.asarray([u.offset for u in uniform])
        return _f32_scale(scales), offsets.astype(np.float32)

    @property
    def _all_levels(self) -> bool:
        """Whether the codes are all 2^b, and not those of the signed converter alone."""
        return self.affine and self.method == "optimal"

    def _uniform(self, row: NDArray[np.float32], bits: int) -> Uniform:
        """The levels of one channel: those of the method, unless "absmax" is better."""
        magnitude = np.abs(row)
        lowest, highest = codes_of(bits, affine=self._all_levels)
        absmax = covering(float(magnitude.max()), bits)._replace(lowest=lowest, highest=highest)
        if self.method == "absmax":
            return absmax
        if self.method == "percentile":
            found = covering(float(np.percentile(magnitude, self.percentile)), bits)
        else:
            found = best_uniform(row, bits, affine=self.affine)
        # The search is in f64; in f32, where the codes are made, a tie may go the other way.
        return min(found, absmax, key=lambda u: _squared_error(row, _restored(row, u)))


def mean_squared_error(w: NDArray[np.float32], params: QuantizerParams) -> float:
    """Of the weights that the codes of `w` stand for, in f64."""
    restored = np.asarray(_params.dequantize(_params.quantize(w, params), params), np.float64)
    return float(np.mean((w - restored) ** 2))


def _best_lut(row: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """The 2^bits best levels, ascending: of k-means, unless those of "absmax" are better.

    K-means merges neighbors where there are very many values, and f64 does not tell small ones
    apart beside one that is far away.
    """
    found = kmeans_1d(row, 2**bits).astype(np.float32)
    signed = covering(float(np.abs(row).max()), bits)
    levels = (
        np.arange(signed.lowest, signed.highest + 1) - np.float32(signed.offset)
    ) * _f32_scale(signed.scale)
    absmax = np.pad(levels, (0, len(found) - len(levels)), mode="edge").astype(np.float32)

    def error(lut: NDArray[np.float32]) -> float:
        nearest = np.searchsorted(np.float32(0.5) * (lut[1:] + lut[:-1]), row)
        return _squared_error(row, lut[nearest])

    return min(found, absmax, key=error)


def _f32_scale(scale: Any) -> Any:
    """Scales as they are stored: 0 where all values are 0, else what f32 can divide by."""
    tiny = float(np.finfo(np.float32).tiny)
    return np.float32(np.where(np.asarray(scale) > 0, np.maximum(scale, tiny), 0.0))


def _restored(row: NDArray[np.float32], uniform: Uniform) -> NDArray[np.float32]:
    """What the codes of a row stand for, in the arithmetic of `quantize` and `dequantize`."""
    scale, offset = _f32_scale(uniform.scale), np.float32(uniform.offset)
    code = np.rint(row / (scale or np.float32(1)) + offset)
    return (np.clip(code, uniform.lowest, uniform.highest) - offset) * scale


def _squared_error(row: NDArray[np.float32], restored: NDArray[np.float32]) -> float:
    return float(np.sum((row.astype(np.float64) - restored) ** 2))


def _shaped(
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    lut: NDArray[np.float32] | None,
    bits: int,
    axis: int | None,
    codes: tuple[int, int],
) -> QuantizerParams:
    """Params from values per channel; without an axis there is one channel, which is dropped."""

    def shaped(values: NDArray[np.float32]) -> jax.Array:
        return jnp.asarray(values[0] if axis is None else values)

    return QuantizerParams(
        scale=shaped(scale),
        zero_point=shaped(offset),
        lut=None if lut is None else shaped(lut),
        mse=jnp.float32(0),
        bits=bits,
        axis=axis,
        codes=codes,
    )
