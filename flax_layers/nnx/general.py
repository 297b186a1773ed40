"""`OpticalDenseGeneral` and `OpticalEinsum` for Flax NNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.linear import default_kernel_init
from flax.typing import Dtype, Initializer

from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec

from .._context import RangeMode
from .._contraction import (
    axes_of,
    check_batch,
    check_equation,
    flattened,
    of_axes,
    of_equation,
    places_of,
    sizes_of,
)
from ..ranges import AxisName
from ._layer import OpticalLayer


class OpticalDenseGeneral(OpticalLayer):
    """`flax.nnx.LinearGeneral` on a photonic device: a dense layer over several axes.

    The axes `axis` of the input are one axis of length K to the device, and `out_features` one of
    N: each matrix is that of an `OpticalDense`. For each place along the batch axes there is a
    matrix of its own, with noise of its own; the ranges are those of all.

    State:
        kernel [batch..., in_features..., out_features...], bias [batch..., out_features...]:
            `nnx.Param`, as in `nnx.LinearGeneral`.
        x_full_scale, y_full_scale, x_log_gain, y_log_gain, rngs: as in `OpticalDense`.

    Args:
        in_features: lengths of the axes that are summed over.
        out_features: axes of the output that the kernel makes.
        axis: axes of the input that are summed over, as many as `in_features`.
        batch_axis: lengths of the first axes of the input, in order, along which kernels differ.
        profile, spec, noise, ranges, momentum, deterministic, use_running_average, axis_name: as in
            `OpticalDense`.
        use_bias, param_dtype, kernel_init, bias_init: as in `nnx.LinearGeneral`; the device
            computes in float32.
        rngs: streams "params", and "noise" where noise is to be drawn or gradients are "int8".

    Raises:
        ValueError: an axis is beyond the input, named twice or of another length; and as
            `OpticalDense`.
        TypeError: as `OpticalDense`.
    """

    def __init__(
        self,
        in_features: int | Sequence[int],
        out_features: int | Sequence[int],
        *,
        axis: int | Sequence[int] = -1,
        batch_axis: Mapping[int, int] = MappingProxyType({}),
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
        self.in_features = sizes_of(name, "in_features", in_features)
        self.out_features = sizes_of(name, "out_features", out_features)
        self.axis = axes_of(name, "axis", axis)
        check_batch(name, "batch_axis", tuple(batch_axis))
        self.batch = sizes_of(name, "batch_axis", tuple(batch_axis.values())) if batch_axis else ()
        if len(self.axis) != len(self.in_features):
            raise ValueError(
                f"{name}: `axis` is {self.axis}, expected as many axes as `in_features`, "
                f"{self.in_features}"
            )
        init = flattened(kernel_init, len(self.out_features))
        shape = self.batch + self.in_features + self.out_features
        self.kernel = nnx.Param(init(rngs.params(), shape, param_dtype))
        shape = self.batch + self.out_features
        init = flattened(bias_init, None)
        self.bias = nnx.data(
            nnx.Param(init(rngs.params(), shape, param_dtype)) if use_bias else None
        )
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
            inputs: f32[batch..., ...], with the axes `axis` anywhere behind the batch.
            deterministic, use_running_average: as the attributes.
            noise: stands in for the noise of the device; its values may be traced.
            rngs: where the key of the noise comes from: streams, one stream, or the key itself.
            out_sharding: None; what calls a layer of Flax may give it.

        Returns:
            f32[batch..., other axes of the input..., out_features...].
        """
        name = type(self).__name__
        x = self._input(inputs)
        batch = range(len(self.batch))
        axis = places_of(name, self.axis, batch, x.ndim)
        contraction = of_axes(x.ndim, axis, batch, len(self.out_features))
        lengths = tuple(x.shape[a] for a in (*batch, *axis))
        if lengths != self.batch + self.in_features:
            raise ValueError(
                f"{name}: `x` has shape {x.shape}, expected {self.batch + self.in_features} along "
                f"the axes {(*batch, *axis)}"
            )
        return self._run(
            contraction.op(),
            x,
            self.kernel[...],
            None if self.bias is None else self.bias[...],
            deterministic=deterministic,
            use_running_average=use_running_average,
            noise=noise,
            rngs=rngs,
            out_sharding=out_sharding,
        )


class OpticalEinsum(OpticalLayer):
    """`flax.nnx.Einsum` on a photonic device: an einsum of the input and a kernel.

    Letters that input and kernel share are one axis of length K to the device, and those of the
    kernel alone one of N: each matrix is that of an `OpticalDense`. Letters that the result has as
    well count matrices, each with noise of its own; the ranges are those of all.

    State:
        kernel [kernel_shape...], bias [bias_shape...]: `nnx.Param`, as in `nnx.Einsum`.
        x_full_scale, y_full_scale, x_log_gain, y_log_gain, rngs: as in `OpticalDense`.

    Args:
        einsum_str: letters of input, kernel and result, such as "btd,dhk->bthk"; `...` stands for
            axes of the input.
        kernel_shape: of the kernel.
        bias_shape: of the bias, the axes of the result that the kernel has; None: there is none.
        profile, spec, noise, ranges, momentum, deterministic, use_running_average, axis_name: as in
            `OpticalDense`.
        param_dtype, kernel_init, bias_init: as in `nnx.Einsum`; the device computes in float32.
        rngs: streams "params", and "noise" where noise is to be drawn or gradients are "int8".

    Raises:
        ValueError: the einsum is no product of matrices, as it takes a diagonal or sums over an
            axis of one operand, or it does not fit the shapes; and as `OpticalDense`.
        TypeError: as `OpticalDense`.
    """

    def __init__(
        self,
        einsum_str: str,
        kernel_shape: Sequence[int],
        bias_shape: Sequence[int] | None = None,
        *,
        profile: HardwareProfile | str | None = "lumina_nano_v1",
        spec: OpticalSpec | None = None,
        noise: NoiseModel | None = None,
        ranges: RangeMode = "calibrate",
        momentum: float = 0.95,
        deterministic: bool = False,
        use_running_average: bool = False,
        param_dtype: Dtype = jnp.float32,
        kernel_init: Initializer = default_kernel_init,
        bias_init: Initializer = nnx.initializers.zeros_init(),
        axis_name: AxisName | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        name = type(self).__name__
        check_equation(name, einsum_str)
        self.einsum_str = einsum_str
        self.kernel_shape = sizes_of(name, "kernel_shape", kernel_shape)
        self.kernel = nnx.Param(kernel_init(rngs.params(), self.kernel_shape, param_dtype))
        self.bias_shape = None if bias_shape is None else tuple(bias_shape)
        self.bias = nnx.data(
            None
            if self.bias_shape is None
            else nnx.Param(bias_init(rngs.params(), self.bias_shape, param_dtype))
        )
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
        einsum_str: str | None = None,
        *,
        deterministic: bool | None = None,
        use_running_average: bool | None = None,
        noise: NoiseModel | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
        out_sharding: None = None,
    ) -> jax.Array:
        """Converts, multiplies and reads out; arguments take precedence over attributes.

        Args:
            inputs: f32 with the axes of the first operand.
            einsum_str: as the attribute.
            deterministic, use_running_average: as the attributes.
            noise: stands in for the noise of the device; its values may be traced.
            rngs: where the key of the noise comes from: streams, one stream, or the key itself.
            out_sharding: None; what calls a layer of Flax may give it.

        Returns:
            f32 with the axes of the result.
        """
        name = type(self).__name__
        x = self._input(inputs)
        equation = self.einsum_str if einsum_str is None else einsum_str
        contraction = of_equation(name, equation, x, self.kernel_shape)
        of_bias = tuple(self.kernel_shape[contraction.kernel.index(c)] for c in contraction.bias)
        if self.bias_shape not in (None, of_bias):
            raise ValueError(
                f"{name}: `bias_shape` is {self.bias_shape}, expected {of_bias}, the axes of the "
                f"result of {equation!r} that the kernel has"
            )
        return self._run(
            contraction.op(),
            x,
            self.kernel[...],
            None if self.bias is None else self.bias[...],
            deterministic=deterministic,
            use_running_average=use_running_average,
            noise=noise,
            rngs=rngs,
            out_sharding=out_sharding,
        )
