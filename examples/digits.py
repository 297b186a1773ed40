"""The handwritten digits, a small MLP for them, and one epoch of its training.

Shared by the examples in this folder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from lumina_jax import nat


class Split(NamedTuple):
    """Images f32[n, 64] with pixels from 0 to 1, and their digits i32[n]."""

    images: np.ndarray
    digits: np.ndarray


def load() -> tuple[Split, Split]:
    """The 1347 training and 450 test images, in the proportions of the ten digits."""
    images, digits = cast(tuple[np.ndarray, np.ndarray], load_digits(return_X_y=True))
    parts = train_test_split(
        (images / 16.0).astype(np.float32),
        digits.astype(np.int32),
        test_size=450,
        stratify=digits,
        random_state=0,
    )
    train_x, test_x, train_y, test_y = cast(list[np.ndarray], parts)
    return Split(train_x, train_y), Split(test_x, test_y)


class Mlp(nn.Module):
    """64-64-64-10 with ReLU; the layers are of any kind that is called like `nn.Dense`."""

    dense: Callable[..., nn.Module]
    """Makes a layer from its width and its name."""
    widths: tuple[int, ...] = (64, 64, 10)
    """Outputs of each layer."""

    @nn.compact
    def __call__(self, x: jax.Array, **options: Any) -> jax.Array:
        """Logits f32[..., 10] of images f32[..., 64]; `options` go to each layer's call."""
        for i, width in enumerate(self.widths):
            x = nn.relu(x) if i else x
            x = self.dense(width, name=f"layer{i}")(x, **options)
        return x


def predict(
    model: Mlp, variables: Any, images: Any, key: jax.Array | None = None, **options: Any
) -> jax.Array:
    """Logits f32[..., 10]; `key` draws the noise."""
    rngs = None if key is None else {"noise": key}
    return cast(jax.Array, model.apply(variables, images, rngs=rngs, **options))


def observe(
    model: Mlp, variables: Any, images: Any, key: jax.Array, **options: Any
) -> tuple[jax.Array, Any]:
    """Logits f32[..., 10], and the ranges with what these images show of them."""
    logits, changed = cast(
        tuple[jax.Array, Any],
        model.apply(variables, images, rngs={"noise": key}, mutable=["ranges"], **options),
    )
    return logits, changed.get("ranges", {})


class State(NamedTuple):
    """What training changes."""

    params: Any
    ranges: Any
    optimizer: optax.OptState

    @property
    def variables(self) -> dict[str, Any]:
        """For `Mlp.apply`."""
        return {"params": self.params, "ranges": self.ranges}


def optimizer(steps: int, *, clip: bool) -> optax.GradientTransformation:
    """Adam whose rate falls from 3e-3 to 0 along a cosine; `clip` clips weights at 2.5 sigma."""
    adam = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    return optax.chain(adam, nat.clip_weights(sigma=2.5)) if clip else adam


def start(model: Mlp, update: optax.GradientTransformation, key: jax.Array) -> State:
    """Fresh parameters, uncalibrated ranges."""
    variables = model.init(key, jnp.zeros((1, 64), jnp.float32))
    params = variables["params"]
    return State(params, variables.get("ranges", {}), update.init(params))


def step(
    model: Mlp,
    update: optax.GradientTransformation,
    state: State,
    images: jax.Array,
    digits: jax.Array,
    key: jax.Array,
    draws: int = 1,
    **options: Any,
) -> tuple[State, jax.Array]:
    """One step on the cross-entropy of a batch, each image seen under `draws` draws of noise."""
    images, digits = jnp.repeat(images, draws, axis=0), jnp.repeat(digits, draws, axis=0)

    def loss(params: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, "ranges": state.ranges}
        logits, ranges = observe(model, variables, images, key, **options)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, digits)
        return losses.mean(), ranges

    (value, ranges), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    updates, optimizer_state = update.update(gradient, state.optimizer, state.params)
    return State(optax.apply_updates(state.params, updates), ranges, optimizer_state), value
