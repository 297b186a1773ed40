"""Receivers, conversions and converters: the figures of their sources, laws, and errors."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumina_jax import physics
from lumina_jax.physics import Receiver

# f32 arithmetic of a handful of steps.
RTOL = 2e-6
Q = 1.602176634e-19


def test_public_names() -> None:
    assert len(set(physics.__all__)) == len(physics.__all__)
    assert all(hasattr(physics, name) for name in physics.__all__)
    functions = [getattr(physics, name) for name in physics.__all__]
    assert all(f.__doc__ for f in functions if callable(f))


def test_figures_of_the_receiver() -> None:
    # 1 mA, 50 Ω, 300 K, -140 dB/Hz, 10 GHz; to the digits that are quoted.
    assert float(physics.shot_noise(1e-3, 1e10)) == pytest.approx(1.790e-6, abs=5e-10)
    assert float(physics.thermal_noise(50.0, 1e10)) == pytest.approx(1.820e-6, abs=5e-10)
    assert float(physics.rin_noise(1e-3, -140.0, 1e10)) == pytest.approx(10.0e-6, abs=5e-8)
    assert float(physics.responsivity(1.0, 1550e-9)) == pytest.approx(1.250, abs=5e-4)
    assert float(physics.tia_noise(10e-12, 1e10)) == pytest.approx(1e-6, rel=RTOL)


def test_noise_adds_in_squares() -> None:
    receiver = Receiver(bandwidth_hz=1e10, dark_current_a=1e-6)
    power = 0.5e-3
    current = 1.2 * power
    expected = math.sqrt(
        2 * Q * (current + 1e-6) * 1e10
        + 4 * 1.380649e-23 * 300 * 1e10 / 50
        + current**2 * 1e-14 * 1e10
    )
    assert float(receiver.noise(power)) == pytest.approx(expected, rel=RTOL)
    snr_db = 20 * math.log10(current / expected)
    assert float(receiver.snr_db(power)) == pytest.approx(snr_db, rel=RTOL)
    assert float(receiver.enob(power)) == pytest.approx((snr_db - 1.76) / 6.02, rel=RTOL)


def test_snr_of_shot_noise_is_the_number_of_photoelectrons() -> None:
    receiver = Receiver(bandwidth_hz=5e9, dark_current_a=0.0)
    n = receiver.photoelectrons(1e-4)
    assert float(n) == pytest.approx(1.2e-4 / (2 * Q * 5e9), rel=RTOL)
    ratio = receiver.current(1e-4) / receiver.shot_noise(1e-4)
    assert float(ratio) ** 2 == pytest.approx(float(n), rel=1e-5)
    assert float(physics.shot_limited_power(n, receiver=receiver)) == pytest.approx(1e-4, rel=1e-5)


def test_tia_replaces_the_load() -> None:
    quiet = Receiver(bandwidth_hz=1e10, tia_a_per_rthz=0.0, dark_current_a=0.0)
    assert float(quiet.dark_noise()) == 0
    assert float(jax.grad(lambda r: r.dark_noise())(quiet).dark_current_a) == 0
    tia = Receiver(bandwidth_hz=1e10, tia_a_per_rthz=20e-12, dark_current_a=0.0)
    assert float(tia.dark_noise()) == pytest.approx(2e-6, rel=RTOL)


def test_avalanche_photodiode() -> None:
    assert float(physics.excess_noise_factor(1.0, 0.7)) == pytest.approx(1, rel=RTOL)
    assert float(physics.excess_noise_factor(10.0, 0.0)) == pytest.approx(1.9, rel=RTOL)
    assert float(physics.excess_noise_factor(10.0, 1.0)) == pytest.approx(10, rel=RTOL)
    receiver = Receiver(bandwidth_hz=1e9, gain=10.0, ionization=0.2)
    factor = 0.2 * 10 + 0.8 * 1.9
    assert float(receiver.current(1e-6)) == pytest.approx(12e-6, rel=RTOL)
    expected = math.sqrt(2 * Q * 1.2e-6 * 100 * factor * 1e9)
    assert float(receiver.shot_noise(1e-6)) == pytest.approx(expected, rel=RTOL)


def test_receiver_is_differentiable() -> None:
    receiver = Receiver(bandwidth_hz=5e9, tia_a_per_rthz=10e-12)
    gradient = jax.jit(jax.grad(lambda r: r.snr_db(1e-4)))(receiver)
    assert float(gradient.responsivity_a_per_w) > 0
    assert float(gradient.bandwidth_hz) < 0
    assert float(gradient.tia_a_per_rthz) < 0
    # Where only the amplifier makes noise, SNR follows P² and 1/B.
    quiet = Receiver(bandwidth_hz=5e9, dark_current_a=0.0, rin_db_per_hz=-200.0)
    slope = jax.grad(lambda log_p: quiet.snr_db(jnp.exp(log_p)))(math.log(1e-9))
    assert float(slope) == pytest.approx(20 / math.log(10), rel=1e-3)
    powers = jnp.array([1e-6, 1e-5, 1e-4], jnp.float32)
    np.testing.assert_allclose(jax.vmap(receiver.noise)(powers), receiver.noise(powers), rtol=RTOL)


@given(st.floats(-60, 30))
def test_decibels(level: float) -> None:
    watts = physics.dbm_to_w(level)
    assert float(watts) == pytest.approx(1e-3 * 10 ** (level / 10), rel=1e-5)
    # An f32 of up to 60 dB has steps of 4e-6.
    assert float(physics.w_to_dbm(watts)) == pytest.approx(level, abs=2e-5)


def test_decibels_of_light_count_twice() -> None:
    assert float(physics.optical_to_electrical_db(1.0)) == 2
    receiver = Receiver(bandwidth_hz=1e9, dark_current_a=0.0, rin_db_per_hz=-200.0)
    gain = receiver.snr_db(physics.dbm_to_w(-50.0)) - receiver.snr_db(physics.dbm_to_w(-51.0))
    assert float(gain) == pytest.approx(2, abs=1e-2)


def test_enob() -> None:
    assert float(physics.sinad_db_to_enob(49.92)) == pytest.approx(8, rel=RTOL)
    assert float(physics.enob_to_sinad_db(8)) == pytest.approx(49.92, rel=RTOL)
    # Both definitions name the bits of an ideal converter, whose error is LSB/√12.
    for bits in (4, 8, 12):
        std = 2.0 / 2**bits / math.sqrt(12)
        assert float(physics.range_enob(2.0, std)) == pytest.approx(bits, abs=1e-5)
        sine = 20 * math.log10(math.sqrt(0.5) / std)
        assert float(physics.sinad_db_to_enob(sine)) == pytest.approx(bits, abs=0.01)


def test_sinad() -> None:
    assert float(physics.combine_snr_db(20.0)) == pytest.approx(20, rel=RTOL)
    assert float(physics.combine_snr_db(20.0, 20.0)) == pytest.approx(16.9897, rel=1e-5)
    assert float(physics.sinad_db(20.0, -20.0)) == pytest.approx(16.9897, rel=1e-5)
    assert float(physics.combine_snr_db(60.0, 20.0)) < 20


def test_dither() -> None:
    rng = np.random.default_rng(0)
    sigma, lsb = 0.5, 1.0
    y = rng.uniform(-0.5, 0.5, (2000, 1))
    error = np.rint(y + sigma * rng.normal(size=(2000, 500))) - y
    # A million samples: the standard error of a std is 0.07 %.
    assert error.std() == pytest.approx(float(physics.dithered_std(sigma, lsb)), rel=4e-3)


def test_converters() -> None:
    assert float(physics.walden_energy(8.0, 50e-15)) == pytest.approx(12.8e-12, rel=RTOL)
    assert float(physics.walden_power(8.0, 50e-15, 1e9)) == pytest.approx(12.8e-3, rel=RTOL)
    assert float(physics.walden_fom(12.8e-3, 8.0, 1e9)) == pytest.approx(50e-15, rel=RTOL)
    assert float(physics.walden_enob(12.8e-12, 50e-15)) == pytest.approx(8, rel=RTOL)
    limit = 8 * 1.380649e-23 * 300 * 10 ** (4.992)
    assert float(physics.thermal_energy_limit(8.0)) == pytest.approx(limit, rel=1e-5)
    steps = [float(physics.lsb(1.0, b)) for b in (1, 2, 3, 8)]
    assert steps == pytest.approx([2, 1, 1 / 3, 1 / 127], rel=RTOL)


def test_known_values_are_checked_in_jit() -> None:
    with pytest.raises(ValueError, match="shot_noise: `bandwidth_hz` must be above 0"):
        jax.jit(lambda i: physics.shot_noise(i, -1.0))(1e-3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: physics.responsivity(1.2, 1e-6), ValueError,
         "responsivity: `quantum_efficiency` must be at most 1, got 1.2"),
        (lambda: physics.shot_noise(-1e-3, 1e9), ValueError,
         "shot_noise: `current_a` must be at least 0, got -0.001"),
        (lambda: physics.shot_noise(math.nan, 1e9), ValueError,
         "shot_noise: `current_a` must be finite, got nan"),
        (lambda: physics.thermal_noise(0.0, 1e9), ValueError,
         "thermal_noise: `load_ohm` must be above 0, got 0.0"),
        (lambda: physics.tia_noise("20p", 1e9), TypeError,
         "tia_noise: `density_a_per_rthz` must be a real number, got '20p'"),
        (lambda: physics.tia_noise(1j, 1e9), TypeError,
         "tia_noise: `density_a_per_rthz` must be a real number, got complex64"),
        (lambda: physics.excess_noise_factor(0.5, 0.1), ValueError,
         "excess_noise_factor: `gain` must be at least 1, got 0.5"),
        (lambda: Receiver(bandwidth_hz=1e9).snr_db(-1e-3), ValueError,
         "Receiver.snr_db: `power_w` must be above 0, got -0.001"),
        (lambda: Receiver(bandwidth_hz=1e9).noise(True), TypeError,
         "Receiver: `power_w` must be a real number, got True"),
        (lambda: physics.combine_snr_db(), ValueError,
         "combine_snr_db: `snr_db` must have at least one entry, got none"),
        (lambda: physics.sinad_db(20.0, 3.0), ValueError,
         "sinad_db: `thd_db` must be at most 0, got 3.0"),
        (lambda: physics.walden_energy(40, 1e-15), ValueError,
         "walden_energy: `enob` must be at most 32, got 40"),
        (lambda: physics.w_to_dbm([[1.0], [1.0, 2.0]]), ValueError,
         "w_to_dbm: `power_w` must be a rectangular array, got rows of unequal length"),
        (lambda: physics.w_to_dbm(np.linspace(-1, 1, 9)), ValueError,
         "w_to_dbm: `power_w` must be above 0, got values from -1.0 to 1.0"),
        (lambda: physics.lsb(1.0, 0), ValueError, "lsb: `bits` must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_errors(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_half_precision_is_widened() -> None:
    noise = physics.shot_noise(jnp.asarray(1e-3, jnp.float16), 1e10)
    assert noise.dtype == jnp.float32
    assert float(noise) == pytest.approx(1.790e-6, rel=1e-3)
