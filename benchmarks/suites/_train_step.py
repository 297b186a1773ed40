"""A training step of JAX as users write it, around whatever computes the logits."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._peers import Program
from .._profile import UPDATE
from ._train_problem import Training

Predict: TypeAlias = Callable[[Any, Any, jax.Array, jax.Array], tuple[jax.Array, Any]]
"""Logits and the ranges for the next batch, of parameters, ranges, images and the key of a step."""


def optimizer(training: Training) -> optax.GradientTransformation:
    """That of the method."""
    make = {"sgd": optax.sgd, "adam": optax.adam}[training.method.optimizer]
    return make(training.learning_rate)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over the batch, f32[]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def batches(training: Training) -> list[tuple[jax.Array, jax.Array]]:
    """Images and labels on the device."""
    return [(jnp.asarray(images), jnp.asarray(labels)) for images, labels in training.batches]


def program(
    training: Training, start: tuple[Any, Any], predict: Callable[[float], Predict]
) -> Program:
    """One jitted function of the state, which it takes over, and a batch; its result is the loss.

    Args:
        training: what is trained.
        start: parameters and ranges of the first step.
        predict: the model at a relative level of the noise.
    """
    update = optimizer(training)
    data = batches(training)
    seeds = itertools.count()

    @functools.cache
    def compiled(level: float) -> Any:
        model = predict(level)

        def step(state: Any, images: jax.Array, labels: jax.Array, key: jax.Array) -> Any:
            params, ranges, moments, count = state
            key = jax.random.fold_in(key, count)

            def loss(params: Any) -> tuple[jax.Array, Any]:
                logits, seen = model(params, ranges, images, key)
                return cross_entropy(logits, labels), seen

            (value, seen), gradient = jax.value_and_grad(loss, has_aux=True)(params)
            with jax.named_scope(UPDATE):
                updates, moments = update.update(gradient, moments, params)
                params = optax.apply_updates(params, updates)
            return (params, seen, moments, count + 1), value

        return jax.jit(step, donate_argnums=0)

    def fresh() -> Any:
        params, ranges = jax.tree.map(jnp.copy, start)
        return params, ranges, update.init(params), jnp.int32(0)

    def bind(level: float) -> Callable[[], jax.Array]:
        step, state, key = compiled(level), fresh(), jax.random.key(next(seeds))
        order = itertools.cycle(data)

        def run() -> jax.Array:
            nonlocal state
            state, value = step(state, *next(order), key)
            return jax.block_until_ready(value)

        return run

    def hlo(level: float) -> str:
        lowered = compiled(level).lower(fresh(), *data[0], jax.random.key(0))
        return lowered.compile().as_text()

    return Program(bind, to_numpy, hlo)


def to_numpy(value: Any) -> tuple[np.ndarray, ...]:
    """The loss f32[]."""
    return (np.asarray(value),)
