"""Derivation of PRNG keys, which the graph holds as u32[2]: `fold_in` and `split` of threefry."""

from __future__ import annotations

import math

import jax

from .._dim import Shape
from .._errors import Unsupported
from .._graph import DType, Value
from .._lower import Context
from .._ops import Fact, gives
from ._registry import rule


@rule("random_wrap", "random_unwrap", "random_clone")
def _identity(ctx: Context) -> list[Value]:
    return [ctx.value(ctx.inputs[0])]


@rule("random_fold_in")
def _fold_in(ctx: Context) -> list[Value]:
    key, data = ctx.inputs
    _require_single(key.shape)
    _require_single(data.shape)
    return ctx.node("threefry_fold_in")


@gives("threefry_fold_in")
def _folded(key: Value, data: Value) -> Fact:
    return DType.named("u32"), Shape.of((2,))


@rule("random_split")
def _split(ctx: Context) -> list[Value]:
    _require_single(ctx.inputs[0].shape)
    if not jax.config.jax_threefry_partitionable:  # pyright: ignore[reportAttributeAccessIssue]
        raise Unsupported("it means jax_threefry_partitionable=True; set that option")
    extents = ctx.ints("shape")
    keys = ctx.node("threefry_split", num=math.prod(extents))
    return keys if len(extents) == 1 else ctx.node("reshape", keys, new_sizes=(*extents, 2))


@gives("threefry_split")
def _keys(key: Value, num: int) -> Fact:
    return DType.named("u32"), Shape.of((num, 2))


def _require_single(shape: tuple[object, ...]) -> None:
    if shape != ():
        raise Unsupported(
            f"it takes one key, got an array of shape {list(shape)}; "
            "write a loop over the keys instead of vmap"
        )
