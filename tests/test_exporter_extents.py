"""Whole networks for any batch, time, height and width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from exported import Program

pytestmark = pytest.mark.usefixtures("numpy_promotion")  # Flax needs it


class Cnn(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(8, (3, 3), strides=2)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        x = x + nn.gelu(nn.GroupNorm(4)(nn.Conv(8, (3, 3))(x)))
        return nn.Dense(5)(nn.avg_pool(x, (2, 2), (1, 1), "SAME").mean((1, 2)))


class UNet(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        whole = nn.relu(nn.Conv(4, (3, 3))(x))
        half = nn.relu(nn.Conv(8, (3, 3), strides=2)(whole))
        back = nn.ConvTranspose(4, (2, 2), strides=(2, 2))(half)
        back = back[:, : whole.shape[1], : whole.shape[2]]
        return nn.Conv(2, (1, 1))(jnp.concatenate([whole, back], -1))


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        x = nn.Embed(30, 16)(ids) + nn.Embed(64, 16)(jnp.arange(ids.shape[1]))
        mask = nn.make_causal_mask(ids)
        x = x + nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(x), mask=mask)
        return nn.Dense(30)(x + nn.Dense(16)(nn.gelu(nn.Dense(32)(nn.RMSNorm()(x)))))


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        both = nn.Bidirectional(nn.RNN(nn.LSTMCell(4)), nn.RNN(nn.LSTMCell(4)))(x)
        y = jnp.concatenate([nn.RNN(nn.GRUCell(6))(x), both], -1)
        return nn.softmax(nn.Dense(3)(y))


def inputs(shape: Sequence[int], dtype: Any) -> jax.Array:
    if dtype == jnp.int32:
        return jax.random.randint(jax.random.key(0), shape, 0, 30)
    return jax.random.normal(jax.random.key(0), shape)


IMAGES = [(1, 16, 16, 3), (2, 15, 23, 3), (3, 4, 9, 3)]


@pytest.mark.parametrize(
    ("net", "extents", "dtype", "shapes"),
    [
        (Cnn(), "batch, height, width, 3", jnp.float32, IMAGES),
        (UNet(), "batch, height, width, 3", jnp.float32, IMAGES),
        (Transformer(), "batch, time", jnp.int32, [(2, 8), (1, 1), (3, 20)]),
        (Recurrent(), "batch, time, 5", jnp.float32, [(2, 8, 5), (1, 1, 5), (3, 12, 5)]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_networks_take_any_extents(
    net: nn.Module, extents: str, dtype: Any, shapes: Sequence[Sequence[int]], program: Program
) -> None:
    variables = net.init(jax.random.key(1), inputs(shapes[0], dtype))
    symbolic = jax.ShapeDtypeStruct(jax.export.symbolic_shape(extents), dtype)
    model = exporter.export(net.apply, symbolic, params=variables)
    program.verified(model)
    for shape in shapes:
        x = inputs(shape, dtype)
        expected = np.asarray(jax.jit(net.apply)(variables, x))
        # Sums of up to a few hundred products in another order.
        np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-5)
