"""The noise model of a physical receiver: its coefficients, what they draw, and their gradients."""

from __future__ import annotations

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumina_jax import NoiseModel, OpticalSpec, optical_matmul, physics
from lumina_jax.physics import Receiver

RECEIVER = Receiver(bandwidth_hz=5e9, tia_a_per_rthz=10e-12)
OFF = OpticalSpec()


def test_direct_detection_is_the_noise_of_the_receiver() -> None:
    power, full_scale = 1e-4, 8.0
    noise = NoiseModel.from_receiver(RECEIVER, power_w=power, y_full_scale=full_scale)
    for y in (0.0, 0.5, 8.0):
        std = math.sqrt(noise.thermal**2 + noise.shot**2 * y + noise.relative**2 * y**2)
        # The same share of the light makes the same share of the photocurrent.
        amperes = float(RECEIVER.noise(power * y / full_scale))
        assert std == pytest.approx(amperes * full_scale / (1.2 * power), rel=1e-5)
    assert noise.weight == 0


def test_avalanche_gain_stays_in_proportion() -> None:
    receiver = Receiver(bandwidth_hz=1e9, gain=8.0, ionization=0.3)
    noise = NoiseModel.from_receiver(receiver, power_w=1e-6, y_full_scale=2.0)
    std = math.sqrt(noise.thermal**2 + noise.shot**2 * 2 + noise.relative**2 * 4)
    amperes = float(receiver.noise(1e-6))
    assert std == pytest.approx(amperes * 2 / float(receiver.current(1e-6)), rel=1e-5)


def test_units_of_y() -> None:
    one = NoiseModel.from_receiver(RECEIVER, power_w=1e-4, y_full_scale=1.0)
    ten = NoiseModel.from_receiver(RECEIVER, power_w=1e-4, y_full_scale=10.0)
    scaled = one.scaled(10.0)
    for name in ("thermal", "shot", "relative"):
        assert float(getattr(scaled, name)) == pytest.approx(float(getattr(ten, name)), rel=1e-6)


def _quiet() -> Receiver:
    return Receiver(bandwidth_hz=5e9, tia_a_per_rthz=0.0, dark_current_a=0.0, rin_db_per_hz=-300.0)


def _measured(noise: NoiseModel, x: Any, w: Any, seeds: int) -> np.ndarray:
    """Variance of each output over many keys."""

    @jax.jit
    def draw(key: jax.Array) -> jax.Array:
        return optical_matmul(x, w, spec=OFF, noise=noise, key=key)

    draws = np.stack([draw(jax.random.key(seed)) for seed in range(seeds)])
    return draws.var(axis=0)


def test_balanced_rings_have_the_variance_of_each_row() -> None:
    # Per row through vmap; y_fs = K channels at full scale.
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (3, 4)).astype(np.float32)
    w = rng.uniform(-1, 1, (4, 500)).astype(np.float32)
    receiver, power = _quiet(), 4e-6

    def row(x: jax.Array, light: jax.Array) -> jax.Array:
        noise = NoiseModel.from_receiver(
            receiver, power_w=power, y_full_scale=4.0, detection="balanced", light=light
        )
        return optical_matmul(x, w, spec=OFF, noise=noise, key=jax.random.key(1))

    y = jax.vmap(row)(jnp.asarray(x), jnp.asarray(x).sum(axis=1) / 4)
    n_max = receiver.photoelectrons(power / 4)
    expected = np.asarray(physics.ring_mac_variance(x, n_max))[:, 0]
    # 500 columns: the variance scatters by 6 %.
    np.testing.assert_allclose((np.asarray(y) - x @ w).var(axis=1), expected, rtol=0.25)
    # A mean over the data stands for all rows.
    mean = NoiseModel.from_receiver(
        receiver, power_w=power, y_full_scale=4.0, detection="balanced", light=x.sum() / 12
    )
    assert float(mean.thermal) ** 2 == pytest.approx(expected.mean(), rel=1e-5)
    assert mean.shot == 0


def test_balanced_arms() -> None:
    x, w = np.float32([[0.3, 0.9]]), np.float32([[0.5], [-0.8]])
    receiver, power = _quiet(), 1e-6
    light = float((np.abs(x) @ np.abs(w))[0, 0]) / 2
    noise = NoiseModel.from_receiver(
        receiver, power_w=power, y_full_scale=2.0, detection="balanced", light=light
    )
    expected = physics.arms_mac_variance(x, w, receiver.photoelectrons(power / 2))
    assert float(noise.thermal) ** 2 == pytest.approx(float(expected[0, 0]), rel=1e-5)


def test_homodyne() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 8)).astype(np.float32)
    w = rng.normal(size=(8, 4)).astype(np.float32)
    w /= np.linalg.norm(w, axis=0) / 2
    receiver, power = _quiet(), 1e-7
    noise = NoiseModel.from_receiver(
        receiver, power_w=power, y_full_scale=10.0, detection="homodyne", weight_norm=2.0
    )
    n_mac = receiver.photoelectrons(power) / 8
    expected = physics.homodyne_mac_variance(x, w, n_mac)
    # 1000 draws: the variance scatters by 4.5 %.
    np.testing.assert_allclose(_measured(noise, x, w, 1000), expected, rtol=0.25)


def test_two_photodiodes_have_two_dark_currents() -> None:
    receiver = Receiver(bandwidth_hz=5e9, tia_a_per_rthz=0.0, dark_current_a=1e-6)
    one = NoiseModel.from_receiver(receiver, power_w=1e-4, y_full_scale=1.0)
    two = NoiseModel.from_receiver(
        receiver, power_w=1e-4, y_full_scale=1.0, detection="balanced", light=0.0
    )
    assert float(two.thermal / one.thermal) == pytest.approx(math.sqrt(2), rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"detection": "balanced"}, {"detection": "homodyne", "weight_norm": 2.0}],
    ids=["direct", "balanced", "homodyne"],
)
def test_gradient_with_respect_to_power(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (8, 16)).astype(np.float32)
    w = rng.uniform(-1, 1, (16, 4)).astype(np.float32)
    target = (x @ w).astype(np.float32)

    @jax.jit
    def loss(log_power: jax.Array) -> jax.Array:
        noise = NoiseModel.from_receiver(
            RECEIVER, power_w=jnp.exp(log_power), y_full_scale=16.0, **options
        )
        spec = OpticalSpec(dac_bits=6, weight_bits=6)
        y = optical_matmul(x, w, spec=spec, noise=noise, key=jax.random.key(3))
        return jnp.mean((y - target) ** 2)

    at = jnp.float32(math.log(3e-5))
    step = 0.02
    difference = float(loss(at + step) - loss(at - step)) / (2 * step)
    gradient = float(jax.jit(jax.grad(loss))(at))
    assert abs(gradient) > 1e-5
    # Central differences of an f32 mean, at a step that balances rounding and curvature.
    assert gradient == pytest.approx(difference, rel=5e-3)


def test_every_field_of_the_receiver_has_a_gradient() -> None:
    x, w = jnp.ones((4, 8)), jnp.full((8, 4), 0.5)

    def loss(receiver: Receiver, power: jax.Array) -> jax.Array:
        noise = NoiseModel.from_receiver(receiver, power_w=power, y_full_scale=8.0)
        y = optical_matmul(x, w, spec=OFF, noise=noise, key=jax.random.key(0))
        return jnp.mean((y - x @ w) ** 2)

    receiver = Receiver(bandwidth_hz=5e9)
    by_receiver, by_power = jax.jit(jax.grad(loss, argnums=(0, 1)))(receiver, jnp.float32(1e-5))
    # More light and a better diode help; bandwidth, dark current and laser noise hurt.
    assert by_power < 0
    assert by_receiver.responsivity_a_per_w < 0
    assert by_receiver.load_ohm < 0
    assert by_receiver.bandwidth_hz > 0
    assert by_receiver.dark_current_a > 0
    assert by_receiver.rin_db_per_hz > 0


def test_power_is_trainable() -> None:
    # The price of a watt against the error it saves: descent finds the minimum of a scan.
    x, w = jnp.ones((64, 8)), jnp.full((8, 4), 0.5)

    @jax.jit
    def loss(log_power: jax.Array) -> jax.Array:
        power = jnp.exp(log_power)
        noise = NoiseModel.from_receiver(RECEIVER, power_w=power, y_full_scale=8.0)
        y = optical_matmul(x, w, spec=OFF, noise=noise, key=jax.random.key(0))
        return jnp.mean((y - x @ w) ** 2) + 1e3 * power

    gradient = jax.jit(jax.grad(loss))
    log_power = jnp.float32(math.log(1e-5))
    for _ in range(300):
        log_power = log_power - 0.05 * jnp.sign(gradient(log_power))
    scan = jnp.linspace(math.log(1e-6), math.log(1e-3), 300)
    best = scan[jnp.argmin(jax.vmap(loss)(scan))]
    assert float(log_power) == pytest.approx(float(best), abs=0.15)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"power_w": 0.0}, ValueError, "`power_w` must be above 0, got 0.0"),
        ({"power_w": -1e-3}, ValueError, "`power_w` must be above 0, got -0.001"),
        ({"y_full_scale": math.nan}, ValueError, "`y_full_scale` must be finite, got nan"),
        ({"detection": "heterodyne"}, ValueError,
         "`detection` must be direct, balanced or homodyne, got 'heterodyne'"),
        ({"light": 0.5}, ValueError, "`light` is for balanced detection, got 'direct'"),
        ({"detection": "balanced", "light": -0.5}, ValueError,
         "`light` must be at least 0, got -0.5"),
        ({"detection": "homodyne"}, ValueError,
         "`weight_norm` is for homodyne detection and needed there, got None for 'homodyne'"),
        ({"weight_norm": 1.0}, ValueError,
         "`weight_norm` is for homodyne detection and needed there, got 1.0 for 'direct'"),
    ],
)  # fmt: skip
def test_errors(options: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"power_w": 1e-3, "y_full_scale": 1.0, **options}
    with pytest.raises(error, match=re.escape(f"NoiseModel.from_receiver: {message}")):
        NoiseModel.from_receiver(RECEIVER, **arguments)


@pytest.mark.parametrize("receiver", [3, None])
def test_no_receiver(receiver: Any) -> None:
    message = f"`receiver` is of type {type(receiver).__name__}, expected a Receiver"
    with pytest.raises(TypeError, match=f"NoiseModel.from_receiver: {message}"):
        NoiseModel.from_receiver(receiver, power_w=1e-3, y_full_scale=1.0)


def test_scaled_error() -> None:
    with pytest.raises(ValueError, match=r"NoiseModel.scaled: `factor` must be above 0, got 0\.0"):
        NoiseModel(thermal=1.0).scaled(0.0)
