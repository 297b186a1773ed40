"""Training with our layers, in Flax Linen and NNX."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from lumina_jax import NoiseModel, layers

from .._peers import Program
from .._profile import LAYER, UPDATE
from ..peers._ours import spec
from . import _train_step
from ._train_problem import Training


def program(training: Training) -> Program:
    """The step of the family."""
    return {"linen": _linen, "nnx": _nnx}[training.method.family](training)


def _device(training: Training, level: float) -> dict[str, Any]:
    """Converters, noise and ranges as arguments of a layer."""
    return {
        "profile": None,
        "spec": spec(training.method.workload),
        "noise": NoiseModel(relative=level) if level else None,
        "ranges": training.method.ranges,
    }


class _Mlp(nn.Module):
    dense: Callable[..., nn.Module]
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, width in enumerate(self.widths):
            x = nn.relu(x) if i else x
            x = self.dense(width, name=f"{LAYER}{i}")(x)
        return x


def _linen(training: Training) -> Program:
    widths = tuple(kernel.shape[1] for kernel in training.kernels)

    def model(level: float) -> _Mlp:
        return _Mlp(functools.partial(layers.OpticalDense, **_device(training, level)), widths)

    def predict(level: float) -> _train_step.Predict:
        net = model(level)

        def apply(params: Any, ranges: Any, images: jax.Array, key: jax.Array) -> Any:
            variables = {"params": params, "ranges": ranges}
            logits, seen = net.apply(variables, images, rngs={"noise": key}, mutable=["ranges"])
            return logits, seen["ranges"]

        return apply

    images = jnp.asarray(training.batches[0][0][:1])
    variables = cast(dict[str, Any], model(0.0).init(jax.random.key(0), images))
    params = {
        f"{LAYER}{i}": {**variables["params"][f"{LAYER}{i}"], "kernel": jnp.asarray(kernel)}
        for i, kernel in enumerate(training.kernels)
    }
    return _train_step.program(training, (params, variables["ranges"]), predict)


class _Net(nnx.Module):
    def __init__(self, training: Training, level: float, seed: int) -> None:
        rngs = nnx.Rngs(params=0, noise=seed)
        self.layers = nnx.List(
            layers.nnx.OpticalDense(*kernel.shape, rngs=rngs, **_device(training, level))
            for kernel in training.kernels
        )
        for layer, kernel in zip(self.layers, training.kernels, strict=True):
            layer.kernel[...] = jnp.asarray(kernel)

    def __call__(self, x: jax.Array) -> jax.Array:
        for i, layer in enumerate(self.layers):
            x = nnx.relu(x) if i else x
            with jax.named_scope(f"{LAYER}{i}"):
                x = layer(x)
        return x


def _nnx(training: Training) -> Program:
    data = _train_step.batches(training)
    update = _train_step.optimizer(training)
    seeds = itertools.count()

    @functools.partial(nnx.jit, donate_argnums=(0, 1))
    def step(
        net: _Net, optimizer: nnx.Optimizer, images: jax.Array, labels: jax.Array
    ) -> jax.Array:
        def loss(net: _Net) -> jax.Array:
            return _train_step.cross_entropy(net(images), labels)

        value, gradient = nnx.value_and_grad(loss)(net)
        with jax.named_scope(UPDATE):
            optimizer.update(net, gradient)
        return value

    def fresh(level: float, seed: int) -> tuple[_Net, nnx.Optimizer]:
        net = _Net(training, level, seed)
        return net, nnx.Optimizer(net, update, wrt=nnx.Param)

    def bind(level: float) -> Callable[[], jax.Array]:
        modules, order = fresh(level, next(seeds)), itertools.cycle(data)
        return lambda: jax.block_until_ready(step(*modules, *next(order)))

    def hlo(level: float) -> str:
        return step.lower(*fresh(level, 0), *data[0]).compile().as_text() or ""

    return Program(bind, _train_step.to_numpy, hlo)
