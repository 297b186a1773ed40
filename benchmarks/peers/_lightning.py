"""aihwkit-lightning: its AnalogLinear. The output noise it has is additive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from aihwkit_lightning.nn import AnalogLinear  # pyright: ignore[reportMissingImports]
from aihwkit_lightning.simulator.configs import (  # pyright: ignore[reportMissingImports]
    TorchInferenceRPUConfig,
    WeightQuantizationType,
)

from .._peers import Program
from .._problem import Problem
from ._torch import tensors


def forward(problem: Problem) -> Program:
    """The output."""
    x, _, _ = tensors(problem)

    def bind(level: float) -> Callable[[], Any]:
        layer = _layer(problem, level)

        def run() -> Any:
            with torch.no_grad():
                return (layer(x),)

        return run

    return Program(bind, lambda result: (result[0].numpy(),))


def step(problem: Problem) -> Program:
    """The output and the gradients of x and w."""
    x, _, g = tensors(problem)
    x.requires_grad_()

    def bind(level: float) -> Callable[[], Any]:
        layer = _layer(problem, level)

        def run() -> Any:
            y = layer(x)
            return y, *torch.autograd.grad(y, (x, layer.weight), g)

        return run

    return Program(bind, _to_numpy)


def _to_numpy(result: Any) -> tuple[Any, ...]:
    y, dx, dw = (tensor.detach().numpy() for tensor in result)
    return y, dx, dw.T


def _layer(problem: Problem, level: float) -> Any:
    """A layer in training mode, as it draws noise in no other."""
    workload = problem.workload
    config = TorchInferenceRPUConfig()
    ranges = config.pre_post.input_range
    ranges.enable, ranges.fast_mode, ranges.learn_input_range = True, True, False
    ranges.init_value, ranges.init_from_data = problem.x_full_scale, 0
    # The library counts full scale and noise in units of the largest input and weight.
    unit = problem.x_full_scale * float(problem.w_full_scale.max())
    config.forward.out_bound = problem.y_full_scale / unit
    config.forward.out_noise = level * problem.rms / unit
    config.forward.out_res = _states(workload.adc_bits)
    config.forward.inp_res = _states(workload.dac_bits)
    if workload.weight_bits:
        config.modifier.quantization_type = WeightQuantizationType.DISCRETIZE_PER_CHANNEL
        config.modifier.res = _states(workload.weight_bits)
    layer = AnalogLinear(*problem.w.shape, bias=False, rpu_config=config)
    layer.set_weights(torch.from_numpy(problem.w.T.copy()))
    return layer.train()


def _states(bits: int) -> float:
    return 2**bits - 2 if bits else -1
