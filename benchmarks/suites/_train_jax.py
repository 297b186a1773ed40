"""The same training in plain JAX: the chain of `peers._jax` with ranges that follow the batches."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._peers import Program
from ..peers._jax import converter, noisy
from . import _train_step
from ._train_problem import MOMENTUM, Training


def program(training: Training) -> Program:
    """The step with lists of layers as parameters and ranges."""
    start = (
        [_parameters(training, kernel) for kernel in training.kernels],
        [{"x": jnp.float32(0), "y": jnp.float32(0)} for _ in training.kernels],
    )

    def predict(level: float) -> _train_step.Predict:
        def apply(params: Any, ranges: Any, images: jax.Array, key: jax.Array) -> Any:
            v, seen = images, []
            for i, (layer, running) in enumerate(zip(params, ranges, strict=True)):
                v = jax.nn.relu(v) if i else v
                of_layer = jax.random.fold_in(key, i) if level else None
                v, updated = _dense(training, layer, running, v, level, of_layer)
                seen.append(updated)
            return v, seen

        return apply

    return _train_step.program(training, start, predict)


def _parameters(training: Training, kernel: np.ndarray) -> dict[str, jax.Array]:
    layer = {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(kernel.shape[1], np.float32)}
    if training.method.ranges == "learn":
        gains = {"y": jnp.float32(0)}
        if training.method.workload.dac_bits:
            gains["x"] = jnp.float32(0)
        return {**layer, **{f"{name}_log_gain": gain for name, gain in gains.items()}}
    return layer


def _dense(
    training: Training,
    layer: dict[str, jax.Array],
    running: dict[str, jax.Array],
    x: jax.Array,
    level: float,
    key: jax.Array | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The output of a layer, and its ranges with what this batch showed."""
    workload = training.method.workload
    seen: dict[str, jax.Array] = {}

    def full_scale(name: str, signal: jax.Array) -> jax.Array:
        largest, old = _largest(signal), running[name]
        blended = MOMENTUM * old + (1 - MOMENTUM) * largest
        seen[name] = jnp.where(old > 0, blended, largest)
        scale = jnp.where(old > 0, old, largest)
        gain = layer.get(f"{name}_log_gain")
        return scale if gain is None else scale * jnp.exp(gain)

    w = layer["kernel"]
    x_q = converter(workload.dac_bits, full_scale("x", x))(x) if workload.dac_bits else x
    w_q = converter(workload.weight_bits, _largest(w, axis=0))(w)
    y = jnp.matmul(x_q, w_q) + layer["bias"]
    adc = converter(workload.adc_bits, full_scale("y", y))
    return adc(y if key is None else noisy(y, jnp.float32(level), key)), {**running, **seen}


def _largest(v: jax.Array, axis: int | None = None) -> jax.Array:
    return jnp.max(jnp.abs(jax.lax.stop_gradient(v)), axis=axis)
