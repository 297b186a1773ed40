"""What JAX offers around a program: debuggers, guards, key checks, strict modes and export."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from lumina_jax import NoiseModel, OpticalSpec, optical_matmul, optical_noise, quantize

X = jax.random.normal(jax.random.key(0), (6, 8))
W = jax.random.normal(jax.random.key(1), (8, 3))
KEY = jax.random.key(2)
SPEC = OpticalSpec(dac_bits=4, weight_bits=4, adc_bits=6)
NOISE = NoiseModel(relative=0.1, shot=0.1, thermal=0.01, weight=0.02)


def matmul(x: jax.Array, w: jax.Array = W, key: jax.Array = KEY) -> jax.Array:
    return optical_matmul(x, w, spec=SPEC, y_full_scale=4.0, noise=NOISE, key=key)


def step(x: jax.Array) -> tuple[Any, ...]:
    """A sum of all public ops, its gradient, and that along a direction."""

    def loss(w: jax.Array) -> jax.Array:
        y = matmul(x, w) + optical_noise(KEY, (6, 3))
        return jnp.sum(quantize(y, bits=3, full_scale=2.0) ** 2) + jnp.sum(jnp.sin(y))

    (value, gradient), (_, second) = jax.jvp(jax.value_and_grad(loss), (W,), (W,))
    return value, gradient, second


compiled = jax.jit(step)


def same(got: Any, expected: Any) -> None:
    for g, e in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-4, atol=1e-4)


def test_without_jit_the_numbers_are_the_same() -> None:
    expected = compiled(X)
    mapped = jax.vmap(matmul)(jnp.stack([X, -X]))
    with jax.disable_jit():
        same(step(X), expected)
        # All rows of a batch are one call, and with a batch of weights one call for each.
        same(jax.vmap(matmul)(jnp.stack([X, -X])), mapped)
        same(jax.vmap(matmul, (None, 0))(X, jnp.stack([W, W])), jnp.stack([mapped[0]] * 2))


@pytest.mark.parametrize(
    "name", ["debug_nans", "debug_infs", "enable_checks", "check_tracer_leaks"]
)
def test_a_sound_step_passes(name: str) -> None:
    mode: Callable[[bool], Any] = getattr(jax, name)
    with mode(True):
        same(compiled(X), compiled(X))
        # Nothing that is not finite comes of what is zero.
        jax.block_until_ready((compiled(0 * X), matmul(X, 0 * W), quantize(0 * X, bits=4)))


@pytest.mark.parametrize(
    ("op", "run"),
    [
        ("quantize", lambda x: quantize(x, bits=4)),
        ("optical_matmul", matmul),
        ("optical_matmul_fwd", compiled),
    ],
)
def test_a_nan_is_found_where_it_arises(op: str, run: Callable) -> None:
    broken = X.at[0, 0].set(np.nan)
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match=rf"\(nan\).*{op}\b"):
        jax.block_until_ready(run(broken))


def test_a_compiled_step_transfers_nothing() -> None:
    compiled(X)
    with jax.transfer_guard("disallow"):
        jax.block_until_ready(compiled(X))
        jax.block_until_ready(quantize(X, bits=4))


def test_keys_are_consumed() -> None:
    def once(key: jax.Array) -> jax.Array:
        a, b = jax.random.split(key)
        gradient = jax.grad(lambda x: jnp.sum(matmul(x, key=a)))(X)
        return gradient[:, :3] + optical_noise(b, (6, 3))

    def twice(key: jax.Array) -> jax.Array:
        return matmul(X, key=key) + optical_noise(key, (6, 3))

    with jax.debug_key_reuse(True):
        for run in (once, jax.jit(once)):
            jax.block_until_ready(run(jax.random.key(0)))
        for run in (twice, jax.jit(twice)):
            with pytest.raises(jax.errors.KeyReuseError):
                run(jax.random.key(0))
        # A raw key is not checked, as in all of JAX.
        raw = jax.random.PRNGKey(0)
        same(optical_noise(raw, (2, 2)), optical_noise(raw, (2, 2)))


def test_x64() -> None:
    expected = compiled(X)
    with jax.enable_x64(True):
        same(jax.jit(step)(X), expected)
        large = quantize(X, bits=4, full_scale=2**40)
    assert large.dtype == np.float32


@pytest.mark.parametrize(
    "eight",
    [8, np.int8(8), np.float64(8), np.array(8), jnp.array(8), jnp.bfloat16(8)],
    ids=lambda v: type(v).__name__,
)
def test_a_scalar_is_a_number_of_any_kind(eight: Any) -> None:
    expected = quantize(X, bits=4, full_scale=8.0)
    got = quantize(X, bits=4, full_scale=eight)
    np.testing.assert_array_equal(got, expected)
    traced = jax.jit(lambda: quantize(X, bits=4, full_scale=eight))()
    np.testing.assert_array_equal(traced, expected)


def test_a_scalar_is_of_any_size_that_float32_holds() -> None:
    expected = quantize(X, bits=4, full_scale=2.0**40)
    np.testing.assert_array_equal(quantize(X, bits=4, full_scale=2**40), expected)
    for value, shown in ((2**200, "1.6"), (1e39, "1e+39"), (np.inf, "inf")):
        text = f"quantize: `full_scale` must be finite in float32, got {shown}"
        with pytest.raises(ValueError, match=re.escape(text)):
            quantize(X, bits=4, full_scale=value)
    for value in (True, np.True_, np.array(True), [True]):
        with pytest.raises(TypeError, match="`full_scale` must be a real number, got "):
            quantize(X, bits=4, full_scale=value)


def test_export_needs_no_exception_and_takes_symbols() -> None:
    (m,) = jax.export.symbolic_shape("m")
    rows = jax.ShapeDtypeStruct((m, 8), np.float32)

    def model(x: jax.Array) -> jax.Array:
        noise = optical_noise(KEY, (x.shape[0], 3))
        return quantize(matmul(x) + noise, bits=5, full_scale=4.0)

    exported = jax.export.export(jax.jit(model), platforms=["cpu", "cuda"])(rows)
    np.testing.assert_array_equal(exported.call(X), jax.jit(model)(X))
    text = exported.mlir_module()
    assert "lumina.optical_matmul.v1" in text
    # What names a function of this process would be of no use to another one.
    assert "CustomSPMDPartitioning" not in text
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(exported.call(x))))(X)
    same(gradient, jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(model(x)))))(X))


def test_export_of_a_program_for_several_devices() -> None:
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    by_row = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
    model = jax.jit(matmul, in_shardings=by_row, out_shardings=by_row)
    exported = jax.export.export(model)(jax.ShapeDtypeStruct(X.shape, X.dtype))
    assert "CustomSPMDPartitioning" not in exported.mlir_module()
    x = jax.device_put(X, by_row)
    call = jax.jit(exported.call, in_shardings=by_row, out_shardings=by_row)
    np.testing.assert_array_equal(call(x), model(x))


def test_donated_arguments() -> None:
    gradient = jax.grad(lambda w: jnp.sum(matmul(X, w) ** 2))
    expected = jax.jit(gradient)(W)
    np.testing.assert_array_equal(jax.jit(gradient, donate_argnums=0)(jnp.array(W)), expected)
