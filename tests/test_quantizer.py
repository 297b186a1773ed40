"""Bits from the state of the hardware, codes and back, and what is refused."""

from __future__ import annotations

import doctest
import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lumina_jax
from lumina_jax.quantizer import (
    DynamicRangeEstimator,
    QuantizerParams,
    WeightQuantizer,
    bits_for_power,
    bits_for_snr,
    dequantize,
    quantize,
)

METHODS = ("absmax", "percentile", "optimal", "lut")
W = np.random.default_rng(0).laplace(size=(48, 6)).astype(np.float32)


def test_the_page_on_quantization() -> None:
    page = Path(__file__).parents[1] / "docs" / "quantization.md"
    assert doctest.testfile(str(page), module_relative=False).failed == 0


def bits(state: dict[str, Any] | None, **options: Any) -> int:
    return WeightQuantizer("absmax", **options).calibrate(W, state).bits


@pytest.mark.parametrize(
    ("snr_db", "expected"), [(14.0, 3), (16.5, 4), (20.0, 4), (26.0, 5), (40.0, 8)]
)
def test_bits_at_a_loss_of_one_db(snr_db: float, expected: int) -> None:
    assert bits_for_snr(snr_db) == expected
    assert bits({"snr_db": snr_db}) == expected


@given(st.floats(-20, 110), st.floats(0.05, 6))
def test_bits_are_the_fewest_that_keep_the_loss(snr_db: float, loss_db: float) -> None:
    b = bits_for_snr(snr_db, loss_db=loss_db)

    def loss(b: int) -> float:
        return 10 * math.log10(1 + 4 ** ((snr_db - 1.76) / 6.02 - b))

    assert b == 16 or loss(b) <= loss_db + 0.01 + 1e-9
    assert b == 1 or loss(b - 1) > loss_db + 0.01 - 1e-9


@given(st.lists(st.floats(-50, 150), min_size=2, max_size=10))
def test_bits_rise_with_the_snr(snrs: list[float]) -> None:
    found = [bits_for_snr(snr) for snr in sorted(snrs)]
    assert found == sorted(found)
    assert 1 <= found[0] <= found[-1] <= 16


def test_bits_of_the_state() -> None:
    assert bits(None) == bits({}) == 8
    reach = float(np.abs(W).max())
    # A sine of full scale over noise 20 dB below it.
    noise = reach / math.sqrt(2) / 10
    assert bits({"noise_std": noise}) == bits({"snr_db": 20.0}) == 4
    assert bits({"noise_std": 0.0}) == 16
    assert bits({"noise_std": noise, "snr_db": 40.0}) == 4
    assert bits({"snr_db": 20.0, "temperature_k": 300.0}) == 4
    # A quarter of the thermal noise power is 6.02 dB, one bit.
    assert bits({"snr_db": 20.0, "temperature_k": 75.0}) == 5
    assert bits({"temperature_k": 1200.0}) == 7
    assert bits({"snr_db": 40.0, "power_budget_mw": 1.0}) == 4
    assert bits({"snr_db": 14.0, "power_budget_mw": 1.0}) == 3
    assert bits({"snr_db": 40.0}, loss_db=0.25) == 9


def test_given_bits_come_before_the_state() -> None:
    assert WeightQuantizer().calibrate(W, {"snr_db": 20.0}, bits=6).bits == 6
    assert WeightQuantizer("lut").calibrate(W, {"snr_db": 90.0}).bits == 8


@pytest.mark.parametrize("b", range(1, 17))
def test_power_pays_for_bits(b: int) -> None:
    power = 50e-15 * 1e9 * 1e3 * 2.0**b
    assert bits_for_power(power) == b
    assert bits_for_power(1.5 * power) == b
    assert bits_for_power(power, rate_hz=0.5e9) == min(b + 1, 16)


def test_the_estimator_decides_where_it_is_given() -> None:
    rng = np.random.default_rng(1)
    signal = rng.uniform(-1, 1, 20000).astype(np.float32)
    noise = (0.01 / math.sqrt(2) * rng.normal(size=20000)).astype(np.float32)
    seen = DynamicRangeEstimator().update(signal, noise=noise)
    # 40 dB below a sine of amplitude 1.
    np.testing.assert_allclose(seen.snr_db(), 40, atol=0.1)
    assert bits(None, estimator=seen) == 8
    assert bits({"noise_std": 0.1 / math.sqrt(2)}, estimator=seen) == 4
    assert bits({"snr_db": 20.0}, estimator=seen) == 4
    # Its range is that of the signal, and the levels stay those of the weights.
    params = WeightQuantizer("absmax", estimator=seen).calibrate(W, bits=4)
    np.testing.assert_allclose(params.full_scale, np.abs(W).max(), rtol=1e-6)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("method", METHODS)
def test_codes_and_back(method: Any, axis: int | None) -> None:
    q = WeightQuantizer(method, axis=axis)
    params = q.calibrate(W, bits=3)
    codes = q.quantize(W, params)
    restored = q.dequantize(codes, params)
    assert codes.shape == restored.shape == W.shape
    assert codes.dtype == (jnp.uint8 if method == "lut" else jnp.int8)
    assert params.codes[0] <= codes.min()
    assert codes.max() <= params.codes[1]
    np.testing.assert_allclose(params.mse, np.mean((restored - W) ** 2), rtol=1e-5)
    np.testing.assert_array_equal(q.quantize(restored, params), codes)
    channels = () if axis is None else (W.shape[axis],)
    assert params.scale.shape == params.zero_point.shape == channels
    # Slowly: the nearest of all levels.
    every = np.arange(params.codes[0], params.codes[1] + 1, dtype=np.float32)
    scale, zero_point, lut = map(np.asarray, (params.scale, params.zero_point, params.lut))
    restored = np.asarray(restored)
    for index in np.ndindex(W.shape[0], W.shape[1]):
        channel = () if axis is None else (index[axis],)
        uniform = (every - zero_point[channel]) * scale[channel]
        least = np.min(np.abs((uniform if params.lut is None else lut[channel]) - W[index]))
        np.testing.assert_allclose(abs(restored[index] - W[index]), least, rtol=1e-4, atol=1e-6)


def test_codes_follow_the_formula() -> None:
    for affine in False, True:
        q = WeightQuantizer(affine=affine)
        params = q.calibrate(W, bits=4)
        codes = np.asarray(q.quantize(W, params))
        direct = np.round(W / np.float32(params.scale) + np.float32(params.zero_point))
        np.testing.assert_array_equal(codes, np.clip(direct, *params.codes))
        assert 2 * params.zero_point == jnp.round(2 * params.zero_point)
        if not affine:
            assert params.zero_point == 0
            assert params.codes == (-7, 7)


@pytest.mark.parametrize("b", [1, 2, 5, 8, 12, 16])
def test_absmax_has_the_levels_of_the_converter(b: int) -> None:
    q = WeightQuantizer("absmax")
    params = q.calibrate(W, bits=b)
    restored = q.dequantize(q.quantize(W, params), params)
    direct = lumina_jax.quantize(W, bits=b)
    np.testing.assert_allclose(restored, direct, rtol=1e-6)
    np.testing.assert_allclose(params.full_scale, np.abs(W).max(), rtol=1e-6)


def test_the_weight_dac_has_the_levels_of_a_signed_quantizer() -> None:
    q = WeightQuantizer(affine=False, axis=1)
    params = q.calibrate(W, bits=4)
    x = np.random.default_rng(1).normal(size=(5, 48)).astype(np.float32)
    spec = lumina_jax.OpticalSpec(weight_bits=4)
    y = lumina_jax.optical_matmul(x, W, spec=spec, w_full_scale=params.full_scale)
    expected = x @ np.asarray(q.dequantize(q.quantize(W, params), params))
    # Sums of 48 products in f32.
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axis", [None, 1])
def test_jit_and_vmap(method: Any, axis: int | None) -> None:
    q = WeightQuantizer(method, axis=axis)
    params = q.calibrate(W, bits=3)
    codes = q.quantize(W, params)
    np.testing.assert_array_equal(jax.jit(q.quantize)(W, params), codes)
    np.testing.assert_array_equal(jax.jit(q.dequantize)(codes, params), q.dequantize(codes, params))
    stack = jnp.stack([W, 2 * W])
    mapped = jax.vmap(quantize, in_axes=(0, None))(stack, params)
    np.testing.assert_array_equal(mapped[1], quantize(2 * W, params))
    back = jax.vmap(dequantize, in_axes=(0, None))(mapped, params)
    np.testing.assert_array_equal(back[1], dequantize(mapped[1], params))
    leaves, treedef = jax.tree.flatten(params)
    assert isinstance(jax.tree.unflatten(treedef, leaves), QuantizerParams)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("b", [1, 4, 8])
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-36, -1e36])
def test_constant_weights(method: Any, b: int, value: float) -> None:
    w = np.full((5,), value, np.float32)
    q = WeightQuantizer(method)
    params = q.calibrate(w, bits=b)
    restored = np.asarray(q.dequantize(q.quantize(w, params), params))
    np.testing.assert_allclose(restored, w, rtol=1e-5, atol=1e-37)


def test_a_scalar() -> None:
    for method in METHODS:
        q = WeightQuantizer(method)
        params = q.calibrate(np.float32(0.5), bits=4)
        np.testing.assert_allclose(q.dequantize(q.quantize(0.5, params), params), 0.5, rtol=1e-6)


@pytest.mark.parametrize("axis", [None, 1])
def test_estimator_over_batches(axis: int | None) -> None:
    rng = np.random.default_rng(0)
    batches = rng.normal(size=(4, 30, 3)).astype(np.float32)
    noises = rng.normal(size=(4, 30, 3)).astype(np.float32)
    seen = DynamicRangeEstimator(axis=axis)
    for batch, noise in zip(batches, noises, strict=True):
        seen = jax.jit(DynamicRangeEstimator.update)(seen, batch, noise=noise)
    over = (0, 1) if axis is not None else None
    np.testing.assert_allclose(seen.full_scale, np.abs(batches).max(over), rtol=1e-6)
    np.testing.assert_allclose(seen.signal_power, (batches**2).mean(over), rtol=1e-5)
    np.testing.assert_allclose(seen.noise_std, np.sqrt((noises**2).mean(over)), rtol=1e-5)


@settings(max_examples=50)
@given(
    st.floats(0, 0.99),
    st.lists(st.floats(0.125, 1e3, width=32), min_size=1, max_size=5),
)
def test_estimator_with_a_momentum(momentum: float, ranges: list[float]) -> None:
    seen = DynamicRangeEstimator(momentum=momentum)
    expected = ranges[0]
    for i, v in enumerate(ranges):
        seen = seen.update(np.float32([v, -v / 2]), noise=np.float32([v]))
        expected = momentum * expected + (1 - momentum) * v if i else v
    np.testing.assert_allclose(seen.full_scale, expected, rtol=1e-5)


@pytest.mark.parametrize("momentum", [None, 0.5])
def test_estimator_leaves_out_what_is_broken(momentum: float | None) -> None:
    seen = DynamicRangeEstimator(momentum=momentum).update(
        np.float32([1, np.nan, -3, np.inf]), noise=np.float32([np.nan, 2])
    )
    after = seen.update(np.float32([np.nan, np.inf]), noise=np.float32([np.nan]))
    for now in seen, after:
        assert now.full_scale == 3
        np.testing.assert_allclose(now.signal_power, 5.0, rtol=1e-6)
        assert now.noise_std == 2


def broken(value: float) -> np.ndarray:
    w = W.copy()
    w[3, 2] = value
    return w


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: WeightQuantizer("kmeans"), ValueError, r"`method` is 'kmeans', expected one of"),
        (lambda: WeightQuantizer(percentile=0), ValueError, "`percentile` must be positive, got 0"),
        (lambda: WeightQuantizer(percentile=101), ValueError, "at most 100, got 101"),
        (lambda: WeightQuantizer(loss_db=-1), ValueError, "`loss_db` must be positive, got -1"),
        (lambda: WeightQuantizer(loss_db="1"), TypeError, "`loss_db` must be a number, got '1'"),
        (lambda: WeightQuantizer(estimator=3), TypeError, "expected a DynamicRangeEstimator"),
        (lambda: WeightQuantizer(axis=2).calibrate(W), ValueError, "`axis` is 2, expected -2 to 1"),
        (lambda: WeightQuantizer(axis=0.5).calibrate(W), TypeError, "`axis` must be an int"),
        (lambda: bits({"snr": 20}), ValueError, "unknown key 'snr' in `hardware_state`, expected"),
        (lambda: bits([1]), TypeError, "`hardware_state` is list, expected a mapping"),
        (lambda: bits({"snr_db": math.nan}), ValueError, "must be finite, got nan"),
        (lambda: bits({"snr_db": "20"}), TypeError, "must be a number, got '20'"),
        (lambda: bits({"noise_std": -1}), ValueError, "must be at least 0, got -1"),
        (lambda: bits({"temperature_k": 0}), ValueError, "must be positive, got 0"),
        (lambda: bits({"temperature_k": -3}), ValueError, "must be at least 0, got -3"),
        (lambda: bits({"power_budget_mw": 0}), ValueError, "must be positive, got 0"),
        (
            lambda: bits({"power_budget_mw": 0.05}),
            ValueError,
            r"power_budget_mw'\]` is 0.05, expected at least 0.1 mW, which is one bit",
        ),
        (lambda: WeightQuantizer().calibrate(W, bits=0), ValueError, "from 1 to 16, got 0"),
        (lambda: WeightQuantizer().calibrate(W, bits=17), ValueError, "from 1 to 16, got 17"),
        (lambda: WeightQuantizer().calibrate(W, bits=4.0), TypeError, "must be an int, got 4.0"),
        (lambda: WeightQuantizer().calibrate(W, bits=True), TypeError, "an int, got True"),
        (lambda: WeightQuantizer("lut").calibrate(W, bits=9), ValueError, "from 1 to 8, got 9"),
        (lambda: WeightQuantizer().calibrate(broken(np.nan)), ValueError, "`weights` has NaN"),
        (lambda: WeightQuantizer().calibrate(broken(np.inf)), ValueError, "`weights` has NaN"),
        (lambda: WeightQuantizer().calibrate([[1.0], [1.0, 2.0]]), ValueError, "is ragged"),
        (lambda: WeightQuantizer().calibrate(W[:0]), ValueError, "expected at least one value"),
        (lambda: WeightQuantizer().calibrate(W.astype(complex)), TypeError, "real numbers"),
        (lambda: WeightQuantizer().calibrate(["a"]), TypeError, "expected real numbers"),
        (lambda: jax.jit(WeightQuantizer().calibrate)(W), TypeError, "`weights` is traced"),
        (
            lambda: bits(None, estimator=DynamicRangeEstimator()),
            ValueError,
            "`estimator` has seen no signal",
        ),
        (lambda: WeightQuantizer(affine=3), TypeError, "`affine` must be a bool, got 3"),
        (
            lambda: bits_for_snr("x"),  # type: ignore[arg-type]
            TypeError,
            "bits_for_snr: `snr_db` must be a number, got 'x'",
        ),
        (lambda: bits_for_snr(None), TypeError, "`snr_db` must be a number, got None"),
        (lambda: bits_for_snr(math.nan), ValueError, "`snr_db` must be a number, got nan"),
        (lambda: bits_for_snr(20, loss_db=0), ValueError, "`loss_db` must be positive, got 0"),
        (lambda: bits_for_power(1, rate_hz=-1), ValueError, "`rate_hz` must be positive, got -1"),
        (lambda: DynamicRangeEstimator(momentum=1.0), ValueError, r"must be in \[0, 1\), got 1.0"),
        (lambda: DynamicRangeEstimator(axis=3).update(W), ValueError, "`axis` is 3, expected"),
        (
            lambda: DynamicRangeEstimator(axis=0).update(W).update(W[:2]),
            ValueError,
            r"`signal` has channels \(2,\), expected \(48,\)",
        ),
        (lambda: DynamicRangeEstimator().snr_db(1.0), ValueError, "no signal seen yet"),
        (lambda: DynamicRangeEstimator().update(W).snr_db(), ValueError, "no noise seen yet"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_bad_operands_of_the_maps() -> None:
    q = WeightQuantizer(axis=1)
    params = q.calibrate(W, bits=4)
    with pytest.raises(ValueError, match="`weights` has NaN or infinite values"):
        q.quantize(broken(np.nan), params)
    with pytest.raises(ValueError, match=r"`weights` has shape \(48, 5\), expected 6 channels"):
        q.quantize(W[:, :5], params)
    with pytest.raises(ValueError, match=r"`codes` has shape \(48,\), expected 6 channels"):
        q.dequantize(np.zeros(48, np.int8), params)
    with pytest.raises(TypeError, match="`codes` is float32, expected integers"):
        q.dequantize(W, params)


def test_params_of_another_type() -> None:
    q = lumina_jax.WeightQuantizer()
    with pytest.raises(TypeError, match="quantize: `params` is of type int, expected a Quant"):
        q.quantize(np.ones(3, np.float32), 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dequantize: `params` is of type NoneType"):
        q.dequantize(np.ones(3, np.int8), None)  # type: ignore[arg-type]


def test_ragged_weights_of_a_compensation() -> None:
    with pytest.raises(ValueError, match="compensate: `w` is ragged"):
        lumina_jax.compensate([[1.0, 2.0], [3.0]], np.eye(2))  # type: ignore[arg-type]


def test_maps_refuse_what_they_cannot_map() -> None:
    w = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    for method in METHODS:
        quantizer = WeightQuantizer(method=method, axis=1)
        params = quantizer.calibrate(w, bits=4)
        codes = quantizer.quantize(w, params)
        low, high = params.codes
        for call, message in (
            (
                lambda: quantize(w, None),
                "quantize: `params` is of type NoneType, expected",
            ),
            (lambda p=params: quantize(w.T, p), "quantize: `weights` has shape (3, 4), expected 3"),
            (lambda p=params: quantize(w * np.nan, p), "quantize: `weights` must be finite, got"),
            (lambda p=params: quantize(w * 1j, p), "quantize: `weights` must be a real number"),
            (lambda: dequantize(w, None), "dequantize: `codes` is float32, expected integers"),
            (lambda c=codes: dequantize(c, "x"), "dequantize: `params` is of type str, expected"),
            (
                lambda p=params, top=high: dequantize(np.full((4, 3), top + 1), p),
                f"dequantize: `codes` must be from {low} to {high}, got {high + 1} to {high + 1}",
            ),
        ):
            with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}"):
                call()


def test_powers_beyond_f32_are_infinite_and_no_nan() -> None:
    v = np.float32([1e30, -1e30])
    for momentum in (None, 0.5):
        estimator = DynamicRangeEstimator(momentum=momentum)
        for _ in range(3):
            estimator = estimator.update(v, noise=v)
        assert float(estimator.full_scale) == pytest.approx(1e30)
        assert np.isinf(estimator.signal_power)
        # 600 dB, of which the ratio is no number of f32.
        assert float(estimator.snr_db(1e-30)) == pytest.approx(1196.99, abs=0.01)


def test_states_at_the_ends_of_f64() -> None:
    w = np.linspace(-1, 1, 12, dtype=np.float32)
    quantizer = WeightQuantizer(loss_db=np.float16(1), percentile=Decimal("99.5"))
    assert quantizer.percentile == 99.5
    with np.errstate(all="raise"):
        assert quantizer.calibrate(w, {"noise_std": 1e300}).bits == 1
        assert quantizer.calibrate(w, {"temperature_k": 5e-324}).bits == 16
        assert quantizer.calibrate(w, {"temperature_k": 1e300}).bits == 1
