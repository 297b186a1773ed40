"""The differentiable causal softmax."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._arguments import float32, integers, scalar
from .._attributes import Attributes
from ..ops import causal_softmax_grad
from ..ops._op import vary_together
from ..ops.causal_softmax import Operands, op
from ._derivative import Forward, Rule, differentiable
from ._operands import gradient_of

_NAME = "causal_softmax"


def causal_softmax(
    scores: ArrayLike,
    *,
    scale: ArrayLike = 1.0,
    offset: ArrayLike = 0,
    lengths: ArrayLike | None = None,
) -> jax.Array:
    """Softmax over the columns that a row sees, without a mask in memory.

        row t sees column c  where  c <= t + offset  and  c < lengths
        z = scale · scores        p = exp(z - max z) / Σ exp(z - max z)  over what is seen, else 0

    What is not seen is never read, here and in the gradient: NaN there has no effect. A score of
    -inf has probability 0, whatever the scale; a seen score of inf or NaN makes what its row sees
    NaN, and so does a finite one whose product with the scale is inf. A row that sees nothing, or
    nothing but -inf, is all 0, and so is its gradient.

    Scores and scale are differentiated: `ds = scale · p · (g - Σ g·p)`, and the gradient of the
    scale is the sum of `p · (g - Σ g·p) · scores`.

    Args:
        scores: f32[..., t, s].
        scale: scalar.
        offset: int, or an integer scalar that may be traced: the position of the first row, as
            with a cache that holds `offset` keys already. A negative one leaves the first rows
            without a column.
        lengths: int, or integers that broadcast to the leading dimensions of `scores`: how many
            columns there are, from 0 to s; traced ones beyond are cut to that. None: all of them.

    Returns:
        f32[..., t, s].

    Raises:
        TypeError: `scores` is not float32, `scale` no real number, `offset` or `lengths` no
            integer.
        ValueError: `scores` has fewer than two dimensions, `scale` or `offset` is no scalar or
            not within float32 or int32, `lengths` does not fit `scores` or is out of range.
    """
    scores = float32(_NAME, "scores", scores)
    if scores.ndim < 2:
        raise ValueError(f"{_NAME}: `scores` has shape {scores.shape}, expected (..., t, s)")
    *leading, rows, columns = scores.shape
    factor = scalar(_NAME, "scale", scale).astype(np.float32)
    limits = np.iinfo(np.int32)
    offset = integers(
        _NAME, "offset", offset, "an integer", at_least=limits.min, at_most=limits.max
    )
    if offset.shape != ():
        raise ValueError(f"{_NAME}: `offset` has shape {offset.shape}, expected a scalar")
    if lengths is not None:
        largest = columns if isinstance(columns, int) else None
        lengths = integers(_NAME, "lengths", lengths, "integers", at_least=0, at_most=largest)
        if not _broadcasts(lengths.shape, tuple(leading)):
            raise ValueError(
                f"{_NAME}: `lengths` has shape {lengths.shape}, "
                f"expected one that broadcasts to {tuple(leading)} of `scores`"
            )
    operands = Operands(
        scores=scores.reshape(math.prod(leading) * rows, columns),
        seen=_seen(scores.shape, offset, lengths),
        scale=factor.reshape(1),
    )
    (p,) = _differentiable(Attributes(), vary_together(operands))
    return p.reshape(scores.shape)


def _broadcasts(shape: tuple[Any, ...], to: tuple[Any, ...]) -> bool:
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(a in (1, b) for a, b in pairs)


@functools.partial(jax.jit, static_argnames="shape", inline=True)
def _seen(shape: tuple[Any, ...], offset: jax.Array, lengths: jax.Array | None) -> jax.Array:
    """How many columns each row sees, i32[rows of all leading dimensions]."""
    *leading, rows, columns = shape
    # Cut before it is added, so that no sum overflows.
    position = jnp.maximum(_at_most(offset, columns), -_int32(rows))
    seen = jax.lax.iota(np.int32, rows) + (position + np.int32(1))
    seen = jnp.broadcast_to(seen, (*leading, rows))
    if lengths is not None:
        of_entry = jnp.broadcast_to(_at_most(lengths, columns), leading)
        seen = jnp.minimum(seen, of_entry[..., None])
    seen = jnp.clip(seen, np.int32(0), _int32(columns))
    return seen.reshape(math.prod(leading) * rows)


def _at_most(value: jax.Array, limit: Any) -> jax.Array:
    """The smaller one, i32, of integers of any type."""
    if value.dtype.itemsize < 4:
        value = value.astype(np.int32)
    return jnp.minimum(value, _int32(limit).astype(value.dtype)).astype(np.int32)


def _int32(extent: Any) -> jax.Array:
    """An extent, which may be symbolic."""
    return jnp.asarray(extent, np.int32)


def _forward(attrs: Attributes, operands: Operands[jax.Array], wanted: Operands[bool]) -> Forward:
    results = op(attrs, operands)
    scores = operands.scores if wanted.scale else None
    return Forward(results, attrs, (scores, results[0], operands.seen, operands.scale))


def _gradient(run: Any, attrs: Attributes, saved: Any, g: jax.Array) -> Operands[Any]:
    scores, p, seen, scale = saved
    if scores is None:
        (by_scores,) = run(attrs, causal_softmax_grad.Operands(g=g, p=p, seen=seen, scale=scale))
        return Operands(scores=by_scores, seen=None, scale=None)
    one = jnp.ones_like(scale)
    (by_scaled,) = run(attrs, causal_softmax_grad.Operands(g=g, p=p, seen=seen, scale=one))
    # Probability 0 has what is not seen, and -inf.
    counted = jnp.where(p == 0, np.float32(0), scores)
    by_scale = jnp.sum(by_scaled * counted, axis=1)
    return Operands(
        scores=scale[:, None] * by_scaled, seen=None, scale=gradient_of(scale, by_scale)
    )


_differentiable = differentiable(
    Rule[Attributes, Operands[Any]](
        name=_NAME,
        primal=op,
        forward=_forward,
        gradient=functools.partial(_gradient, causal_softmax_grad.op),
        definition=functools.partial(_gradient, causal_softmax_grad.op.reference),
    )
)
