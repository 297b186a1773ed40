"""`OpticalDense` for Flax Linen."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.linear import default_kernel_init
from flax.typing import Dtype, Initializer

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec

from .._context import RangeMode, check_input, check_size
from ..ranges import AxisName, calibrated_matmul
from ._layer import run


class OpticalDense(nn.Module):
    """`flax.linen.Dense` on a photonic device: DAC, analog matmul with noise, ADC.

    Parameters, collection "params":
        kernel [K, features], bias [features]: as in `nn.Dense`, so its checkpoints fit.
        x_log_gain, y_log_gain []: only with `ranges="learn"`; log of a factor on the full scales.
    Variables, collection "ranges", only for converters that are on:
        x_full_scale, y_full_scale f32[]: full scale of the DAC and of the ADC; 0 until calibrated.
    Random stream "noise", needed only where noise is drawn, and for gradients in "int8".

    The full scales follow the largest input and output of each batch when the collection is
    mutable and `deterministic` is False, as in

        y, updates = model.apply(variables, x, rngs={"noise": key}, mutable=["ranges"])

    and stay fixed otherwise. Until the first such call each batch is converted at its own range.

    Args:
        features: outputs, N.
        profile: the device, a preset's name, or None: an ideal one, which is `nn.Dense`.
        spec: bits of the converters; None: those of the profile.
        noise: noise of the device; None: that of the profile.
        ranges: "calibrate": full scales are running averages. "learn": times a factor that is
            trained.
        momentum: share of the old full scale in the next one.
        deterministic: no noise, and full scales stay as they are.
        use_bias: whether there is a bias.
        param_dtype: type of kernel and bias; the device computes in float32.
        kernel_init: initializer of the kernel.
        bias_init: initializer of the bias.
        axis_name: axes of `shard_map` or `vmap` over which one batch is spread: ranges are taken
            over all. Each shard draws from the key it is given, so fold `lax.axis_index` into that
            of "noise".

    Raises:
        ValueError: a field is out of its range, the preset is unknown, or the input is a scalar.
        TypeError: `profile` is something else, or the input or a parameter is not a real float of
            at most 32 bits.
        flax.errors.InvalidRngError: noise is to be drawn and there is no stream "noise".
    """

    features: int
    profile: HardwareProfile | str | None = "lumina_nano_v1"
    spec: OpticalSpec | None = None
    noise: NoiseModel | None = None
    ranges: RangeMode = "calibrate"
    momentum: float = 0.95
    deterministic: bool = False
    use_bias: bool = True
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = default_kernel_init
    bias_init: Initializer = nn.initializers.zeros_init()
    axis_name: AxisName | None = None

    @nn.compact
    def __call__(
        self,
        inputs: jax.Array,
        *,
        deterministic: bool | None = None,
        noise: NoiseModel | None = None,
    ) -> jax.Array:
        """Converts, multiplies and reads out.

        Args:
            inputs: f32[..., K].
            deterministic: takes precedence over the field.
            noise: takes precedence over the field and the profile; its values may be traced, which
                makes a noise schedule free of retracing.

        Returns:
            f32[..., features].
        """
        name = type(self).__name__
        check_size(name, "features", self.features)
        x = check_input(name, inputs)
        kernel = self.param(
            "kernel", self.kernel_init, (x.shape[-1], self.features), self.param_dtype
        )
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        return run(
            self,
            calibrated_matmul,
            x,
            kernel,
            bias,
            deterministic=deterministic,
            noise=noise,
        )
