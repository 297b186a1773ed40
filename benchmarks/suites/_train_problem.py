"""The trainings that `train` times: a network, its data, and how it is trained.

    layer     x_q = quant(x)   y = x_q·quant(w) + bias   y' = y + relative·|y|·ε   out = quant(y')
    attention a layer for q, k, v and the output, and two products of x_q and w_q, both signals:
              scores of q·k, and outputs of p·v with p = softmax(scores/√d) of what is not later
    networks  those of `_train_networks`, mean softmax cross entropy

The full scale of w is the largest magnitude of each column, and that of p is 1. Those of signals
are running averages of the largest magnitudes of each batch, at an ADC before the noise; the first
batch is converted at its own. With `ranges="learn"` each is times the exponential of a trained
number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._options import Shape
from .._problem import Array, Workload
from ._train_networks import NETWORKS, Layers, Network, Start

MOMENTUM = 0.95
"""Share of the old range in the new one; that of our layers."""
BATCHES = 4
"""Different batches, which come one after the other, again and again."""
LEARNING_RATE = {"sgd": 0.1, "adam": 1e-3}
"""Steps that move the losses, and are stable with one image as with many."""

Family = Literal["linen", "nnx"]
Ranges = Literal["calibrate", "learn"]
Optimizer = Literal["sgd", "adam"]


class Method(NamedTuple):
    """How a user trains."""

    name: str
    workload: Workload
    family: Family = "linen"
    """Of our layers; peers have one way."""
    optimizer: Optimizer = "sgd"
    ranges: Ranges = "calibrate"
    network: Network = "mlp"


@dataclass(frozen=True, kw_only=True)
class Training:
    """What everyone starts from."""

    method: Method
    shape: Shape
    """Of the batch and the network."""
    params: dict[str, Any]
    """Arrays by layer, named as in Linen; the logarithms of learned factors start at 0."""
    products: list[float]
    """Operations of each layer, in one pass."""
    normals: float
    """Random numbers of one pass."""
    batches: list[tuple[NDArray[Any], NDArray[np.int32]]]
    """Images from 0 to 1, half of their pixels 0, and labels i32[B]; or tokens i32[B, T] and
    labels of each."""

    @property
    def learning_rate(self) -> float:
        """Of the optimizer."""
        return LEARNING_RATE[self.method.optimizer]

    @property
    def kernels(self) -> list[Array]:
        """f32[K, N] of each layer of an MLP."""
        return [layer["kernel"] for layer in self.params.values()]

    @property
    def network(self) -> Callable[[Layers, Any], Any]:
        """Logits of images or tokens, by layers."""
        return lambda layers, x: NETWORKS[self.method.network](layers, self.shape, x)


def make(method: Method, shape: Shape) -> Training:
    """A training of the batch and the network of that shape."""
    rng = np.random.default_rng(shape)
    start, of_batch = Start(rng), _inputs(method, shape)
    NETWORKS[method.network](start, shape, np.zeros(of_batch, np.float32))
    draw = _tokens if method.network == "gpt" else _images
    return Training(
        method=method,
        shape=shape,
        params=start.params,
        products=start.products,
        normals=start.normals,
        batches=draw(rng, shape, of_batch),
    )


def _inputs(method: Method, shape: Shape) -> Shape:
    batch, size = shape[:2]
    return (batch, size, size, shape[2]) if method.network == "cnn" else (batch, size)


def _images(
    rng: np.random.Generator, shape: Shape, of_batch: Shape
) -> list[tuple[NDArray[Any], NDArray[np.int32]]]:
    """Labels are those of a linear teacher."""
    inputs = int(np.prod(of_batch[1:]))
    teacher = rng.standard_normal((inputs, shape[-1]), np.float32)
    batches = []
    for _ in range(BATCHES):
        images = np.maximum(rng.uniform(-1, 1, (shape[0], inputs)), 0).astype(np.float32)
        scores = (images - images.mean(axis=1, keepdims=True)) @ teacher
        batches.append((images.reshape(of_batch), np.argmax(scores, axis=1).astype(np.int32)))
    return batches


def _tokens(
    rng: np.random.Generator, shape: Shape, of_batch: Shape
) -> list[tuple[NDArray[Any], NDArray[np.int32]]]:
    """Labels depend on a token and on the one before it."""
    vocabulary = shape[2]
    teacher = rng.permutation(vocabulary).astype(np.int32)
    batches = []
    for _ in range(BATCHES):
        tokens = rng.integers(vocabulary, size=of_batch, dtype=np.int32)
        before = np.roll(tokens, 1, axis=1)
        labels = teacher[np.where(before % 2 == 0, tokens, before)]
        batches.append((tokens, labels))
    return batches
