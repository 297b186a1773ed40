"""The optical product of complex numbers: its oracle, its symmetries, its noise, its errors."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
import lumina_jax
from complex_cases import random_complex
from lumina_jax import NoiseModel, OpticalSpec, complex_optical_matmul, layers
from lumina_jax import numpy as in_numpy
from operands import draw
from oracle import quantize

M, K, N = 6, 11, 5
RNG = np.random.default_rng(0)
X, W, BIAS = random_complex(RNG, M, K), random_complex(RNG, K, N), random_complex(RNG, N)
SPEC = OpticalSpec(dac_bits=6, weight_bits=5, adc_bits=7)
NOISE = NoiseModel(relative=0.1, shot=0.2, thermal=0.3, weight=0.05)
KEY = jax.random.key(9)
PARTS = np.array([1, 1j], np.complex64)


def converted(z: np.ndarray, full_scale: Any, bits: int) -> np.ndarray:
    re, im = (quantize(part, full_scale, bits).value.astype(float) for part in (z.real, z.imag))
    return re + 1j * im


def oracle(x: np.ndarray, noise: tuple[float, ...] = (0, 0, 0, 0)) -> np.ndarray:
    """`out` before the ADC, in complex128; with the noise of seed 9."""
    x_q = converted(x, np.abs(x.view(np.float32)).max(), 6)
    by_column = np.abs(W.view(np.float32)).reshape(K, N, 2).max((0, 2))
    y = x_q @ converted(W, by_column, 5) + BIAS
    thermal, shot, relative, weight = noise
    power = (np.abs(x_q) ** 2).sum(1, keepdims=True)
    variance = thermal**2 + shot**2 * np.abs(y) + relative**2 * np.abs(y) ** 2 + weight**2 * power
    eps = draw(9, np.arange(len(x)), np.arange(2 * N)).astype(float)
    return y + np.sqrt(variance / 2) * (eps[:, ::2] + 1j * eps[:, 1::2])


@pytest.mark.parametrize("noise", [None, NOISE])
def test_it_is_its_formulas(noise: NoiseModel | None) -> None:
    spec = dataclasses.replace(SPEC, adc_bits=None)
    arguments = {"noise": noise, "key": None if noise is None else KEY}
    got = complex_optical_matmul(X, W, BIAS, spec=spec, **arguments)
    levels = (0, 0, 0, 0) if noise is None else (0.3, 0.2, 0.1, 0.05)
    # Four roundings in float32, and two of ε.
    np.testing.assert_allclose(got, oracle(X, levels), rtol=0, atol=3e-6 * np.abs(got).max())
    with_adc = complex_optical_matmul(X, W, BIAS, spec=SPEC, y_full_scale=8.0, **arguments)
    step = np.float32(8) / 63
    for part, before in zip(
        (with_adc.real, with_adc.imag), (np.asarray(got).real, np.asarray(got).imag), strict=True
    ):
        codes = np.clip(np.rint(before / step), -63, 63)
        np.testing.assert_array_equal(part, codes.astype(np.float32) * step)


def test_a_quarter_turn_of_the_input_is_one_of_the_output() -> None:
    # Converters are odd and alike for both parts, so no bit may differ.
    for spec in (SPEC, OpticalSpec(dac_bits=12, weight_bits=9, adc_bits=10)):
        out = np.asarray(complex_optical_matmul(X, W, spec=spec, y_full_scale=8.0))
        of_x = complex_optical_matmul(PARTS[1] * X, W, spec=spec, y_full_scale=8.0)
        of_w = complex_optical_matmul(X, PARTS[1] * W, spec=spec, y_full_scale=8.0)
        for turned in (np.asarray(of_x), np.asarray(of_w)):
            np.testing.assert_array_equal(turned.imag, out.real)
            np.testing.assert_array_equal(turned.real, -out.imag)


def test_one_bit_is_one_complex_number_for_a_weight_with_a_part_of_zero() -> None:
    w = np.array([[1 + 0j, 1j, 0]], np.complex64)
    out = complex_optical_matmul(
        PARTS[:, None], w, spec=OpticalSpec(weight_bits=1), w_full_scale=1.0
    )
    # The sign of 0 is +1.
    expected = PARTS[:, None] * np.array([1 + 1j, 1 + 1j, 1 + 1j])
    np.testing.assert_array_equal(out, expected)


def test_noise_is_circular() -> None:
    x = np.broadcast_to(np.complex64([0.6 + 0.8j]), (40000, 1))
    w = np.complex64([[1.0, 2j, 0.0]])
    noise = NoiseModel(relative=0.1, thermal=0.1)
    out = complex_optical_matmul(x, w, spec=OpticalSpec(), noise=noise, key=KEY)
    error = np.asarray(out) - x @ w
    for column, y in enumerate([1.0, 2.0, 0.0]):
        sigma = np.sqrt(0.1**2 + (0.1 * y) ** 2)
        parts = np.stack([error[:, column].real, error[:, column].imag])
        # Five standard errors of 40,000 draws.
        np.testing.assert_allclose(np.cov(parts), sigma**2 / 2 * np.eye(2), atol=0.018 * sigma**2)
        assert np.abs(parts.mean(1)).max() < 0.025 * sigma


def test_gradients_are_those_of_finite_differences_through_the_noise() -> None:
    with jax.enable_x64(False):
        spec = OpticalSpec()
        g = random_complex(np.random.default_rng(5), M, N)

        def loss(x: Any, w: Any, bias: Any, levels: Any) -> jax.Array:
            noise = NoiseModel(thermal=levels[0], shot=levels[1], relative=levels[2],
                               weight=levels[3])  # fmt: skip
            out = complex_optical_matmul(x, w, bias, spec=spec, noise=noise, key=KEY)
            return jnp.sum((out * g).real) / 8

        levels = np.float32([0.3, 0.2, 0.15, 0.1])
        arguments = (X, W, BIAS, levels)
        value = jax.jit(loss)
        gradients = jax.jit(jax.grad(loss, (0, 1, 2, 3)))(*arguments)
        rng = np.random.default_rng(6)
        for index, (gradient, at) in enumerate(zip(gradients, arguments, strict=True)):
            along = random_complex(rng, *at.shape) if at.dtype.kind == "c" else rng.normal(size=4)
            along = along.astype(at.dtype)
            h = np.float32(1e-2)
            ends = []
            for sign in (h, -h):
                moved = list(arguments)
                moved[index] = at + (sign * along).astype(at.dtype)
                ends.append(float(value(*moved)))
            slope = (ends[0] - ends[1]) / (2 * float(h))
            expected = float(jnp.sum(gradient * along).real)
            # The third derivative, and roundings of the loss divided by the step.
            np.testing.assert_allclose(slope, expected, rtol=4e-3, atol=4e-3)


def test_without_device_the_gradient_is_that_of_jnp() -> None:
    def loss(product: Any) -> Any:
        return lambda x, w, b: jnp.sum(jnp.abs(product(x, w, b)) ** 2) + product(x, w, b).imag.sum()

    def device(x: Any, w: Any, b: Any) -> jax.Array:
        return complex_optical_matmul(x, w, b, spec=OpticalSpec())

    def plain(x: Any, w: Any, b: Any) -> jax.Array:
        return jnp.matmul(x, w, precision="highest") + b[None, :]

    got, want = (jax.jit(jax.grad(loss(f), (0, 1, 2)))(X, W, BIAS) for f in (device, plain))
    for g, e in zip(got, want, strict=True):
        np.testing.assert_allclose(g, e, rtol=0, atol=1e-5 * float(jnp.abs(e).max()))


def test_a_batch_may_be_cut_or_mapped() -> None:
    arguments = {"spec": SPEC, "y_full_scale": 8.0, "x_full_scale": 3.0, "noise": NOISE}
    whole = complex_optical_matmul(X, W, key=KEY, **arguments)
    np.testing.assert_array_equal(complex_optical_matmul(X[:2], W, key=KEY, **arguments), whole[:2])
    keys = jax.random.split(KEY, 3)
    xs = jnp.stack([X, 2 * X, X * PARTS[1]])
    mapped = jax.vmap(lambda x, key: complex_optical_matmul(x, W, key=key, **arguments))(xs, keys)
    for x, key, got in zip(xs, keys, mapped, strict=True):
        np.testing.assert_array_equal(got, complex_optical_matmul(x, W, key=key, **arguments))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1j * np.inf])
@pytest.mark.parametrize("spec", [SPEC, OpticalSpec(), OpticalSpec(dac_bits=12)])
def test_what_is_not_finite_makes_its_row_nan(bad: complex, spec: OpticalSpec) -> None:
    x = X.copy()
    x[2, 3] = bad
    out = complex_optical_matmul(x, W, BIAS, spec=spec, y_full_scale=8.0, noise=NOISE, key=KEY)
    expected = np.zeros((M, N), bool)
    expected[2] = True
    np.testing.assert_array_equal(np.isnan(out.real), expected)
    np.testing.assert_array_equal(np.isnan(out.imag), expected)


def test_noise_in_parts_of_the_full_scale_of_each_column() -> None:
    ranges = np.linspace(4, 9, N, dtype=np.float32)
    noise = NoiseModel(thermal=0.05, shot=0.02, unit="full_scale")
    out = complex_optical_matmul(
        X, W, BIAS, spec=OpticalSpec(adc_bits=8), y_full_scale=ranges, noise=noise, key=KEY,
        return_peak=True, return_x_peak=True,
    )  # fmt: skip
    for column in range(N):
        alone = complex_optical_matmul(
            X, W, BIAS, spec=OpticalSpec(adc_bits=8), y_full_scale=ranges[column], noise=noise,
            key=KEY,
        )  # fmt: skip
        np.testing.assert_allclose(out[0][:, column], alone[:, column], atol=1e-5)
    y = X.astype(complex) @ W + BIAS
    largest = np.maximum(np.abs(y.real), np.abs(y.imag)).max(1)
    np.testing.assert_allclose(out[1], largest, rtol=1e-5)
    np.testing.assert_array_equal(out[2], np.abs(X.view(np.float32)).max(1))


def test_a_profile_multiplies_fields_by_the_root_of_its_transmission() -> None:
    profile = lumina_jax.hardware.presets()["lumina_nano_v1"]
    out = complex_optical_matmul(X, W, profile=profile, spec=OpticalSpec(), key=KEY,
                                 noise=NoiseModel())  # fmt: skip
    factor = np.sqrt(profile.path.transmission)
    np.testing.assert_allclose(out, X.astype(complex) @ W * factor, rtol=2e-5)
    crosstalk = lumina_jax.crosstalk.NearestNeighbor(channels=8, coupling=0.01)
    with pytest.raises(ValueError, match=r"`profile` has crosstalk, which is that of powers"):
        complex_optical_matmul(
            X, W, profile=dataclasses.replace(profile, crosstalk=crosstalk), y_full_scale=8.0
        )


def test_numpy_has_the_bits_of_jax() -> None:
    weight = np.ascontiguousarray(W.T)
    got = in_numpy.complex_optical_linear(X, weight, BIAS, 0.1, 8, 9, full_scale=8.0, thermal=0.2)
    noise = NoiseModel(relative=0.1, thermal=0.2)
    want = complex_optical_matmul(
        X, W, BIAS, spec=OpticalSpec(adc_bits=8), y_full_scale=8.0, noise=noise,
        key=jax.random.key(9, impl="threefry2x32"),
    )  # fmt: skip
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(in_numpy.complex_matmul(X, W), lumina_jax.complex_matmul(X, W))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: complex_optical_matmul(X.real, W, spec=SPEC), TypeError,
         r"complex_optical_matmul: `x` must be complex64, got float32; "
         r"cast it with x.astype\(jnp.complex64\)"),
        (lambda: complex_optical_matmul(X, W.real, spec=SPEC), TypeError,
         "`w` must be complex64, got float32"),
        (lambda: complex_optical_matmul(X, W, BIAS.real, spec=OpticalSpec()), TypeError,
         "`bias` must be complex64, got float32"),
        (lambda: complex_optical_matmul(X, W, spec=SPEC), ValueError,
         "complex_optical_matmul: `adc_bits`=7 needs `y_full_scale`"),
        (lambda: complex_optical_matmul(X, W[1:], spec=SPEC), ValueError,
         r"`w` has shape \(10, 5\), expected \(k, n\) with k = 11"),
        (lambda: lumina_jax.optical_matmul(X, W, spec=SPEC), TypeError,
         r"optical_matmul: `x` must be float32, got complex64; pass x.real or "
         r"layers.detect\(x\), or use lumina_jax.complex_optical_matmul"),
        (lambda: in_numpy.complex_optical_linear(X.real, W.T, None), TypeError,
         "complex_optical_linear: `input` must be complex64, got float32; "
         r"pass numpy.asarray\(input, numpy.complex64\)"),
        (lambda: in_numpy.complex_matmul(X, W.real), TypeError,
         "complex_matmul: `w` must be complex64 or complex128, got float32"),
        (lambda: in_numpy.complex_matmul(X, W[1:]), ValueError,
         r"complex_matmul: `w` must have shape \(11, N\) to fit `x` \(6, 11\), got \(10, 5\)"),
        (lambda: in_numpy.complex_matmul(X, W.astype(complex)), TypeError,
         "complex_matmul: `w` must be complex64 as `x` is, got complex128"),
    ],
)  # fmt: skip
def test_wrong_arguments(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_a_coherent_network_is_exported(tmp_path: Path, lumina: Path) -> None:
    net = layers.ComplexOpticalDense(4, deterministic=True)
    variables = net.init(jax.random.key(0), jnp.asarray(X))
    _, updated = net.apply(
        variables, X, rngs={"noise": KEY}, mutable=["ranges"], deterministic=False
    )
    variables = {**variables, **updated}

    def function(x: jax.Array) -> jax.Array:
        return layers.detect(layers.mod_relu(net.apply(variables, x), -0.1))

    model = exporter.export(function, jnp.asarray(X))
    path = model.save(tmp_path / "net.lmn")
    done = subprocess.run([lumina, "verify", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
