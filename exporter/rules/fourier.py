"""Discrete Fourier transforms."""

from __future__ import annotations

from collections.abc import Sequence

from .._dim import Dim
from .._graph import DType, Value
from .._lower import Context
from .._ops import Fact, gives
from .._types import shape
from ._registry import rule

# As `jax.lax.FftType` numbers them.
_REAL, _INVERSE_REAL = 2, 3


@rule("fft")
def _fft(ctx: Context) -> list[Value]:
    kind = int(ctx.params["fft_type"])
    ctx.require(0, "f32" if kind == _REAL else "c64")
    return ctx.node(fft_type=kind, fft_lengths=shape(ctx.params["fft_lengths"]))


@gives("fft")
def _transformed(x: Value, fft_type: int, fft_lengths: Sequence[int | Dim]) -> Fact:
    if fft_type == _INVERSE_REAL:
        last, dtype = Dim.of(fft_lengths[-1]), "f32"
    else:
        last, dtype = x.shape[-1] // 2 + 1 if fft_type == _REAL else x.shape[-1], "c64"
    return DType.named(dtype), x.shape.with_axis(len(x.shape) - 1, last)
