"""Whole networks at full size, written in plain JAX with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._options import Shape

Params = Any
"""Arrays by name."""


class Network(NamedTuple):
    """A function of weights, of what is kept between calls, and of inputs."""

    function: Callable[..., Any]
    """Of weights, what is kept, if anything is, and inputs; it returns the next of that as well."""
    params: Params
    inputs: tuple[np.ndarray, ...]
    state: Any
    """None where nothing is kept."""
    products: float
    """Products of numbers in a call."""


def resnet(shape: Shape) -> Network:
    """ResNet-18 as it is for small images: batch, side, and outputs of the first convolution."""
    batch, side, width = shape
    draw, counter = _Draw(shape), _Products()
    stages = []
    features = width
    for stage in range(4):
        blocks = []
        for block in range(2):
            outputs = width << stage
            down = stage > 0 and block == 0
            layers = {
                "conv1": draw.kernel(3, features, outputs),
                "norm1": draw.norm(outputs),
                "conv2": draw.kernel(3, outputs, outputs),
                "norm2": draw.norm(outputs),
            }
            if down:
                layers["skip"] = draw.kernel(1, features, outputs)
                layers["skip_norm"] = draw.norm(outputs)
            blocks.append(layers)
            features = outputs
        stages.append(blocks)
    params = {
        "stem": draw.kernel(3, 3, width),
        "norm": draw.norm(width),
        "stages": stages,
        "head": {"kernel": draw.matrix(features, 10), "bias": draw.normal(10)},
    }
    x = draw.normal(batch, side, side, 3)
    jax.eval_shape(lambda p, x: _resnet(p, x, counter), params, x)
    return Network(_resnet, params, (x,), None, counter.count)


def prefill(shape: Shape) -> Network:
    """GPT-2: length, vocabulary, width, heads and blocks. The logits of every token of a prompt."""
    length, vocabulary, width, _, blocks = shape
    params, tokens = _gpt(shape)

    def function(params: Params, tokens: jax.Array) -> jax.Array:
        x = params["wte"][tokens] + params["wpe"][:length]
        for block in params["blocks"]:
            q, k, v = _projected(block, x, shape)
            scores = jnp.einsum("btnd,bsnd->bnts", q, k) / np.sqrt(q.shape[-1])
            seen = jnp.tril(jnp.ones((length, length), bool))
            weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
            x = _rest(block, x, jnp.einsum("bnts,bsnd->btnd", weights, v))
        return _norm(params["norm"], x) @ params["wte"].T

    products = length * (width * (12 * blocks * width + vocabulary) + 2 * blocks * length * width)
    return Network(function, params, (tokens,), None, products)


def decode(shape: Shape) -> Network:
    """The same for one token, and the keys and values of `length` tokens, which are kept."""
    length, vocabulary, width, heads, blocks = shape
    params, tokens = _gpt(shape)
    draw = _Draw(shape)
    kept = [
        {name: draw.normal(1, length, heads, width // heads) for name in ("k", "v")}
        for _ in range(blocks)
    ]

    def function(
        params: Params, state: Any, token: jax.Array, position: jax.Array
    ) -> tuple[jax.Array, Any]:
        x = params["wte"][token] + lax.dynamic_slice_in_dim(params["wpe"], position, 1)
        seen = jnp.arange(length) <= position
        states = []
        for block, old in zip(params["blocks"], state, strict=True):
            q, k, v = _projected(block, x, shape)
            now = {
                name: lax.dynamic_update_slice_in_dim(old[name], line, position, 1)
                for name, line in (("k", k), ("v", v))
            }
            scores = jnp.einsum("btnd,bsnd->bnts", q, now["k"]) / np.sqrt(q.shape[-1])
            weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
            x = _rest(block, x, jnp.einsum("bnts,bsnd->btnd", weights, now["v"]))
            states.append(now)
        return _norm(params["norm"], x) @ params["wte"].T, states

    products = width * (12 * blocks * width + vocabulary) + 2 * blocks * length * width
    position = np.asarray(length // 2, np.int32)
    return Network(function, params, (tokens[:, :1], position), kept, products)


NETWORKS = {"ResNet-18": resnet, "GPT-2, prefill": prefill, "GPT-2, decode": decode}


class _Draw:
    """Normal numbers whose products keep their size."""

    def __init__(self, shape: Shape) -> None:
        self.rng = np.random.default_rng(shape)

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape, np.float32)

    def matrix(self, rows: int, columns: int) -> np.ndarray:
        return self.normal(rows, columns) * np.float32(rows**-0.5)

    def kernel(self, side: int, channels: int, outputs: int) -> np.ndarray:
        depth = side * side * channels
        return self.matrix(depth, outputs).reshape(side, side, channels, outputs)

    def norm(self, features: int) -> dict[str, np.ndarray]:
        return {
            "scale": 1 + 0.1 * self.normal(features),
            "bias": 0.1 * self.normal(features),
            "mean": 0.1 * self.normal(features),
            "variance": np.exp(0.1 * self.normal(features)),
        }


class _Products:
    """How many products of numbers the convolutions of a trace take."""

    def __init__(self) -> None:
        self.count = 0.0

    def add(self, kernel: Any, out: Any) -> None:
        self.count += float(np.prod(kernel.shape[:3])) * out.size


def _resnet(params: Params, x: jax.Array, products: _Products | None = None) -> jax.Array:
    def conv(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
        out = lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        if products:
            products.add(kernel, out)
        return out

    x = jax.nn.relu(_batch_norm(params["norm"], conv(x, params["stem"])))
    for block in (block for blocks in params["stages"] for block in blocks):
        stride = 2 if "skip" in block else 1
        y = jax.nn.relu(_batch_norm(block["norm1"], conv(x, block["conv1"], stride)))
        y = _batch_norm(block["norm2"], conv(y, block["conv2"]))
        if "skip" in block:
            x = _batch_norm(block["skip_norm"], conv(x, block["skip"], stride))
        x = jax.nn.relu(x + y)
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]


def _batch_norm(norm: Params, x: jax.Array) -> jax.Array:
    factor = norm["scale"] * lax.rsqrt(norm["variance"] + 1e-5)
    return (x - norm["mean"]) * factor + norm["bias"]


def _gpt(shape: Shape) -> tuple[Params, np.ndarray]:
    length, vocabulary, width, _, blocks = shape
    draw = _Draw(shape)

    def norm() -> dict[str, np.ndarray]:
        whole = draw.norm(width)
        return {name: whole[name] for name in ("scale", "bias")}

    def dense(inputs: int, outputs: int) -> dict[str, np.ndarray]:
        return {"kernel": draw.matrix(inputs, outputs), "bias": 0.1 * draw.normal(outputs)}

    params = {
        "wte": draw.normal(vocabulary, width) * np.float32(width**-0.5),
        "wpe": 0.1 * draw.normal(length, width),
        "blocks": [
            {
                "norm1": norm(),
                "qkv": dense(width, 3 * width),
                "out": dense(width, width),
                "norm2": norm(),
                "up": dense(width, 4 * width),
                "down": dense(4 * width, width),
            }
            for _ in range(blocks)
        ],
        "norm": norm(),
    }
    return params, draw.rng.integers(vocabulary, size=(1, length), dtype=np.int32)


def _projected(block: Params, x: jax.Array, shape: Shape) -> list[jax.Array]:
    """Queries, keys and values, f32[1, tokens, heads, features]."""
    batch, tokens, width = x.shape
    heads = shape[3]
    parts = jnp.split(_dense(block["qkv"], _norm(block["norm1"], x)), 3, axis=-1)
    return [part.reshape(batch, tokens, heads, width // heads) for part in parts]


def _rest(block: Params, x: jax.Array, attended: jax.Array) -> jax.Array:
    x = x + _dense(block["out"], attended.reshape(x.shape))
    hidden = jax.nn.gelu(_dense(block["up"], _norm(block["norm2"], x)))
    return x + _dense(block["down"], hidden)


def _dense(layer: Params, x: jax.Array) -> jax.Array:
    return x @ layer["kernel"] + layer["bias"]


def _norm(norm: Params, x: jax.Array) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * norm["scale"] + norm["bias"]
