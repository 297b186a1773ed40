"""Ops on the shards of `shard_map`, with and without checks of how values vary."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import lumina_jax
from lumina_jax import NoiseModel, OpticalSpec

P = PartitionSpec
M, K, N = 12, 8, 6
SPEC = OpticalSpec(dac_bits=8, weight_bits=8, adc_bits=8)
NOISE = NoiseModel(relative=0.1, shot=0.1, thermal=0.05, weight=0.02)

Parameters = dict[str, Any]


def parameters() -> tuple[Parameters, jax.Array]:
    rng = np.random.default_rng(0)
    w, b, x = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((K, N), (N,), (M, K)))
    ranges = {"x": jnp.float32(3), "w": jnp.float32(2), "y": jnp.float32(8)}
    return {"w": w, "b": b, "ranges": ranges, "noise": jax.tree.map(jnp.float32, NOISE)}, x


def layer(p: Parameters, x: jax.Array, key: jax.Array) -> jax.Array:
    return lumina_jax.optical_matmul(
        x, p["w"], p["b"], spec=SPEC, x_full_scale=p["ranges"]["x"],
        w_full_scale=p["ranges"]["w"], y_full_scale=p["ranges"]["y"], noise=p["noise"], key=key,
    )  # fmt: skip


def mesh_of(kind: AxisType) -> Mesh:
    return jax.make_mesh((2, 2), ("a", "b"), axis_types=(kind, kind))


modes = pytest.mark.parametrize(
    ("check_vma", "kind", "names"),
    [
        (check_vma, kind, names)
        for check_vma in (True, False)
        for kind in (AxisType.Auto, AxisType.Explicit)
        for names in ({"a", "b"}, {"a"})
    ],
    ids=lambda v: "".join(sorted(v)) if isinstance(v, set) else str(v),
)


def on_shards(
    body: Callable[..., Any], out_specs: Any, check_vma: bool, kind: AxisType, names: set[str]
) -> Any:
    """`body(p, x, key)` on the two halves of x."""
    mesh = mesh_of(kind)
    p, x = parameters()
    # The other axis splits the depth, which is up to XLA where that axis is not mapped.
    depth = "b" if names == {"a"} and kind == AxisType.Auto else None
    x = jax.device_put(x, NamedSharding(mesh, P("a", depth)))
    mapped = jax.shard_map(
        body, mesh=mesh, in_specs=(P(), P("a"), P()), out_specs=out_specs,
        axis_names=names, check_vma=check_vma,
    )  # fmt: skip
    with jax.set_mesh(mesh):
        return jax.jit(mapped)(p, x, jax.random.key(5))


def of_shard(key: jax.Array) -> jax.Array:
    return jax.random.fold_in(key, jax.lax.axis_index("a"))


def halves() -> list[tuple[Parameters, jax.Array, jax.Array]]:
    p, x = parameters()
    keys = [jax.random.fold_in(jax.random.key(5), index) for index in range(2)]
    return [(p, part, key) for part, key in zip(jnp.split(x, 2), keys, strict=True)]


def output_and_gradient(p: Parameters, x: jax.Array, key: jax.Array) -> Any:
    def of_output(p: Parameters, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = layer(p, x, key)
        return (y**2).sum(), y

    (dp, dx), y = jax.grad(of_output, argnums=(0, 1), has_aux=True)(p, x)
    return y, dp, dx


@functools.cache
def of_halves() -> list[Any]:
    return [jax.jit(output_and_gradient)(*half) for half in halves()]


@modes
def test_output_and_gradient(check_vma: bool, kind: AxisType, names: set[str]) -> None:
    def body(p: Parameters, x: jax.Array, key: jax.Array) -> Any:
        y, dp, dx = output_and_gradient(p, x, of_shard(key))
        # With checks, what the shards share gets the sum of their gradients.
        return y, dp if check_vma else jax.lax.psum(dp, "a"), dx

    y, dp, dx = on_shards(body, (P("a"), P(), P("a")), check_vma, kind, names)
    (y0, dp0, dx0), (y1, dp1, dx1) = of_halves()
    np.testing.assert_array_equal(y, np.concatenate([y0, y1]))
    # The order of the sums over at most 12 rows and 6 columns.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-4)
    jax.tree.map(close, dp, jax.tree.map(np.add, *jax.device_get((dp0, dp1))))
    close(dx, np.concatenate([dx0, dx1]))


@pytest.mark.parametrize("check_vma", [True, False])
def test_columns_on_shards(check_vma: bool) -> None:
    # Each shard numbers its columns from 0, so with one key they share the noise.
    mesh = mesh_of(AxisType.Auto)
    p, x = parameters()
    w = jnp.concatenate([p["w"], p["w"]], axis=1)

    def body(w: jax.Array, x: jax.Array) -> jax.Array:
        return lumina_jax.optical_matmul(
            x, w, spec=OpticalSpec(), noise=NOISE, key=jax.random.key(1)
        )

    mapped = jax.shard_map(
        body, mesh=mesh, in_specs=(P(None, "a"), P()), out_specs=P(None, "a"), check_vma=check_vma
    )
    got = np.asarray(jax.jit(mapped)(w, x))
    np.testing.assert_array_equal(got[:, :N], got[:, N:])
    np.testing.assert_array_equal(got[:, :N], jax.jit(body)(p["w"], x))


@pytest.mark.parametrize("check_vma", [True, False])
def test_quantize_and_noise(check_vma: bool) -> None:
    mesh = mesh_of(AxisType.Auto)
    key = jax.random.key(5)

    def body(full_scale: jax.Array) -> tuple[jax.Array, jax.Array]:
        eps = lumina_jax.optical_noise(of_shard(key), (M, N))
        slope = jax.grad(lambda s: lumina_jax.quantize(eps, bits=4, full_scale=s).sum())(full_scale)
        values = lumina_jax.quantize(eps, bits=4, full_scale=full_scale)
        return values, slope if check_vma else jax.lax.psum(slope, "a")

    mapped = jax.shard_map(
        body, mesh=mesh, in_specs=P(), out_specs=(P("a"), P()), check_vma=check_vma
    )
    values, slope = jax.jit(mapped)(jnp.float32(1))
    eps = jnp.concatenate([lumina_jax.optical_noise(h[2], (M, N)) for h in halves()])
    np.testing.assert_array_equal(values, lumina_jax.quantize(eps, bits=4, full_scale=1.0))
    whole = jax.grad(lambda s: lumina_jax.quantize(eps, bits=4, full_scale=s).sum())
    # The order of a sum over 144 elements of up to 1.
    np.testing.assert_allclose(slope, whole(jnp.float32(1)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("check_vma", [True, False])
def test_lowers_for_other_platforms(check_vma: bool) -> None:
    p, x = parameters()

    def body(p: Parameters, x: jax.Array, key: jax.Array) -> tuple[Parameters, jax.Array]:
        _, dp, dx = output_and_gradient(p, x, of_shard(key))
        return dp if check_vma else jax.lax.psum(dp, "a"), dx

    mapped = jax.shard_map(
        body, mesh=mesh_of(AxisType.Auto), in_specs=(P(), P("a"), P()), out_specs=(P(), P("a")),
        check_vma=check_vma,
    )  # fmt: skip
    traced = jax.jit(mapped).trace(p, x, jax.random.key(0))
    assert "lumina" not in traced.lower(lowering_platforms=("cuda", "rocm", "tpu")).as_text()
