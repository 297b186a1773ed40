"""The batching rule of every op: `vmap(f)(x)[i] == f(x[i])`, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ._signature import ROWS, Signature

if TYPE_CHECKING:
    from ._op import OpDef

_FEW = 16
"""Examples that are calls of their own; more would make programs long to compile."""


def batch(
    op: OpDef[Any, Any], attrs: Any, operands: Sequence[jax.Array], dims: Sequence[int | None]
) -> tuple[list[jax.Array], list[int | None]]:
    """Rows of all examples in one call where rows are all that is batched, else one by one."""
    signature = op.signature(attrs)
    operands = [
        operand if dim is None else jnp.moveaxis(operand, dim, 0)
        for operand, dim in zip(operands, dims, strict=True)
    ]
    batched = [dim is not None for dim in dims]
    by_row = all(t.is_by_row for t, b in zip(signature.operands, batched, strict=True) if b)
    # Of results that are no rows, those alone are right that follow from what all examples share.
    shared = {
        index
        for index, names in signature.follows.items()
        if not any(
            b for n, b in zip(signature.operands._fields, batched, strict=True) if n in names
        )
    }
    rows_alone = all(t.is_by_row or i in shared for i, t in enumerate(signature.results))
    if by_row and rows_alone and ROWS not in signature.bound:
        results = _as_rows(op, attrs, signature, operands, batched)
        return results, [0 if t.is_by_row else None for t in signature.results]
    results = _one_by_one(op, attrs, operands, batched)
    return results, [0] * len(results)


def _as_rows(
    op: OpDef[Any, Any],
    attrs: Any,
    signature: Signature,
    operands: Sequence[jax.Array],
    batched: Sequence[bool],
) -> list[jax.Array]:
    operands, batched = _of_each_example(op, attrs, operands, batched)
    size = next(o.shape[0] for o, b in zip(operands, batched, strict=True) if b)
    shapes = [o.shape[1:] if b else o.shape for o, b in zip(operands, batched, strict=True)]
    rows = signature.sizes(shapes)[ROWS]

    def flatten(operand: jax.Array, optional: bool, is_batched: bool) -> jax.Array:
        if not is_batched:
            if optional and operand.shape[0] in (0, 1):
                return operand
            operand = operand[None]
        shape = (size, rows, *operand.shape[2:])
        return jnp.broadcast_to(operand, shape).reshape(size * rows, *shape[2:])

    flat = [
        flatten(o, t.dims[0] != ROWS, b) if t.is_by_row else o
        for o, t, b in zip(operands, signature.operands, batched, strict=True)
    ]
    results = zip(op(attrs, op.operands(*flat)), signature.results, strict=True)
    return [r.reshape(size, rows, *r.shape[1:]) if t.is_by_row else r for r, t in results]


def _of_each_example(
    op: OpDef[Any, Any], attrs: Any, operands: Sequence[jax.Array], batched: Sequence[bool]
) -> tuple[Sequence[jax.Array], Sequence[bool]]:
    """The operands with those given that the op would find in the rows of all examples together."""

    def found(*operands: jax.Array) -> Mapping[str, jax.Array]:
        return op.found_in_rows(attrs, op.operands(*operands))

    given = jax.vmap(found, in_axes=[0 if b else None for b in batched])(*operands)
    names = op.signature(attrs).operands._fields
    return (
        [given.get(name, o) for name, o in zip(names, operands, strict=True)],
        [name in given or b for name, b in zip(names, batched, strict=True)],
    )


def _one_by_one(
    op: OpDef[Any, Any], attrs: Any, operands: Sequence[jax.Array], batched: Sequence[bool]
) -> list[jax.Array]:
    def one(example: list[jax.Array]) -> list[jax.Array]:
        of_example = iter(example)
        pairs = zip(operands, batched, strict=True)
        return op(attrs, op.operands(*(next(of_example) if b else o for o, b in pairs)))

    mapped = [o for o, b in zip(operands, batched, strict=True) if b]
    size = mapped[0].shape[0]
    if isinstance(size, int) and 0 < size <= _FEW:
        # Calls that follow each other can be exported, and XLA runs them side by side.
        examples = [
            one([jax.lax.index_in_dim(o, i, keepdims=False) for o in mapped]) for i in range(size)
        ]
        return [jnp.stack(results) for results in zip(*examples, strict=True)]
    return jax.lax.map(one, mapped)
