"""Allocation of streams to slots, and channel compression."""

from __future__ import annotations

import itertools
import re
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, quadratic_assignment

from lumina_jax import physics
from lumina_jax.physics import Receiver
from lumina_jax.planner import (
    CompressionError,
    Grid,
    Objective,
    Ring,
    WDMPlanner,
    _exact,
    _objectives,
    allocate,
    compress,
    stream_enob,
)

OBJECTIVES = get_args(Objective)
RING = Ring(q=1e4, fsr_m=57e-9)


def slow_cost(powers: Any, coupling: Any, order: Any, objective: str) -> float:
    """J as it is written down."""
    n = len(powers)
    terms = np.zeros((n, n))
    for i, j in itertools.permutations(range(n), 2):
        weight = {
            "snr": powers[j] / powers[i],
            "max": powers[j] / powers[i],
            "product": powers[i] * powers[j],
            "total": powers[j],
        }[objective]
        terms[i, j] = weight * coupling[order[i]][order[j]]
    return float(terms.sum(axis=1).max() if objective == "max" else terms.sum())


def least_cost(powers: np.ndarray, coupling: np.ndarray, objective: str) -> float:
    """The least J of all orders."""
    n, slots = len(powers), len(coupling)
    orders = np.fromiter(
        itertools.chain.from_iterable(itertools.permutations(range(slots), n)), np.intp
    ).reshape(-1, n)
    received = np.zeros((len(orders), n))
    for i, j in itertools.permutations(range(n), 2):
        weight = {"product": powers[i] * powers[j], "total": powers[j]}.get(
            objective, powers[j] / powers[i]
        )
        received[:, i] += weight * coupling[orders[:, i], orders[:, j]]
    return float((received.max(axis=1) if objective == "max" else received.sum(axis=1)).min())


def instance(seed: int, n: int, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Powers over 30 dB, and a coupling that is a comb, symmetric or neither."""
    random = np.random.default_rng(seed)
    powers = 10 ** random.uniform(-3, 0, n) if seed % 2 else random.uniform(0.5, 1, n)
    if seed % 3 == 0:
        index = np.arange(slots)
        coupling = 1 / (1 + (2 * random.uniform(0.5, 3) * np.subtract.outer(index, index)) ** 2)
    else:
        coupling = random.random((slots, slots))
        if seed % 3 == 1:
            coupling = coupling + coupling.T
    return powers, coupling


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("part", range(4))
def test_equal_to_brute_force(objective: Objective, part: int) -> None:
    """200 instances per objective; the few of eight streams on nine slots are apart."""
    for seed in range(50 * part, 50 * part + 50):
        random = np.random.default_rng([seed, 1])
        n = int(random.integers(1, 9))
        slots = n + int(random.integers(0, {7: 2, 8: 1}.get(n, 3)))
        powers, coupling = instance(seed, n, slots)
        order, cost = allocate(powers, coupling, objective, seed=seed)
        assert cost == pytest.approx(slow_cost(powers, coupling, order, objective), rel=1e-9)
        assert cost == pytest.approx(least_cost(powers, coupling, objective), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(3))
def test_eight_streams_on_nine_slots(objective: Objective, seed: int) -> None:
    powers, coupling = instance(seed, 8, 9)
    order, cost = allocate(powers, coupling, objective)
    assert sorted(set(order.tolist())) == sorted(order.tolist())
    assert cost == pytest.approx(least_cost(powers, coupling, objective), rel=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_streams_that_can_be_exchanged(objective: Objective) -> None:
    """Equal streams and nearly equal slots: the least that a search can drop."""
    coupling = np.random.default_rng(0).uniform(0.9, 1, (9, 9))
    for powers in (np.ones(8), np.repeat([1.0, 2.0], 4)):
        cost = allocate(powers, coupling, objective)[1]
        assert cost == pytest.approx(least_cost(powers, coupling, objective), rel=1e-9)


@pytest.mark.parametrize("objective", ["snr", "max", "product"])
def test_the_search_finds_the_least_from_any_order(objective: Objective) -> None:
    """Descent alone would do for so few streams, so the search is given a bad order."""
    for seed in range(40):
        random = np.random.default_rng([seed, 2])
        n = int(random.integers(2, 6))
        powers, coupling = instance(seed, n, n + seed % 3)
        if seed % 4 == 0:
            powers[1:] = powers[0]
        np.fill_diagonal(coupling, 0)
        weights = _objectives.influence("test", powers, objective)
        orders = [random.permutation(len(coupling))[:n] for _ in range(10)]
        bad = max(orders, key=lambda order: slow_cost(powers, coupling, order, objective))
        order = _exact.search(weights, coupling, bad, worst=objective == "max")
        cost = slow_cost(powers, coupling, order, objective)
        assert cost == pytest.approx(least_cost(powers, coupling, objective), rel=1e-9), seed


def test_the_bound_of_the_search_is_the_least_that_a_stream_can_receive() -> None:
    for seed in range(5):
        powers, coupling = instance(seed, 4, 5)
        np.fill_diagonal(coupling, 0)
        weights = _objectives.influence("test", powers, "snr")
        least = np.full((4, 5), np.inf)
        for order in itertools.permutations(range(5), 4):
            got = _objectives.received(weights, coupling, np.array(order))
            at = range(4), order
            least[at] = np.minimum(least[at], got)
        np.testing.assert_allclose(_exact._least(weights, coupling), least, rtol=1e-12)


@pytest.mark.parametrize("slots", [3, 12, 64, 200])
def test_total_is_the_linear_assignment(slots: int) -> None:
    powers, coupling = instance(4, slots, slots)
    np.fill_diagonal(coupling, 0)
    costs = powers[:, None] * coupling.sum(axis=0)[None, :]
    want = costs[linear_sum_assignment(costs)].sum()
    assert allocate(powers, coupling, "total")[1] == pytest.approx(want, rel=1e-12)


def influence(powers: np.ndarray, objective: str) -> np.ndarray:
    ratio = powers[None, :] / powers[:, None]
    weights = np.outer(powers, powers) if objective == "product" else ratio
    np.fill_diagonal(weights, 0)
    return weights


# Least costs of 100 scipy 2-opt restarts, `rng` = 0 … 99, for `large(seed)`.
TWO_OPT_100 = {
    ("snr", 0): 44.87651363678839,
    ("snr", 1): 3684.750577552836,
    ("product", 0): 74.62863892258127,
    ("product", 1): 3116.9538939831373,
}


def large(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """64 streams of log-normal power; a Lorentzian comb, or random and asymmetric."""
    random = np.random.default_rng(seed)
    powers = np.exp(random.normal(size=64))
    if seed % 2:
        coupling = random.random((64, 64))
    else:
        coupling = 1 / (1 + 4.0 * np.subtract.outer(np.arange(64), np.arange(64)) ** 2)
    np.fill_diagonal(coupling, 0)
    return powers, coupling


@pytest.mark.parametrize("objective", ["snr", "product"])
@pytest.mark.parametrize("seed", [0, 1])
def test_many_streams(objective: Objective, seed: int) -> None:
    powers, coupling = large(seed)
    order, cost = allocate(powers, coupling, objective)
    assert cost == pytest.approx(slow_cost(powers, coupling, order, objective), rel=1e-9)
    weights = influence(powers, objective)
    assert (
        cost
        <= quadratic_assignment(
            weights, coupling, method="faq", options={"rng": np.random.default_rng(0)}
        ).fun
    )
    assert cost <= 1.001 * TWO_OPT_100[objective, seed]


def test_many_streams_worst() -> None:
    powers, coupling = large(0)
    order, cost = allocate(powers, coupling, "max")
    assert cost == pytest.approx(slow_cost(powers, coupling, order, "max"), rel=1e-9)
    by_power = np.argsort(np.argsort(powers))
    assert cost <= slow_cost(powers, coupling, by_power, "max")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_many_slots_to_spare(objective: Objective) -> None:
    powers, coupling = instance(3, 20, 32)
    order, cost = allocate(powers, coupling, objective)
    assert len(set(order.tolist())) == 20
    # No exchange of two streams, and no move to a free slot, is better.
    free = [slot for slot in range(32) if slot not in order]
    for i in range(20):
        for k in range(i):
            other = order.copy()
            other[[i, k]] = order[[k, i]]
            assert slow_cost(powers, coupling, other, objective) >= cost * (1 - 1e-9)
        for slot in free:
            other = order.copy()
            other[i] = slot
            assert slow_cost(powers, coupling, other, objective) >= cost * (1 - 1e-9)


def test_same_seed_same_order() -> None:
    powers, coupling = instance(5, 30, 30)
    one, two = (allocate(powers, coupling, "product", seed=3)[0] for _ in range(2))
    np.testing.assert_array_equal(one, two)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from(OBJECTIVES))
def test_relabeling_streams_changes_nothing(seed: int, objective: Objective) -> None:
    powers, coupling = instance(seed, 5, 6)
    shuffle = np.random.default_rng(seed).permutation(5)
    cost = allocate(powers, coupling, objective)[1]
    assert allocate(powers[shuffle], coupling, objective)[1] == pytest.approx(cost, rel=1e-9)
    turn = np.random.default_rng(seed).permutation(6)
    turned = coupling[np.ix_(turn, turn)]
    assert allocate(powers, turned, objective)[1] == pytest.approx(cost, rel=1e-9)


NAN = float("nan")
EYE = np.eye(2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1, -1], EYE), ValueError, "allocate: `powers` must not be negative, got -1"),
        (([1, 0], EYE), ValueError, "`powers` must be above 0 for objective 'snr', got 0"),
        (([1, NAN], EYE), ValueError, "`powers` has NaN or infinite values"),
        (([[1], [2, 3]], EYE), ValueError, "`powers` is ragged"),
        (([[1, 2]], EYE), ValueError, "`powers` has shape (1, 2), expected [n] with n >= 1"),
        (([], EYE), ValueError, "`powers` has shape (0,)"),
        ((["a"], EYE), TypeError, "`powers` is of type <U1, expected real numbers"),
        (([1, 2], [[1, 2], [3]]), ValueError, "`coupling` is ragged"),
        (([1, 2], [[1, 2]]), ValueError, "`coupling` has shape (1, 2), expected [slots, slots]"),
        (([1, 2], [[1, NAN], [0, 1]]), ValueError, "`coupling` has NaN"),
        (([1, 2], -EYE), ValueError, "`coupling` must not be negative, got -1"),
        (([1, 2, 3], EYE), ValueError, "`coupling` has 2 slots, expected at least one for each"),
        (([1, 2], EYE, "sum"), ValueError, "`objective` is 'sum', expected one of 'snr'"),
        (([1, 2], EYE, "snr", 0.5), TypeError, "`seed` must be an int, got 0.5"),
        (([1, 2], EYE, "snr", -1), ValueError, "`seed` must not be negative, got -1"),
        (
            ([1.0, 1e200, 1e-200], np.ones((3, 3))),
            ValueError,
            "allocate: `powers` of streams 2 and 1 are too far apart, got 1e-200 and 1e+200, "
            "expected ratios that f64 holds",
        ),
        (([5e-324, 1], EYE, "max"), ValueError, "`powers` of streams 0 and 1 are too far apart"),
        (
            ([1, 1e200], 1e200 * (1 - EYE)),
            ValueError,
            "`coupling` must be smaller for these `powers`, whose cost f64 does not hold, "
            "got 1e+200",
        ),
        (
            ([1e200, 1e200], EYE, "product"),
            ValueError,
            "`powers` must be smaller for objective 'product', whose cost f64 does not hold, "
            "got 1e+200",
        ),
    ],
)
def test_bad_allocation(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        allocate(*arguments)


def test_compression_follows_the_closed_form() -> None:
    """The middle of many channels of equal power, far below the finesse."""
    ring = Ring(q=1e6, fsr_m=57e-9)
    for target in (2.0, 4.0, 6.0):
        spacing = compress(
            np.arange(401), np.ones(401), ring=ring, enob_target=target, receiver=None
        )
        sinad = float(physics.enob_to_sinad_db(target))
        assert float(physics.sir_db(spacing)) == pytest.approx(sinad, abs=0.02)


def test_compression_of_two_streams() -> None:
    """By hand: 1/SINAD = (p_j/p_i)²/(1 + 4s²)², infinite finesse to a part in 1e5."""
    ring = Ring(q=1e6, fsr_m=57e-9)
    spacing = compress([0, 1], [1.0, 4.0], ring=ring, enob_target=5.0, receiver=None)
    sinad = 10 ** ((6.02 * 5 + 1.76) / 10)
    assert spacing == pytest.approx(np.sqrt((4 * np.sqrt(sinad) - 1) / 4), rel=1e-5)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 12))
def test_compression_is_monotone_and_tight(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    order, powers = random.permutation(n), 1e-3 * 10 ** random.uniform(-1, 0, n)
    receiver = physics.Receiver(bandwidth_hz=1e9)
    before = 0.0
    for target in (1.0, 2.0, 3.0, 4.0):
        spacing = compress(order, powers, ring=RING, enob_target=target, receiver=receiver)
        assert spacing >= before
        before = spacing

        def worst(s: float) -> float:
            coupling = RING.transmission(s * np.subtract.outer(np.arange(n), np.arange(n)))
            return float(stream_enob(powers, coupling, order, receiver).min())

        assert worst(spacing) >= target - 1e-9
        if spacing > 4e9 / RING.fwhm_hz * (1 + 1e-9):
            assert worst(spacing * (1 - 1e-6)) < target


def test_effective_bits() -> None:
    """A stream alone has those of the receiver; another one costs (p_j/p_i)²·X²."""
    receiver = physics.Receiver(bandwidth_hz=1e9)
    alone = stream_enob(np.array([1e-3]), np.eye(1), np.array([0]), receiver)
    assert alone[0] == pytest.approx(float(receiver.enob(1e-3)), rel=1e-6)
    coupling = np.array([[1.0, 0.1], [0.2, 1.0]])
    both = stream_enob(np.array([1.0, 3.0]), coupling, np.array([0, 1]), None)
    leaked = np.array([3 * 0.1, 0.2 / 3])
    np.testing.assert_allclose(both, (-20 * np.log10(leaked) - 1.76) / 6.02)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"powers": [1, -2]}, ValueError, "stream_enob: `powers` must not be negative, got -2"),
        ({"powers": [1, 0]}, ValueError, "`powers` must be above 0, got 0"),
        ({"powers": [1, NAN]}, ValueError, "`powers` has NaN or infinite values"),
        ({"powers": [[1, 2]]}, ValueError, "`powers` has shape (1, 2), expected [n] with n >= 1"),
        ({"powers": ["a"]}, TypeError, "`powers` is of type <U1, expected real numbers"),
        ({"powers": [1e-200, 1]}, ValueError, "`powers` of streams 0 and 1 are too far apart"),
        ({"coupling": [[1, 2]]}, ValueError, "`coupling` has shape (1, 2), expected [slots, slots"),
        ({"coupling": -EYE}, ValueError, "`coupling` must not be negative, got -1"),
        ({"order": [0]}, ValueError, "`order` has shape (1,), expected (2,)"),
        ({"order": [0, 2]}, ValueError, "`order` names slot 2, expected less than 2"),
        ({"receiver": 3}, TypeError, "`receiver` is of type int, expected a Receiver or None"),
    ],
)
def test_bad_effective_bits(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"powers": [1, 2], "coupling": EYE, "order": [0, 1], "receiver": None}
    with pytest.raises(error, match=re.escape(message)):
        stream_enob(**arguments | changes)


@pytest.mark.parametrize(
    ("detuning", "error", "message"),
    [
        ("a", TypeError, "Ring.transmission: `detuning` is of type <U1, expected real numbers"),
        (None, TypeError, "`detuning` is of type object, expected real numbers"),
        ([[1], [2, 3]], ValueError, "`detuning` is ragged, expected rows of equal length"),
        ([0, NAN], ValueError, "`detuning` has NaN or infinite values, expected finite ones"),
    ],
)
def test_bad_detuning(detuning: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        RING.transmission(detuning)


def test_baud_rate_is_a_lower_limit() -> None:
    arguments: dict[str, Any] = {"ring": RING, "enob_target": 0.5, "receiver": None}
    assert compress([0], [1.0], **arguments) == 0.0
    assert compress([0], [1.0], baud_hz=1e10, **arguments) == pytest.approx(2e10 / RING.fwhm_hz)
    spacing = compress([0, 1], [1.0, 1.0], baud_hz=1e11, **arguments)
    assert spacing == pytest.approx(2e11 / RING.fwhm_hz)
    receiver = physics.Receiver(bandwidth_hz=5e10)
    by_receiver = compress([0, 1], [1.0, 1.0], ring=RING, enob_target=0.5, receiver=receiver)
    assert by_receiver == pytest.approx(spacing)


@pytest.mark.parametrize(
    ("changes", "limit", "message"),
    [
        ({"enob_target": 12.0}, "FSR", "the FSR limits: 300 channels in 367.7 linewidths have"),
        ({"baud_hz": 2e10}, "baud", "the baud rate limits: 300 channels of 2·2e+10 Hz"),
        ({"temperature_swing_k": 1.0}, "drift budget", "the drift budget limits: 1 K is more than"),
        (
            {"receiver": physics.Receiver(bandwidth_hz=1e9), "powers": np.full(300, 1e-8)},
            "receiver noise",
            "receiver noise limits: stream 0 has",
        ),
    ],
)
def test_what_limits(changes: dict[str, Any], limit: str, message: str) -> None:
    arguments: dict[str, Any] = {
        "order": np.arange(300),
        "powers": np.ones(300),
        "ring": RING,
        "enob_target": 1.5,
        "receiver": None,
    }
    assert 0 < compress(**arguments) < RING.finesse / 300
    with pytest.raises(CompressionError, match=re.escape(message)) as caught:
        compress(**arguments | changes)
    assert caught.value.limit == limit


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"order": [0, 0]}, ValueError, "`order` must name distinct slots from 0, got [0, 0]"),
        ({"order": [0]}, ValueError, "`order` has shape (1,), expected (2,)"),
        ({"order": [0.0, 1.0]}, TypeError, "`order` is of type float64, expected integers"),
        ({"powers": [1, 0]}, ValueError, "compress: `powers` must be above 0, got 0"),
        ({"powers": [1, -2]}, ValueError, "`powers` must not be negative, got -2"),
        ({"powers": [1e-200, 1]}, ValueError, "compress: `powers` of streams 0 and 1 are too far"),
        ({"ring": 3}, TypeError, "`ring` is of type int, expected a Ring"),
        ({"receiver": 3}, TypeError, "`receiver` is of type int, expected a Receiver or None"),
        ({"enob_target": 0}, ValueError, "`enob_target` must be above 0, got 0"),
        ({"enob_target": 17}, ValueError, "`enob_target` must be at most 16, got 17"),
        ({"enob_target": NAN}, ValueError, "`enob_target` must be finite, got nan"),
        ({"enob_target": "4"}, TypeError, "`enob_target` must be a number, got '4'"),
        ({"baud_hz": -1}, ValueError, "`baud_hz` must be at least 0, got -1"),
        ({"temperature_swing_k": -1}, ValueError, "`temperature_swing_k` must be at least 0"),
    ],
)
def test_bad_compression(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "order": [0, 1],
        "powers": [1, 2],
        "ring": RING,
        "enob_target": 2,
        "receiver": None,
    }
    with pytest.raises(error, match=re.escape(message)):
        compress(**arguments | changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Grid(first=-1931), "Grid: `first` must be from -1930 to 1915 for 16 slots, got"),
        (lambda: Grid(first=10**400), "Grid: `first` must be from -1930 to 1915 for 16 slots, got"),
        (lambda: Grid(slots=10**9), "Grid: `slots` must be from 1 to 65536, got 1000000000"),
        (lambda: RING.tolerance_k(-5000), "Ring.tolerance_k: `bits` must be at least 0, got -5000"),
        (
            lambda: RING.transmission(1.7e308),
            "Ring.transmission: `detuning` must be at most 1e+30 linewidths, got 1.7e+308",
        ),
        (
            lambda: stream_enob([1e-300], [[1]], [0], Receiver(bandwidth_hz=1e9)),
            "stream_enob: `powers` must be from 1.18e-38 to 1e+06 W at a receiver, got 1e-300",
        ),
        (
            lambda: compress(
                [0], [1e9], ring=RING, enob_target=4, receiver=Receiver(bandwidth_hz=1e9)
            ),
            "compress: `powers` must be from 1.18e-38 to 1e+06 W at a receiver, got 1e+09",
        ),
        (
            lambda: stream_enob([1], [[1]], [0], Receiver(bandwidth_hz=np.array([1e9, 2e9]))),
            "stream_enob: `receiver` has figures that are arrays, expected numbers",
        ),
        (
            lambda: WDMPlanner(ring=RING, grid=Grid(slots=4), power_w=1e30),
            "WDMPlanner: `power_w` must be from 1e-25 to 1e+06, got 1e+30",
        ),
        (
            lambda: WDMPlanner(ring=RING, grid=Grid(slots=4), enob_target=1e300),
            "WDMPlanner: `enob_target` must be at most 53, got 1e+300",
        ),
    ],
)
def test_what_no_bus_has(call: Any, message: str) -> None:
    with np.errstate(all="raise"), pytest.raises(ValueError, match=re.escape(message)):
        call()
