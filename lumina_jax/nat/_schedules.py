"""Schedules: how strong the noise is at each step of the training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._arguments import integer, numeric, real, scalar
from ..hardware.noise import NoiseModel, times
from ..hardware.profiles import HardwareProfile, profile_of

_STEPS = 2**31 - 1
"""Steps that an int32 counts, as JAX does."""
Schedule: TypeAlias = Callable[[ArrayLike], jax.Array]
"""From the step, a number that may be traced, to a factor f32[] on the noise."""


def scale_noise(noise: NoiseModel | HardwareProfile | str, factor: ArrayLike) -> NoiseModel:
    """The noise with all four standard deviations times `factor`, and so all variances factor².

    Traced factors do not compile anew:

        level = nat.linear(0.0, 1.0, 1000)
        noise = nat.scale_noise(noise, level(step))       inside the jitted training step

    Args:
        noise: at its full strength; that of a profile, or of the preset of that name.
        factor: scalar, not negative; 0 is no noise, 1 the noise as it is.

    Returns:
        The noise; a field that is the number 0 stays that number.
    """
    if isinstance(noise, HardwareProfile | str):
        noise = profile_of("scale_noise", noise).noise
    if not isinstance(noise, NoiseModel):
        kind = type(noise).__name__
        raise TypeError(f"scale_noise: `noise` must be a NoiseModel or a device, got {kind}")
    factor = scalar("scale_noise", "factor", factor, at_least=0)
    return jax.tree.map(lambda std: times(std, factor), noise)


def constant(value: float) -> Schedule:
    """`value` at every step.

    Args:
        value: factor on the noise, not negative.
    """
    value = _level("constant", "value", value)
    return lambda step: jnp.full(_step("constant", step).shape, value, jnp.float32)


def linear(start: float, end: float, steps: int, begin: int = 0) -> Schedule:
    """From `start` to `end` along a line: `start + (end - start)·clip((step - begin)/steps, 0, 1)`.

    Args:
        start: factor on the noise up to step `begin`, not negative.
        end: factor from step `begin + steps` on, not negative.
        steps: how long the change takes, at least 1.
        begin: step at which it begins, not negative.
    """
    return _between("linear", start, end, steps, begin, lambda t: t)


def cosine(start: float, end: float, steps: int, begin: int = 0) -> Schedule:
    """From `start` to `end` along half a cosine, flat at both ends.

        start + (end - start)·(1 - cos(π·t))/2        t = clip((step - begin)/steps, 0, 1)

    Args:
        start: factor on the noise up to step `begin`, not negative.
        end: factor from step `begin + steps` on, not negative.
        steps: how long the change takes, at least 1.
        begin: step at which it begins, not negative.
    """
    return _between("cosine", start, end, steps, begin, lambda t: (1 - jnp.cos(math.pi * t)) / 2)


def curriculum(stages: Sequence[tuple[int, float]]) -> Schedule:
    """Stages of training: `curriculum([(0, 0.0), (500, 0.5), (1000, 1.0)])`.

    Each pair is a step and the factor on the noise from that step on, up to the next.

    Args:
        stages: pairs whose steps grow from 0 and whose factors are not negative.

    Raises:
        TypeError, ValueError: they are not that.
    """
    try:
        pairs = [(begin, value) for begin, value in stages]
    except (TypeError, ValueError):
        raise TypeError(
            f"curriculum: `stages` must be pairs (step, factor), got {stages!r}"
        ) from None
    begins = [
        integer("curriculum", "stages", begin, at_least=0, at_most=_STEPS) for begin, _ in pairs
    ]
    values = [_level("curriculum", "stages", value) for _, value in pairs]
    if not begins or begins[0] != 0:
        raise ValueError(f"curriculum: the first of `stages` must begin at step 0, got {pairs}")
    if any(after <= before for before, after in itertools.pairwise(begins)):
        raise ValueError(f"curriculum: the steps of `stages` must grow, got {begins}")
    starts, factors = np.asarray(begins), np.asarray(values, np.float32)

    def schedule(step: ArrayLike) -> jax.Array:
        now = _step("curriculum", step)
        passed = jnp.searchsorted(jnp.asarray(starts, now.dtype), now, side="right")
        return jnp.asarray(factors)[jnp.maximum(passed, 1) - 1]

    return schedule


def _between(
    name: str,
    start: float,
    end: float,
    steps: int,
    begin: int,
    shape: Callable[[jax.Array], jax.Array],
) -> Schedule:
    start, end = _level(name, "start", start), _level(name, "end", end)
    steps = integer(name, "steps", steps, at_least=1, at_most=_STEPS)
    begin = integer(name, "begin", begin, at_least=0, at_most=_STEPS)

    def schedule(step: ArrayLike) -> jax.Array:
        now = _step(name, step)
        # The difference of whole steps is exact; in f32 it would not be past 2^24.
        passed = now - np.asarray(begin, now.dtype)
        # XLA multiplies by the inverse of a constant, so n/n may not be 1.
        t = jnp.where(
            passed >= np.asarray(steps, now.dtype),
            jnp.float32(1),
            jnp.maximum(passed.astype(jnp.float32) / steps, 0),
        )
        part = shape(t)
        # Exact at both ends, which start + (end - start) is not.
        return (1 - part) * np.float32(start) + part * np.float32(end)

    return schedule


def _level(name: str, argument: str, value: float) -> float:
    return float(scalar(name, argument, value, at_least=0))


def _step(name: str, step: ArrayLike) -> jax.Array:
    array = numeric(name, "step", step, "a number")
    if jnp.issubdtype(array.dtype, jnp.integer):
        # Short integers do not hold the steps of a schedule.
        return array.astype(np.int32) if array.dtype.itemsize < 4 else array
    # Floats of 16 bits, and NaN, are no less for being converted.
    return real(name, "step", step)
