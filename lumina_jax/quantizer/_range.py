"""What a stream of values shows of its range and of the noise of the hardware."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .. import _arguments
from .._arguments import magnitude, number, numeric
from .._floating_point import numpy_defaults
from ._params import known

_OP = "DynamicRangeEstimator"
_REAL = (jnp.floating, jnp.integer, jnp.bool_)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DynamicRangeEstimator:
    """Running range of a signal and running noise of the hardware that carries it.

        estimator = DynamicRangeEstimator()
        for batch, readout in stream:
            estimator = estimator.update(batch, noise=readout - batch)

    With `momentum=None` the range is the largest magnitude so far and the powers are means over
    all values; with a momentum m they follow the stream,

        range <- m · range + (1 - m) · max|v|        power <- m · power + (1 - m) · mean(v²)

    and start at the first batch. Values that are not finite are left out, and a batch without a
    finite value changes nothing. A pytree, so that `update` may run under `jax.jit`.
    """

    axis: int | None = dataclasses.field(default=None, metadata={"static": True})
    """Axis of the channels; None for one range of all values."""
    momentum: float | None = dataclasses.field(default=None, metadata={"static": True})
    """Share of the old estimate, 0 to 1 exclusive; None to weigh all values the same."""
    full_scale: jax.Array | None = None
    """Largest magnitude, f32[] or f32[channels] (unit of the values); None before a signal."""
    signal_power: jax.Array | None = None
    """Mean square of the signal, shaped as `full_scale`."""
    signal_count: jax.Array | None = None
    """Values in `signal_power`, shaped as `full_scale`."""
    noise_power: jax.Array | None = None
    """Mean square of the noise, shaped as `full_scale`; None before any noise."""
    noise_count: jax.Array | None = None
    """Values in `noise_power`, shaped as `full_scale`."""

    def __repr__(self) -> str:
        names = ("full_scale", "signal_power", "noise_power")
        seen = "".join(known(name, getattr(self, name)) for name in names)
        return f"DynamicRangeEstimator(axis {self.axis}, momentum {self.momentum}{seen})"

    def __post_init__(self) -> None:
        if self.momentum is not None and not 0 <= number(_OP, "momentum", self.momentum) < 1:
            raise ValueError(f"{_OP}: `momentum` must be in [0, 1), got {self.momentum}")

    @numpy_defaults
    def update(self, signal: ArrayLike, *, noise: ArrayLike | None = None) -> Self:
        """The estimator after one more batch.

        Args:
            signal: f32[...].
            noise: readout minus what should have been read, f32[...]; channels as in `signal`.

        Raises:
            ValueError: `axis` is outside of the rank, or the channels are not those of before.
        """
        seen, power, count = self._statistics("signal", signal)
        full_scale = seen
        if self.full_scale is not None:
            if self.momentum is None:
                full_scale = jnp.maximum(self.full_scale, seen)
            else:
                m = np.float32(self.momentum)
                blended = jnp.where(self.full_scale > 0, m * self.full_scale + (1 - m) * seen, seen)
                full_scale = jnp.where(count > 0, blended, self.full_scale)
        power, count = self._follow(self.signal_power, self.signal_count, power, count)
        after = dataclasses.replace(
            self, full_scale=full_scale, signal_power=power, signal_count=count
        )
        if noise is None:
            return after
        _, power, count = self._statistics("noise", noise)
        power, count = self._follow(self.noise_power, self.noise_count, power, count)
        return dataclasses.replace(after, noise_power=power, noise_count=count)

    @property
    def noise_std(self) -> jax.Array | None:
        """Root mean square of the noise, shaped as `full_scale`; None before any noise."""
        return None if self.noise_power is None else jnp.sqrt(self.noise_power)

    def snr_db(self, noise_std: ArrayLike | None = None) -> jax.Array:
        """SNR of a sine of full scale, electrical dB, shaped as `full_scale`.

            SNR = 20·log10(full_scale / (√2·noise_std))

        That is the SNR of `ENOB = (SNR - 1.76) / 6.02`; the power of the signal itself does not
        enter, because a converter must span the range whatever the signal does in it. Without noise
        it is infinite, whatever the range, and of a range of 0 in noise it is -infinity.

        Args:
            noise_std: standard deviation of the noise (unit of the signal), not negative; None: the
                one seen.

        Raises:
            ValueError: no signal was seen, or no noise and none is given.
        """
        op = f"{_OP}.snr_db"
        std = self.noise_std if noise_std is None else magnitude(op, "noise_std", noise_std)
        if self.full_scale is None or std is None:
            missing = "signal" if self.full_scale is None else "noise"
            raise ValueError(f"{op}: no {missing} seen yet, expected an update with one")
        noisy = std > 0
        # A difference of logarithms: the ratio of two numbers of f32 need not be one.
        below = jnp.log10(self.full_scale) - jnp.log10(jnp.where(noisy, std, np.float32(1)))
        return jnp.where(noisy, 20 * below - np.float32(10 * math.log10(2)), np.float32(np.inf))

    def _statistics(self, name: str, v: ArrayLike) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Largest magnitude, mean square and number of the finite values."""
        v = numeric(_OP, name, v, "an array of real numbers")
        if not any(jnp.issubdtype(v.dtype, kind) for kind in _REAL):
            raise TypeError(f"{_OP}: `{name}` must be an array of real numbers, got {v.dtype}")
        v = v.astype(jnp.float32)
        axis = _arguments.axis(_OP, self.axis, v.ndim)
        over = tuple(i for i in range(v.ndim) if i != axis)
        if self.full_scale is not None:
            channels = () if axis is None else (v.shape[axis],)
            if channels != self.full_scale.shape:
                raise ValueError(
                    f"{_OP}: `{name}` has channels {channels}, expected {self.full_scale.shape}"
                )
        finite = jnp.isfinite(v)
        magnitude = jnp.where(finite, jnp.abs(v), np.float32(0))
        largest = jnp.max(magnitude, axis=over, initial=0)
        # Relative to the largest, so that the squares of large values stay finite.
        unit = jnp.where(largest > 0, largest, np.float32(1))
        ratio = magnitude / jnp.expand_dims(unit, over)
        count = jnp.sum(finite, axis=over, dtype=jnp.float32)
        mean = jnp.sum(ratio * ratio, axis=over) / jnp.maximum(count, 1)
        return largest, mean * unit * unit, count

    def _follow(
        self,
        old: jax.Array | None,
        old_count: jax.Array | None,
        new: jax.Array,
        count: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """Power and number of values after a batch."""
        if old is None or old_count is None:
            return new, count
        total = old_count + count
        if self.momentum is None:
            share = count / jnp.maximum(total, 1)
        else:
            share = jnp.where(old_count > 0, np.float32(1 - self.momentum), np.float32(1))
        # Powers that f32 does not hold are infinite, and so has no difference.
        moved = jnp.where(jnp.isinf(old), old, old + share * (new - old))
        return jnp.where(count > 0, moved, old), total
