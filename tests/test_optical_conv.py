"""`optical_conv` is `optical_matmul` of every patch, and what only a convolution has."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import lumina_jax
from exported import Program
from lumina_jax import NoiseModel, OpticalSpec
from lumina_jax.cost.workload import MatmulLayer, layers_of
from operands import call

SPEC = OpticalSpec(dac_bits=6, weight_bits=5, adc_bits=8)
NOISE = NoiseModel(relative=0.1, thermal=0.05, weight=0.02)
KEY = jax.random.key(11)


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


X, KERNEL, BIAS = normal(0, 4, 7, 6, 4), normal(1, 3, 2, 2, 6), normal(2, 6)
GEOMETRY: dict[str, Any] = {
    "strides": (2, 1),
    "padding": ((1, 0), (2, 1)),
    "kernel_dilation": (1, 2),
    "feature_group_count": 2,
}


def conv(x: Any, kernel: Any = KERNEL, key: Any = KEY, **options: Any) -> Any:
    chain = {"spec": SPEC, "y_full_scale": 6.0, "noise": NOISE, "key": key, **GEOMETRY}
    return lumina_jax.optical_conv(x, kernel, BIAS, **{**chain, **options})


def patches(x: np.ndarray) -> np.ndarray:
    """Those of `GEOMETRY`, element by element: [image, oh, ow, kh, kw, c]."""
    padded = np.pad(x, ((0, 0), (1, 0), (2, 1), (0, 0)))
    found = np.zeros((len(x), 3, 7, 3, 2, x.shape[3]), np.float32)
    for n, oh, ow, kh, kw in np.ndindex(found.shape[:5]):
        found[n, oh, ow, kh, kw] = padded[n, 2 * oh + kh, ow + 2 * kw]
    return found


def test_every_group_is_the_matmul_of_its_patches() -> None:
    x_range, w_range = 2.5, np.abs(np.asarray(KERNEL)).max(axis=(0, 1, 2))
    scales = {"x_full_scale": x_range, "w_full_scale": w_range}
    names = ("return_pre_noise", "return_peak", "return_x_peak")
    results = conv(X, **scales, **dict.fromkeys(names, True))
    out, y, peak, x_peak = map(np.asarray, results)
    of_x = patches(np.asarray(X))
    seed = np.asarray(jax.random.key_data(KEY)).reshape(1, 2)
    noise = np.float32([[NOISE.thermal, 0, NOISE.relative, NOISE.weight]])
    for group in range(2):
        of_group, columns = slice(2 * group, 2 * group + 2), slice(3 * group, 3 * group + 3)
        rows = of_x[..., of_group].reshape(4 * 3 * 7, 12)
        operands = [
            rows, np.asarray(KERNEL)[..., columns].reshape(12, 3), np.asarray(BIAS)[columns],
            np.float32([x_range]), w_range[columns], np.float32([6]), noise, seed,
            np.arange(len(rows), dtype=np.uint32), np.arange(6, dtype=np.uint32)[columns],
        ]  # fmt: skip
        (expected,) = call(
            "optical_matmul", *operands, dac_bits=6, weight_bits=5, adc_bits=8,
            transpose_weight=False, noisy=True, array_rows=0,
        )  # fmt: skip
        np.testing.assert_array_equal(out[..., columns].reshape(len(rows), 3), expected)
    np.testing.assert_array_equal(peak, np.abs(y).max(axis=(1, 2, 3)))
    np.testing.assert_array_equal(x_peak, np.abs(of_x).max(axis=(1, 2, 3, 4, 5)))


@pytest.mark.parametrize("spatial", [(5,), (5, 3)])
def test_the_signal_before_noise_is_that_of_each_array(spatial: tuple[int, ...]) -> None:
    """As it is what is added up where there is neither noise nor ADC."""
    x, kernel = normal(8, 2, 3, *spatial, 4), normal(9, *(2 for _ in spatial), 2, 6)
    out, y, peak = lumina_jax.optical_conv(
        x, kernel, spec=OpticalSpec(array_rows=3), feature_group_count=2,
        return_pre_noise=True, return_peak=True,
    )  # fmt: skip
    arrays = -(-2 * 2 ** len(spatial) // 3)
    assert y.shape == (2, 3, *spatial, arrays, 6)
    np.testing.assert_allclose(out, np.sum(y, axis=-2), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(peak, np.abs(y).reshape(2, 3, -1).max(axis=2))


def test_each_example_of_a_vmap_is_its_own_call() -> None:
    x, kernel = normal(3, 3, 2, 7, 6, 4), normal(4, 3, 3, 2, 2, 6)
    keys = jax.random.split(KEY, 3)
    axes = {"x": (0, None, None), "x and key": (0, None, 0), "kernel": (None, 0, None)}

    @jax.jit
    def mapped(x: jax.Array, kernel: jax.Array, keys: jax.Array) -> dict[str, jax.Array]:
        operands = (x, kernel, keys)
        return {
            name: jax.vmap(conv, in_axes=which)(
                *(o if axis == 0 else o[0] for o, axis in zip(operands, which, strict=True))
            )
            for name, which in axes.items()
        }

    one = jax.jit(conv)
    got = mapped(x, kernel, keys)
    for i in range(3):
        for name, which in axes.items():
            own = [
                o[i if axis == 0 else 0] for o, axis in zip((x, kernel, keys), which, strict=True)
            ]
            np.testing.assert_array_equal(got[name][i], one(*own), name)
    jaxpr = str(jax.make_jaxpr(jax.vmap(conv))(x, jnp.stack([KERNEL] * 3), keys))
    assert jaxpr.count(" = optical_conv[") == 3
    jaxpr = str(jax.make_jaxpr(jax.vmap(lambda x, key: conv(x, KERNEL, key)))(x, keys))
    assert jaxpr.count(" = optical_conv[") == 1


@pytest.mark.parametrize("groups", [1, 2])
def test_a_mesh_changes_no_bit(groups: int) -> None:
    """Images and outputs are split; groups keep all of their outputs."""
    auto = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh((2, 2), ("images", "outputs"), axis_types=auto)
    kernel = normal(5, 3, 2, 4 // groups, 6)
    g = normal(6, 4, 3, 7, 6)

    def step(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, ...]:
        def loss(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
            out = conv(x, kernel, feature_group_count=groups)
            return jnp.vdot(g, out), out

        by_operand, out = jax.grad(loss, (0, 1), has_aux=True)(x, kernel)
        return out, *by_operand

    whole = jax.jit(step)(X, kernel)
    x = jax.device_put(X, NamedSharding(mesh, PartitionSpec("images")))
    split = jax.device_put(kernel, NamedSharding(mesh, PartitionSpec(None, None, None, "outputs")))
    compiled = jax.jit(step).lower(x, split).compile()
    out, dx, dkernel = compiled(x, split)
    np.testing.assert_array_equal(out, whole[0])
    for got, expected in ((dx, whole[1]), (dkernel, whole[2])):
        # Shards add their shares up.
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * jnp.abs(expected).max())
    shard = f"f32[2,3,7,{6 if groups == 2 else 3}]"
    assert re.search(rf"{re.escape(shard)}.*custom_call_target=\"lumina", compiled.as_text())


def test_derivatives_of_any_order_and_under_other_transformations() -> None:
    x, along = X[:1], normal(7, 1, 7, 6, 4)

    def loss(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(conv(x, x_full_scale=3.0)))

    @jax.jit
    def derivatives(x: jax.Array) -> dict[str, jax.Array]:
        gradient = jax.grad(loss)
        twice = jax.lax.scan(
            lambda c, _: (c + jax.grad(jax.checkpoint(loss))(x), None), 0 * x, None, 2
        )
        return {
            "forward": jax.jvp(loss, (x,), (along,))[1],
            "reverse": jnp.vdot(gradient(x), along),
            "second": jax.jvp(gradient, (x,), (along,))[1],
            "of forward": jax.grad(lambda x: jax.jvp(loss, (x,), (along,))[1])(x),
            "gradient": 2 * gradient(x),
            "remat, scan": twice[0],
        }

    found = derivatives(x)
    np.testing.assert_allclose(found["forward"], found["reverse"], rtol=1e-4)
    np.testing.assert_array_equal(found["gradient"], found["remat, scan"])
    scale = float(jnp.abs(found["second"]).max())
    np.testing.assert_allclose(found["second"], found["of forward"], rtol=0, atol=1e-4 * scale)
    assert scale > 0


def test_a_file_runs_batches_of_any_size(program: Program) -> None:
    def model(x: jax.Array) -> jax.Array:
        return jax.nn.relu(conv(x, x_full_scale=3.0))

    # Its test vectors are of two sizes.
    exported = program.export(model, X, batch="batch", rtol=0.0, atol=0.0)
    assert "optical_conv" in exported.ops
    images = np.asarray(normal(8, 5, 7, 6, 4))
    got = program.run(program.verified(exported), images)
    np.testing.assert_array_equal(got, jax.jit(model)(images))


def test_its_products_are_those_of_the_patches() -> None:
    assert layers_of("f", conv, inputs=(X,)) == (
        MatmulLayer(rows=84, k=12, n=3, calls=2, dac_bits=6, weight_bits=5, adc_bits=8),
    )
    dense = layers_of(
        "f", lambda x: conv(x, normal(5, 3, 2, 4, 6), feature_group_count=1), inputs=(X,)
    )
    assert [(layer.rows, layer.k, layer.n, layer.calls) for layer in dense] == [(84, 24, 6, 1)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"x": X[0, 0, 0]}, ValueError, r"`x` has shape \(4,\), expected \(..., h, w, c\) for"),
        ({"x": X.astype(jnp.float16)}, TypeError, "`x` must be float32, got float16; cast it with"),
        ({"x": np.zeros((1, 4, 4, 4), int)}, TypeError, "`x` must be float32, got int32; cast it"),
        (
            {"x": X.astype(jnp.complex64)},
            TypeError,
            "`x` must be float32, got complex64; pass x.real and x.imag one after the other",
        ),
        (
            {"kernel": KERNEL[0, 0]},
            ValueError,
            r"`kernel` has shape \(2, 6\), expected \(kw, c, o\)",
        ),
        ({"kernel": KERNEL[:0]}, ValueError, r"`kernel` has shape \(0, 2, 2, 6\), expected"),
        (
            {"feature_group_count": 3},
            ValueError,
            r"`kernel` has shape \(3, 2, 2, 6\), expected 4 / 3 channels, the last extent of `x`",
        ),
        (
            {"feature_group_count": 4, "kernel": KERNEL[:, :, :1]},
            ValueError,
            "`kernel` has 6 outputs, which `feature_group_count` 4 does not divide",
        ),
        ({"feature_group_count": 0}, ValueError, "`feature_group_count` must be at least 1, got 0"),
        ({"strides": 0}, ValueError, "`strides` must be at least 1, got 0"),
        ({"strides": (1, 2, 3)}, ValueError, r"`strides` is \(1, 2, 3\), expected an int or 2 of"),
        ({"strides": 1.5}, TypeError, "`strides` must be an int, got 1.5"),
        ({"kernel_dilation": (1, 0)}, ValueError, "`kernel_dilation` must be at least 1, got 0"),
        ({"padding": "same"}, ValueError, "`padding` is 'same', expected SAME, VALID, CIRCULAR, "),
        ({"padding": "CAUSAL"}, ValueError, "`padding` is 'CAUSAL', which is for one spatial"),
        ({"padding": ((1, 1),)}, ValueError, r"`padding` is \(\(1, 1\),\), expected SAME"),
        ({"padding": -1}, ValueError, "`padding` must be at least 0, got -1"),
        (
            {"padding": "SAME", "input_dilation": 2},
            ValueError,
            r"`padding` is 'SAME', expected numbers where `input_dilation` is \(2, 2\)",
        ),
        (
            {"padding": 0, "kernel_dilation": (4, 1)},
            ValueError,
            r"`kernel` has shape \(3, 2, 2, 6\), bigger than the padded image: `x` has shape",
        ),
        ({"spec": None}, TypeError, "`spec` must be an OpticalSpec, got NoneType; pass one, or"),
        ({"key": None}, ValueError, "`noise` needs a `key`, got None"),
        ({"y_full_scale": None}, ValueError, "`adc_bits`=8 needs `y_full_scale`, got None"),
        ({"x_full_scale": np.ones(3, np.float32)}, ValueError, r"`x_full_scale` has shape \(3,\)"),
    ],
)
def test_errors_say_what_is_wrong(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^optical_conv: {message}"):
        conv(**{"x": X, **options})
