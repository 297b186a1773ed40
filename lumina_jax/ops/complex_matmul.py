"""The product of complex matrices, `out = x · w`.

The kernel computes it by three real products, in another order than the reference: its error is
small beside Σ_k |x[m, k]|·|w[k, n]|, and not always beside a part of the result. A number that is
not finite makes both parts of every result that depends on it NaN or infinite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from .._attributes import Attributes
from ._op import define
from ._partition import Axes
from ._signature import Signature, tensor

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Attrs(Attributes):
    """Attributes of the op."""

    dtype: str
    """"c64" or "c128", of operands and result."""
    transpose_x: bool
    """Whether x is [k, m]."""
    transpose_w: bool
    """Whether w is [n, k]."""


class Operands(NamedTuple, Generic[T]):
    """Operands of the op."""

    x: T
    """c[m, k]; [k, m] with `transpose_x`."""
    w: T
    """c[k, n]; [n, k] with `transpose_w`."""


def _signature(attrs: Attrs) -> Signature:
    x = tensor(attrs.dtype, *("km" if attrs.transpose_x else "mk"))
    w = tensor(attrs.dtype, *("nk" if attrs.transpose_w else "kn"))
    return Signature(Operands(x=x, w=w), (tensor(attrs.dtype, "m", "n"),))


def _reference(attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    x = operands.x.T if attrs.transpose_x else operands.x
    w = operands.w.T if attrs.transpose_w else operands.w
    return [jnp.matmul(x, w, precision=jax.lax.Precision.HIGHEST)]


def _local(axes: Axes, attrs: Attrs, operands: Operands[jax.Array]) -> list[jax.Array]:
    (share,) = op(attrs, operands)
    return [jax.lax.psum(share, axes["k"]) if "k" in axes else share]


op = define(
    "complex_matmul",
    attrs=Attrs,
    operands=Operands,
    signature=_signature,
    reference=_reference,
    local=_local,
)
