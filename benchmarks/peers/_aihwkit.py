"""aihwkit: its AnalogLinear on the torch tile. The output noise it has is additive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from aihwkit.nn import AnalogLinear  # pyright: ignore[reportMissingImports]
from aihwkit.simulator.configs import (  # pyright: ignore[reportMissingImports]
    BoundManagementType,
    NoiseManagementType,
    TorchInferenceRPUConfig,
    WeightModifierType,
)

from .._peers import Program
from .._problem import Problem
from ._torch import tensors

OWN_GRID = True
"""Its weights have one full scale, where ours have one per column."""


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
        weight = layer.analog_module.tile.weight

        def run() -> Any:
            y = layer(x)
            return y, *torch.autograd.grad(y, (x, weight), g)

        return run

    return Program(bind, _to_numpy)


def _to_numpy(result: Any) -> tuple[Any, ...]:
    y, dx, dw = (tensor.detach().numpy() for tensor in result)
    return y, dx, dw.T


def _layer(problem: Problem, level: float) -> Any:
    """A layer in training mode, as it converts the weights in no other."""
    workload = problem.workload
    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size = config.mapping.max_output_size = 0
    config.mapping.weight_scaling_omega = 0.0
    chain = config.forward
    chain.noise_management = NoiseManagementType.NONE
    chain.bound_management = BoundManagementType.NONE
    chain.inp_res, chain.inp_bound = _states(workload.dac_bits), problem.x_full_scale
    chain.out_res, chain.out_bound = _states(workload.adc_bits), problem.y_full_scale
    chain.out_noise = level * problem.rms
    if workload.weight_bits:
        config.modifier.type = WeightModifierType.DISCRETIZE
        config.modifier.res = _states(workload.weight_bits)
        config.modifier.rel_to_actual_wmax = True
    layer = AnalogLinear(*problem.w.shape, bias=False, rpu_config=config)
    layer.set_weights(torch.from_numpy(problem.w.T.copy()))
    return layer.train()


def _states(bits: int) -> float:
    return 2**bits - 2 if bits else -1
