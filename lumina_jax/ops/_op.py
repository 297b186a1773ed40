"""`define()` turns a signature and a reference into a JAX primitive.

With `_partition.py`, `_jaxpr.py` and `custom_vjp/_derivative.py` it is all that touches the
semi-public parts of JAX.

Lowerings: on CPU the FFI target `lumina.NAME.v1` of the Rust module, under custom partitioning;
everywhere else the reference. Semantics, shapes and gradients do not depend on which one runs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np
from jax._src import dispatch
from jax._src.export import _export
from jax._src.interpreters import mlir
from jax.extend.core import Primitive
from jax.interpreters import ad, batching
from jax.interpreters.mlir import SPMDAxisContext
from jax.sharding import NamedSharding, PartitionSpec

from .._attributes import Attributes, field_types
from .._native import _lumina
from ._batch import batch
from ._jvp import jvp
from ._partition import Axes, partitioned
from ._signature import Signature

# The pointer of the partitioning callback differs between processes, so with it no compiled
# program would ever be found in the persistent cache. `partitioned` puts into the program what
# the pointer stood for.
jax.config.update("jax_remove_custom_partitioning_ptr_from_cache_key", True)

for _name, _capsule in _lumina.registrations():
    jax.ffi.register_ffi_target(_name, _capsule, platform="cpu", api_version=1)
    # `jax.export` takes custom calls alone whose targets are known not to change; the version is in
    # the name of ours.
    _export._CUSTOM_CALL_TARGETS_GUARANTEED_STABLE.add(_name)

A = TypeVar("A", bound=Attributes)
O = TypeVar("O", bound=tuple)  # noqa: E741, a NamedTuple
Results = Sequence[jax.Array]


class Factors(NamedTuple):
    """The factors of one product on a photonic processor."""

    x: Any
    """The signal: [..., rows, depth]."""
    w: Any
    """The weights: [..., depth, columns] with the same leading dimensions, or with none."""


class Matmul(NamedTuple):
    """The sizes of one such product, x[batch, rows, depth] · w[batch, depth, columns].

    Extents are ints, or symbolic dimensions. A `batch` of 1 shares its weights among all rows.
    """

    batch: Any
    rows: Any
    depth: Any
    columns: Any


@dataclass(frozen=True, eq=False)
class OpDef(Generic[A, O]):
    """One op of the Rust module as a JAX primitive; call it to bind it."""

    name: str
    attrs: type[A]
    """Makes attributes from those of an equation or of a node of a graph."""
    operands: Callable[..., O]
    """Makes operands from the inputs of an equation or of a node of a graph."""
    signature: Callable[[A], Signature]
    """The table of operands and results, for the op's attributes."""
    reference: Callable[[A, O], Results]
    """The same computation in plain jnp: the oracle, and the lowering for GPU and TPU."""
    smooth: Callable[[A], A]
    """The attributes with which the derivative of the reference stands for that of the op."""
    found_in_rows: Callable[[A, O], Mapping[str, jax.Array]]
    """By name, operands that are left to the op, as it finds them in all rows of a call."""
    primitive: Primitive
    _factors: Callable[[A, O], tuple[Factors, ...]]

    def __call__(self, attrs: A, operands: O) -> list[jax.Array]:
        """Bind the primitive: all results, as a list."""
        return self.primitive.bind(*vary_together(operands), **vars(attrs))

    def on_numpy(self, attrs: A, operands: O) -> list[np.ndarray]:
        """The results for NumPy arrays, without JAX."""
        return _lumina.call(self.name, vars(attrs), operands)

    def factors(self, attrs: Mapping[str, Any], operands: Sequence[Any]) -> tuple[Factors, ...]:
        """The factors of the products that the op runs on the processor; empty if it runs none.

        `attrs` are those of an equation of a jaxpr or of a node of a graph, `operands` the arrays
        that it takes, in order.
        """
        return self._factors(self._known(attrs), self.operands(*operands))

    def matmuls(
        self, attrs: Mapping[str, Any], shapes: Sequence[Sequence[Any]]
    ) -> tuple[Matmul, ...]:
        """The sizes of these products, where the operands have the `shapes`."""
        types = self.signature(self._known(attrs)).operands
        pairs = zip(shapes, types, strict=True)
        structs = [jax.ShapeDtypeStruct(tuple(shape), t.dtype) for shape, t in pairs]
        products = jax.eval_shape(lambda *operands: self.factors(attrs, operands), *structs)
        return tuple(
            Matmul(
                batch=math.prod(w.shape[:-2]),
                rows=x.shape[-2] if w.ndim > 2 else math.prod(x.shape[:-1]),
                depth=x.shape[-1],
                columns=w.shape[-1],
            )
            for x, w in products
        )

    def _known(self, attrs: Mapping[str, Any]) -> A:
        return self.attrs(**{name: attrs[name] for name in field_types(self.attrs)})


OPS: dict[str, OpDef[Any, Any]] = {}
"""Every op by name. The name is also the one in a `.lmn` file and in the Rust module."""


def define(
    name: str,
    *,
    attrs: type[A] = Attributes,
    operands: Callable[..., O],
    signature: Callable[[A], Signature],
    reference: Callable[[A, O], Results],
    local: Callable[[Axes, A, O], Results] | None = None,
    factors: Callable[[A, O], tuple[Factors, ...]] = lambda attrs, operands: (),
    smooth: Callable[[A], A] = lambda attrs: attrs,
    found_in_rows: Callable[[A, O], Mapping[str, jax.Array]] = lambda attrs, operands: {},
) -> OpDef[A, O]:
    """Make a primitive and register it in `OPS`.

    Args:
        name: name of the primitive; the Rust module registers the XLA target `lumina.NAME.v1`.
        attrs: the dataclass of its attributes.
        operands: the NamedTuple of its operands.
        signature: from the attributes to the types of operands and results.
        reference: the computation in jnp, `reference(attrs, operands) -> results`.
        local: what one shard computes, `local(axes, attrs, operands) -> results`; `axes` has the
            mesh axes of each sharded dimension by name. By default the op itself, which is right
            where no sharded dimension is summed over.
        factors: those of the products that run on the processor, in jnp,
            `factors(attrs, operands)`. By default there are none; the gradient of an op has none,
            as its products are digital.
        smooth: the attributes with which the reference has the derivative of the op: for an op
            that rounds at random, those without the rounding. By default its own.
        found_in_rows: the operands that are left to the op and that it finds in all rows, in jnp,
            by name: several calls become one of more rows with these given. By default there are
            none.
    """
    field_types(attrs)
    primitive = Primitive(name)
    primitive.multiple_results = True
    op = OpDef(
        name, attrs, operands, signature, reference, smooth, found_in_rows, primitive, factors
    )
    OPS[name] = op
    on_shard = local or (lambda axes, attrs, operands: op(attrs, operands))

    def compiled(*args: jax.Array, **params: Any) -> Sequence[jax.Array]:
        # Compiles the primitive also under `disable_jit`, and names it where a NaN comes out.
        return dispatch.apply_primitive(primitive, *args, **vars(attrs(**params)))

    primitive.def_impl(compiled)
    primitive.def_abstract_eval(lambda *avals, **params: _abstract(op, attrs(**params), avals))

    def batch_rule(
        args: Sequence[jax.Array], dims: Sequence[int | None], **params: Any
    ) -> tuple[list[jax.Array], list[int | None]]:
        return batch(op, attrs(**params), args, dims)

    batching.primitive_batchers[primitive] = batch_rule

    ad.primitive_jvps[primitive] = lambda primals, tangents, **params: jvp(
        op, attrs(**params), primals, tangents
    )

    def in_jnp(*args: jax.Array, **params: Any) -> Results:
        return reference(attrs(**params), operands(*args))

    mlir.register_lowering(primitive, mlir.lower_fun(in_jnp, multiple_results=True))

    @functools.cache
    def on_cpu(attrs: A) -> Callable[..., list[jax.Array]]:
        return partitioned(
            name,
            vars(attrs),
            signature(attrs),
            whole=functools.partial(_ffi_call, op, attrs),
            local=lambda axes, *args: on_shard(axes, attrs, operands(*args)),
        )

    def lower_on_cpu(ctx: mlir.LoweringRuleContext, *args: Any, **params: Any) -> Any:
        # Within `shard_map` the operands are shards already, and what is exported cannot ask this
        # process how to split an op.
        context = ctx.module_context
        manual = isinstance(context.axis_context, SPMDAxisContext)
        whole = manual or context.lowering_parameters.for_export
        static = attrs(**params)
        call = functools.partial(_ffi_call, op, static) if whole else on_cpu(static)
        results = mlir.lower_fun(call, multiple_results=True)(ctx, *args)
        return [
            mlir.lower_with_sharding_in_types(ctx, result, aval)
            for result, aval in zip(results, ctx.avals_out, strict=True)
        ]

    mlir.register_lowering(primitive, lower_on_cpu, platform="cpu")
    dispatch.prim_requires_devices_during_lowering.add(primitive)
    return op


def vary_together(operands: O) -> O:
    """Inside `shard_map`: cast operands to vary over the same mesh axes.

    A differentiable function casts before its `custom_jvp`, so that the gradient of an operand
    that all shards share is summed over the shards.
    """
    axes = frozenset[Any]().union(*(varying_axes(operand) for operand in operands))
    return type(operands)(*(vary_over(operand, axes) for operand in operands))


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
    return axes_of_type(jax.typeof(operand))


def axes_of_type(aval: Any) -> frozenset[Any]:
    """The mesh axes over which a value of that type varies, inside `shard_map`."""
    # Renamed after jax 0.9.
    return aval.vma if hasattr(aval, "vma") else aval.manual_axis_type.varying


def _abstract(op: OpDef[A, Any], attrs: A, avals: Sequence[Any]) -> list[Any]:
    signature = op.signature(attrs)
    signature.check(op.name, avals)
    sizes = signature.sizes([aval.shape for aval in avals])
    mesh = next(
        (a.sharding.mesh for a in avals if not a.sharding.mesh.empty), avals[0].sharding.mesh
    )
    axes: dict[str, Any] = {}
    used: set[str] = set()
    for tensor, aval in zip(signature.operands, avals, strict=True):
        names = tensor.shared(aval.shape, sizes)
        for name, entry in zip(names, aval.sharding.spec, strict=True):
            of_entry = {entry} if isinstance(entry, str) else set(entry or ())
            if name is None or name in axes or name in signature.bound:
                continue
            if of_entry and not of_entry & used:
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


def _ffi_call(op: OpDef[A, Any], attrs: A, *operands: jax.Array) -> list[jax.Array]:
    results = _abstract(op, attrs, [jax.typeof(operand) for operand in operands])
    call = jax.ffi.ffi_call(f"lumina.{op.name}.v1", results)
    return list(call(*operands, **{name: _ffi_attr(value) for name, value in vars(attrs).items()}))


def _ffi_attr(value: Any) -> Any:
    # JAX writes a tuple as a list of attributes, and XLA takes a list of numbers alone.
    return np.array(value, np.int64) if isinstance(value, tuple) else value
