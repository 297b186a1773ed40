"""Primitives that bring elements into order."""

from __future__ import annotations

from .._errors import Unsupported
from .._graph import DType, Value
from .._lower import Context
from .._ops import Fact, gives
from .._types import dim
from ._registry import rule


@rule("sort")
def _sort(ctx: Context) -> list[Value]:
    """Every sort of the format is stable, so `is_stable` is met either way."""
    return ctx.node(dimension=int(ctx.params["dimension"]), num_keys=int(ctx.params["num_keys"]))


@gives("sort")
def _sorted(*operands: Value, dimension: int, num_keys: int) -> list[Fact]:
    return [(x.dtype, x.shape) for x in operands]


@rule("top_k")
def _top_k(ctx: Context) -> list[Value]:
    k = dim(ctx.params["k"]).constant()
    if k is None:
        raise Unsupported(
            f"its `k` is {ctx.params['k']}, expected a number; export without a symbolic extent"
        )
    # Releases without the parameter take the last axis.
    last = len(ctx.inputs[0].shape) - 1
    return ctx.node(axis=int(ctx.params.get("axis", last)) % (last + 1), k=k)


@gives("top_k")
def _largest(x: Value, axis: int, k: int) -> list[Fact]:
    shape = x.shape.with_axis(axis, k)
    return [(x.dtype, shape), (DType.named("i32"), shape)]


@rule("approx_top_k")
def _approx_top_k(ctx: Context) -> list[Value]:
    """The k largest or smallest themselves, which are right for every `recall_target`."""
    ctx.require(0, "f32")
    if not ctx.params["aggregate_to_topk"]:
        raise Unsupported("it returns more than `k`; leave out `aggregate_to_topk=False`")
    axis = int(ctx.params["reduction_dimension"]) % len(ctx.inputs[0].shape)
    k = int(ctx.params["k"])
    if ctx.params["is_max_k"]:
        return ctx.node("top_k", axis=axis, k=k)
    values, indices = ctx.node("top_k", ctx.node("neg"), axis=axis, k=k)
    return [*ctx.node("neg", [values]), indices]
