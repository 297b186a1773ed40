"""Batch norms folded into the layers before them compute the same."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lumina_jax import ConversionRule, convert, fold_batch_norm

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

import linen_models
import nnx_models

KEY = jax.random.key(0)
IMAGES = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
X = jax.random.normal(jax.random.key(2), (8, 6))
ADDS = "the layer has no bias, so the norm still adds one"
NO_STATISTICS = "it does not use running statistics of the last axis in this call"
NO_LAYER = "what it normalizes is no output of a dense layer or a convolution"


def shuffled(tree: Any) -> Any:
    """Other values, positive as variances are."""

    def other(value: jax.Array) -> jax.Array:
        key = jax.random.fold_in(KEY, value.size)
        return value + 0.5 * jnp.abs(jax.random.normal(key, value.shape, value.dtype))

    return jax.tree.map(other, tree)


def close(got: Any, want: Any) -> None:
    atol = 1e-5 * float(jnp.abs(want).max())
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)


class Net(nn.Module):
    """Runs a function of layers of its own."""

    body: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.body(x)


def norm(**options: Any) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=True, name="norm", **options)


def other(x: jax.Array) -> jax.Array:
    y = nn.Dense(5)(x)
    return norm()(y) + y


def twice(x: jax.Array) -> jax.Array:
    layer = nn.Dense(6, name="twice")
    return norm()(layer(layer(x)))


def both(x: jax.Array) -> jax.Array:
    scale = norm()
    return scale(nn.Dense(5)(x)) + scale(nn.Dense(5)(x))


def of_one(x: jax.Array) -> jax.Array:
    return norm()(nn.Dense(5, use_bias=False)(x) + nn.Dense(1)(x[:1, :1]))


def test_models_of_both_families() -> None:
    model = linen_models.ResNet(width=4, depths=(1, 1))
    variables = shuffled(jax.jit(model.init)(KEY, IMAGES))
    folding = fold_batch_norm(model, IMAGES, variables=variables)
    assert [(norm.layer is None, norm.reason) for norm in folding.norms] == 6 * [(False, ADDS)]
    assert ("stem_norm", "stem") in [(norm.path, norm.layer) for norm in folding.norms]
    run = jax.jit(model.apply)
    want = run(variables, IMAGES)
    close(run(folding.variables, IMAGES), want)
    shapes = jax.tree.map(lambda v: (v.shape, v.dtype), variables)
    assert jax.tree.map(lambda v: (v.shape, v.dtype), folding.variables) == shapes
    # The converted model takes the folded variables.
    close(
        jax.jit(convert(model, ConversionRule(profile=None)).apply)(folding.variables, IMAGES), want
    )

    model = nnx_models.ResNet(width=4, depths=(1, 1), rngs=nnx.Rngs(0))
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    nnx.update(model, shuffled(state))
    infer = nnx.jit(lambda model, x: nnx.view(model, use_running_average=True)(x))
    want = infer(model, IMAGES)
    assert repr(fold_batch_norm(model, IMAGES)) == "Folding: 6 of 6 batch norms"
    close(infer(model, IMAGES), want)


@pytest.mark.parametrize(
    ("body", "layer", "reason"),
    [
        (lambda x: norm()(nn.Dense(5)(x)), "Dense_0", ""),
        (lambda x: norm(use_scale=False)(nn.Dense(5)(x)), "Dense_0", ""),
        (lambda x: norm(use_bias=False)(nn.Dense(5, use_bias=False)(x)), "Dense_0", ADDS),
        (lambda x: norm()(nn.DenseGeneral((2, 3))(x)), "DenseGeneral_0", ""),
        (lambda x: norm()(nn.Conv(5, (3,))(x[None])), "Conv_0", ""),
        (lambda x: norm()(nn.Conv(6, (3,), feature_group_count=3)(x[None])), "Conv_0", ""),
        (lambda x: norm(epsilon=0.5)(nn.Dense(5)(x).reshape(2, 4, 5)), "Dense_0", ""),
        (lambda x: norm()(nn.relu(nn.Dense(5)(x))), None, NO_LAYER),
        (lambda x: norm()(nn.Dense(8)(x).T), None, NO_LAYER),
        (lambda x: norm(axis=0)(nn.Dense(8)(x)), None, NO_STATISTICS),
        (lambda x: norm()(x), None, NO_LAYER),
        (of_one, None, NO_LAYER),
        (other, None, "others read what it normalizes"),
        (twice, None, "`params/twice/kernel` is used more than once"),
        (both, None, "`batch_stats/norm/mean` is used more than once"),
    ],
)
def test_which_norms_are_folded(body: Any, layer: str | None, reason: str) -> None:
    model = Net(body)
    variables = shuffled(model.init(KEY, X))
    folding = fold_batch_norm(model, X, variables=variables)
    (found,) = folding.norms
    assert (found.path, found.layer, found.reason) == ("norm", layer, reason)
    close(model.apply(folding.variables, X), model.apply(variables, X))
    if layer is None:
        jax.tree.map(np.testing.assert_array_equal, folding.variables, variables)
    else:
        assert jnp.all(folding.variables["batch_stats"]["norm"]["var"] > 0.49)
        changed = (
            folding.variables["params"][layer]["kernel"] != variables["params"][layer]["kernel"]
        )
        assert jnp.all(changed)


def test_norms_that_do_not_use_their_statistics_stay() -> None:
    model = linen_models.ResNet(width=2, depths=(1,))
    variables = jax.jit(model.init)(KEY, IMAGES)
    folding = fold_batch_norm(
        model, IMAGES, variables=variables, train=True, mutable=["batch_stats"]
    )
    assert {(norm.layer, norm.reason) for norm in folding.norms} == {(None, NO_STATISTICS)}
    assert str(folding).splitlines()[3].startswith("ResidualBlock_0/BatchNorm_0  -            it")
    assert "<td>stem_norm</td>" in folding._repr_html_()


def test_wrong_use_is_told() -> None:
    net = nn.Dense(3)
    for args, variables, message in [
        ((3, X), None, "`model` is of type int, expected a flax.linen.Module or a flax.nnx.Module"),
        ((net, X), None, "`variables` is of type NoneType, expected the variables of the Linen"),
        ((nnx.List([]), X), {}, "`variables` is of type dict, expected None with an NNX model"),
    ]:
        with pytest.raises(TypeError, match=f"^fold_batch_norm: {re.escape(message)}"):
            fold_batch_norm(*args, variables=variables)
