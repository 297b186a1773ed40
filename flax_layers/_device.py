"""The device that a layer runs on."""

from __future__ import annotations

import dataclasses

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec
from lumina_jax.hardware import Crosstalk
from lumina_jax.hardware.profiles import profile_of
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
    def ranges(self) -> tuple[str, ...]:
        """Signals with a full scale: "x" of a DAC, "y" of an ADC or of noise on its scale."""
        of_y = self.noise is not None and self.noise.unit == "full_scale"
        has = {
            "x": bool(op_bits(self.spec.dac_bits)),
            "y": bool(op_bits(self.spec.adc_bits)) or of_y,
        }
        return tuple(name for name, ranged in has.items() if ranged)

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
    if profile is None:
        return Device(spec=spec or OpticalSpec(), noise=noise, attenuation=1.0)
    profile = profile_of(layer, profile)
    return Device(
        spec=profile.spec if spec is None else spec,
        noise=profile.noise if noise is None else noise,
        attenuation=profile.path.transmission,
        crosstalk=profile.crosstalk,
    )
