"""The device that a layer runs on."""

from __future__ import annotations

import dataclasses

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec
from lumina_jax.hardware import Crosstalk
from lumina_jax.spec import op_bits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Device:
    """The hardware behind one layer."""

    spec: OpticalSpec
    """Bits of its converters."""
    noise: NoiseModel | None
    """Noise of one readout; None is a quiet device."""
    attenuation: float
    """Factor on the weights, linear."""
    crosstalk: Crosstalk | None = None
    """Between the wavelengths of the input; None is none."""

    @property
    def converters(self) -> tuple[str, ...]:
        """Signals that pass a converter: "x" the DAC of the input, "y" the ADC."""
        bits = {"x": self.spec.dac_bits, "y": self.spec.adc_bits}
        return tuple(name for name, b in bits.items() if op_bits(b))

    @property
    def rounds_gradient(self) -> bool:
        """Whether the backward pass draws random numbers, even where there is no noise."""
        return self.spec.grad_precision == "int8"


def device(
    layer: str,
    profile: HardwareProfile | str | None,
    spec: OpticalSpec | None,
    noise: NoiseModel | None,
) -> Device:
    """The device of `profile` (a profile, a preset's name, or None: ideal).

    `spec` and `noise` stand in for those of the profile where they are not None.
    """
    if isinstance(profile, str):
        profile = HardwareProfile.preset(profile)
    elif not isinstance(profile, HardwareProfile | None):
        raise TypeError(
            f"{layer}: `profile` is of type {type(profile).__name__}, "
            "expected a HardwareProfile, the name of a preset, or None"
        )
    if profile is None:
        return Device(spec=spec or OpticalSpec(), noise=noise, attenuation=1.0)
    return Device(
        spec=profile.spec if spec is None else spec,
        noise=profile.noise if noise is None else noise,
        attenuation=profile.attenuation,
        crosstalk=profile.crosstalk,
    )
