"""Gradients that nobody asks for are not computed, and those that are do not depend on the rest."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import lumina_jax
from flax_layers import OpticalDense
from flax_layers.nnx import OpticalDense as NnxOpticalDense
from lumina_jax import NoiseModel, OpticalSpec

PRECISIONS = ["float32", "bfloat16", "int8"]
KEY = jax.random.key(4)
NOISE = NoiseModel(thermal=0.1, shot=0.2, relative=0.15, weight=0.05)

Parameters = dict[str, Any]

precisions = pytest.mark.parametrize("precision", PRECISIONS)


def parameters() -> Parameters:
    rng = np.random.default_rng(3)
    x, w, bias = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((12, 9), (9, 33), (33,)))
    return {
        "x": x, "w": w, "bias": bias,
        "x_full_scale": jnp.float32(1.7), "w_full_scale": jnp.float32(1.5),
        "y_full_scale": jnp.float32(6), "noise": jax.tree.map(jnp.float32, NOISE),
    }  # fmt: skip


def loss_of(precision: Any, *, noisy: bool = True) -> Callable[[Parameters], jax.Array]:
    spec = OpticalSpec(dac_bits=6, weight_bits=6, adc_bits=8, grad_precision=precision)

    def loss(p: Parameters) -> jax.Array:
        options = p if noisy else {**p, "noise": None}
        return (lumina_jax.optical_matmul(**options, spec=spec, key=KEY) ** 2).sum()

    return loss


def gradient(loss: Callable[[Parameters], jax.Array], names: set[str], p: Parameters) -> Parameters:
    """Gradients by the parameters of these names."""
    rest = {name: value for name, value in p.items() if name not in names}
    asked = {name: p[name] for name in names}
    return jax.grad(lambda asked: loss({**rest, **asked}))(asked)


def flags(function: Callable[..., Any], *arguments: Any) -> list[tuple[bool, bool]]:
    """What each gradient op of the traced function is asked for: inputs, and ranges or noise."""

    def search(jaxpr: Any) -> list[tuple[bool, bool]]:
        found = []
        for equation in jaxpr.eqns:
            params = equation.params
            if equation.primitive.name == "optical_matmul_grad":
                found.append((params["with_inputs"], params["with_ranges"]))
            for inner in jax.tree.leaves(
                list(params.values()), is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")
            ):
                if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                    found += search(getattr(inner, "jaxpr", inner))
        return found

    return search(jax.make_jaxpr(function)(*arguments).jaxpr)


EVERY = frozenset(parameters())
ASKED = {
    "w": (False, False),
    "bias": (False, False),
    "x": (True, False),
    "x_full_scale": (False, True),
    "w_full_scale": (False, True),
    "y_full_scale": (False, True),
    "noise": (False, True),
}


@pytest.mark.parametrize("name", ASKED)
def test_the_op_is_asked_for_what_is_differentiated(name: str) -> None:
    asked = flags(lambda p: gradient(loss_of("float32"), {name}, p), parameters())
    assert asked == [ASKED[name]]


def test_the_op_is_asked_for_all_that_is_differentiated() -> None:
    for names, expected in [
        ({"w", "bias"}, (False, False)),
        ({"x", "w"}, (True, False)),
        ({"x", "noise"}, (True, True)),
        (EVERY, (True, True)),
    ]:
        loss = loss_of("float32")
        assert flags(lambda p, n=set(names), f=loss: gradient(f, n, p), parameters()) == [expected]


def test_ranges_that_follow_the_operands_are_constants() -> None:
    def loss(w: jax.Array) -> jax.Array:
        spec = OpticalSpec(dac_bits=8, weight_bits=8)
        return lumina_jax.optical_matmul(parameters()["x"], w, spec=spec).sum()

    assert flags(jax.grad(loss), parameters()["w"]) == [(False, False)]


@precisions
@pytest.mark.parametrize("noisy", [False, True], ids=["quiet", "noisy"])
def test_each_gradient_is_the_same_alone(precision: str, noisy: bool) -> None:
    p, loss = parameters(), loss_of(precision, noisy=noisy)
    names = EVERY if noisy else EVERY - {"noise"}
    every = jax.jit(lambda p: gradient(loss, set(names), p))(p)
    for name in names:
        alone = jax.jit(lambda p, name=name: gradient(loss, {name}, p))(p)[name]
        jax.tree.map(np.testing.assert_array_equal, alone, every[name])
        assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(alone))


def test_relative_noise_alone_gives_the_same_but_for_rounding() -> None:
    p, loss = {**parameters(), "noise": NoiseModel(relative=jnp.float32(0.2))}, loss_of("float32")
    every, alone = (gradient(loss, names, p) for names in ({"w", "noise"}, {"w"}))
    # σ = relative·|y| needs no root: few roundings of each of 12 terms.
    scale = 12 * 2.0**-20 * float(jnp.abs(every["w"]).max())
    np.testing.assert_allclose(alone["w"], every["w"], rtol=0, atol=scale)


# --- transforms ---------------------------------------------------------------------------------


@functools.cache
def by_w(precision: str) -> Callable[[Parameters], jax.Array]:
    return jax.jit(lambda p: gradient(loss_of(precision), {"w"}, p)["w"])


@precisions
def test_jit_and_remat(precision: str) -> None:
    p = parameters()
    kept = jax.checkpoint(loss_of(precision))
    functions = {
        "jit": by_w(precision),
        "remat": lambda p: gradient(kept, {"w"}, p)["w"],
        "jit in grad": lambda p: gradient(jax.jit(loss_of(precision)), {"w"}, p)["w"],
    }
    expected = gradient(loss_of(precision), {"w"}, p)["w"]
    for label, function in functions.items():
        assert flags(function, p) == [(False, False)], label
        np.testing.assert_array_equal(function(p), expected)


@precisions
def test_vmap(precision: str) -> None:
    p = parameters()
    scales = jnp.float32([1.0, 1.5, 2.5])
    of_x = jax.vmap(lambda s: by_w(precision)({**p, "x": p["x"] * s}))
    of_w = jax.vmap(lambda s: by_w(precision)({**p, "w": p["w"] * s}))
    for mapped, name in (of_x, "x"), (of_w, "w"):
        assert set(flags(mapped, scales)) == {(False, False)}
        for scale, got in zip(scales, mapped(scales), strict=True):
            expected = by_w(precision)({**p, name: p[name] * scale})
            np.testing.assert_array_equal(got, expected)


@precisions
def test_scan(precision: str) -> None:
    p = parameters()
    scales = jnp.float32([1.0, 1.5, 2.5])

    def total(p: Parameters) -> jax.Array:
        def add(total: jax.Array, scale: jax.Array) -> tuple[jax.Array, None]:
            return total + loss_of(precision)({**p, "x": p["x"] * scale}), None

        return jax.lax.scan(add, jnp.float32(0), scales)[0]

    def scanned(p: Parameters) -> jax.Array:
        return gradient(total, {"w"}, p)["w"]

    assert flags(scanned, p) == [(False, False)]
    parts = [by_w(precision)({**p, "x": p["x"] * scale}) for scale in scales]
    # The same three gradients, added in another order.
    np.testing.assert_allclose(scanned(p), sum(parts), rtol=1e-5, atol=1e-3)


@precisions
@pytest.mark.parametrize("check_vma", [False, True])
def test_shard_map(precision: str, check_vma: bool) -> None:
    mesh = Mesh(np.array(jax.devices()[:2]), ("a",))
    p = parameters()

    def body(w: jax.Array, x: jax.Array) -> jax.Array:
        dw = by_w(precision)({**p, "x": x, "w": w})
        # With the check, what the shards share has the sum of their gradients.
        return dw if check_vma else jax.lax.psum(dw, "a")

    mapped = jax.jit(
        jax.shard_map(body, mesh=mesh, in_specs=(P(), P("a")), out_specs=P(), check_vma=check_vma)
    )
    assert flags(mapped, p["w"], p["x"]) == [(False, False)]
    parts = [by_w(precision)({**p, "x": x}) for x in jnp.split(p["x"], 2)]
    # The shards number their rows from 0, as the halves do.
    np.testing.assert_allclose(mapped(p["w"], p["x"]), sum(parts), rtol=1e-6, atol=1e-4)


# --- layers -------------------------------------------------------------------------------------


LAYER = OpticalSpec(dac_bits=6, weight_bits=6, adc_bits=8)


@pytest.mark.parametrize("learned", [False, True], ids=["calibrated", "learned"])
def test_linen_networks(learned: bool) -> None:
    from flax import linen

    ranges = "learn" if learned else "calibrate"
    net = linen.Sequential(
        [OpticalDense(7, ranges=ranges, spec=LAYER, noise=NOISE) for _ in range(2)]
    )
    x = parameters()["x"]
    variables = net.init({"params": KEY, "noise": KEY}, x)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        variables_of = {**variables, "params": params}
        y, _ = net.apply(variables_of, x, rngs={"noise": KEY}, mutable=["ranges"])
        return (y**2).sum()

    of_first = (False, learned)
    # The backward pass starts at the last layer.
    assert flags(jax.grad(loss), variables["params"], x) == [(True, learned), of_first]
    assert flags(jax.grad(loss, 1), variables["params"], x) == [(True, False)] * 2
    both = jax.grad(loss, (0, 1))(variables["params"], x)[0]
    alone = jax.grad(loss)(variables["params"], x)
    jax.tree.map(np.testing.assert_array_equal, alone, both)


def test_nnx_networks() -> None:
    def step(x: jax.Array) -> Any:
        rngs = nnx.Rngs(params=0, noise=1)
        net = nnx.Sequential(
            NnxOpticalDense(9, 7, spec=LAYER, noise=NOISE, rngs=rngs),
            NnxOpticalDense(7, 5, spec=LAYER, noise=NOISE, rngs=rngs),
        )
        return nnx.grad(lambda net: (net(x) ** 2).sum())(net)

    assert flags(step, parameters()["x"]) == [(True, False), (False, False)]
