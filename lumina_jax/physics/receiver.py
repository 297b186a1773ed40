"""Photodetector and receiver noise.

    I      = M·R·P                                       R = η·q·λ/(h·c)
    i_sh²  = 2q·(R·P + I_d)·M²·F·B                       F = k_A·M + (1 - k_A)·(2 - 1/M)
    i_th²  = 4kT·B/R_L, or (input-referred density)²·B of a TIA
    i_rin² = I²·10^(RIN/10)·B
    SNR    = I² / (i_sh² + i_th² + i_rin²)

A PIN diode is M = 1, F = 1. Currents are rms in A, powers optical in W, B the noise bandwidth in
Hz: 1/(2T) for an integrate-and-dump receiver of time T, so that n = I/(2qB) is the number of
photoelectrons in a symbol. Sources: Agrawal, "Fiber-Optic Communication Systems", ch. 4 (shot,
thermal, RIN); McIntyre, IEEE Trans. Electron Devices 13, 164 (1966) (excess noise). The formulas
hold for white noise and Gaussian statistics, that is for n ≫ 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._arguments import field, real
from ._constants import BOLTZMANN, ELEMENTARY_CHARGE, LIGHT_SPEED, PLANCK, root
from .conversions import db_to_ratio, ratio_to_db, sinad_db_to_enob


def responsivity(quantum_efficiency: ArrayLike, wavelength_m: ArrayLike) -> jax.Array:
    """Responsivity of a photodiode, A/W: `R = η·q·λ/(h·c)`; 1.250 A/W for η = 1 at 1550 nm.

    Source: Agrawal, "Fiber-Optic Communication Systems", ch. 4. Valid for photon energies above
    the band gap; η is that of the wavelength.

    Args:
        quantum_efficiency: η, electrons per photon, 0 to 1.
        wavelength_m: vacuum wavelength, m; above 0, and below the cutoff of the material.
    """
    eta = real("responsivity", "quantum_efficiency", quantum_efficiency, at_least=0, at_most=1)
    wavelength = real("responsivity", "wavelength_m", wavelength_m, above=0)
    # In two steps: h·c is below the smallest normal f32 in some products.
    return eta * (wavelength * (ELEMENTARY_CHARGE / (PLANCK * LIGHT_SPEED)))


def excess_noise_factor(gain: ArrayLike, ionization: ArrayLike) -> jax.Array:
    """Excess noise of an avalanche photodiode: `F = k_A·M + (1 - k_A)·(2 - 1/M)`, 1 at M = 1.

    McIntyre (1966), for uniform fields and injection of the faster carrier.

    Source: McIntyre, IEEE Trans. Electron Devices 13, 164 (1966). Valid for uniform fields,
    injection of the faster carrier.

    Args:
        gain: M, multiplication; at least 1.
        ionization: k_A, ratio of the ionization coefficients, 0 to 1.
    """
    gain = real("excess_noise_factor", "gain", gain, at_least=1)
    k = real("excess_noise_factor", "ionization", ionization, at_least=0, at_most=1)
    return k * gain + (1 - k) * (2 - 1 / gain)


def shot_noise(
    current_a: ArrayLike,
    bandwidth_hz: ArrayLike,
    *,
    dark_current_a: ArrayLike = 0.0,
    gain: ArrayLike = 1.0,
    ionization: ArrayLike = 0.0,
) -> jax.Array:
    """Shot noise, A rms: `√(2q·(I + I_d)·M²·F·B)`; 1.790 µA for 1 mA in 10 GHz.

    Source: Agrawal, "Fiber-Optic Communication Systems", ch. 4; McIntyre (1966). Valid for
    white noise, many photoelectrons in a symbol.

    Args:
        current_a: I = R·P, the photocurrent before multiplication, A; not negative.
        bandwidth_hz: B, noise bandwidth, Hz; above 0.
        dark_current_a: I_d, before multiplication, A; not negative.
        gain: M of an avalanche photodiode; 1 for a PIN diode.
        ionization: k_A of an avalanche photodiode, 0 to 1.
    """
    name = "shot_noise"
    total = real(name, "current_a", current_a, at_least=0) + real(
        name, "dark_current_a", dark_current_a, at_least=0
    )
    bandwidth = real(name, "bandwidth_hz", bandwidth_hz, above=0)
    factor = excess_noise_factor(gain, ionization)
    gain = real(name, "gain", gain, at_least=1)
    return gain * root(2 * ELEMENTARY_CHARGE * bandwidth * total * factor)


def thermal_noise(
    load_ohm: ArrayLike, bandwidth_hz: ArrayLike, *, temperature_k: ArrayLike = 300.0
) -> jax.Array:
    """Thermal (Johnson-Nyquist) noise of a load, A rms: `√(4kT·B/R_L)`.

    1.820 µA for 50 Ω at 300 K in 10 GHz.

    Source: Agrawal, "Fiber-Optic Communication Systems", ch. 4. Valid for white noise, h·f ≪
    kT.

    Args:
        load_ohm: R_L, Ω; above 0.
        bandwidth_hz: B, Hz; above 0, and far below kT/h, 6 THz at room temperature.
        temperature_k: T, K; not negative.
    """
    name = "thermal_noise"
    load = real(name, "load_ohm", load_ohm, above=0)
    bandwidth = real(name, "bandwidth_hz", bandwidth_hz, above=0)
    temperature = real(name, "temperature_k", temperature_k, at_least=0)
    return root(4 * BOLTZMANN * temperature * (bandwidth / load))


def tia_noise(density_a_per_rthz: ArrayLike, bandwidth_hz: ArrayLike) -> jax.Array:
    """Noise of a transimpedance amplifier, A rms: `i_n·√B`; i_n is 1 to 20 pA/√Hz.

    Source: definition of the input-referred density. Valid for a density that is averaged over
    the band.

    Args:
        density_a_per_rthz: i_n, input-referred and averaged over the band, A/√Hz; not negative.
        bandwidth_hz: B, Hz; above 0.
    """
    density = real("tia_noise", "density_a_per_rthz", density_a_per_rthz, at_least=0)
    return density * jnp.sqrt(real("tia_noise", "bandwidth_hz", bandwidth_hz, above=0))


def rin_noise(current_a: ArrayLike, rin_db_per_hz: ArrayLike, bandwidth_hz: ArrayLike) -> jax.Array:
    """Laser intensity noise, A rms: `I·√(10^(RIN/10)·B)`; 10.0 µA for 1 mA, -140 dB/Hz, 10 GHz.

    Source: Agrawal, "Fiber-Optic Communication Systems", ch. 4. Valid for a RIN that is
    averaged over the band.

    Args:
        current_a: I, photocurrent after multiplication, A; not negative.
        rin_db_per_hz: relative intensity noise, averaged over the band, -130 to -160 dB/Hz; at
            most 0.
        bandwidth_hz: B, Hz; above 0.
    """
    current = real("rin_noise", "current_a", current_a, at_least=0)
    return current * relative_intensity_noise(rin_db_per_hz, bandwidth_hz)


def relative_intensity_noise(rin_db_per_hz: ArrayLike, bandwidth_hz: ArrayLike) -> jax.Array:
    """Rms of the laser power over its mean (no unit): `√(10^(RIN/10)·B)`; RIN dB/Hz, B Hz.

    Source: Agrawal, "Fiber-Optic Communication Systems", ch. 4. Valid for a RIN that is
    averaged over the band; √(10^(RIN/10)·B) ≪ 1.
    """
    name = "relative_intensity_noise"
    rin = real(name, "rin_db_per_hz", rin_db_per_hz, at_least=-300, at_most=0)
    bandwidth = real(name, "bandwidth_hz", bandwidth_hz, above=0)
    return jnp.sqrt(db_to_ratio(rin)) * jnp.sqrt(bandwidth)


MAX_POWER_W = 1e6
"""No photodiode survives as much, and f32 holds the squares of all currents below."""

_LIMITS: dict[str, dict[str, float]] = {
    "bandwidth_hz": {"above": 0, "at_most": 1e15},
    "responsivity_a_per_w": {"above": 0, "at_most": 1e3},
    "dark_current_a": {"at_least": 0},
    "load_ohm": {"above": 0},
    "tia_a_per_rthz": {"at_least": 0},
    "temperature_k": {"at_least": 0},
    "rin_db_per_hz": {"at_least": -300, "at_most": 0},
    "gain": {"at_least": 1, "at_most": 1e6},
    "ionization": {"at_least": 0, "at_most": 1},
}


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, kw_only=True)
class Receiver:
    """A photodiode and its amplifier. A pytree: every field may be traced and has a gradient.

    `SNR = I²/(i_sh² + i_th² + i_rin²)`, each in A rms. Numbers are checked here,
    arrays of JAX where they are used.

    Source: Agrawal, "Fiber-Optic Communication Systems", ch. 4; the defaults are those of Al-Qadasi
    et al., APL Photonics 7, 020902 (2022). Valid for white noise and many photoelectrons in a
    symbol.
    """

    bandwidth_hz: ArrayLike
    """Noise bandwidth B, Hz: half the symbol rate for integrate and dump."""
    responsivity_a_per_w: ArrayLike = 1.2
    """R of the photodiode, A/W."""
    dark_current_a: ArrayLike = 35e-9
    """I_d of the photodiode before multiplication, A."""
    load_ohm: ArrayLike = 50.0
    """R_L, Ω; it is the source of thermal noise unless there is a TIA."""
    tia_a_per_rthz: ArrayLike | None = None
    """Input-referred noise density of the TIA, A/√Hz, in place of the thermal noise of the load."""
    temperature_k: ArrayLike = 300.0
    """T of the load, K."""
    rin_db_per_hz: ArrayLike = -140.0
    """RIN of the laser, dB/Hz."""
    gain: ArrayLike = 1.0
    """Multiplication M of an avalanche photodiode; 1 is a PIN diode."""
    ionization: ArrayLike = 0.0
    """k_A of an avalanche photodiode."""

    def __post_init__(self) -> None:
        for name, limits in _LIMITS.items():
            field("Receiver", name, getattr(self, name), **limits)

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Any, Any], ...], None]:
        """The figures by name."""
        key = jax.tree_util.GetAttrKey
        return tuple((key(name), getattr(self, name)) for name in _LIMITS), None

    @classmethod
    def tree_unflatten(cls, _: None, figures: Any) -> Self:
        """From what JAX puts in place of the figures, such as gradients, which may be negative."""
        receiver = object.__new__(cls)
        for name, value in zip(_LIMITS, figures, strict=True):
            object.__setattr__(receiver, name, value)
        return receiver

    def primary_current(self, power_w: ArrayLike) -> jax.Array:
        """Photocurrent before multiplication, A: `R·P`, for an optical power P ≥ 0 in W."""
        r = real("Receiver", "responsivity_a_per_w", self.responsivity_a_per_w, above=0)
        return r * real("Receiver", "power_w", power_w, at_least=0, at_most=MAX_POWER_W)

    def current(self, power_w: ArrayLike) -> jax.Array:
        """Photocurrent, A: `M·R·P`, for an optical power P ≥ 0 in W."""
        return real("Receiver", "gain", self.gain, at_least=1) * self.primary_current(power_w)

    def shot_noise(self, power_w: ArrayLike) -> jax.Array:
        """Shot noise of light alone, without dark current, A rms; P in W."""
        return shot_noise(
            self.primary_current(power_w),
            self.bandwidth_hz,
            gain=self.gain,
            ionization=self.ionization,
        )

    def dark_noise(self, *, photodiodes: int = 1) -> jax.Array:
        """Noise without light, A rms: dark current of all photodiodes, and load or TIA."""
        dark = shot_noise(
            0.0,
            self.bandwidth_hz,
            dark_current_a=photodiodes
            * real("Receiver", "dark_current_a", self.dark_current_a, at_least=0),
            gain=self.gain,
            ionization=self.ionization,
        )
        if self.tia_a_per_rthz is None:
            amplifier = thermal_noise(
                self.load_ohm, self.bandwidth_hz, temperature_k=self.temperature_k
            )
        else:
            amplifier = tia_noise(self.tia_a_per_rthz, self.bandwidth_hz)
        return root(dark**2 + amplifier**2)

    def noise(self, power_w: ArrayLike) -> jax.Array:
        """Noise of one photodiode, A rms: `√(i_sh² + i_th² + i_rin²)`; P in W."""
        rin = rin_noise(self.current(power_w), self.rin_db_per_hz, self.bandwidth_hz)
        return root(self.shot_noise(power_w) ** 2 + self.dark_noise() ** 2 + rin**2)

    def snr_db(self, power_w: ArrayLike) -> jax.Array:
        """`20·log10(I/i_noise)`, electrical dB, of a signal that is as large as I; P > 0 in W."""
        power_w = real("Receiver.snr_db", "power_w", power_w, above=0, at_most=MAX_POWER_W)
        return 2 * ratio_to_db(self.current(power_w) / self.noise(power_w))

    def enob(self, power_w: ArrayLike) -> jax.Array:
        """Effective bits, `(SNR_dB - 1.76) / 6.02`, at an optical power P > 0 in W."""
        return sinad_db_to_enob(self.snr_db(power_w))

    def photoelectrons(self, power_w: ArrayLike) -> jax.Array:
        """Primary electrons in a symbol: `n = R·P/(2q·B)`; shot noise alone gives SNR = n."""
        bandwidth = real("Receiver", "bandwidth_hz", self.bandwidth_hz, above=0)
        return self.primary_current(power_w) / ((2 * ELEMENTARY_CHARGE) * bandwidth)
