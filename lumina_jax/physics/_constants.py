"""Constants of nature, and a root that has a gradient at 0."""

from __future__ import annotations

import jax
import jax.numpy as jnp

ELEMENTARY_CHARGE = 1.602176634e-19
"""q, C (exact, SI 2019)."""
BOLTZMANN = 1.380649e-23
"""k, J/K (exact, SI 2019)."""
PLANCK = 6.62607015e-34
"""h, J·s (exact, SI 2019)."""
LIGHT_SPEED = 299792458.0
"""c, m/s (exact, SI 2019)."""


def root(v: jax.Array) -> jax.Array:
    """√v for v ≥ 0, with the gradient 0 instead of inf at v = 0."""
    lit = v > 0
    return jnp.where(lit, jnp.sqrt(jnp.where(lit, v, 1.0)), 0.0)
