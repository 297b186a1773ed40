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
from flax.traverse_util import flatten_dict, unflatten_dict

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


class _Layers:
    """Those of a network in Linen, made where it is called."""

    relu = staticmethod(nn.relu)

    def __init__(self, module: nn.Module, device: dict[str, Any]) -> None:
        self._module, self._device = module, device

    def dense(self, name: str, x: jax.Array, features: int) -> jax.Array:
        return layers.OpticalDense(features, name=name, **self._device)(x)

    def conv(self, name: str, x: jax.Array, features: int) -> jax.Array:
        return layers.OpticalConv(features, (3, 3), name=name, **self._device)(x)

    def attention(self, name: str, x: jax.Array, heads: int) -> jax.Array:
        layer = layers.OpticalMultiHeadDotProductAttention(heads, name=name, **self._device)
        return layer(x, is_causal=True)

    def embed(self, name: str, tokens: jax.Array, count: int, features: int) -> jax.Array:
        return nn.Embed(count, features, name=name)(tokens)

    def table(self, name: str, count: int, features: int) -> jax.Array:
        return self._module.param(name, nn.initializers.zeros, (count, features))

    def norm(self, name: str, x: jax.Array) -> jax.Array:
        return nn.LayerNorm(name=name)(x)


class _Network(nn.Module):
    logits: Callable[[Any, jax.Array], jax.Array]
    device: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.logits(_Layers(self, self.device), x)


def _linen(training: Training) -> Program:
    def model(level: float) -> _Network:
        return _Network(training.network, _device(training, level))

    def predict(level: float) -> _train_step.Predict:
        net = model(level)

        def apply(params: Any, ranges: Any, images: jax.Array, key: jax.Array) -> Any:
            variables = {"params": params, "ranges": ranges}
            logits, seen = net.apply(variables, images, rngs={"noise": key}, mutable=["ranges"])
            return logits, seen["ranges"]

        return apply

    images = jnp.asarray(training.batches[0][0][:1])
    variables = cast(dict[str, Any], model(0.0).init(jax.random.key(0), images))
    initial, given = map(flatten_dict, (variables["params"], training.params))
    params = unflatten_dict({**initial, **jax.tree.map(jnp.asarray, given)})
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
