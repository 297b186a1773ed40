"""What happens where a layer infers without calibrated ranges: it is told, and marked.

The mark is a primitive in the jaxpr, by which an export finds those layers.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

_told = False


def watch(layer: str, ranges: list[jax.Array]) -> str:
    """Warns where a range of `layer` is known to be 0.

    Returns the name with which to mark what stands in for the ranges: that of the layer where they
    are not known before the program runs, else "".
    """
    if _told:
        return ""
    if any(isinstance(value, Tracer) or not _is_here(value) for value in ranges):
        return layer
    if not all(np.all(np.asarray(value) > 0) for value in ranges):
        _tell(layer)
    return ""


def of_this_batch(running: jax.Array, seen: jax.Array, *, layer: str) -> jax.Array:
    """`seen`, the range of this batch that stands in for a `running` one of 0; both f32[].

    Where `layer` is not "", running this warns that ranges of that layer are not calibrated.
    """
    return _mark.bind(jax.lax.stop_gradient(running), seen, layer=layer)


def _is_here(value: Any) -> bool:
    return getattr(value, "is_fully_addressable", True)


def _tell(layer: str) -> None:
    """Warns, once in a process."""
    global _told
    if not _told:
        _told = True
        warnings.warn(
            f"{layer}: its ranges are not calibrated, so each batch is converted at its own and an "
            "output depends on the other rows; first run training batches, "
            "with mutable=['ranges'] (Linen) or after model.train() (NNX)",
            stacklevel=2,
        )


_mark = Primitive("uncalibrated_range")


@_mark.def_impl
def _impl(running: jax.Array, seen: jax.Array, *, layer: str) -> jax.Array:
    return seen


@_mark.def_abstract_eval
def _abstract(running: Any, seen: Any, *, layer: str) -> Any:
    return seen


def _batch(operands: Any, axes: Any, *, layer: str) -> tuple[jax.Array, int]:
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    rows = [
        jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    ]
    return _mark.bind(*rows, layer=layer), 0


def _lower(ctx: mlir.LoweringRuleContext, running: Any, seen: Any, *, layer: str) -> Any:
    # A program that is exported by jax.export may hold no callback.
    if not layer or ctx.module_context.lowering_parameters.for_export:
        return [seen]

    def called(running: jax.Array, seen: jax.Array) -> jax.Array:
        result = jax.ShapeDtypeStruct(seen.shape, seen.dtype)
        return jax.pure_callback(functools.partial(_called, layer), result, running, seen)

    try:
        return mlir.lower_fun(called, multiple_results=False)(ctx, running, seen)
    except (NotImplementedError, ValueError):  # this platform or partitioning has no callbacks
        return [seen]


def _called(layer: str, running: Any, seen: Any) -> np.ndarray:
    # Under vmap both branches of a `cond` run, so a calibrated range comes here too.
    if not np.all(np.asarray(running) > 0):
        _tell(layer)
    return np.asarray(seen)


batching.primitive_batchers[_mark] = _batch
mlir.register_lowering(_mark, _lower)
