"""Attention: what a query sees, what is no number, a cache, derivatives."""

from __future__ import annotations

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
from attention_cases import NOISE, RANGES, attention_model, key_of
from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec, optical_attention
from lumina_jax.cost.workload import MatmulLayer, layers_of
from lumina_jax.hardware.crosstalk import NearestNeighbor
from operands import SEED

B, T, S, H, D, E = 2, 7, 9, 4, 5, 6
IDEAL = OpticalSpec()
SPEC = OpticalSpec(dac_bits=8, adc_bits=7)
ADCS = {"scores_full_scale": 6.0, "out_full_scale": 1.5}


def sample(*leading: int, t: int = T, s: int = S, h: int = H) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(0)
    shapes = ((t, H, D), (s, h, D), (s, h, E))
    return tuple(jnp.asarray(rng.normal(0, 1, (*leading, *shape)), jnp.float32) for shape in shapes)


def bits(values: Any) -> np.ndarray:
    return np.asarray(values).view(np.uint32)


def close(got: Any, want: Any, tolerance: float = 1e-5) -> None:
    """Apart by roundings of the largest number of each array."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(
            a, b, rtol=0, atol=tolerance * max(1.0, float(np.abs(b).max(initial=0)))
        )


def masked(q: Any, k: Any, v: Any, visible: Any, scale: float | None = None) -> jax.Array:
    """That of JAX, where a query that sees nothing has 0."""
    out = jax.nn.dot_product_attention(q, k, v, mask=visible, scale=scale)
    return jnp.where(visible.any(-1).swapaxes(-1, -2)[..., None], out, 0)


def test_an_ideal_device_is_dot_product_attention() -> None:
    # JAX takes values that are as wide as keys alone.
    q, k, v = (value[..., :D] for value in sample(B))
    few = [value[..., :D] for value in sample(B, h=2)]
    rows, columns = np.arange(T)[:, None], np.arange(S)[None, :]
    lengths = np.int32([[3, 0, S, 5], [1, 2, 3, 4]])
    by_length = (columns[None, None] < lengths[..., None, None]) & np.ones((T, 1), bool)
    causal = np.broadcast_to(columns <= rows + 2, (B, 1, T, S))
    g = jnp.asarray(np.random.default_rng(1).normal(0, 1, (B, T, H, D)), jnp.float32)

    @jax.jit
    def program(q: Any, k: Any, v: Any, few: Any, lengths: Any) -> Any:
        def ours(q: Any, k: Any, v: Any, **arguments: Any) -> jax.Array:
            return optical_attention(q, k, v, spec=IDEAL, **arguments)

        pairs = [
            (ours, lambda q, k, v: jax.nn.dot_product_attention(q, k, v)),
            (
                lambda *a: ours(*a, causal=True, scale=0.3),
                lambda *a: jax.nn.dot_product_attention(*a, is_causal=True, scale=0.3),
            ),
            (
                lambda *a: ours(*a, causal=True, offset=jnp.int32(2), lengths=lengths),
                lambda *a: masked(*a, jnp.asarray(causal & by_length)),
            ),
            (
                lambda *a: ours(*a, lengths=lengths[:, 0]),
                lambda *a: masked(*a, jnp.asarray(by_length[:, :1])),
            ),
        ]
        found = []
        for pair in pairs:
            for f in pair:
                out, pull = jax.vjp(f, q, k, v)
                found.append((out, pull(g)))
        grouped = [jax.vjp(f, *few) for f in pairs[0]]
        found += [(out, pull(g)) for out, pull in grouped]
        found += [(f(q[0], k[0], v[0]),) for f in pairs[1]]
        return found[::2], found[1::2]

    close(*program(q, k, v, few, lengths))


def test_the_chain_by_head_and_noise_in_parts_of_a_full_scale() -> None:
    q, k, v = sample(B)
    by_head = {name: jnp.linspace(0.8, 1.2, H) * value for name, value in RANGES.items()}
    seen = np.minimum(np.arange(T) + 1, S)[None, None]
    spec, key = OpticalSpec(dac_bits=6, adc_bits=6), key_of(SEED)
    got = optical_attention(q, k, v, spec=spec, causal=True, noise=NOISE, key=key, **by_head)
    ranges = {name: value.reshape(1, H, 1, 1) for name, value in by_head.items()}
    want = attention_model(q, k, v, seen, D**-0.5, ranges, NOISE, dac=6, adc=6)
    close(got, want)
    parts = NoiseModel(thermal=0.02, shot=0.01, relative=0.03, weight=0.01, unit="full_scale")
    shared = {**by_head, "scores_full_scale": 5.0, "out_full_scale": 5.0}
    ours = [
        optical_attention(q, k, v, spec=spec, causal=True, noise=noise, key=key, **shared)
        for noise in (parts, parts.to_signal(5.0))
    ]
    np.testing.assert_array_equal(bits(ours[0]), bits(ours[1]))


@pytest.mark.parametrize("spec", [IDEAL, SPEC, OpticalSpec(dac_bits=12)], ids=str)
@pytest.mark.parametrize("junk", [np.nan, np.inf, 3e38])
def test_what_no_query_sees_is_never_read(spec: OpticalSpec, junk: float) -> None:
    q, k, v = sample(B)
    lengths = np.int32([0, 5])
    hidden = (np.arange(S) >= lengths[:, None])[..., None, None]

    @jax.jit
    def program(q: Any, k: Any, v: Any) -> Any:
        def of(q: Any, k: Any, v: Any) -> jax.Array:
            return optical_attention(q, k, v, spec=spec, lengths=lengths, **ADCS)

        out, pull = jax.vjp(of, q, k, v)
        return out, pull(jnp.ones_like(out))

    expected = program(q, k, v)
    broken = [jnp.where(hidden, np.float32(junk), value) for value in (k, v)]
    got = program(q.at[0].set(junk), *broken)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(bits(a), bits(b))
    # Nor is there noise where nothing is seen.
    assert (np.asarray(expected[0][0]) == 0).all()
    assert (np.asarray(expected[1][0][0]) == 0).all()


@pytest.mark.parametrize("spec", [IDEAL, SPEC, OpticalSpec(adc_bits=9)], ids=str)
@pytest.mark.parametrize("junk", [np.nan, -np.inf])
def test_a_query_that_sees_no_number_is_nan_and_no_other(spec: OpticalSpec, junk: float) -> None:
    q, k, v = sample(B, t=150, s=150)

    @jax.jit
    def program(q: Any, k: Any, v: Any, g: Any) -> Any:
        def of(q: Any, k: Any, v: Any) -> jax.Array:
            arguments = {**ADCS, **{name: 3.0 for name in RANGES if name[0] in "qkv"}}
            return optical_attention(q, k, v, spec=spec, causal=True, **arguments)

        out, pull = jax.vjp(of, q, k, v)
        return out, *pull(g)

    ones = jnp.ones((B, 150, H, E), jnp.float32)
    clean = program(q, k, v, ones)
    for operand, bad in [
        (0, slice(140, 141)), (1, slice(140, 150)), (2, slice(140, 150)), (3, slice(140, 141))
    ]:  # fmt: skip
        operands = [q, k, v, ones]
        operands[operand] = operands[operand].at[1, 140, 2, 0].set(junk)
        out, dq, dk, dv = map(np.asarray, program(*operands))
        rows = np.zeros(out.shape[:3], bool)
        rows[1, bad, 2] = True
        for got, want in ((out, clean[0]), (dq, clean[1])):
            is_bad = rows & (operand < 3 or got is dq)
            assert np.isnan(got[is_bad]).all()
            np.testing.assert_array_equal(bits(got[~is_bad]), bits(np.asarray(want)[~is_bad]))
        sees = np.zeros(out.shape[:3], bool)
        sees[1, : bad.stop, 2] = True
        for got, want in ((dk, clean[2]), (dv, clean[3])):
            assert np.isnan(got[sees]).all()
            assert np.isfinite(got[~sees]).all()
            others = ~np.broadcast_to(sees.any(1, keepdims=True), sees.shape)
            np.testing.assert_array_equal(bits(got[others]), bits(np.asarray(want)[others]))


def test_numbers_that_overflow_are_nan() -> None:
    q, k, v = sample()
    for spec in (IDEAL, OpticalSpec(dac_bits=12)):

        def of(q: jax.Array, spec: OpticalSpec = spec) -> jax.Array:
            return optical_attention(q, 1e30 * k, v, spec=spec, causal=True)

        out, pull = jax.vjp(of, q.at[1].multiply(1e30))
        for got in (np.asarray(out), np.asarray(pull(jnp.ones_like(out))[0])):
            assert np.isnan(got[1]).all()
            assert np.isfinite(np.delete(got, 1, 0)).all()


def test_one_token_at_a_time_is_the_whole_sequence() -> None:
    q, k, v = sample(B, s=T)
    given = {name: 3.0 for name in RANGES if name != "p_full_scale"}
    whole = optical_attention(q, k, v, spec=SPEC, causal=True, **given)

    @jax.jit
    def decoded(q: Any, k: Any, v: Any) -> jax.Array:
        junk = [jnp.full((B, 12, *value.shape[2:]), np.nan, np.float32) for value in (k, v)]

        def step(cache: list[jax.Array], at: jax.Array) -> Any:
            of_step = [jax.lax.dynamic_slice_in_dim(value, at, 1, 1) for value in (q, k, v)]
            cache = [
                jax.lax.dynamic_update_slice_in_dim(kept, new, at, 1)
                for kept, new in zip(cache, of_step[1:], strict=True)
            ]
            out = optical_attention(of_step[0], *cache, spec=SPEC, causal=True, offset=at, **given)
            return cache, out[:, 0]

        return jax.lax.scan(step, junk, jnp.arange(T))[1].swapaxes(0, 1)

    np.testing.assert_array_equal(bits(decoded(q, k, v)), bits(whole))


def test_peaks_are_those_of_what_is_seen() -> None:
    q, k, v = sample(B)
    for spec in (IDEAL, OpticalSpec(adc_bits=4)):
        out, peaks = optical_attention(q, k, v, spec=spec, causal=True, return_peaks=True, **ADCS)
        scores = np.einsum("bthd,bshd->bhts", q, k)
        want = np.abs(np.where(np.tril(np.ones((T, S), bool)), scores, 0)).max((2, 3))
        close(peaks[..., 0], want)
        if spec == IDEAL:
            np.testing.assert_array_equal(peaks[..., 1], np.abs(out).max((1, 3)))


def noisy(q: Any, k: Any, v: Any, noise: Any = NOISE, key: Any = None, **arguments: Any) -> Any:
    spec = arguments.pop("spec", SPEC)
    key = key_of(SEED) if key is None else key
    return optical_attention(q, k, v, spec=spec, noise=noise, key=key, **ADCS, **arguments)


def test_every_derivative_is_that_of_the_model() -> None:
    q, k, v = sample(1)
    seen = np.minimum(np.arange(T) + 1, S)[None, None]
    ranges = {name: np.float32(value) for name, value in RANGES.items()}
    along = jax.tree.map(lambda v: 0.3 * jnp.cos(v), (q, k, v))

    def ours(q: Any, k: Any, v: Any) -> jax.Array:
        return optical_attention(
            q, k, v, spec=OpticalSpec(dac_bits=6, adc_bits=6), causal=True, noise=NOISE,
            key=key_of(SEED), **ranges,
        )  # fmt: skip

    def model(q: Any, k: Any, v: Any) -> jax.Array:
        return attention_model(q, k, v, seen, D**-0.5, ranges, NOISE, dac=6, adc=6)

    @jax.jit
    def program() -> Any:
        def of(f: Any) -> Any:
            def loss(operands: Any) -> jax.Array:
                return jnp.sum(jnp.sin(f(*operands)))

            operands = (q, k, v)
            first = jax.grad(loss)
            return (
                jax.jvp(lambda o: f(*o), (operands,), (along,)),
                jax.jvp(first, (operands,), (along,)),
                jax.grad(jax.checkpoint(loss))(operands),
            )

        return of(ours), of(model)

    close(*program(), tolerance=1e-4)


def test_the_gradient_is_that_of_finite_differences() -> None:
    q, k, v = sample(B)

    @jax.jit
    def loss(operands: Any, scale: Any, noise: Any) -> jax.Array:
        out = noisy(*operands, noise, spec=IDEAL, causal=True, scale=scale)
        return jnp.vdot(out, jnp.cos(out))

    at = ((q, k, v), jnp.float32(0.4), jax.tree.map(jnp.float32, NOISE))
    along = jax.tree.map(lambda v: jnp.cos(3 * v), at)
    gradient = jax.grad(loss, argnums=(0, 1, 2))(*at)
    slope = sum(
        float(jnp.vdot(a, b))
        for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(along), strict=True)
    )
    step = 1e-3
    ends = [float(loss(*jax.tree.map(lambda v, d, s=s: v + s * step * d, at, along)))
            for s in (1, -1)]  # fmt: skip
    # The loss is a sum of hundreds of numbers around 1, whose rounding is divided by the step.
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=2e-2, abs=5e-2)


def test_vmap_and_scan_give_the_bits_of_each_example() -> None:
    batch = (*sample(3, B), np.int32([1, 4, 9]), np.float32([0.3, 0.5, 1.0]))
    keys = jax.random.split(jax.random.key(1), 3)

    def one(q: Any, k: Any, v: Any, offset: Any, full_scale: Any, key: Any) -> Any:
        def of(q: Any, k: Any, v: Any) -> jax.Array:
            return noisy(q, k, v, key=key, causal=True, offset=offset, p_full_scale=full_scale)

        out, pull = jax.vjp(of, q, k, v)
        return out, pull(out)

    alone = [jax.jit(one)(*(b[i] for b in batch), keys[i]) for i in range(3)]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *alone)
    mapped = jax.vmap(one)
    jaxpr = str(jax.make_jaxpr(mapped)(*batch, keys))
    assert f"f32[{3 * B},{T},{H},{E}] = optical_attention[" in jaxpr
    assert "scan" not in jaxpr
    scanned = jax.jit(lambda *b: jax.lax.scan(lambda c, b: (c, one(*b)), 0, b)[1])
    for got in (jax.jit(mapped)(*batch, keys), scanned(*batch, keys)):
        for a, b in zip(*map(jax.tree.leaves, (got, expected)), strict=True):
            np.testing.assert_array_equal(bits(a), bits(b))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_batch_and_heads_may_be_sharded(kind: AxisType) -> None:
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(kind, kind))
    operands = sample(B)

    def of(q: Any, k: Any, v: Any, full_scale: Any) -> Any:
        def call(*operands: Any) -> jax.Array:
            *operands, full_scale = operands
            return noisy(*operands, causal=True, lengths=jnp.array([5, S]), p_full_scale=full_scale)

        out, pull = jax.vjp(call, q, k, v, full_scale)
        return out, pull(out)

    expected = jax.jit(of)(*operands, jnp.float32(0.5))
    for split in (P("a"), P("a", None, "b"), P(None, None, ("a", "b"))):
        placed = [jax.device_put(v, NamedSharding(mesh, split)) for v in operands]
        whole = jax.device_put(jnp.float32(0.5), NamedSharding(mesh, P()))
        with jax.set_mesh(mesh):
            compiled = jax.jit(of).lower(*placed, whole).compile()
            got = compiled(*placed, whole)
        *tensors, by_range = jax.tree.leaves(got)
        *wanted, range_wanted = jax.tree.leaves(expected)
        for a, b in zip(tensors, wanted, strict=True):
            np.testing.assert_array_equal(bits(a), bits(b))
        # Shards are added up in another order.
        np.testing.assert_allclose(by_range, range_wanted, rtol=1e-5)
        assert "all-gather" not in compiled.as_text()


def decode(q: Any, k: Any, v: Any, offset: Any, lengths: Any) -> jax.Array:
    """The attention of queries that a cache is asked for."""
    return noisy(q, k, v, causal=True, offset=offset, lengths=lengths)


def test_extents_may_be_symbolic() -> None:
    b, t, s = jax.export.symbolic_shape("b, t, s")
    operands = (*sample(B), np.int32(2), np.int32([4, 9]))
    shapes = [(b, t, H, D), (b, s, H, D), (b, s, H, E), (), (b,)]
    structs = [
        jax.ShapeDtypeStruct(shape, operand.dtype)
        for shape, operand in zip(shapes, operands, strict=True)
    ]
    exported = jax.export.export(jax.jit(decode))(*structs)
    np.testing.assert_array_equal(exported.call(*operands), jax.jit(decode)(*operands))


def test_the_runtime_gives_the_same_bits(tmp_path: Path, lumina: Path) -> None:
    operands = (*sample(B), np.int32(2), np.int32([4, 9]))
    model = exporter.export(decode, *operands, batch="b", rtol=0.0, atol=0.0)
    assert "optical_attention" in model.ops
    path = model.save(tmp_path / "attention.lmn")
    done = subprocess.run([lumina, "verify", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_profile_says_bits_noise_and_losses() -> None:
    q, k, v = sample(B)
    profile = HardwareProfile.preset("lumina_nano_v1")
    key = jax.random.key(0)
    got = optical_attention(q, k, v, profile=profile, key=key, **ADCS)
    loss = profile.path.transmission
    assert loss < 1
    want = optical_attention(
        q, loss * k, loss * v, spec=profile.spec, noise=profile.noise, key=key, **ADCS
    )
    np.testing.assert_array_equal(bits(got), bits(want))
    crossed = HardwareProfile(crosstalk=NearestNeighbor(channels=4, coupling=0.1))
    with pytest.raises(ValueError, match=r"^optical_attention: `profile` has crosstalk, which"):
        optical_attention(q, k, v, profile=crossed, key=key, **ADCS)


def test_both_products_are_known_to_reports() -> None:
    of_scores, of_out = layers_of(
        "test", lambda *operands: noisy(*operands, causal=True), inputs=sample(B)
    )
    bits = {"dac_bits": 8, "weight_bits": 8, "adc_bits": 7, "calls": B * H}
    assert of_scores == MatmulLayer(rows=T, k=D, n=S, **bits)
    assert of_out == MatmulLayer(rows=T, k=S, n=E, **bits)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("check_vma", [True, False])
def test_shards_of_shard_map(kind: AxisType, check_vma: bool) -> None:
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(kind, kind))
    operands, split = sample(B), P("a", None, "b")

    def of(q: Any, k: Any, v: Any, full_scale: Any) -> jax.Array:
        arguments = {**ADCS, "scores_full_scale": full_scale}
        return optical_attention(q, k, v, spec=SPEC, causal=True, **arguments)

    def derivatives(f: Any, *operands: Any) -> Any:
        out, pull = jax.vjp(f, *operands)
        return out, pull(out)

    expected = jax.jit(lambda *o: derivatives(of, *o))(*operands, jnp.float32(6))
    mapped = jax.shard_map(
        of, mesh=mesh, in_specs=(split, split, split, P()), out_specs=split, check_vma=check_vma
    )
    with jax.set_mesh(mesh):
        placed = [jax.device_put(v, NamedSharding(mesh, split)) for v in operands]
        got = jax.jit(lambda *o: derivatives(mapped, *o))(*placed, jnp.float32(6))
    # Shards are added up in another order.
    close(got, expected, 1e-6)
