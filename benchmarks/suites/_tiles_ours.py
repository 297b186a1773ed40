"""Arrays of limited inputs as a user asks for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lumina_jax import NoiseModel, optical_matmul

from .._peers import Program
from ..peers._jax import forward_program, step_program
from ..peers._ours import spec
from ._tiles_problem import Tiled


def forward(problem: Tiled) -> Program:
    """The output."""
    return forward_program(_chain(problem), problem)


def step(problem: Tiled) -> Program:
    """The output and the gradients of x and w."""
    return step_program(_chain(problem), problem)


def _chain(problem: Tiled) -> Callable[..., jax.Array]:
    one_array = problem.rows >= problem.x.shape[1]
    rows = None if one_array else problem.rows
    device = dataclasses.replace(spec(problem.workload), array_rows=rows)
    w_full_scale = jnp.asarray(problem.w_full_scale)

    def chain(x: jax.Array, w: jax.Array, relative: jax.Array, key: jax.Array) -> jax.Array:
        return optical_matmul(
            x,
            w,
            spec=device,
            x_full_scale=np.float32(problem.x_full_scale),
            w_full_scale=w_full_scale,
            y_full_scale=np.float32(problem.y_full_scale),
            noise=NoiseModel(relative=relative) if problem.noisy else None,
            key=key if problem.noisy else None,
        )

    return chain
