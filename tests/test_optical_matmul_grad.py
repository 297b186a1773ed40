"""The gradient of the fused product.

Against its formulas everywhere, and against finite differences where the chain is smooth.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import grad_oracle
import lumina_jax
import oracle
from lumina_jax import NoiseModel, OpticalSpec
from operands import NOISES, SEED, SIZES, WIDTHS, backward, poisoned, random_operands
from oracle import Bits, Operands

CHAINS = [
    Bits(),
    Bits(dac=8, weight=8, adc=8),
    Bits(dac=4, weight=4, adc=6),
    Bits(dac=1, weight=1, adc=1),
    Bits(dac=16, weight=8, adc=12),
    Bits(adc=5),
]


def check(op: Operands, bits: Bits, *, noisy: bool, transpose: bool = False, seed: int = 0) -> None:
    """Asserts that all seven gradients of the kernel are the oracle's within their rounding."""
    g = np.random.default_rng(seed).standard_normal((len(op.x), op.w.shape[1]))
    g = g.astype(np.float32)
    forward = oracle.optical_matmul(op, bits, noisy=noisy)
    got = backward(g, forward.linear, op, bits, noisy=noisy, transpose=transpose)
    expected = grad_oracle.optical_matmul_grad(g, op, forward, bits, noisy=noisy)
    for name, value, total in zip(expected._fields, got, expected, strict=True):
        assert value.shape == total.value.shape, name
        np.testing.assert_array_equal(np.isnan(value), np.isnan(total.value), err_msg=name)
        excess = np.abs(value - total.value) - total.tolerance
        assert not (excess > 0).any(), f"{name}: {np.nanmax(excess)} beyond its tolerance"


@pytest.mark.parametrize("weight", WIDTHS)
@pytest.mark.parametrize("dac", WIDTHS)
def test_every_combination(dac: int, weight: int) -> None:
    rng = np.random.default_rng(100 * dac + weight)
    for adc, transpose, noise in itertools.product(WIDTHS, (False, True), (None, "thermal", "all")):
        bits = Bits(dac=dac, weight=weight, adc=adc)
        shape = tuple(int(rng.choice(SIZES[:7])) for _ in range(3))
        op = random_operands(rng, shape, bits, noise=noise)
        check(op, bits, noisy=noise is not None, transpose=transpose)


@pytest.mark.parametrize("transpose", [False, True], ids=["kn", "nk"])
@pytest.mark.parametrize("bits", CHAINS[:4], ids=str)
@pytest.mark.parametrize("axis", ["m", "k", "n"])
def test_every_size(axis: str, bits: Bits, transpose: bool) -> None:
    rng = np.random.default_rng(0)
    for extent in SIZES:
        shape = {"m": (extent, 9, 11), "k": (5, extent, 19), "n": (6, 10, extent)}[axis]
        op = random_operands(rng, shape, bits, noise="all")
        check(op, bits, noisy=True, transpose=transpose)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0), (257, 65, 300)],
                         ids=str)  # fmt: skip
@pytest.mark.parametrize("transpose", [False, True], ids=["kn", "nk"])
def test_empty_and_large(shape: tuple[int, int, int], transpose: bool) -> None:
    for bits in CHAINS[:2]:
        op = random_operands(np.random.default_rng(1), shape, bits, noise="all")
        check(op, bits, noisy=True, transpose=transpose)


@pytest.mark.parametrize("kind", NOISES)
def test_each_noise(kind: str) -> None:
    for bits in CHAINS:
        op = random_operands(np.random.default_rng(2), (17, 29, 33), bits, noise=kind)
        check(op, bits, noisy=True)


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 20), st.integers(1, 40)),
    bits=st.builds(Bits, dac=st.integers(0, 12), weight=st.integers(0, 12), adc=st.integers(0, 12)),
    seed=st.integers(0, 2**32 - 1),
    noise=st.sampled_from([None, *NOISES]),
)
def test_any_chain(shape: tuple[int, int, int], bits: Bits, seed: int, noise: str | None) -> None:
    op = random_operands(np.random.default_rng(seed), shape, bits, noise=noise)
    check(op, bits, noisy=noise is not None, transpose=bool(seed % 2), seed=seed)


# --- masks --------------------------------------------------------------------------------------


def test_the_ends_of_the_range_are_inside() -> None:
    bits = Bits(dac=4, weight=4, adc=4)
    op = random_operands(np.random.default_rng(3), (1, 3, 1), bits, bias=False)
    op = replace(
        op, x=np.float32([[7, -7, 7.001]]), x_full_scale=np.float32([7]),
        w=np.float32([[3.5], [-3.5], [3.501]]), w_full_scale=np.float32([3.5]),
        y_full_scale=np.float32([73.5]),
    )  # fmt: skip
    forward = oracle.optical_matmul(op, bits, noisy=False)
    np.testing.assert_array_equal(forward.linear, [[73.5]])
    dx, dw, dbias, *_ = backward(np.float32([[2]]), forward.linear, op, bits, noisy=False)
    np.testing.assert_array_equal(dx, [[7, -7, 0]])
    np.testing.assert_array_equal(dw, [[14], [-14], [0]])
    np.testing.assert_array_equal(dbias, [2])


def test_a_clipped_output_passes_nothing_but_its_range() -> None:
    bits = Bits(dac=4, weight=4, adc=4)
    op = random_operands(np.random.default_rng(4), (5, 6, 7), bits, noise="thermal")
    op = replace(op, bias=np.full(7, 100, np.float32))
    forward = oracle.optical_matmul(op, bits, noisy=True)
    g = np.random.default_rng(5).integers(-4, 5, (5, 7)).astype(np.float32)
    *others, dscale, dnoise = backward(g, forward.linear, op, bits, noisy=True)
    for gradient in [*others, dnoise]:
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))
    np.testing.assert_array_equal(dscale, g.sum(0))


def test_no_noise_no_slope() -> None:
    op = random_operands(np.random.default_rng(6), (5, 6, 7), Bits())
    op = replace(op, eps=np.ones((5, 7), np.float32))
    check(op, Bits(), noisy=True)
    check(op, Bits(adc=4), noisy=True)


# --- what is not a number -----------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("noisy", [False, True], ids=["quiet", "noisy"])
@pytest.mark.parametrize("bits", [Bits(), Bits(dac=8, weight=8, adc=8), Bits(adc=6)], ids=str)
def test_bad_values_surface(bits: Bits, noisy: bool, bad: float) -> None:
    clean = random_operands(np.random.default_rng(7), (5, 6, 7), bits, noise="all")
    ones = np.ones((5, 7), np.float32)
    for where, index in {"x": (3, 2), "w": (2, 4), "bias": (4,)}.items():
        op = poisoned(clean, where, index, bad)
        check(op, bits, noisy=noisy)
        forward = oracle.optical_matmul(op, bits, noisy=noisy)
        dx, dw, dbias, *_, dnoise = backward(ones, forward.linear, op, bits, noisy=noisy)
        # The outputs of that row or column are NaN, and so is what flows back from them.
        if where == "x":
            np.testing.assert_array_equal(np.isnan(dx).all(1), np.arange(5) == 3)
            np.testing.assert_array_equal(np.isnan(dx).any(1), np.arange(5) == 3)
            assert np.isnan(dw).all()
            assert np.isnan(dbias).all()
        else:
            assert np.isnan(dx).all()
            np.testing.assert_array_equal(np.isnan(dw).all(0), np.arange(7) == 4)
            np.testing.assert_array_equal(np.isnan(dw).any(0), np.arange(7) == 4)
            np.testing.assert_array_equal(np.isnan(dbias), np.arange(7) == 4)
        if noisy:
            assert np.isnan(dnoise[3]).all()


@pytest.mark.parametrize("bits", [Bits(), Bits(dac=8, weight=8, adc=8)], ids=str)
def test_a_bad_cotangent_surfaces(bits: Bits) -> None:
    op = random_operands(np.random.default_rng(8), (5, 6, 7), bits)
    forward = oracle.optical_matmul(op, bits, noisy=False)
    g = np.ones((5, 7), np.float32)
    g[3, 4] = np.nan
    dx, dw, dbias, *_ = backward(g, forward.linear, op, bits, noisy=False)
    assert np.isnan(dx[3]).all()
    assert np.isfinite(np.delete(dx, 3, 0)).all()
    assert np.isnan(dw[:, 4]).all()
    assert np.isfinite(np.delete(dw, 4, 1)).all()
    np.testing.assert_array_equal(np.isnan(dbias), np.arange(7) == 4)


# --- the public function ------------------------------------------------------------------------

Argument = jax.Array | NoiseModel
Arguments = dict[str, Argument]


def arguments_of(op: Operands, bits: Bits, *, noisy: bool) -> Arguments:
    """Differentiable arguments of the public function; full scales of x and noise are shared."""
    arguments: Arguments = {
        "x": jnp.asarray(op.x),
        "w": jnp.asarray(op.w),
        "bias": jnp.asarray(op.bias),
    }
    if bits.dac:
        arguments["x_full_scale"] = jnp.asarray(op.x_full_scale[0])
    if bits.weight:
        arguments["w_full_scale"] = jnp.asarray(op.w_full_scale)
    if bits.adc:
        arguments["y_full_scale"] = jnp.asarray(op.y_full_scale)
    if noisy:
        thermal, shot, relative, weight = (jnp.asarray(v) for v in op.noise[0])
        arguments["noise"] = NoiseModel(
            relative=relative, shot=shot, thermal=thermal, weight=weight
        )
    return arguments


def public(arguments: Arguments, bits: Bits) -> jax.Array:
    """`lumina_jax.optical_matmul` at those arguments."""
    spec = OpticalSpec(
        dac_bits=bits.dac or None, weight_bits=bits.weight or None, adc_bits=bits.adc or None
    )
    key = jax.random.wrap_key_data(jnp.array([SEED >> 32, SEED & 0xFFFFFFFF], jnp.uint32))
    others = {name: v for name, v in arguments.items() if name not in ("x", "w", "bias")}
    return lumina_jax.optical_matmul(
        arguments["x"], arguments["w"], arguments["bias"], spec=spec,
        key=key if "noise" in arguments else None, **others,
    )  # fmt: skip


def shared(op: Operands) -> Operands:
    """The same, with one full scale of x and one set of noise parameters for all rows."""
    m = len(op.x)
    return replace(
        op, x_full_scale=np.repeat(op.x_full_scale[:1], m), noise=np.repeat(op.noise[:1], m, 0)
    )


@pytest.mark.parametrize("noise", [None, *NOISES])
@pytest.mark.parametrize("bits", CHAINS, ids=str)
def test_public_gradient(bits: Bits, noise: str | None) -> None:
    noisy = noise is not None
    op = shared(random_operands(np.random.default_rng(9), (12, 17, 33), bits, noise=noise))
    g = np.random.default_rng(10).standard_normal((12, 33)).astype(np.float32)

    @jax.jit
    def gradient(arguments: Arguments) -> Arguments:
        return jax.grad(lambda arguments: (public(arguments, bits) * g).sum())(arguments)

    got = gradient(arguments_of(op, bits, noisy=noisy))
    forward = oracle.optical_matmul(op, bits, noisy=noisy)
    expected = grad_oracle.optical_matmul_grad(g, op, forward, bits, noisy=noisy)
    expected_noise = expected.noise.sum(0)
    expected = expected._replace(x_full_scale=expected.x_full_scale.sum(0))
    for name, value in got.items():
        if name == "noise":
            value = np.stack([value.thermal, value.shot, value.relative, value.weight])
            total = expected_noise
        else:
            total = getattr(expected, name)
        assert (np.abs(value - total.value) <= total.tolerance).all(), name


@pytest.mark.parametrize("batch", [(), (2, 3), (2, 0)], ids=str)
def test_public_gradient_takes_any_batch(batch: tuple[int, ...]) -> None:
    bits = Bits(dac=5, weight=5, adc=5)
    rows = int(np.prod(batch))
    op = shared(random_operands(np.random.default_rng(11), (max(rows, 1), 4, 9), bits))
    x = jnp.asarray(op.x[:rows])
    arguments = arguments_of(op, bits, noisy=False)

    def loss(x: jax.Array, w: jax.Array) -> jax.Array:
        return (public({**arguments, "x": x, "w": w}, bits) ** 2).sum()

    flat = jax.grad(loss, (0, 1))(x, arguments["w"])
    batched = jax.grad(loss, (0, 1))(x.reshape(*batch, 4), arguments["w"])
    np.testing.assert_array_equal(batched[0].reshape(rows, 4), flat[0])
    np.testing.assert_array_equal(batched[1], flat[1])


# --- finite differences -------------------------------------------------------------------------


def assert_slopes(
    f: Callable[[Arguments], jax.Array], arguments: Arguments, *, step: float, seed: int
) -> None:
    """Compares directional derivatives of `sum(g * f)` with central differences.

    The sum is taken in float64, so the error is the float32 rounding of f over the step, about
    `1e-6 / step` of its magnitude, and the third derivative times the squared step: the steps of
    the tests keep both under 1e-3 of the slope's own magnitude.
    """
    rng = np.random.default_rng(seed)
    f = jax.jit(f)
    value = f(arguments)
    g = rng.standard_normal(value.shape)
    gradient = jax.vjp(f, arguments)[1](jnp.asarray(g, jnp.float32))[0]
    for name in arguments:
        tangent = jax.tree.map(
            # A noise parameter of 0 stays: σ has a kink there.
            lambda v: (
                rng.uniform(0.5, 1, v.shape) * rng.choice([-1, 1], v.shape) * (np.asarray(v) != 0)
            ),
            arguments[name],
        )

        ends = [f({**arguments, name: nudged(arguments[name], tangent, h)}) for h in (step, -step)]
        difference = np.subtract(*(np.asarray(end, np.float64) for end in ends)) / (2 * step)
        magnitude = np.sqrt((g**2).sum() * (difference**2).mean()) + 1e-3
        slope = sum(
            float((np.asarray(a, np.float64) * t).sum())
            for a, t in zip(jax.tree.leaves(gradient[name]), jax.tree.leaves(tangent), strict=True)
        )
        assert abs((g * difference).sum() - slope) <= 1e-3 * magnitude, name


def nudged(argument: Argument, tangent: Argument, by: float) -> Argument:
    """`argument + by * tangent`, rounded once."""
    return jax.tree.map(
        lambda v, t: jnp.asarray(np.asarray(v, np.float64) + by * t, jnp.float32), argument, tangent
    )


def smooth(seed: int, noise: str) -> Operands:
    """Operands whose outputs stay clear of zero, where the shot noise has a kink."""
    op = shared(random_operands(np.random.default_rng(seed), (6, 9, 17), Bits(), noise=noise))
    return replace(op, bias=op.bias + np.float32(12))


@pytest.mark.parametrize("kind", NOISES)
def test_slopes_through_the_noise(kind: str) -> None:
    arguments = arguments_of(smooth(12, kind), Bits(), noisy=True)
    assert_slopes(lambda a: public(a, Bits()), arguments, step=2.0**-6, seed=13)


def test_slopes_without_noise() -> None:
    arguments = arguments_of(smooth(14, "all"), Bits(), noisy=False)
    assert_slopes(lambda a: public(a, Bits()), arguments, step=2.0**-4, seed=15)


def test_slopes_by_the_ranges_of_one_bit_converters() -> None:
    # One bit gives ±full_scale, which is smooth in the full scale and flat in all else.
    bits = Bits(dac=1, weight=1)
    op = smooth(16, "all")
    arguments = arguments_of(op, bits, noisy=True)
    names = ("x_full_scale", "w_full_scale", "noise", "bias")
    free = {name: arguments[name] for name in names}
    fixed = {name: v for name, v in arguments.items() if name not in names}
    assert_slopes(lambda a: public({**fixed, **a}, bits), free, step=2.0**-6, seed=17)


def test_slopes_of_clipping_converters() -> None:
    # Everything beyond its range: each converter gives ±full_scale.
    bits = Bits(dac=6, weight=6)
    op = smooth(18, "thermal")
    away = lambda v: (np.where(v < 0, -1, 1) * (np.abs(v) + 3)).astype(np.float32)  # noqa: E731
    op = replace(op, x=away(op.x), w=away(op.w))
    op = replace(op, x_full_scale=np.full(6, 1.2, np.float32),
                 w_full_scale=np.full(17, 0.4, np.float32))  # fmt: skip
    arguments = arguments_of(op, bits, noisy=True)
    assert_slopes(lambda a: public(a, bits), arguments, step=2.0**-6, seed=19)
    clipped = replace(op, bias=op.bias + 500, y_full_scale=np.full(17, 5, np.float32))
    bits = Bits(adc=6)
    arguments = arguments_of(clipped, bits, noisy=True)
    assert_slopes(lambda a: public(a, bits), arguments, step=2.0**-6, seed=20)


def test_detached_linear_output_has_no_gradient() -> None:
    x, w = jnp.ones((2, 3), jnp.float32), jnp.ones((3, 4), jnp.float32)

    def loss(x: jax.Array) -> jax.Array:
        _, linear = lumina_jax.optical_matmul(x, w, spec=OpticalSpec(), return_pre_noise=True)
        return linear.sum()

    np.testing.assert_array_equal(jax.grad(loss)(x), np.zeros((2, 3)))
