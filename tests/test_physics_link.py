"""The link budget and its table, and the noise of signed multiply-accumulates."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumina_jax import HardwareProfile, physics
from lumina_jax.physics import (
    LinkBudget,
    Receiver,
    link_enob,
    published_receiver,
    scaling_table,
    sensitivity_w,
)

RATES = (1e9, 5e9, 10e9)


def _oracle(organization: str, rate: float, bits: int) -> int:
    """N of the source's equations, in float64, by trying the sensitivities and the N in turn."""
    q, kt, r, dark, load, rin = 1.6e-19, 0.0259 * 1.6e-19, 1.2, 35e-9, 50.0, 1e-14
    best = None
    for tenth in range(-400, 200):
        current = r * 1e-3 * 10 ** (tenth / 100)
        lit = 2 * q * (current + dark) + 4 * kt / load + current**2 * rin
        unlit = 2 * q * dark + 4 * kt / load
        noise = (math.sqrt(lit) + math.sqrt(unlit)) * math.sqrt(rate / math.sqrt(2))
        enob = (20 * math.log10(current / noise) - 1.76) / 6.02
        if best is None or abs(enob - bits) < best[0]:
            best = (abs(enob - bits), tenth / 10)
    assert best is not None
    penalty = {"AMW": 5.8, "MAW": 4.8, "MWA": 1.8}[organization]
    n = 0
    while True:
        m = n + 1
        power = (
            10 - 1.6 - 0.3 * m * 0.02 - 4 - 0.01 * (m - 1)
            - (10 * math.log10(m) + 0.01 * math.log2(m))
            - 0.01 - 0.01 * (m - 1) - penalty
        )  # fmt: skip
        if power < best[1] - 1e-9:
            return n
        n = m


@pytest.fixture(scope="module")
def table() -> dict[tuple[str, float], tuple[int, ...]]:
    return physics.scaling_table()


@pytest.mark.parametrize("organization", ["AMW", "MAW", "MWA"])
@pytest.mark.parametrize("rate", RATES)
def test_scaling_table(
    table: dict[tuple[str, float], tuple[int, ...]], organization: str, rate: float
) -> None:
    assert table[organization, rate] == tuple(_oracle(organization, rate, b) for b in (1, 2, 3, 4))


def test_scaling_table_is_monotone(table: dict[tuple[str, float], tuple[int, ...]]) -> None:
    assert len(table) == 9
    for organization in physics.PENALTY_DB:
        for slow, fast in itertools.pairwise(RATES):
            pairs = zip(table[organization, slow], table[organization, fast], strict=True)
            assert all(n > m for n, m in pairs)
        for rate in RATES:
            row = table[organization, rate]
            assert list(row) == sorted(row, reverse=True)
            assert len(set(row)) == len(row)
    for rate in RATES:
        columns = zip(*(table[o, rate] for o in ("AMW", "MAW", "MWA")), strict=True)
        assert all(amw < maw < mwa for amw, maw, mwa in columns)


def test_table_of_the_documentation(table: dict[tuple[str, float], tuple[int, ...]]) -> None:
    text = (Path(__file__).parents[1] / "docs" / "physics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (AMW|MAW|MWA) \| (.*) \|$", text, re.MULTILINE)
    written = {
        (organization, rate): tuple(int(n) for n in cell.split(","))
        for organization, cells in rows
        for rate, cell in zip(RATES, cells.split("|"), strict=True)
    }
    assert written == table


def test_sensitivities_of_the_presets() -> None:
    # Each preset has the sensitivity of a whole number of bits, to 0.1 dB.
    for name, bits in (("lumina_nano_v1", 3), ("lumina_micro_v1", 4),
                       ("edge_ultra_low_power", 2), ("datacenter_high_precision", 6)):  # fmt: skip
        profile = HardwareProfile.preset(name)
        watts = physics.sensitivity_w(
            bits, profile.converters.symbol_rate_hz, receiver=profile.receiver
        )
        expected = profile.detector.sensitivity_dbm
        assert float(physics.w_to_dbm(watts)) == pytest.approx(expected, abs=0.06)


@given(st.floats(0.5, 6), st.floats(1e8, 1e10))
def test_sensitivity_is_the_inverse_of_link_enob(bits: float, rate: float) -> None:
    receiver = Receiver(bandwidth_hz=rate, rin_db_per_hz=-150.0)
    power = physics.sensitivity_w(bits, rate, receiver=receiver)
    assert float(physics.link_enob(power, rate, receiver=receiver)) == pytest.approx(bits, abs=1e-4)


def test_unreachable_resolution() -> None:
    receiver = Receiver(bandwidth_hz=1e9)
    # RIN alone leaves SNR = 1/(RIN·rate/√2), 51.5 dB at 1 GS/s.
    limit = (10 * math.log10(1e14 / (1e9 / math.sqrt(2))) - 1.76) / 6.02
    message = (
        "sensitivity_w: `enob` of 9 is out of reach at any power, "
        f"expected less than {limit:.2f}, which is what the RIN of the laser leaves"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        physics.sensitivity_w(9, 1e9, receiver=receiver)
    assert float(jax.jit(lambda b: physics.sensitivity_w(b, 1e9, receiver=receiver))(9.0)) == np.inf
    bits = [float(physics.link_enob(p, 1e9, receiver=receiver)) for p in (1e-3, 1e-1, 10.0)]
    assert bits == sorted(bits)
    assert bits[-1] == pytest.approx(limit, abs=0.01)


def test_link_is_differentiable() -> None:
    receiver = Receiver(bandwidth_hz=1e9)
    gradient = jax.grad(lambda r: physics.link_enob(1e-5, 5e9, receiver=r))(receiver)
    assert float(gradient.load_ohm) > 0
    assert float(gradient.dark_current_a) < 0
    budget = LinkBudget()
    slope = jax.grad(budget.output_dbm)(16.0)
    step = budget.output_dbm(16.5) - budget.output_dbm(15.5)
    assert float(slope) == pytest.approx(float(step), rel=1e-3)
    assert float(budget.output_w(1)) == pytest.approx(
        1e-3 * 10 ** (float(budget.output_dbm(1)) / 10), rel=1e-5
    )


def test_max_channels() -> None:
    budget = LinkBudget()
    assert budget.max_channels(20.0) == 0
    for sensitivity in (-5.0, -20.0, -30.0):
        n = budget.max_channels(sensitivity)
        assert float(budget.output_dbm(n)) >= sensitivity - 1e-4
        assert float(budget.output_dbm(n + 1)) < sensitivity


def test_tia_in_the_link() -> None:
    quiet = Receiver(bandwidth_hz=1e9, tia_a_per_rthz=5e-12)
    loaded = Receiver(bandwidth_hz=1e9)
    need, more = (physics.sensitivity_w(3, 1e9, receiver=r) for r in (quiet, loaded))
    assert float(need) < float(more)


# Signed multiply-accumulates.


def test_ring_mac_is_poisson() -> None:
    rng = np.random.default_rng(1)
    x, w = rng.uniform(0, 1, 6), rng.uniform(-1, 1, 6)
    n_max = 1e4
    drop = rng.poisson(n_max * x * (1 + w) / 2, (200_000, 6))
    through = rng.poisson(n_max * x * (1 - w) / 2, (200_000, 6))
    y = (drop - through).sum(axis=1) / n_max
    assert y.mean() == pytest.approx(float(x @ w), abs=1e-3)
    # The standard error of a variance of 2e5 samples is 0.3 %.
    expected = float(physics.ring_mac_variance(x, n_max)[0])
    assert y.var() == pytest.approx(expected, rel=0.02)


def test_arms_mac_is_poisson() -> None:
    rng = np.random.default_rng(2)
    x, w = rng.uniform(0, 1, 6), rng.uniform(-1, 1, (6, 1))
    n_max = 1e4
    light = rng.poisson(n_max * x * np.abs(w[:, 0]), (200_000, 6))
    y = (light * np.sign(w[:, 0])).sum(axis=1) / n_max
    expected = float(physics.arms_mac_variance(x, w, n_max)[0])
    assert y.var() == pytest.approx(expected, rel=0.02)


def test_homodyne_mac_is_poisson() -> None:
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=4), rng.normal(size=(4, 1))
    n_mac = 1e4
    # Both fields carry half of the photons of all products.
    a = x / np.linalg.norm(x) * math.sqrt(4 * n_mac / 2)
    b = w[:, 0] / np.linalg.norm(w) * math.sqrt(4 * n_mac / 2)
    plus = rng.poisson((a + b) ** 2 / 2, (200_000, 4))
    minus = rng.poisson((a - b) ** 2 / 2, (200_000, 4))
    scale = np.linalg.norm(x) * np.linalg.norm(w) / (4 * n_mac)
    y = (plus - minus).sum(axis=1) * scale
    assert y.mean() == pytest.approx(float(x @ w[:, 0]), abs=0.01)
    expected = float(physics.homodyne_mac_variance(x, w, n_mac)[0])
    assert y.var() == pytest.approx(expected, rel=0.02)


def test_mac_shapes() -> None:
    x, w = jnp.ones((2, 3, 4)), jnp.ones((4, 5))
    assert physics.ring_mac_variance(x, 10.0).shape == (2, 3, 1)
    assert physics.arms_mac_variance(x, w, 10.0).shape == (2, 3, 5)
    assert physics.homodyne_mac_variance(x, w, 10.0).shape == (2, 3, 5)
    assert physics.weight_noise_std(x, 0.5).shape == (2, 3, 1)
    np.testing.assert_allclose(physics.weight_noise_std(x, 0.5), 1.0)
    gradient = jax.grad(lambda x: physics.weight_noise_std(x, 0.5).sum())(jnp.zeros(4))
    np.testing.assert_array_equal(gradient, 0)


def test_balanced_noise() -> None:
    receiver = Receiver(bandwidth_hz=1e9, rin_db_per_hz=-130.0)
    even = float(physics.balanced_noise(1e-3, 1e-3, receiver=receiver))
    # Laser noise cancels, shot noise does not, and there are two dark currents and one load.
    shot = float(receiver.shot_noise(2e-3))
    dark = float(receiver.dark_noise(photodiodes=2))
    assert even == pytest.approx(math.hypot(shot, dark), rel=1e-5)
    odd = float(physics.balanced_noise(2e-3, 0.0, receiver=receiver))
    rin = 2.4e-3 * math.sqrt(1e-13 * 1e9)
    assert odd == pytest.approx(math.hypot(even, rin), rel=1e-5)
    leaky = float(physics.balanced_noise(1e-3, 1e-3, receiver=receiver, cmrr_db=20.0))
    assert leaky == pytest.approx(math.hypot(even, rin / 10), rel=1e-5)


def test_homodyne_current() -> None:
    receiver = Receiver(bandwidth_hz=1e9)
    current = physics.homodyne_current(1e-6, 1e-3, 0.0, receiver=receiver)
    assert float(current) == pytest.approx(2 * 1.2 * math.sqrt(1e-9), rel=1e-5)
    quadrature = physics.homodyne_current(1e-6, 1e-3, math.pi / 2, receiver=receiver)
    assert float(quadrature) == pytest.approx(0, abs=1e-6 * float(current))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: physics.link_enob(0.0, 1e9, receiver=Receiver(bandwidth_hz=1e9)), ValueError,
         "link_enob: `power_w` must be above 0, got 0.0"),
        (lambda: LinkBudget(modulator_db=-1.0), ValueError,
         "LinkBudget: `modulator_db` must be at least 0.0, got -1.0"),
        (lambda: LinkBudget(laser_dbm="10"), TypeError,  # type: ignore[arg-type]
         "LinkBudget: `laser_dbm` must be a real number, got '10'"),
        (lambda: LinkBudget().output_dbm(0), ValueError,
         "LinkBudget.output_dbm: `channels` must be at least 1, got 0"),
        (lambda: physics.scaling_table(organizations=["WAM"]), ValueError,
         "scaling_table: unknown `organizations` entry 'WAM', expected AMW, MAW, MWA"),
        (lambda: physics.scaling_table(bits=[17]), ValueError,
         "scaling_table: `bits` must be from 1 to 16, got 17"),
        (lambda: physics.ring_mac_variance([-1.0], 10.0), ValueError,
         "ring_mac_variance: `x` must be at least 0, got [-1.]"),
        (lambda: physics.arms_mac_variance([1.0, 2.0], np.ones((3, 1)), 10.0), ValueError,
         "arms_mac_variance: `w` has shape (3, 1), expected (k, n) with k the last extent of `x`, "
         "which has shape (2,)"),
        (lambda: physics.balanced_noise(-1e-3, 0.0, receiver=Receiver(bandwidth_hz=1e9)),
         ValueError, "balanced_noise: `plus_w` must be at least 0, got -0.001"),
        (lambda: HardwareProfile().receiver, ValueError,
         "HardwareProfile.receiver: `converters.symbol_rate_hz` is None, expected the rate"),
    ],
)  # fmt: skip
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 4}, "`bits` must be a sequence, got 4"),
        ({"symbol_rates_hz": 1e9}, "`symbol_rates_hz` must be a sequence, got 1000000000.0"),
        ({"symbol_rates_hz": [[1e9]]}, "`symbol_rates_hz` has shape (1,), expected a scalar"),
        ({"symbol_rates_hz": [1e30]}, "`symbol_rates_hz` must be at most 1"),
        ({"organizations": "AMW"}, "`organizations` must be a sequence, got 'AMW'"),
        ({"organizations": [[]]}, "unknown `organizations` entry [], expected AMW"),
        ({"grid_db": [1.0]}, "`grid_db` has shape (1,), expected a scalar"),
        ({"budget": 3}, "`budget` is of type int, expected a LinkBudget or None"),
    ],
)
def test_tables_of_nothing(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(f"scaling_table: {message}")):
        scaling_table(**arguments)


@pytest.mark.parametrize("call", [link_enob, sensitivity_w])
def test_what_is_no_receiver(call: Any) -> None:
    with pytest.raises(TypeError, match="`receiver` is of type str, expected a Receiver"):
        call(1e-3, 1e9, receiver="x")
    with pytest.raises(ValueError, match="`elementary_charge_c` must be at most 2e-19"):
        call(1e-3, 1e9, receiver=published_receiver(), elementary_charge_c=1.0)


def test_extremes_of_a_budget() -> None:
    lossless = LinkBudget(**{field.name: 0.0 for field in fields(LinkBudget)})
    # 1e30 inputs: the power that each gets is as far below that of the laser.
    assert lossless.max_channels(-300.0) == pytest.approx(1e30, rel=1e-4)
    for name in ("laser_dbm", "edge_coupler_db", "ring_pitch_mm"):
        with pytest.raises(ValueError, match=f"LinkBudget: `{name}` must be at most"):
            LinkBudget(**{name: 3e38})
        with pytest.raises(ValueError, match=rf"LinkBudget: `{name}` has shape \(1,\), expected"):
            LinkBudget(**{name: [1.0]})
    with pytest.raises(
        ValueError, match=r"LinkBudget.max_channels: `sensitivity_dbm` must be at l"
    ):
        lossless.max_channels(-1e30)
    with pytest.raises(ValueError, match=r"LinkBudget.output_w: `channels` must leave -300 dBm"):
        LinkBudget().output_w(1e9)
