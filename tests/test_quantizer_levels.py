"""The error of the levels that calibration chooses, against slow searches and published optima."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from lumina_jax.quantizer import WeightQuantizer
from lumina_jax.quantizer._kmeans import _by_layers, _prefix, kmeans_1d
from lumina_jax.quantizer._uniform import Uniform, best_uniform, covering

Floats = NDArray[np.float64]

# Unit variance each.
DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "gauss": lambda rng, n: rng.normal(size=n),
    "laplace": lambda rng, n: rng.laplace(size=n) / np.sqrt(2),
    "student": lambda rng, n: rng.standard_t(5, n) / np.sqrt(5 / 3),
    "uniform": lambda rng, n: rng.uniform(-1, 1, n) * np.sqrt(3),
}
BITS = (2, 3, 4, 5, 6, 7, 8)


def sample(distribution: str, n: int, seed: int = 0) -> NDArray[np.float32]:
    return DISTRIBUTIONS[distribution](np.random.default_rng(seed), n).astype(np.float32)


def mse(w: NDArray[np.floating], uniform: Uniform) -> float:
    x = w.astype(np.float64)
    code = np.clip(np.rint(x / uniform.scale + uniform.offset), uniform.lowest, uniform.highest)
    return float(np.mean((x - (code - uniform.offset) * uniform.scale) ** 2))


def search(w: NDArray[np.floating], lowest: int, highest: int, offset: float, count: int) -> float:
    """Least error over a fine grid of scales, each evaluated value by value."""
    reach = float(np.max(np.abs(w)))
    scales = np.geomspace(reach / 200, 2.2 * reach, count) / max(highest - offset, 1)
    return min(mse(w, Uniform(s, offset, lowest, highest)) for s in scales)


def kmeans_by_definition(x: Floats, k: int) -> float:
    """Least sum of squared errors of k runs of the sorted values."""
    x = np.sort(x)
    n = len(x)
    cost = np.full((n + 1, n + 1), np.inf)
    for i in range(n):
        for j in range(i + 1, n + 1):
            cost[i, j] = np.sum((x[i:j] - x[i:j].mean()) ** 2)
    best = cost[0]
    for _ in range(k - 1):
        best = np.min(best[:, None] + cost, axis=0)
    return float(best[n])


def squared_error(x: Floats, centers: Floats) -> float:
    return float(np.sum(np.min((x[:, None] - centers) ** 2, axis=1)))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
def test_optimal_is_the_best_uniform_quantizer(distribution: str, bits: int) -> None:
    w = sample(distribution, 1024)
    q, half = 2 ** (bits - 1) - 1, 2 ** (bits - 1)
    half_offset = search(w, -half, half - 1, -0.5, 4000)
    mid_tread = search(w, -q, q, 0.0, 4000) if bits > 1 else half_offset
    # The grid itself is finite; it may be beaten but not missed.
    assert mse(w, best_uniform(w, bits, affine=False)) <= 1.001 * mid_tread
    assert mse(w, best_uniform(w, bits, affine=True)) <= 1.001 * min(mid_tread, half_offset)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("shift", [0.7, 3.0])
def test_affine_is_the_best_of_all_windows(bits: int, shift: float) -> None:
    w = sample("gauss", 200).astype(np.float64) + shift
    reach, levels = float(np.max(np.abs(w))), 2**bits
    best = np.inf
    for scale in np.geomspace(0.15 * reach / levels, 2.2 * reach, 1500):
        farthest = int(2 * reach / scale) + levels
        for offset in 0.5 * np.arange(-farthest, farthest + 1):
            code = np.clip(np.rint(w / scale + offset), -(levels // 2), levels // 2 - 1)
            best = min(best, float(np.mean((w - (code - offset) * scale) ** 2)))
    assert mse(w, best_uniform(w, bits, affine=True)) <= 1.001 * best


def test_optimal_at_eight_bits_is_within_a_thousandth() -> None:
    w = sample("student", 4096)
    near = covering(float(np.max(np.abs(w))), 8).scale * np.linspace(0.7, 1.05, 3000)
    for affine, lowest, offset in (False, -127, 0.0), (True, -128, -0.5):
        best = min(mse(w, Uniform(s, offset, lowest, 127)) for s in near)
        assert mse(w, best_uniform(w, 8, affine=affine)) <= 1.001 * best


@pytest.mark.parametrize("n", [4096, 65536])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_gains_over_absmax(distribution: str, n: int) -> None:
    w = sample(distribution, n)
    for bits in BITS:
        absmax, optimal, mid_tread = (
            float(q.calibrate(w, bits=bits).mse)
            for q in (
                WeightQuantizer("absmax"),
                WeightQuantizer("optimal"),
                WeightQuantizer("optimal", affine=False),
            )
        )
        assert optimal <= mid_tread * (1 + 1e-6)
        assert mid_tread <= absmax
        if distribution != "uniform" and bits <= 6:
            assert optimal <= 0.85 * absmax


@pytest.mark.parametrize("n", [4096, pytest.param(65536, marks=pytest.mark.slow)])
@pytest.mark.parametrize("distribution", ["gauss", "laplace", "student"])
def test_gains_of_a_table_at_eight_bits(distribution: str, n: int) -> None:
    w = sample(distribution, n)
    absmax, optimal, lut = (
        float(WeightQuantizer(method).calibrate(w, bits=8).mse)
        for method in ("absmax", "optimal", "lut")
    )
    assert lut <= 0.7 * absmax
    assert lut <= optimal


# Max 1960 and numerical integration: (Lloyd–Max, best uniform 2^b, best mid-tread 2^b - 1).
PUBLISHED = {
    ("gauss", 2): (0.11748, 0.11885, 0.19017),
    ("gauss", 3): (0.034548, 0.037440, 0.046860),
    ("gauss", 4): (9.501e-3, 1.1543e-2, 1.2889e-2),
    ("gauss", 6): (6.442e-4, 1.0400e-3, 1.0693e-3),
    ("gauss", 8): (4.119e-5, 8.769e-5, 8.831e-5),
    ("laplace", 4): (1.5373e-2, 2.5351e-2, 2.7395e-2),
    ("student", 4): (1.9874e-2, 3.4823e-2, 3.7665e-2),
}


@pytest.mark.parametrize(("distribution", "bits"), PUBLISHED)
def test_published_optima(distribution: str, bits: int) -> None:
    # Quantiles stand for the distribution, as a sample of heavy tails scatters. They leave out the
    # ends of the tails, so the errors come out lower, the more the heavier the tails.
    laws = {"gauss": stats.norm(), "laplace": stats.laplace(), "student": stats.t(5)}
    law = laws[distribution]
    w = law.ppf((np.arange(65536) + 0.5) / 65536) / law.std()
    centers = kmeans_1d(w, 2**bits)
    nearest = centers[np.searchsorted((centers[1:] + centers[:-1]) / 2, w)]
    found = (
        np.mean((w - nearest) ** 2),
        mse(w, best_uniform(w, bits, affine=True)),
        mse(w, best_uniform(w, bits, affine=False)),
    )
    for got, published in zip(found, PUBLISHED[distribution, bits], strict=True):
        # A table of 256 levels is fitted to as few as 20 values each in the tails.
        least = 0.9 if got == found[0] and bits == 8 else 0.95
        assert least * published <= got <= 1.001 * published


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 2**32 - 1), st.booleans())
def test_kmeans_is_exact(n: int, k: int, seed: int, coarse: bool) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_t(3, n)
    if coarse:
        x = np.round(x)
    centers = kmeans_1d(x, k)
    assert centers.shape == (k,)
    assert np.all(np.diff(centers) >= 0)
    exact = kmeans_by_definition(x, min(k, n))
    assert squared_error(x, centers) == pytest.approx(exact, rel=1e-9, abs=1e-12)


@settings(max_examples=20)
@given(st.integers(17, 60), st.integers(0, 2**32 - 1), st.booleans())
def test_price_and_layers_agree(k: int, seed: int, even: bool) -> None:
    x = np.sort(np.random.default_rng(seed).laplace(size=400))
    x = np.arange(400.0) if even else x - x.mean()
    points = _prefix(x - x.mean(), np.ones(400))
    ends = _by_layers(points, k)
    layers = np.diff(points.s[ends]) / np.diff(points.w[ends]) + x.mean()
    assert squared_error(x, kmeans_1d(x, k)) == pytest.approx(squared_error(x, layers), rel=1e-9)


@settings(max_examples=40)
@given(
    st.integers(1, 10),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["gauss", "shifted", "lattice", "one-sided", "outlier", "sparse", "few"]),
)
def test_never_worse_than_absmax(bits: int, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    w = rng.normal(size=300).astype(np.float32)
    w = {
        "gauss": lambda: w,
        "shifted": lambda: w + np.float32(10),
        "lattice": lambda: np.round(3 * w) * np.float32(0.1),
        "one-sided": lambda: np.abs(w),
        "outlier": lambda: np.append(w, np.float32(1e6)),
        "sparse": lambda: np.where(rng.random(300) < 0.9, np.float32(0), w),
        "few": lambda: w[:3],
    }[kind]()
    for quantizer in (
        WeightQuantizer("optimal"),
        WeightQuantizer("optimal", affine=False),
        *([WeightQuantizer("lut")] if bits <= 8 else []),
    ):
        found = float(quantizer.calibrate(w, bits=bits).mse)
        # A table of single values is the values, rounded to f32 like they are.
        assert found <= float(WeightQuantizer("absmax").calibrate(w, bits=bits).mse) * (1 + 1e-6)


@pytest.mark.parametrize("affine", [False, True])
def test_quantizing_twice_changes_nothing(affine: bool) -> None:
    q = WeightQuantizer(affine=affine)
    for bits in (2, 4, 8):
        params = q.calibrate(sample("laplace", 4096), bits=bits)
        once = q.dequantize(q.quantize(sample("laplace", 4096), params), params)
        again = q.calibrate(once, bits=bits)
        # Rounding of (code - offset)·scale in f32.
        assert float(again.mse) <= 1e-12 * float(np.max(np.abs(once))) ** 2


def test_shifted_weights_use_all_levels() -> None:
    w = np.random.default_rng(0).uniform(100, 101, 4096).astype(np.float32)
    best = WeightQuantizer().calibrate(w, bits=6)
    # The levels must hit the range as a free offset would, up to the f32 spacing at 100.
    assert float(best.mse) <= 1.1 * (1 / 64) ** 2 / 12


def test_channels_are_calibrated_alone() -> None:
    w = sample("laplace", 4 * 300).reshape(300, 4) * np.float32([0.01, 1, 3, 100])
    for method in ("absmax", "percentile", "optimal", "lut"):
        params = WeightQuantizer(method, axis=1).calibrate(w, bits=4)
        alone = [WeightQuantizer(method).calibrate(w[:, i], bits=4) for i in range(4)]
        np.testing.assert_array_equal(params.scale, [p.scale for p in alone])
        np.testing.assert_array_equal(params.zero_point, [p.zero_point for p in alone])
        if method == "lut":
            np.testing.assert_array_equal(params.lut, [p.lut for p in alone])
        np.testing.assert_allclose(params.mse, np.mean([p.mse for p in alone]), rtol=1e-6)
