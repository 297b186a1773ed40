"""What can be exported: everything that is called like a function of arrays."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import exporter
from exported import Program

X = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
W = jnp.asarray(np.random.default_rng(2).standard_normal((4, 2)), jnp.float32)


def net(x: Any, w: Any = W, *, scale: Any = 2.0, training: bool = False) -> Any:
    return x if training else x @ w * scale


class Holder:
    def __init__(self) -> None:
        self._layers = {"dense": [W, jnp.ones(2)]}

    @property
    def layers(self) -> Any:
        return self._layers

    def __call__(self, x: Any) -> Any:
        w, b = self._layers["dense"]
        return x @ w + b[None]

    @functools.partial(jax.jit, static_argnums=0)
    def jitted(self, x: Any) -> Any:
        return self(x)


class Outer:
    def __init__(self) -> None:
        self.inner = Holder()
        self.itself = self

    def run(self, x: Any) -> Any:
        return self.inner(x)


def test_jitted_functions(program: Program) -> None:
    for fn in (
        jax.jit(net),
        jax.jit(net, donate_argnums=0),
        jax.jit(net, static_argnames="training"),
        functools.partial(jax.jit(net, static_argnames="training"), training=False),
        functools.partial(jax.jit(net), w=W),
        jax.tree_util.Partial(lambda w, x: x @ w, W),
        jax.checkpoint(net),
    ):
        model = program.export(fn, X, batch="batch")  # type: ignore[arg-type]
        assert model.inputs == {"x": "f32[batch, 4]"}
        assert list(model.weights) == ["w"]
    chosen = functools.partial(jax.jit(net, static_argnames="training"), training=True)
    assert program.export(chosen, X).ops == {}


def test_a_donated_argument_is_still_there() -> None:
    x = jnp.asarray(X)
    exporter.export(jax.jit(net, donate_argnums=0), x)
    np.testing.assert_array_equal(x, X)


def test_functions_on_several_devices(program: Program) -> None:
    mesh = Mesh(np.array(jax.devices()[:2]), "d")
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("d",)))

    def constrained(x: Any) -> Any:
        return jax.lax.with_sharding_constraint(x * 2, whole)

    for fn in (
        jax.jit(net, in_shardings=whole, out_shardings=whole),
        constrained,
        lambda x: x @ jax.device_put(W, split),
    ):
        program.export(fn, X)
    for w in (jax.device_put(W, split), jax.device_put(W, jax.devices()[2])):
        model = program.export(lambda p, x: x @ p["w"] / p["w"].sum(), X, params={"w": w})
        assert "w" in model.weights


def test_objects_and_their_methods(program: Program) -> None:
    holder = Holder()
    for fn, root in (
        (holder, ""),
        (holder.jitted, "self."),
        (holder.__call__, "self."),
        (Outer().run, "self.inner."),
        (lambda x: holder(x), "holder."),
    ):
        names = list(program.export(fn, X, batch="batch").weights)
        assert names == [f"{root}layers['dense'][{i}]" for i in (0, 1)]


class Pair(NamedTuple):
    logits: Any
    hidden: Any


@flax.struct.dataclass
class Output:
    logits: Any
    hidden: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Registered:
    logits: Any
    hidden: Any


@pytest.mark.parametrize("kind", [Pair, Output, Registered])
def test_classes_of_arguments_and_results(program: Program, kind: Any) -> None:
    def fn(batch: Any) -> Any:
        return kind(batch.logits + 1, {"last": (batch.hidden, None)})

    model = program.export(fn, kind(X, 2 * X), batch="n")
    assert list(model.inputs) == ["batch.logits", "batch.hidden"]
    assert list(model.outputs) == ["output.logits", "output.hidden['last'][0]"]
    returned = model(kind(X, 2 * X))
    np.testing.assert_array_equal(returned["logits"], X + 1)
    np.testing.assert_array_equal(returned["hidden"]["last"][0], 2 * X)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    """As modules of Equinox are: functions and rates are leaves beside the arrays."""

    rate: float
    weight: Any
    activation: Any
    is_training: bool
    bias: Any

    def __call__(self, x: Any) -> Any:
        y = self.activation(x @ self.weight.T + self.bias[None])
        return y * self.rate if self.is_training else y


def test_modules_that_are_pytrees(program: Program) -> None:
    layer = Layer(0.5, W.T, jnp.tanh, False, jnp.ones(2))
    for fn, args, params in (
        (layer, (X,), None),
        (lambda layer, x: layer(x), (X,), layer),
        (lambda net, x: net["a"](x), (X,), {"a": layer, "b": 3, "c": jnp.sin}),
    ):
        model = program.export(fn, *args, params=params, batch="batch")
        assert [name.split(".")[-1] for name in model.weights] == ["weight", "bias"]
        np.testing.assert_allclose(model(X), layer(X), rtol=1e-6)
