"""The causal softmax as a user calls it."""

from __future__ import annotations

import functools

import numpy as np

from lumina_jax import causal_softmax

from .._peers import Program
from ._softmax_jax import backward_program, forward_program

_softmax = functools.partial(causal_softmax, scale=0.125)


def forward(scores: np.ndarray, g: np.ndarray) -> Program:
    """The probabilities."""
    del g
    return forward_program(_softmax, scores)


def backward(scores: np.ndarray, g: np.ndarray) -> Program:
    """The gradient of the scores."""
    return backward_program(_softmax, scores, g)
