"""Models of Haiku, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from case import Case, Make, images, normal


def _model(build: Callable[[Any, Any], Any], x: np.ndarray) -> Make:
    def make() -> Case:
        import haiku as hk

        net = hk.transform_with_state(lambda x: build(hk, x))
        return Case(
            lambda params, x: net.apply(*params, None, x)[0], net.init(jax.random.key(0), x), (x,)
        )

    return make


def _recurrent(hk: Any, x: Any) -> Any:
    core = hk.LSTM(8)
    outputs, _ = hk.dynamic_unroll(core, x, core.initial_state(x.shape[0]), time_major=False)
    return hk.Linear(2)(outputs)


MODELS: dict[str, Make] = {
    "haiku LSTM": _model(_recurrent, normal(2, 7, 4)),
    "haiku MobileNetV1": _model(
        lambda hk, x: hk.nets.MobileNetV1(num_classes=10)(x, is_training=False), images(2, 64)
    ),
    "haiku ResNet-18": _model(
        lambda hk, x: hk.nets.ResNet18(10)(x, is_training=False), images(2, 64)
    ),
}
