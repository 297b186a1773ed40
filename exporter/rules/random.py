"""Derivation of PRNG keys, which the graph holds as u32[2]: `fold_in` and `split` of threefry."""

from __future__ import annotations

import math

import jax

from .._dim import Shape
from .._errors import Unsupported
from .._graph import DType, Value
from .._lower import Context
from ._registry import rule

_KEY = (DType.U32, Shape.of((2,)))


@rule("random_wrap", "random_unwrap", "random_clone")
def _identity(ctx: Context) -> list[Value]:
    return [ctx.value(ctx.inputs[0])]


@rule("random_fold_in")
def _fold_in(ctx: Context) -> list[Value]:
    key, data = ctx.inputs
    _require_single(key.shape)
    _require_single(data.shape)
    return ctx.node("threefry_fold_in", outputs=[_KEY])


@rule("random_split")
def _split(ctx: Context) -> list[Value]:
    _require_single(ctx.inputs[0].shape)
    if not jax.config.jax_threefry_partitionable:  # pyright: ignore[reportAttributeAccessIssue]
        raise Unsupported("it means jax_threefry_partitionable=True; set that option")
    extents = ctx.ints("shape")
    num = math.prod(extents)
    keys = ctx.node("threefry_split", outputs=[(DType.U32, Shape.of((num, 2)))], num=num)
    if len(extents) == 1:
        return keys
    shape = Shape.of((*extents, 2))
    return ctx.node("reshape", keys, [(DType.U32, shape)], new_sizes=shape)


def _require_single(shape: tuple[object, ...]) -> None:
    if shape != ():
        raise Unsupported(
            f"it takes one key, got an array of shape {list(shape)}; "
            "write a loop over the keys instead of vmap"
        )
