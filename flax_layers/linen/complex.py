"""`ComplexOpticalDense` for Flax Linen."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec

from .._context import RangeMode, check_input, check_size, to_c64
from ..initializers import complex_glorot
from ..ranges import AxisName, calibrated_matmul
from ._layer import run


class ComplexOpticalDense(nn.Module):
    """A dense layer of complex numbers on a coherent device: `complex_optical_matmul`.

    Parameters, collection "params":
        kernel c64[K, features], bias c64[features]: named as in `nn.Dense`.
        x_log_gain, y_log_gain []: only with `ranges="learn"`; log of a factor on the full scales.
    Variables, collection "ranges", only for converters that are on:
        x_full_scale, y_full_scale f32[]: full scale of the DACs and of the ADCs of both parts; 0
            until calibrated.
    Random stream "noise", needed only where noise is drawn, and for gradients in "int8".

    The full scales follow the largest part of an input and output of each batch when the
    collection is mutable and `deterministic` is False, as in

        y, updates = model.apply(variables, x, rngs={"noise": key}, mutable=["ranges"])

    and stay fixed otherwise. Until the first such call each batch is converted at its own range.

    Args:
        features: outputs, N.
        profile: the device, a preset's name, or None: an ideal one.
        spec: bits of the converters; None: those of the profile.
        noise: noise of the device; None: that of the profile.
        ranges: "calibrate": full scales are running averages. "learn": times a factor that is
            trained.
        momentum: share of the old full scale in the next one.
        deterministic: no noise, and full scales stay as they are.
        use_bias: whether there is a bias.
        kernel_init: initializer of the kernel, called with `jnp.complex64`.
        bias_init: initializer of the bias.
        axis_name: axes of `shard_map` or `vmap` over which one batch is spread: ranges are taken
            over all. Each shard draws from the key it is given, so fold `lax.axis_index` into that
            of "noise".

    Raises:
        ValueError: a field is out of its range, the preset is unknown or has crosstalk, or the
            input is a scalar.
        TypeError: `profile` is something else, or the input or a parameter is not complex64.
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
    kernel_init: Initializer = complex_glorot()
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
            inputs: c64[..., K].
            deterministic: takes precedence over the field.
            noise: takes precedence over the field and the profile; its values may be traced, which
                makes a noise schedule free of retracing.

        Returns:
            c64[..., features].
        """
        name = type(self).__name__
        check_size(name, "features", self.features)
        x = check_input(name, inputs, of_device=to_c64)
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.complex64)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), jnp.complex64)
        return run(
            self,
            calibrated_matmul,
            x,
            kernel,
            bias,
            deterministic=deterministic,
            noise=noise,
        )
