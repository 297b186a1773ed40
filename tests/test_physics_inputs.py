"""Functions of `physics` at the ends of what they may be given: an answer, or its argument."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumina_jax import physics
from lumina_jax.physics import Receiver

GOOD: dict[str, Any] = {
    **dict.fromkeys(["phase_rad", "theta_rad", "phi_rad", "coupler_1_rad", "coupler_2_rad"], 0.3),
    **dict.fromkeys(["r", "a", "rho", "coupling", "weight", "ionization", "phase_std_rad"], 0.4),
    **dict.fromkeys(["power_w", "plus_w", "minus_w", "signal_w", "oscillator_w"], 1e-3),
    **dict.fromkeys(["current_a", "dark_current_a", "noise_std", "lsb", "weight_std"], 1e-3),
    **dict.fromkeys(["symbol_rate_hz", "sample_rate_hz", "bandwidth_hz"], 1e9),
    **dict.fromkeys(["power_db", "power_dbm", "snr_db", "sinad_db", "optical_db", "cmrr_db"], 20.0),
    **dict.fromkeys(["thd_db", "rin_db_per_hz"], -140.0),
    **dict.fromkeys(["enob", "bits", "gain", "n", "modes", "group_index", "spacing"], 4.0),
    **dict.fromkeys(["full_scale", "ratio", "quantum_efficiency", "snr"], 1.0),
    **dict.fromkeys(["fom_j", "energy_j", "density_a_per_rthz"], 1e-12),
    **dict.fromkeys(["fwhm_m", "detuning_m", "drift_m_per_k"], 1e-10),
    **dict.fromkeys(["wavelength_m", "decay_m"], 1.55e-6),
    **dict.fromkeys(["n_max", "n_mac", "q_factor", "finesse"], 1e4),
    "temperature_k": 300.0,
    "load_ohm": 50.0,
    "length_m": 1e-4,
    "spacing_hz": 1e11,
    "index_per_k": 1.8e-4,
    "channels": 4,
    "receiver": Receiver(bandwidth_hz=1e9),
    "positions_m": np.array([1e-6, 2e-6, 4e-6], np.float32),
    "x": np.full((2, 3), 0.5, np.float32),
    "w": np.full((3, 2), 0.5, np.float32),
    "crosstalk": 0.1 * np.ones((1, 1), np.float32),
    "elementary_charge_c": 1.6e-19,
}
# Functions of matrices alone, and of no numbers.
OTHERS = {"fidelity", "mesh", "published_receiver", "scaling_table"}
VECTORS = {"apply_thermal_crosstalk": "command_rad", "compensate_thermal_crosstalk": "phase_rad"}


def calls(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each argument that is an array, and good arguments for the function."""
    function = getattr(physics, name)
    parameters = inspect.signature(function).parameters
    good = {key: GOOD[key] for key in parameters if key in GOOD}
    if name in VECTORS:
        good[VECTORS[name]] = np.full(1, 0.3, np.float32)
    for key in good:
        if key not in ("channels", "receiver", "elementary_charge_c"):
            yield key, good


FUNCTIONS = [
    name
    for name in physics.__all__
    if inspect.isfunction(getattr(physics, name)) and name not in OTHERS
]


def attempt(function: Any, arguments: dict[str, Any], variadic: bool) -> tuple[str | None, Any]:
    """The text of an error, or the result."""
    try:
        return None, function(*arguments.values()) if variadic else function(**arguments)
    except (TypeError, ValueError) as error:
        return str(error), None


@pytest.mark.parametrize("name", FUNCTIONS)
def test_extremes(name: str) -> None:
    function = getattr(physics, name)
    variadic = name == "combine_snr_db"
    # With np.seterr(all="raise"), as some programs have it: nothing may depend on that.
    with np.errstate(all="raise"):
        for key, good in calls(name):
            shape = np.shape(good[key])
            for extreme in (0.0, -0.0, 1e-42, 1e-30, 3e38, -3e38, 1e300):
                value = np.full(shape, extreme)
                text, found = attempt(function, good | {key: value}, variadic)
                assert text is None or f"`{key}`" in text, (key, extreme)
                assert not any(np.isnan(v).any() for v in jax.tree.leaves(found)), (key, extreme)
            values = np.broadcast_to(np.asarray(good[key], np.float32), shape)
            usual = function(values) if variadic else function(**good | {key: values})
            for same in (
                values.astype(">f4"),
                values.astype(np.float64),
                np.array(values, order="F"),
            ):
                found = function(same) if variadic else function(**good | {key: same})
                jax.tree.map(np.testing.assert_array_equal, found, usual)


@pytest.mark.parametrize("name", ["dbm_to_w", "thermal_noise", "lorentzian", "comb_eigenvalues"])
def test_nothing_is_an_array_of_nothing(name: str) -> None:
    (key, good), *_ = calls(name)
    found = getattr(physics, name)(**good | {key: np.zeros(0, np.float32)})
    assert 0 in found.shape


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"rin_db_per_hz": 140.0}, "Receiver: `rin_db_per_hz` must be at most 0, got 140.0"),
        ({"bandwidth_hz": 0}, "Receiver: `bandwidth_hz` must be above 0, got 0"),
        ({"gain": 0.5}, "Receiver: `gain` must be at least 1, got 0.5"),
        ({"ionization": 2}, "Receiver: `ionization` must be at most 1, got 2"),
        (
            {"dark_current_a": np.float32(-1)},
            "Receiver: `dark_current_a` must be at least 0, got -1",
        ),
        ({"temperature_k": np.nan}, "Receiver: `temperature_k` must be finite, got nan"),
        ({"load_ohm": "50"}, "Receiver: `load_ohm` must be a real number, got '50'"),
    ],
)
def test_a_receiver_is_checked_when_it_is_made(figures: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        Receiver(**{"bandwidth_hz": 1e9} | figures)


def test_a_receiver_is_a_tree_of_anything() -> None:
    receiver = Receiver(bandwidth_hz=1e9)
    slopes = jax.grad(lambda r: r.snr_db(1e-3))(receiver)
    assert float(slopes.bandwidth_hz) < 0
    # Gradients on the host are negative numbers, and axes are zeros and None.
    assert jax.device_get(slopes).bandwidth_hz < 0
    axes = jax.tree.map(lambda _: None, receiver)
    assert axes.bandwidth_hz is None
    many = Receiver(bandwidth_hz=jnp.asarray([1e9, 2e9]))
    axes = jax.tree.map(lambda leaf: 0 if np.ndim(leaf) else None, many)
    found = jax.vmap(lambda r: r.snr_db(1e-3), in_axes=(axes,))(many)
    assert found.shape == (2,)
    assert [str(path[0]) for path, _ in jax.tree_util.tree_leaves_with_path(receiver)][:2] == [
        ".bandwidth_hz",
        ".responsivity_a_per_w",
    ]


def test_intensity_noise_above_the_signal_is_a_wrong_sign() -> None:
    with pytest.raises(ValueError, match="`rin_db_per_hz` must be at most 0, got 140"):
        physics.relative_intensity_noise(140.0, 1e9)
