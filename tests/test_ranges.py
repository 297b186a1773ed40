"""Calibration: what a batch shows, what a running range makes of it, what is learned."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lumina_jax
from flax_layers.ranges import Ranges, calibrated_matmul, seen, update

SPEC = lumina_jax.OpticalSpec(dac_bits=4, weight_bits=4, adc_bits=6)
UNCALIBRATED = Ranges(x=jnp.float32(0), y=jnp.float32(0))


def operands(m: int = 7, k: int = 5, n: int = 3) -> tuple[jax.Array, jax.Array, jax.Array]:
    keys = jax.random.split(jax.random.key(0), 3)
    return (
        jax.random.normal(keys[0], (m, k)),
        jax.random.normal(keys[1], (k, n)),
        jax.random.normal(keys[2], (n,)),
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, -3.0, 2.0], 3.0),
        ([1.0, np.nan, -2.0], 2.0),
        ([np.inf, 1.0, -np.inf], 1.0),
        ([np.nan, np.inf], 0.0),
        ([], 0.0),
        ([0.0, -0.0], 0.0),
    ],
)
def test_seen_is_the_largest_finite_magnitude(values: list[float], expected: float) -> None:
    assert seen(jnp.asarray(values, jnp.float32)) == expected


def test_seen_is_not_differentiated() -> None:
    np.testing.assert_array_equal(jax.grad(seen)(jnp.asarray([1.0, -2.0])), np.zeros(2))


def test_seen_over_a_mapped_axis() -> None:
    v = jnp.asarray([[1.0, 2.0], [-5.0, 3.0]])
    np.testing.assert_array_equal(jax.vmap(seen)(v), [2.0, 5.0])
    over_all = jax.vmap(lambda row: seen(row, axis_name="batch"), axis_name="batch")
    np.testing.assert_array_equal(over_all(v), [5.0, 5.0])


@settings(deadline=None, max_examples=50)
@given(
    old=st.floats(0, 1e6, width=32),
    largest=st.floats(0, 1e6, width=32),
    momentum=st.floats(0, 0.999),
)
def test_update_stays_between_old_and_seen(old: float, largest: float, momentum: float) -> None:
    new = float(update(jnp.float32(old), jnp.float32(largest), momentum=momentum))
    if largest == 0:
        assert new == np.float32(old)
    elif old == 0:
        assert new == np.float32(largest)
    else:
        # One rounding for each of the two products, the complement of the momentum and the sum.
        slack = 4 * np.finfo(np.float32).eps * max(old, largest)
        assert min(old, largest) - slack <= new <= max(old, largest) + slack


def test_update_is_an_exponential_average() -> None:
    new = update(jnp.float32(2.0), jnp.float32(6.0), momentum=0.75)
    assert new == 3.0


def test_zero_ranges_take_those_of_the_batch() -> None:
    x, w, b = operands()
    y, after = calibrated_matmul(x, w, b, UNCALIBRATED, spec=SPEC)
    assert after is UNCALIBRATED
    x_scale = jnp.max(jnp.abs(x))
    pre_noise = lumina_jax.optical_matmul(
        x, w, b, spec=lumina_jax.OpticalSpec(dac_bits=4, weight_bits=4), x_full_scale=x_scale
    )
    expected = lumina_jax.optical_matmul(
        x, w, b, spec=SPEC, x_full_scale=x_scale, y_full_scale=jnp.max(jnp.abs(pre_noise))
    )
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("known", ["x", "y"])
def test_one_known_range_is_kept(known: str) -> None:
    x, w, b = operands()
    running = UNCALIBRATED._replace(**{known: jnp.float32(0.5)})
    y, _ = calibrated_matmul(x, w, b, running, spec=SPEC)
    x_scale = 0.5 if known == "x" else jnp.max(jnp.abs(x))
    pre_noise = lumina_jax.optical_matmul(
        x, w, b, spec=lumina_jax.OpticalSpec(dac_bits=4, weight_bits=4), x_full_scale=x_scale
    )
    y_scale = 0.5 if known == "y" else jnp.max(jnp.abs(pre_noise))
    expected = lumina_jax.optical_matmul(
        x, w, b, spec=SPEC, x_full_scale=x_scale, y_full_scale=y_scale
    )
    np.testing.assert_array_equal(y, expected)
    assert jnp.max(jnp.abs(y)) > 0


def test_the_matmul_runs_at_the_old_ranges_and_reports_the_new() -> None:
    x, w, b = operands()
    running = Ranges(x=jnp.float32(1.0), y=jnp.float32(2.0))
    y, after = calibrated_matmul(x, w, b, running, spec=SPEC, momentum=0.5)
    expected, pre_noise = lumina_jax.optical_matmul(
        x, w, b, spec=SPEC, x_full_scale=1.0, y_full_scale=2.0, return_pre_noise=True
    )
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(after.x, 0.5 + 0.5 * jnp.max(jnp.abs(x)), rtol=1e-6)
    np.testing.assert_allclose(after.y, 1.0 + 0.5 * jnp.max(jnp.abs(pre_noise)), rtol=1e-6)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_broken_batch_is_loud_and_leaves_no_trace(broken: float) -> None:
    x, w, b = operands()
    running = Ranges(x=jnp.float32(1.0), y=jnp.float32(2.0))
    y, after = calibrated_matmul(jnp.full_like(x, broken), w, b, running, spec=SPEC, momentum=0.5)
    assert jnp.all(jnp.isnan(y))
    np.testing.assert_array_equal(after, running)
    one_row = x.at[2, 1].set(broken)
    y, after = calibrated_matmul(one_row, w, b, running, spec=SPEC, momentum=0.5)
    np.testing.assert_array_equal(jnp.isnan(y).any(1), np.arange(7) == 2)
    assert all(jnp.isfinite(r) for r in after)


def test_converters_that_are_off_keep_nothing() -> None:
    x, w, b = operands()
    spec = lumina_jax.OpticalSpec()
    y, after = calibrated_matmul(x, w, b, Ranges(), spec=spec, momentum=0.9)
    assert after == Ranges(x=None, y=None)
    # Two orders of summation over five products.
    np.testing.assert_allclose(
        y, np.asarray(x) @ np.asarray(w) + np.asarray(b), rtol=1e-5, atol=1e-6
    )


def test_attenuation_scales_the_weights_and_not_the_bias() -> None:
    x, w, b = operands()
    spec = lumina_jax.OpticalSpec()
    y, _ = calibrated_matmul(x, w, b, Ranges(), spec=spec, attenuation=0.5)
    expected, _ = calibrated_matmul(x, 0.5 * w, b, Ranges(), spec=spec)
    np.testing.assert_array_equal(y, expected)


def test_gain_multiplies_the_full_scales_and_is_differentiated() -> None:
    x, w, b = operands()
    running = Ranges(x=jnp.float32(2.0), y=jnp.float32(1.0))

    def chain(gain: Ranges) -> jax.Array:
        return calibrated_matmul(x, w, b, running, spec=SPEC, gain=gain)[0].sum()

    def direct(x_scale: jax.Array, y_scale: jax.Array) -> jax.Array:
        return lumina_jax.optical_matmul(
            x, w, b, spec=SPEC, x_full_scale=x_scale, y_full_scale=y_scale
        ).sum()

    gain = Ranges(x=jnp.float32(-0.5), y=jnp.float32(0.25))
    scales = (running.x * jnp.exp(gain.x), running.y * jnp.exp(gain.y))
    value, grads = jax.value_and_grad(chain)(gain)
    expected, expected_grads = jax.value_and_grad(direct, argnums=(0, 1))(*scales)
    np.testing.assert_array_equal(value, expected)
    for got, per_scale, scale in zip(grads, expected_grads, scales, strict=True):
        assert got != 0
        np.testing.assert_allclose(got, per_scale * scale, rtol=1e-6)


def test_ranges_are_constants_to_the_gradient() -> None:
    x, w, b = operands()
    fixed = Ranges(x=jnp.max(jnp.abs(x)), y=jnp.float32(4.0))
    partly = fixed._replace(x=jnp.float32(0.0))

    def loss(x: jax.Array, running: Ranges) -> jax.Array:
        return jnp.sum(calibrated_matmul(x, w, b, running, spec=SPEC)[0] ** 2)

    np.testing.assert_array_equal(jax.grad(loss)(x, partly), jax.grad(loss)(x, fixed))


def test_vmap_takes_ranges_per_example() -> None:
    x, w, b = operands()
    batch = jnp.stack([x, 3.0 * x])

    def one(x: jax.Array) -> tuple[jax.Array, Ranges]:
        return calibrated_matmul(x, w, b, UNCALIBRATED, spec=SPEC, momentum=0.9)

    mapped = jax.vmap(one)(batch)
    for i in range(2):
        jax.tree.map(
            lambda got, want, i=i: np.testing.assert_array_equal(got[i], want),
            mapped,
            one(batch[i]),
        )
