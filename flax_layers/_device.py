"""The device that a layer runs on."""

from __future__ import annotations

import dataclasses

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec
from lumina_jax.hardware import Crosstalk
from lumina_jax.hardware.profiles import profile_of
from lumina_jax.spec import op_bits

from .ranges import AttentionRanges, Ranges


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

    def signals(self, ranges: type[Ranges | AttentionRanges]) -> tuple[str, ...]:
        """Those of `ranges` with a full scale: of a DAC, of an ADC or of noise on its scale."""
        in_parts = self.noise is not None and self.noise.unit == "full_scale"
        of_dac = bool(op_bits(self.spec.dac_bits))
        of_adc = bool(op_bits(self.spec.adc_bits)) or in_parts
        return tuple(name for name in ranges._fields if (of_adc if name in ranges.adcs else of_dac))

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
