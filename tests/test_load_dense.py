"""Checkpoints of electronic networks in optical ones."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lumina_jax import layers

X = jax.random.normal(jax.random.key(0), (3, 6))


class Electronic(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(8)(x))
        return nn.Dense(4, name="head")(nn.relu(nn.Dense(5, use_bias=False)(x)))


class Optical(nn.Module):
    profile: Any = None
    ranges: Any = "calibrate"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def dense(*args: Any, **options: Any) -> layers.OpticalDense:
            own = {"profile": self.profile, "ranges": self.ranges, "deterministic": True}
            return layers.OpticalDense(*args, **own, **options)

        x = nn.BatchNorm(use_running_average=True)(dense(8)(x))
        return dense(4, name="head")(nn.relu(dense(5, use_bias=False)(x)))


class ElectronicNnx(nnx.Module):
    def __init__(self, seed: int, *, use_bias: bool = False) -> None:
        rngs = nnx.Rngs(seed)
        self.first = nnx.Linear(6, 8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.rest = nnx.List([nnx.Linear(8, 4, use_bias=use_bias, rngs=rngs)])

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.rest[0](self.drop(self.first(x)))


class OpticalNnx(ElectronicNnx):
    def __init__(self, seed: int, *, profile: Any = None, use_bias: bool = False) -> None:
        super().__init__(seed, use_bias=use_bias)
        rngs, options = nnx.Rngs(seed), {"profile": profile, "ranges": "learn"}
        self.first = layers.nnx.OpticalDense(6, 8, **options, rngs=rngs)
        self.rest[0] = layers.nnx.OpticalDense(8, 4, use_bias=use_bias, **options, rngs=rngs)


VARIABLES = Electronic().init(jax.random.key(1), X)


@pytest.mark.parametrize("ranges", ["calibrate", "learn"])
def test_linen(ranges: str) -> None:
    """On an ideal device the two networks compute the same."""
    ideal = Optical(None, ranges)
    loaded = layers.load_dense(VARIABLES, ideal.init(jax.random.key(2), X))
    np.testing.assert_allclose(
        ideal.apply(loaded, X), Electronic().apply(VARIABLES, X), rtol=1e-6, atol=1e-6
    )
    real = Optical("lumina_nano_v1", ranges)
    initial = real.init(jax.random.key(2), X)
    loaded = layers.load_dense(VARIABLES, initial)
    assert jax.tree.structure(loaded) == jax.tree.structure(initial)
    jax.tree.map(np.testing.assert_array_equal, loaded["ranges"], initial["ranges"])
    assert ("x_log_gain" in loaded["params"]["head"]) == (ranges == "learn")


def test_linen_keeps_the_type_and_the_metadata_of_the_model() -> None:
    init = nn.with_partitioning(nn.initializers.zeros, ("in", "out"))
    optical = layers.OpticalDense(4, param_dtype=jnp.bfloat16, kernel_init=init, deterministic=True)
    variables = nn.Dense(4).init(jax.random.key(1), X)
    kernel = layers.load_dense(variables, optical.init(jax.random.key(2), X))["params"]["kernel"]
    assert (kernel.names, kernel.value.dtype) == (("in", "out"), jnp.bfloat16)
    expected = variables["params"]["kernel"].astype(jnp.bfloat16)
    np.testing.assert_array_equal(kernel.value, expected)


SOURCES = {
    "module": lambda net: net,
    "state": nnx.state,
    "dict": lambda net: nnx.to_pure_dict(nnx.state(net)),
    "parameters": lambda net: nnx.to_pure_dict(nnx.state(net, nnx.Param)),
    "names": lambda net: jax.tree.map(
        np.asarray, {"first": nnx.to_pure_dict(nnx.state(net.first)),
                     "rest": {"0": nnx.to_pure_dict(nnx.state(net.rest[0]))}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
def test_nnx(source: str) -> None:
    electronic, optical = ElectronicNnx(0), OpticalNnx(1)
    assert layers.load_dense(SOURCES[source](electronic), optical) is optical
    electronic.eval()
    optical.eval()
    np.testing.assert_allclose(optical(X), electronic(X), rtol=1e-6, atol=1e-6)


def without(tree: Any, *path: Any) -> Any:
    copy = jax.tree.map(lambda leaf: leaf, tree)
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return copy


def test_what_differs_is_listed_by_its_path() -> None:
    variables = without(VARIABLES, "params", "Dense_0", "bias")
    variables["params"]["head"]["kernel"] = jnp.ones((5, 9))
    variables["params"]["Dense_1"]["kernel"] = jnp.ones((8, 5), jnp.int32)
    variables["params"]["more"] = {"kernel": jnp.ones(3)}
    with pytest.raises(ValueError, match="load_dense: the networks differ; ") as caught:
        layers.load_dense(variables, Optical("lumina_nano_v1").init(jax.random.key(2), X))
    assert set(str(caught.value).splitlines()[1:]) == {
        "  `model` has `params/OpticalDense_0/bias`, and `variables` has none at "
        "`params/Dense_0/bias`",
        "  `params/head/kernel` has shape (5, 9), expected (5, 4) as `params/head/kernel` of "
        "`model`",
        "  `params/Dense_1/kernel` is int32, expected float32 as `params/OpticalDense_1/kernel` "
        "of `model`",
        "  `variables` has `params/more/kernel`, and `model` has not",
    }
    with pytest.raises(ValueError, match=r"`model` has `rest/0/bias`, and `variables` has none$"):
        layers.load_dense(ElectronicNnx(0), OpticalNnx(1, use_bias=True))
    with pytest.raises(ValueError, match="`variables` has `rest/0/bias`, and `model` has not"):
        layers.load_dense(ElectronicNnx(0, use_bias=True), OpticalNnx(1))


def test_numbers_of_names_are_not_guessed() -> None:
    """Where a layer stays electronic, the numbers of the others do not say which is which."""

    class Mixed(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = layers.OpticalDense(6, deterministic=True)(x)
            return nn.Dense(6)(x)

    plain = nn.Sequential([nn.Dense(6), nn.Dense(6)]).init(jax.random.key(0), X)
    variables = {"params": {f"Dense_{i}": plain["params"][f"layers_{i}"] for i in range(2)}}
    with pytest.raises(ValueError, match="give counterparts the same name") as caught:
        layers.load_dense(variables, Mixed().init(jax.random.key(1), X))
    assert "`variables` has `params/Dense_1/kernel`, and `model` has not" in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "model", "message"),
    [
        (VARIABLES, 3, "`model` is of type int, expected the variables of a Linen network, .*NNX"),
        (3, VARIABLES, '`variables` has no collection "params"'),
        (VARIABLES["params"], VARIABLES, '`variables` has no collection "params"'),
        (VARIABLES, VARIABLES["params"], '`model` has no collection "params"'),
        (3, OpticalNnx(0), "`variables` is of type int, expected an NNX module, its state, or"),
    ],
)
def test_what_is_no_network(variables: Any, model: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^load_dense: {message}"):
        layers.load_dense(variables, model)
