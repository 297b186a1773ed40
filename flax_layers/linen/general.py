"""`OpticalDenseGeneral` and `OpticalEinsum` for Flax Linen."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.linear import default_kernel_init
from flax.typing import Dtype, Initializer

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec

from .._context import RangeMode, check_input
from .._contraction import (
    axes_of,
    check_batch,
    flattened,
    of_axes,
    of_equation,
    places_of,
    sizes_of,
)
from ..ranges import AxisName
from ._layer import run


class OpticalDenseGeneral(nn.Module):
    """`flax.linen.DenseGeneral` on a photonic device: a dense layer over several axes.

    The axes `axis` of the input are one axis of length K to the device, and `features` one of N:
    each matrix is that of an `OpticalDense`. For each place along the axes `batch_dims` there is a
    matrix of its own, with noise of its own; the ranges are those of all.

    Parameters, collection "params":
        kernel [batch..., inputs..., features...], bias [batch..., features...]: as in
            `nn.DenseGeneral`, so its checkpoints fit.
        x_log_gain, y_log_gain []: only with `ranges="learn"`; log of a factor on the full scales.
    Variables, collection "ranges", only for converters that are on:
        x_full_scale, y_full_scale f32[]: full scale of the DAC and of the ADC; 0 until calibrated.

    Args:
        features: the axes of the output that the kernel makes.
        axis: axes of the input that are summed over.
        batch_dims: the first axes of the input, in order, along which kernels differ.
        profile, spec, noise, ranges, momentum, deterministic, axis_name: as in `OpticalDense`.
        use_bias, param_dtype, kernel_init, bias_init: as in `nn.DenseGeneral`; the device computes
            in float32.

    Raises:
        ValueError: an axis is beyond the input or named twice; and as `OpticalDense`.
        TypeError: as `OpticalDense`.
        flax.errors.InvalidRngError: noise is to be drawn and there is no stream "noise".
    """

    features: int | Sequence[int]
    axis: int | Sequence[int] = -1
    batch_dims: Sequence[int] = ()
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
            inputs: f32[batch..., ...], with the axes `axis` anywhere behind the batch.
            deterministic: takes precedence over the field.
            noise: takes precedence over the field and the profile; its values may be traced.

        Returns:
            f32[batch..., other axes of the input..., features...].
        """
        name = type(self).__name__
        features = sizes_of(name, "features", self.features)
        axis = axes_of(name, "axis", self.axis)
        batch = axes_of(name, "batch_dims", self.batch_dims)
        check_batch(name, "batch_dims", batch)
        x = check_input(name, inputs)
        axis = places_of(name, axis, batch, x.ndim)
        contraction = of_axes(x.ndim, axis, batch, len(features))
        sides = tuple(x.shape[a] for a in (*batch, *axis))
        init = flattened(self.kernel_init, len(features))
        kernel = self.param("kernel", init, sides + features, self.param_dtype)
        bias = None
        if self.use_bias:
            shape = sides[: len(batch)] + features
            bias = self.param("bias", flattened(self.bias_init, None), shape, self.param_dtype)
        return run(
            self,
            contraction.op(),
            x,
            kernel,
            bias,
            deterministic=deterministic,
            noise=noise,
        )


class OpticalEinsum(nn.Module):
    """`flax.linen.Einsum` on a photonic device: an einsum of the input and a kernel.

    Letters that input and kernel share are one axis of length K to the device, and those of the
    kernel alone one of N: each matrix is that of an `OpticalDense`. Letters that the result has as
    well count matrices, each with noise of its own; the ranges are those of all.

    Parameters, collection "params":
        kernel [shape...], bias [...]: as in `nn.Einsum`, so its checkpoints fit.
        x_log_gain, y_log_gain []: only with `ranges="learn"`; log of a factor on the full scales.
    Variables, collection "ranges", only for converters that are on:
        x_full_scale, y_full_scale f32[]: full scale of the DAC and of the ADC; 0 until calibrated.

    Args:
        shape: of the kernel.
        einsum_str: letters of input, kernel and result, such as "btd,dhk->bthk"; `...` stands for
            axes of the input. Here or in the call.
        profile, spec, noise, ranges, momentum, deterministic, axis_name: as in `OpticalDense`.
        use_bias, param_dtype, kernel_init, bias_init: as in `nn.Einsum`; the device computes in
            float32.

    Raises:
        ValueError: the einsum is no product of matrices, as it takes a diagonal or sums over an
            axis of one operand, or it does not fit the shapes; and as `OpticalDense`.
        TypeError: as `OpticalDense`.
        flax.errors.InvalidRngError: noise is to be drawn and there is no stream "noise".
    """

    shape: Sequence[int]
    einsum_str: str | None = None
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
        einsum_str: str | None = None,
        *,
        deterministic: bool | None = None,
        noise: NoiseModel | None = None,
    ) -> jax.Array:
        """Converts, multiplies and reads out.

        Args:
            inputs: f32 with the axes of the first operand.
            einsum_str: where the field is None.
            deterministic: takes precedence over the field.
            noise: takes precedence over the field and the profile; its values may be traced.

        Returns:
            f32 with the axes of the result.
        """
        name = type(self).__name__
        shape = sizes_of(name, "shape", self.shape)
        equation = nn.merge_param("einsum_str", self.einsum_str, einsum_str)
        x = check_input(name, inputs)
        contraction = of_equation(name, equation, x, shape)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            of_bias = tuple(shape[contraction.kernel.index(c)] for c in contraction.bias)
            bias = self.param("bias", self.bias_init, of_bias, self.param_dtype)
        return run(
            self,
            contraction.op(),
            x,
            kernel,
            bias,
            deterministic=deterministic,
            noise=noise,
        )
