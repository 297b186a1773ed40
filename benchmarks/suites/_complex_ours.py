"""The complex products as a user calls them."""

from __future__ import annotations

import jax

from lumina_jax import NoiseModel, OpticalSpec, complex_matmul, complex_optical_matmul

from .._peers import Program
from ._complex_jax import optical_program, product_program
from ._complex_problem import Problem

_SPEC = OpticalSpec(dac_bits=8, weight_bits=8, adc_bits=8)


def product(problem: Problem) -> Program:
    """The plain product."""
    return product_program(complex_matmul, problem)


def optical(problem: Problem) -> Program:
    """Converters and noise."""

    def chain(x: jax.Array, w: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
        return complex_optical_matmul(
            x, w, spec=_SPEC, x_full_scale=problem.x_full_scale, w_full_scale=problem.w_full_scale,
            y_full_scale=problem.y_full_scale, noise=NoiseModel(relative=level), key=key,
        )  # fmt: skip

    return optical_program(chain, problem)
