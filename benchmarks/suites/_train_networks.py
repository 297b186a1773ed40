"""The networks that `train` trains, written once for whoever has their layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np

from .._options import Shape
from .._problem import Array
from .._profile import LAYER

Network = Literal["mlp", "cnn", "gpt"]


class Layers(Protocol):
    """Layers by name, which finds their parameters; arrays are those of a library."""

    def dense(self, name: str, x: Any, features: int) -> Any:
        """Of the last axis."""

    def conv(self, name: str, x: Any, features: int) -> Any:
        """3x3 of NHWC, as many places as x has."""

    def attention(self, name: str, x: Any, heads: int) -> Any:
        """Causal, of x with itself, f32[B, T, width], and its projections."""

    def embed(self, name: str, tokens: Any, count: int, features: int) -> Any:
        """Rows of a table, by their numbers."""

    def table(self, name: str, count: int, features: int) -> Any:
        """A parameter f32[count, features]."""

    def norm(self, name: str, x: Any) -> Any:
        """Mean 0 and variance 1 along the last axis, then a scale and a bias."""

    def relu(self, x: Any) -> Any:
        """max(x, 0)."""


def mlp(layers: Layers, shape: Shape, x: Any) -> Any:
    """Of (batch, inputs, widths …, classes); images f32[B, inputs]."""
    for i, width in enumerate(shape[2:]):
        x = layers.relu(x) if i else x
        x = layers.dense(f"{LAYER}{i}", x, width)
    return x


def cnn(layers: Layers, shape: Shape, x: Any) -> Any:
    """Of (batch, side, channels, outputs …, classes); images f32[B, side, side, channels]."""
    *outputs, classes = shape[3:]
    for i, features in enumerate(outputs):
        x = layers.relu(layers.conv(f"{LAYER}{i}", x, features))
        batch, side, _, _ = x.shape
        x = x.reshape(batch, side // 2, 2, side // 2, 2, features).mean((2, 4))
    return layers.dense(f"{LAYER}{len(outputs)}", x.reshape(x.shape[0], -1), classes)


def gpt(layers: Layers, shape: Shape, tokens: Any) -> Any:
    """Of (batch, length, vocabulary, width, heads, hidden, blocks); tokens i32[B, length]."""
    _, length, vocabulary, width, heads, hidden, blocks = shape
    x = layers.embed("tokens", tokens, vocabulary, width)
    x = x + layers.table("places", length, width)
    for i in range(blocks):
        attention, up, down = (f"{LAYER}{3 * i + part}" for part in range(3))
        x = x + layers.attention(attention, layers.norm(f"norm{2 * i}", x), heads)
        inner = layers.dense(up, layers.norm(f"norm{2 * i + 1}", x), hidden)
        x = x + layers.dense(down, layers.relu(inner), width)
    x = layers.norm(f"norm{2 * blocks}", x)
    return layers.dense(f"{LAYER}{3 * blocks}", x, vocabulary)


NETWORKS: dict[Network, Callable[[Layers, Shape, Any], Any]] = {"mlp": mlp, "cnn": cnn, "gpt": gpt}


class Start:
    """Layers of NumPy that compute nothing: they make the parameters, and count.

    Parameters have the names and shapes of Flax Linen.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.params: dict[str, Any] = {}
        self.products: list[float] = []
        """Two operations for each product and sum, of each layer."""
        self.normals = 0
        """Outputs of the device, each with noise."""
        self._rng = rng

    def dense(self, name: str, x: Array, features: int) -> Array:
        """Kernel f32[inputs, features]."""
        self.params[name] = self._linear((x.shape[-1],), (features,))
        return self._output((*x.shape[:-1], features), x.shape[-1])

    def conv(self, name: str, x: Array, features: int) -> Array:
        """Kernel f32[3, 3, channels, features]."""
        self.params[name] = self._linear((3, 3, x.shape[-1]), (features,))
        return self._output((*x.shape[:-1], features), 9 * x.shape[-1])

    def attention(self, name: str, x: Array, heads: int) -> Array:
        """Four kernels between width and (heads, width / heads)."""
        batch, length, width = x.shape
        inner = (heads, width // heads)
        projected = {part: self._linear((width,), inner) for part in ("query", "key", "value")}
        self.params[name] = {**projected, "out": self._linear(inner, (width,))}
        seen = batch * length * (length + 1) // 2
        self.products.append(8.0 * x.size * width + 4.0 * seen * width)
        self.normals += 5 * x.size + heads * seen
        return x

    def embed(self, name: str, tokens: Array, count: int, features: int) -> Array:
        """A table as Linen keeps it."""
        self.params[name] = {"embedding": self._normal((count, features), 1)}
        return np.zeros((*tokens.shape, features), np.float32)

    def table(self, name: str, count: int, features: int) -> Array:
        """The parameter."""
        self.params[name] = self._normal((count, features), 1)
        return self.params[name]

    def norm(self, name: str, x: Array) -> Array:
        """Scale 1 and bias 0."""
        width = x.shape[-1]
        self.params[name] = {
            "scale": np.ones(width, np.float32),
            "bias": np.zeros(width, np.float32),
        }
        return x

    def relu(self, x: Array) -> Array:
        """As it is."""
        return x

    def _linear(self, inputs: Shape, outputs: Shape) -> dict[str, Array]:
        kernel = self._normal((*inputs, *outputs), int(np.prod(inputs)))
        return {"kernel": kernel, "bias": np.zeros(outputs, np.float32)}

    def _normal(self, shape: Shape, inputs: int) -> Array:
        return self._rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(inputs))

    def _output(self, shape: Shape, inputs: int) -> Array:
        y = np.zeros(shape, np.float32)
        self.products.append(2.0 * y.size * inputs)
        self.normals += y.size
        return y
