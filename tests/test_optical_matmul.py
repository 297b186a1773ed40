"""The fused product against the oracle, bit for bit unless a test says why not.

Most tests call the kernel through its NumPy entry, which `laws/test_ops.py` shows to be XLA's bit
for bit; the last part is about the public function.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lumina_jax
import oracle
from lumina_jax import NoiseModel, OpticalSpec
from operands import NOISES, SEED, SIZES, WIDTHS, draw, forward, poisoned, random_operands
from oracle import EPS32, Bits, Operands


def check(
    op: Operands, bits: Bits, *, noisy: bool, transpose: bool = False, compact: bool = False
) -> None:
    """Asserts that `out` and `linear` of the kernel are the oracle's."""
    out, linear = forward(op, bits, noisy=noisy, transpose=transpose, compact=compact)
    expected = oracle.optical_matmul(op, bits, noisy=noisy)
    np.testing.assert_array_equal(linear, expected.linear)
    if not (noisy and op.noise[:, 3].any()):
        np.testing.assert_array_equal(out, expected.out)
        return
    # The squared norm of a row is a sum of K rounded terms in no specified order, which moves σ
    # by half of its relative error, and then the sum y + σ·ε may round the other way. Quantizing is
    # monotone, so the two ends bound the output.
    slack = (op.x.shape[1] + 8) * EPS32 * np.abs(expected.sigma * op.eps)
    slack = slack + 2 * EPS32 * np.abs(expected.before_adc)
    ends = [
        oracle.quantize(expected.before_adc + side * slack, op.y_full_scale, bits.adc).value
        for side in (-1, 1)
    ]
    np.testing.assert_array_equal(np.isnan(out), np.isnan(expected.out))
    finite = ~np.isnan(out)
    assert (out >= np.minimum(*ends))[finite].all()
    assert (out <= np.maximum(*ends))[finite].all()


@pytest.mark.parametrize("weight", WIDTHS)
@pytest.mark.parametrize("dac", WIDTHS)
def test_every_combination(dac: int, weight: int) -> None:
    rng = np.random.default_rng(100 * dac + weight)
    variants = itertools.product(
        WIDTHS, (False, True), (False, True), (False, True), (None, "thermal", "all")
    )
    for adc, transpose, bias, per_channel, noise in variants:
        bits = Bits(dac=dac, weight=weight, adc=adc)
        shape = tuple(int(rng.choice(SIZES[: 7 if axis == 1 else 8])) for axis in range(3))
        shape = (min(shape[0], 17), min(shape[1], 17), shape[2])
        op = random_operands(rng, shape, bits, bias=bias, per_channel=per_channel, noise=noise)
        compact = not per_channel
        check(op, bits, noisy=noise is not None, transpose=transpose, compact=compact)


CHAINS = [
    Bits(),
    Bits(dac=8, weight=8, adc=8),
    Bits(dac=4, weight=4, adc=6),
    Bits(dac=1, weight=1, adc=1),
    Bits(dac=16, weight=8, adc=12),
    Bits(weight=5),
    Bits(dac=5),
]


@pytest.mark.parametrize("transpose", [False, True], ids=["kn", "nk"])
@pytest.mark.parametrize("bits", CHAINS, ids=str)
@pytest.mark.parametrize("axis", ["m", "k", "n"])
def test_every_size(axis: str, bits: Bits, transpose: bool) -> None:
    rng = np.random.default_rng(0)
    for extent in SIZES:
        shape = {"m": (extent, 9, 11), "k": (5, extent, 19), "n": (6, 10, extent)}[axis]
        op = random_operands(rng, shape, bits, noise="relative")
        check(op, bits, noisy=True, transpose=transpose)
        check(op, bits, noisy=False, transpose=transpose)


@pytest.mark.parametrize("transpose", [False, True], ids=["kn", "nk"])
@pytest.mark.parametrize("bits", CHAINS[:4], ids=str)
def test_large_and_odd(bits: Bits, transpose: bool) -> None:
    op = random_operands(np.random.default_rng(1), (257, 65, 300), bits, noise="thermal")
    check(op, bits, noisy=True, transpose=transpose)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("bits", CHAINS, ids=str)
@pytest.mark.parametrize("transpose", [False, True], ids=["kn", "nk"])
def test_empty_axes(shape: tuple[int, int, int], bits: Bits, transpose: bool) -> None:
    op = random_operands(np.random.default_rng(2), shape, bits, noise="thermal")
    check(op, bits, noisy=True, transpose=transpose)
    check(op, bits, noisy=False, transpose=transpose)


# --- the sum ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 300, 65), (65, 63, 300), (3, 1000, 17)], ids=str)
@pytest.mark.parametrize("transpose", [False, True], ids=["kn", "nk"])
def test_sums_that_float32_holds_are_exact(shape: tuple[int, int, int], transpose: bool) -> None:
    rng = np.random.default_rng(3)
    m, k, n = shape
    op = random_operands(rng, shape, Bits(), bias=True)
    op = replace(
        op,
        x=rng.integers(-50, 51, (m, k)).astype(np.float32),
        w=rng.integers(-50, 51, (k, n)).astype(np.float32),
        bias=rng.integers(-50, 51, n).astype(np.float32),
    )
    out, linear = forward(op, Bits(), noisy=False, transpose=transpose)
    exact = op.x.astype(np.float64) @ op.w.astype(np.float64) + op.bias
    np.testing.assert_array_equal(out, exact)
    np.testing.assert_array_equal(linear, exact)


@pytest.mark.parametrize("bits", CHAINS, ids=str)
def test_sum_is_within_its_rounding_of_the_exact_one(bits: Bits) -> None:
    op = random_operands(np.random.default_rng(4), (31, 255, 33), bits)
    _, linear = forward(op, bits, noisy=False)
    expected = oracle.optical_matmul(op, bits, noisy=False)
    exact = expected.xq.value.astype(np.float64) @ expected.wq.value + op.bias.astype(np.float64)
    # `rounding` is K roundings of the running sum, each at most 2^-24 of the sum of magnitudes.
    assert (np.abs(linear - exact) <= expected.rounding).all()


@pytest.mark.parametrize("k", [1, 300, 4096, 133_144])
@pytest.mark.parametrize("bits", [Bits(dac=8, weight=8), Bits(dac=8, weight=3)], ids=str)
def test_integer_sum_is_exact_up_to_the_limit_of_i32(k: int, bits: Bits) -> None:
    rng = np.random.default_rng(5)
    qx, qw = oracle.levels(bits.dac), oracle.levels(bits.weight)
    x, w = rng.integers(-qx, qx + 1, (2, k)), rng.integers(-qw, qw + 1, (k, 3))
    x[1], w[:, 1] = qx, qw  # the largest sum there is
    op = random_operands(rng, (2, 1, 3), bits, bias=False)
    op = replace(
        op,
        x=x.astype(np.float32),
        w=w.astype(np.float32),
        # With a full scale of Q the step is 1 and the codes are the values.
        x_full_scale=np.full(2, qx, np.float32),
        w_full_scale=np.full(3, qw, np.float32),
    )
    _, linear = forward(op, bits, noisy=False)
    np.testing.assert_array_equal(linear, (x @ w).astype(np.float32))


def test_sum_beyond_i32_falls_back_to_floats() -> None:
    bits, k = Bits(dac=8, weight=8), 133_145
    assert not bits.integer_path(k)
    op = random_operands(np.random.default_rng(6), (1, 1, 1), bits, bias=False)
    ones = np.full((1, k), 127, np.float32)
    op = replace(op, x=ones, w=ones.T, x_full_scale=ones[0, :1], w_full_scale=ones[0, :1])
    _, linear = forward(op, bits, noisy=False)
    exact = 127.0**2 * k
    assert abs(linear[0, 0] - exact) <= k * EPS32 * exact


# --- what is not a number, and what is barely one -----------------------------------------------


@pytest.mark.parametrize("noisy", [False, True], ids=["quiet", "noisy"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "bits", [*CHAINS, Bits(adc=8), Bits(dac=8, weight=8), Bits(dac=1, weight=8)], ids=str
)
def test_bad_values_stay_in_their_row_or_column(bits: Bits, bad: float, noisy: bool) -> None:
    op = random_operands(np.random.default_rng(7), (9, 37, 41), bits, noise="thermal")
    clean, _ = forward(op, bits, noisy=noisy)
    spots = [
        ("x", (4, 0), np.s_[4, :]),
        ("x", (8, 36), np.s_[8, :]),
        ("w", (0, 17), np.s_[:, 17]),
        ("w", (36, 40), np.s_[:, 40]),
        ("bias", (39,), np.s_[:, 39]),
    ]
    for where, index, region in spots:
        for transpose in (False, True):
            out, _ = forward(poisoned(op, where, index, bad), bits, noisy=noisy,
                             transpose=transpose)  # fmt: skip
            expected = clean.copy()
            expected[region] = np.nan
            np.testing.assert_array_equal(out, expected, err_msg=f"{where}{index}")


@pytest.mark.parametrize("bits", [Bits(dac=8, weight=8, adc=8), Bits(dac=12, weight=8, adc=8)],
                         ids=str)  # fmt: skip
@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_bad_full_scales_stay_in_their_row_or_column(bits: Bits, bad: float) -> None:
    op = random_operands(np.random.default_rng(8), (9, 37, 41), bits)
    clean, _ = forward(op, bits, noisy=False)
    spots = [
        ("x_full_scale", 4, np.s_[4, :]),
        ("w_full_scale", 17, np.s_[:, 17]),
        ("y_full_scale", 40, np.s_[:, 40]),
    ]
    for where, index, region in spots:
        out, _ = forward(poisoned(op, where, (index,), bad), bits, noisy=False)
        expected = clean.copy()
        expected[region] = np.nan
        np.testing.assert_array_equal(out, expected, err_msg=where)


@pytest.mark.parametrize("bits", [bits for bits in CHAINS if bits.dac and bits.weight], ids=str)
@pytest.mark.parametrize("where", ["x_full_scale", "w_full_scale", "y_full_scale"])
def test_a_full_scale_of_zero_is_a_dark_channel(bits: Bits, where: str) -> None:
    op = random_operands(np.random.default_rng(9), (5, 6, 7), bits)
    op = poisoned(op, where, (2,), 0.0)
    out, linear = forward(op, bits, noisy=False)
    if where == "y_full_scale":
        assert (out[:, 2] == 0).all()
    elif where == "x_full_scale":
        np.testing.assert_array_equal(linear[2], op.bias)
    else:
        np.testing.assert_array_equal(linear[:, 2], np.full(5, op.bias[2]))
    check(op, bits, noisy=False)


@pytest.mark.parametrize("bits", CHAINS, ids=str)
@pytest.mark.parametrize("magnitude", [0.0, 1e-45, 1e-39, 1e-30, 1e-20, 1e15, 1e30, 3e38])
def test_zeros_tiny_and_huge(bits: Bits, magnitude: float) -> None:
    rng = np.random.default_rng(10)
    op = random_operands(rng, (5, 9, 33), bits, noise="relative")
    with np.errstate(over="ignore", under="ignore"):
        for names in (("x", "x_full_scale"), ("w", "w_full_scale"), ("bias", "y_full_scale")):
            scaled = {
                name: np.clip(getattr(op, name) * np.float64(magnitude), -3e38, 3e38)
                .astype(np.float32)
                for name in names
            }  # fmt: skip
            for changed in (scaled, {names[0]: scaled[names[0]]}):
                check(replace(op, **changed), bits, noisy=False)
                check(replace(op, **changed), bits, noisy=True)


def test_overflow_is_nan_and_not_infinity() -> None:
    op = random_operands(np.random.default_rng(11), (3, 4, 5), Bits())
    op = replace(op, x=np.full((3, 4), 1e30, np.float32), w=np.full((4, 5), 1e30, np.float32))
    out, _ = forward(op, Bits(), noisy=False)
    assert np.isnan(out).all()


# --- noise --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("bits", CHAINS, ids=str)
def test_noise(kind: str, bits: Bits) -> None:
    op = random_operands(np.random.default_rng(12), (17, 29, 300), bits, noise=kind)
    check(op, bits, noisy=True)
    check(op, bits, noisy=True, transpose=True)


def test_zero_noise_is_no_noise() -> None:
    for bits in CHAINS:
        op = random_operands(np.random.default_rng(13), (7, 8, 33), bits)
        quiet, noisy = (forward(op, bits, noisy=noisy)[0] for noisy in (False, True))
        np.testing.assert_array_equal(quiet, noisy)


def test_noise_of_dark_inputs_is_epsilon() -> None:
    op = random_operands(np.random.default_rng(14), (7, 8, 300), Bits(), bias=False)
    op = replace(
        op, x=np.zeros((7, 8), np.float32), noise=np.tile(np.float32([1, 0, 0, 0]), (7, 1))
    )
    out, _ = forward(op, Bits(), noisy=True)
    np.testing.assert_array_equal(out, draw(SEED, np.arange(7), np.arange(300)))


# --- laws ---------------------------------------------------------------------------------------

shapes = st.tuples(st.integers(1, 9), st.integers(1, 20), st.integers(1, 40))
chains = st.builds(Bits, dac=st.integers(0, 12), weight=st.integers(0, 12), adc=st.integers(0, 12))
seeds = st.integers(0, 2**32 - 1)


@given(shape=shapes, bits=chains, seed=seeds, noise=st.sampled_from([None, *NOISES]))
def test_any_chain(shape: tuple[int, int, int], bits: Bits, seed: int, noise: str | None) -> None:
    rng = np.random.default_rng(seed)
    op = random_operands(rng, shape, bits, noise=noise)
    transpose = bool(seed % 2)
    check(op, bits, noisy=noise is not None, transpose=transpose)


@given(shape=shapes, bits=chains, seed=seeds)
def test_rows_and_columns_only_carry_their_own(
    shape: tuple[int, int, int], bits: Bits, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    m, _, n = shape
    op = random_operands(rng, shape, bits)
    rows, columns = rng.permutation(m), rng.permutation(n)
    permuted = replace(
        op, x=op.x[rows], w=op.w[:, columns], bias=op.bias[columns],
        x_full_scale=op.x_full_scale[rows], w_full_scale=op.w_full_scale[columns],
        y_full_scale=op.y_full_scale[columns],
    )  # fmt: skip
    out, permuted_out = (forward(o, bits, noisy=False)[0] for o in (op, permuted))
    np.testing.assert_array_equal(permuted_out, out[rows][:, columns])
    part = replace(op, x=op.x[: m // 2], x_full_scale=op.x_full_scale[: m // 2])
    np.testing.assert_array_equal(forward(part, bits, noisy=False)[0], out[: m // 2])


@given(shape=shapes, seed=seeds)
def test_ideal_chain_is_linear(shape: tuple[int, int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, k, _ = shape
    a = random_operands(rng, shape, Bits(), bias=False)
    # Small integers: every sum is exact, so the law holds to the bit.
    a = replace(a, x=rng.integers(-9, 10, (m, k)).astype(np.float32), w=np.rint(a.w * 4))
    b = replace(a, x=rng.integers(-9, 10, (m, k)).astype(np.float32))
    total = replace(a, x=np.float32(3) * a.x - np.float32(2) * b.x)
    out_a, out_b, out = (forward(o, Bits(), noisy=False)[0] for o in (a, b, total))
    np.testing.assert_array_equal(out, 3 * out_a - 2 * out_b)


@given(shape=shapes, seed=seeds, adc=st.integers(2, 12))
def test_without_bias_the_chain_is_odd(shape: tuple[int, int, int], seed: int, adc: int) -> None:
    bits = Bits(dac=6, weight=6, adc=adc)
    op = random_operands(np.random.default_rng(seed), shape, bits, bias=False)
    out, negated = (forward(o, bits, noisy=False)[0] for o in (op, replace(op, x=-op.x)))
    np.testing.assert_array_equal(negated, -out)


def test_identity_weights_read_the_input_back() -> None:
    op = random_operands(np.random.default_rng(15), (33, 65, 65), Bits(), bias=False)
    out, _ = forward(replace(op, w=np.eye(65, dtype=np.float32)), Bits(), noisy=False)
    np.testing.assert_array_equal(out, op.x)


# --- the public function ------------------------------------------------------------------------


def spec_of(bits: Bits) -> OpticalSpec:
    """The same widths, None for off."""
    return OpticalSpec(
        dac_bits=bits.dac or None, weight_bits=bits.weight or None, adc_bits=bits.adc or None
    )


@pytest.mark.parametrize("batch", [(), (1,), (6,), (2, 3), (2, 0), (1, 2, 3)], ids=str)
@pytest.mark.parametrize("bits", CHAINS[:4], ids=str)
def test_public_function_takes_any_batch(batch: tuple[int, ...], bits: Bits) -> None:
    rows = int(np.prod(batch))
    op = random_operands(np.random.default_rng(16), (rows, 5, 33), bits, noise="all")
    scale = np.float32(1.5)
    op = replace(op, x_full_scale=np.full(rows, scale), noise=np.tile(op.noise[:1], (rows, 1)))
    if rows == 0:
        op = replace(op, noise=np.zeros((0, 4), np.float32))
    thermal, shot, relative, weight = op.noise[0] if rows else (0, 0, 0, 0)
    seed = jax.random.wrap_key_data(jnp.array([SEED >> 32, SEED & 0xFFFFFFFF], jnp.uint32))
    out = lumina_jax.optical_matmul(
        jnp.asarray(op.x).reshape(*batch, 5), jnp.asarray(op.w), jnp.asarray(op.bias),
        spec=spec_of(bits), x_full_scale=scale, w_full_scale=jnp.asarray(op.w_full_scale),
        y_full_scale=jnp.asarray(op.y_full_scale) if bits.adc else None, key=seed,
        noise=NoiseModel(relative=relative, shot=shot, thermal=thermal, weight=weight),
    )  # fmt: skip
    expected, _ = forward(op, bits, noisy=True)
    assert out.shape == (*batch, 33)
    np.testing.assert_array_equal(np.asarray(out).reshape(rows, 33), expected)


@pytest.mark.parametrize("bits", CHAINS[1:4], ids=str)
def test_dynamic_ranges(bits: Bits) -> None:
    op = random_operands(np.random.default_rng(17), (9, 13, 33), bits)
    op = replace(
        op,
        x_full_scale=np.full(9, np.abs(op.x).max()),
        w_full_scale=np.abs(op.w).max(0),
        y_full_scale=np.full(33, 2, np.float32),
    )
    out, pre_noise = lumina_jax.optical_matmul(
        jnp.asarray(op.x), jnp.asarray(op.w), jnp.asarray(op.bias), spec=spec_of(bits),
        y_full_scale=2.0, return_pre_noise=True,
    )  # fmt: skip
    expected = forward(op, bits, noisy=False)
    np.testing.assert_array_equal(out, expected[0])
    np.testing.assert_array_equal(pre_noise, expected[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_inputs_surface_under_dynamic_ranges(bad: float) -> None:
    spec = OpticalSpec(dac_bits=8, weight_bits=8, adc_bits=8)
    x, w = np.ones((3, 4), np.float32), np.ones((4, 5), np.float32)
    x[1, 2] = bad
    out = lumina_jax.optical_matmul(x, w, spec=spec, y_full_scale=4.0)
    assert np.isnan(out[1]).all()
    x[1, 2], w[2, 3] = 1, bad
    out = lumina_jax.optical_matmul(x, w, spec=spec, y_full_scale=4.0)
    assert np.isnan(out[:, 3]).all()
    assert np.isfinite(np.delete(out, 3, axis=1)).all()


def test_the_former_name_of_return_pre_noise_warns() -> None:
    x, w = jnp.ones((2, 3)), jnp.ones((3, 4))
    with pytest.warns(DeprecationWarning, match=r"optical_matmul\(..., return_pre_noise=True\)"):
        former = lumina_jax.optical_matmul_with_linear(x, w, spec=OpticalSpec())
    now = lumina_jax.optical_matmul(x, w, spec=OpticalSpec(), return_pre_noise=True)
    for got, expected in zip(former, now, strict=True):
        np.testing.assert_array_equal(got, expected)
