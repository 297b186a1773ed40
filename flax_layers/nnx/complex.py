"""`ComplexOpticalDense` for Flax NNX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Initializer

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec

from .._context import RangeMode, check_input, check_size, to_c64
from ..initializers import complex_glorot
from ..ranges import AxisName, calibrated_matmul
from ._layer import OpticalLayer


class ComplexOpticalDense(OpticalLayer):
    """A linear layer of complex numbers on a coherent device: `complex_optical_matmul`.

    State:
        kernel c64[in_features, out_features], bias c64[out_features]: `nnx.Param`, named as in
            `nnx.Linear`.
        x_full_scale, y_full_scale f32[]: `FullScale` of the DACs and ADCs of both parts, None where
            these are off.
        x_log_gain, y_log_gain f32[]: `nnx.Param`, only with `ranges="learn"`; log of a factor on
            the full scales.
        rngs: the stream "noise", forked, so that layers draw independently.

    `model.train()` draws noise and lets the full scales follow the largest part of an input
    and output of each batch; `model.eval()` does neither. Each can be had alone: noisy inference is

        model.eval()
        model.set_attributes(deterministic=False)

    and calibration without noise is `deterministic=True, use_running_average=False`. Until the
    first update each batch is converted at its own range.

    Args:
        in_features, out_features: K and N.
        profile: the device, a preset's name, or None: an ideal one.
        spec: bits of the converters; None: those of the profile.
        noise: noise of the device; None: that of the profile.
        ranges: "calibrate": full scales are running averages; "learn": times a trained factor.
        momentum: share of the old full scale in the next one.
        deterministic: no noise.
        use_running_average: full scales stay as they are.
        use_bias, kernel_init, bias_init: as in `nnx.Linear`; the initializers are called with
            `jnp.complex64`.
        axis_name: axes of `shard_map` or `vmap` over which one batch is spread: ranges are taken
            over all. Each shard draws from the key it is given.
        rngs: streams "params", and "noise" where noise is to be drawn or gradients are "int8".

    Raises:
        ValueError: an argument is out of its range, the preset is unknown or has crosstalk, noise
            is to be drawn and there is no stream, or the input does not end in `in_features`.
        TypeError: `profile` is something else, or the input or a parameter is not complex64.
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
        kernel_init: Initializer = complex_glorot(),
        bias_init: Initializer = nnx.initializers.zeros_init(),
        axis_name: AxisName | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        name = type(self).__name__
        check_size(name, "in_features", in_features)
        check_size(name, "out_features", out_features)
        self.kernel = nnx.Param(
            kernel_init(rngs.params(), (in_features, out_features), jnp.complex64)
        )
        self.bias = nnx.data(
            nnx.Param(bias_init(rngs.params(), (out_features,), jnp.complex64))
            if use_bias
            else None
        )
        self.in_features = in_features
        self.out_features = out_features
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
            inputs: c64[..., in_features].
            deterministic, use_running_average: as the attributes.
            noise: stands in for the noise of the device; its values may be traced, which makes a
                noise schedule free of retracing.
            rngs: where the key of the noise comes from: streams, one stream, or the key itself.
            out_sharding: None; what calls a layer of Flax may give it.

        Returns:
            c64[..., out_features].
        """
        return self._run(
            calibrated_matmul,
            check_input(type(self).__name__, inputs, self.in_features, to_c64),
            self.kernel[...],
            None if self.bias is None else self.bias[...],
            deterministic=deterministic,
            use_running_average=use_running_average,
            noise=noise,
            rngs=rngs,
            out_sharding=out_sharding,
        )
