"""The cases of the ops on complex numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import lumina_jax
from case import Case, Gradient


def random_complex(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers whose parts are normal, complex64."""
    parts = rng.normal(0, 1, (2, *shape)).astype(np.float32)
    return parts[0] + np.complex64(1j) * parts[1]


def parts_of(z: jax.Array) -> jax.Array:
    """Real and imaginary parts, one behind the other."""
    return jnp.stack([z.real, z.imag])


# --- complex_matmul -----------------------------------------------------------------------------


def _complex_matmul(
    label: str, m: int, k: int, n: int, *, transpose_x: bool = False, transpose_w: bool = False
) -> Case:
    def operands() -> list[np.ndarray]:
        rng = np.random.default_rng(k)
        x, w = random_complex(rng, m, k), random_complex(rng, k, n)
        x = np.ascontiguousarray(x.T) if transpose_x else x
        return [x, np.ascontiguousarray(w.T) if transpose_w else w]

    def gradient() -> Gradient:
        return Gradient(
            function=lambda x, w: parts_of(lumina_jax.complex_matmul(x, w)),
            model=lambda x, w: parts_of(jnp.matmul(x, w, precision="highest")),
            arguments=tuple(operands()),
        )

    return Case(
        op="complex_matmul",
        label=label,
        operands=operands,
        attrs={"dtype": "c64", "transpose_x": transpose_x, "transpose_w": transpose_w},
        gradient=None if transpose_x or transpose_w else gradient,
    )


COMPLEX_CASES = [
    _complex_matmul("plain", 5, 9, 35),
    _complex_matmul("transposed", 7, 30, 17, transpose_x=True, transpose_w=True),
    _complex_matmul("w transposed", 9, 12, 100, transpose_w=True),
    _complex_matmul("no depth", 3, 0, 4),
    _complex_matmul("no rows", 0, 3, 4),
]
"""Cases of complex64; JAX has no complex128 unless 64-bit types are enabled."""
