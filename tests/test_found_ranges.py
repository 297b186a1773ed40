"""Full scales that are left to the op: the bits of the same ones given, wherever it runs."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import lumina_jax
from cases import CASES, Case
from flax_layers.linen import OpticalDense
from lumina_jax import NoiseModel, OpticalSpec
from lumina_jax.ops.quantize import absmax
from operands import call

M, K, N = 8, 12, 20
KEY = jax.random.key(3)
NOISE = NoiseModel(relative=0.1, thermal=0.05, weight=0.02)
X, W, G = (
    jnp.asarray(np.random.default_rng(seed).normal(0, 1, shape), jnp.float32)
    for seed, shape in enumerate(((M, K), (K, N), (M, N)))
)
SPECS = [
    OpticalSpec(dac_bits=dac, weight_bits=weight, adc_bits=6, grad_precision=precision)
    for dac, weight, precision in [
        (8, 8, "float32"),
        (8, None, "float32"),
        (None, 4, "bfloat16"),
        (12, 9, "float32"),
        (1, 1, "int8"),
    ]
]  # fmt: skip


def results(x: jax.Array, w: jax.Array, spec: OpticalSpec, **ranges: Any) -> list[jax.Array]:
    """The output, the gradients of x and w, and the peaks."""

    def chain(x: jax.Array, w: jax.Array) -> tuple[jax.Array, ...]:
        return lumina_jax.optical_matmul(
            x, w, spec=spec, y_full_scale=9.0, noise=NOISE, key=KEY, **ranges,
            return_peak=True, return_x_peak=True,
        )  # fmt: skip

    out, pull, peaks = jax.vjp(
        lambda x, w: (lambda out, *peaks: (out, peaks))(*chain(x, w)), x, w, has_aux=True
    )
    return [out, *pull(G[: out.shape[0]]), *peaks]


def given(x: jax.Array, w: jax.Array, spec: OpticalSpec) -> list[jax.Array]:
    """The same at the ranges that jnp finds."""
    return results(x, w, spec, x_full_scale=absmax(x), w_full_scale=absmax(w, axis=0))


def assert_same(got: Any, expected: Any) -> None:
    jax.tree.map(lambda g, e: np.testing.assert_array_equal(g, e, strict=True), got, expected)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.dac_bits}-{s.weight_bits}")
def test_found_is_given(spec: OpticalSpec) -> None:
    cases = [
        (X, W),
        (X.at[1, 2].set(np.nan), W),
        (X.at[1, 2].set(np.inf), W.at[3, 1].set(-np.inf)),
        (0 * X, W.at[:, 1].set(0)),
        (X.at[0, 0].set(3e38), W.at[0, 0].set(1e-38)),
    ]
    found = jax.jit(lambda xs: [results(x, w, spec) for x, w in xs])
    expected = jax.jit(lambda xs: [given(x, w, spec) for x, w in xs])
    assert_same(found(cases), expected(cases))


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.op in ("optical_matmul", "optical_matmul_fwd")], ids=str
)
def test_every_form_of_the_chain(case: Case) -> None:
    x, w, bias, _, _, *others = case.operands()
    w_peak = absmax(w, axis=1 if case.attrs["transpose_weight"] else 0)
    none = np.zeros(0, np.float32)
    given = (np.asarray(absmax(x)).reshape(1), np.asarray(w_peak))
    found, expected = (
        call(case.op, x, w, bias, *ranges, *others, **case.attrs)
        for ranges in ((none, none), given)
    )
    assert_same(found, expected)


def test_each_example_of_a_vmap_has_its_own() -> None:
    spec = SPECS[0]
    xs, ws = (jnp.stack([v, 30 * v]) for v in (X, W))

    def mapped(axes: tuple[Any, Any], *arguments: jax.Array) -> list[jax.Array]:
        return jax.vmap(lambda x, w: results(x, w, spec), in_axes=axes)(*arguments)

    for axes, x, w in (((0, None), xs, W), ((None, 0), X, ws), ((0, 0), xs, ws)):
        got = jax.jit(lambda *a, axes=axes: mapped(axes, *a))(x, w)
        for i in range(2):
            of_example = (v if axis is None else v[i] for v, axis in zip((x, w), axes, strict=True))
            one = results(*of_example, spec)
            assert_same([r[i] for r in got], one)


@pytest.mark.parametrize("split", [("a", None), (None, "a"), ("a", "b")], ids=str)
def test_shards_have_the_range_of_the_whole(split: tuple[str | None, str | None]) -> None:
    """Rows or the depth of x over the mesh: codes are those of one device, so integer sums are."""
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    spec = OpticalSpec(dac_bits=8, weight_bits=8)
    x = jax.device_put(X, NamedSharding(mesh, PartitionSpec(*split)))
    w = jax.device_put(W, NamedSharding(mesh, PartitionSpec(split[1], None)))
    of_op = jax.jit(lambda x, w: lumina_jax.optical_matmul(x, w, spec=spec, return_x_peak=True))
    for got, expected in zip(of_op(x, w), of_op(X, W), strict=True):
        # Shards of the depth are scaled before they are added.
        tolerance = 1e-6 if split[1] else 0.0
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=10 * tolerance)


def test_in_shard_map_each_shard_has_its_own() -> None:
    mesh = jax.make_mesh((2,), ("a",), axis_types=(AxisType.Auto,))
    spec = OpticalSpec(dac_bits=8, weight_bits=8)

    def of_shard(x: jax.Array) -> jax.Array:
        return lumina_jax.optical_matmul(x, W, spec=spec)

    rows = PartitionSpec("a")
    got = jax.jit(jax.shard_map(of_shard, mesh=mesh, in_specs=rows, out_specs=rows))(X)
    np.testing.assert_array_equal(got, jnp.concatenate([of_shard(X[:4]), of_shard(X[4:])]))


def reductions(text: str) -> set[str]:
    """Shapes of what a compiled program reduces."""
    shapes = dict(re.findall(r"%?([\w.-]+) = (\w+\[[\d,]*\])", text))
    operands = re.findall(r" reduce(?:-window)?\((?:\w+\[[\d,]*\]\S* )?%?([\w.-]+)", text)
    return {shapes[name] for name in operands}


def test_no_reduction_reads_weights_in_a_training_step() -> None:
    layer = OpticalDense(N, profile=None, spec=SPECS[0], noise=NOISE)
    variables = layer.init({"params": KEY, "noise": KEY}, X)
    optimizer = optax.sgd(0.1)

    def step(variables: Any, x: jax.Array) -> Any:
        def loss(params: Any) -> tuple[jax.Array, Any]:
            y, ranges = layer.apply(
                {**variables, "params": params}, x, rngs={"noise": KEY}, mutable=["ranges"]
            )
            return (y**2).sum(), ranges

        grads, ranges = jax.grad(loss, has_aux=True)(variables["params"])
        updates, _ = optimizer.update(grads, optimizer.init(variables["params"]))
        return {"params": optax.apply_updates(variables["params"], updates), **ranges}

    text = jax.jit(step).lower(variables, X).compile().as_text()
    weights = {f"f32[{K},{N}]", f"f32[{N},{K}]", f"f32[{K * N}]"}
    assert not reductions(text) & weights
    # It would be seen.
    seen = jax.jit(lambda w: absmax(w, axis=0)).lower(W).compile().as_text()
    assert reductions(seen) & weights
