"""Convolutions of both families: what they are made of, as the op takes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumina_jax.custom_vjp.optical_conv import Padding, Sizes, optical_conv

from ._context import Calibrated, check_size
from ._contraction import sizes_of
from .ranges import Ranges, calibrated_matmul


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """`optical_conv` of one geometry, with the kernel as a matrix: f32[kernel..., channels; n]."""

    shape: tuple[int, ...]
    """Of the kernel."""
    strides: tuple[int, ...]
    padding: Padding
    input_dilation: tuple[int, ...]
    kernel_dilation: tuple[int, ...]
    feature_group_count: int

    def __call__(
        self, x: jax.Array, kernel: jax.Array, bias: jax.Array | None, **chain: Any
    ) -> Any:
        return optical_conv(
            x,
            kernel.reshape(self.shape),
            bias,
            strides=self.strides,
            padding=self.padding,
            input_dilation=self.input_dilation,
            kernel_dilation=self.kernel_dilation,
            feature_group_count=self.feature_group_count,
            **chain,
        )

    def op(self, layer: str, mask: ArrayLike | None) -> Calibrated:
        """`calibrated_matmul` as this convolution, of a kernel times the mask.

        Raises:
            ValueError: the mask does not have the shape of the kernel.
        """
        if mask is not None and jnp.shape(mask) != self.shape:
            raise ValueError(
                f"{layer}: `mask` has shape {jnp.shape(mask)}, expected {self.shape} as the "
                "kernel has"
            )

        def convolved(
            x: jax.Array,
            kernel: jax.Array,
            bias: jax.Array | None,
            running: Ranges,
            **chain: Any,
        ) -> tuple[jax.Array, Ranges]:
            kernel = kernel if mask is None else kernel * jnp.asarray(mask, kernel.dtype)
            kernel = kernel.reshape(math.prod(self.shape[:-1]), self.shape[-1])
            return calibrated_matmul(x, kernel, bias, running, op=self, **chain)

        return convolved


def convolution(
    layer: str,
    *,
    in_features: int,
    features: int,
    kernel_size: Sizes,
    strides: Sizes | None,
    padding: Padding,
    input_dilation: Sizes | None,
    kernel_dilation: Sizes | None,
    feature_group_count: int,
) -> Convolution:
    """The convolution of a layer with those fields.

    Raises:
        ValueError: a size is not a positive int, there are not as many as spatial axes, groups do
            not divide the features, or the padding is unknown or crops.
    """
    taps = sizes_of(layer, "kernel_size", kernel_size)
    if len(taps) not in (1, 2):
        raise ValueError(f"{layer}: `kernel_size` is {kernel_size!r}, expected one or two sizes")
    check_size(layer, "feature_group_count", feature_group_count)
    for name, count in (("in_features", in_features), ("features", features)):
        if count % feature_group_count:
            raise ValueError(
                f"{layer}: `feature_group_count` is {feature_group_count}, expected a divisor of "
                f"`{name}`, {count}"
            )

    def by_axis(name: str, value: Sizes | None) -> tuple[int, ...]:
        sizes = sizes_of(layer, name, 1 if value is None else value)
        if not isinstance(value, Sequence):
            return sizes * len(taps)
        if len(sizes) != len(taps):
            raise ValueError(
                f"{layer}: `{name}` is {value!r}, expected an int or as many as `kernel_size` has"
            )
        return sizes

    named = ["SAME", "VALID", "CIRCULAR", "REFLECT", *(["CAUSAL"] if len(taps) == 1 else [])]
    if isinstance(padding, str):
        is_known = padding in named
    else:
        is_known = all(n >= 0 for n in jax.tree.leaves(padding) if isinstance(n, int))
    if not is_known:
        raise ValueError(
            f"{layer}: `padding` is {padding!r}, expected {', '.join(named)} or numbers from 0 on"
        )
    zeros: Any = padding
    if isinstance(padding, Sequence) and not isinstance(padding, str):
        # Of lists no layer could be compared or hashed.
        zeros = tuple(tuple(p) if isinstance(p, Sequence) else p for p in padding)
    return Convolution(
        shape=(*taps, in_features // feature_group_count, features),
        strides=by_axis("strides", strides),
        padding=zeros,
        input_dilation=by_axis("input_dilation", input_dilation),
        kernel_dilation=by_axis("kernel_dilation", kernel_dilation),
        feature_group_count=feature_group_count,
    )
