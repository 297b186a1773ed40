"""Lumina-JAX, called as a user calls it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lumina_jax import NoiseModel, OpticalSpec, optical_matmul, optical_noise

from .._peers import Program
from .._problem import Problem, Workload
from ._jax import forward_program, normals_program, step_program


def forward(problem: Problem) -> Program:
    """The output."""
    return forward_program(_chain(problem), problem)


def step(problem: Problem) -> Program:
    """The output and the gradients of x and w."""
    return step_program(_chain(problem), problem)


def normals(rows: int, columns: int) -> Program:
    """Standard normal numbers, f32[rows, columns]."""
    return normals_program(lambda key: optical_noise(key, (rows, columns)))


def spec(workload: Workload) -> OpticalSpec:
    """The converters of a workload."""
    return OpticalSpec(
        dac_bits=workload.dac_bits or None,
        weight_bits=workload.weight_bits or None,
        adc_bits=workload.adc_bits or None,
        grad_precision=workload.grad_precision,
    )


def _chain(problem: Problem) -> Any:
    converters = spec(problem.workload)
    w_full_scale = jnp.asarray(problem.w_full_scale)

    def chain(x: jax.Array, w: jax.Array, relative: jax.Array, key: jax.Array) -> jax.Array:
        return optical_matmul(
            x,
            w,
            spec=converters,
            x_full_scale=np.float32(problem.x_full_scale),
            w_full_scale=w_full_scale,
            y_full_scale=np.float32(problem.y_full_scale),
            noise=NoiseModel(relative=relative),
            key=key,
        )

    return chain
