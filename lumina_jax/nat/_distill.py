"""Distillation: a noisy student learns from a quiet teacher."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from .._arguments import numeric, scalar

_OP = "distillation_loss"
# Largest |log p/q| for which the series of the divergence is used; its terms end at 2^-10/10!.
_SERIES = 0.5
# Largest T, of which f32 holds the square.
_HOTTEST = 1e15


def distillation_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    temperature: ArrayLike = 4.0,
    weight: ArrayLike = 0.5,
) -> jax.Array:
    """Cross-entropy with the labels, and divergence from a teacher at a temperature.

        p = softmax(teacher/T)        q = softmax(student/T)
        loss = (1 - weight)·mean CE(student, labels) + weight·T²·mean Σ_c p_c·log(p_c/q_c)

    T² keeps the gradients of both terms of one size. For T much larger than the logits the second
    term is Σ_c (Δ_c - mean Δ)²/(2C) of the differences Δ of the logits. The teacher, such as the
    same network without noise, is not differentiated. G. Hinton, O. Vinyals, J. Dean, "Distilling
    the knowledge in a neural network", arXiv:1503.02531 (2015), whose soft cross-entropy differs
    from the divergence by the entropy of the teacher, a constant.

    Args:
        student_logits: f[..., C].
        teacher_logits: f[..., C].
        labels: i[...], class of each example, 0 to C - 1.
        temperature: T, scalar above 0, at most 1e15.
        weight: of the teacher, 0 to 1; 0 is the plain cross-entropy.

    Returns:
        f32[], or f64[] of such logits.

    Raises:
        TypeError: logits are not real floats, or labels no integers.
        ValueError: shapes do not fit; an argument is out of its range.
    """
    student, teacher = (
        _logits("student_logits", student_logits),
        _logits("teacher_logits", teacher_logits),
    )
    index = numeric(_OP, "labels", labels, "integers")
    if student.shape != teacher.shape or not student.size:
        raise ValueError(
            f"{_OP}: `teacher_logits` has shape {teacher.shape}, expected that of "
            f"`student_logits`, {student.shape}, and at least one example"
        )
    if not jnp.issubdtype(index.dtype, jnp.integer):
        raise TypeError(f"{_OP}: `labels` must be integers, got {index.dtype}")
    if index.shape != student.shape[:-1]:
        raise ValueError(f"{_OP}: `labels` has shape {index.shape}, expected {student.shape[:-1]}")
    if not isinstance(index, Tracer):
        known, last = np.asarray(index), student.shape[-1] - 1
        if known.min() < 0 or known.max() > last:
            raise ValueError(
                f"{_OP}: `labels` must be from 0 to {last}, got {known.min()} to {known.max()}"
            )
    t = scalar(_OP, "temperature", temperature, above=0, at_most=_HOTTEST).astype(student.dtype)
    share = scalar(_OP, "weight", weight, at_least=0, at_most=1).astype(student.dtype)
    teacher = jax.lax.stop_gradient(teacher).astype(student.dtype)
    own = jax.nn.log_softmax(student)
    cross = -jnp.mean(jnp.take_along_axis(own, index[..., None], axis=-1))
    soft = jnp.square(t) * jnp.mean(_divergence(teacher / t, student / t))
    return (1 - share) * cross + share * soft


def _divergence(teacher: jax.Array, student: jax.Array) -> jax.Array:
    """Σ_c p_c·log(p_c/q_c), f[...].

    Where p and q are close, as at high temperature, the logarithms cancel to rounding errors. With
    d = teacher - student and e = d - Σ p·d the divergence is log(1 + Σ p·(exp(-e) - 1 + e)), of
    which every term is positive.
    """
    log_p, log_q = jax.nn.log_softmax(teacher), jax.nn.log_softmax(student)
    p = jnp.exp(log_p)
    direct = jnp.sum(p * (log_p - log_q), axis=-1)
    difference = teacher - student
    e = difference - jnp.sum(p * difference, axis=-1, keepdims=True)
    close = jnp.max(jnp.abs(e), axis=-1, keepdims=True) < _SERIES
    # Both branches have gradients, so neither may see what is out of its range.
    small = jnp.where(close, e, 0)
    series = jnp.zeros_like(small)
    for k in range(10, 2, -1):
        series = (1 + series) * (-small / k)
    near = jnp.log1p(jnp.sum(p * (jnp.square(small) / 2) * (1 + series), axis=-1))
    return jnp.where(close[..., 0], near, direct)


def _logits(name: str, value: ArrayLike) -> jax.Array:
    logits = numeric(_OP, name, value, "real floats")
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"{_OP}: `{name}` must be real floats, got {logits.dtype}")
    if logits.ndim < 1:
        raise ValueError(f"{_OP}: `{name}` has shape (), expected (..., classes)")
    return logits.astype(jnp.promote_types(logits.dtype, np.float32))
