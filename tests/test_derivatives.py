"""Derivatives beyond the first gradient: forward mode, second derivatives, and both under `vmap`.

The models of `cases.py` are plain jnp whose derivatives JAX finds itself, straight through the
converters as often as it is asked.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cases import CASES
from lumina_jax import NoiseModel, OpticalSpec, optical_matmul, quantize

LABELS = [
    "quantize-per channel",
    "optical_matmul-ideal",
    "optical_matmul-integer, noisy",
    "optical_matmul-scalars",
    "optical_matmul_fwd-slope, integer, noisy",
]
KEY = jax.random.key(2)
X = jax.random.normal(jax.random.key(0), (6, 16))
W = jax.random.normal(jax.random.key(1), (16, 4))
SPEC = OpticalSpec(dac_bits=4, weight_bits=4, adc_bits=6)
NOISE = NoiseModel(relative=0.1, shot=0.1, thermal=0.05, weight=0.02)


def matmul(x: jax.Array, w: jax.Array, noise: Any = NOISE, spec: Any = SPEC) -> jax.Array:
    return optical_matmul(x, w, spec=spec, y_full_scale=8.0, noise=noise, key=KEY)


def close(got: Any, expected: Any, tolerance: float = 1e-4) -> None:
    """Apart by roundings of the largest number of each array."""
    for g, e in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        atol = tolerance * max(float(jnp.abs(e).max()), 1e-3)
        np.testing.assert_allclose(g, e, rtol=0, atol=atol)


@pytest.mark.parametrize("label", LABELS)
def test_every_way_finds_the_derivatives_of_the_model(label: str) -> None:
    (case,) = (case for case in CASES if str(case) == label)
    assert case.gradient is not None
    gradient = case.gradient()
    arguments = gradient.arguments
    rng = np.random.default_rng(0)
    along = jax.tree.map(lambda v: rng.normal(0, 0.1, np.shape(v)).astype(np.float32), arguments)

    def derivatives(function: Any) -> tuple[Any, ...]:
        def loss(arguments: Any) -> jax.Array:
            return jnp.sum(jnp.sin(function(*arguments)))

        def slope(arguments: Any) -> jax.Array:
            return jax.jvp(loss, (arguments,), (along,))[1]

        _, linear = jax.linearize(lambda a: function(*a), arguments)
        return (
            jax.jvp(lambda a: function(*a), (arguments,), (along,)),
            linear(along),
            jax.jvp(jax.grad(loss), (arguments,), (along,)),
            jax.grad(slope)(arguments),
            jax.grad(lambda a: _dot(jax.grad(loss)(a), along))(arguments),
            jax.jvp(slope, (arguments,), (along,)),
        )

    got = jax.jit(lambda: derivatives(gradient.function))()
    expected = jax.jit(lambda: derivatives(gradient.model))()
    close(got, expected)


def _dot(a: Any, b: Any) -> jax.Array:
    return sum(
        (jnp.vdot(p, q) for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)),
        jnp.float32(0),
    )


def test_an_ideal_device_has_the_derivatives_of_a_matmul() -> None:
    def results(product: Any) -> tuple[Any, ...]:
        def loss(w: jax.Array) -> jax.Array:
            return jnp.sum(jnp.tanh(product(X, w)) ** 2)

        def penalty(w: jax.Array) -> jax.Array:
            g = jax.grad(lambda x: jnp.sum(jnp.tanh(product(x, w))))(X)
            return jnp.mean((jnp.sqrt(jnp.sum(g**2, axis=-1)) - 1) ** 2)

        hessian = jax.hessian(lambda b: loss(W + b * jnp.ones_like(W)))(jnp.float32(0))
        third = jax.grad(lambda w: _dot(jax.jvp(jax.grad(loss), (w,), (W,))[1], W))(W)
        return jax.grad(penalty)(W), hessian, third, jax.jacfwd(loss)(W), jax.jacrev(loss)(W)

    ideal = jax.jit(lambda: results(lambda x, w: optical_matmul(x, w, spec=OpticalSpec())))()
    close(ideal, jax.jit(lambda: results(lambda x, w: jnp.matmul(x, w, precision="highest")))())


def test_rounded_gradients_have_the_derivatives_of_the_exact_one() -> None:
    def second(precision: str) -> jax.Array:
        spec = OpticalSpec(dac_bits=4, weight_bits=4, adc_bits=6, grad_precision=precision)  # pyright: ignore[reportArgumentType]
        gradient = jax.grad(lambda w: jnp.sum(matmul(X, w, spec=spec) * jnp.cos(X[:, :4])))
        return jax.jvp(gradient, (W,), (W,))[1]

    exact, narrow, random = jax.jit(lambda: [second(p) for p in ("float32", "bfloat16", "int8")])()
    assert np.abs(exact).max() > 0
    close((narrow, random), (exact, exact))


def test_vmap_and_derivatives_commute() -> None:
    xs, relative = jnp.stack([X, 2 * X, -X]), NoiseModel(relative=0.1)

    def loss(x: jax.Array, w: jax.Array) -> jax.Array:
        value = jnp.sum(jnp.sin(matmul(x, w, relative)))
        return value + jnp.sum(quantize(w, bits=4, full_scale=2.0) ** 2)

    def along(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.jvp(lambda w: loss(x, w), (w,), (W,))[1]

    def twice(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.grad(along, 1)(x, w)

    @jax.jit
    def results() -> tuple[Any, Any]:
        mapped = jax.vmap(loss, (0, None))
        second = jnp.stack([twice(x, W) for x in xs])
        inside = (
            jnp.stack([jax.grad(loss, 1)(x, W) for x in xs]).sum(0),
            jnp.stack([along(x, W) for x in xs]),
            second,
            second.sum(0),
            jnp.stack([jnp.stack([jax.grad(loss)(x, w) for x in xs]) for w in (W, -W)]),
        )
        outside = (
            jax.grad(lambda w: jnp.sum(mapped(xs, w)))(W),
            jax.jvp(lambda w: mapped(xs, w), (W,), (W,))[1],
            jax.vmap(twice, (0, None))(xs, W),
            jax.grad(lambda w: jnp.sum(jax.vmap(along, (0, None))(xs, w)))(W),
            jax.vmap(lambda w: jax.vmap(jax.grad(loss), (0, None))(xs, w))(jnp.stack([W, -W])),
        )
        return inside, outside

    close(*results())


def test_inside_scan_checkpoint_and_shard_map() -> None:
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, whole = jax.sharding.PartitionSpec("d"), jax.sharding.PartitionSpec()
    weights = jnp.stack([W @ W.T, -W @ W.T]) / 8

    def layer(x: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.tanh(matmul(x, w))

    sharded = jax.shard_map(layer, mesh=mesh, in_specs=(rows, whole), out_specs=rows)
    # A shard numbers its rows from 0.
    halves = lambda x, w: jnp.concatenate([layer(x[:3], w), layer(x[3:], w)])  # noqa: E731

    def by_scan(ws: jax.Array) -> jax.Array:
        body = jax.checkpoint(lambda x, w: (layer(x, w), None))
        return jnp.sum(sharded(jax.lax.scan(body, X, ws)[0], ws[0]) ** 2)

    def by_hand(ws: jax.Array) -> jax.Array:
        return jnp.sum(halves(layer(layer(X, ws[0]), ws[1]), ws[0]) ** 2)

    def derivatives(loss: Any) -> Any:
        return (
            jax.jvp(loss, (weights,), (weights,)),
            jax.jvp(jax.grad(loss), (weights,), (weights,)),
        )

    got, expected = jax.jit(lambda: (derivatives(by_scan), derivatives(by_hand)))()
    close(got, expected, 1e-3)


def test_on_a_mesh_with_explicit_axes() -> None:
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    along = jnp.cos(W)

    def derivatives(x: jax.Array, w: jax.Array, along: jax.Array) -> Any:
        def loss(w: jax.Array) -> jax.Array:
            return jnp.sum(jnp.tanh(matmul(x, w)))

        return jax.jvp(loss, (w,), (along,)), jax.jvp(jax.grad(loss), (w,), (along,))

    expected = jax.jit(derivatives)(X, W, along)
    with jax.set_mesh(mesh):
        x = jax.device_put(X, jax.sharding.PartitionSpec("d"))
        w, d = (jax.device_put(v, jax.sharding.PartitionSpec()) for v in (W, along))
        close(jax.jit(derivatives)(x, w, d), expected)
        # Arrays that a program holds have a sharding whose axes XLA does not name.
        close(jax.jit(lambda: derivatives(x, w, d)[1][0])(), expected[1][0])
