"""Lumina-JAX, called as a user calls it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lumina_jax import NoiseModel, OpticalSpec, optical_matmul, optical_noise

from .._peers import Program
from .._problem import Problem, Workload
from ._jax import bound, normals_program


def forward(problem: Problem) -> Program:
    """The output."""
    chain = _chain(problem)
    return bound(jax.jit(chain), problem)


def step(problem: Problem) -> Program:
    """The output and the gradients of x and w."""
    chain = _chain(problem)

    def run(x: jax.Array, w: jax.Array, g: jax.Array, relative: jax.Array, key: jax.Array) -> Any:
        y, pull = jax.vjp(lambda x, w: chain(x, w, relative, key), x, w)
        return y, *pull(g)

    return bound(jax.jit(run), problem, cotangent=True)


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
