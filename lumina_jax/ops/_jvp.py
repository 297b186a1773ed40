"""The derivative of every op: that of its reference, which is straight through the converters.

First derivatives of the public functions do not come here, their rules stand in `custom_vjp/`: what
comes here is the derivative of a derivative.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad

if TYPE_CHECKING:
    from ._op import OpDef


def jvp(
    op: OpDef[Any, Any], attrs: Any, primals: Sequence[jax.Array], tangents: Sequence[Any]
) -> tuple[list[jax.Array], list[Any]]:
    """The results of the op itself, and the tangents of those of its reference."""
    results = op(attrs, op.operands(*primals))
    active = [i for i, tangent in enumerate(tangents) if is_active(primals[i], tangent)]

    floats = [i for i, result in enumerate(results) if is_float(result)]

    def along_active(primals: list[jax.Array], along: list[jax.Array]) -> list[jax.Array]:
        def of_active(*values: jax.Array) -> list[jax.Array]:
            operands = list(primals)
            for i, value in zip(active, values, strict=True):
                operands[i] = value
            found = _reference(op)(op.smooth(attrs), *operands)
            return [found[i] for i in floats]

        return jax.jvp(of_active, [primals[i] for i in active], along)[1]

    shardings = [jax.typeof(results[i]).sharding for i in floats]
    along = [tangents[i] for i in active]
    found = iter(in_auto_axes(along_active, shardings)(list(primals), along))
    return results, [
        next(found) if is_float(result) else zero_tangent(result) for result in results
    ]


def in_auto_axes(function: Callable[..., Any], shardings: Any) -> Callable[..., Any]:
    """`function` where XLA splits what it computes, on a mesh with explicit axes too.

    There the products of plain jnp would have to say how each result is sharded; only the
    `shardings` of those of the function are known.
    """
    mesh = jax.sharding.get_abstract_mesh()
    explicit = tuple(
        name
        for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
        if kind == jax.sharding.AxisType.Explicit
    )
    if not explicit:
        return function
    return jax.sharding.auto_axes(function, axes=explicit, out_sharding=shardings)


@functools.cache
def _reference(op: OpDef[Any, Any]) -> Callable[..., list[jax.Array]]:
    """Compiled as one, where nothing around it is compiled."""

    @functools.partial(jax.jit, static_argnums=0, inline=True)
    def reference(attrs: Any, *operands: jax.Array) -> list[jax.Array]:
        return list(op.reference(attrs, op.operands(*operands)))

    return reference


def is_active(primal: jax.Array, tangent: Any) -> bool:
    """Whether the tangent is one of a number that has derivatives, and not known to be zero."""
    return is_float(primal) and not isinstance(tangent, ad.Zero)


def is_float(value: jax.Array) -> bool:
    """Whether the value has derivatives."""
    return jnp.issubdtype(value.dtype, jnp.inexact)


def zero_tangent(value: jax.Array) -> ad.Zero:
    """The tangent of what does not change."""
    return ad.Zero(jax.typeof(value).to_tangent_aval())
