"""Types of the ops that stand for several primitives: no rule writes them, `_fuse` does."""

from __future__ import annotations

from typing import Any

from .._dim import Shape
from .._graph import Value
from .._ops import Fact, gives
from .contraction import _product
from .convolution import _convolved


@gives("gelu")
def _gelu(x: Value, approximate: bool) -> Fact:
    return x.dtype, x.shape


@gives("silu")
def _silu(x: Value, beta: float) -> Fact:
    return x.dtype, x.shape


@gives("softplus")
def _softplus(x: Value, beta: float, threshold: float) -> Fact:
    return x.dtype, x.shape


@gives("softmax")
def _softmax(x: Value, axis: int) -> Fact:
    return x.dtype, x.shape


@gives("normalization")
def _normalization(
    x: Value, *scale_and_bias: Value, axes: tuple[int, ...], epsilon: float, center: bool
) -> Fact:
    return x.dtype, x.shape


@gives("fused_dot_general")
def _dot(lhs: Value, rhs: Value, *added: Value, activation: str, **of_dot_general: Any) -> Fact:
    return _product(lhs, rhs, **of_dot_general)


@gives("fused_conv_general_dilated")
def _conv(
    lhs: Value, rhs: Value, *added: Value, activation: str, **of_conv_general_dilated: Any
) -> Fact:
    return _convolved(lhs, rhs, **of_conv_general_dilated)


@gives("attention")
def _attention(q: Value, k: Value, v: Value, *masks: Value, scale: float, fill: float) -> Fact:
    return q.dtype, Shape((*q.shape[:-1], v.shape[-1]))
