"""The gradient in bfloat16 and in 8 bits: its definition, that it has no bias, what it needs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import grad_oracle
import lumina_jax
import noise_oracle
import oracle
from flax_layers import OpticalDense, nnx
from lumina_jax import NoiseModel, OpticalSpec
from lumina_jax.ops import optical_noise
from operands import (
    NOISES,
    SEED,
    backward,
    call,
    call_reference,
    poisoned,
    random_operands,
    ranges_and_noise,
)
from oracle import Bits, Operands

Run = Callable[..., list[np.ndarray]]

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
by_kernel_and_reference = pytest.mark.parametrize(
    "run", [call, call_reference], ids=["kernel", "reference"]
)


def check(
    op: Operands,
    bits: Bits,
    precision: str,
    run: Run,
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
        g, forward.linear, op, bits, noisy=noisy, transpose=transpose, precision=precision, run=run
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


@by_kernel_and_reference
@precisions
@pytest.mark.parametrize("bits", CHAINS, ids=str)
def test_every_chain(bits: Bits, precision: str, run: Run) -> None:
    rng = np.random.default_rng(0)
    # The reference is compiled for each.
    noises = (None, *NOISES) if run is call else (None, "all")
    for noise, transpose in itertools.product(noises, (False, True)[: len(noises) - 1]):
        op = random_operands(rng, (9, 17, 33), bits, noise=noise)
        check(op, bits, precision, run, noisy=noise is not None, transpose=transpose)


@by_kernel_and_reference
@precisions
@pytest.mark.parametrize("axis", ["m", "k", "n"])
def test_every_size(axis: str, precision: str, run: Run) -> None:
    rng = np.random.default_rng(1)
    for extent, bits in itertools.product(SIZES if run is call else (0, 1, 257), CHAINS[:2]):
        shape = {"m": (extent, 3, 5), "k": (4, extent, 6), "n": (5, 6, extent)}[axis]
        check(random_operands(rng, shape, bits), bits, precision, run, noisy=False)


@by_kernel_and_reference
@precisions
@pytest.mark.parametrize("noisy", [False, True], ids=["quiet", "noisy"])
def test_rows_in_blocks(precision: str, noisy: bool, run: Run) -> None:
    # More than two blocks of rows, and of the columns that the random words come in.
    for bits in (Bits(dac=8, weight=8, adc=8), Bits(dac=12, weight=0)):
        op = random_operands(
            np.random.default_rng(2), (600, 7, 530), bits, noise="all" if noisy else None
        )
        check(op, bits, precision, run, noisy=noisy)


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
    check(op, bits, precision, call, noisy=noise is not None, transpose=transpose, seed=seed)


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
    words = optical_noise.words(
        jnp.array([[seed >> 32, seed & 0xFFFFFFFF]], jnp.uint32),
        jnp.array([row], jnp.uint32),
        jnp.array([column], jnp.uint32),
    )
    assert int(words[0, 0]) == (u & 0xFFFFFFFF if half else u >> 32)


def test_the_oracle_draws_those_words() -> None:
    words = optical_noise.words(
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


@by_kernel_and_reference
@precisions
@pytest.mark.parametrize("bits", [Bits(), Bits(dac=8, weight=8), Bits(weight=8)], ids=str)
def test_what_fits_is_exact(bits: Bits, precision: str, run: Run) -> None:
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
        got = backward(g, linear, op, bits, noisy=False, precision=precision, run=run)
        expected = backward(g, linear, op, bits, noisy=False, run=run)
        for value, in_float32 in zip(got, expected, strict=True):
            np.testing.assert_array_equal(value, in_float32)


@by_kernel_and_reference
@pytest.mark.parametrize("bits", CHAINS[:3], ids=str)
def test_bfloat16_keeps_eight_bits_of_each_factor(bits: Bits, run: Run) -> None:
    op = random_operands(np.random.default_rng(4), (20, 30, 40), bits)
    forward = oracle.optical_matmul(op, bits, noisy=False)
    g = np.random.default_rng(5).standard_normal((20, 40)).astype(np.float32)
    got = backward(g, forward.linear, op, bits, noisy=False, precision="bfloat16", run=run)
    expected = backward(g, forward.linear, op, bits, noisy=False, run=run)
    x_q, w_q = np.abs(forward.xq.value), np.abs(forward.wq.value)
    # Two factors within 2⁻⁹ of their value, and what float32 rounds on the way.
    allowed = 2.0**-8 + 2.0**-16
    assert (np.abs(got[0] - expected[0]) <= allowed * (np.abs(g) @ w_q.T)).all()
    assert (np.abs(got[1] - expected[1]) <= allowed * (x_q.T @ np.abs(g))).all()
    assert not np.array_equal(got[0], expected[0])
    assert not np.array_equal(got[1], expected[1])


SEEDS = 400


@by_kernel_and_reference
@pytest.mark.parametrize("bits", [Bits(), Bits(dac=8, weight=8, adc=8)], ids=str)
def test_int8_has_no_bias(bits: Bits, run: Run) -> None:
    op = random_operands(np.random.default_rng(6), (300, 5, 24), bits)
    forward = oracle.optical_matmul(op, bits, noisy=False)
    g = np.random.default_rng(7).standard_normal((300, 24)).astype(np.float32)
    exact = backward(g, forward.linear, op, bits, noisy=False, run=run)
    *others, _, rows, columns = ranges_and_noise(op, noisy=False, draws=True)
    attrs = {**bits.attrs(), "transpose_weight": False, "noisy": False, "grad_precision": "int8"}

    def draw(key: int) -> list[np.ndarray]:
        seed = np.array([[key, 2 * key + 1]], np.uint32)
        inputs = (g, forward.linear, op.x, op.w, *others, seed, rows, columns)
        return run("optical_matmul_grad", *inputs, **attrs)[:2]

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


@by_kernel_and_reference
def test_rows_round_by_their_ids(run: Run) -> None:
    bits = Bits(dac=8, weight=8)
    op = random_operands(np.random.default_rng(8), (12, 5, 40), bits)
    g = np.random.default_rng(9).standard_normal((12, 40)).astype(np.float32)
    *others, rows, columns = ranges_and_noise(op, noisy=False, draws=True)
    x_range, *others = others
    linear = np.zeros((12, 40), np.float32)
    attrs = {**bits.attrs(), "transpose_weight": False, "noisy": False, "grad_precision": "int8"}

    def dx(part: slice, ids: np.ndarray) -> np.ndarray:
        return run(
            "optical_matmul_grad", g[part], linear[part], op.x[part], op.w, x_range[part], *others,
            ids, columns, **attrs,
        )[0]  # fmt: skip

    whole = dx(slice(None), rows)
    np.testing.assert_array_equal(dx(slice(5, 12), rows[5:]), whole[5:])
    assert not np.array_equal(dx(slice(5, 12), rows[:7]), whole[5:])


# --- what is zero, and what is not a number -----------------------------------------------------


@by_kernel_and_reference
@precisions
@pytest.mark.parametrize("bits", CHAINS[:3], ids=str)
def test_rows_and_columns_of_zeros(bits: Bits, precision: str, run: Run) -> None:
    op = random_operands(np.random.default_rng(10), (300, 6, 9), bits)
    forward = oracle.optical_matmul(op, bits, noisy=False)
    g = np.random.default_rng(11).standard_normal((300, 9)).astype(np.float32)
    g[7], g[:, 4], g[256:, 2] = 0, 0, 0
    dx, dw, *_ = backward(g, forward.linear, op, bits, noisy=False, precision=precision, run=run)
    assert not dx[7].any()
    assert not dw[:, 4].any()
    assert dw[:, 2].any()
    assert np.isfinite(dx).all()
    assert np.isfinite(dw).all()


@by_kernel_and_reference
@precisions
def test_the_smallest_numbers(precision: str, run: Run) -> None:
    # Scales that float32 rounds to zero, and steps whose inverse it cannot hold.
    op = random_operands(np.random.default_rng(12), (6, 5, 4), Bits())
    for size in (1e-30, 1e-36, 1e-37, 1.2e-38, 0.0):
        g = np.full((6, 4), size, np.float32)
        dx, dw, *_ = backward(g, op.x @ op.w, op, Bits(), noisy=False, precision=precision, run=run)
        # Not more than a step of the smallest scale is lost of each term.
        allowed = 2.0**-8 * size + 1.5e-38 * 127
        assert (np.abs(dx - g @ op.w.T) <= allowed * np.abs(op.w).sum(1)).all()
        assert (np.abs(dw - op.x.T @ g) <= allowed * np.abs(op.x).sum(0)[:, None]).all()


@by_kernel_and_reference
@precisions
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("bits", CHAINS[:3], ids=str)
def test_a_bad_cotangent_surfaces(bits: Bits, precision: str, bad: float, run: Run) -> None:
    op = random_operands(np.random.default_rng(13), (300, 6, 9), replace(bits, adc=0))
    bits = replace(bits, adc=0)
    forward = oracle.optical_matmul(op, bits, noisy=False)
    g = np.ones((300, 9), np.float32)
    g[270, 4] = bad
    dx, dw, *_ = backward(g, forward.linear, op, bits, noisy=False, precision=precision, run=run)
    if precision == "int8" or np.isnan(bad):
        assert np.isnan(dx[270]).all()
        assert np.isnan(dw[:, 4]).all()
    else:
        assert not np.isfinite(dx[270]).any()
        assert not np.isfinite(dw[:, 4]).any()
    assert np.isfinite(np.delete(dx, 270, 0)).all()
    assert np.isfinite(np.delete(dw, 4, 1)).all()


@by_kernel_and_reference
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("noisy", [False, True], ids=["quiet", "noisy"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("bits", CHAINS[:3], ids=str)
def test_bad_operands_surface(
    bits: Bits, noisy: bool, precision: str, bad: float, run: Run
) -> None:
    clean = random_operands(np.random.default_rng(14), (5, 6, 7), bits, noise="all")
    for where, index in {"x": (3, 2), "w": (2, 4), "bias": (4,)}.items():
        op = poisoned(clean, where, index, bad)
        dx, dw, *_ = check(op, bits, precision, run, noisy=noisy)
        if where == "x":
            np.testing.assert_array_equal(np.isnan(dx).all(1), np.arange(5) == 3)
            assert np.isnan(dw).all()
        else:
            assert np.isnan(dx).all()
            np.testing.assert_array_equal(np.isnan(dw).all(0), np.arange(7) == 4)


# --- the public function ------------------------------------------------------------------------

KEY = jax.random.wrap_key_data(jnp.array([SEED >> 32, SEED & 0xFFFFFFFF], jnp.uint32))
NOISE = NoiseModel(thermal=0.1, shot=0.2, relative=0.15, weight=0.05)


def spec_of(precision: Any, bits: int | None = 8) -> OpticalSpec:
    return OpticalSpec(dac_bits=bits, weight_bits=bits, grad_precision=precision)


def operands(rows: int = 12) -> tuple[jax.Array, jax.Array, jax.Array]:
    rng = np.random.default_rng(15)
    shapes = (rows, 9), (9, 33), (rows, 33)
    x, w, g = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)
    return x, w, g


def gradients(precision: str, x: jax.Array, w: jax.Array, g: jax.Array, **options: Any) -> Any:
    def loss(x: jax.Array, w: jax.Array) -> jax.Array:
        return (lumina_jax.optical_matmul(x, w, spec=spec_of(precision), **options) * g).sum()

    return jax.jit(jax.grad(loss, (0, 1)))(x, w)


@precisions
@pytest.mark.parametrize("noise", [None, NOISE], ids=["quiet", "noisy"])
def test_the_public_gradient_is_the_definition(precision: str, noise: NoiseModel | None) -> None:
    x, w, g = operands()
    noisy = noise is not None
    dx, dw = gradients(precision, x, w, g, x_full_scale=1.7, noise=noise, key=KEY)
    bits = Bits(dac=8, weight=8)
    template = random_operands(np.random.default_rng(0), (12, 9, 33), bits, noise="all")
    coefficients = np.float32([0.1, 0.2, 0.15, 0.05]) if noisy else np.zeros(4, np.float32)
    op = replace(
        template, x=np.asarray(x), w=np.asarray(w), bias=np.zeros(33, np.float32),
        x_full_scale=np.full(12, 1.7, np.float32), w_full_scale=np.abs(np.asarray(w)).max(0),
        noise=np.tile(coefficients, (12, 1)),
    )  # fmt: skip
    forward = oracle.optical_matmul(op, bits, noisy=noisy)
    expected = grad_oracle.optical_matmul_grad(
        np.asarray(g), op, forward, bits, noisy=noisy, precision=precision, seed=SEED
    )
    assert (np.abs(dx - expected.x.value) <= expected.x.tolerance).all()
    assert (np.abs(dw - expected.w.value) <= expected.w.tolerance).all()


def test_int8_draws_from_the_key() -> None:
    x, w, g = operands()
    first, again, other = (gradients("int8", x, w, g, key=jax.random.key(i)) for i in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_int8_without_a_key_has_no_gradient() -> None:
    x, w, g = operands()
    message = (
        'optical_matmul: the gradient with `grad_precision`="int8" needs a `key`, got None; pass '
        "key=jax.random.key(seed) (to a layer: the stream `noise`), or take another precision"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        gradients("int8", x, w, g)


@pytest.mark.parametrize("key", [None, KEY], ids=["no key", "key"])
def test_the_forward_program_is_the_same(key: jax.Array | None) -> None:
    x, w, _ = operands()

    def program(precision: str) -> str:
        def infer(x: jax.Array) -> jax.Array:
            return lumina_jax.optical_matmul(x, w, spec=spec_of(precision), key=key)

        # What the seed of a quiet call comes from is dead code, which is gone once compiled.
        return jax.jit(infer).lower(x).compile().as_text()

    assert len({program(precision) for precision in PRECISIONS}) == 1


@precisions
def test_only_the_gradient_has_the_attribute(precision: str) -> None:
    x, w, g = operands()
    grad = jax.grad(
        lambda x: (lumina_jax.optical_matmul(x, w, spec=spec_of(precision), key=KEY) * g).sum()
    )
    forward, back = (e for e in equations(jax.make_jaxpr(grad)(x).jaxpr) if "optical" in e[0])
    assert forward[0] == "optical_matmul"
    assert "grad_precision" not in forward[1]
    assert forward[2][-3:] == [(1, 2), (1,), (1,)]
    assert (back[0], back[1]["grad_precision"]) == ("optical_matmul_grad", precision)
    ids = [(12,), (33,)] if precision == "int8" else [(1,), (1,)]
    assert back[2][-2:] == ids


def equations(jaxpr: Any) -> list[tuple[str, dict[str, Any], list[tuple[int, ...]]]]:
    """Name, parameters and operand shapes of each equation, also of those inside."""
    found = []
    for equation in jaxpr.eqns:
        inner = [p.jaxpr for p in equation.params.values() if hasattr(p, "jaxpr")]
        found += [e for p in inner for e in equations(getattr(p, "jaxpr", p))]
        if not inner:
            shapes = [v.aval.shape for v in equation.invars]
            found.append((equation.primitive.name, dict(equation.params), shapes))
    return found


@precisions
def test_vmap_scan_and_remat(precision: str) -> None:
    x, w, g = operands(rows=300)
    keys = jax.random.split(jax.random.key(3), 3)
    xs = jnp.stack([x, 2 * x, -x])

    def one(x: jax.Array, key: jax.Array) -> Any:
        return gradients(precision, x, w, g, key=key)

    expected = [one(x, key) for x, key in zip(xs, keys, strict=True)]
    mapped = jax.vmap(one)(xs, keys)
    for i in range(3):
        for a, b in zip(mapped, expected[i], strict=True):
            np.testing.assert_array_equal(a[i], b)

    @jax.checkpoint
    def of_key(x: jax.Array, key: jax.Array) -> jax.Array:
        return (lumina_jax.optical_matmul(x, w, spec=spec_of(precision), key=key) * g).sum()

    @jax.jit
    @jax.grad
    def scanned(x: jax.Array) -> jax.Array:
        return jax.lax.scan(
            lambda total, key: (total + of_key(x, key), None), jnp.float32(0), keys
        )[0]

    total = sum(np.asarray(gradients(precision, x, w, g, key=key)[0]) for key in keys)
    # The same three gradients, added in another order.
    np.testing.assert_allclose(scanned(x), total, rtol=1e-5, atol=1e-5)


@precisions
def test_sharded_rows(precision: str) -> None:
    x, w, g = operands(rows=512)
    mesh = Mesh(np.array(jax.devices()[:4]), ("a",))

    def put(v: jax.Array, *axes: str) -> jax.Array:
        return jax.device_put(v, NamedSharding(mesh, P(*axes)))

    dx, dw = gradients(precision, put(x, "a"), put(w), put(g, "a"), key=KEY, x_full_scale=1.7)
    whole_dx, whole_dw = gradients(precision, x, w, g, key=KEY, x_full_scale=1.7)
    # A row has its own scale, wherever it is.
    np.testing.assert_array_equal(dx, whole_dx)
    exact = gradients("float32", x, w, g, key=KEY, x_full_scale=1.7)[1]
    # Blocks of 128 rows have scales that are no larger than those of 256 rows, so errors are alike.
    off, whole_off = (float(np.linalg.norm(v - exact)) for v in (dw, whole_dw))
    assert 0 < off <= 1.5 * whole_off


# --- layers -------------------------------------------------------------------------------------


LAYER = OpticalSpec(dac_bits=6, weight_bits=6, adc_bits=6, grad_precision="int8")


def test_a_quiet_linen_layer() -> None:
    x, _, _ = operands()
    layer = OpticalDense(5, profile=None, spec=LAYER)
    variables = layer.init(jax.random.key(0), x)
    np.testing.assert_array_equal(
        layer.apply(variables, x), layer.apply(variables, x, deterministic=True)
    )

    def gradient(rngs: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            y, _ = layer.apply({**variables, "params": params}, x, rngs=rngs, mutable=["ranges"])
            return (y**2).sum()

        return jax.grad(loss)(variables["params"])["kernel"]

    first, second = (gradient({"noise": jax.random.key(i)}) for i in (1, 2))
    assert np.isfinite(first).all()
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match=r"\"int8\" needs a `key`.*stream `noise`"):
        gradient(None)


def test_a_quiet_nnx_layer() -> None:
    from flax import nnx as flax_nnx

    x, _, _ = operands()

    def gradient(rngs: flax_nnx.Rngs) -> Any:
        layer = nnx.OpticalDense(9, 5, profile=None, spec=LAYER, rngs=rngs)
        grads = flax_nnx.grad(lambda layer: (layer(x) ** 2).sum())(layer)
        return np.asarray(grads["kernel"][...])

    first, second = (gradient(flax_nnx.Rngs(params=0, noise=i)) for i in (1, 2))
    assert np.isfinite(first).all()
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match=r"\"int8\" needs a `key`.*stream `noise`"):
        gradient(flax_nnx.Rngs(params=0))
