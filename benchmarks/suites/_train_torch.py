"""The same training in eager PyTorch: the quantizers of `peers._torch`, ranges that follow."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from .._peers import Program
from ..peers._torch import converter, noisy, to_numpy
from ._train_problem import MOMENTUM, Training


def program(training: Training) -> Program:
    """A step of layers and an optimizer of PyTorch."""
    # The loss takes labels of 64 bits, and so does a lookup its numbers.
    data = [
        (torch.from_numpy(x if x.dtype == np.float32 else x.astype(np.int64)),
         torch.from_numpy(labels.astype(np.int64)).flatten())
        for x, labels in training.batches
    ]  # fmt: skip

    def bind(level: float) -> Callable[[], Any]:
        layers = _Layers(training, level)
        optimizer = _optimizer(training, layers.parameters)
        order = itertools.cycle(data)

        def run() -> Any:
            x, labels = next(order)
            optimizer.zero_grad(set_to_none=True)
            logits = training.network(layers, x).flatten(0, -2)
            loss = torch.nn.functional.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            return (loss.detach(),)

        return run

    return Program(bind, to_numpy)


def _optimizer(training: Training, parameters: Any) -> Any:
    if training.method.optimizer == "sgd":
        return torch.optim.SGD(parameters, training.learning_rate)
    # Fused is the fastest on a CPU; for SGD all forms are alike.
    return torch.optim.Adam(parameters, training.learning_rate, fused=True)


class _Layers:
    """Those of one training, whose parameters and ranges change from step to step."""

    relu = staticmethod(torch.nn.functional.relu)

    def __init__(self, training: Training, level: float) -> None:
        self.parameters: list[torch.nn.Parameter] = []
        self._workload, self._level = training.method.workload, level
        self._params = self._trained(training.params)
        self._ranges: dict[str, torch.Tensor] = {}
        if training.method.ranges == "learn":
            learned = ("x", "y") if self._workload.dac_bits else ("y",)
            for layer in self._params.values():
                zeros = {f"{name}_log_gain": np.zeros((), np.float32) for name in learned}
                layer.update(self._trained(zeros))

    def dense(self, name: str, x: torch.Tensor, features: int) -> torch.Tensor:
        layer = self._params[name]
        return self._dense(name, layer, layer["kernel"].reshape(-1, features), x)

    def conv(self, name: str, x: torch.Tensor, features: int) -> torch.Tensor:
        del features

        def product(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            # As NCHW and OIHW, in the memory of NHWC and HWIO.
            x, w = x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1)
            y = torch.nn.functional.conv2d(x, w, bias, padding="same")
            return y.permute(0, 2, 3, 1)

        layer = self._params[name]
        return self._linear(name, layer, layer["kernel"], x, product)

    def attention(self, name: str, x: torch.Tensor, heads: int) -> torch.Tensor:
        layer, (length, width) = self._params[name], x.shape[-2:]

        def projected(part: str, x: torch.Tensor) -> torch.Tensor:
            kernel = layer[part]["kernel"].reshape(width, width)
            return self._dense(f"{name}/{part}", layer[part], kernel, x)

        def signal(part: str) -> torch.Tensor:
            of_heads = projected(part, x).unflatten(-1, (heads, -1)).transpose(1, 2)
            return self._dac(f"{name}/{part}s", of_heads, {})

        q, k, v = map(signal, ("query", "key", "value"))
        visible = torch.ones(length, length, dtype=torch.bool).tril()
        y = torch.where(visible, q @ k.transpose(-1, -2), 0.0)
        scores = self._read(f"{name}/scores", y, {}) / np.sqrt(width // heads)
        p = scores.masked_fill(~visible, -torch.inf).softmax(-1)
        p = converter(self._workload.dac_bits, 1.0)(p)
        outputs = self._read(f"{name}/outputs", p @ v, {})
        return projected("out", outputs.transpose(1, 2).flatten(-2))

    def embed(self, name: str, tokens: torch.Tensor, count: int, features: int) -> torch.Tensor:
        del count, features
        return torch.nn.functional.embedding(tokens, self._params[name]["embedding"])

    def table(self, name: str, count: int, features: int) -> torch.Tensor:
        del count, features
        return self._params[name]

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        layer, width = self._params[name], x.shape[-1:]
        return torch.nn.functional.layer_norm(x, width, layer["scale"], layer["bias"], 1e-6)

    def _trained(self, arrays: Any) -> Any:
        """Parameters of a tree of arrays, which the optimizer gets as well."""
        if isinstance(arrays, dict):
            return {name: self._trained(array) for name, array in arrays.items()}
        self.parameters.append(torch.nn.Parameter(torch.from_numpy(arrays.copy())))
        return self.parameters[-1]

    def _dense(
        self, name: str, layer: dict[str, torch.Tensor], kernel: torch.Tensor, x: torch.Tensor
    ) -> torch.Tensor:
        def product(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
            return torch.addmm(bias, x.flatten(0, -2), w).unflatten(0, x.shape[:-1])

        return self._linear(name, layer, kernel, x, product)

    def _linear(
        self,
        name: str,
        layer: dict[str, torch.Tensor],
        kernel: torch.Tensor,
        x: torch.Tensor,
        product: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        x_q, w_q = self._dac(f"{name}/x", x, layer), kernel
        if self._workload.weight_bits:
            w_full_scale = kernel.detach().abs().amax(tuple(range(kernel.ndim - 1)))
            w_q = converter(self._workload.weight_bits, w_full_scale)(kernel)
        return self._read(f"{name}/y", product(x_q, w_q, layer["bias"].flatten()), layer)

    def _dac(self, name: str, signal: torch.Tensor, layer: dict[str, torch.Tensor]) -> torch.Tensor:
        bits = self._workload.dac_bits
        return converter(bits, self._full_scale(name, signal, layer))(signal) if bits else signal

    def _read(
        self, name: str, signal: torch.Tensor, layer: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        adc = converter(self._workload.adc_bits, self._full_scale(name, signal, layer))
        return adc(noisy(signal, self._level) if self._level else signal)

    def _full_scale(
        self, name: str, signal: torch.Tensor, layer: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        largest = signal.detach().abs().max()
        old = self._ranges.get(name)
        scale = largest if old is None else old
        self._ranges[name] = scale if old is None else torch.lerp(largest, old, MOMENTUM)
        gain = layer.get(f"{name.rpartition('/')[2]}_log_gain")
        return scale if gain is None else scale * gain.exp()
