"""The whole signal chain: convert, multiply, add bias and noise, convert back.

The formulas stand in `_chain.py`. This is the op of inference and of files. Training runs
`optical_matmul_fwd`, whose first result is the same bits, where its gradient needs more than the
output.
"""

from __future__ import annotations

from dataclasses import replace

import jax

from . import _tiles
from ._chain import ChainAttrs as Attrs
from ._chain import (
    Operands,
    converted,
    converted_shard,
    factors,
    found_in_rows,
    operand_types,
    signal_of_shards,
    signals,
    with_full_scales_of_shards,
)
from ._op import define
from ._partition import Axes
from ._signature import Signature, tensor


def _signature(attrs: Attrs) -> Signature:
    return Signature(
        operand_types(attrs, draws=attrs.noisy),
        (tensor("f32", "m", "n"),),
        whole=_tiles.whole(attrs),
    )


def _reference(attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    return [converted(attrs, operands, signals(attrs, operands))]


def _local(axes: Axes, attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    operands = with_full_scales_of_shards(axes, attrs, operands)
    if "k" not in axes:
        return op(attrs, operands)

    def product(operands: Operands[jax.Array]) -> jax.Array:
        return op(replace(attrs, adc_bits=0, noisy=False), operands)[0]

    at_adc = signal_of_shards(axes, attrs, operands, product)
    return [converted_shard(attrs, operands, at_adc)]


op = define(
    "optical_matmul",
    attrs=Attrs,
    operands=Operands,
    signature=_signature,
    reference=_reference,
    local=_local,
    factors=factors,
    found_in_rows=found_in_rows,
)
