"""Activations of complex numbers; all have finite derivatives, 0 included."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def mod_relu(z: ArrayLike, bias: ArrayLike) -> jax.Array:
    """`relu(|z| + bias) · z/|z|`: the phase stays, and what is weaker than -bias goes; 0 at 0.

    Source: Arjovsky, Shah, Bengio, "Unitary evolution recurrent neural networks", ICML 2016.

    Args:
        z: c[...].
        bias: f[...] that broadcasts to z; usually one trained number for each feature.
    """
    z = _complex("mod_relu", z)
    magnitude = _magnitude(z)
    bias = jnp.asarray(bias, magnitude.dtype)
    bias = jnp.broadcast_to(bias, z.shape) if bias.ndim else bias
    factor = jax.nn.relu(magnitude + bias) / _above_zero(magnitude)
    return jnp.where(magnitude == 0, 0, factor).astype(z.dtype) * z


def complex_relu(z: ArrayLike) -> jax.Array:
    """`relu(re z) + i·relu(im z)` (CReLU).

    Source: Trabelsi et al., "Deep Complex Networks", ICLR 2018.

    Args:
        z: c[...].
    """
    z = _complex("complex_relu", z)
    return jax.lax.complex(jax.nn.relu(z.real), jax.nn.relu(z.imag))


def cardioid(z: ArrayLike) -> jax.Array:
    """`z · (1 + cos arg z)/2`: as the rectifier on real numbers, and smooth in the phase; 0 at 0.

    Source: Virtue, Yu, Lustig, "Better than real: complex-valued neural nets for MRI
    fingerprinting", ICIP 2017.

    Args:
        z: c[...].
    """
    z = _complex("cardioid", z)
    cosine = z.real / _above_zero(_magnitude(z))
    return ((1 + cosine) / 2).astype(z.dtype) * z


def detect(z: ArrayLike) -> jax.Array:
    """`|z|² = (re z)² + (im z)²`: the power that a photodiode sees of a field, real.

    Args:
        z: c[...].
    """
    z = _complex("detect", z)
    return jnp.square(z.real) + jnp.square(z.imag)


def _complex(name: str, z: ArrayLike) -> jax.Array:
    z = jnp.asarray(z)
    if not jnp.iscomplexobj(z):
        raise TypeError(
            f"{name}: `z` is {z.dtype}, expected complex64 or complex128; "
            f"pass z.astype(jnp.complex64)"
        )
    return z


def _magnitude(z: jax.Array) -> jax.Array:
    """|z|, with the derivative 0 at 0, and what is so small that its square is none of the type."""
    floor = 16 * math.sqrt(jnp.finfo(z.dtype).tiny)
    is_zero = jnp.maximum(jnp.abs(z.real), jnp.abs(z.imag)) < floor
    return jnp.where(is_zero, 0, jnp.abs(jnp.where(is_zero, 1, z)))


def _above_zero(magnitude: jax.Array) -> jax.Array:
    return jnp.where(magnitude == 0, 1, magnitude)
