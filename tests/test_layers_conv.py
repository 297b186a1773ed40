"""`OpticalConv` of both families: where the device does nothing it is Flax's `Conv`."""

from __future__ import annotations

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

import lumina_jax
from flax_layers import linen, nnx

SPEC = lumina_jax.OpticalSpec(dac_bits=6, weight_bits=6, adc_bits=8)


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def geometries() -> list[tuple[jax.Array, dict[str, Any]]]:
    """Inputs, and what a convolution of them is."""
    image, line = normal(0, 2, 7, 6, 4), normal(1, 2, 9, 4)
    of_image = [
        {"kernel_size": (3, 2), "strides": s, "padding": p, "kernel_dilation": d,
         "feature_group_count": g}
        for s, p, d, g in zip(
            itertools.cycle([1, (2, 1), 3]),
            ["SAME", "VALID", "CIRCULAR", "REFLECT", 1, [(2, 0), 1], [1, (0, 2)], "SAME"],
            itertools.cycle([1, (1, 2), 2, None]),
            itertools.cycle([1, 2, 4]),
            strict=False,
        )
    ]  # fmt: skip
    transposed = {"kernel_size": (2, 3), "padding": [(1, 1), (2, 2)], "input_dilation": (2, 3)}
    of_line = [
        {"kernel_size": 3, "padding": "CAUSAL", "kernel_dilation": 2},
        {"kernel_size": [4], "padding": "SAME", "strides": 2, "feature_group_count": 2},
        {"kernel_size": (2,), "padding": [(3, 1)], "input_dilation": 2, "use_bias": False},
    ]
    return [
        *((image, options) for options in (*of_image, transposed)),
        *((line, options) for options in of_line),
        # Images without a batch, and with several leading axes.
        (image[0], {"kernel_size": (3, 3)}),
        (normal(2, 2, 3, 5, 4, 4), {"kernel_size": (3, 3)}),
        (line[0], {"kernel_size": 3}),
    ]


def assert_close(got: jax.Array, expected: jax.Array) -> None:
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * float(jnp.abs(expected).max()))


def test_linen_is_flax_where_the_device_is_ideal() -> None:
    cases = geometries()

    @jax.jit
    def program(inputs: list[jax.Array]) -> list[Any]:
        results = []
        for x, (_, options) in zip(inputs, cases, strict=True):
            ours = linen.OpticalConv(8, profile=None, **options)
            theirs = nn.Conv(8, precision="highest", **options)
            variables = theirs.init(jax.random.key(0), x)
            own = ours.init(jax.random.key(0), x)
            results.append((ours.apply(variables, x), theirs.apply(variables, x), own, variables))
        return results

    for got, expected, own, variables in program([x for x, _ in cases]):
        jax.tree.map(np.testing.assert_array_equal, own, variables)
        assert_close(got, expected)


def test_nnx_is_flax_where_the_device_is_ideal() -> None:
    for x, options in geometries()[:12:5]:
        made = (4, 8, options["kernel_size"])
        rest = {name: value for name, value in options.items() if name != "kernel_size"}
        ours = nnx.OpticalConv(*made, **rest, profile=None, rngs=flax_nnx.Rngs(0))
        theirs = flax_nnx.Conv(*made, **rest, precision="highest", rngs=flax_nnx.Rngs(0))
        np.testing.assert_array_equal(ours.kernel[...], theirs.kernel[...])
        assert_close(ours(x), theirs(x))


def test_a_mask_is_a_factor_of_the_kernel() -> None:
    x, mask = normal(0, 2, 7, 4), jnp.tril(jnp.ones((3, 4, 8)))
    ours = linen.OpticalConv(8, 3, profile=None, mask=mask)
    variables = ours.init(jax.random.key(0), x)
    assert_close(ours.apply(variables, x), nn.Conv(8, (3,), mask=mask).apply(variables, x))
    in_nnx = nnx.OpticalConv(4, 8, 3, profile=None, mask=mask, rngs=flax_nnx.Rngs(0))
    assert_close(in_nnx(x), flax_nnx.Conv(4, 8, 3, mask=mask, rngs=flax_nnx.Rngs(0))(x))
    with pytest.raises(ValueError, match=r"^OpticalConv: `mask` has shape \(2, 4, 8\), expected"):
        linen.OpticalConv(8, 3, mask=mask[:2]).init(jax.random.key(0), x)


def test_both_families_calibrate_alike() -> None:
    x, key = normal(0, 2, 7, 6, 4), jax.random.key(5)
    options = {"spec": SPEC, "feature_group_count": 2, "padding": "VALID", "strides": 4}
    layer = linen.OpticalConv(8, (3, 3), **options)
    variables = layer.init(jax.random.key(0), x)
    y, updates = layer.apply(variables, x, rngs={"noise": key}, mutable=["ranges"])
    # Of seven lines all but the fourth are in a patch, of six columns the first three.
    ranges = updates["ranges"]
    assert ranges["x_full_scale"] == jnp.abs(x[:, jnp.array([0, 1, 2, 4, 5, 6]), :3]).max()
    again = layer.apply({**variables, **updates}, x, deterministic=True)

    model = nnx.OpticalConv(4, 8, (3, 3), **options, rngs=flax_nnx.Rngs(0))
    model.kernel[...], model.bias[...] = (variables["params"][n] for n in ("kernel", "bias"))
    assert model(x, rngs=key, deterministic=True).shape == y.shape
    for name in ("x_full_scale", "y_full_scale"):
        np.testing.assert_array_equal(getattr(model, name)[...], ranges[name])
    np.testing.assert_array_equal(model(x, deterministic=True, use_running_average=True), again)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": (1, 2, 3)}, r"`kernel_size` is \(1, 2, 3\), expected one or two sizes"),
        (
            {"strides": (1, 2)},
            r"`strides` is \(1, 2\), expected an int or as many as `kernel_size`",
        ),
        ({"strides": 0}, "`strides` is 0, expected a positive int"),
        ({"feature_group_count": 0}, "`feature_group_count` is 0, expected a positive int"),
        (
            {"feature_group_count": 3},
            "`feature_group_count` is 3, expected a divisor of `in_features`, 4",
        ),
    ],
)
def test_errors_name_the_layer(options: dict[str, Any], message: str) -> None:
    options = {"kernel_size": 3, **options}
    with pytest.raises(ValueError, match=f"^OpticalConv: {message}"):
        linen.OpticalConv(8, **options).init(jax.random.key(0), normal(0, 2, 9, 4))
    with pytest.raises(ValueError, match=f"^OpticalConv: {message}"):
        nnx.OpticalConv(4, 8, **options, rngs=flax_nnx.Rngs(0))
