"""The argument `first_row`: a part of the rows has the noise that it has in the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lumina_jax as lj
from any_array import NOISE, NOISY, complexes, real

KEY = jax.random.key(3)
CUT = 2

X, W, BIAS = real(5, 8), real(8, 3), real(3)
COMPLEX = complexes(5, 8), complexes(8, 3)
IMAGES, KERNEL = real(5, 6, 4, 2), real(3, 2, 2, 3)
HEADS = [real(5, 4, 3, 6) for _ in range(3)]
CHAIN = {"key": KEY, "x_full_scale": 3.0, **NOISY}
ATTENTION = {
    "spec": lj.OpticalSpec(dac_bits=6),
    "noise": NOISE,
    "key": KEY,
    "q_full_scale": 3.0,
    "k_full_scale": 3.0,
    "v_full_scale": 3.0,
}

CALLS: dict[str, tuple[Callable[..., Any], int]] = {
    "optical_matmul": (lambda at, **row: lj.optical_matmul(X[at], W, BIAS, **CHAIN, **row), 1),
    "complex_optical_matmul": (
        lambda at, **row: lj.complex_optical_matmul(COMPLEX[0][at], COMPLEX[1], **CHAIN, **row),
        1,
    ),
    "optical_conv": (lambda at, **row: lj.optical_conv(IMAGES[at], KERNEL, **CHAIN, **row), 6 * 4),
    "optical_attention": (
        lambda at, **row: lj.optical_attention(*(a[at] for a in HEADS), **ATTENTION, **row),
        3 * 4,
    ),
    "optical_noise": (lambda at, **row: lj.optical_noise(KEY, (len(X[at]), 3), **row), 1),
}
"""Each op on some of the leading axis, and how many rows one of it has."""


@pytest.mark.parametrize("name", CALLS)
def test_a_part_draws_the_noise_that_it_has_in_the_whole(name: str) -> None:
    call, rows = CALLS[name]
    whole = np.asarray(call(slice(None)))
    first = np.asarray(call(slice(None, CUT)))
    for first_row in (CUT * rows, np.uint32(CUT * rows), jnp.uint8(CUT * rows)):
        rest = np.asarray(call(slice(CUT, None), first_row=first_row))
        assert np.concatenate([first, rest]).tobytes() == whole.tobytes()
    traced = jax.jit(lambda row: call(slice(CUT, None), first_row=row))(CUT * rows)
    # Inside `jit` XLA may round elsewhere, but the noise is the same.
    np.testing.assert_allclose(traced, whole[CUT:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("noise", [NOISE, None], ids=["noisy", "quiet"])
def test_the_gradient_draws_for_the_same_rows(noise: Any) -> None:
    """The gradient in 8 bits rounds at random by row, and its scales for dx are by row."""
    spec = lj.OpticalSpec(dac_bits=6, weight_bits=6, grad_precision="int8")
    # So many numbers that not all of them round alike in other rows.
    w, g = real(8, 64), jnp.asarray(real(5, 64))

    def gradient(at: slice, first_row: int) -> np.ndarray[Any, Any]:
        def of(x: jax.Array) -> jax.Array:
            return lj.optical_matmul(
                x, w, spec=spec, noise=noise, key=KEY, x_full_scale=3.0, first_row=first_row
            )

        return np.asarray(jax.vjp(of, jnp.asarray(X[at]))[1](g[at])[0])

    whole = gradient(slice(None), 0)
    assert gradient(slice(CUT, None), CUT).tobytes() == whole[CUT:].tobytes()
    assert gradient(slice(CUT, None), 0).tobytes() != whole[CUT:].tobytes()


def test_shards_and_mapped_parts_count_on() -> None:
    """Four shards and four mapped parts of two rows, forward and backward."""
    x, cut = jnp.asarray(real(8, 8)), jax.sharding.PartitionSpec("d")
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("d",))

    def of_shard(x: jax.Array) -> jax.Array:
        first_row = jax.lax.axis_index("d") * x.shape[0]
        return lj.optical_matmul(x, W, **CHAIN, first_row=first_row)

    def of_part(x: jax.Array, first_row: jax.Array) -> jax.Array:
        return lj.optical_matmul(x, W, **CHAIN, first_row=first_row)

    def of_parts(x: jax.Array) -> jax.Array:
        return jax.vmap(of_part)(x.reshape(4, 2, 8), jnp.arange(0, 8, 2)).reshape(8, 3)

    functions = {
        "whole": lambda x: lj.optical_matmul(x, W, **CHAIN),
        "sharded": jax.shard_map(of_shard, mesh=mesh, in_specs=cut, out_specs=cut),
        "mapped": of_parts,
    }
    results = {}
    for name, function in functions.items():
        out, pulled_back = jax.vjp(function, x)
        results[name] = [np.asarray(a).tobytes() for a in (out, *pulled_back(jnp.ones_like(out)))]
    assert results["whole"] == results["sharded"] == results["mapped"]


def test_ids_are_counted_modulo_2_to_the_32() -> None:
    high = np.asarray(lj.optical_noise(KEY, (3, 4), first_row=2**32 - 1))
    assert high[1:].tobytes() == np.asarray(lj.optical_noise(KEY, (2, 4))).tobytes()


@pytest.mark.parametrize(
    ("kind", "first_row", "text"),
    [
        (ValueError, -1, "`first_row` must be from 0 to 4294967295, got -1"),
        (ValueError, 2**32, "`first_row` must be from 0 to 4294967295, got 4294967296"),
        (TypeError, 1.5, "`first_row` must be an integer, got float32"),
        (TypeError, True, "`first_row` must be an integer, got True"),
        (ValueError, np.array([1, 2]), "`first_row` has shape (2,), expected a scalar"),
    ],
)
def test_another_first_row_is_an_error(kind: Any, first_row: Any, text: str) -> None:
    for op, call in (
        ("optical_noise", lambda: lj.optical_noise(KEY, (2, 3), first_row=first_row)),
        ("optical_matmul", lambda: lj.optical_matmul(X, W, **CHAIN, first_row=first_row)),
        (
            "optical_attention",
            lambda: lj.optical_attention(*HEADS, **ATTENTION, first_row=first_row),
        ),
    ):
        with pytest.raises(kind) as error:
            call()
        assert str(error.value) == f"{op}: {text}"
