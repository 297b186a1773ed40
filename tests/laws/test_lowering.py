"""What the ops become: shapes, platforms, and the work that is done for them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lumina_jax
from lumina_jax import NoiseModel, OpticalSpec

M, K, N = 6, 5, 300
SPEC = OpticalSpec(dac_bits=8, weight_bits=8, adc_bits=8)
NOISE = NoiseModel(relative=0.1, shot=0.1, thermal=0.05, weight=0.02)


def layer(w: jax.Array, noise: NoiseModel, x: jax.Array, key: jax.Array) -> jax.Array:
    return lumina_jax.optical_matmul(x, w, spec=SPEC, y_full_scale=4.0, noise=noise, key=key)


def arguments() -> tuple[jax.Array, NoiseModel, jax.Array, jax.Array]:
    rng = np.random.default_rng(1)
    w, x = (jnp.asarray(rng.uniform(-1, 1, s), jnp.float32) for s in ((K, N), (M, K)))
    return w, jax.tree.map(jnp.float32, NOISE), x, jax.random.key(2)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_training_has_no_custom_call_elsewhere(impl: str) -> None:
    def step(w: jax.Array, noise: NoiseModel, x: jax.Array, key: jax.Array) -> Any:
        mapped = jax.vmap(layer, in_axes=(None, None, 0, None))(w, noise, x, key)
        shown = lumina_jax.quantize(mapped, bits=4) + lumina_jax.optical_noise(key, mapped.shape)
        return (shown**2).sum()

    w, noise, x, _ = arguments()
    key = jax.random.key(0, impl=impl)
    traced = jax.jit(jax.grad(step, argnums=(0, 1))).trace(w, noise, x, key)
    assert "custom_call" not in traced.lower(lowering_platforms=("cuda", "rocm", "tpu")).as_text()


def targets(f: Callable[..., Any], *a: Any) -> list[str]:
    """Every lumina target that a jitted `f` calls, with the number of its results."""
    text = jax.jit(f).lower(*a).as_text()
    pattern = r"custom_call @lumina\.(\w+)\.v1\(.*\) -> (.*)"
    return sorted(f"{name}: {types.count('tensor<')}" for name, types in re.findall(pattern, text))


def test_cpu_calls_the_kernels() -> None:
    a = arguments()
    # Only a backward pass keeps what it needs of the signal before the noise, and the ranges found.
    assert targets(layer, *a) == ["optical_matmul: 1"]
    assert targets(jax.grad(lambda *a: layer(*a).sum()), *a) == [
        "optical_matmul_fwd: 4",
        "optical_matmul_grad: 7",
    ]


def test_without_noise_and_adc_the_output_is_kept_instead() -> None:
    w, _, x, _ = arguments()

    def f(w: jax.Array) -> jax.Array:
        spec = OpticalSpec(dac_bits=4, weight_bits=4)
        return (lumina_jax.optical_matmul(x, w, spec=spec) ** 2).sum()

    # And what the op found of x and w.
    assert targets(jax.grad(f), w) == ["optical_matmul_fwd: 3", "optical_matmul_grad: 7"]


def test_attributes_reach_xla_as_i64_bool_and_string() -> None:
    text = jax.jit(layer).lower(*arguments()).as_text()
    assert "dac_bits = 8 : i64" in text
    assert "noisy = true" in text
    gradient = jax.jit(jax.grad(lambda *a: layer(*a).sum())).lower(*arguments()).as_text()
    assert 'grad_precision = "float32"' in gradient


def test_no_new_trace_for_new_numbers() -> None:
    traces = 0

    @jax.jit
    def f(w: jax.Array, noise: NoiseModel, full_scale: jax.Array, key: jax.Array) -> jax.Array:
        nonlocal traces
        traces += 1
        return lumina_jax.optical_matmul(
            w.T, w, spec=SPEC, y_full_scale=full_scale, noise=noise, key=key
        )

    w, *_ = arguments()
    for step in range(3):
        level = jnp.float32(0.1 * step)
        f(w, NoiseModel(relative=level, shot=level), level + 1, jax.random.key(step))
    assert traces == 1


def test_scan_and_remat() -> None:
    w, noise, x, key = arguments()
    square = w[:, :K]

    def layers(w: jax.Array, noise: NoiseModel, wrap: Callable[..., Any]) -> jax.Array:
        def one(v: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
            return wrap(layer)(w, noise, v, key), None

        return (jax.lax.scan(one, x, jax.random.split(key, 4))[0] ** 2).sum()

    def unrolled(w: jax.Array, noise: NoiseModel) -> jax.Array:
        v = x
        for k in jax.random.split(key, 4):
            v = layer(w, noise, v, k)
        return (v**2).sum()

    expected = jax.jit(jax.value_and_grad(unrolled, argnums=(0, 1)))(square, noise)
    for wrap in (lambda f: f, jax.checkpoint):
        f = jax.jit(jax.value_and_grad(lambda w, n, wrap=wrap: layers(w, n, wrap), argnums=(0, 1)))
        for got, e in zip(
            jax.tree.leaves(f(square, noise)), jax.tree.leaves(expected), strict=True
        ):
            # The same kernels on the same bits; XLA sums the four steps in another order.
            np.testing.assert_allclose(got, e, rtol=1e-5, atol=1e-6)


def test_symbolic_batch() -> None:
    (b,) = jax.export.symbolic_shape("b")
    w, noise, _, key = arguments()
    x = jax.ShapeDtypeStruct((b, 3, K), np.float32)
    out = jax.eval_shape(lambda x: layer(w, noise, x, key), x)
    assert out.shape == (b, 3, N)
    exported = jax.export.export(jax.jit(lambda x: layer(w, noise, x, key)), platforms=["tpu"])(x)
    assert exported.out_avals[0].shape == (b, 3, N)
    mapped = jax.eval_shape(jax.vmap(lambda x: layer(w, noise, x, key)), x)
    assert mapped.shape == (b, 3, N)


def test_eager_is_jit() -> None:
    a = arguments()
    np.testing.assert_array_equal(layer(*a), jax.jit(layer)(*a))
