"""What an op takes and gives, as one table: shape checks, sharding and batching all follow it.

A dimension is a name ("m"), a name that may also have extent 1 ("m?", the operand is then
broadcast), or a fixed extent. The name "m" has a meaning of its own: rows are independent of each
other, so a batch of calls may become one call with more rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ROWS = "m"

Sizes = Mapping[str, Any]
"""Extent by name: an int, or a symbolic dimension of `jax.export`."""


@dataclass(frozen=True)
class Tensor:
    """The type of one operand or result."""

    dtype: np.dtype
    dims: tuple[str | int, ...]

    @property
    def names(self) -> tuple[str | None, ...]:
        """Name of each dimension, None where the extent is fixed."""
        return tuple(d.rstrip("?") if isinstance(d, str) else None for d in self.dims)

    @property
    def is_by_row(self) -> bool:
        """Whether the leading dimension is the rows."""
        return self.names[0] == ROWS

    def shape(self, sizes: Sizes) -> tuple[Any, ...]:
        """The shape where every name has its full extent."""
        named = zip(self.dims, self.names, strict=True)
        return tuple(dim if name is None else sizes[name] for dim, name in named)

    def shared(self, shape: Sequence[Any], sizes: Sizes) -> tuple[str | None, ...]:
        """Names of the dimensions that have their full extent: those that shard together."""
        return tuple(
            name if name is not None and extent == sizes[name] else None
            for name, extent in zip(self.names, shape, strict=True)
        )

    def __str__(self) -> str:
        dims = [f"1 or {d[:-1]}" if str(d).endswith("?") else str(d) for d in map(str, self.dims)]
        return f"({', '.join(dims)}{',' if len(dims) == 1 else ''})"


def f32(*dims: str | int) -> Tensor:
    """A float32 tensor."""
    return Tensor(np.dtype(np.float32), dims)


def i8(*dims: str | int) -> Tensor:
    """An int8 tensor."""
    return Tensor(np.dtype(np.int8), dims)


def u32(*dims: str | int) -> Tensor:
    """A uint32 tensor."""
    return Tensor(np.dtype(np.uint32), dims)


@dataclass(frozen=True)
class Signature:
    """Operands by name, results in order.

    `whole` names the dimensions of which a shard must hold all.
    """

    operands: Mapping[str, Tensor]
    results: tuple[Tensor, ...]
    whole: frozenset[str] = frozenset()

    def sizes(self, shapes: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Extent of every name, from operands that `check` has passed."""
        found: dict[str, Any] = {}
        for tensor, shape in zip(self.operands.values(), shapes, strict=True):
            for dim, extent in zip(tensor.dims, shape, strict=True):
                if isinstance(dim, str) and not dim.endswith("?"):
                    found.setdefault(dim, extent)
        return found

    def check(self, op: str, operands: Sequence[Any]) -> None:
        """Raise the TypeError or ValueError that says which operand is not as declared."""
        if len(operands) != len(self.operands):
            raise TypeError(f"{op}: got {len(operands)} operands, expected {len(self.operands)}")
        found: dict[str, tuple[Any, str]] = {}
        for (name, tensor), operand in zip(self.operands.items(), operands, strict=True):
            if operand.dtype != tensor.dtype:
                raise TypeError(f"{op}: `{name}` must be {tensor.dtype}, got {operand.dtype}")
            if len(operand.shape) != len(tensor.dims):
                raise ValueError(_wrong_shape(op, name, operand, tensor, found))
            for dim, extent in zip(tensor.dims, operand.shape, strict=True):
                if isinstance(dim, str) and not dim.endswith("?"):
                    found.setdefault(dim, (extent, name))
        for (name, tensor), operand in zip(self.operands.items(), operands, strict=True):
            for dim, extent in zip(tensor.dims, operand.shape, strict=True):
                full = dim if isinstance(dim, int) else found[dim.rstrip("?")][0]
                broadcast = isinstance(dim, str) and dim.endswith("?") and extent == 1
                if not (broadcast or extent == full):
                    raise ValueError(_wrong_shape(op, name, operand, tensor, found))


def _wrong_shape(
    op: str, name: str, operand: Any, tensor: Tensor, found: Mapping[str, tuple[Any, str]]
) -> str:
    known = [
        f"{dim} = {found[dim][0]} of `{found[dim][1]}`"
        for dim in dict.fromkeys(tensor.names)
        if dim is not None and dim in found and found[dim][1] != name
    ]
    where = f", where {' and '.join(known)}" if known else ""
    return f"{op}: `{name}` has shape {tuple(operand.shape)}, expected {tensor}{where}"
