"""The signal chain of complex numbers: `optical_matmul` of their parts, with circular noise.

The formulas stand in `_chain.py` and `_complex.py`. This is the op of inference and of files.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from . import _tiles
from ._chain import ChainAttrs as Attrs
from ._chain import (
    Operands,
    converted,
    converted_shard,
    operand_types,
    signal_of_shards,
    signals,
)
from ._complex import (
    factors,
    floats,
    found_in_rows,
    in_floats,
    numbers,
    sigma_of_parts,
    with_ranges_of_shards,
)
from ._op import define
from ._partition import Axes
from ._signature import Signature, tensor


def _signature(attrs: Attrs) -> Signature:
    operands = operand_types(attrs, draws=attrs.noisy, number="c64")
    return Signature(operands, (tensor("c64", "m", "n"),), whole=_tiles.whole(attrs))


def _reference(attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    attrs, parts = in_floats(attrs, operands)
    return [numbers(converted(attrs, parts, signals(attrs, parts, sigma_of_parts)))]


def _local(axes: Axes, attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    operands = with_ranges_of_shards(axes, attrs, operands)
    if "k" not in axes:
        return op(attrs, operands)

    def product(parts: Operands[jax.Array]) -> jax.Array:
        del parts
        without_bias = operands._replace(bias=jnp.zeros_like(operands.bias))
        return floats(op(replace(attrs, adc_bits=0, noisy=False), without_bias)[0])

    of_floats, parts = in_floats(attrs, operands)
    at_adc = signal_of_shards(axes, of_floats, parts, product, sigma_of_parts)
    return [numbers(converted_shard(attrs, parts, at_adc))]


op = define(
    "complex_optical_matmul",
    attrs=Attrs,
    operands=Operands,
    signature=_signature,
    reference=_reference,
    local=_local,
    factors=factors,
    found_in_rows=found_in_rows,
)
