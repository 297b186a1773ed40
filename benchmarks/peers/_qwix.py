"""Qwix: int8 products of its quantized dot_general, with noise and ADC in JAX.

Qwix has no converter behind the product, and finds the full scales of x and w in the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from qwix._src.core import dot_general_qt  # pyright: ignore[reportMissingImports]

from .._peers import Program, Unsupported
from .._problem import Problem, Workload
from ._jax import bound, converter, noisy

OWN_GRID = True
"""The step of its int8 is absmax / 127.5, where ours is absmax / 127."""


def forward(problem: Problem) -> Program:
    """The output."""
    return bound(jax.jit(_chain(problem)), problem)


def step(problem: Problem) -> Program:
    """The output and the gradients of x and w."""
    chain = _chain(problem)

    def run(x: jax.Array, w: jax.Array, g: jax.Array, relative: jax.Array, key: jax.Array) -> Any:
        y, pull = jax.vjp(lambda x, w: chain(x, w, relative, key), x, w)
        return y, *pull(g)

    return bound(jax.jit(run), problem, cotangent=True)


def _chain(problem: Problem) -> Callable[..., jax.Array]:
    config = _config(problem.workload)
    adc = converter(problem.workload.adc_bits, problem.y_full_scale)
    contract = (((1,), (0,)), ((), ()))

    def chain(x: jax.Array, w: jax.Array, relative: jax.Array, key: jax.Array) -> jax.Array:
        return adc(noisy(dot_general_qt.dot_general_qt(x, w, contract, config), relative, key))

    return chain


def _config(workload: Workload) -> Any:
    if (workload.dac_bits, workload.weight_bits) != (8, 8):
        raise Unsupported("nothing to quantize: it would be the plain JAX program")
    if workload.grad_precision == "bfloat16":
        raise Unsupported("it has no bfloat16 gradient of an int8 product")
    backward = np.int8 if workload.grad_precision == "int8" else None
    return dot_general_qt.DotGeneralQtConfig(
        lhs_qtype=np.int8,
        rhs_qtype=np.int8,
        lhs_disable_channelwise_axes=True,
        dlhs_grad_qtype=backward,
        drhs_grad_qtype=backward,
    )
