"""Causal attention by jax.nn, compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._peers import Program

_attention = functools.partial(jax.nn.dot_product_attention, is_causal=True)


def forward(q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray) -> Program:
    """The outputs."""
    del g
    return forward_program(_attention, q, k, v)


def step(q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray) -> Program:
    """The outputs, and the gradients of q, k and v."""
    return step_program(_attention, q, k, v, g)


def forward_program(of: Callable[..., jax.Array], *operands: np.ndarray) -> Program:
    """That of one function of q, k and v."""
    compiled, arrays = jax.jit(of), [jnp.asarray(operand) for operand in operands]
    return Program(lambda _: lambda: (jax.block_until_ready(compiled(*arrays)),), _to_numpy)


def step_program(of: Callable[..., jax.Array], *operands: np.ndarray) -> Program:
    """Its outputs, and its gradients for the last of the operands."""

    @jax.jit
    def compiled(*operands: jax.Array) -> tuple[jax.Array, ...]:
        *factors, g = operands
        out, pull = jax.vjp(of, *factors)
        return (out, *pull(g))

    arrays = [jnp.asarray(operand) for operand in operands]
    return Program(lambda _: lambda: jax.block_until_ready(compiled(*arrays)), _to_numpy)


def _to_numpy(results: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(result) for result in results)
