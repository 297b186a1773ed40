"""The training that `train` times: a model, its data, and how it is trained.

    layer     x_q = quant(x)   y = x_q·quant(w) + bias   y' = y + relative·|y|·ε   out = quant(y')
    model     784-512-512-10, ReLU between the layers, mean softmax cross entropy

The full scale of w is the largest magnitude of each column. Those of x and y are running averages
of the largest magnitudes of each batch, that of y before the noise; the first batch is converted at
its own. With `ranges="learn"` each is times the exponential of a trained number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._options import Shape
from .._problem import Array, Workload

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


@dataclass(frozen=True, kw_only=True)
class Training:
    """What everyone starts from."""

    method: Method
    kernels: list[Array]
    """f32[K, N] of each layer; biases start at 0, and so do the logarithms of learned factors."""
    batches: list[tuple[Array, NDArray[np.int32]]]
    """Images f32[B, K] from 0 to 1, half of their pixels 0, and labels i32[B]."""

    @property
    def learning_rate(self) -> float:
        """Of the optimizer."""
        return LEARNING_RATE[self.method.optimizer]


def make(method: Method, shape: Shape) -> Training:
    """A training of that (batch, inputs, widths …, classes)."""
    batch, inputs, *widths = shape
    rng = np.random.default_rng(shape)
    depths = [inputs, *widths[:-1]]
    kernels = [
        rng.standard_normal((k, n), np.float32) / np.float32(np.sqrt(k))
        for k, n in zip(depths, widths, strict=True)
    ]
    teacher = rng.standard_normal((inputs, widths[-1]), np.float32)
    batches = []
    for _ in range(BATCHES):
        images = np.maximum(rng.uniform(-1, 1, (batch, inputs)), 0).astype(np.float32)
        scores = (images - images.mean(axis=1, keepdims=True)) @ teacher
        batches.append((images, np.argmax(scores, axis=1).astype(np.int32)))
    return Training(method=method, kernels=kernels, batches=batches)
