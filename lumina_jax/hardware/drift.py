"""Drift of the analog hardware from step to step: random gains, and temperature over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._arguments import integer, real, scalar
from ..custom_vjp._operands import seed_words
from ..physics import SILICON_DRIFT_M_PER_K, drift_gain

_STEPS = 2**31 - 1
"""Steps that an int32 counts, as JAX does."""
_MOST = 1e15
"""Of a standard deviation: no draw takes its product out of f32."""


def random_gain(
    key: jax.Array,
    shape: Sequence[int],
    *,
    gain_std: ArrayLike = 0.0,
    phase_std: ArrayLike = 0.0,
) -> jax.Array:
    """One draw of the factor by which drift changes signals or weights, f32[shape].

        (1 + gain_std·ε₁)·cos(phase_std·ε₂)        ε standard normal

    The second factor is what a homodyne detector sees of a signal that is off in phase; its mean is
    e^(-phase_std²/2). Multiply a kernel f32[K, N] by a draw of shape (K, 1) for channels that
    drift, or (K, N) for rings that do. Fold the step into the key: one draw per step.

    Args:
        key: a random key of JAX.
        shape: of the result.
        gain_std: standard deviation of the gain, as a fraction; not negative.
        phase_std: standard deviation of the phase, rad; not negative.
    """
    name = "random_gain"
    gain_std = real(name, "gain_std", gain_std, at_least=0, at_most=_MOST).astype(jnp.float32)
    phase_std = real(name, "phase_std", phase_std, at_least=0, at_most=_MOST).astype(jnp.float32)
    if isinstance(shape, str | bytes) or not np.iterable(shape):
        raise TypeError(f"{name}: `shape` must be a sequence of extents, got {shape!r}")
    shape = tuple(integer(name, "shape", extent, at_least=0) for extent in shape)
    seed_words(name, key)
    gain, phase = jax.random.normal(key, (2, *shape), jnp.float32)
    return (1 + gain_std * gain) * jnp.cos(phase_std * phase)


def thermal_gain(
    temperature_k: ArrayLike,
    *,
    calibrated_k: ArrayLike,
    fwhm_m: ArrayLike,
    drift_m_per_k: ArrayLike = SILICON_DRIFT_M_PER_K,
) -> jax.Array:
    """Gain of a ring at a temperature other than that it was calibrated at: `X((T - T₀)·dλ/dT)`.

    Args:
        temperature_k: T, K, such as from a schedule of this module.
        calibrated_k: T₀, K.
        fwhm_m: linewidth of the ring, m; above 0.
        drift_m_per_k: dλ/dT, m/K.
    """
    name = "thermal_gain"
    change = real(name, "temperature_k", temperature_k, above=0) - real(
        name, "calibrated_k", calibrated_k, above=0
    )
    fwhm = real(name, "fwhm_m", fwhm_m, above=0)
    return drift_gain(change, fwhm, drift_m_per_k=real(name, "drift_m_per_k", drift_m_per_k))


def temperature_ramp(start_k: float, end_k: float, steps: int) -> Callable[[ArrayLike], jax.Array]:
    """A temperature that goes from `start_k` to `end_k` in `steps` steps and stays there, K.

    Returns:
        A function of the step, which may be traced.
    """
    name = "temperature_ramp"
    start = scalar(name, "start_k", start_k, above=0)
    end = scalar(name, "end_k", end_k, above=0)
    steps = integer(name, "steps", steps, at_least=1, at_most=_STEPS)
    return lambda step: start + (end - start) * jnp.clip(real(name, "step", step) / steps, 0.0, 1.0)


def temperature_cycle(
    mean_k: float, amplitude_k: float, period: int
) -> Callable[[ArrayLike], jax.Array]:
    """A temperature that swings as a sine, K: `mean + amplitude·sin(2π·step/period)`.

    Returns:
        A function of the step, which may be traced.
    """
    name = "temperature_cycle"
    mean = scalar(name, "mean_k", mean_k, above=0)
    amplitude = scalar(name, "amplitude_k", amplitude_k, at_least=0, below=mean_k)
    period = integer(name, "period", period, at_least=1, at_most=_STEPS)
    return lambda step: mean + amplitude * jnp.sin(2 * math.pi / period * real(name, "step", step))
