"""The types of numbers that a device computes in."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


def not_float32(dtype: Any) -> str:
    """Why a layer that computes in `dtype` stays digital; "" for float32."""
    name = jnp.dtype(dtype).name
    return "" if name == "float32" else f"computes in {name}, and the device in float32"
