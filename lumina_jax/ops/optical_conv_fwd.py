"""`optical_conv` as training runs it, with what the backward pass and a calibration need.

The attributes are those of `optical_matmul_fwd`, and so are the results, with their rows as places
of images. `with_peak` and `with_x_peak` give one number for each image, f32[m]: the largest finite
|y|, and the largest finite |x| in a patch.

The op is not for files: what is exported is `optical_conv`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from . import optical_matmul_fwd
from ._conv import (
    ConvAttrs,
    Operands,
    factors,
    found_in_rows,
    images_of,
    operand_types,
    products,
    signature,
    with_found_x_range,
    with_full_scales_of_shards,
    x_peak,
)
from ._op import define
from ._partition import Axes
from ._signature import Signature, Tensor, tensor


@dataclass(frozen=True, kw_only=True)
class Attrs(ConvAttrs):
    """Attributes of the op."""

    residual: str
    with_peak: bool
    with_x_peak: bool
    with_w_peak: bool


def _signature(attrs: Attrs) -> Signature:
    out = tensor("f32", "m", "oh", "ow", "n")
    saved = residual_types("optical_conv_fwd", attrs.residual, attrs)
    images = (tensor("f32", "m"),) * (attrs.with_peak + attrs.with_x_peak)
    columns = (tensor("f32", "n"),) if attrs.with_w_peak else ()
    results = (out, *saved, *images, *columns)
    follows = {len(results) - 1: frozenset({"kernel"})} if columns else {}
    return signature(attrs, operand_types(attrs, draws=attrs.noisy), results, follows)


def residual_types(op: str, residual: str, attrs: ConvAttrs) -> tuple[Tensor, ...]:
    """What the op saves: one tensor, or nothing."""
    of_product = optical_matmul_fwd.residual_types(op, residual, attrs)
    return tuple(Tensor(saved.dtype, ("m", "oh", "ow", *saved.dims[1:])) for saved in of_product)


def _reference(attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    of_product = optical_matmul_fwd.Attrs(
        **attrs.of_product,
        residual=attrs.residual,
        with_peak=attrs.with_peak,
        with_x_peak=False,
        with_w_peak=attrs.with_w_peak,
    )
    of_groups = [
        list(optical_matmul_fwd.op.reference(of_product, product))
        for product in products(attrs, with_found_x_range(attrs, operands), draws=attrs.noisy)
    ]

    def next_of_all() -> Sequence[jax.Array]:
        return [results.pop(0) for results in of_groups]

    saves = attrs.residual != "none"
    results = [images_of(attrs, operands, next_of_all()) for _ in range(1 + saves)]
    if attrs.with_peak:
        by_place = images_of(attrs, operands, [peak[:, None] for peak in next_of_all()])
        results.append(jnp.max(by_place, axis=(1, 2, 3), initial=np.float32(0)))
    if attrs.with_x_peak:
        results.append(x_peak(attrs, operands))
    if attrs.with_w_peak:
        results.append(jnp.concatenate(next_of_all()))
    return results


def _local(axes: Axes, attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    results = op(attrs, with_full_scales_of_shards(axes, attrs, operands))
    if attrs.with_peak and "n" in axes:
        peak = 1 + (attrs.residual != "none")
        results[peak] = jax.lax.pmax(results[peak], axes["n"])
    return results


op = define(
    "optical_conv_fwd",
    attrs=Attrs,
    operands=Operands,
    signature=_signature,
    reference=_reference,
    local=_local,
    factors=factors,
    found_in_rows=found_in_rows,
)
