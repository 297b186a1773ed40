"""Initializers of complex parameters, `initializer(key, shape, dtype)`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax.typing import Initializer


def complex_glorot() -> Initializer:
    """Complex numbers of variance `E|w|² = 2/(fan_in + fan_out)`.

    Magnitudes are Rayleigh distributed with the scale 1/√(fan_in + fan_out), phases uniform: both
    parts are normal with that standard deviation. Fans are those of the last two axes, of which the
    others make receptive fields.

    Source: Trabelsi et al., "Deep Complex Networks", ICLR 2018.
    """
    return _circular("complex_glorot", lambda fan_in, fan_out: fan_in + fan_out)


def complex_he() -> Initializer:
    """Complex numbers of variance `E|w|² = 2/fan_in`, for layers between rectifiers.

    Otherwise as `complex_glorot`.
    """
    return _circular("complex_he", lambda fan_in, fan_out: fan_in)


def unitary(scale: float = 1.0) -> Initializer:
    """`scale` times a random matrix with orthonormal columns, or rows if these are fewer.

    Uniform over all such matrices (Haar): the Q of a QR decomposition of complex normal numbers,
    its columns turned by the phases of the diagonal of R. A square one keeps the power of its
    input, as lossless interferometers do.

    Source: Mezzadri, "How to generate random matrices from the classical compact groups", Notices
    of the AMS 54 (2007).
    """

    def initialize(key: Any, shape: Sequence[int], dtype: Any = jnp.complex64, **_: Any) -> Any:
        dtype = _complex("unitary", dtype)
        if len(shape) != 2:
            raise ValueError(f"unitary: `shape` is {tuple(shape)}, expected two dimensions")
        rows, columns = shape
        tall = (max(rows, columns), min(rows, columns))
        q, r = jnp.linalg.qr(jax.random.normal(key, tall, dtype))
        diagonal = jnp.diagonal(r)
        q = q * (diagonal / jnp.abs(diagonal).astype(dtype))[None, :]
        return scale * (q if rows >= columns else q.T)

    return initialize


def _circular(name: str, fans: Any) -> Initializer:
    def initialize(key: Any, shape: Sequence[int], dtype: Any = jnp.complex64, **_: Any) -> Any:
        dtype = _complex(name, dtype)
        if len(shape) < 2:
            raise ValueError(f"{name}: `shape` is {tuple(shape)}, expected at least two dimensions")
        field = math.prod(shape[:-2])
        # A complex normal number of JAX has a variance of 1, both parts together.
        deviation = math.sqrt(2 / max(fans(field * shape[-2], field * shape[-1]), 1))
        return deviation * jax.random.normal(key, shape, dtype)

    return initialize


def _complex(name: str, dtype: Any) -> Any:
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"{name}: `dtype` is {jnp.dtype(dtype)}, expected complex64 or complex128")
    return jnp.dtype(dtype)
