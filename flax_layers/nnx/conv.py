"""`OpticalConv` for Flax NNX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.linear import default_kernel_init
from flax.typing import Dtype, Initializer

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec
from lumina_jax.custom_vjp.optical_conv import Padding, Sizes

from .._context import RangeMode, check_size
from .._convolution import convolution
from ..ranges import AxisName
from ._layer import OpticalLayer


class OpticalConv(OpticalLayer):
    """`flax.nnx.Conv` on a photonic device, with one or two spatial axes.

    Each patch of the input is a row of an `OpticalDense` of K = kernel size · in_features / groups
    inputs and N = out_features / groups outputs for each group; converters and ranges are those of
    all groups.

    State:
        kernel [kernel_size..., in_features / groups, out_features], bias [out_features]:
            `nnx.Param`, as in `nnx.Conv`.
        x_full_scale, y_full_scale, x_log_gain, y_log_gain, rngs: as in `OpticalDense`.

    Args:
        in_features, out_features: channels and outputs.
        kernel_size: an int for one spatial axis, or a size for each of one or two.
        strides, input_dilation, kernel_dilation: an int, or one for each spatial axis.
        padding: "SAME", "VALID", "CIRCULAR", "REFLECT", "CAUSAL", an int, or a pair for each
            spatial axis.
        feature_group_count: groups of in_features and out_features.
        mask: factors of the kernel, of its shape.
        profile, spec, noise, ranges, momentum, deterministic, use_running_average, axis_name: as in
            `OpticalDense`.
        use_bias, param_dtype, kernel_init, bias_init: as in `nnx.Conv`; the device computes in
            float32.
        rngs: streams "params", and "noise" where noise is to be drawn or gradients are "int8".

    Raises:
        ValueError: groups do not divide in_features or out_features, the kernel is bigger than the
            padded image, or the padding is unknown; and as `OpticalDense`.
        TypeError: as `OpticalDense`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Sizes,
        strides: Sizes | None = 1,
        *,
        padding: Padding = "SAME",
        input_dilation: Sizes | None = 1,
        kernel_dilation: Sizes | None = 1,
        feature_group_count: int = 1,
        mask: jax.Array | None = None,
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
        name = type(self).__name__
        check_size(name, "in_features", in_features)
        check_size(name, "out_features", out_features)
        self.convolution = convolution(
            name,
            in_features=in_features,
            features=out_features,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            input_dilation=input_dilation,
            kernel_dilation=kernel_dilation,
            feature_group_count=feature_group_count,
        )
        self.kernel = nnx.Param(kernel_init(rngs.params(), self.convolution.shape, param_dtype))
        self.bias = nnx.data(
            nnx.Param(bias_init(rngs.params(), (out_features,), param_dtype)) if use_bias else None
        )
        self.in_features = in_features
        self.out_features = out_features
        self.mask = nnx.data(mask)
        super().__init__(
            profile=profile,
            spec=spec,
            noise=noise,
            ranges=ranges,
            momentum=momentum,
            deterministic=deterministic,
            use_running_average=use_running_average,
            axis_name=axis_name,
            rngs=rngs,
        )

    def __call__(
        self,
        inputs: jax.Array,
        *,
        deterministic: bool | None = None,
        use_running_average: bool | None = None,
        noise: NoiseModel | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
        out_sharding: None = None,
    ) -> jax.Array:
        """Converts, multiplies and reads out; arguments take precedence over attributes.

        Args:
            inputs: f32[..., spatial axes..., in_features]; any number of leading axes counts
                images.
            deterministic, use_running_average: as the attributes.
            noise: stands in for the noise of the device; its values may be traced.
            rngs: where the key of the noise comes from: streams, one stream, or the key itself.
            out_sharding: None; what calls a layer of Flax may give it.

        Returns:
            f32[..., spatial axes..., out_features].
        """
        name = type(self).__name__
        return self._run(
            self.convolution.op(name, self.mask),
            self._input(inputs, self.in_features),
            self.kernel[...],
            None if self.bias is None else self.bias[...],
            deterministic=deterministic,
            use_running_average=use_running_average,
            noise=noise,
            rngs=rngs,
            out_sharding=out_sharding,
        )
