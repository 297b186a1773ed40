"""`vmap(f)(x)[i] == f(x[i])`, bit for bit, whatever is mapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lumina_jax
from lumina_jax import NoiseModel, OpticalSpec

BATCH, M, K, N = 5, 7, 9, 4
SPEC = OpticalSpec(dac_bits=6, weight_bits=4, adc_bits=8)
IDEAL = OpticalSpec()

Arguments = dict[str, Any]


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def matmul(a: Arguments, spec: OpticalSpec = SPEC) -> jax.Array:
    return lumina_jax.optical_matmul(
        a["x"], a["w"], a["bias"], spec=spec,
        x_full_scale=a["x_full_scale"], w_full_scale=a["w_full_scale"],
        y_full_scale=a["y_full_scale"], noise=a["noise"], key=a["key"],
    )  # fmt: skip


def arguments(mapped: set[str]) -> tuple[Arguments, Arguments]:
    """One set of arguments, the mapped ones with a leading axis; and `in_axes`."""

    def maybe(name: str, make: Callable[..., Any], *shape: int) -> Any:
        return make(*((BATCH, *shape) if name in mapped else shape))

    def positive(seed: int) -> Callable[..., jax.Array]:
        return lambda *shape: jnp.abs(normal(seed, *shape)) + jnp.float32(1)

    def key(*shape: int) -> jax.Array:
        return jax.random.split(jax.random.key(3), shape) if shape else jax.random.key(3)

    made = {
        "x": maybe("x", lambda *s: normal(0, *s), M, K),
        "w": maybe("w", lambda *s: normal(1, *s), K, N),
        "bias": maybe("bias", lambda *s: normal(2, *s), N),
        "x_full_scale": maybe("x_full_scale", positive(3)),
        "w_full_scale": maybe("w_full_scale", positive(4), N),
        "y_full_scale": maybe("y_full_scale", positive(5), N),
        "noise": NoiseModel(
            relative=maybe("noise", positive(6)) * jnp.float32(0.1), thermal=0.1, weight=0.01
        ),
        "key": maybe("key", key),
    }
    axes: Arguments = {name: 0 if name in mapped else None for name in made}
    axes["noise"] = NoiseModel(relative=axes["noise"], shot=None, thermal=None, weight=None)  # type: ignore[arg-type]
    return made, axes


def example(a: Arguments, mapped: set[str], index: int) -> Arguments:
    one = {name: v[index] if name in mapped else v for name, v in a.items() if name != "noise"}
    relative = a["noise"].relative
    noise = NoiseModel(
        relative=relative[index] if "noise" in mapped else relative, thermal=0.1, weight=0.01
    )
    return {**one, "noise": noise}


MAPPED = [
    {"x"}, {"key"}, {"x", "key"}, {"noise"}, {"x_full_scale"}, {"x", "x_full_scale", "noise"},
    {"w"}, {"bias"}, {"w_full_scale"}, {"y_full_scale"}, {"x", "w", "key"},
    {"x", "w", "bias", "x_full_scale", "w_full_scale", "y_full_scale", "noise", "key"},
]  # fmt: skip


def output_and_gradient(a: Arguments) -> tuple[jax.Array, Arguments]:
    key = a["key"]
    rest = {name: value for name, value in a.items() if name != "key"}

    def loss(rest: Arguments) -> tuple[jax.Array, jax.Array]:
        y = matmul({**rest, "key": key})
        return (y**2).sum(), y

    gradient, y = jax.grad(loss, has_aux=True)(rest)
    return y, gradient


of_one = jax.jit(output_and_gradient)


@pytest.mark.parametrize("mapped", MAPPED, ids=lambda m: "+".join(sorted(m)))
def test_output_and_gradient_per_example(mapped: set[str]) -> None:
    a, axes = arguments(mapped)
    got, gradients = jax.device_get(jax.jit(jax.vmap(output_and_gradient, in_axes=(axes,)))(a))
    a = jax.device_get({**a, "key": jax.random.key_data(a["key"])})
    for index in range(BATCH):
        one = example(a, mapped, index)
        y, gradient = of_one({**one, "key": jax.random.wrap_key_data(one["key"])})
        np.testing.assert_array_equal(got[index], y)
        for g, e in zip(jax.tree.leaves(gradients), jax.tree.leaves(gradient), strict=True):
            # Outside the op XLA squares, and sums over rows, in an order of its own.
            np.testing.assert_allclose(
                g[index], e, rtol=1e-5, atol=1e-5 * float(np.abs(e).max(initial=1))
            )


def test_many_examples_are_one_loop() -> None:
    w = normal(1, 17, K, N)
    mapped = jax.vmap(lambda w: matmul({**arguments(set())[0], "w": w}))
    for count, loops in ((16, False), (17, True)):
        assert ("scan" in str(jax.make_jaxpr(mapped)(w[:count]))) == loops
    np.testing.assert_array_equal(jax.jit(mapped)(w)[:16], jax.jit(mapped)(w[:16]))


def test_backward_op_is_bit_equal() -> None:
    a, axes = arguments({"x", "key"})
    g = normal(8, BATCH, M, N)

    def pullback(a: Arguments, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(lambda x, w: matmul({**a, "x": x, "w": w}), a["x"], a["w"])[1](g)

    got = jax.jit(jax.vmap(pullback, in_axes=(axes, 0)))(a, g)
    one = jax.jit(pullback)
    for index in range(BATCH):
        expected = one(example(a, {"x", "key"}, index), g[index])
        for v, e in zip(got, expected, strict=True):
            np.testing.assert_array_equal(v[index], e)


def test_rows_are_mapped_in_one_call() -> None:
    a, axes = arguments({"x", "key", "noise"})
    jaxpr = str(jax.make_jaxpr(jax.vmap(matmul, in_axes=(axes,)))(a))
    assert f"f32[{BATCH * M},{N}] = optical_matmul[" in jaxpr
    assert "scan" not in jaxpr


def test_axes_other_than_the_first() -> None:
    x, w = normal(0, M, BATCH, K), normal(1, K, N)
    keys = jax.random.split(jax.random.key(0), BATCH)

    def f(x: jax.Array, key: jax.Array) -> jax.Array:
        return lumina_jax.optical_matmul(x, w, spec=IDEAL, noise=NoiseModel(thermal=1.0), key=key)

    got = jax.vmap(f, in_axes=(1, 0), out_axes=2)(x, keys)
    assert got.shape == (M, N, BATCH)
    for index in range(BATCH):
        np.testing.assert_array_equal(got[:, :, index], f(x[:, index], keys[index]))


@pytest.mark.parametrize("shape", [(3, 2), (1, 1), (3, 1)])
def test_nested(shape: tuple[int, int]) -> None:
    x, w = normal(0, *shape, M, K), normal(1, shape[1], K, N)
    keys = jax.random.split(jax.random.key(0), shape[0])

    @jax.jit
    def f(x: jax.Array, w: jax.Array, key: jax.Array) -> jax.Array:
        return lumina_jax.optical_matmul(
            x, w, spec=SPEC, y_full_scale=4.0, noise=NoiseModel(relative=0.3), key=key
        )

    got = jax.jit(jax.vmap(jax.vmap(f, in_axes=(0, 0, None)), in_axes=(0, None, 0)))(x, w, keys)
    x, w = np.asarray(x), np.asarray(w)
    for i, key in enumerate(keys):
        for j in range(shape[1]):
            np.testing.assert_array_equal(got[i, j], f(x[i, j], w[j], key))


@pytest.mark.parametrize("rows", [0, 1, 6])
def test_one_vector_at_a_time(rows: int) -> None:
    # A dynamic range is that of the example, and every example has the same noise.
    x, w = normal(0, rows, K), normal(1, K, N)

    def f(x: jax.Array) -> jax.Array:
        return lumina_jax.optical_matmul(
            x, w, spec=SPEC, y_full_scale=4.0, noise=NoiseModel(thermal=0.5),
            key=jax.random.key(7),
        )  # fmt: skip

    got = jax.vmap(f)(x) if rows else jax.jit(jax.vmap(f))(x)
    assert got.shape == (rows, N)
    for index in range(rows):
        np.testing.assert_array_equal(got[index], f(x[index]))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_optical_noise(impl: str) -> None:
    keys = jax.random.split(jax.random.key(1, impl=impl), BATCH)
    got = jax.vmap(lambda k: lumina_jax.optical_noise(k, (3, 40)))(keys)
    for index in range(BATCH):
        np.testing.assert_array_equal(got[index], lumina_jax.optical_noise(keys[index], (3, 40)))


@pytest.mark.parametrize("per_channel", [True, False])
def test_quantize(per_channel: bool) -> None:
    v = normal(0, BATCH, M, N)
    full_scale = jnp.abs(normal(1, BATCH, N) if per_channel else normal(1, BATCH))

    def f(v: jax.Array, full_scale: jax.Array | None) -> jax.Array:
        return lumina_jax.quantize(v, bits=3, full_scale=full_scale)

    for got, one in [
        (jax.vmap(f)(v, full_scale), lambda i: f(v[i], full_scale[i])),
        (jax.vmap(f, in_axes=(None, 0))(v[0], full_scale), lambda i: f(v[0], full_scale[i])),
        (jax.vmap(lambda v: f(v, None))(v), lambda i: f(v[i], None)),
    ]:
        for index in range(BATCH):
            np.testing.assert_array_equal(got[index], one(index))
