"""The rings that pick the channels, and the grid that the channels are on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .._arguments import integer, nonnegative, number, reals
from .._floating_point import numpy_defaults
from .._values import Floats
from ..hardware.crosstalk import ring_transmission
from ..hardware.parts import MAX_CHANNELS
from ..hardware.profiles import HardwareProfile, profile_of
from ..physics import ITU_ANCHOR_HZ, LORENTZIAN_SLOPE, SILICON_DRIFT_M_PER_K
from ..physics._constants import LIGHT_SPEED

_WIDEST = 1e30
"""Of a detuning, in linewidths; its square is a number of f64."""
ITU_SPACINGS_HZ = (12.5e9, 25e9, 50e9, 100e9)


@dataclass(frozen=True, kw_only=True)
class Ring:
    """An add-drop ring of the weight bank; all of the bank are alike but for their resonance.

        FWHM = λ/Q        F = FSR/FWHM        X(Δ) = 1 / (1 + (2F/π)²·sin²(π·Δ/FSR))

    which is a Lorentzian near each resonance, Δ ≪ FSR. Source: Bogaerts et al., Laser Photon. Rev.
    6, 47 (2012). Dispersion over the grid and backscattering are left out.

    Raises:
        TypeError, ValueError: a field is not a number or not above 0.
    """

    q: float
    """Loaded quality factor (no unit)."""
    fsr_m: float
    """Free spectral range, m."""
    wavelength_m: float = 1550e-9
    """Center wavelength, m."""
    drift_m_per_k: float = SILICON_DRIFT_M_PER_K
    """Shift of the resonance with temperature, dλ/dT, m/K."""

    def __post_init__(self) -> None:
        for name in ("q", "fsr_m", "wavelength_m", "drift_m_per_k"):
            number("Ring", name, getattr(self, name), above=0)
        if self.wavelength_m > 1e-4 or self.fsr_m >= self.wavelength_m:
            name = "wavelength_m" if self.wavelength_m > 1e-4 else "fsr_m"
            expected = "1e-4" if name == "wavelength_m" else "the wavelength"
            raise ValueError(
                f"Ring: `{name}` is {getattr(self, name):g} m, expected less than {expected}; "
                "a length of 20 nm is 20e-9"
            )
        if self.finesse <= 1:
            raise ValueError(
                f"Ring: `fsr_m` is {self.fsr_m:g}, expected more than the linewidth "
                f"{self.fwhm_m:.3g}"
            )

    @classmethod
    def of_profile(cls, profile: HardwareProfile | str, *, fsr_m: float | None = None) -> Ring:
        """The ring of a profile or preset; ValueError without `ring.q`.

        `fsr_m` stands in for the free spectral range of the profile, which is the width of its grid
        where it is not known.
        """
        profile = profile_of("Ring.of_profile", profile)
        if profile.ring.q is None:
            raise ValueError(
                f"Ring.of_profile: `profile` {profile.name!r} has no `ring.q`, the quality factor; "
                f"expected one such as dataclasses.replace(profile, ring=Microring(q=1e4))"
            )
        wavelength = 1e-9 * profile.laser.wavelength_nm
        # The width of the grid must fit, whatever its last bit.
        fsr = (1 + 1e-9) * profile.fsr_hz * wavelength**2 / LIGHT_SPEED
        return cls(q=profile.ring.q, fsr_m=fsr if fsr_m is None else fsr_m, wavelength_m=wavelength)

    @property
    def fwhm_m(self) -> float:
        """Linewidth, m: λ/Q."""
        return self.wavelength_m / self.q

    @property
    def finesse(self) -> float:
        """FSR over linewidth: how many channels fit at a spacing of one linewidth."""
        return self.fsr_m / self.fwhm_m

    @property
    def fwhm_hz(self) -> float:
        """Linewidth, Hz: c·FWHM/λ² = c/(λ·Q)."""
        return LIGHT_SPEED / (self.wavelength_m * self.q)

    @property
    def fsr_hz(self) -> float:
        """Free spectral range, Hz."""
        return self.finesse * self.fwhm_hz

    @numpy_defaults
    def transmission(self, detuning: ArrayLike) -> Floats:
        """X of a detuning in linewidths: drop transmission over its peak, 0 to 1.

        TypeError or ValueError where the detuning is not of finite real numbers.
        """
        widths = reals("Ring.transmission", "detuning", detuning)
        if np.abs(widths).max(initial=0.0) > _WIDEST:
            raise ValueError(
                f"Ring.transmission: `detuning` must be at most {_WIDEST:g} linewidths, "
                f"got {np.abs(widths).max():g}"
            )
        return np.asarray(ring_transmission(widths, self.finesse))

    @numpy_defaults
    def coupling(self, frequencies_hz: ArrayLike) -> Floats:
        """X between rings tuned to these frequencies, f64[n, n]; symmetric, 1 on the diagonal."""
        hz = nonnegative(
            "Ring.coupling", "frequencies_hz", frequencies_hz, expected="[n] with n >= 1"
        )
        return self.transmission(np.subtract.outer(hz, hz) / self.fwhm_hz)

    def tolerance_k(self, bits: float) -> float:
        """Change of temperature that costs ½ LSB, K: `2^-(bits+1)·FWHM/1.299 / (dλ/dT)`.

        On the steepest point of a Lorentzian, where a weight moves most; to first order.
        """
        bits = number("Ring.tolerance_k", "bits", bits, at_least=0)
        return 2.0 ** -(bits + 1) * self.fwhm_m / LORENTZIAN_SLOPE / self.drift_m_per_k


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Slots of the ITU-T G.694.1 grid: `193.1 THz + n·spacing`, n = first, first + 1, … .

    Raises:
        TypeError, ValueError: a field is of the wrong type, `slots` is below 1, or `spacing_hz` is
            none of 12.5, 25, 50 and 100 GHz.
    """

    slots: int = 16
    """Channels of one bus."""
    spacing_hz: float = 100e9
    """Distance of two slots, Hz."""
    first: int = 0
    """n of slot 0."""

    def __post_init__(self) -> None:
        slots = integer("Grid", "slots", self.slots, at_least=1, at_most=MAX_CHANNELS)
        lowest = integer("Grid", "first", self.first)
        if number("Grid", "spacing_hz", self.spacing_hz, above=0) not in ITU_SPACINGS_HZ:
            raise ValueError(
                f"Grid: `spacing_hz` is {self.spacing_hz:g}, expected 12.5e9, 25e9, 50e9 or 100e9"
            )
        # No channel at 0 or below, nor where the anchor of the grid is none.
        reach = int(ITU_ANCHOR_HZ / self.spacing_hz)
        if not -reach < lowest <= reach - slots:
            raise ValueError(
                f"Grid: `first` must be from {1 - reach} to {reach - slots} for {slots} slots, "
                f"got {lowest}"
            )

    @property
    def frequencies_hz(self) -> Floats:
        """Frequency of each slot, f64[slots], Hz."""
        n = np.arange(self.first, self.first + self.slots, dtype=np.float64)
        return ITU_ANCHOR_HZ + self.spacing_hz * n

    @property
    def wavelengths_m(self) -> Floats:
        """Vacuum wavelength of each slot, f64[slots], m."""
        return LIGHT_SPEED / self.frequencies_hz
