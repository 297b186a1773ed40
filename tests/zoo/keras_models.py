"""Models of Keras 3 on JAX, with random weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from case import Case, Make, images, normal, tokens

os.environ["KERAS_BACKEND"] = "jax"


def _case(build: Callable[[Any], Any], x: np.ndarray) -> Case:
    import keras

    net = build(keras)
    net(x)
    trained, others = (
        [variable.value for variable in variables]
        for variables in (net.trainable_variables, net.non_trainable_variables)
    )

    def function(params: Any, x: Any) -> Any:
        return net.stateless_call(*params, x, training=False)[0]

    return Case(function, (trained, others), (x,))


def _application(name: str, size: int) -> Make:
    def build(keras: Any) -> Any:
        # After a softmax all outputs of random weights are alike.
        return getattr(keras.applications, name)(
            weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None
        )

    return lambda: _case(build, images(2, size))


def _sequence(layers: Callable[[Any], list[Any]], x: np.ndarray) -> Make:
    return lambda: _case(
        lambda keras: keras.Sequential([keras.layers.Input(x.shape[1:]), *layers(keras.layers)]), x
    )


MODELS: dict[str, Make] = {
    **{
        f"keras {name}": _application(name, 64)
        for name in (
            "ConvNeXtTiny",
            "DenseNet121",
            "EfficientNetB0",
            "MobileNetV2",
            "MobileNetV3Small",
            "NASNetMobile",
            "ResNet50",
            "VGG16",
        )
    },
    **{f"keras {name}": _application(name, 96) for name in ("InceptionV3", "Xception")},
    "keras recurrent": _sequence(
        lambda layers: [
            layers.Embedding(100, 16),
            layers.Bidirectional(layers.LSTM(16, return_sequences=True)),
            layers.GRU(8),
            layers.Dense(3),
        ],
        tokens(2, 12),
    ),
    "keras 1-D convolutions": _sequence(
        lambda layers: [
            layers.Conv1D(8, 3, padding="same", activation="relu"),
            layers.MaxPooling1D(2),
            layers.SeparableConv1D(8, 3),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ],
        normal(2, 32, 4),
    ),
    "keras 3-D convolutions": _sequence(
        lambda layers: [
            layers.Conv3D(4, 3, activation="gelu"),
            layers.MaxPooling3D(2),
            layers.Flatten(),
            layers.Dense(3),
        ],
        normal(2, 8, 8, 8, 2),
    ),
    "keras U-Net": _sequence(
        lambda layers: [
            layers.Conv2D(8, 3, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2DTranspose(8, 3, strides=2, padding="same"),
            layers.UpSampling2D(2, interpolation="bilinear"),
            layers.AveragePooling2D(2),
            layers.Conv2D(1, 1),
        ],
        images(2, 16),
    ),
}
