"""A convolution through the whole signal chain: `optical_matmul` of every patch.

What a patch is stands in `_conv.py`. This is the op of inference and of files. Training runs
`optical_conv_fwd`, whose first result is the same bits, where its gradient needs more than the
output.
"""

from __future__ import annotations

import jax

from . import optical_matmul
from ._conv import ConvAttrs as Attrs
from ._conv import (
    Operands,
    factors,
    found_in_rows,
    images_of,
    operand_types,
    products,
    signature,
    with_found_x_range,
    with_full_scales_of_shards,
)
from ._op import define
from ._partition import Axes
from ._signature import Signature, tensor


def _signature(attrs: Attrs) -> Signature:
    operands = operand_types(attrs, draws=attrs.noisy)
    return signature(attrs, operands, (tensor("f32", "m", "oh", "ow", "n"),))


def _reference(attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    of_product = optical_matmul.Attrs(**attrs.of_product)
    of_groups = [
        optical_matmul.op.reference(of_product, product)[0]
        for product in products(attrs, with_found_x_range(attrs, operands), draws=attrs.noisy)
    ]
    return [images_of(attrs, operands, of_groups)]


def _local(axes: Axes, attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    return op(attrs, with_full_scales_of_shards(axes, attrs, operands))


op = define(
    "optical_conv",
    attrs=Attrs,
    operands=Operands,
    signature=_signature,
    reference=_reference,
    local=_local,
    factors=factors,
    found_in_rows=found_in_rows,
)
