"""The causal softmax in plain JAX: a mask, and the softmax of jax.nn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._peers import Program


def forward(scores: np.ndarray, g: np.ndarray) -> Program:
    """The probabilities."""
    del g
    return forward_program(softmax, scores)


def backward(scores: np.ndarray, g: np.ndarray) -> Program:
    """The gradient of the scores."""
    return backward_program(softmax, scores, g)


def softmax(scores: jax.Array) -> jax.Array:
    """Of the scores over 8, as heads with 64 features have them."""
    rows, columns = scores.shape[-2:]
    mask = jnp.tril(jnp.ones((rows, columns), bool))
    return jax.nn.softmax(jnp.where(mask, scores * 0.125, -jnp.inf), axis=-1)


def forward_program(of: Callable[[jax.Array], jax.Array], scores: np.ndarray) -> Program:
    """That of one function of the scores."""
    compiled, operand = jax.jit(of), jnp.asarray(scores)
    return Program(lambda _: lambda: jax.block_until_ready(compiled(operand)), _to_numpy)


def backward_program(
    of: Callable[[jax.Array], jax.Array], scores: np.ndarray, g: np.ndarray
) -> Program:
    """Its gradient alone, of what the forward pass has saved."""
    _, pull = jax.jit(lambda scores: jax.vjp(of, scores))(jnp.asarray(scores))
    compiled, operand = jax.jit(lambda pull, g: pull(g)[0]), jnp.asarray(g)
    return Program(lambda _: lambda: jax.block_until_ready(compiled(pull, operand)), _to_numpy)


def _to_numpy(result: Any) -> tuple[np.ndarray, ...]:
    return (np.asarray(result),)
