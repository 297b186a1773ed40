"""The tolerance of test vectors follows what is computed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import exporter

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def tolerances(fn, *args, **options) -> tuple[float, float]:
    test = exporter.export(fn, *args, **options).tests[0]
    return test.relative_tolerance, test.absolute_tolerance


def deep(x: jax.Array, depth: int) -> jax.Array:
    for _ in range(depth):
        x = jnp.tanh(x)
    return x


def test_it_grows_as_the_root_of_the_depth() -> None:
    assert tolerances(lambda x: deep(x, 3), X) == (1e-5, 1e-5)
    assert tolerances(lambda x: deep(x, 256), X) == pytest.approx((2e-5, 2e-5))
    # What is beside the longest way does not count, nor what only moves elements.
    assert tolerances(lambda x: (deep(x, 60), deep(x.T[::-1], 60)), X)[0] == 1e-5
    # A loop counts as often as it runs.
    looped = tolerances(lambda x: lax.fori_loop(0, 256, lambda i, c: jnp.tanh(c), x), X)
    assert looped == pytest.approx((2e-5, 2e-5))


def test_it_is_that_of_numbers_as_large_as_the_outputs() -> None:
    relative, absolute = tolerances(lambda x: (x * 1e6, x * 1e4, x[0] > 0), X)
    size = float(np.sqrt(np.mean((X * 1e4).astype(np.float64) ** 2)))
    assert (relative, absolute) == pytest.approx((1e-5, 1e-5 * size))
    assert tolerances(lambda x: x / 0 * 0, X) == (1e-5, 1e-5)
    assert tolerances(lambda x: x[:0], X) == (1e-5, 1e-5)


def test_narrow_types_round_more() -> None:
    assert tolerances(lambda x: (x.astype(jnp.bfloat16) + 1).astype(jnp.float32), X)[0] == 2**-6
    assert tolerances(lambda x: x.astype(jnp.float16) + 1, X)[0] == 2**-9

    def inside(_: int, c: jax.Array) -> jax.Array:
        return (c.astype(jnp.bfloat16) * 3).astype(jnp.float32)

    assert tolerances(lambda x: lax.fori_loop(0, 2, inside, x), X)[0] == 2**-6


def test_what_is_given_counts() -> None:
    assert tolerances(lambda x: deep(x, 256), X, rtol=1e-6) == (1e-6, 1e-6)
    assert tolerances(lambda x: deep(x, 256), X, rtol=1e-6, atol=0.0) == (1e-6, 0.0)
