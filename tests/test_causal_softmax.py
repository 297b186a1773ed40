"""Causal softmax: what a row sees, what is no number, derivatives, and what is refused."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import exporter
import lumina_jax
from cases import masked_softmax
from lumina_jax import causal_softmax

T, S = 5, 21
ROUNDING = 1e-6
"""Of probabilities: two exponentials of two units in the last place, and sums of 21 terms."""


def scores_of(*leading: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 3, (*leading, T, S)).astype(np.float32)


def bits(values: Any) -> np.ndarray:
    return np.asarray(values).view(np.uint32)


@pytest.mark.parametrize("offset", [-3, 0, 7, 16, 40, -(2**31), 2**31 - 1])
def test_a_row_sees_up_to_its_position_and_its_length(offset: int) -> None:
    scores, lengths = scores_of(3), np.int32([0, 4, S])
    expected = masked_softmax(scores, 0.5, max(min(offset, S), -T), lengths)
    got = causal_softmax(scores, scale=0.5, offset=offset, lengths=lengths)
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING)
    np.testing.assert_array_equal(np.asarray(got) == 0, np.asarray(expected) == 0)
    traced = jax.jit(lambda *a: causal_softmax(a[0], scale=a[1], offset=a[2], lengths=a[3]))
    same = traced(scores, np.float32(0.5), np.int32(offset), lengths)
    np.testing.assert_array_equal(bits(same), bits(got))


def test_lengths_broadcast_and_traced_ones_are_cut() -> None:
    scores = scores_of(2, 3)
    each = [causal_softmax(scores, offset=S, lengths=length) for length in (0, 4, S)]
    columns = causal_softmax(scores, offset=S, lengths=jnp.array([0, 4, S], jnp.uint8))
    rows = causal_softmax(scores, offset=S, lengths=np.array([[4], [S]]))
    for i in range(3):
        np.testing.assert_array_equal(columns[:, i], each[i][:, i])
    np.testing.assert_array_equal(rows, jnp.stack([each[1][0], each[2][1]]))
    np.testing.assert_array_equal(each[0], jnp.zeros_like(scores))
    np.testing.assert_array_equal(each[2], causal_softmax(scores, offset=S))
    beyond = jax.jit(lambda n: causal_softmax(scores, offset=S, lengths=n))(jnp.array([-1, 4, 99]))
    np.testing.assert_array_equal(beyond, columns)


@pytest.mark.parametrize("junk", [np.nan, np.inf, 3e38])
def test_what_is_not_seen_has_no_effect(junk: float) -> None:
    scores, lengths = scores_of(2), np.int32([3, 9])
    hidden = np.asarray(causal_softmax(np.zeros_like(scores), offset=1, lengths=lengths)) == 0
    broken, g = np.where(hidden, np.float32(junk), scores), scores[..., ::-1]

    @jax.jit
    def program(scores: jax.Array, g: jax.Array) -> Any:
        def of(scores: jax.Array, scale: jax.Array) -> jax.Array:
            return causal_softmax(scores, scale=scale, offset=1, lengths=lengths)

        p, pull = jax.vjp(of, scores, jnp.float32(0.7))
        return p, *pull(g), jax.grad(lambda scores: (of(scores, 0.7) * g).sum())(scores)

    expected = program(scores, g)
    for got, want in zip(program(broken, np.where(hidden, junk, g)), expected, strict=True):
        np.testing.assert_array_equal(bits(got), bits(want))
    assert (np.asarray(expected[1])[hidden] == 0).all()


@pytest.mark.parametrize("scale", [1.0, 0.0, -2.0])
def test_infinite_scores(scale: float) -> None:
    scores = scores_of()
    scores[1, 1], scores[2, :3], scores[3, 2], scores[4, 0] = -np.inf, -np.inf, np.inf, np.nan

    def of(scores: jax.Array) -> jax.Array:
        return causal_softmax(scores, scale=scale)

    p, pull = jax.vjp(of, scores)
    (gradient,) = pull(jnp.asarray(scores_of()))
    for got in (p, gradient):
        assert np.isfinite(got[:3]).all()
        assert np.isnan(got[3, :4]).all()
        assert np.isnan(got[4, :5]).all()
        assert (np.asarray(got)[np.triu_indices(T, 1, S)] == 0).all()
    np.testing.assert_array_equal(p[2], np.zeros(S, np.float32))
    np.testing.assert_array_equal(p[1, :2], np.float32([1, 0]))
    np.testing.assert_array_equal(gradient[2], np.zeros(S, np.float32))


def test_large_scores_do_not_overflow() -> None:
    scores = np.float32([[3e38, -3e38, 3e38], [-3e38, -3e38, -3.4e38], [88, 89, 1e4]])
    expected = np.float32([[0.5, 0, 0.5], [0.5, 0.5, 0], [0, 0, 1]])
    np.testing.assert_array_equal(causal_softmax(scores, offset=2), expected)


def test_derivatives() -> None:
    scores, lengths = scores_of(2), np.int32([0, 17])
    g = np.random.default_rng(1).normal(0, 1, scores.shape).astype(np.float32)
    along = np.random.default_rng(2).normal(0, 1, scores.shape).astype(np.float32)

    def loss(of: Any) -> Any:
        return lambda scores, scale: jnp.sum(of(scores, scale) ** 2 * g)

    ours = loss(lambda s, a: causal_softmax(s, scale=a, offset=9, lengths=lengths))
    model = loss(lambda s, a: masked_softmax(s, a, 9, lengths))

    @jax.jit
    def program(scores: jax.Array, scale: jax.Array) -> Any:
        def of(f: Any) -> Any:
            first = jax.grad(f, argnums=(0, 1))

            def moved(scores: jax.Array, scale: jax.Array) -> Any:
                return jax.jvp(first, (scores, scale), (along, scale))

            def again(scores: jax.Array, scale: jax.Array) -> jax.Array:
                return sum(map(jnp.sum, jax.tree.leaves(moved(scores, scale))), jnp.float32(0))

            tangent = jax.jvp(f, (scores, scale), (along, scale))
            third = jax.grad(again, argnums=1)(scores, scale)
            remat = jax.grad(jax.checkpoint(f), argnums=(0, 1))(scores, scale)
            return tangent, moved(scores, scale), third, remat

        return of(ours), of(model)

    got, want = program(scores, jnp.float32(0.4))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        # A derivative sums at most 210 products, each further one doubles their factors.
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1.0, float(np.abs(b).max())))
    gradient = got[3][0]
    step = 1e-2
    moved = [float(ours(scores + s * step * along, 0.4)) for s in (1, -1)]
    # The third derivative of a softmax times the square of the step, and rounding over the step.
    assert (moved[0] - moved[1]) / (2 * step) == pytest.approx(
        float(jnp.vdot(gradient, along)), rel=1e-2, abs=1e-3
    )


def test_vmap_and_scan_over_lengths_and_offsets() -> None:
    scores = scores_of(3)
    lengths, offsets, scales = np.int32([0, 4, S]), np.int32([-1, 3, 9]), np.float32([1, 2, 0.5])

    def one(scores: jax.Array, length: jax.Array, offset: jax.Array, scale: jax.Array) -> Any:
        def of(scores: jax.Array, scale: jax.Array) -> jax.Array:
            return causal_softmax(scores, scale=scale, offset=offset, lengths=length)

        p, pull = jax.vjp(of, scores, scale)
        return p, pull(p)

    batch = (scores, lengths, offsets, scales)
    alone = [jax.jit(one)(*(b[i] for b in batch)) for i in range(3)]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *alone)
    mapped = jax.jit(jax.vmap(one))(*batch)
    scanned = jax.jit(lambda batch: jax.lax.scan(lambda c, b: (c, one(*b)), 0, batch)[1])(batch)
    for a, b, c in zip(*map(jax.tree.leaves, (mapped, scanned, expected)), strict=True):
        np.testing.assert_array_equal(b, c)
        # XLA adds up the gradient of a scale in another order.
        np.testing.assert_allclose(a, c, rtol=0, atol=1e-6 if c.ndim == 1 else 0)


def decode(scores: jax.Array, position: jax.Array, lengths: jax.Array) -> jax.Array:
    """The probabilities of rows that a cache of keys is asked for."""
    return causal_softmax(scores, scale=0.5, offset=position, lengths=lengths)


OPERANDS = (scores_of(3), np.int32(4), np.array([1, 5, 20], np.int32))


def test_extents_may_be_symbolic() -> None:
    (b, s) = jax.export.symbolic_shape("b, s")
    shapes = ((b, T, s), np.float32), ((), np.int32), ((b,), np.int32)
    structs = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    exported = jax.export.export(jax.jit(decode))(*structs)
    np.testing.assert_array_equal(exported.call(*OPERANDS), decode(*OPERANDS))


def test_the_runtime_gives_the_same_bits(tmp_path: Path, lumina: Path) -> None:
    model = exporter.export(decode, *OPERANDS, batch="b", rtol=0.0, atol=0.0)
    path = model.save(tmp_path / "softmax.lmn")
    done = subprocess.run([lumina, "verify", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_leading_dimensions_may_be_sharded(kind: AxisType) -> None:
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(kind, kind))
    scores, lengths = scores_of(4, 2), np.arange(8, dtype=np.int32).reshape(4, 2) * 3

    def of(scores: jax.Array, lengths: jax.Array) -> Any:
        p, pull = jax.vjp(lambda s: causal_softmax(s, offset=7, lengths=lengths), scores)
        return p, pull(p)

    expected = jax.jit(of)(scores, lengths)
    for split in (P("a"), P("a", "b")):
        operands = [jax.device_put(v, NamedSharding(mesh, split)) for v in (scores, lengths)]
        with jax.set_mesh(mesh):
            got = jax.jit(of)(*operands)
        for a, b in zip(*map(jax.tree.leaves, (got, expected)), strict=True):
            np.testing.assert_array_equal(a, b)


X = np.zeros((2, T, S), np.float32)
NAME = "causal_softmax"
REFUSED: list[tuple[type[Exception], str, np.ndarray, dict[str, Any]]] = [
    (TypeError, "`scores` must be float32, got float64; cast it", X.astype(np.float64), {}),
    (TypeError, "`scores` must be float32, got float16; cast it", X.astype(np.float16), {}),
    (TypeError, "`scores` must be float32, got int32; cast it", X.astype(np.int32), {}),
    (ValueError, "`scores` has shape (21,), expected (..., t, s)", X[0, 0], {}),
    (TypeError, "`scale` must be a real number, got complex64", X, {"scale": 1j}),
    (ValueError, "`scale` has shape (2,), expected a scalar", X, {"scale": np.ones(2)}),
    (ValueError, "`scale` must be finite, got nan", X, {"scale": np.nan}),
    (TypeError, "`offset` must be an integer, got float32", X, {"offset": 1.0}),
    (TypeError, "`offset` must be an integer, got True", X, {"offset": True}),
    (ValueError, "`offset` has shape (2,), expected a scalar", X, {"offset": np.int32([0, 1])}),
    (ValueError, "`offset` must be at most 2147483647, got 2147483648", X, {"offset": 2**31}),
    (TypeError, "`lengths` must be integers, got float32", X, {"lengths": np.float32([1, 2])}),
    (ValueError, "`lengths` must be at least 0, got -1", X, {"lengths": [3, -1]}),
    (ValueError, "`lengths` must be at most 21, got 22", X, {"lengths": 22}),
    (
        ValueError,
        "`lengths` has shape (3,), expected one that broadcasts to (2,) of `scores`",
        X,
        {"lengths": [1, 2, 3]},
    ),
    (
        ValueError,
        "`lengths` has shape (1, 2), expected one that broadcasts to (2,) of `scores`",
        X,
        {"lengths": [[1, 2]]},
    ),
]


@pytest.mark.parametrize(("kind", "text", "scores", "arguments"), REFUSED)
def test_refused(
    kind: type[Exception], text: str, scores: np.ndarray, arguments: dict[str, Any]
) -> None:
    # Without 64 bits JAX itself makes the float64 of a test a float32.
    wide = scores.dtype == np.float64
    with jax.enable_x64(wide), pytest.raises(kind, match=f"^{NAME}: {re.escape(text)}"):
        lumina_jax.causal_softmax(scores, **arguments)
