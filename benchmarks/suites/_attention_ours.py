"""Causal attention as a user calls it, with converters and noise off."""

from __future__ import annotations

import functools

import numpy as np

from lumina_jax import OpticalSpec, optical_attention

from .._peers import Program
from ._attention_jax import forward_program, step_program

_attention = functools.partial(optical_attention, spec=OpticalSpec(), causal=True)


def forward(q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray) -> Program:
    """The outputs."""
    del g
    return forward_program(_attention, q, k, v)


def step(q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray) -> Program:
    """The outputs, and the gradients of q, k and v."""
    return step_program(_attention, q, k, v, g)
