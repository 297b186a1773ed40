"""Array tiles: arrays of a limited number of inputs, each with an ADC and noise of its own."""

from __future__ import annotations

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import exporter
from case import key_of_tile
from exported import Program
from flax_layers.nnx import OpticalDense
from lumina_jax import (
    HardwareProfile,
    NoiseModel,
    OpticalSpec,
    optical_linear_fused,
    optical_linear_infer,
    optical_matmul,
)
from lumina_jax.cost import energy_report
from lumina_jax.hardware import Converters, WeightBank

RNG = np.random.default_rng(4)
X = RNG.normal(0, 1, (12, 20)).astype(np.float32)
W = RNG.normal(0, 0.3, (20, 33)).astype(np.float32)
BIAS = RNG.normal(0, 0.3, 33).astype(np.float32)
RANGES = {"x_full_scale": 2.0, "w_full_scale": 1.0, "y_full_scale": 3.0}
BANK = HardwareProfile(
    bank=WeightBank(rows=6),
    converters=Converters.all(8, symbol_rate_hz=1e9),
    noise=NoiseModel(relative=0.05),
)
NOISE = NoiseModel(thermal=0.05, shot=0.1, relative=0.1, weight=0.02)


def spec(rows: int | None, **bits: Any) -> OpticalSpec:
    return OpticalSpec(**{"dac_bits": 8, "weight_bits": 7, "adc_bits": 6, **bits}, array_rows=rows)


@pytest.mark.parametrize("rows", [20, 21, 10**6])
def test_one_array_that_has_all_inputs_is_the_op_without_arrays(rows: int) -> None:
    def run(array_rows: int | None) -> Any:
        def total(x: jax.Array, w: jax.Array) -> jax.Array:
            out = optical_matmul(
                x, w, BIAS, spec=spec(array_rows), noise=NOISE, key=jax.random.key(1), **RANGES
            )
            return jnp.sum(out**2)

        return jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(X, W)

    jax.tree.map(np.testing.assert_array_equal, run(rows), run(None))


def test_a_call_is_the_sum_of_its_arrays() -> None:
    """Each is a call of its own, whose seed is that of the tile; only the first has the bias."""
    tiles = [slice(0, 8), slice(8, 16), slice(16, 20)]

    @jax.jit
    def both() -> tuple[jax.Array, list[jax.Array]]:
        key = key_of_tile(0)
        whole = optical_matmul(X, W, BIAS, spec=spec(8), noise=NOISE, key=key, **RANGES)
        arrays = [
            optical_matmul(
                X[:, t], W[t], BIAS if i == 0 else None,
                spec=spec(None), noise=NOISE, key=key_of_tile(i), **RANGES,
            )
            for i, t in enumerate(tiles)
        ]  # fmt: skip
        return whole, arrays

    whole, arrays = both()
    np.testing.assert_array_equal(whole, arrays[0] + arrays[1] + arrays[2])


def test_the_variance_is_that_of_the_formula() -> None:
    """Σ_t σ_t², of arrays that draw independently of each other."""
    rows = 20_000
    x = np.broadcast_to(X[:1], (rows, 20))
    out = optical_matmul(
        x, W[:, :4], BIAS[:4], spec=OpticalSpec(array_rows=7), noise=NOISE, key=jax.random.key(3)
    )
    y = [X[0, t : t + 7].astype(float) @ W[t : t + 7, :4] for t in range(0, 20, 7)]
    y[0] = y[0] + BIAS[:4]
    squares = [np.sum(X[0, t : t + 7] ** 2) for t in range(0, 20, 7)]
    variance = sum(
        0.05**2 + 0.1**2 * abs(y_t) + 0.1**2 * y_t**2 + 0.02**2 * square
        for y_t, square in zip(y, squares, strict=True)
    )
    # The relative standard error of a variance is √(2/rows), the bound five of them.
    bound = 5 * math.sqrt(2 / rows)
    np.testing.assert_allclose(np.var(out, axis=0), variance, rtol=bound)
    error = 5 * np.sqrt(variance / rows)
    assert (abs(np.mean(out, axis=0) - sum(y)) < error).all()


def test_ranges_of_layers_see_each_array() -> None:
    """What a calibration looks at is the largest |y| of an array, not of their sum."""
    x, w = np.ones((3, 8), np.float32), np.tile(np.float32([[1.0], [-1.0]]), (4, 5))
    ideal = OpticalSpec(array_rows=1)
    out, y, peak = optical_matmul(x, w, spec=ideal, return_pre_noise=True, return_peak=True)
    assert (out.shape, y.shape) == ((3, 5), (3, 8, 5))
    np.testing.assert_array_equal(out, np.zeros((3, 5)))
    np.testing.assert_array_equal(y[0, :, 0], w[:, 0])
    np.testing.assert_array_equal(peak, np.ones(3))
    by_column = np.float32([1, 2, 3, 4, 5])
    noise = NoiseModel(thermal=1e-3, unit="full_scale")
    _, y, peak = optical_matmul(
        x, w, spec=ideal, y_full_scale=by_column, noise=noise, key=jax.random.key(0),
        return_pre_noise=True, return_peak=True,
    )  # fmt: skip
    assert y.shape == (3, 8, 5)
    np.testing.assert_allclose(peak, np.ones(3), rtol=1e-6)


def test_numpy_is_jax_bit_for_bit() -> None:
    @jax.jit
    def in_jax() -> jax.Array:
        noise = NoiseModel(relative=0.1, thermal=0.02)
        return optical_matmul(
            X, W, BIAS, spec=OpticalSpec(adc_bits=6, array_rows=7), y_full_scale=3.0,
            noise=noise, key=jax.random.key(5),
        )  # fmt: skip

    w = np.ascontiguousarray(W.T)
    out = optical_linear_fused(X, w, BIAS, 0.1, 6, 5, full_scale=3.0, thermal=0.02, array_rows=7)
    np.testing.assert_array_equal(out, in_jax())
    quiet = optical_linear_infer(X, w, BIAS, 6, full_scale=3.0)
    with_all = optical_linear_infer(X, w, BIAS, 6, full_scale=3.0, array_rows=20)
    np.testing.assert_array_equal(quiet, with_all)
    assert (quiet != optical_linear_infer(X, w, BIAS, 6, full_scale=3.0, array_rows=7)).any()


def test_vmap_is_each_example() -> None:
    keys = jax.random.split(jax.random.key(2), 3)

    def one(x: jax.Array, key: jax.Array) -> jax.Array:
        return optical_matmul(x, W, BIAS, spec=spec(6), noise=NOISE, key=key, **RANGES)

    def gradient(x: jax.Array, key: jax.Array) -> jax.Array:
        return jax.grad(lambda x: one(x, key).sum())(x)

    x = X.reshape(3, 4, 20)
    for f in (one, gradient):
        together = jax.jit(jax.vmap(f))(x, keys)
        for i in range(3):
            np.testing.assert_array_equal(together[i], jax.jit(f)(x[i], keys[i]))


def test_a_file_has_the_arrays(program: Program) -> None:
    def model(x: jax.Array) -> jax.Array:
        return optical_matmul(x, W, BIAS, spec=spec(6), **RANGES)

    path = program.verified(program.export(model, X))
    np.testing.assert_array_equal(program.run(path, X), jax.jit(model)(X))
    (layer,) = energy_report(exporter.load(path), BANK).layers
    assert layer.layer.array_rows == 6


def test_signals_of_arrays_are_no_part_of_a_file() -> None:
    def model(x: jax.Array) -> jax.Array:
        return optical_matmul(x, W, spec=spec(6), return_pre_noise=True, **RANGES)[1]

    with pytest.raises(exporter.ExportError, match="function without `return_pre_noise`"):
        exporter.export(model, X)


def test_a_layer_of_a_bank_trains_and_is_calibrated_by_array() -> None:
    assert BANK.spec.array_rows == 6
    layer = OpticalDense(20, 33, profile=BANK, rngs=nnx.Rngs(0, noise=1))
    target = jnp.tanh(X @ W)
    optimizer = nnx.Optimizer(layer, optax.sgd(0.5), wrt=nnx.Param)

    @nnx.jit
    def step(layer: OpticalDense, optimizer: nnx.Optimizer) -> jax.Array:
        def loss(layer: OpticalDense) -> jax.Array:
            return jnp.mean((layer(X) - target) ** 2)

        value, gradient = nnx.value_and_grad(loss)(layer)
        optimizer.update(layer, gradient)
        return value

    first, *_, last = [float(step(layer, optimizer)) for _ in range(60)]
    assert last < 0.5 * first
    kernel = np.asarray(layer.kernel[...])
    largest = max(np.abs(X[:, t : t + 6] @ kernel[t : t + 6]).max() for t in range(0, 20, 6))
    # The running range lags behind, and the weights that it sees have 7 bits.
    assert layer.y_full_scale[...] == pytest.approx(largest, rel=0.2)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (0, ValueError, "`array_rows` must be from 1 to 2147483647, or None for one array that has "
         "all inputs; got 0"),
        (-3, ValueError, "got -3"),
        (2**31, ValueError, "got 2147483648"),
        (6.0, TypeError, "`array_rows` must be an int or None, got 6.0"),
        (True, TypeError, "`array_rows` must be an int or None, got True"),
        ("64", TypeError, "`array_rows` must be an int or None, got '64'"),
    ],
)  # fmt: skip
def test_rows_that_are_no_number_of_inputs(rows: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match="^OpticalSpec: .*" + re.escape(message) + "$"):
        OpticalSpec(array_rows=rows)
    w = np.ascontiguousarray(W.T)
    with pytest.raises(error, match="^optical_linear_infer: .*" + re.escape(message) + "$"):
        optical_linear_infer(X, w, BIAS, 6, array_rows=rows)
