"""How XLA splits an op over a mesh.

Dimensions of one name are split alike, each mesh axis is used once, and a dimension that its mesh
axes do not divide is not split: padding would enter the sums. Operands and results that XLA holds
otherwise are resharded by XLA around the op.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.experimental.xla_metadata import set_xla_metadata
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from ._signature import Signature, Sizes, Tensor

Axes = Mapping[str, tuple[str, ...]]
"""Mesh axes of every dimension that is split, by name."""


def partitioned(
    name: str,
    attrs: Mapping[str, Any],
    signature: Signature,
    *,
    whole: Callable[..., list[jax.Array]],
    local: Callable[..., Sequence[jax.Array]],
) -> Callable[..., list[jax.Array]]:
    """A function that computes `whole(*operands)`, or `local(axes, *shards)` on each shard."""
    call = custom_partitioning(whole)

    def partition(
        mesh: Mesh, operands: Sequence[Any], results: Sequence[Any]
    ) -> tuple[Mesh, Callable[..., list[jax.Array]], list[Any], tuple[Any, ...]]:
        sizes = signature.sizes([o.shape for o in operands])
        axes = _choose_axes(mesh, signature, sizes, operands, results)

        def sharding(tensor: Tensor, value: Any) -> NamedSharding:
            names = tensor.shared(value.shape, sizes)
            return NamedSharding(mesh, PartitionSpec(*(axes.get(n or "") for n in names)))

        def on_shard(*shards: jax.Array) -> list[jax.Array]:
            # XLA asks in the context of the caller, whose mesh is no longer in sight of a shard.
            with jax.sharding.use_abstract_mesh(AbstractMesh((), ())):
                return list(local(axes, *shards))

        return (
            mesh,
            on_shard,
            [sharding(t, r) for t, r in zip(signature.results, results, strict=True)],
            tuple(sharding(t, o) for t, o in zip(signature.operands, operands, strict=True)),
        )

    call.def_partition(
        partition,
        sharding_rule=lambda mesh, operands, results: _rule(signature, operands, results),
    )
    # The persistent compilation cache sees the program only, and the attributes of the op would
    # otherwise be nowhere in it.
    described = ", ".join(f"{key}={value!r}" for key, value in attrs.items())

    def run(*operands: jax.Array) -> list[jax.Array]:
        with set_xla_metadata(lumina_op=f"{name}({described})"):
            return call(*operands)

    return run


def _rule(
    signature: Signature, operands: Sequence[Any], results: Sequence[Any]
) -> tuple[str, dict[str, Any]]:
    """The einsum-like sharding rule of Shardy for operands and results of those types."""
    sizes = signature.sizes([o.shape for o in operands])
    alone: list[str] = []

    def side(types: Iterable[Tensor], values: Sequence[Any]) -> str:
        terms = []
        for tensor, value in zip(types, values, strict=True):
            factors = []
            for factor in tensor.shared(value.shape, sizes):
                if factor is None or factor in signature.bound:
                    factor = f"alone{len(alone)}"
                    alone.append(factor)
                factors.append(factor)
            terms.append(" ".join(factors))
        return ", ".join(terms)

    rule = f"{side(signature.operands, operands)} -> {side(signature.results, results)}"
    return rule, {"need_replication_factors": tuple(alone)}


def _choose_axes(
    mesh: Mesh,
    signature: Signature,
    sizes: Sizes,
    operands: Sequence[Any],
    results: Sequence[Any],
) -> Axes:
    """Mesh axes by name: what the results ask for first, then what the operands come with."""
    chosen: dict[str, tuple[str, ...]] = {}
    used: set[str] = set()
    fixed = signature.whole | signature.bound
    types = (*signature.results, *signature.operands)
    for tensor, value in zip(types, (*results, *operands), strict=True):
        names = tensor.shared(value.shape, sizes)
        # What XLA cannot say in names of axes it reshards.
        spec: Sequence[Any] = getattr(value.sharding, "spec", (None,) * len(names))
        for name, entry in zip(names, spec, strict=True):
            if name is None or name in chosen or name in fixed or entry is None:
                continue
            axes = tuple(
                a for a in ((entry,) if isinstance(entry, str) else entry) if a not in used
            )
            if axes and sizes[name] % math.prod(mesh.shape[a] for a in axes) == 0:
                chosen[name] = axes
                used.update(axes)
    return chosen


def sum_over(axes: tuple[str, ...], parts: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The sums of all parts over mesh axes, in one all-reduce if they are of one type."""
    if not axes or not parts:
        return parts
    numbers = [part.ravel() for part in parts.values()]
    if len({part.dtype for part in numbers}) > 1:
        return {name: jax.lax.psum(part, axes) for name, part in parts.items()}
    flat = jax.lax.psum(jnp.concatenate(numbers), axes)
    ends = np.cumsum([part.size for part in parts.values()])[:-1]
    pieces = zip(parts.items(), jnp.split(flat, ends), strict=True)
    return {name: piece.reshape(part.shape) for (name, part), piece in pieces}
