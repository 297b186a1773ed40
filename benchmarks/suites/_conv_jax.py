"""The convolution in plain JAX: lax.conv_general_dilated, jax.random.normal, and quantizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from .._peers import Program
from .._problem import Problem
from ..peers._jax import bound, converter, noisy


def forward(problem: Problem, groups: int) -> Program:
    """The output."""
    return forward_program(_chain(problem, groups), problem)


def step(problem: Problem, groups: int) -> Program:
    """The output and the gradients of x and of the kernel."""
    return step_program(_chain(problem, groups), problem)


def forward_program(chain: Callable[..., jax.Array], problem: Problem) -> Program:
    """That of a function of x, the kernel, the noise level and a key."""
    return bound(jax.jit(chain), problem)


def step_program(chain: Callable[..., jax.Array], problem: Problem) -> Program:
    """The same with its gradients."""

    def run(x: jax.Array, w: jax.Array, g: jax.Array, relative: jax.Array, key: jax.Array) -> Any:
        y, pull = jax.vjp(lambda x, w: chain(x, w, relative, key), x, w)
        return y, *pull(g)

    return bound(jax.jit(run), problem, cotangent=True)


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


def _by_column(bits: int, full_scale: Any) -> Callable[[jax.Array], jax.Array]:
    """The converter of what has its columns last, which costs no copy."""
    convert = converter(bits, full_scale)
    return lambda v: convert(v.reshape(-1, v.shape[-1])).reshape(v.shape)


def _chain(problem: Problem, groups: int) -> Callable[..., jax.Array]:
    workload = problem.workload
    x_dac = _by_column(workload.dac_bits, problem.x_full_scale)
    w_dac = _by_column(workload.weight_bits, problem.w_full_scale)
    adc = _by_column(workload.adc_bits, problem.y_full_scale)

    def chain(x: jax.Array, w: jax.Array, relative: jax.Array, key: jax.Array) -> jax.Array:
        return adc(noisy(product(x_dac(x), w_dac(w), groups), relative, key))

    return chain
