"""The complex products in plain JAX."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from .._peers import Program
from ..peers._jax import converter, forward_program, step_program
from ._complex_problem import BITS, Problem


def product(problem: Problem) -> Program:
    """The plain product."""
    return product_program(jnp.matmul, problem)


def optical(problem: Problem) -> Program:
    """Converters and noise, written with jnp."""
    return forward_program(_chain(problem), problem)


def step(problem: Problem) -> Program:
    """The same with its gradients."""
    return step_program(_chain(problem), problem)


def product_program(of: Callable[[jax.Array, jax.Array], jax.Array], problem: Problem) -> Program:
    """That of one function of x and w."""
    compiled, x, w = jax.jit(of), jnp.asarray(problem.x), jnp.asarray(problem.w)
    return Program(
        lambda _: lambda: jax.block_until_ready(compiled(x, w)),
        lambda result: (np.asarray(result),),
    )


def _chain(problem: Problem) -> Callable[..., jax.Array]:
    x_dac, w_dac, adc = map(
        _converter, (problem.x_full_scale, problem.w_full_scale, problem.y_full_scale)
    )

    def chain(x: jax.Array, w: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
        y = jnp.matmul(x_dac(x), w_dac(w))
        parts = jax.random.normal(key, (2, *y.shape))
        sigma = level * jnp.abs(y) * np.float32(0.5**0.5)
        return adc(jax.lax.complex(y.real + sigma * parts[0], y.imag + sigma * parts[1]))

    return chain


def _converter(full_scale: float) -> Callable[[jax.Array], jax.Array]:
    of_part = converter(BITS, full_scale)
    return lambda z: jax.lax.complex(of_part(z.real), of_part(z.imag))
