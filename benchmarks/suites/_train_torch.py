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
    """A step of a module and an optimizer of PyTorch."""
    # The loss takes labels of 64 bits.
    data = [
        (torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))
        for images, labels in training.batches
    ]

    def bind(level: float) -> Callable[[], Any]:
        net = torch.nn.Sequential()
        for i, kernel in enumerate(training.kernels):
            if i:
                net.append(torch.nn.ReLU())
            net.append(_Dense(training, kernel, level))
        net.train()
        optimizer = _optimizer(training, net.parameters())
        order = itertools.cycle(data)

        def run() -> Any:
            images, labels = next(order)
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(net(images), labels)
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


class _Dense(torch.nn.Module):
    def __init__(self, training: Training, kernel: np.ndarray, level: float) -> None:
        super().__init__()
        self.workload, self.level = training.method.workload, level
        self.kernel = torch.nn.Parameter(torch.from_numpy(kernel.copy()))
        self.bias = torch.nn.Parameter(torch.zeros(kernel.shape[1]))
        self.ranges: dict[str, torch.Tensor] = {}
        learned = ("x", "y") if self.workload.dac_bits else ("y",)
        self.gains = torch.nn.ParameterDict(
            {name: torch.nn.Parameter(torch.zeros(())) for name in learned}
            if training.method.ranges == "learn"
            else {}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The output; the ranges follow."""
        workload, w = self.workload, self.kernel
        x_q = x
        if workload.dac_bits:
            x_q = converter(workload.dac_bits, self._full_scale("x", x))(x)
        w_q = w
        if workload.weight_bits:
            w_q = converter(workload.weight_bits, w.detach().abs().amax(0))(w)
        y = torch.addmm(self.bias, x_q, w_q)
        adc = converter(workload.adc_bits, self._full_scale("y", y))
        return adc(noisy(y, self.level) if self.level else y)

    def _full_scale(self, name: str, signal: torch.Tensor) -> torch.Tensor:
        largest = signal.detach().abs().max()
        old = self.ranges.get(name)
        scale = largest if old is None else old
        self.ranges[name] = scale if old is None else torch.lerp(largest, old, MOMENTUM)
        return scale * self.gains[name].exp() if name in self.gains else scale
