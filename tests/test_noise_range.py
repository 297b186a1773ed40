"""Noise whose squares no float32 holds, and noise that cannot be: output, slope and gradients.

Squares of float32 overflow from 2^64 on and vanish below 2^-63; their roots are ordinary numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumina_jax import NoiseModel, OpticalSpec, optical_matmul
from operands import NO_PEAK, SEED, call, call_reference, draw

# Value of x, then thermal, shot, relative and weight noise.
ROWS = np.array(
    [
        [3.0, 0.1, 0.2, 0.1, 0.05],
        [1e19, 0, 0, 1e-20, 0],
        [1e24, 0, 0, 1e-24, 0],
        [1e-25, 0, 0, 0.1, 0],
        [-1e30, 0, 0, 0.1, 0],
        [1e20, 1e19, 0, 0, 0],
        [-2.0, 1e-25, 0, 0, 0],
        [2.0, 1e25, 0, 0, 0],
        [1e10, 0, 1e-25, 0, 0],
        [-1e-34, 0, 0.1, 0, 0],
        [1e30, 0, 1e5, 0, 0],
        [1e10, 0, 1e25, 0, 0],
        [1e3, 0, 0, 0, 1e-25],
        [1e-25, 0, 0, 0, 0.1],
        [-1e25, 0, 0, 0, 0.1],
        [1e25, 1e24, 1e12, 0.1, 0.1],
        [1e-25, 1e-26, 1e-13, 0.1, 0.1],
        [0, 1e-25, 0.1, 0.1, 0.1],
        [0, 0, 0.1, 0.1, 0],
    ],
    np.float32,
)
W = np.array([[1.0, -0.5, 2.0, 0.25], [1.0, 2.0, -1.0, 0.5]], np.float32)
M, N = len(ROWS), W.shape[1]
CHAIN = {
    "dac_bits": 0,
    "weight_bits": 0,
    "adc_bits": 0,
    "array_rows": 0,
    "transpose_weight": False,
    "noisy": True,
}
IDS = [
    np.array([[SEED >> 32, SEED & 0xFFFFFFFF]], np.uint32),
    np.arange(M, dtype=np.uint32),
    np.arange(N, dtype=np.uint32),
]
ONE = np.ones(1, np.float32)

both = pytest.mark.parametrize("run", [call, call_reference], ids=["kernel", "reference"])


def x() -> np.ndarray:
    return np.stack([ROWS[:, 0], np.zeros(M, np.float32)], axis=1)


def forward(run: Callable, residual: str, noise: np.ndarray = ROWS[:, 1:]) -> list[np.ndarray]:
    attrs = {**CHAIN, "residual": residual, **NO_PEAK}
    return run(
        "optical_matmul_fwd", x(), W, 0 * ONE, ONE, ONE, ONE, noise, *IDS, **attrs
    )  # fmt: skip


def expected() -> tuple[np.ndarray, ...]:
    """y, ε, σ, and ∂σ/∂y, in float64."""
    wide = ROWS.astype(np.float64)
    thermal, shot, relative, weight = (wide[:, i : i + 1] for i in range(1, 5))
    y = wide[:, :1] * W[:1].astype(np.float64)
    square = shot**2 * np.abs(y) + relative**2 * y**2
    sigma = np.sqrt(thermal**2 + square + weight**2 * wide[:, :1] ** 2)
    by_y = shot**2 * np.sign(y) / 2 + relative**2 * y
    by_y = np.divide(by_y, sigma, out=np.zeros_like(y), where=sigma > 0)
    return y, draw(SEED, np.arange(M), np.arange(N)).astype(np.float64), sigma, by_y


@both
def test_output_and_slope_agree(run: Callable) -> None:
    y, eps, sigma, by_y = expected()
    out, slope = forward(run, "slope")
    far = np.abs(out - y - sigma * eps) > 2e-5 * np.abs(sigma * eps) + 1e-6 * np.abs(y)
    assert not far.any(), np.argwhere(far)
    np.testing.assert_allclose(slope, 1 + eps * by_y, rtol=1e-5, atol=1e-5)
    assert (sigma > 0)[:-1].all()
    seen = np.abs(sigma * eps) > 1e-3 * np.abs(y)
    assert (out[seen] != y[seen].astype(np.float32)).all()


@both
def test_gradients_are_those_of_the_output(run: Callable) -> None:
    y, eps, sigma, by_y = expected()
    g = np.linspace(-1, 1, M * N).reshape(M, N).astype(np.float32)
    attrs = {**CHAIN, "residual": "pre_noise", "grad_precision": "float32"}
    results = run(
        "optical_matmul_grad", g, y.astype(np.float32), x(), W, ONE, ONE, ONE, ROWS[:, 1:], *IDS,
        **attrs, with_inputs=True, with_ranges=True,
    )  # fmt: skip
    wide = ROWS.astype(np.float64)
    cotangent = np.divide(g * eps, sigma, out=np.zeros_like(y), where=sigma > 0)
    dz = g * (1 + eps * by_y)
    factors = (1, np.abs(y), y**2, wide[:, :1] ** 2)
    pairs = zip(factors, wide[:, 1:].T, strict=True)
    dnoise = [c * (factor * cotangent).sum(1) for factor, c in pairs]
    dx = dz @ W.T.astype(np.float64)
    dx[:, 0] += wide[:, 0] * wide[:, 4] ** 2 * cotangent.sum(1)
    close = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(results[0], dx, **close)
    for i, want in enumerate(dnoise):
        scale = np.maximum(np.abs(want), 1e-30)
        np.testing.assert_allclose(results[-1][:, i] / scale, want / scale, rtol=0, atol=1e-3)


@both
@pytest.mark.parametrize("bad", [-0.1, np.nan])
def test_a_parameter_that_cannot_be_is_nan_in_all(run: Callable, bad: float) -> None:
    for column in range(4):
        noise = np.tile(np.float32([0.1, 0.2, 0.3, 0.4]), (M, 1))
        noise[1, column] = bad
        out, slope = forward(run, "slope", noise)
        _, signs = forward(run, "signs", noise)
        for result in (out, slope):
            assert np.isnan(result[1]).all()
            assert np.isfinite(result[0]).all()
        assert (signs[1] == -128).all()


def test_bits_do_not_depend_on_what_lies_beside() -> None:
    # A row that holds numbers whose squares are lost, and others, whole and in parts.
    w = np.geomspace(1e-30, 1e30, 301, dtype=np.float32).reshape(1, -1)
    columns = np.arange(w.shape[1], dtype=np.uint32)
    g = np.cos(np.arange(w.shape[1], dtype=np.float32)).reshape(1, -1)
    for noise in ([0.1, 0.2, 0.3, 0], [0, 0, 0.3, 0], [0, 0.1, 0, 0], [0.1, 0, 0, 0.2]):

        def run(part: slice, noise: Any = noise) -> list[np.ndarray]:
            others = [ONE, ONE, ONE, np.float32([noise]), IDS[0], IDS[1][:1], columns[part]]
            one = np.ones((1, 1), np.float32)
            attrs = {**CHAIN, "residual": "slope", **NO_PEAK}
            results = call("optical_matmul_fwd", one, w[:, part], 0 * ONE, *others, **attrs)
            attrs = {**CHAIN, "residual": "pre_noise", "grad_precision": "float32"}
            _, _, bias, *_ = call(
                "optical_matmul_grad", g[:, part], w[:, part], one, w[:, part], *others,
                **attrs, with_inputs=False, with_ranges=False,
            )  # fmt: skip
            return [*results, bias[None]]

        parts = [run(slice(start, start + 7)) for start in range(0, w.shape[1], 7)]
        for whole, pieces in zip(run(slice(None)), zip(*parts, strict=True), strict=True):
            np.testing.assert_array_equal(whole, np.concatenate(pieces, axis=1))


def test_a_negative_parameter_is_refused_where_it_is_known() -> None:
    key, spec = jax.random.key(0), OpticalSpec()

    def run(relative: Any) -> jax.Array:
        noise = NoiseModel(relative=relative)
        return optical_matmul(jnp.ones((2, 3)), jnp.ones((3, 2)), spec=spec, noise=noise, key=key)

    negative = jnp.float32(-0.1)
    for call_of in (run, jax.jit(lambda _: run(negative))):
        with pytest.raises(ValueError, match=r"`noise\.relative` must not be negative or NaN"):
            call_of(negative)
    traced = jax.jit(jax.value_and_grad(lambda r: jnp.sum(run(r))))
    assert all(map(np.isnan, traced(-0.1)))
    assert all(map(np.isfinite, traced(0.1)))
