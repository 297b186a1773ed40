"""Models of Haiku, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from case import Case, Make, images, normal


def _model(build: Callable[[Any, Any, bool], Any], x: np.ndarray) -> Make:
    def make() -> Case:
        import haiku as hk

        net = hk.transform_with_state(lambda x, is_training: build(hk, x, is_training))
        # Running averages are made in training alone, of what they have seen.
        params, state = net.init(jax.random.key(0), x, True)
        _, state = net.apply(params, state, None, x, True)
        return Case(lambda params, x: net.apply(*params, None, x, False)[0], (params, state), (x,))

    return make


def _recurrent(hk: Any, x: Any, is_training: bool) -> Any:
    del is_training
    core = hk.LSTM(8)
    outputs, _ = hk.dynamic_unroll(core, x, core.initial_state(x.shape[0]), time_major=False)
    return hk.Linear(2)(outputs)


def _resnet(hk: Any, x: Any, is_training: bool) -> Any:
    # By default the last layer is 0, and so are all outputs.
    logits = {"w_init": hk.initializers.RandomNormal()}
    return hk.nets.ResNet18(10, logits_config=logits)(x, is_training)


MODELS: dict[str, Make] = {
    "haiku LSTM": _model(_recurrent, normal(2, 7, 4)),
    "haiku MobileNetV1": _model(
        lambda hk, x, is_training: hk.nets.MobileNetV1(num_classes=10)(x, is_training),
        images(2, 64),
    ),
    "haiku ResNet-18": _model(_resnet, images(2, 64)),
}
