"""The ops of a `.lmn` file: the types of what each gives, for what it takes.

The kernels of `lumina_jax.ops` have their signatures. Every other op has its type beside the rule
that writes it, in `rules/`. The runtime infers the same types, and trusts neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from lumina_jax.ops import OPS, OpDef

from ._dim import Dim, Shape
from ._graph import Attr, DType, Value

Fact = tuple[DType, Shape]
TypeRule = TypeVar("TypeRule", bound=Callable[..., Fact | list[Fact]])

TYPES: dict[str, Callable[..., Fact | list[Fact]]] = {}


def gives(*ops: str) -> Callable[[TypeRule], TypeRule]:
    """Registers the decorated function, `rule(*inputs, **attrs)`, as the type of the `ops`."""

    def register(rule: TypeRule) -> TypeRule:
        for op in ops:
            if op in TYPES:
                raise ValueError(f"two types for the op `{op}`")
            TYPES[op] = rule
        return rule

    return register


Given = Callable[[Sequence[Value], Mapping[str, Attr]], list[Fact]]

GIVEN: dict[str, Given] = {}


def gives_regions(*ops: str) -> Callable[[Given], Given]:
    """Registers what each region of the `ops` is given, from operands and other attributes."""

    def register(rule: Given) -> Given:
        GIVEN.update(dict.fromkeys(ops, rule))
        return rule

    return register


def infer(op: str, inputs: Sequence[Value], attrs: Mapping[str, Attr]) -> list[Fact]:
    """Types of the results of `op`.

    Raises ValueError where the op is unknown, or where operands or attributes do not fit it.
    """
    if op not in OPS and op not in TYPES:
        raise ValueError("there is no such op")
    try:
        found = _kernel(OPS[op], inputs, attrs) if op in OPS else TYPES[op](*inputs, **attrs)
    except (ArithmeticError, LookupError, TypeError, ValueError) as fault:
        raise ValueError(f"operands or attributes do not fit the op: {fault}") from fault
    return found if isinstance(found, list) else [found]


def _kernel(op: OpDef, inputs: Sequence[Value], attrs: Mapping[str, Any]) -> list[Fact]:
    signature = op.signature(op.attrs(**attrs))
    # What derives an extent from others may compute with numbers alone.
    shapes = [[_number_or_dim(dim) for dim in value.shape] for value in inputs]
    sizes = signature.sizes(shapes)
    return [(DType.named(t.dtype.name), Shape.of(t.shape(sizes))) for t in signature.results]


def _number_or_dim(dim: Dim) -> int | Dim:
    number = dim.constant()
    return dim if number is None else number
