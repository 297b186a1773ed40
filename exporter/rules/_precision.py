"""The precision of products."""

from __future__ import annotations

from typing import Any

import jax

from .._errors import Unsupported


def check_precision(precision: Any) -> None:
    """Raises where products are not to be of full precision, which is what files have."""
    algorithms = jax.lax.DotAlgorithm | jax.lax.DotAlgorithmPreset
    full = (jax.lax.DotAlgorithmPreset.DEFAULT, jax.lax.DotAlgorithmPreset.F32_F32_F32)
    if isinstance(precision, algorithms) and precision not in full:
        raise Unsupported(
            f"its `precision` is {precision}, expected that of the operands; leave `precision` out"
        )
