"""The convolution in plain JAX: lax.conv_general_dilated, jax.random.normal, and quantizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from .._peers import Program
from .._problem import Problem
from ..peers._jax import converter, forward_program, noisy, step_program


def forward(problem: Problem, groups: int) -> Program:
    """The output."""
    return forward_program(_chain(problem, groups), problem)


def step(problem: Problem, groups: int) -> Program:
    """The output and the gradients of x and of the kernel."""
    return step_program(_chain(problem, groups), problem)


def product(x: Any, w: Any, groups: int) -> jax.Array:
    """NHWC × HWIO, with as many places as x has."""
    return jax.lax.conv_general_dilated(
        x,
        w,
        (1, 1),
        "SAME",
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _chain(problem: Problem, groups: int) -> Callable[..., jax.Array]:
    workload = problem.workload
    x_dac = converter(workload.dac_bits, problem.x_full_scale)
    w_dac = converter(workload.weight_bits, problem.w_full_scale)
    adc = converter(workload.adc_bits, problem.y_full_scale)

    def chain(x: jax.Array, w: jax.Array, relative: jax.Array, key: jax.Array) -> jax.Array:
        return adc(noisy(product(x_dac(x), w_dac(w), groups), relative, key))

    return chain
