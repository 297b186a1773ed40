"""The gradient in bfloat16 and in 8 bits: its definition, its laws, and what is not finite."""

from __future__ import annotations

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import grad_oracle
import noise_oracle
import oracle
from lumina_jax.ops import optical_noise
from operands import (
    EVERY_GRADIENT,
    NOISES,
    SEED,
    backward,
    call,
    poisoned,
    random_operands,
    ranges_and_noise,
)
from oracle import Bits, Operands

ROUNDED = ["bfloat16", "int8"]
PRECISIONS = ["float32", *ROUNDED]
CHAINS = [
    Bits(),
    Bits(dac=8, weight=8, adc=8),
    Bits(dac=4, weight=12),
    Bits(dac=9, weight=4, adc=6),
    Bits(dac=1, weight=1, adc=1),
]
SIZES = [0, 1, 2, 17, 65, 255, 256, 257]

precisions = pytest.mark.parametrize("precision", ROUNDED)


def check(
    op: Operands,
    bits: Bits,
    precision: str,
    *,
    noisy: bool,
    transpose: bool = False,
    seed: int = 0,
) -> list[np.ndarray]:
    """Asserts that all seven gradients are the oracle's; returns them."""
    g = np.random.default_rng(seed).standard_normal((len(op.x), op.w.shape[1]))
    g = g.astype(np.float32)
    forward = oracle.optical_matmul(op, bits, noisy=noisy)
    got = backward(
        g, forward.linear, op, bits, noisy=noisy, transpose=transpose, precision=precision
    )
    expected = grad_oracle.optical_matmul_grad(
        g, op, forward, bits, noisy=noisy, precision=precision, seed=SEED
    )
    for name, value, total in zip(expected._fields, got, expected, strict=True):
        assert value.shape == total.value.shape, name
        np.testing.assert_array_equal(np.isnan(value), np.isnan(total.value), err_msg=name)
        excess = np.abs(value - total.value) - total.tolerance
        assert not (excess > 0).any(), f"{name}: {np.nanmax(excess)} beyond its tolerance"
    return got


# --- the definition -----------------------------------------------------------------------------


@precisions
@pytest.mark.parametrize("bits", CHAINS, ids=str)
def test_every_chain(bits: Bits, precision: str) -> None:
    rng = np.random.default_rng(0)
    for noise, transpose in itertools.product((None, *NOISES), (False, True)):
        op = random_operands(rng, (9, 17, 33), bits, noise=noise)
        check(op, bits, precision, noisy=noise is not None, transpose=transpose)


@precisions
@pytest.mark.parametrize("axis", ["m", "k", "n"])
def test_every_size(axis: str, precision: str) -> None:
    rng = np.random.default_rng(1)
    for extent, bits in itertools.product(SIZES, CHAINS[:2]):
        shape = {"m": (extent, 3, 5), "k": (4, extent, 6), "n": (5, 6, extent)}[axis]
        check(random_operands(rng, shape, bits), bits, precision, noisy=False)


@precisions
@pytest.mark.parametrize("noisy", [False, True], ids=["quiet", "noisy"])
def test_rows_in_blocks(precision: str, noisy: bool) -> None:
    # More than two blocks of rows, and of the columns that the random words come in.
    for bits in (Bits(dac=8, weight=8, adc=8), Bits(dac=12, weight=0)):
        op = random_operands(
            np.random.default_rng(2), (600, 7, 530), bits, noise="all" if noisy else None
        )
        check(op, bits, precision, noisy=noisy)


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 20), st.integers(1, 40)),
    bits=st.builds(Bits, dac=st.integers(0, 10), weight=st.integers(0, 10), adc=st.integers(0, 10)),
    seed=st.integers(0, 2**32 - 1),
    noise=st.sampled_from([None, *NOISES]),
    precision=st.sampled_from(ROUNDED),
)
def test_any_chain(
    shape: tuple[int, int, int], bits: Bits, seed: int, noise: str | None, precision: str
) -> None:
    op = random_operands(np.random.default_rng(seed), shape, bits, noise=noise)
    transpose = bool(seed % 2)
    check(op, bits, precision, noisy=noise is not None, transpose=transpose, seed=seed)


drawn_words = jax.jit(optical_noise.words)


@given(
    seed=st.integers(0, 2**64 - 1),
    row=st.integers(0, 2**32 - 1),
    column=st.integers(0, 2**16),
)
@settings(max_examples=30)
def test_words_are_those_of_the_generator(seed: int, row: int, column: int) -> None:
    group, half, j = column % 256 // 32, column % 32 // 16, column % 16
    outputs = noise_oracle.raw_block(seed, row, column // 256)
    u = outputs[8 * (j // 8 + 2 * group) + j % 8]
    words = drawn_words(
        jnp.array([[seed >> 32, seed & 0xFFFFFFFF]], jnp.uint32),
        jnp.array([row], jnp.uint32),
        jnp.array([column], jnp.uint32),
    )
    assert int(words[0, 0]) == (u & 0xFFFFFFFF if half else u >> 32)


def test_the_oracle_draws_those_words() -> None:
    words = drawn_words(
        jnp.array([[(SEED ^ 0xD1B54A32D192ED03) >> 32, (SEED ^ 0xD1B54A32D192ED03) & 0xFFFFFFFF]],
                  jnp.uint32),
        jnp.arange(3, dtype=jnp.uint32),
        jnp.arange(300, dtype=jnp.uint32),
    )  # fmt: skip
    np.testing.assert_array_equal(words, grad_oracle.rounding_words(SEED, 3, 300))


# --- laws ---------------------------------------------------------------------------------------


def integers(rng: np.random.Generator, rows: int, exponent: int) -> np.ndarray:
    """f32[rows, 20] from -127 to 127 times 2^exponent, the largest in every row and block."""
    g = rng.integers(-127, 128, (rows, 20)).astype(np.float32)
    g[:, 0] = 127
    g[::256] = -127
    return g * np.float32(2.0**exponent)


@precisions
@pytest.mark.parametrize("bits", [Bits(), Bits(dac=8, weight=8), Bits(weight=8)], ids=str)
def test_what_fits_is_exact(bits: Bits, precision: str) -> None:
    rng = np.random.default_rng(3)
    op = random_operands(rng, (300, 6, 20), Bits())
    # Steps of a power of two, and values on the levels.
    op = replace(
        op,
        x=rng.integers(-9, 10, op.x.shape).astype(np.float32) / 4,
        w=rng.integers(-9, 10, op.w.shape).astype(np.float32) / 2,
        x_full_scale=np.full(300, 127 / 4, np.float32),
        w_full_scale=np.full(20, 127 / 2, np.float32),
    )
    linear = oracle.optical_matmul(op, bits, noisy=False).linear
    for exponent in (-30, 0, 20):
        g = integers(rng, 300, exponent)
        got = backward(g, linear, op, bits, noisy=False, precision=precision)
        expected = backward(g, linear, op, bits, noisy=False)
        for value, in_float32 in zip(got, expected, strict=True):
            np.testing.assert_array_equal(value, in_float32)


@pytest.mark.parametrize("bits", CHAINS[:3], ids=str)
def test_bfloat16_keeps_eight_bits_of_each_factor(bits: Bits) -> None:
    op = random_operands(np.random.default_rng(4), (20, 30, 40), bits)
    forward = oracle.optical_matmul(op, bits, noisy=False)
    g = np.random.default_rng(5).standard_normal((20, 40)).astype(np.float32)
    got = backward(g, forward.linear, op, bits, noisy=False, precision="bfloat16")
    expected = backward(g, forward.linear, op, bits, noisy=False)
    x_q, w_q = np.abs(forward.xq.value), np.abs(forward.wq.value)
    # Two factors within 2⁻⁹ of their value, and what float32 rounds on the way.
    allowed = 2.0**-8 + 2.0**-16
    assert (np.abs(got[0] - expected[0]) <= allowed * (np.abs(g) @ w_q.T)).all()
    assert (np.abs(got[1] - expected[1]) <= allowed * (x_q.T @ np.abs(g))).all()
    assert not np.array_equal(got[0], expected[0])
    assert not np.array_equal(got[1], expected[1])


SEEDS = 400


@pytest.mark.parametrize("bits", [Bits(), Bits(dac=8, weight=8, adc=8)], ids=str)
def test_int8_has_no_bias(bits: Bits) -> None:
    op = random_operands(np.random.default_rng(6), (300, 5, 24), bits)
    forward = oracle.optical_matmul(op, bits, noisy=False)
    g = np.random.default_rng(7).standard_normal((300, 24)).astype(np.float32)
    exact = backward(g, forward.linear, op, bits, noisy=False)
    *others, _, rows, columns = ranges_and_noise(op, noisy=False, draws=True)
    attrs = {
        **bits.attrs(),
        "array_rows": 0,
        "transpose_weight": False,
        "noisy": False,
        "residual": "pre_noise",
        "grad_precision": "int8",
        **EVERY_GRADIENT,
    }

    def draw(key: int) -> list[np.ndarray]:
        seed = np.array([[key, 2 * key + 1]], np.uint32)
        inputs = (g, forward.linear, op.x, op.w, *others, seed, rows, columns)
        return call("optical_matmul_grad", *inputs, **attrs)[:2]

    draws = [np.stack(v).astype(np.float64) for v in zip(*map(draw, range(SEEDS)), strict=True)]

    inside = [grad_oracle.inside(v, full_scale, b) for v, full_scale, b in (
        (forward.before_adc, op.y_full_scale[None, :], bits.adc),
        (op.x, op.x_full_scale[:, None], bits.dac),
        (op.w, op.w_full_scale[None, :], bits.weight),
    )]  # fmt: skip
    dz = g * inside[0]
    x_q, w_q = forward.xq.value.astype(np.float64), forward.wq.value.astype(np.float64)
    x_step = op.x_full_scale[:, None] / 127.0 if bits.dac else np.ones((300, 1))
    w_step = op.w_full_scale[None, :] / 127.0 if bits.weight else np.ones((1, 24))
    by_block = [
        (x_q / x_step)[b].T ** 2 @ variance_of_rounding((dz * x_step)[b], 0)
        for b in (slice(0, 256), slice(256, None))
    ]
    variances = [
        variance_of_rounding(dz * w_step, 1) @ (w_q / w_step).T ** 2 * inside[1],
        sum(by_block) * inside[2],
    ]
    for values, expected, variance in zip(draws, exact[:2], variances, strict=True):
        error = np.sqrt(variance)
        # Five standard errors, and what 16 random bits and float32 cannot tell apart.
        allowed = 5 * error / np.sqrt(SEEDS) + 2.0**-12 * error.max()
        assert (np.abs(values.mean(0) - expected) <= allowed).all()
        # A sample variance is off by its root of 2 / SEEDS, 7 %; the mean of hundreds by less.
        assert values.var(0).sum() == pytest.approx(variance.sum(), rel=0.05)


def variance_of_rounding(t: np.ndarray, axis: int) -> np.ndarray:
    """Of each element of `t` rounded at random to multiples of its scale along `axis`."""
    scale = np.abs(t).max(axis, keepdims=True) / 127
    fraction = t / scale % 1
    return scale**2 * fraction * (1 - fraction)


def test_rows_round_by_their_ids() -> None:
    bits = Bits(dac=8, weight=8)
    op = random_operands(np.random.default_rng(8), (12, 5, 40), bits)
    g = np.random.default_rng(9).standard_normal((12, 40)).astype(np.float32)
    *others, rows, columns = ranges_and_noise(op, noisy=False, draws=True)
    x_range, *others = others
    linear = np.zeros((12, 40), np.float32)
    attrs = {
        **bits.attrs(),
        "array_rows": 0,
        "transpose_weight": False,
        "noisy": False,
        "residual": "pre_noise",
        "grad_precision": "int8",
        **EVERY_GRADIENT,
    }

    def dx(part: slice, ids: np.ndarray) -> np.ndarray:
        return call(
            "optical_matmul_grad", g[part], linear[part], op.x[part], op.w, x_range[part], *others,
            ids, columns, **attrs,
        )[0]  # fmt: skip

    whole = dx(slice(None), rows)
    np.testing.assert_array_equal(dx(slice(5, 12), rows[5:]), whole[5:])
    assert not np.array_equal(dx(slice(5, 12), rows[:7]), whole[5:])


# --- what is zero, and what is not a number -----------------------------------------------------


@precisions
@pytest.mark.parametrize("bits", CHAINS[:3], ids=str)
def test_rows_and_columns_of_zeros(bits: Bits, precision: str) -> None:
    op = random_operands(np.random.default_rng(10), (300, 6, 9), bits)
    forward = oracle.optical_matmul(op, bits, noisy=False)
    g = np.random.default_rng(11).standard_normal((300, 9)).astype(np.float32)
    g[7], g[:, 4], g[256:, 2] = 0, 0, 0
    dx, dw, *_ = backward(g, forward.linear, op, bits, noisy=False, precision=precision)
    assert not dx[7].any()
    assert not dw[:, 4].any()
    assert dw[:, 2].any()
    assert np.isfinite(dx).all()
    assert np.isfinite(dw).all()


@precisions
def test_the_smallest_numbers(precision: str) -> None:
    # Scales that float32 rounds to zero, and steps whose inverse it cannot hold.
    op = random_operands(np.random.default_rng(12), (6, 5, 4), Bits())
    for size in (1e-30, 1e-36, 1e-37, 1.2e-38, 0.0):
        g = np.full((6, 4), size, np.float32)
        dx, dw, *_ = backward(g, op.x @ op.w, op, Bits(), noisy=False, precision=precision)
        # Not more than a step of the smallest scale is lost of each term.
        allowed = 2.0**-8 * size + 1.5e-38 * 127
        assert (np.abs(dx - g @ op.w.T) <= allowed * np.abs(op.w).sum(1)).all()
        assert (np.abs(dw - op.x.T @ g) <= allowed * np.abs(op.x).sum(0)[:, None]).all()


@precisions
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("bits", CHAINS[:3], ids=str)
def test_a_bad_cotangent_surfaces(bits: Bits, precision: str, bad: float) -> None:
    op = random_operands(np.random.default_rng(13), (300, 6, 9), replace(bits, adc=0))
    bits = replace(bits, adc=0)
    forward = oracle.optical_matmul(op, bits, noisy=False)
    g = np.ones((300, 9), np.float32)
    g[270, 4] = bad
    dx, dw, *_ = backward(g, forward.linear, op, bits, noisy=False, precision=precision)
    if precision == "int8" or np.isnan(bad):
        assert np.isnan(dx[270]).all()
        assert np.isnan(dw[:, 4]).all()
    else:
        assert not np.isfinite(dx[270]).any()
        assert not np.isfinite(dw[:, 4]).any()
    assert np.isfinite(np.delete(dx, 270, 0)).all()
    assert np.isfinite(np.delete(dw, 4, 1)).all()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("noisy", [False, True], ids=["quiet", "noisy"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("bits", CHAINS[:3], ids=str)
def test_bad_operands_surface(bits: Bits, noisy: bool, precision: str, bad: float) -> None:
    clean = random_operands(np.random.default_rng(14), (5, 6, 7), bits, noise="all")
    for where, index in {"x": (3, 2), "w": (2, 4), "bias": (4,)}.items():
        op = poisoned(clean, where, index, bad)
        dx, dw, *_ = check(op, bits, precision, noisy=noisy)
        if where == "x":
            np.testing.assert_array_equal(np.isnan(dx).all(1), np.arange(5) == 3)
            assert np.isnan(dw).all()
        else:
            assert np.isnan(dx).all()
            np.testing.assert_array_equal(np.isnan(dw).all(0), np.arange(7) == 4)
