"""Array tiles: an array has a limited number of inputs, and an ADC of its own.

    y_t = x_q[tile t] · w_q[tile t]  (+ bias for t = 0)        out = Σ_t ADC(y_t + σ_t·ε_t)

Tile t holds the inputs from t·R on, at most R = `array_rows` of them. ε_t is drawn from
`seed + t · 0xD1342543DE82EF95 (mod 2^64)`, so tile 0 draws as an array does that has all inputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .._signal_chain import ChainAttrs, DeviceAttrs, Operands
from ._signature import Derived
from .optical_noise import seed_of_part

Chain = TypeVar("Chain", bound=ChainAttrs)


def inputs_of_tiles(attrs: DeviceAttrs, depth: int) -> list[slice]:
    """The inputs of each tile, of which there is at least one."""
    rows = attrs.array_rows or max(depth, 1)
    return [slice(start, min(start + rows, depth)) for start in range(0, max(depth, 1), rows)]


def derived(attrs: DeviceAttrs) -> dict[str, Derived]:
    """The number of tiles, extent "t" of what is saved of each; none where arrays have no limit."""
    if not attrs.array_rows:
        return {}
    return {"t": Derived(("k",), lambda k: max(-(-k // attrs.array_rows), 1))}


def saved_dims(attrs: DeviceAttrs) -> tuple[str, ...]:
    """Dimensions of what is saved of the products."""
    return ("m", "t", "n") if attrs.array_rows else ("m", "n")


def whole(attrs: DeviceAttrs) -> frozenset[str]:
    """Dimensions that no shard splits: a tile is read at once."""
    return frozenset("k") if attrs.array_rows else frozenset()


def of_one_array(attrs: Chain) -> Chain:
    """The attributes of a tile on its own."""
    return replace(attrs, array_rows=0)


def tiles(attrs: ChainAttrs, operands: Operands[jax.Array]) -> list[Operands[jax.Array]]:
    """The operands of each tile on its own; the first has the bias."""
    return [
        operands._replace(
            x=operands.x[:, inputs],
            w=weights_of(attrs, operands.w, inputs),
            bias=operands.bias if tile == 0 else jnp.zeros(1, np.float32),
            seed=seed_of_part(operands.seed, tile),
        )
        for tile, inputs in enumerate(inputs_of_tiles(attrs, operands.x.shape[1]))
    ]


def weights_of(attrs: ChainAttrs, w: jax.Array, inputs: slice) -> Any:
    """The weights of some inputs."""
    return w[:, inputs] if attrs.transpose_weight else w[inputs]
