"""Functions whose gradient is an op of its own, and that JAX differentiates in any way.

A `jax.custom_vjp` has no forward mode. Here the tangent of a function is a primitive, linear in the
tangents of the operands:

    forward mode    evaluates it: the transpose of the gradient, as its definition in jnp gives it
    reverse mode    transposes it: the gradient, by the op

and its own derivative is that of the definition. So `jvp`, `grad`, `linearize`, `jacfwd` and any
of them over another one work, and a first gradient runs the kernels alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax._src import core, dispatch
from jax._src.interpreters import mlir
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from ..ops._jvp import in_auto_axes, is_active, is_float, zero_tangent
from ..ops._op import axes_of_type, vary_over, varying_axes

C = TypeVar("C", bound=Hashable)
O = TypeVar("O", bound=tuple)  # noqa: E741, a NamedTuple


class Forward(NamedTuple):
    """What the forward pass leaves."""

    results: list[jax.Array]
    """Those of the function; only the first has a tangent."""
    static: Hashable
    """What the gradient is told that is no array."""
    residuals: Any
    """A pytree of arrays."""


@dataclass(frozen=True, eq=False)
class Rule(Generic[C, O]):
    """A function of a NamedTuple of arrays, and its derivative."""

    name: str
    primal: Callable[[C, O], list[jax.Array]]
    forward: Callable[[C, O, Any], Forward]
    """Of the operands, and which of them are differentiated."""
    gradient: Callable[[Any, Any, jax.Array], Any]
    """The gradient of every operand, None for an id; of `static`, the residuals and the gradient of
    the first result."""
    definition: Callable[[Any, Any, jax.Array], Any]
    """The same in jnp."""


def differentiable(rule: Rule[C, O]) -> Callable[[C, O], list[jax.Array]]:
    """The function of that rule: of what is static in a call, and its operands."""
    tangent_p = _tangent_primitive(rule)

    @functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
    def function(call: C, operands: O) -> list[jax.Array]:
        return rule.primal(call, operands)

    def derivative(
        call: C, primals: tuple[O], tangents: tuple[Any]
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        (operands,), (along,) = primals, tangents
        wanted: list[Any] = [
            is_float(operand) and not isinstance(tangent, SymbolicZero)
            for operand, tangent in zip(operands, along, strict=True)
        ]
        results, static, residuals = rule.forward(call, operands, type(operands)(*wanted))
        leaves, tree = jax.tree.flatten(residuals)
        active = tuple(i for i, is_wanted in enumerate(wanted) if is_wanted)
        (tangent,) = tangent_p.bind(
            *leaves,
            *(along[i] for i in active),
            static=static,
            tree=tree,
            active=active,
            aval=jax.typeof(results[0]).to_tangent_aval(),
            batches=(),
        )
        others = [vary_over(jnp.zeros_like(r), varying_axes(r)) for r in results[1:]]
        return results, [tangent, *others]

    function.defjvp(derivative, symbolic_zeros=True)
    return function


def _tangent_primitive(rule: Rule[Any, Any]) -> Primitive:
    """The tangent of the first result: of residuals and of the tangents of the `active` operands.

    `aval` is its type. Each of `batches` says which arguments a `vmap` has batched, along axis 0;
    the tangents and the result all are.
    """
    primitive = Primitive(f"{rule.name}_tangent")
    primitive.multiple_results = True

    def pulled_back(
        gradient: Callable[[Any, Any, jax.Array], Any], g: jax.Array, leaves: Any, params: Any
    ) -> list[jax.Array]:
        """`gradient` of the active operands, mapped over the batches."""

        def one(g: jax.Array, *leaves: jax.Array) -> list[jax.Array]:
            residuals = jax.tree.unflatten(params["tree"], leaves)
            by_operand = gradient(params["static"], residuals, g)
            return [by_operand[i] for i in params["active"]]

        function = one
        for batched in params["batches"]:
            axes = (0, *(0 if is_batched else None for is_batched in batched[: len(leaves)]))
            function = jax.vmap(function, in_axes=axes)
        return function(g, *leaves)

    def split(args: Sequence[Any], params: Any) -> tuple[list[Any], list[Any]]:
        count = params["tree"].num_leaves
        return list(args[:count]), list(args[count:])

    def evaluate(*args: jax.Array, **params: Any) -> list[jax.Array]:
        leaves, tangents = split(args, params)
        aval = params["aval"]

        def tangent(leaves: list[jax.Array], tangents: list[jax.Array]) -> list[jax.Array]:
            definition = functools.partial(
                pulled_back, rule.definition, leaves=leaves, params=params
            )
            # What is linear has the same transpose everywhere.
            at = vary_over(jnp.zeros(aval.shape, aval.dtype), axes_of_type(aval))
            return list(jax.vjp(definition, at)[1](tangents))

        return in_auto_axes(tangent, [aval.sharding])(leaves, tangents)

    def jvp(
        primals: Sequence[jax.Array], along: Sequence[Any], **params: Any
    ) -> tuple[list[jax.Array], list[Any]]:
        leaves, tangents = split(primals, params)
        leaves_along, tangents_along = split(along, params)
        results = primitive.bind(*primals, **params)
        parts = []
        if not all(isinstance(tangent, ad.Zero) for tangent in tangents_along):
            filled = [ad.instantiate_zeros(tangent) for tangent in tangents_along]
            parts += primitive.bind(*leaves, *filled, **params)
        moved = [i for i, leaf in enumerate(leaves) if is_active(leaf, leaves_along[i])]
        if moved:

            def of_moved(*values: jax.Array) -> list[jax.Array]:
                at = list(leaves)
                for i, value in zip(moved, values, strict=True):
                    at[i] = value
                return evaluate(*at, *tangents, **params)

            at, direction = [leaves[i] for i in moved], [leaves_along[i] for i in moved]
            parts += jax.jvp(of_moved, at, direction)[1]
        return results, [sum(parts[1:], parts[0]) if parts else zero_tangent(results[0])]

    def transpose(cotangents: Sequence[Any], *args: Any, **params: Any) -> list[jax.Array | None]:
        leaves, tangents = split(args, params)
        (g,) = cotangents
        if isinstance(g, ad.Zero):
            return [None] * len(args)
        gradients = pulled_back(rule.gradient, g, leaves, params)
        return [None] * len(leaves) + [
            gradient if ad.is_undefined_primal(tangent) else None
            for gradient, tangent in zip(gradients, tangents, strict=True)
        ]

    def batch(
        args: Sequence[jax.Array], dims: Sequence[int | None], **params: Any
    ) -> tuple[list[jax.Array], list[int]]:
        size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
        count = params["tree"].num_leaves
        moved = [
            # A tangent that all examples share has the sum of their gradients.
            batching.bdim_at_front(arg, dim, size) if dim is not None or i >= count else arg
            for i, (arg, dim) in enumerate(zip(args, dims, strict=True))
        ]
        batched = tuple(dim is not None for dim in dims)
        params["batches"] = (*params["batches"], batched)
        params["aval"] = core.unmapped_aval(size, 0, params["aval"])
        return primitive.bind(*moved, **params), [0]

    primitive.def_impl(functools.partial(dispatch.apply_primitive, primitive))
    primitive.def_abstract_eval(lambda *args, aval, **params: [aval])
    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = batch
    mlir.register_lowering(primitive, mlir.lower_fun(evaluate, multiple_results=True))
    return primitive
