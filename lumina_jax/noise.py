"""Parameters of the analog noise."""

from __future__ import annotations

from dataclasses import dataclass

import jax


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """Standard deviations of the noise that an optical matmul adds to its output y.

        σ² = thermal² + shot²·|y| + relative²·y² + weight²·Σ_k x_q²

    A pytree: the fields are Python numbers or scalar arrays, and may be traced, so that a noise
    schedule does not compile anew and each field has a gradient. None of them may be negative.
    """

    relative: float | jax.Array = 0.0
    """Multiplicative noise such as laser intensity noise, as a fraction of y (no unit)."""
    shot: float | jax.Array = 0.0
    """Shot noise, as the standard deviation at |y| = 1 (square root of the unit of y)."""
    thermal: float | jax.Array = 0.0
    """Additive receiver noise (unit of y)."""
    weight: float | jax.Array = 0.0
    """Fresh additive noise of every weight (unit of w): a Gaussian of std weight·‖x_q‖ on y."""
