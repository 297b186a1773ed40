"""The complex products in plain JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._peers import Program
from ._complex_problem import Problem


def product(problem: Problem) -> Program:
    """The plain product."""
    return product_program(jnp.matmul, problem)


def optical(problem: Problem) -> Program:
    """Converters and noise, written with jnp."""

    def chain(x: jax.Array, w: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
        y = jnp.matmul(_converted(x, problem.x_full_scale), _converted(w, problem.w_full_scale))
        parts = jax.random.normal(key, (2, *y.shape))
        sigma = level * jnp.abs(y) * np.float32(0.5**0.5)
        return _converted(
            jax.lax.complex(y.real + sigma * parts[0], y.imag + sigma * parts[1]),
            problem.y_full_scale,
        )

    return optical_program(chain, problem)


def _converted(z: jax.Array, full_scale: float) -> jax.Array:
    step = np.float32(full_scale / 127)

    def level(part: jax.Array) -> jax.Array:
        return jnp.clip(jnp.round(part / step), -127, 127) * step

    return jax.lax.complex(level(z.real), level(z.imag))


def product_program(of: Callable[[jax.Array, jax.Array], jax.Array], problem: Problem) -> Program:
    """That of one function of x and w."""
    compiled, x, w = jax.jit(of), jnp.asarray(problem.x), jnp.asarray(problem.w)
    return Program(lambda _: lambda: jax.block_until_ready(compiled(x, w)), _to_numpy)


def optical_program(of: Callable[..., jax.Array], problem: Problem) -> Program:
    """That of one function of x, w, the level of the noise and a key."""
    compiled, x, w = jax.jit(of), jnp.asarray(problem.x), jnp.asarray(problem.w)
    key = jax.random.key(0)

    def bind(level: Any) -> Callable[[], Any]:
        traced = jnp.float32(level)
        return lambda: jax.block_until_ready(compiled(x, w, traced, key))

    return Program(bind, _to_numpy)


def _to_numpy(result: Any) -> tuple[np.ndarray, ...]:
    return (np.asarray(result),)
