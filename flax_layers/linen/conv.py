"""`OpticalConv` for Flax Linen."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.linear import default_kernel_init
from flax.typing import Dtype, Initializer

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec
from lumina_jax.custom_vjp.optical_conv import Padding, Sizes

from .._context import RangeMode, check_input, check_size
from .._convolution import convolution
from ..ranges import AxisName
from ._layer import run


class OpticalConv(nn.Module):
    """`flax.linen.Conv` on a photonic device, with one or two spatial axes.

    Each patch of the input is a row of an `OpticalDense` of K = kernel size · channels / groups
    inputs and N = features / groups outputs for each group; converters and ranges are those of all
    groups.

    Parameters, collection "params":
        kernel [kernel_size..., channels / groups, features], bias [features]: as in `nn.Conv`, so
            its checkpoints fit.
        x_log_gain, y_log_gain []: only with `ranges="learn"`; log of a factor on the full scales.
    Variables, collection "ranges", only for converters that are on:
        x_full_scale, y_full_scale f32[]: full scale of the DAC and of the ADC; 0 until calibrated.

    Args:
        features: outputs.
        kernel_size: an int for one spatial axis, or a size for each of one or two.
        strides, input_dilation, kernel_dilation: an int, or one for each spatial axis.
        padding: "SAME", "VALID", "CIRCULAR", "REFLECT", "CAUSAL", an int, or a pair for each
            spatial axis.
        feature_group_count: groups of channels and features.
        mask: factors of the kernel, of its shape.
        profile, spec, noise, ranges, momentum, deterministic, axis_name: as in `OpticalDense`.
        use_bias, param_dtype, kernel_init, bias_init: as in `nn.Conv`; the device computes in
            float32.

    Raises:
        ValueError: groups do not divide channels or features, the kernel is bigger than the padded
            image, or the padding is unknown; and as `OpticalDense`.
        TypeError: as `OpticalDense`.
        flax.errors.InvalidRngError: noise is to be drawn and there is no stream "noise".
    """

    features: int
    kernel_size: Sizes
    strides: Sizes | None = 1
    padding: Padding = "SAME"
    input_dilation: Sizes | None = 1
    kernel_dilation: Sizes | None = 1
    feature_group_count: int = 1
    mask: jax.Array | None = None
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
            inputs: f32[..., spatial axes..., channels]; any number of leading axes counts images.
            deterministic: takes precedence over the field.
            noise: takes precedence over the field and the profile; its values may be traced.

        Returns:
            f32[..., spatial axes..., features].
        """
        name = type(self).__name__
        check_size(name, "features", self.features)
        x = check_input(name, inputs)
        conv = convolution(
            name,
            in_features=x.shape[-1],
            features=self.features,
            kernel_size=self.kernel_size,
            strides=self.strides,
            padding=self.padding,
            input_dilation=self.input_dilation,
            kernel_dilation=self.kernel_dilation,
            feature_group_count=self.feature_group_count,
        )
        kernel = self.param("kernel", self.kernel_init, conv.shape, self.param_dtype)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        return run(
            self,
            conv.op(name, self.mask),
            x,
            kernel,
            bias,
            deterministic=deterministic,
            noise=noise,
        )
