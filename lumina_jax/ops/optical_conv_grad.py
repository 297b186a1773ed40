"""The gradient of the convolution, straight through the converters and through the noise.

It is that of `optical_matmul` for the patches, of each group: dx is the sum of the gradients of the
patches over all that an element of x is in, and what is by image the sum over its places.

With `grad_precision="int8"` at most 256 places share a scale in dw, of one image or of several
small ones; how they are cut is up to the platform: the law is the same, the bits are not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from . import optical_conv_fwd, optical_matmul_grad
from ._conv import ConvAttrs, operand_types, patches, products, signature
from ._conv import Operands as ForwardOperands
from ._op import define
from ._partition import Axes, sum_over
from ._signature import Signature, tensor

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Attrs(ConvAttrs):
    """Attributes of the op."""

    residual: str
    grad_precision: str
    with_inputs: bool
    with_ranges: bool

    @property
    def of_gradient(self) -> optical_matmul_grad.Attrs:
        """Those of the gradient of the product of one group."""
        return optical_matmul_grad.Attrs(
            **self.of_product,
            residual=self.residual,
            grad_precision=self.grad_precision,
            with_inputs=self.with_inputs,
            with_ranges=self.with_ranges,
        )


class Operands(NamedTuple, Generic[T]):
    """The gradient of the output, what the forward op saved, and its operands but for the bias."""

    g: T
    """f32[m, oh, ow, n]"""
    saved: T
    """f32[m, oh, ow, n], i8 for signs; [m, oh, ow, t, n] where `array_rows` limits arrays."""
    x: T
    kernel: T
    x_full_scale: T
    w_full_scale: T
    y_full_scale: T
    noise: T
    seed: T
    rows: T
    columns: T


class Gradients(NamedTuple, Generic[T]):
    """The results: gradients by the forward operands of these names."""

    x: T
    """f32[m, h, w, c]"""
    kernel: T
    """f32[kh, kw, c / feature_group_count, n]"""
    bias: T
    """f32[n]"""
    x_full_scale: T
    """f32[m]"""
    w_full_scale: T
    """f32[n]"""
    y_full_scale: T
    """f32[n]"""
    noise: T
    """f32[m, 4]"""


def _signature(attrs: Attrs) -> Signature:
    name = "optical_conv_grad"
    optical_matmul_grad.check_residual(name, attrs.of_gradient)
    (saved,) = optical_conv_fwd.residual_types(name, attrs.residual, attrs)
    draws = attrs.noisy or attrs.grad_precision == "int8"
    # The full scales that the forward op found are given.
    given = {"x_full_scale": tensor("f32", "m?"), "w_full_scale": tensor("f32", "n?")}
    forward = {**operand_types(attrs, draws=draws)._asdict(), **given}
    del forward["bias"]
    gradients = Gradients(
        x=forward["x"],
        kernel=forward["kernel"],
        bias=tensor("f32", "n"),
        x_full_scale=tensor("f32", "m"),
        w_full_scale=tensor("f32", "n"),
        y_full_scale=tensor("f32", "n"),
        noise=tensor("f32", "m", 4),
    )
    operands = Operands(g=tensor("f32", "m", "oh", "ow", "n"), saved=saved, **forward)
    return signature(attrs, operands, gradients)


def _reference(attrs: Attrs, operands: Operands[jax.Array]) -> Gradients[jax.Array]:
    g, saved, x, kernel = operands[:4]
    images, height, width, columns = g.shape
    rows, size = images * height * width, columns // attrs.feature_group_count
    tall, wide, depth, _ = kernel.shape
    no_bias = jnp.zeros(1, np.float32)
    forward = ForwardOperands(x, kernel, no_bias, *operands[4:])
    draws = attrs.noisy or attrs.grad_precision == "int8"
    of_groups = []
    for group, product in enumerate(products(attrs, forward, draws=draws)):
        of_group = {
            name: value.reshape(rows, *value.shape[3:])[..., group * size : (group + 1) * size]
            for name, value in (("g", g), ("saved", saved))
        }
        inputs = product._asdict()
        del inputs["bias"]
        inputs = optical_matmul_grad.Operands(**of_group, **inputs)
        results = optical_matmul_grad.op.reference(attrs.of_gradient, inputs)
        of_groups.append(optical_matmul_grad.Gradients(*results))

    def joined(name: str, *shape: int) -> jax.Array:
        parts = [getattr(of_group, name) for of_group in of_groups]
        return jnp.concatenate([part.reshape(*shape, part.shape[-1]) for part in parts], axis=-1)

    def by_image(name: str) -> jax.Array:
        total = jnp.stack([getattr(of_group, name) for of_group in of_groups])
        by_place = total.reshape(len(of_groups), images, height * width, *total.shape[2:])
        return jnp.sum(by_place, axis=(0, 2))

    of_patches = jnp.concatenate(
        [of_group.x.reshape(images, height, width, tall, wide, depth) for of_group in of_groups],
        axis=-1,
    )
    _, add_up = jax.vjp(lambda x: patches(attrs, x, kernel.shape), jnp.zeros_like(x))
    return Gradients(
        x=add_up(of_patches)[0],
        kernel=joined("w", tall, wide, depth),
        bias=joined("bias"),
        x_full_scale=by_image("x_full_scale"),
        w_full_scale=joined("w_full_scale"),
        y_full_scale=joined("y_full_scale"),
        noise=by_image("noise"),
    )


def _local(axes: Axes, attrs: Attrs, operands: Operands[jax.Array]) -> Gradients[jax.Array]:
    sums = Gradients(*op(attrs, operands))._asdict()
    # Each gradient is a sum over the dimensions that it lacks.
    for over, names in (
        ("n", ["x", "noise", "x_full_scale"]),
        ("m", ["kernel", "bias", "w_full_scale", "y_full_scale"]),
    ):
        sums |= sum_over(axes.get(over, ()), {name: sums[name] for name in names})
    return Gradients(**sums)


op = define(
    "optical_conv_grad",
    attrs=Attrs,
    operands=Operands,
    signature=_signature,
    reference=_reference,
    local=_local,
    # The expectation of what is rounded is what is not.
    smooth=lambda attrs: replace(attrs, grad_precision="float32"),
)
