"""The gradient of a softmax of which each row sees its first columns.

    ds = scale · p · (g - Σ g·p)

with the sum over the columns before `seen` of the row, and 0 behind them, whatever stands there.
With a scale of 1 it is the gradient of the scaled scores.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .._attributes import Attributes
from ._op import define
from ._signature import Signature, tensor
from .causal_softmax import is_seen

T = TypeVar("T")


class Operands(NamedTuple, Generic[T]):
    """Operands of the op."""

    g: T
    """f32[m, n]: the upstream gradient."""
    p: T
    """f32[m, n]: what `causal_softmax` gave."""
    seen: T
    """i32[m]: how many of the columns a row sees; below 0 and beyond n as 0 and n."""
    scale: T
    """f32[1 or m]"""


def _signature(attrs: Attributes) -> Signature:
    del attrs
    g = tensor("f32", "m", "n")
    operands = Operands(g=g, p=g, seen=tensor("i32", "m"), scale=tensor("f32", "m?"))
    return Signature(operands, (g,), whole=frozenset({"n"}))


def _reference(attrs: Attributes, operands: Operands[jax.Array]) -> list[jax.Array]:
    del attrs
    g, p, seen, scale = operands
    visible = is_seen(seen, g.shape[1])
    g, p = (jnp.where(visible, v, np.float32(0)) for v in (g, p))
    mean = jnp.sum(g * p, axis=1, keepdims=True)
    # A row without a number is NaN where it is seen, and there alone.
    return [jnp.where(visible, scale[:, None] * (p * (g - mean)), np.float32(0))]


op = define("causal_softmax_grad", operands=Operands, signature=_signature, reference=_reference)
