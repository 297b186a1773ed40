"""The quantizer alone: exact values against the oracle, and the laws of a quantizer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lumina_jax
import oracle
from operands import call

BITS = [0, 1, 2, 3, 4, 8, 12, 16, 23, 24, 32]
SHAPES = [(1, 1), (1, 300), (300, 1), (7, 17), (63, 65), (255, 257), (0, 5), (5, 0)]


def quantize(v: np.ndarray, full_scale: np.ndarray | float, bits: int) -> np.ndarray:
    """The kernel through the NumPy entry, `full_scale` f32[1|m, 1|n] or a scalar."""
    full_scale = np.asarray(full_scale, np.float32)
    (out,) = call("quantize", v, np.atleast_2d(full_scale), bits=bits)
    return out


def tricky_values(rng: np.random.Generator, shape: tuple[int, ...], q: int) -> np.ndarray:
    """Values around every decision: ties, the neighbors of ties, the range's end, beyond it."""
    v = rng.uniform(-1.3, 1.3, shape).astype(np.float32)
    ties = (rng.integers(-q - 1, q + 1, shape) + 0.5) / q
    ties = ties.astype(np.float32)
    ties = np.nextafter(ties, ties + rng.integers(-1, 2, shape).astype(np.float32))
    special = rng.choice(np.float32([0, -0.0, 1, -1, 1e-45, -1e-39, 1e30, 1e-30]), shape)
    return np.choose(rng.integers(0, 3, shape), [v, ties, special]).astype(np.float32)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("per", ["tensor", "row", "column", "element"])
def test_kernel_is_the_oracle(bits: int, shape: tuple[int, int], per: str) -> None:
    rng = np.random.default_rng(bits)
    m, n = shape
    extents = {"tensor": (1, 1), "row": (m, 1), "column": (1, n), "element": (m, n)}[per]
    full_scale = rng.uniform(0.5, 2, extents).astype(np.float32)
    v = tricky_values(rng, shape, oracle.levels(bits)) * full_scale
    v = v.astype(np.float32)
    expected = v if oracle.is_off(bits) else oracle.quantize(v, full_scale, bits).value
    out = quantize(v, full_scale, bits)
    # An off converter hands its input on; whether it flushes subnormals is not specified.
    np.testing.assert_array_equal(oracle.flush(out), oracle.flush(expected))


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_every_tie_goes_to_the_even_code(bits: int) -> None:
    q = oracle.levels(bits)
    codes = np.arange(-q, q, dtype=np.float32)
    # A full scale of Q makes the step 1, so that the ties are exact.
    out = quantize((codes + np.float32(0.5))[None, :], float(q), bits)[0]
    np.testing.assert_array_equal(out % 2, np.zeros_like(out))
    np.testing.assert_array_equal(np.abs(out - codes - 0.5), np.full_like(out, 0.5))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_gives_nan_there_alone(bits: int, bad: float) -> None:
    v = np.linspace(-2, 2, 35, dtype=np.float32).reshape(5, 7)
    clean = quantize(v, 1.0, bits)
    v[2, 3] = bad
    out = quantize(v, 1.0, bits)
    assert np.isnan(out[2, 3])
    clean[2, 3] = np.nan
    np.testing.assert_array_equal(out, clean)


@pytest.mark.parametrize("bits", [1, 2, 8, 16])
def test_degenerate_full_scales(bits: int) -> None:
    v = np.float32([[-1, -1e-30, 0, 1e-30, 1]])
    np.testing.assert_array_equal(quantize(v, 0.0, bits), np.zeros_like(v))
    for full_scale in (-1.0, -1e-30, np.nan):
        assert np.isnan(quantize(v, full_scale, bits)).all(), full_scale
    assert np.isnan(quantize(np.float32([[np.nan, np.inf]]), 0.0, bits)).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_number_of_levels(bits: int) -> None:
    v = np.linspace(-1.5, 1.5, 300_001, dtype=np.float32)[None, :]
    found = len(np.unique(quantize(v, 1.0, bits)))
    assert found == (2 if bits == 1 else 2**bits - 1)


finite = st.floats(-1e3, 1e3, width=32)
ranges = st.floats(2.0**-10, 2.0**10, width=32)
bits_on = st.integers(1, 23)


@given(v=finite, full_scale=ranges, bits=bits_on)
def test_idempotent(v: float, full_scale: float, bits: int) -> None:
    once = quantize(np.float32([[v]]), full_scale, bits)
    np.testing.assert_array_equal(quantize(once, full_scale, bits), once)


@given(v=finite, full_scale=ranges, bits=st.integers(2, 23))
def test_odd(v: float, full_scale: float, bits: int) -> None:
    v32 = np.float32([[v]])
    np.testing.assert_array_equal(
        quantize(-v32, full_scale, bits), -quantize(v32, full_scale, bits)
    )


@given(a=finite, b=finite, full_scale=ranges, bits=bits_on)
def test_monotone(a: float, b: float, full_scale: float, bits: int) -> None:
    low, high = quantize(np.float32([[min(a, b), max(a, b)]]), full_scale, bits)[0]
    assert low <= high


@given(v=finite, full_scale=ranges, bits=bits_on)
def test_bounded_by_full_scale_and_half_a_step(v: float, full_scale: float, bits: int) -> None:
    out = float(quantize(np.float32([[v]]), full_scale, bits)[0, 0])
    # `Q * (full_scale / Q)` may round to a neighbor of full_scale.
    assert abs(out) <= full_scale * (1 + 2 * oracle.EPS32)
    if bits > 1 and abs(v) <= full_scale:
        step = full_scale / oracle.levels(bits)
        # Rounding of the step, of v / step and of code * step: each relative to |v|.
        assert abs(out - v) <= step / 2 + 4 * oracle.EPS32 * full_scale


@given(v=finite, full_scale=ranges, bits=bits_on, power=st.integers(-20, 20))
def test_powers_of_two_scale_through(v: float, full_scale: float, bits: int, power: int) -> None:
    scale = np.float32(2.0**power)
    v32 = np.float32([[v]])
    if 0 < abs(v) < 1e-30:
        return  # scaling would leave the normal numbers
    np.testing.assert_array_equal(
        quantize(v32 * scale, full_scale * scale, bits), quantize(v32, full_scale, bits) * scale
    )


# --- the differentiable public function ---------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("shape", [(), (5,), (3, 5), (2, 3, 5)])
def test_public_function(bits: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    v = rng.uniform(-2, 2, shape).astype(np.float32)
    per_channel = rng.uniform(0.5, 2, shape[-1:]).astype(np.float32)
    for full_scale in (np.float32(1.5), per_channel):
        out = lumina_jax.quantize(jnp.asarray(v), bits=bits, full_scale=jnp.asarray(full_scale))
        np.testing.assert_array_equal(out, oracle.quantize(v, full_scale, bits).value)
    if v.size:
        out = lumina_jax.quantize(jnp.asarray(v), bits=bits, full_scale=None)
        np.testing.assert_array_equal(out, oracle.quantize(v, np.abs(v).max(), bits).value)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_gradient(bits: int, per: str) -> None:
    rng = np.random.default_rng(bits)
    v = rng.uniform(-2, 2, (40, 6)).astype(np.float32)
    v[0] = [1.5, -1.5, 0, 3, -3, 1.4999]
    g = rng.standard_normal(v.shape).astype(np.float32)
    full_scale = np.float32(1.5) if per == "tensor" else np.full(6, 1.5, np.float32)

    def loss(v: jax.Array, full_scale: jax.Array) -> jax.Array:
        return (lumina_jax.quantize(v, bits=bits, full_scale=full_scale) * g).sum()

    dv, dscale = jax.grad(loss, (0, 1))(jnp.asarray(v), jnp.asarray(full_scale))
    inside = np.abs(v) <= 1.5
    np.testing.assert_array_equal(dv, g * inside)
    q = oracle.levels(bits)
    code = oracle.quantize(v, full_scale, bits).code.astype(np.float64)
    sign = np.where(v < 0, -1.0, 1.0)
    slope = np.where(inside & (bits > 1), (code - v.astype(np.float64) / (1.5 / q)) / q, sign)
    terms = g * slope
    expected = terms.sum() if per == "tensor" else terms.sum(0)
    # Each of up to 240 terms is rounded a few times relative to |g|.
    tolerance = (v.size + 8) * oracle.EPS32 * np.abs(g).sum(0 if per == "channel" else None)
    assert (np.abs(dscale - expected) <= tolerance).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_gradient_at_a_value_that_is_not_finite_is_nan(bad: float) -> None:
    v = jnp.array([0.5, bad, 0.2], jnp.float32)
    dv, dscale = jax.grad(lambda v, s: lumina_jax.quantize(v, bits=4, full_scale=s).sum(), (0, 1))(
        v, jnp.float32(1)
    )
    np.testing.assert_array_equal(np.isnan(dv), [False, True, False])
    assert np.isnan(dscale)
