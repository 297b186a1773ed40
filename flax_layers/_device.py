"""What both layer families share: which device a layer runs on, and what it accepts."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec
from lumina_jax.hardware.crosstalk import Crosstalk
from lumina_jax.spec import op_bits

RangeMode: TypeAlias = Literal["calibrate", "learn"]


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
    profile: HardwareProfile | str | None, spec: OpticalSpec | None, noise: NoiseModel | None
) -> Device:
    """The device of `profile` (a profile, a preset's name, or None: ideal).

    `spec` and `noise` stand in for those of the profile where they are not None.
    """
    if isinstance(profile, str):
        profile = HardwareProfile.preset(profile)
    elif not isinstance(profile, HardwareProfile | None):
        raise TypeError(
            "OpticalDense: `profile` is of type "
            f"{type(profile).__name__}, expected a HardwareProfile, the name of a preset, or None"
        )
    if profile is None:
        return Device(spec=spec or OpticalSpec(), noise=noise, attenuation=1.0)
    return Device(
        spec=profile.spec if spec is None else spec,
        noise=profile.noise if noise is None else noise,
        attenuation=profile.attenuation,
        crosstalk=profile.crosstalk,
    )


def check_size(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a positive int."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"OpticalDense: `{name}` is {value!r}, expected a positive int")


def check_options(ranges: RangeMode, momentum: float) -> None:
    """Raises ValueError for an unknown way of keeping ranges, or a momentum outside [0, 1)."""
    if ranges not in ("calibrate", "learn"):
        raise ValueError(f"OpticalDense: `ranges` is {ranges!r}, expected 'calibrate' or 'learn'")
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"OpticalDense: `momentum` is {momentum!r}, expected 0 <= momentum < 1")


def to_f32(name: str, value: Any) -> jax.Array:
    """`value` in float32, which is what the device computes in.

    Raises:
        TypeError: `value` is neither float32 nor a narrower real float.
    """
    dtype = jnp.result_type(value)
    if dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
        raise TypeError(f"OpticalDense: `{name}` is {dtype}, expected float32, bfloat16 or float16")
    return jnp.asarray(value, jnp.float32)


def check_input(value: Any, in_features: int | None = None) -> jax.Array:
    """The input of a layer in float32: f32[..., in_features].

    Raises:
        ValueError: it is a scalar, or its last axis is not `in_features` long.
        TypeError: as in `to_f32`.
    """
    x = to_f32("x", value)
    if x.ndim == 0:
        raise ValueError("OpticalDense: `x` is a scalar, expected shape [..., in_features]")
    if in_features is not None and x.shape[-1] != in_features:
        raise ValueError(
            f"OpticalDense: `x` has shape {x.shape}, expected [..., in_features={in_features}]"
        )
    return x
