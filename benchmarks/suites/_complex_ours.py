"""The complex products as a user calls them."""

from __future__ import annotations

from collections.abc import Callable

import jax

from lumina_jax import NoiseModel, OpticalSpec, complex_matmul, complex_optical_matmul

from .._peers import Program
from ..peers._jax import forward_program, step_program
from ._complex_jax import product_program
from ._complex_problem import BITS, Problem

_SPEC = OpticalSpec(dac_bits=BITS, weight_bits=BITS, adc_bits=BITS)


def product(problem: Problem) -> Program:
    """The plain product."""
    return product_program(complex_matmul, problem)


def optical(problem: Problem) -> Program:
    """Converters and noise."""
    return forward_program(_chain(problem), problem)


def step(problem: Problem) -> Program:
    """The same with its gradients."""
    return step_program(_chain(problem), problem)


def _chain(problem: Problem) -> Callable[..., jax.Array]:
    def chain(x: jax.Array, w: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
        return complex_optical_matmul(
            x, w, spec=_SPEC, x_full_scale=problem.x_full_scale, w_full_scale=problem.w_full_scale,
            y_full_scale=problem.y_full_scale, noise=NoiseModel(relative=level), key=key,
        )  # fmt: skip

    return chain
