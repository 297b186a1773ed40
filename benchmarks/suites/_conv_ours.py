"""The convolution as a user calls it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lumina_jax import NoiseModel, optical_conv

from .._peers import Program
from .._problem import Problem
from ..peers._jax import forward_program, step_program
from ..peers._ours import spec


def forward(problem: Problem, groups: int) -> Program:
    """The output."""
    return forward_program(_chain(problem, groups), problem)


def step(problem: Problem, groups: int) -> Program:
    """The output and the gradients of x and of the kernel."""
    return step_program(_chain(problem, groups), problem)


def _chain(problem: Problem, groups: int) -> Callable[..., jax.Array]:
    converters, w_full_scale = spec(problem.workload), jnp.asarray(problem.w_full_scale)

    def chain(x: jax.Array, w: jax.Array, relative: jax.Array, key: jax.Array) -> jax.Array:
        return optical_conv(
            x,
            w,
            feature_group_count=groups,
            spec=converters,
            x_full_scale=np.float32(problem.x_full_scale),
            w_full_scale=w_full_scale,
            y_full_scale=np.float32(problem.y_full_scale),
            noise=NoiseModel(relative=relative),
            key=key,
        )

    return chain
