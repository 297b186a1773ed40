"""Primitives that reduce or accumulate along axes."""

from __future__ import annotations

from lumina_jax._jaxpr import binary_operation

from .._dim import Shape
from .._errors import Unsupported
from .._graph import DType, Value
from .._lower import Context, Rule
from .._ops import Fact, gives
from .._types import fact
from ._operations import BY_OPERATION
from ._registry import rule

_REAL = ("f32", "i32", "u32", "i8")
_BITS = ("bool", "i32", "u32", "i8")

# Element types of the operand, by the primitives that are the op of the same name.
_REDUCTIONS = {
    **dict.fromkeys(("reduce_prod", "reduce_sum"), (*_REAL, "c64")),
    **dict.fromkeys(("reduce_max", "reduce_min"), (*_REAL, "bool")),
    **dict.fromkeys(("reduce_and", "reduce_or", "reduce_xor"), _BITS),
}
_CUMULATIVE = {
    **dict.fromkeys(("cumprod", "cumsum"), (*_REAL, "c64")),
    **dict.fromkeys(("cummax", "cummin"), _REAL),
    "cumlogsumexp": ("f32",),
}


def _reduction(dtypes: tuple[str, ...]) -> Rule:
    def apply(ctx: Context) -> list[Value]:
        ctx.require(0, *dtypes)
        return ctx.node(axes=ctx.ints("axes"))

    return apply


def _cumulation(dtypes: tuple[str, ...]) -> Rule:
    def apply(ctx: Context) -> list[Value]:
        ctx.require(0, *dtypes)
        return ctx.node(axis=int(ctx.params["axis"]), reverse=bool(ctx.params["reverse"]))

    return apply


def _reduced(x: Value, axes: tuple[int, ...]) -> Fact:
    return x.dtype, Shape(dim for axis, dim in enumerate(x.shape) if axis not in axes)


def _accumulated(x: Value, axis: int, reverse: bool) -> Fact:
    return x.dtype, x.shape


for _primitive, _dtypes in _REDUCTIONS.items():
    rule(_primitive)(_reduction(_dtypes))
    gives(_primitive)(_reduced)
for _primitive, _dtypes in _CUMULATIVE.items():
    rule(_primitive)(_cumulation(_dtypes))
    gives(_primitive)(_accumulated)


@rule("reduce")
def _reduce(ctx: Context) -> list[Value]:
    """A reduction by one operation, and that operation of its result and the initial value."""
    operation = binary_operation(ctx.params["jaxpr"])
    if operation not in BY_OPERATION:
        raise Unsupported(
            "its function is not one operation of its two arguments (add, mul, max, min, and, or, "
            "xor); write a Python loop over the lines of jnp.unstack"
        )
    reduction = f"reduce_{BY_OPERATION[operation]}"
    ctx.require(0, *_REDUCTIONS[reduction])
    operand, initial = ctx.inputs
    reduced = ctx.node(reduction, [operand], axes=ctx.ints("dimensions"))
    return ctx.node(operation, [*reduced, initial])


@rule("argmax", "argmin")
def _arg(ctx: Context) -> list[Value]:
    ctx.require(0, *_REAL, "bool", "u8", "i16")
    dtype, _ = fact((), ctx.params["index_dtype"])
    index = dtype.name if dtype.name in ("i32", "u32") else "i32"
    found = ctx.node(axes=ctx.ints("axes"), index_dtype=index)
    if dtype.name == index:
        return found
    return ctx.node("convert_element_type", found, new_dtype=dtype.name)


@gives("argmax", "argmin")
def _index(x: Value, axes: tuple[int, ...], index_dtype: str) -> Fact:
    return DType.named(index_dtype), _reduced(x, axes)[1]
