"""Clipping of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .._arguments import number

if TYPE_CHECKING:
    import optax


def clip_weights(
    limit: float | None = None,
    *,
    sigma: float | None = None,
    mask: Any | Callable[[Any], Any] | None = None,
) -> optax.GradientTransformation:
    """An optax transformation that keeps every step of the weights within bounds.

        optax.chain(optax.adam(1e-3), nat.clip_weights(sigma=2.5))

    It shortens updates so that params + updates, to rounding, lies

        within ±limit, or
        within ±sigma·std(params + updates), for each tensor by itself.

    Last in a chain; `update` needs the params. Noise that is relative to the largest weight of a
    tensor falls with that weight, and clipping at a few standard deviations is how analog training
    holds it down (V. Joshi et al., Nature Communications 11, 2473 (2020), clip at ±2σ). It does
    nothing for noise that does not depend on the weights.

    Args:
        limit: largest magnitude, above 0 (unit of the weights).
        sigma: largest magnitude over the standard deviation, above 0. A tensor whose standard
            deviation is 0 or NaN is left alone.
        mask: which tensors, as in `optax.masked`: a pytree of bools, or a function of the params.
            None is those of two axes and more, so that biases and learned ranges are left alone.

    Raises:
        ImportError: optax is missing.
        TypeError: a bound is not a number; weights are not real.
        ValueError: not exactly one bound is given, or it is not above 0; `update` without params.
    """
    try:
        import optax
    except ImportError:
        raise ImportError("clip_weights needs optax: pip install 'lumina-jax[flax]'") from None
    if (limit is None) == (sigma is None):
        raise ValueError(
            f"clip_weights: expected one of `limit` and `sigma`, got {limit!r} and {sigma!r}"
        )
    if limit is not None:
        limit = number("clip_weights", "limit", limit, above=0)
    else:
        sigma = number("clip_weights", "sigma", sigma, above=0)

    def clip(update: jax.Array, param: jax.Array) -> jax.Array:
        stepped = param + update
        if not jnp.issubdtype(stepped.dtype, jnp.floating):
            raise TypeError(f"clip_weights: weights must be real, got {stepped.dtype}")
        if sigma is None:
            bound = jnp.asarray(limit, stepped.dtype)
        else:
            spread = jnp.std(stepped)
            bound = jnp.where(spread > 0, spread * np.asarray(sigma, spread.dtype), jnp.inf)
        return (jnp.clip(stepped, -bound, bound) - param).astype(update.dtype)

    def step(updates: Any, params: Any) -> Any:
        return jax.tree.map(clip, updates, params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            raise ValueError(
                "clip_weights: `update` needs the params, got None; "
                "call optimizer.update(grads, state, params)"
            )
        return masked.update(updates, state, params)

    masked = optax.masked(optax.stateless(step), _matrices if mask is None else mask)
    return optax.GradientTransformation(masked.init, update)


def _matrices(params: Any) -> Any:
    return jax.tree.map(lambda param: jnp.ndim(param) >= 2, params)
