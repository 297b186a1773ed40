"""Models of Flax made optical: the same models, on a device."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flax_layers.conversion import _linen_layers, _nnx_layers
from lumina_jax import ConversionRule, NoiseModel, OpticalSpec, convert

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

import linen_models
import nnx_models

KEY = jax.random.key(0)
IDEAL = ConversionRule(profile=None)
CHIP = ConversionRule(
    profile=None,
    spec=OpticalSpec(dac_bits=6, weight_bits=6, adc_bits=8),
    noise=NoiseModel(relative=0.1),
)
IMAGES = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
TOKENS = jax.random.randint(jax.random.key(2), (2, 6), 0, 17)
X = jax.random.normal(jax.random.key(3), (4, 3, 6))

LINEN = {
    "resnet": (linen_models.ResNet(width=4, depths=(1, 1)), IMAGES),
    "gpt": (linen_models.Gpt(vocabulary=17, context=8, width=12, heads=2, depth=1), TOKENS),
    "vit": (linen_models.Vit(classes=5, patch=4, width=12, heads=2, depth=1), IMAGES),
}
NNX = {
    "resnet": (lambda rngs: nnx_models.ResNet(width=4, depths=(1, 1), rngs=rngs), IMAGES),
    "gpt": (lambda rngs: nnx_models.Gpt(17, 8, 12, 2, 1, rngs=rngs), TOKENS),
    "vit": (
        lambda rngs: nnx_models.Vit(
            classes=5, size=8, patch=4, width=12, heads=2, depth=1, rngs=rngs
        ),
        IMAGES,
    ),
}

# One layer of every class that has an optical form.
LINEN_LAYERS = {
    nn.Dense: nn.Dense(5),
    nn.DenseGeneral: nn.DenseGeneral((2, 5), axis=(-1, -2)),
    nn.Einsum: nn.Einsum((6, 5), "abc,cd->abd"),
    nn.Embed: nn.Embed(7, 6),
    nn.Conv: nn.Conv(4, (2,), strides=2, feature_group_count=2, padding=1),
}
NNX_LAYERS = {
    nnx.Linear: lambda rngs: nnx.Linear(6, 5, rngs=rngs),
    nnx.LinearGeneral: lambda rngs: nnx.LinearGeneral((3, 6), (2, 5), axis=(-2, -1), rngs=rngs),
    nnx.Einsum: lambda rngs: nnx.Einsum("abc,cd->abd", (6, 5), (5,), rngs=rngs),
    nnx.Embed: lambda rngs: nnx.Embed(7, 6, rngs=rngs),
    nnx.Conv: lambda rngs: nnx.Conv(6, 4, 2, 2, padding=1, rngs=rngs),
}


def same(got: Any, want: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, got, want)


def close(got: Any, want: Any) -> None:
    """Relative to the largest of all: sums are of another order, and some gradients are zero."""
    atol = 1e-5 * max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(want))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), got, want)


def optical(report: Any) -> dict[str, str | None]:
    """Class of each layer by its path; None where it is digital."""
    return {layer.path: layer.optical for layer in report.layers}


def reasons(report: Any) -> dict[str, str]:
    return {layer.path: layer.reason for layer in report.layers}


@pytest.mark.parametrize("entry", _linen_layers.LAYERS, ids=lambda entry: entry.flax.__name__)
def test_a_linen_layer_becomes_optical(entry: Any) -> None:
    plain = LINEN_LAYERS[entry.flax]
    variables = plain.init(KEY, X, method=entry.method)
    model = convert(plain, CHIP)
    own = model.init(KEY, X, method=entry.method)
    same(own["params"], variables["params"])
    assert optical(model.report) == {"": entry.optical.__name__}
    # It is the optical layer itself, with its ranges and its noise.
    options = {name: getattr(plain, name) for name in entry.fields}
    layer = entry.optical(**options, **CHIP.options)
    want, ranges = layer.apply(own, X, rngs={"noise": KEY}, mutable=["ranges"], method=entry.method)
    got, updates = model.apply(own, X, rngs={"noise": KEY}, mutable=["ranges"], method=entry.method)
    same((got, updates), (want, ranges))
    ideal = convert(plain, IDEAL).apply(variables, X, method=entry.method)
    close(ideal, plain.apply(variables, X, method=entry.method))


@pytest.mark.parametrize("entry", _nnx_layers.LAYERS, ids=lambda entry: entry.flax.__name__)
def test_an_nnx_layer_becomes_optical(entry: Any) -> None:
    plain = NNX_LAYERS[entry.flax](nnx.Rngs(0))
    ideal, chip = convert(plain, IDEAL), convert(plain, CHIP, rngs=nnx.Rngs(noise=1))
    assert type(plain) is entry.flax
    assert type(chip) is entry.optical
    assert optical(chip.report) == {"": entry.optical.__name__}
    for name in entry.parameters:
        assert getattr(chip, name) is getattr(plain, name)
    method = "attend" if entry.flax is nnx.Embed else "__call__"
    want = getattr(plain, method)(X)
    close(getattr(ideal, method)(X), want)
    chip.train()
    noisy = getattr(chip, method)(X)
    chip.eval()
    quiet = getattr(chip, method)(X)
    assert chip.x_full_scale[...] == jnp.abs(X).max()
    assert jnp.any(noisy != quiet)
    assert jnp.any(quiet != want)


def test_every_entry_has_its_example() -> None:
    assert LINEN_LAYERS.keys() == {entry.flax for entry in _linen_layers.LAYERS}
    assert NNX_LAYERS.keys() == {entry.flax for entry in _nnx_layers.LAYERS}


@pytest.mark.parametrize("name", LINEN)
def test_linen_models_on_an_ideal_device_are_the_original(name: str) -> None:
    model, x = LINEN[name]
    converted = convert(model, IDEAL)
    variables = jax.jit(model.init)(KEY, x)

    def run(net: Any, variables: Any) -> Any:
        """Evaluation, and loss, statistics and gradients of a training step."""

        def loss(params: Any) -> Any:
            y, updates = net.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return jnp.mean(jnp.square(y)), updates

        trained, grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        return net.apply(variables, x), trained, grads

    want, got = jax.jit(lambda v: (run(model, v), run(converted, v)))(variables)
    for part, expected in zip(got, want, strict=True):
        close(part, expected)
    shapes = jax.eval_shape(converted.init, KEY, x)
    assert shapes == jax.eval_shape(lambda: variables)
    assert any(optical(converted.report).values())
    assert isinstance(converted, type(model))
    assert repr(converted) == repr(model)


@pytest.mark.parametrize("name", NNX)
def test_nnx_models_on_an_ideal_device_are_the_original(name: str) -> None:
    make, x = NNX[name]

    @nnx.jit
    def run(net: Any) -> Any:
        net.eval()
        evaluated = net(x)
        net.train()
        graph, params, rest = nnx.split(net, nnx.Param, ...)

        def loss(params: Any) -> Any:
            trained = nnx.merge(graph, params, rest, copy=True)
            y = trained(x)
            statistics = nnx.to_pure_dict(nnx.state(trained, nnx.BatchStat))
            return jnp.mean(jnp.square(y)), statistics

        values, grads = jax.value_and_grad(loss, has_aux=True)(params)
        return evaluated, values, nnx.to_pure_dict(grads)

    model = make(nnx.Rngs(0))
    want, before = run(model), nnx.state(model, nnx.Param)
    converted = convert(model, IDEAL)
    assert converted is model
    assert jax.tree.structure(nnx.state(model, nnx.Param)) == jax.tree.structure(before)
    for part, expected in zip(run(converted), want, strict=True):
        close(part, expected)
    assert any(optical(converted.report).values())
