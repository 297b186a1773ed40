"""Loops and branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._dim import Dim, Shape
from .._errors import Unsupported
from .._graph import Attr, Region, Value
from .._lower import Context
from .._ops import Fact, gives, gives_regions
from .._types import dim
from ._registry import rule


@rule("scan")
def _scan(ctx: Context) -> list[Value]:
    (body,) = ctx.bodies
    return ctx.node(
        body=ctx.region(body),
        length=Shape.of([dim(ctx.params["length"])]),
        carries=int(ctx.params["num_carry"]),
        reverse=bool(ctx.params["reverse"]),
    )


@gives("scan")
def _scanned(
    *operands: Value,
    body: Region,
    length: Sequence[int | Dim],
    carries: int,
    reverse: bool,
) -> list[Fact]:
    (lines,) = length
    facts = [(value.dtype, value.shape) for value in body.outputs]
    if facts[:carries] != [(value.dtype, value.shape) for value in operands[:carries]]:
        raise ValueError(f"a carry of {operands[:carries]} becomes {facts[:carries]}")
    stacked = [(dtype, Shape.of((lines, *extents))) for dtype, extents in facts[carries:]]
    return [*facts[:carries], *stacked]


@gives_regions("scan")
def _lines(operands: Sequence[Value], attrs: Mapping[str, Attr]) -> list[Fact]:
    carries = attrs["carries"]
    assert isinstance(carries, int)
    return [
        (value.dtype, value.shape if i < carries else Shape(value.shape[1:]))
        for i, value in enumerate(operands)
    ]


@rule("while")
def _while(ctx: Context) -> list[Value]:
    body, cond = ctx.bodies
    region = ctx.region(body)
    if cond.outputs[0].shape != ():
        raise Unsupported("its condition is one for each example; use jnp.where in the body")
    return ctx.node(body=region, cond=ctx.region(cond), limit=ctx.while_limit)


@gives("while")
def _repeated(*operands: Value, body: Region, cond: Region, limit: int) -> list[Fact]:
    facts = [(value.dtype, value.shape) for value in operands]
    if [(value.dtype, value.shape) for value in body.outputs] != facts:
        raise ValueError(f"a carry of {operands} becomes {body.outputs}")
    return facts


@gives_regions("while")
def _carry(operands: Sequence[Value], attrs: Mapping[str, Attr]) -> list[Fact]:
    return [(value.dtype, value.shape) for value in operands]


@rule("cond")
def _cond(ctx: Context) -> list[Value]:
    which = ctx.value(ctx.inputs[0])
    if which.dtype.name != "i32":
        (which,) = ctx.node("convert_element_type", [which], new_dtype="i32")
    branches: dict[str, Attr] = {
        f"branch_{i:03}": ctx.region(body) for i, body in enumerate(ctx.bodies)
    }
    return ctx.node("cond", [which], **branches)


@gives("cond")
def _chosen(which: Value, **branch: Region) -> list[Fact]:
    facts = [[(v.dtype, v.shape) for v in region.outputs] for region in branch.values()]
    if any(other != facts[0] for other in facts):
        raise ValueError(f"branches give {facts}")
    return facts[0]


@gives_regions("cond")
def _nothing(operands: Sequence[Value], attrs: Mapping[str, Attr]) -> list[Fact]:
    return []
