"""`define()` turns a signature and a reference into a JAX primitive.

The only file that touches the semi-public parts of JAX.

Lowerings: on CPU the FFI target `lumina.NAME.v1` of the Rust module, under custom partitioning;
everywhere else the reference. Semantics, shapes and gradients do not depend on which one runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax._src import dispatch
from jax._src.interpreters import mlir
from jax.extend.core import Primitive
from jax.interpreters import batching
from jax.interpreters.mlir import SPMDAxisContext
from jax.sharding import NamedSharding, PartitionSpec

from .. import _native as _native  # registers the FFI targets
from ._batch import batch
from ._partition import partitioned
from ._signature import Signature

# The pointer of the partitioning callback differs between processes, so with it no compiled
# program would ever be found in the persistent cache. `partitioned` puts into the program what
# the pointer stood for.
jax.config.update("jax_remove_custom_partitioning_ptr_from_cache_key", True)


class Matmul(NamedTuple):
    """One product x[batch, rows, depth] · w[batch, depth, columns] of a photonic processor.

    Extents are ints, or symbolic dimensions. A `batch` of 1 shares its weights among all rows.
    """

    batch: Any
    rows: Any
    depth: Any
    columns: Any


@dataclass(frozen=True, eq=False)
class OpDef:
    """One op of the Rust module as a JAX primitive; call it to bind it."""

    name: str
    signature: Callable[..., Signature]
    """The table of operands and results, for the op's attributes."""
    reference: Callable[..., Sequence[jax.Array]]
    """The same computation in plain jnp: the oracle, and the lowering for GPU and TPU."""
    primitive: Primitive
    _matmuls: Callable[..., tuple[Matmul, ...]]

    def matmuls(
        self, attrs: Mapping[str, Any], shapes: Sequence[Sequence[Any]]
    ) -> tuple[Matmul, ...]:
        """The products that the op runs on the processor; empty where it runs none.

        `attrs` are those of an equation of a jaxpr or of a node of a graph, `shapes` those of its
        operands in order.
        """
        return self._matmuls(*shapes, **attrs)

    def __call__(self, *operands: jax.Array, **attrs: Any) -> list[jax.Array]:
        """Bind the primitive: all results, as a list."""
        return self.primitive.bind(*vary_together(*operands), **attrs)


OPS: dict[str, OpDef] = {}
"""Every op by name. The name is also the one in a `.lmn` file and in the Rust module."""


def define(
    name: str,
    *,
    signature: Callable[..., Signature],
    reference: Callable[..., Sequence[jax.Array]],
    local: Callable[..., Sequence[jax.Array]] | None = None,
    matmuls: Callable[..., tuple[Matmul, ...]] = lambda *shapes, **attrs: (),
) -> OpDef:
    """Make a primitive and register it in `OPS`.

    Args:
        name: name of the primitive; the Rust module registers the XLA target `lumina.NAME.v1`.
        signature: from the attributes (Python ints, bools and strings) to the operands and results.
        reference: the computation in jnp, `reference(*operands, **attrs) -> results`.
        local: what one shard computes, `local(axes, *operands, **attrs) -> results`; `axes` has
            the mesh axes of each sharded dimension by name. By default the op itself, which is
            right where no sharded dimension is summed over.
        matmuls: the products that run on the processor, `matmuls(*shapes, **attrs)`. By default
            none; the gradient of an op runs none, as its products are digital.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True
    op = OpDef(name, signature, reference, primitive, matmuls)
    OPS[name] = op

    @functools.partial(jax.jit, static_argnums=0)
    def compiled(attrs: tuple[tuple[str, Any], ...], *operands: jax.Array) -> list[jax.Array]:
        return primitive.bind(*operands, **dict(attrs))

    primitive.def_impl(lambda *operands, **attrs: compiled(tuple(attrs.items()), *operands))
    primitive.def_abstract_eval(functools.partial(_abstract, op))
    batching.primitive_batchers[primitive] = functools.partial(batch, op)
    mlir.register_lowering(primitive, mlir.lower_fun(reference, multiple_results=True))

    whole = functools.partial(_ffi_call, op)

    @functools.cache
    def on_cpu(attrs: tuple[tuple[str, Any], ...]) -> Callable[..., list[jax.Array]]:
        return partitioned(
            name,
            dict(attrs),
            signature(**dict(attrs)),
            whole=functools.partial(whole, **dict(attrs)),
            local=functools.partial(local or (lambda axes, *a, **k: op(*a, **k)), **dict(attrs)),
        )

    def lower_on_cpu(ctx: mlir.LoweringRuleContext, *operands: Any, **attrs: Any) -> Any:
        # Within `shard_map` the operands are shards already.
        manual = isinstance(ctx.module_context.axis_context, SPMDAxisContext)
        call = functools.partial(whole, **attrs) if manual else on_cpu(tuple(attrs.items()))
        results = mlir.lower_fun(call, multiple_results=True)(ctx, *operands)
        return [
            mlir.lower_with_sharding_in_types(ctx, result, aval)
            for result, aval in zip(results, ctx.avals_out, strict=True)
        ]

    mlir.register_lowering(primitive, lower_on_cpu, platform="cpu")
    dispatch.prim_requires_devices_during_lowering.add(primitive)
    return op


def vary_together(*operands: jax.Array) -> list[jax.Array]:
    """Inside `shard_map`: cast operands to vary over the same mesh axes.

    A differentiable function casts before its `custom_vjp`, so that the gradient of an operand
    that all shards share is summed over the shards.
    """
    axes = frozenset[Any]().union(*(varying_axes(operand) for operand in operands))
    return [vary_over(operand, axes) for operand in operands]


def vary_over(operand: jax.Array, axes: frozenset[Any]) -> jax.Array:
    """Inside `shard_map`: `operand`, cast to vary over `axes` too."""
    missing = tuple(sorted(axes - varying_axes(operand), key=str))
    if not missing:
        return operand
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(operand, missing, to="varying")
    return getattr(jax.lax, "pvary")(operand, missing)  # noqa: B009, its name before jax 0.8.2


def varying_axes(operand: jax.Array) -> frozenset[Any]:
    """The mesh axes over which `operand` varies, inside `shard_map`."""
    aval = jax.typeof(operand)
    # Renamed after jax 0.9.
    return aval.vma if hasattr(aval, "vma") else aval.manual_axis_type.varying


def _abstract(op: OpDef, *avals: Any, **attrs: Any) -> list[Any]:
    signature = op.signature(**attrs)
    signature.check(op.name, avals)
    shapes = [aval.shape for aval in avals]
    sizes = signature.sizes(shapes)
    mesh = next(
        (a.sharding.mesh for a in avals if not a.sharding.mesh.empty), avals[0].sharding.mesh
    )
    axes: dict[str, Any] = {}
    used: set[str] = set()
    for tensor, aval in zip(signature.operands.values(), avals, strict=True):
        names = tensor.shared(aval.shape, sizes)
        for name, entry in zip(names, aval.sharding.spec, strict=True):
            of_entry = {entry} if isinstance(entry, str) else set(entry or ())
            if name is not None and of_entry and name not in axes and not of_entry & used:
                axes[name] = entry
                used |= of_entry
    return [
        avals[0].update(
            shape=tensor.shape(sizes),
            dtype=tensor.dtype,
            weak_type=False,
            sharding=NamedSharding(mesh, PartitionSpec(*[axes.get(n or "") for n in tensor.names])),
        )
        for tensor in signature.results
    ]


def _ffi_call(op: OpDef, *operands: jax.Array, **attrs: Any) -> list[jax.Array]:
    results = _abstract(op, *(jax.typeof(operand) for operand in operands), **attrs)
    call = jax.ffi.ffi_call(f"lumina.{op.name}.v1", results)
    return list(call(*operands, **{name: _ffi_attr(value) for name, value in attrs.items()}))


def _ffi_attr(value: bool | int | str) -> Any:
    # A Python int would arrive as a 64-bit integer.
    return value if isinstance(value, bool | str) else np.int32(value)
