"""`OpticalDense` for Flax NNX."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.linear import default_kernel_init
from flax.typing import Dtype, Initializer

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec

from ._device import RangeMode, check_input, check_options, check_size, device, to_f32
from .ranges import AxisName, Ranges, calibrated_matmul

__all__ = ["FullScale", "OpticalDense"]


_V = TypeVar("_V", bound=nnx.Variable)


class FullScale(nnx.Variable[jax.Array]):
    """Running full scale of a converter, f32[]; 0 until calibrated."""


class OpticalDense(nnx.Module):
    """`flax.nnx.Linear` on a photonic device: DAC, analog matmul with noise, ADC.

    State:
        kernel [in_features, out_features], bias [out_features]: `nnx.Param`, as in `nnx.Linear`.
        x_full_scale, y_full_scale f32[]: `FullScale` of DAC and ADC, None where that is off.
        x_log_gain, y_log_gain f32[]: `nnx.Param`, only with `ranges="learn"`; log of a factor on
            the full scales.
        rngs: the stream "noise", forked, so that layers draw independently.

    `model.train()` draws noise and lets the full scales follow the largest input and output of
    each batch; `model.eval()` does neither. Each can be had alone: noisy inference is

        model.eval()
        model.set_attributes(deterministic=False)

    and calibration without noise is `deterministic=True, use_running_average=False`. Until the
    first update each batch is converted at its own range.

    Args:
        in_features, out_features: K and N.
        profile: the device, a preset's name, or None: an ideal one, which is `nnx.Linear`.
        spec: bits of the converters; None: those of the profile.
        noise: noise of the device; None: that of the profile.
        ranges: "calibrate": full scales are running averages; "learn": times a trained factor.
        momentum: share of the old full scale in the next one.
        deterministic: no noise.
        use_running_average: full scales stay as they are.
        use_bias, param_dtype, kernel_init, bias_init: as in `nnx.Linear`. The device computes in
            float32.
        axis_name: axes of `shard_map` or `vmap` over which one batch is spread: ranges are taken
            over all. Each shard draws from the key it is given.
        rngs: streams "params", and "noise" where noise is to be drawn or gradients are "int8".

    Raises:
        ValueError: an argument is out of its range, the preset is unknown, noise is to be drawn
            and there is no stream, or the input does not end in `in_features`.
        TypeError: `profile` is something else, or the input or a parameter is not a real float of
            at most 32 bits.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        profile: HardwareProfile | str | None = "lumina_nano_v1",
        spec: OpticalSpec | None = None,
        noise: NoiseModel | None = None,
        ranges: RangeMode = "calibrate",
        momentum: float = 0.95,
        deterministic: bool = False,
        use_running_average: bool = False,
        use_bias: bool = True,
        param_dtype: Dtype = jnp.float32,
        kernel_init: Initializer = default_kernel_init,
        bias_init: Initializer = nnx.initializers.zeros_init(),
        axis_name: AxisName | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_size("in_features", in_features)
        check_size("out_features", out_features)
        check_options(ranges, momentum)
        hardware = device(profile, spec, noise)
        learn = ranges == "learn"

        self.kernel = nnx.Param(
            kernel_init(rngs.params(), (in_features, out_features), param_dtype)
        )
        self.bias = nnx.data(
            nnx.Param(bias_init(rngs.params(), (out_features,), param_dtype)) if use_bias else None
        )
        dac_on, adc_on = "x" in hardware.converters, "y" in hardware.converters
        self.x_full_scale = nnx.data(_scalar(FullScale) if dac_on else None)
        self.y_full_scale = nnx.data(_scalar(FullScale) if adc_on else None)
        self.x_log_gain = nnx.data(_scalar(nnx.Param) if dac_on and learn else None)
        self.y_log_gain = nnx.data(_scalar(nnx.Param) if adc_on and learn else None)
        has_noise_stream = "noise" in rngs or "default" in rngs
        self.rngs = nnx.data(rngs.noise.fork() if has_noise_stream else None)

        self.in_features = in_features
        self.out_features = out_features
        self.hardware = hardware
        self.ranges = ranges
        self.momentum = momentum
        self.deterministic = deterministic
        self.use_running_average = use_running_average
        self.axis_name = axis_name

    def __call__(
        self,
        inputs: jax.Array,
        *,
        deterministic: bool | None = None,
        use_running_average: bool | None = None,
        noise: NoiseModel | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
    ) -> jax.Array:
        """Converts, multiplies and reads out; arguments take precedence over attributes.

        Args:
            inputs: f32[..., in_features].
            deterministic, use_running_average: as the attributes.
            noise: stands in for the noise of the device; its values may be traced, which makes a
                noise schedule free of retracing.
            rngs: where the key of the noise comes from: streams, one stream, or the key itself.

        Returns:
            f32[..., out_features].
        """
        x = check_input(inputs, self.in_features)
        if deterministic is None:
            deterministic = self.deterministic
        if use_running_average is None:
            use_running_average = self.use_running_average
        if noise is None:
            noise = self.hardware.noise
        noisy = noise is not None and not deterministic
        has_stream = rngs is not None or self.rngs is not None
        rounds = self.hardware.rounds_gradient and not deterministic and has_stream

        y, updated = calibrated_matmul(
            x,
            to_f32("kernel", self.kernel[...]),
            None if self.bias is None else to_f32("bias", self.bias[...]),
            Ranges(x=_value(self.x_full_scale), y=_value(self.y_full_scale)),
            spec=self.hardware.spec,
            noise=noise if noisy else None,
            key=self._key(rngs) if noisy or rounds else None,
            attenuation=self.hardware.attenuation,
            crosstalk=self.hardware.crosstalk,
            gain=Ranges(x=_value(self.x_log_gain), y=_value(self.y_log_gain)),
            momentum=None if use_running_average else self.momentum,
            axis_name=self.axis_name,
        )
        if not use_running_average:
            for variable, value in (
                (self.x_full_scale, updated.x),
                (self.y_full_scale, updated.y),
            ):
                if variable is not None:
                    variable[...] = value
        return y

    def _key(self, rngs: nnx.Rngs | nnx.RngStream | jax.Array | None) -> jax.Array:
        if rngs is None:
            rngs = self.rngs
        if isinstance(rngs, nnx.Rngs):
            rngs = rngs.noise
        if rngs is None:
            raise ValueError(
                "OpticalDense: noise is to be drawn and there is no stream `noise`, expected "
                "rngs=nnx.Rngs(..., noise=seed) in the constructor or `rngs` in the call; "
                "deterministic=True draws none"
            )
        return rngs() if isinstance(rngs, nnx.RngStream) else rngs

    def set_view(
        self, deterministic: bool | None = None, use_running_average: bool | None = None
    ) -> None:
        """Called by `nnx.view`.

        Args:
            deterministic: no noise.
            use_running_average: full scales stay as they are.
        """
        if deterministic is not None:
            self.deterministic = deterministic
        if use_running_average is not None:
            self.use_running_average = use_running_average


def _scalar(kind: type[_V]) -> _V:
    return kind(jnp.zeros((), jnp.float32))


def _value(variable: nnx.Variable[jax.Array] | None) -> jax.Array | None:
    return None if variable is None else variable[...]
