"""Channels do not know of each other, no method is worse than "absmax", and zeros stay zeros."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_jax.quantizer import (
    DynamicRangeEstimator,
    LayerSensitivity,
    WeightQuantizer,
    allocate_bits,
    bits_for_power,
    bits_for_snr,
    error_feedback,
)

METHODS = ("absmax", "percentile", "optimal", "lut")
LENGTH = 12
TINY = float(np.finfo(np.float32).tiny)
RNG = np.random.default_rng(0)
CHANNELS = {
    "zeros": np.zeros(LENGTH),
    "negative zeros": np.full(LENGTH, -0.0),
    "constant": np.full(LENGTH, -7.0),
    "one sign": RNG.uniform(1, 2, LENGTH),
    "two values": np.tile([-90.0, 30.0], LENGTH // 2),
    "normal": RNG.normal(size=LENGTH),
    "sparse": np.where(np.arange(LENGTH) == 3, 0.5, 0.0),
    "outlier": np.where(np.arange(LENGTH) == 5, -1e20, RNG.normal(size=LENGTH)),
    "small": 1e-25 * RNG.normal(size=LENGTH),
    "subnormal": np.full(LENGTH, 1e-42),
    "huge": np.linspace(-1.7e38, 1.2e38, LENGTH),
}


def restored(q: WeightQuantizer, w: np.ndarray, bits: int) -> np.ndarray:
    params = q.calibrate(w, bits=bits)
    return np.asarray(q.dequantize(q.quantize(w, params), params), np.float64)


def errors(q: WeightQuantizer, w: np.ndarray, bits: int) -> np.ndarray:
    """Mean squared error of each column."""
    return np.mean((restored(q, w, bits) - w) ** 2, axis=0)


def test_a_dead_channel_in_front() -> None:
    w = np.float32([[0, -90], [0, -30], [0, 30], [0, 90]])
    assert errors(WeightQuantizer("absmax", axis=1), w, 2).tolist() == [0.0, 450.0]
    # Four values are four levels.
    assert errors(WeightQuantizer(axis=1), w, 2).max() < 1e-9
    signed = errors(WeightQuantizer(axis=1, affine=False), w, 2)
    assert 0 < signed[1] <= 450


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(CHANNELS)), min_size=1, max_size=5),
    st.sampled_from([1, 2, 3, 4, 8]),
    st.sampled_from([50.0, 99.9]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_no_channel_is_worse_than_absmax_nor_depends_on_the_others(
    names: list[str], bits: int, percentile: float, affine: bool, random: Any
) -> None:
    w = np.stack([CHANNELS[name] for name in names], axis=1).astype(np.float32)
    place = random.sample(range(len(names)), len(names))
    reference = errors(WeightQuantizer("absmax", axis=1), w, bits)
    for method in METHODS:
        q = WeightQuantizer(method, axis=1, percentile=percentile, affine=affine)
        found = restored(q, w, bits)
        assert np.isfinite(found).all()
        error = np.mean((found - w) ** 2, axis=0)
        # Rounding of the levels to f32, and of what XLA takes for zero.
        assert (error <= reference * (1 + 1e-5) + (2 * TINY) ** 2).all(), (method, names)
        dead = [i for i, name in enumerate(names) if "zeros" in name]
        assert not found[:, dead].any()
        np.testing.assert_array_equal(restored(q, w[:, place], bits), found[:, place])
        with np.errstate(all="raise"):
            np.testing.assert_array_equal(restored(q, w, bits), found)
        alone = restored(
            WeightQuantizer(method, percentile=percentile, affine=affine), w[:, 0], bits
        )
        np.testing.assert_array_equal(alone, found[:, 0])


def test_merged_neighbors_do_not_cost_what_absmax_has() -> None:
    """More values than k-means keeps apart, of which two lie far from all others."""
    w = np.concatenate([np.linspace(-1, 1, 1 << 17), [500.0, 1000.0]]).astype(np.float32)
    assert errors(WeightQuantizer("lut"), w[:, None], 2) <= errors(
        WeightQuantizer("absmax"), w[:, None], 2
    )


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(set(CHANNELS) - {"huge", "outlier"})), min_size=2, max_size=4),
    st.sampled_from(METHODS),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([None, 0, 1]),
    st.sets(st.integers(0, LENGTH - 1), max_size=4),
)
def test_feedback_makes_no_output_worse_than_the_nearest_levels(
    names: list[str], method: Any, bits: int, axis: int | None, dark: set[int]
) -> None:
    w = np.stack([CHANNELS[name] for name in names], axis=1).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(40, LENGTH)).astype(np.float32)
    x[:, sorted(dark)] = 0  # inputs that carry nothing
    q = WeightQuantizer(method, axis=axis)
    params = q.calibrate(w, bits=bits)

    def of_outputs(codes: jax.Array) -> np.ndarray:
        delta = np.asarray(q.dequantize(codes, params), np.float64) - w
        return np.sum((x.astype(np.float64) @ delta) ** 2, axis=0)

    codes = error_feedback(w, params, x)
    nearest = of_outputs(q.quantize(w, params))
    assert (of_outputs(codes) <= nearest * (1 + 1e-9) + (20 * TINY) ** 2).all()
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(error_feedback(w, params, x), codes)


def test_an_output_gains_by_feedback_whatever_the_others_do() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, 16)) @ rng.normal(size=(16, 16))
    w = rng.normal(size=(16, 3)).astype(np.float32)
    w[:, 1] = 0
    params = WeightQuantizer(axis=1).calibrate(w, bits=3)
    codes = error_feedback(w, params, x)
    np.testing.assert_array_equal(
        codes[:, :1],
        error_feedback(w[:, :1], WeightQuantizer(axis=1).calibrate(w[:, :1], bits=3), x),
    )


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize(
    ("state", "least", "most"),
    [
        ({}, 8, 8),
        ({"snr_db": 20.0}, 4, 4),
        ({"noise_std": 0.01}, 1, 1),
        ({"noise_std": 0.0}, 16, 16),
        ({"noise_std": 0.0, "temperature_k": 77.0}, 16, 16),
        ({"noise_std": 0.0, "power_budget_mw": 1.0}, 4, 4),
    ],
)
def test_bits_of_zeros(state: dict[str, float], least: int, most: int, axis: int | None) -> None:
    w = np.zeros((3, 2), np.float32)
    seen = DynamicRangeEstimator(axis=axis).update(w, noise=w)
    assert least <= WeightQuantizer().calibrate(w, state).bits <= most
    assert 1 <= WeightQuantizer(estimator=seen).calibrate(w, state).bits <= 16


def test_snr_of_nothing() -> None:
    silent = DynamicRangeEstimator().update(np.zeros(3))
    assert silent.snr_db(0.0) == np.inf
    assert silent.snr_db(1.0) == -np.inf
    assert DynamicRangeEstimator().update(np.ones(3)).snr_db(0.0) == np.inf
    assert DynamicRangeEstimator().update([]).full_scale == 0
    with pytest.raises(
        ValueError, match=r"snr_db: `noise_std` must not be negative or NaN, got -1"
    ):
        silent.snr_db(-1.0)
    assert bits_for_snr(np.inf) == 16
    assert bits_for_snr(-np.inf) == 1
    assert bits_for_snr(20.0, loss_db=1e6) == 1
    assert bits_for_power(1e-300, energy_per_step_fj=1e-300, rate_hz=1.0) == 16


TOO_LARGE = r"calibrate: `weights` has magnitudes up to 3e\+38, expected at most 1.7e\+38"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: WeightQuantizer().calibrate([3e38]), ValueError, TOO_LARGE),
        (
            lambda: WeightQuantizer().calibrate([], {"noise_std": 0}),
            ValueError,
            "at least one value",
        ),
        (
            lambda: WeightQuantizer().calibrate([0.0], {"power_budget_mw": 1e-9}),
            ValueError,
            r"calibrate: `hardware_state\['power_budget_mw'\]` is 1e-09, expected at least 0.1 mW",
        ),
        (
            lambda: DynamicRangeEstimator().update(1j * np.ones(2)),
            TypeError,
            "`signal` must be an array of real numbers, got complex64",
        ),
        (
            lambda: DynamicRangeEstimator().update([1.0], noise=["a"]),
            TypeError,
            "`noise` must be an array of real numbers",
        ),
        (
            lambda: allocate_bits(
                lambda p, x: x @ p["a"]["kernel"] / 0,
                [np.ones((1, 2), np.float32)],
                budget=8,
                params={"a": {"kernel": np.ones((2, 2), np.float32)}},
            ),
            ValueError,
            "the squared gradients of 'a' on `calibration_batches` are inf, expected a `model`",
        ),
        (
            lambda: allocate_bits(
                lambda p, x: x @ p["a"]["kernel"],
                [np.ones((0, 2), np.float32)],
                budget=8,
                params={"a": {"kernel": np.ones((2, 2), np.float32)}},
            ),
            ValueError,
            "the squared gradients of 'a' on `calibration_batches` are nan, expected a `model`",
        ),
        (
            lambda: allocate_bits(
                lambda p, x: x,
                [np.ones((1, 2), np.float32)],
                budget=8,
                params={"a": {"kernel": np.full((2, 2), np.nan, np.float32)}},
            ),
            ValueError,
            r"allocate_bits: `params\['a'\]` has NaN or infinite values, expected finite f32",
        ),
    ],
)
def test_errors_name_what_the_caller_passed(
    call: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


def test_bits_across_layers_of_any_size() -> None:
    """What a layer holds, and in which unit, is no business of the others."""

    def apply(params: Any, x: jax.Array) -> Any:
        # Each layer has outputs of its own, so that none scales another.
        return [x @ params[name]["kernel"] for name in ("dead", "huge", "normal")]

    rng = np.random.default_rng(0)
    normal = rng.normal(size=(8, 4)).astype(np.float32)
    params = {
        name: {"kernel": jnp.asarray(kernel)}
        for name, kernel in {
            "dead": np.zeros((8, 4), np.float32),
            "huge": np.float32(1e38) * normal / np.abs(normal).max(),
            "normal": normal,
        }.items()
    }
    x = rng.normal(size=(16, 8)).astype(np.float32)
    found = allocate_bits(apply, [x], budget=32 * 17, params=params)
    assert found.bits == {"dead": 1, "huge": 8, "normal": 8}
    assert math.isfinite(found.loss)
    with np.errstate(all="raise"):
        assert allocate_bits(apply, [x], budget=32 * 17, params=params) == found
    layers = [
        LayerSensitivity(name="dead", size=10, gain=0.0),
        LayerSensitivity(name="tiny", size=10, gain=1e-300, variance=1e-300),
        LayerSensitivity(name="live", size=10, gain=1.0),
    ]
    with np.errstate(all="raise"):
        assert allocate_bits(layers, budget=100).bits["live"] == 8


def test_reprs_are_short_whatever_they_hold() -> None:
    w = np.random.default_rng(0).normal(size=(300, 200)).astype(np.float32)
    for method in METHODS:
        params = WeightQuantizer(method, axis=0).calibrate(w, bits=3)
        assert re.fullmatch(
            r"QuantizerParams\(3 bits, (codes \(-\d, 3\)|a look-up table), 300 on axis 0, "
            r"mse [\d.e-]+\)",
            repr(params),
        )
    seen = DynamicRangeEstimator(axis=0).update(w)
    assert repr(seen) == (
        "DynamicRangeEstimator(axis 0, momentum None, full_scale f32[300], signal_power f32[300])"
    )
    # Neither what is traced nor a placeholder has a value to show.
    assert jax.jit(lambda p: len(repr(p)))(params) < 100
    assert "mse" not in repr(jax.tree.map(lambda _: None, params))
    found = allocate_bits([LayerSensitivity(name="a<b", size=10, gain=1.0)], budget=80)
    assert str(found).splitlines()[1] == "a<b   8"
    assert "<td>a&lt;b</td><td>8</td>" in found._repr_html_()


def test_layouts(tmp_path: Path) -> None:
    w = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    np.save(tmp_path / "w.npy", np.asfortranarray(w))
    q = WeightQuantizer(axis=1)
    params = q.calibrate(w, bits=4)
    codes = np.asarray(q.quantize(w, params))
    x = np.random.default_rng(1).normal(size=(20, 6))
    for same in (
        w.astype(">f4"),
        w.astype(np.float64),
        np.repeat(np.repeat(w, 2, 0), 3, 1)[::2, ::3],
        np.load(tmp_path / "w.npy", mmap_mode="r"),
    ):
        found = q.calibrate(same, bits=4)
        np.testing.assert_array_equal(found.scale, params.scale)
        np.testing.assert_array_equal(q.quantize(same, found), codes)
        np.testing.assert_array_equal(
            error_feedback(same, found, x.astype(">f8")), error_feedback(w, params, x)
        )
        seen = DynamicRangeEstimator(axis=1).update(same, noise=same)
        np.testing.assert_array_equal(seen.full_scale, np.abs(w).max(axis=0))
    np.testing.assert_array_equal(
        q.dequantize(codes.astype(">i4"), params), q.dequantize(codes, params)
    )
