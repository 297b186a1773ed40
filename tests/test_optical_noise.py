"""The noise: its definition, its statistics, and what it must not depend on.

The battery draws 10^6 numbers of fixed seeds, so that a failure is a change and never bad luck.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import lumina_jax
from lumina_jax import NoiseModel, OpticalSpec
from noise_oracle import (
    BLOCK,
    GROUP,
    PAIRS,
    Xoshiro256PlusPlus,
    epsilon,
    raw,
    raw_block,
    splitmix64,
)
from operands import call

SEEDS = [0, 1, 0x0123456789ABCDEF]


def draw(seed: int, rows: np.ndarray | range, columns: range) -> np.ndarray:
    """ε of the kernel for those global ids, through the NumPy entry."""
    words = np.array([[seed >> 32, seed & 0xFFFFFFFF]], np.uint32)
    ids = np.arange(columns.start, columns.stop, dtype=np.uint64).astype(np.uint32)
    (eps,) = call("optical_noise", words, np.asarray(rows, np.uint32), ids)
    return eps


# --- definition ---------------------------------------------------------------------------------


def test_known_answers_of_the_generators() -> None:
    gamma, mask = 0x9E3779B97F4A7C15, 2**64 - 1
    mixed = [splitmix64((1234567 + i * gamma) & mask) for i in range(3)]
    assert mixed == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    xoshiro = Xoshiro256PlusPlus([1, 2, 3, 4])
    assert [xoshiro.next() for _ in range(4)] == [
        41943041, 58720359, 3588806011781223, 3591011842654386,
    ]  # fmt: skip


@pytest.mark.parametrize(("seed", "row", "block"), [(0, 0, 0), (2**64 - 1, 2**32 - 1, 7)])
def test_vectorized_oracle_is_the_scalar_one(seed: int, row: int, block: int) -> None:
    assert raw(seed, row, block).tolist() == raw_block(seed, row, block)


@pytest.mark.parametrize("seed", [*SEEDS, 2**64 - 1, 2**32])
@pytest.mark.parametrize("rows", [range(0, 40), range(2**32 - 3, 2**32)])
@pytest.mark.parametrize("columns", [range(0, 700), range(2**24 + 13, 2**24 + 300)])
def test_kernel_draws_the_definition(seed: int, rows: range, columns: range) -> None:
    eps = draw(seed, rows, columns)
    expected = epsilon(seed, rows, columns)
    # Roundings of the f32 polynomials: a relative error of the radius, and an absolute error of
    # the direction. A wrong bit of the integer part would move ε by far more.
    np.testing.assert_allclose(eps, expected, rtol=2e-6, atol=2e-6)


GOLDEN = {
    (0, 0): "bfa4d392 c00734d6 beb9146a 3e2b5432",
    (0, 16): "3f7437d5 bef8d52c bf3d66da 3f5827a2",
    (0, 256): "3facbc23 bdfa0259 3ec9c060 3f3201e1",
    (1, 0): "3f3bfd6a becfcbaa 3f644c56 bfb164f8",
    (1, 16): "3f3eff93 befa5ccc c01b5e78 bfa9f490",
    (1, 256): "bfad68db baba8932 3d68983a 3e9b7a0d",
    (2**32 - 1, 2**32 - 4): "bd1e054f 3e843ef5 3f79c8dc bfce2a72",
}
"""Bits of four columns from (row, column) on, for the seed 0x0123456789abcdef: a change of these
is a change of the noise of every model ever trained."""


@pytest.mark.parametrize(("row", "column"), GOLDEN)
def test_golden_vectors(row: int, column: int) -> None:
    eps = draw(0x0123456789ABCDEF, range(row, row + 1), range(column, column + 4))
    bits = " ".join(f"{word:08x}" for word in eps.view(np.uint32)[0])
    assert bits == GOLDEN[row, column]


# --- statistics ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=SEEDS, ids=hex)
def sample(request: pytest.FixtureRequest) -> np.ndarray:
    """f64[1000, 1000] of one seed."""
    return draw(request.param, range(1000), range(1000)).astype(np.float64)


def test_moments(sample: np.ndarray) -> None:
    z, n = sample.ravel(), sample.size
    scores = {
        "mean": z.mean() * np.sqrt(n),
        "variance": ((z**2).mean() - 1) * np.sqrt(n / 2),
        "third": (z**3).mean() * np.sqrt(n / 15),
        "fourth": ((z**4).mean() - 3) * np.sqrt(n / 96),
        "sixth": ((z**6).mean() - 15) * np.sqrt(n / 10170),
    }
    assert max(map(abs, scores.values())) < 4.4, scores


def test_kolmogorov_smirnov(sample: np.ndarray) -> None:
    statistic = scipy.stats.kstest(sample.ravel(), "norm").statistic
    assert statistic * np.sqrt(sample.size) < 1.95  # p = 1e-3


def test_anderson_darling(sample: np.ndarray) -> None:
    z, n = np.sort(sample.ravel()), sample.size
    weights = 2 * np.arange(1, n + 1) - 1
    tails = scipy.stats.norm.logcdf(z) + scipy.stats.norm.logsf(z[::-1])
    assert -n - (weights * tails).mean() < 5.967  # p = 1e-3


def test_tail_counts(sample: np.ndarray) -> None:
    bands = {3: (2509, 2895), 3.5: (387, 548), 4: (36, 95), 4.5: (0, 18), 5: (0, 5)}
    counts = {limit: int((np.abs(sample) > limit).sum()) for limit in bands}
    assert all(low <= counts[limit] <= high for limit, (low, high) in bands.items()), counts


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """`r·sqrt(n)` of two equal-shaped samples of mean 0 and variance 1."""
    return float(abs((a * b).sum()) / np.sqrt(a.size))


@pytest.mark.parametrize("square", [False, True], ids=["z", "z²"])
@pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])
def test_autocorrelation(sample: np.ndarray, axis: int, square: bool) -> None:
    z = (sample**2 - 1) / np.sqrt(2) if square else sample
    z = np.moveaxis(z, axis, 0)
    lags = [*range(1, 65), BLOCK, 2 * BLOCK]
    scores = {lag: correlation(z[lag:], z[:-lag]) for lag in lags}
    assert max(scores.values()) < 4.9, scores


@pytest.mark.parametrize("square", [False, True], ids=["z", "z²"])
def test_halves_of_a_pair_are_uncorrelated(sample: np.ndarray, square: bool) -> None:
    z = (sample**2 - 1) / np.sqrt(2) if square else sample
    groups = z[:, : z.shape[1] // GROUP * GROUP].reshape(len(z), -1, GROUP)
    cosines, sines = groups[..., :PAIRS], groups[..., PAIRS:]
    assert correlation(cosines, sines) < 4.9
    # A neighbor's sine must be as foreign as the own one.
    assert correlation(cosines, np.roll(sines, 1, axis=-1)) < 4.9


def test_no_value_is_infinite_and_none_repeats_along_a_row(sample: np.ndarray) -> None:
    assert np.isfinite(sample).all()
    assert np.abs(sample).max() <= 6.66
    assert len({row.tobytes() for row in sample}) == len(sample)
    blocks = sample[:, : 3 * BLOCK].reshape(-1, BLOCK)
    assert len({block.tobytes() for block in blocks}) == len(blocks)


@pytest.mark.parametrize("what", ["seed", "seed, high word", "row", "block", "lane"])
def test_neighboring_counters_share_no_bits(what: str) -> None:
    count = np.arange(1000, dtype=np.uint64)
    zero, one = np.uint64(0), np.uint64(1)
    if what == "seed":
        a, b = raw(count, zero, zero), raw(count + one, zero, zero)
    elif what == "seed, high word":
        high = one << np.uint64(32)
        a, b = raw(count, zero, zero), raw(count + high, zero, zero)
    elif what == "row":
        a, b = raw(one, count, zero), raw(one, count + one, zero)
    elif what == "block":
        a, b = raw(one, zero, count), raw(one, zero, count + one)
    else:
        lanes = raw(one, count, zero).reshape(1000, -1, 8)
        a, b = lanes[..., :-1], lanes[..., 1:]
    flips = np.bitwise_count(a ^ b)
    assert flips.size >= 1e5
    assert abs(flips.mean() - 32) < 0.1
    assert abs(flips.var() - 16) < 0.4


def test_p_values_across_keys_are_uniform() -> None:
    p_values = [
        scipy.stats.kstest(draw(seed, range(20), range(250)).ravel(), "norm").pvalue
        for seed in range(200)
    ]
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("relation", ["neighbor seed", "fold_in", "split", "high word"])
def test_keys_of_layers_and_steps_are_independent(relation: str) -> None:
    root = jax.random.key(7)
    if relation == "fold_in":
        keys = [jax.random.fold_in(root, step) for step in range(6)]
    elif relation == "split":
        keys = list(jax.random.split(root, 6))
    elif relation == "high word":
        keys = [jax.random.wrap_key_data(jnp.array([high, 7], jnp.uint32)) for high in range(6)]
    else:
        keys = [jax.random.key(seed) for seed in range(6)]
    draws = [np.asarray(lumina_jax.optical_noise(key, (400, 300)), np.float64) for key in keys]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert correlation(a, b) < 4.9
            assert correlation((a**2 - 1) / np.sqrt(2), (b**2 - 1) / np.sqrt(2)) < 4.9
            # The same stream one row or one column on would be a shared counter.
            assert correlation(a[1:], b[:-1]) < 4.9
            assert correlation(a[:, 1:], b[:, :-1]) < 4.9


# --- invariance ---------------------------------------------------------------------------------


THREADS = """
import hashlib
import numpy as np
from operands import SEED, Bits, backward, call, draw, forward, random_operands
import jax
import jax.numpy as jnp
from lumina_jax import NoiseModel, OpticalSpec, optical_matmul

op = random_operands(np.random.default_rng(0), (259, 70, 300), Bits(dac=5), noise="all")
out, linear = forward(op, Bits(dac=5), noisy=True)
results = [draw(SEED, np.arange(300), np.arange(259)), out]
results += backward(out, linear, op, Bits(dac=5), noisy=True)
noise, key = NoiseModel(relative=0.1, shot=0.1, thermal=0.1, weight=0.1), jax.random.key(0)
loss = lambda x, w: (optical_matmul(x, w, spec=OpticalSpec(), noise=noise, key=key) ** 2).sum()
value, gradient = jax.jit(jax.value_and_grad(loss, (0, 1)))(op.x, op.w)
results += [jax.jit(lambda x, w: optical_matmul(x, w, spec=OpticalSpec(), noise=noise, key=key))
            (op.x, op.w), *gradient]
for result in results:
    print(hashlib.sha256(np.ascontiguousarray(result)).hexdigest())
"""
"""Prints digests of what the kernels compute in rayon's pool (NumPy) and in XLA's (jit)."""


def test_number_of_threads_changes_no_bit() -> None:
    path = os.pathsep.join(map(str, [Path(__file__).parent, *sys.path]))
    digests = set()
    for threads in (1, 2, 7):
        # XLA takes the size of its pool from PJRT_NPROC, where there is one device.
        sizes = {"RAYON_NUM_THREADS": str(threads), "PJRT_NPROC": str(threads)}
        environment = {**os.environ, **sizes, "XLA_FLAGS": "", "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1
    assert len(digests.pop().split()) == 12


@pytest.mark.parametrize("start", [1, 15, 31, 32, 33, 255, 256, 257, 511])
@pytest.mark.parametrize("width", [1, 31, 33, 300])
def test_any_window_of_columns_is_a_slice_of_the_whole(start: int, width: int) -> None:
    whole = draw(3, range(5), range(0, 900))
    window = draw(3, range(5), range(start, start + width))
    np.testing.assert_array_equal(window, whole[:, start : start + width])


@pytest.mark.parametrize("split", [1, 2, 7, 63, 64])
def test_any_split_of_the_batch_draws_the_same(split: int) -> None:
    whole = draw(3, range(65), range(70))
    parts = [draw(3, range(65)[i : i + split], range(70)) for i in range(0, 65, split)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_row_ids_may_come_in_any_order() -> None:
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(draw(3, order, range(9)), draw(3, range(50), range(9))[order])


def test_seed_per_row() -> None:
    seeds = np.random.default_rng(1).integers(0, 2**32, (6, 2), dtype=np.uint32)
    rows, columns = np.arange(6, dtype=np.uint32), np.arange(40, dtype=np.uint32)
    (eps,) = call("optical_noise", seeds, rows, columns)
    for i in range(6):
        (row,) = call("optical_noise", seeds[i : i + 1], rows[i : i + 1], columns)
        np.testing.assert_array_equal(eps[i : i + 1], row)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_empty(shape: tuple[int, int]) -> None:
    assert lumina_jax.optical_noise(jax.random.key(0), shape).shape == shape


def test_numpy_seed_is_the_key_of_that_seed() -> None:
    for seed in (0, 5, 2**32 - 1):
        eps = lumina_jax.optical_noise(jax.random.key(seed), (9, 300))
        np.testing.assert_array_equal(eps, draw(seed, range(9), range(300)))


def test_every_kind_of_key_is_accepted() -> None:
    new = lumina_jax.optical_noise(jax.random.key(3), (4, 5))
    old = lumina_jax.optical_noise(jax.random.PRNGKey(3), (4, 5))
    np.testing.assert_array_equal(new, old)
    for implementation in ("rbg", "unsafe_rbg"):
        keys = [jax.random.key(seed, impl=implementation) for seed in (3, 4)]
        a, b = (np.asarray(lumina_jax.optical_noise(key, (4, 5))) for key in keys)
        assert not np.isin(a, b).any()


IDEAL = OpticalSpec(dac_bits=None, weight_bits=None, adc_bits=None)
UNIT = NoiseModel(relative=0.0, shot=0.0, thermal=1.0, weight=0.0)


def noise_of_matmul(key: jax.Array, rows: int, columns: int) -> jax.Array:
    """ε as `optical_matmul` adds it: the output of dark inputs with unit thermal noise."""
    x, w = jnp.zeros((rows, 3), jnp.float32), jnp.ones((3, columns), jnp.float32)
    return lumina_jax.optical_matmul(x, w, spec=IDEAL, noise=UNIT, key=key)


@pytest.mark.parametrize("shape", [(1, 1), (7, 33), (65, 257)])
def test_optical_matmul_draws_optical_noise(shape: tuple[int, int]) -> None:
    key = jax.random.key(11)
    np.testing.assert_array_equal(
        noise_of_matmul(key, *shape), lumina_jax.optical_noise(key, shape)
    )


def test_vmap_over_keys() -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    both = {
        "noise": lambda key: lumina_jax.optical_noise(key, (4, 35)),
        "matmul": lambda key: noise_of_matmul(key, 4, 35),
    }
    for name, f in both.items():
        mapped = jax.vmap(f)(keys)
        stacked = jnp.stack([f(key) for key in keys])
        np.testing.assert_array_equal(mapped, stacked, err_msg=name)


@pytest.mark.parametrize("key_axis", [0, None], ids=["batched key", "shared key"])
def test_vmap_over_inputs(key_axis: int | None) -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((3, 4, 5)), jnp.float32)
    w = jnp.asarray(rng.standard_normal((5, 35)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 3) if key_axis == 0 else jax.random.key(0)
    noise = NoiseModel(relative=0.1, shot=0.2, thermal=0.3, weight=0.1)

    def f(x: jax.Array, key: jax.Array) -> jax.Array:
        return lumina_jax.optical_matmul(x, w, spec=IDEAL, noise=noise, key=key)

    mapped = jax.vmap(f, in_axes=(0, key_axis))(x, keys)
    stacked = jnp.stack([f(x[i], keys[i] if key_axis == 0 else keys) for i in range(3)])
    np.testing.assert_array_equal(mapped, stacked)


@pytest.mark.parametrize("spec", [("d", None), (None, "d"), ("d", "e")], ids=str)
def test_sharded_noise_is_the_noise_of_the_whole(spec: tuple[str | None, ...]) -> None:
    shape = (2, 2) if "e" in spec else (4, 1)
    mesh = Mesh(np.array(jax.devices()).reshape(shape), ("d", "e"), axis_types=(AxisType.Auto,) * 2)
    rows, columns = spec
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 6)).astype(np.float32)
    w = rng.standard_normal((6, 1040)).astype(np.float32)
    noise = NoiseModel(relative=0.1, shot=0.2, thermal=0.3, weight=0.1)
    key = jax.random.key(2)

    @jax.jit
    def f(x: jax.Array, w: jax.Array) -> jax.Array:
        return lumina_jax.optical_matmul(x, w, spec=IDEAL, noise=noise, key=key)

    whole = f(x, w)
    sharded = f(
        jax.device_put(x, NamedSharding(mesh, PartitionSpec(rows, None))),
        jax.device_put(w, NamedSharding(mesh, PartitionSpec(None, columns))),
    )
    assert len(sharded.sharding.device_set) == 4
    np.testing.assert_array_equal(sharded, whole)


# --- end to end ---------------------------------------------------------------------------------

KINDS = {
    "thermal": NoiseModel(relative=0.0, shot=0.0, thermal=0.17, weight=0.0),
    "shot": NoiseModel(relative=0.0, shot=0.31, thermal=0.0, weight=0.0),
    "relative": NoiseModel(relative=0.6, shot=0.0, thermal=0.0, weight=0.0),
    "weight": NoiseModel(relative=0.0, shot=0.0, thermal=0.0, weight=0.12),
    "all": NoiseModel(relative=0.2, shot=0.1, thermal=0.1, weight=0.05),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_of_a_noisy_constant(kind: str, bits: int) -> None:
    noise, full_scale, y = KINDS[kind], 1.0, 0.3
    x, w = jnp.ones((1000, 2), jnp.float32), jnp.full((2, 1000), y / 2, jnp.float32)
    out = lumina_jax.optical_matmul(
        x, w, spec=OpticalSpec(dac_bits=None, weight_bits=None, adc_bits=bits),
        y_full_scale=full_scale, noise=noise, key=jax.random.key(bits),
    )  # fmt: skip
    sigma = np.sqrt(
        noise.thermal**2 + noise.shot**2 * y + noise.relative**2 * y**2 + noise.weight**2 * 2
    )
    q = 2 ** (bits - 1) - 1
    codes = np.rint(np.asarray(out, np.float64) * q / full_scale).astype(int)
    observed = np.bincount(codes.ravel() + q, minlength=2 * q + 1)
    edges = (np.arange(-q, q) + 0.5) * full_scale / q
    cdf = np.concatenate([[0], scipy.stats.norm.cdf((edges - y) / sigma), [1]])
    expected = np.diff(cdf) * codes.size
    # The chi-square law needs a few expected counts in each cell: the tails are pooled.
    kept = expected >= 10
    observed = np.append(observed[kept], observed[~kept].sum())
    expected = np.append(expected[kept], expected[~kept].sum())
    nonempty = expected > 0
    assert observed[~nonempty].sum() == 0
    result = scipy.stats.chisquare(observed[nonempty], expected[nonempty], sum_check=False)
    assert result.pvalue > 1e-4
