"""The same training in plain JAX: the chain of `peers._jax` with ranges that follow the batches."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._peers import Program
from ..peers._jax import converter, noisy
from . import _train_step
from ._conv_jax import product
from ._train_problem import MOMENTUM, Training


def program(training: Training) -> Program:
    """The step with parameters by layer and ranges by signal."""
    params = jax.tree.map(jnp.asarray, training.params)
    if training.method.ranges == "learn":
        params = {name: {**_gains(training), **layer} for name, layer in params.items()}

    def predict(level: float) -> _train_step.Predict:
        def apply(params: Any, ranges: Any, x: jax.Array, key: jax.Array) -> Any:
            layers = _Layers(training, params, ranges, level, key)
            return training.network(layers, x), layers.seen

        return apply

    x = jnp.asarray(training.batches[0][0])
    unset = collections.defaultdict(lambda: jnp.float32(0))
    _, seen = jax.eval_shape(
        lambda x, key: predict(0.0)(params, unset, x, key), x, jax.random.key(0)
    )
    ranges = {name: jnp.float32(0) for name in seen}
    return _train_step.program(training, (params, ranges), predict)


def _gains(training: Training) -> dict[str, jax.Array]:
    signals = ("x", "y") if training.method.workload.dac_bits else ("y",)
    return {f"{signal}_log_gain": jnp.float32(0) for signal in signals}


class _Layers:
    """Those of one call, and the ranges with what its batch has shown."""

    relu = staticmethod(jax.nn.relu)

    def __init__(
        self,
        training: Training,
        params: dict[str, Any],
        ranges: dict[str, jax.Array],
        level: float,
        key: jax.Array,
    ) -> None:
        self.seen: dict[str, jax.Array] = {}
        self._workload = training.method.workload
        self._params, self._ranges = params, ranges
        self._level, self._key = level, key
        self._draws = itertools.count()

    def dense(self, name: str, x: jax.Array, features: int) -> jax.Array:
        layer = self._params[name]
        return self._linear(name, layer, layer["kernel"].reshape(-1, features), x, jnp.matmul)

    def conv(self, name: str, x: jax.Array, features: int) -> jax.Array:
        del features
        layer = self._params[name]
        return self._linear(name, layer, layer["kernel"], x, lambda x, w: product(x, w, 1))

    def attention(self, name: str, x: jax.Array, heads: int) -> jax.Array:
        layer, (*_, length, width) = self._params[name], x.shape

        def projected(part: str, x: jax.Array) -> jax.Array:
            kernel = layer[part]["kernel"].reshape(width, width)
            return self._linear(f"{name}/{part}", layer[part], kernel, x, jnp.matmul)

        def signal(part: str) -> jax.Array:
            of_heads = projected(part, x).reshape(*x.shape[:-1], heads, width // heads)
            return self._dac(f"{name}/{part}s", of_heads, {})

        q, k, v = map(signal, ("query", "key", "value"))
        visible = jnp.tril(jnp.ones((length, length), bool))
        y = jnp.where(visible, jnp.einsum("bthd,bshd->bhts", q, k), 0)
        scores = self._read(f"{name}/scores", y, {}) / np.sqrt(width // heads)
        p = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf))
        p = converter(self._workload.dac_bits, 1.0)(p)
        y = jnp.einsum("bhts,bshd->bthd", p, v)
        return projected("out", self._read(f"{name}/outputs", y, {}).reshape(x.shape))

    def embed(self, name: str, tokens: jax.Array, count: int, features: int) -> jax.Array:
        del count, features
        return self._params[name]["embedding"][tokens]

    def table(self, name: str, count: int, features: int) -> jax.Array:
        del count, features
        return self._params[name]

    def norm(self, name: str, x: jax.Array) -> jax.Array:
        layer = self._params[name]
        return jax.nn.standardize(x, epsilon=1e-6) * layer["scale"] + layer["bias"]

    def _linear(
        self,
        name: str,
        layer: dict[str, jax.Array],
        kernel: jax.Array,
        x: jax.Array,
        product: Callable[[jax.Array, jax.Array], jax.Array],
    ) -> jax.Array:
        x_q = self._dac(f"{name}/x", x, layer)
        w_full_scale = _largest(kernel, axis=range(kernel.ndim - 1))
        w_q = converter(self._workload.weight_bits, w_full_scale)(kernel)
        return self._read(f"{name}/y", product(x_q, w_q) + layer["bias"].reshape(-1), layer)

    def _dac(self, name: str, signal: jax.Array, layer: dict[str, jax.Array]) -> jax.Array:
        bits = self._workload.dac_bits
        return converter(bits, self._full_scale(name, signal, layer))(signal) if bits else signal

    def _read(self, name: str, signal: jax.Array, layer: dict[str, jax.Array]) -> jax.Array:
        adc = converter(self._workload.adc_bits, self._full_scale(name, signal, layer))
        if self._level:
            key = jax.random.fold_in(self._key, next(self._draws))
            signal = noisy(signal, jnp.float32(self._level), key)
        return adc(signal)

    def _full_scale(self, name: str, signal: jax.Array, layer: dict[str, jax.Array]) -> jax.Array:
        largest, old = _largest(signal), self._ranges[name]
        blended = MOMENTUM * old + (1 - MOMENTUM) * largest
        self.seen[name] = jnp.where(old > 0, blended, largest)
        scale = jnp.where(old > 0, old, largest)
        gain = layer.get(f"{name.rpartition('/')[2]}_log_gain")
        return scale if gain is None else scale * jnp.exp(gain)


def _largest(v: jax.Array, axis: Sequence[int] | None = None) -> jax.Array:
    return jnp.max(jnp.abs(jax.lax.stop_gradient(v)), axis=axis)
