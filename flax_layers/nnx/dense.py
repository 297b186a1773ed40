"""`OpticalDense` for Flax NNX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.linear import default_kernel_init
from flax.typing import Dtype, Initializer

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec

from .._context import RangeMode, check_size
from ..ranges import AxisName, calibrated_matmul
from ._layer import OpticalLayer


class OpticalDense(OpticalLayer):
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
        name = type(self).__name__
        check_size(name, "in_features", in_features)
        check_size(name, "out_features", out_features)
        self.kernel = nnx.Param(
            kernel_init(rngs.params(), (in_features, out_features), param_dtype)
        )
        self.bias = nnx.data(
            nnx.Param(bias_init(rngs.params(), (out_features,), param_dtype)) if use_bias else None
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
            inputs: f32[..., in_features].
            deterministic, use_running_average: as the attributes.
            noise: stands in for the noise of the device; its values may be traced, which makes a
                noise schedule free of retracing.
            rngs: where the key of the noise comes from: streams, one stream, or the key itself.
            out_sharding: None; what calls a layer of Flax may give it.

        Returns:
            f32[..., out_features].
        """
        return self._run(
            calibrated_matmul,
            self._input(inputs, self.in_features),
            self.kernel[...],
            None if self.bias is None else self.bias[...],
            deterministic=deterministic,
            use_running_average=use_running_average,
            noise=noise,
            rngs=rngs,
            out_sharding=out_sharding,
        )
