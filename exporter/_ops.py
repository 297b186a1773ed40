"""The ops of a `.lmn` file: the types of what each gives, for what it takes.

The kernels of `lumina_jax.ops` have their signatures. Every other op has its type beside the rule
that writes it, in `rules/`. The runtime infers the same types, and trusts neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from lumina_jax.ops import OPS, OpDef

from ._dim import Shape
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
    sizes = signature.sizes([value.shape for value in inputs])
    return [(DType.named(t.dtype.name), Shape.of(t.shape(sizes))) for t in signature.results]
