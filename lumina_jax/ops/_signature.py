"""What an op takes and gives, as one table: shape checks, sharding and batching all follow it.

A dimension is a name ("m"), a name that may also have extent 1 ("m?", the operand is then
broadcast), the same that may also have extent 0 ("m*", the op then finds the operand by itself),
or a fixed extent. The name "m" has a meaning of its own: rows are independent of each
other, so a batch of calls may become one call with more rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._native import _lumina

ROWS = "m"

Sizes = Mapping[str, Any]
"""Extent by name: an int, or a symbolic dimension of `jax.export`."""

_DTYPES = {name: jnp.dtype(in_numpy) for name, in_numpy, _ in _lumina.dtypes()}


@dataclass(frozen=True)
class Tensor:
    """The type of one operand or result."""

    dtype: np.dtype
    dims: tuple[str | int, ...]

    @property
    def names(self) -> tuple[str | None, ...]:
        """Name of each dimension, None where the extent is fixed."""
        return tuple(_name(d) if isinstance(d, str) else None for d in self.dims)

    @property
    def is_by_row(self) -> bool:
        """Whether the leading dimension is the rows."""
        return self.names[:1] == (ROWS,)

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
        dims = [
            " or ".join((*map(str, _OTHERS.get(d[-1], ())), _name(d))) for d in map(str, self.dims)
        ]
        return f"({', '.join(dims)}{',' if len(dims) == 1 else ''})"


_OTHERS: Mapping[str, tuple[int, ...]] = {"?": (1,), "*": (0, 1)}
"""Extents that a dimension may have instead of that of its name, by the mark behind the name."""


def _name(dim: str) -> str:
    return dim.rstrip("".join(_OTHERS))


def tensor(dtype: str, *dims: str | int) -> Tensor:
    """A tensor of that element type, by the name it has in Rust and in files: "f32", "u32"."""
    return Tensor(_DTYPES[dtype], dims)


class Derived(NamedTuple):
    """An extent that follows from others: `extent(*values of names)`."""

    names: tuple[str, ...]
    extent: Callable[..., Any]


@dataclass(frozen=True)
class Signature:
    """The types of operands and results."""

    operands: Any
    """A `Tensor` for each operand, in the NamedTuple of the op."""
    results: tuple[Tensor, ...]
    whole: frozenset[str] = frozenset()
    """Names of the dimensions of which a shard must hold all."""
    follows: Mapping[int, frozenset[str]] = field(default_factory=dict)
    """Operands from which a result follows, by its index, where these are not all."""
    derived: Mapping[str, Derived] = field(default_factory=dict)
    """Extents that no operand declares, such as that of a convolution's output, by name; one may
    follow from those before it. Neither they nor what they follow from is ever split."""

    @property
    def bound(self) -> frozenset[str]:
        """Names of the derived extents, and of those that they follow from."""
        return frozenset(self.derived).union(*(d.names for d in self.derived.values()))

    def sizes(self, shapes: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Extent of every name, from operands that `check` has passed."""
        found: dict[str, _Found] = {}
        for tensor, shape in zip(self.operands, shapes, strict=True):
            self._find(found, "", tensor, shape)
        self._derive(found)
        return {name: extent for name, (extent, _) in found.items()}

    def check(self, op: str, operands: Sequence[Any]) -> None:
        """Raise the TypeError or ValueError that says which operand is not as declared."""
        declared = tuple(zip(self.operands._fields, self.operands, operands, strict=True))
        found: dict[str, _Found] = {}
        for name, tensor, operand in declared:
            if operand.dtype != tensor.dtype:
                raise TypeError(f"{op}: `{name}` must be {tensor.dtype}, got {operand.dtype}")
            if len(operand.shape) != len(tensor.dims):
                raise ValueError(_wrong_shape(op, name, operand, tensor, found))
            self._find(found, name, tensor, operand.shape)
        self._derive(found)
        for name, tensor, operand in declared:
            for dim, extent in zip(tensor.dims, operand.shape, strict=True):
                full = dim if isinstance(dim, int) else found[_name(dim)].extent
                others = _OTHERS.get(dim[-1], ()) if isinstance(dim, str) else ()
                if not (extent in others or extent == full):
                    raise ValueError(_wrong_shape(op, name, operand, tensor, found))
        for dim, derived in self.derived.items():
            extent = found[dim].extent
            if isinstance(extent, int) and extent < 0:
                raise ValueError(f"{op}: {dim} = {extent}{_where(derived.names, found)}")

    def _find(
        self, found: dict[str, _Found], operand: str, tensor: Tensor, shape: Sequence[Any]
    ) -> None:
        for dim, extent in zip(tensor.dims, shape, strict=True):
            if isinstance(dim, str) and dim[-1] not in _OTHERS and dim not in self.derived:
                found.setdefault(dim, _Found(extent, operand))

    def _derive(self, found: dict[str, _Found]) -> None:
        for dim, (names, extent) in self.derived.items():
            found[dim] = _Found(extent(*(found[name].extent for name in names)), "")


class _Found(NamedTuple):
    extent: Any
    operand: str
    """The operand that has it; "" where it follows from others."""


def _wrong_shape(
    op: str, name: str, operand: Any, tensor: Tensor, found: Mapping[str, _Found]
) -> str:
    others = [dim for dim in tensor.names if dim and dim in found and found[dim].operand != name]
    got = tuple(operand.shape)
    return f"{op}: `{name}` has shape {got}, expected {tensor}{_where(others, found)}"


def _where(names: Iterable[str], found: Mapping[str, _Found]) -> str:
    """What is known of those extents, as the end of a sentence."""
    known = []
    for dim in dict.fromkeys(names):
        extent, operand = found[dim]
        known.append(f"{dim} = {extent} of `{operand}`" if operand else f"{dim} = {extent}")
    return f", where {' and '.join(known)}" if known else ""
