"""Models of Equinox, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from case import Case, Make, normal

_KEY = jax.random.key(0)


def _model(
    build: Callable[[Any], Any], x: np.ndarray, call: Callable[[Any, Any], Any] | None = None
) -> Make:
    def make() -> Case:
        import equinox as eqx

        arrays, rest = eqx.partition(build(eqx), eqx.is_inexact_array)

        def function(params: Any, x: Any) -> Any:
            net = eqx.combine(params, rest)
            return jax.vmap(net if call is None else lambda row: call(net, row))(x)

        return Case(function, arrays, (x,))

    return make


def _unrolled(cell: Any, row: Any) -> Any:
    def step(carry: Any, x: Any) -> Any:
        carry = cell(x, carry)
        return carry, carry

    return jax.lax.scan(step, jnp.zeros(8), row)[0]


def _convolutions(eqx: Any) -> Any:
    return eqx.nn.Sequential([
        eqx.nn.Conv2d(3, 8, 3, key=_KEY), eqx.nn.Lambda(jax.nn.relu), eqx.nn.MaxPool2d(2, 2),
        eqx.nn.Lambda(jnp.ravel), eqx.nn.Linear(8 * 7 * 7, 3, key=_KEY),
    ])  # fmt: skip


MODELS: dict[str, Make] = {
    "equinox attention": _model(
        lambda eqx: eqx.nn.MultiheadAttention(4, 16, key=_KEY),
        normal(2, 7, 16),
        lambda net, row: net(row, row, row),
    ),
    "equinox CNN": _model(_convolutions, normal(2, 3, 16, 16)),
    "equinox GRU": _model(lambda eqx: eqx.nn.GRUCell(4, 8, key=_KEY), normal(2, 7, 4), _unrolled),
    "equinox MLP": _model(lambda eqx: eqx.nn.MLP(4, 3, 16, 2, key=_KEY), normal(5, 4)),
}
