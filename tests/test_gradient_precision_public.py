"""The gradient in bfloat16 and in 8 bits, as users reach it: functions, layers, transforms."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import grad_oracle
import lumina_jax
import oracle
from flax_layers import OpticalDense, nnx
from jaxprs import equations
from lumina_jax import NoiseModel, OpticalSpec
from operands import SEED, random_operands
from oracle import Bits

ROUNDED = ["bfloat16", "int8"]
PRECISIONS = ["float32", *ROUNDED]

precisions = pytest.mark.parametrize("precision", ROUNDED)

KEY = jax.random.wrap_key_data(jnp.array([SEED >> 32, SEED & 0xFFFFFFFF], jnp.uint32))
NOISE = NoiseModel(thermal=0.1, shot=0.2, relative=0.15, weight=0.05)


def spec_of(precision: Any, bits: int | None = 8) -> OpticalSpec:
    return OpticalSpec(dac_bits=bits, weight_bits=bits, grad_precision=precision)


def operands(rows: int = 12) -> tuple[jax.Array, jax.Array, jax.Array]:
    rng = np.random.default_rng(15)
    shapes = (rows, 9), (9, 33), (rows, 33)
    x, w, g = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)
    return x, w, g


def gradients(precision: str, x: jax.Array, w: jax.Array, g: jax.Array, **options: Any) -> Any:
    def loss(x: jax.Array, w: jax.Array) -> jax.Array:
        return (lumina_jax.optical_matmul(x, w, spec=spec_of(precision), **options) * g).sum()

    return jax.jit(jax.grad(loss, (0, 1)))(x, w)


@precisions
@pytest.mark.parametrize("noise", [None, NOISE], ids=["quiet", "noisy"])
def test_the_public_gradient_is_the_definition(precision: str, noise: NoiseModel | None) -> None:
    x, w, g = operands()
    noisy = noise is not None
    dx, dw = gradients(precision, x, w, g, x_full_scale=1.7, noise=noise, key=KEY)
    bits = Bits(dac=8, weight=8)
    template = random_operands(np.random.default_rng(0), (12, 9, 33), bits, noise="all")
    coefficients = np.float32([0.1, 0.2, 0.15, 0.05]) if noisy else np.zeros(4, np.float32)
    op = replace(
        template, x=np.asarray(x), w=np.asarray(w), bias=np.zeros(33, np.float32),
        x_full_scale=np.full(12, 1.7, np.float32), w_full_scale=np.abs(np.asarray(w)).max(0),
        noise=np.tile(coefficients, (12, 1)),
    )  # fmt: skip
    forward = oracle.optical_matmul(op, bits, noisy=noisy)
    expected = grad_oracle.optical_matmul_grad(
        np.asarray(g), op, forward, bits, noisy=noisy, precision=precision, seed=SEED
    )
    assert (np.abs(dx - expected.x.value) <= expected.x.tolerance).all()
    assert (np.abs(dw - expected.w.value) <= expected.w.tolerance).all()


def test_int8_draws_from_the_key() -> None:
    x, w, g = operands()
    first, again, other = (gradients("int8", x, w, g, key=jax.random.key(i)) for i in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_int8_without_a_key_has_no_gradient() -> None:
    x, w, g = operands()
    message = (
        'optical_matmul: the gradient with `grad_precision`="int8" needs a `key`, got None; pass '
        "key=jax.random.key(seed) (to a layer: the stream `noise`), or take another precision"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        gradients("int8", x, w, g)


@pytest.mark.parametrize("key", [None, KEY], ids=["no key", "key"])
def test_the_forward_program_is_the_same(key: jax.Array | None) -> None:
    x, w, _ = operands()

    def program(precision: str) -> str:
        def infer(x: jax.Array) -> jax.Array:
            return lumina_jax.optical_matmul(x, w, spec=spec_of(precision), key=key)

        # What the seed of a quiet call comes from is dead code, which is gone once compiled.
        return jax.jit(infer).lower(x).compile().as_text()

    assert len({program(precision) for precision in PRECISIONS}) == 1


@precisions
def test_only_the_gradient_has_the_attribute(precision: str) -> None:
    x, w, g = operands()
    grad = jax.grad(
        lambda x: (lumina_jax.optical_matmul(x, w, spec=spec_of(precision), key=KEY) * g).sum()
    )
    forward, back = (e for e in equations(jax.make_jaxpr(grad)(x).jaxpr) if "optical" in e[0])
    assert forward[0] == "optical_matmul_fwd"  # it returns the ranges that it found
    assert "grad_precision" not in forward[1]
    assert forward[2][-3:] == [(1, 2), (1,), (1,)]
    assert (back[0], back[1]["grad_precision"]) == ("optical_matmul_grad", precision)
    ids = [(12,), (33,)] if precision == "int8" else [(1,), (1,)]
    assert back[2][-2:] == ids


@precisions
def test_vmap_scan_and_remat(precision: str) -> None:
    x, w, g = operands(rows=300)
    keys = jax.random.split(jax.random.key(3), 3)
    xs = jnp.stack([x, 2 * x, -x])

    def one(x: jax.Array, key: jax.Array) -> Any:
        return gradients(precision, x, w, g, key=key)

    expected = [one(x, key) for x, key in zip(xs, keys, strict=True)]
    mapped = jax.vmap(one)(xs, keys)
    for i in range(3):
        for a, b in zip(mapped, expected[i], strict=True):
            np.testing.assert_array_equal(a[i], b)

    @jax.checkpoint
    def of_key(x: jax.Array, key: jax.Array) -> jax.Array:
        return (lumina_jax.optical_matmul(x, w, spec=spec_of(precision), key=key) * g).sum()

    @jax.jit
    @jax.grad
    def scanned(x: jax.Array) -> jax.Array:
        return jax.lax.scan(
            lambda total, key: (total + of_key(x, key), None), jnp.float32(0), keys
        )[0]

    total = sum(np.asarray(gradients(precision, x, w, g, key=key)[0]) for key in keys)
    # The same three gradients, added in another order.
    np.testing.assert_allclose(scanned(x), total, rtol=1e-5, atol=1e-5)


@precisions
def test_sharded_rows(precision: str) -> None:
    x, w, g = operands(rows=512)
    mesh = Mesh(np.array(jax.devices()[:4]), ("a",))

    def put(v: jax.Array, *axes: str) -> jax.Array:
        return jax.device_put(v, NamedSharding(mesh, P(*axes)))

    dx, dw = gradients(precision, put(x, "a"), put(w), put(g, "a"), key=KEY, x_full_scale=1.7)
    whole_dx, whole_dw = gradients(precision, x, w, g, key=KEY, x_full_scale=1.7)
    # A row has its own scale, wherever it is.
    np.testing.assert_array_equal(dx, whole_dx)
    exact = gradients("float32", x, w, g, key=KEY, x_full_scale=1.7)[1]
    # Blocks of 128 rows have scales that are no larger than those of 256 rows, so errors are alike.
    off, whole_off = (float(np.linalg.norm(v - exact)) for v in (dw, whole_dw))
    assert 0 < off <= 1.5 * whole_off


# --- layers -------------------------------------------------------------------------------------


LAYER = OpticalSpec(dac_bits=6, weight_bits=6, adc_bits=6, grad_precision="int8")


def test_a_quiet_linen_layer() -> None:
    x, _, _ = operands()
    layer = OpticalDense(5, profile=None, spec=LAYER)
    variables = layer.init(jax.random.key(0), x)
    np.testing.assert_array_equal(
        layer.apply(variables, x), layer.apply(variables, x, deterministic=True)
    )

    def gradient(rngs: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            y, _ = layer.apply({**variables, "params": params}, x, rngs=rngs, mutable=["ranges"])
            return (y**2).sum()

        return jax.grad(loss)(variables["params"])["kernel"]

    first, second = (gradient({"noise": jax.random.key(i)}) for i in (1, 2))
    assert np.isfinite(first).all()
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match=r"\"int8\" needs a `key`.*stream `noise`"):
        gradient(None)


def test_a_quiet_nnx_layer() -> None:
    from flax import nnx as flax_nnx

    x, _, _ = operands()

    def gradient(rngs: flax_nnx.Rngs) -> Any:
        layer = nnx.OpticalDense(9, 5, profile=None, spec=LAYER, rngs=rngs)
        grads = flax_nnx.grad(lambda layer: (layer(x) ** 2).sum())(layer)
        return np.asarray(grads["kernel"][...])

    first, second = (gradient(flax_nnx.Rngs(params=0, noise=i)) for i in (1, 2))
    assert np.isfinite(first).all()
    assert not np.array_equal(first, second)
    with pytest.raises(ValueError, match=r"\"int8\" needs a `key`.*stream `noise`"):
        gradient(flax_nnx.Rngs(params=0))


@pytest.mark.slow
def test_each_precision_trains_alike(tmp_path: Path) -> None:
    example = Path(__file__).parent.parent / "examples" / "gradient_precision.py"
    done = subprocess.run(
        [sys.executable, example, "--quick", "--out", tmp_path],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gradient_precision.png").stat().st_size > 10_000
    report = json.loads((tmp_path / "gradient_precision.json").read_text())
    for by_precision in report.values():
        losses = {p: np.array(result["loss"][0]) for p, result in by_precision.items()}
        assert set(losses) == set(PRECISIONS)
        for precision in ROUNDED:
            # The same images and noise: what rounding changes is small beside what training does.
            np.testing.assert_allclose(losses[precision], losses["float32"], rtol=0.1)
            assert not np.array_equal(losses[precision], losses["float32"])
