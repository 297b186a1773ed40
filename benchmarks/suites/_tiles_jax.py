"""Arrays of limited inputs in plain JAX: a loop over tiles, unrolled where it is compiled."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .._peers import Program
from ..peers._jax import converter, forward_program, noisy, step_program
from ._tiles_problem import Tiled


def forward(problem: Tiled) -> Program:
    """The output."""
    return forward_program(_chain(problem), problem)


def step(problem: Tiled) -> Program:
    """The output and the gradients of x and w."""
    return step_program(_chain(problem), problem)


def _chain(problem: Tiled) -> Callable[..., jax.Array]:
    workload = problem.workload
    x_dac = converter(workload.dac_bits, problem.x_full_scale)
    w_dac = converter(workload.weight_bits, problem.w_full_scale)
    adc = converter(workload.adc_bits, problem.y_full_scale)

    def chain(x: jax.Array, w: jax.Array, relative: jax.Array, key: jax.Array) -> jax.Array:
        x, w = x_dac(x), w_dac(w)
        out = jnp.float32(0)
        for number, tile in enumerate(problem.tiles):
            y = jnp.matmul(x[:, tile], w[tile])
            if problem.noisy:
                y = noisy(y, relative, jax.random.fold_in(key, number))
            out = out + adc(y)
        return out

    return chain
