"""Layers whose kernel has more axes than two: against Flax, and against `OpticalDense`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

import lumina_jax
from flax_layers import linen, load_dense, nnx
from lumina_jax import export

SPEC = lumina_jax.OpticalSpec(dac_bits=6, weight_bits=6, adc_bits=8)
NOISE = lumina_jax.NoiseModel(relative=0.1)
KEY = jax.random.key(5)
X = jax.random.normal(jax.random.key(1), (3, 4, 5, 2))

DENSE = [
    {"features": 6},
    {"features": (2, 3)},
    {"features": (2, 3), "axis": (1, -1)},
    {"features": 4, "axis": (-1, 1)},
    {"features": (3,), "axis": 2, "batch_dims": (0,)},
    {"features": (2, 3), "axis": (-1,), "batch_dims": (0, 1)},
]
EINSUM = [
    ("abcd,de->abce", (2, 6)),
    ("abcd,dhk->abchk", (2, 3, 4)),
    ("a b c d, c d e -> a e b", (5, 2, 6)),
    ("...cd,edc->...e", (6, 2, 5)),
    ("abcd,aedc->abe", (3, 6, 2, 5)),
    ("abcd,bde->eabc", (4, 2, 6)),
]


def nnx_sizes(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of NNX for what those of Linen do to `X`."""
    axis = options.get("axis", -1)
    axis = axis if isinstance(axis, tuple) else (axis,)
    return {
        "in_features": tuple(X.shape[a] for a in sorted(a % X.ndim for a in axis)),
        "out_features": options["features"],
        "axis": axis,
        "batch_axis": {a: X.shape[a] for a in options.get("batch_dims", ())},
    }


def same(got: Any, want: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, got, want)


def close(got: jax.Array, want: jax.Array) -> None:
    # Two orders of summation over at most ten products.
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def linen_pairs() -> list[tuple[Any, Any]]:
    bias = {"bias_init": nn.initializers.normal()}
    ideal = {"profile": None, **bias}
    dense = [
        (linen.OpticalDenseGeneral(**sizes, **ideal), nn.DenseGeneral(**sizes, **bias))
        for sizes in DENSE
    ]
    return dense + [
        (linen.OpticalEinsum(shape, text, **ideal), nn.Einsum(shape, text, **bias))
        for text, shape in EINSUM
    ]


@pytest.mark.parametrize(("optical", "plain"), linen_pairs())
def test_without_a_device_linen_layers_are_those_of_flax(optical: Any, plain: Any) -> None:
    got, want = (layer.init(jax.random.key(0), X) for layer in (optical, plain))
    same(got, want)
    close(optical.apply(want, X), plain.apply(want, X))


def test_without_a_device_nnx_layers_are_those_of_flax() -> None:
    def rngs() -> flax_nnx.Rngs:
        return flax_nnx.Rngs(params=0)

    pairs: list[tuple[Any, Any]] = []
    for options in DENSE:
        sizes = {**nnx_sizes(options), "bias_init": nn.initializers.normal()}
        optical = nnx.OpticalDenseGeneral(**sizes, profile=None, rngs=rngs())
        pairs.append((optical, flax_nnx.LinearGeneral(**sizes, rngs=rngs())))
    for text, shape in EINSUM:
        plain = flax_nnx.Einsum(text, shape, rngs=rngs())
        pairs.append((nnx.OpticalEinsum(text, shape, profile=None, rngs=rngs()), plain))
    for optical, plain in pairs:
        got, want = (
            flax_nnx.to_pure_dict(flax_nnx.state(layer, flax_nnx.Param))
            for layer in (optical, plain)
        )
        same(got, want)
        close(optical(X), plain(X))


@pytest.mark.parametrize("observe", [False, True])
def test_one_matrix_is_that_of_a_dense_layer(observe: bool) -> None:
    """Bit for bit, with noise and converters."""
    device = {"spec": SPEC, "noise": NOISE, "bias_init": nn.initializers.normal()}
    general = linen.OpticalDenseGeneral((2, 3), axis=(-1, 1), **device)
    variables = general.init(jax.random.key(0), X)
    matrix = {
        "kernel": variables["params"]["kernel"].reshape(8, 6),
        "bias": variables["params"]["bias"].reshape(6),
    }
    rows = jnp.moveaxis(X, (1, 3), (-2, -1)).reshape(3, 5, 8)

    def run(layer: Any, variables: Any, x: jax.Array) -> Any:
        mutable = ["ranges"] if observe else False
        return layer.apply(variables, x, rngs={"noise": KEY}, mutable=mutable)

    got = run(general, variables, X)
    want = run(linen.OpticalDense(6, **device), {**variables, "params": matrix}, rows)
    if observe:
        (got, ranges), (want, of_dense) = got, want
        same(ranges, of_dense)
    np.testing.assert_array_equal(got, want.reshape(3, 5, 2, 3))


def test_matrices_along_batch_axes_share_ranges_and_no_noise() -> None:
    device = {"spec": SPEC, "momentum": 0.5, "use_bias": False}
    layer = linen.OpticalEinsum((3, 5, 4), "bmk,bkn->bmn", noise=NOISE, **device)
    ones = jnp.ones((3, 6, 5)) * jnp.array([1.0, 1.0, 2.0])[:, None, None]
    variables = {
        **layer.init(jax.random.key(0), ones),
        "params": {"kernel": jnp.full((3, 5, 4), 0.5)},
    }
    y, seen = layer.apply(variables, ones, rngs={"noise": KEY}, mutable=["ranges"])
    assert seen["ranges"]["x_full_scale"] == 2.0
    # The first two matrices compute the same, each with noise of its own.
    assert not np.array_equal(y[0], y[1])
    np.testing.assert_allclose(jnp.std(y[0]) / jnp.mean(y[0]), 0.1, rtol=0.5)
    by_hand = [
        linen.OpticalDense(4, deterministic=True, **device).apply(
            {**variables, **seen, "params": {"kernel": variables["params"]["kernel"][i]}}, ones[i]
        )
        for i in range(3)
    ]
    quiet = layer.apply({**variables, **seen}, ones, deterministic=True)
    np.testing.assert_array_equal(quiet, jnp.stack(by_hand))


def test_nnx_computes_what_linen_computes() -> None:
    options = DENSE[-1]
    by_linen = linen.OpticalDenseGeneral(**options, spec=SPEC, noise=NOISE)
    variables = by_linen.init(jax.random.key(0), X)
    by_nnx = nnx.OpticalDenseGeneral(
        **nnx_sizes(options), spec=SPEC, noise=NOISE, rngs=flax_nnx.Rngs(params=1)
    )
    by_nnx.kernel[...] = variables["params"]["kernel"]
    quiet = functools.partial(by_nnx, deterministic=True, use_running_average=True)
    np.testing.assert_array_equal(quiet(X), by_linen.apply(variables, X, deterministic=True))


def test_initial_values_keep_what_is_said_of_them() -> None:
    boxed = nn.with_partitioning(nn.initializers.lecun_normal(), ("in", "heads", "out"))
    layer = linen.OpticalDenseGeneral((2, 3), kernel_init=boxed)
    assert layer.init(jax.random.key(0), X)["params"]["kernel"].names == ("in", "heads", "out")
    marked = flax_nnx.with_metadata(nn.initializers.lecun_normal(), use="heads")
    of_nnx = nnx.OpticalDenseGeneral(2, (2, 3), kernel_init=marked, rngs=flax_nnx.Rngs(0))
    assert of_nnx.kernel.shape == (2, 2, 3)
    assert of_nnx.kernel.get_metadata()["use"] == "heads"


def test_checkpoints_of_flax_fit() -> None:
    class Net(nn.Module):
        dense: Any

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return self.dense((2, 3), axis=(1, -1))(x)

    plain = Net(nn.DenseGeneral).init(jax.random.key(3), X)
    optical = Net(linen.OpticalDenseGeneral).init(jax.random.key(0), X)
    loaded = load_dense(plain, optical)["params"]["OpticalDenseGeneral_0"]
    same(loaded, plain["params"]["DenseGeneral_0"])


@pytest.mark.parametrize(
    "layer",
    [
        linen.OpticalDenseGeneral((2, 3), axis=(1, -1), spec=SPEC),
        linen.OpticalEinsum((4, 2, 3), "abcd,bde->abce", spec=SPEC),
    ],
    ids=["one matrix", "batch"],
)
def test_export(layer: Any, tmp_path: Path) -> None:
    variables = layer.init(jax.random.key(0), X)
    _, ranges = layer.apply(variables, X, rngs={"noise": KEY}, mutable=["ranges"])
    variables = {**variables, **ranges}
    exported = export.export(lambda x: layer.apply(variables, x, deterministic=True), X, batch="b")
    # Verifies the file against its test vectors.
    exported.save(tmp_path / "model.lmn")


def nnx_dense(*sizes: Any, **options: Any) -> jax.Array:
    return nnx.OpticalDenseGeneral(*sizes, **options, rngs=flax_nnx.Rngs(0))(X)


def linen_dense(*sizes: Any, **options: Any) -> Any:
    return linen.OpticalDenseGeneral(*sizes, **options).init(jax.random.key(0), X)


def linen_einsum(*sizes: Any, **options: Any) -> Any:
    return linen.OpticalEinsum(*sizes, **options).init(jax.random.key(0), X)


def nnx_einsum(*sizes: Any, **options: Any) -> jax.Array:
    return nnx.OpticalEinsum(*sizes, **options, rngs=flax_nnx.Rngs(0))(X)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linen_dense(()), r"`features` is \(\), expected a positive int or several"),
        (lambda: linen_dense((2, 0)), "`features` is 0, expected a positive int"),
        (
            lambda: linen_dense(2, axis=4),
            r"`axis` is \(4,\) and batch axes are \(\), but `x` has 4 axes",
        ),
        (lambda: linen_dense(2, axis=1.0), r"`axis` is 1\.0, expected an int or several"),
        (lambda: linen_dense(2, axis=(3, -1)), r"`axis` \(3, -1\) and batch axes \(\) name an"),
        (lambda: linen_dense(2, axis=0, batch_dims=(0,)), r"batch axes \(0,\) name an axis twice"),
        (lambda: linen_dense(2, batch_dims=(0, 1, 2, 3, 4)), "but `x` has 4 axes"),
        (lambda: linen_dense(2, batch_dims=(1,)), r"`batch_dims` is \(1,\), expected the first ax"),
        (lambda: nnx_dense((2, 2), 3), r"`axis` is \(-1,\), expected as many axes as `in_feature"),
        (lambda: nnx_dense(3, 2), r"`x` has shape \(3, 4, 5, 2\), expected \(3,\) along the axes"),
        (lambda: nnx_dense(2, 2, batch_axis={1: 4}), r"`batch_axis` is \(1,\), expected the first"),
        (lambda: linen_einsum((2, 6), "abcd,de"), "expected the letters of input, kernel and res"),
        (lambda: nnx_einsum("abcd->ab", (2, 6)), "expected the letters of input, kernel and res"),
        (lambda: linen_einsum((2, 6), "abc,ce->abe"), r"does not fit `x` of shape \(3, 4, 5, 2\)"),
        (lambda: linen_einsum((3, 6), "abcd,de->abce"), r"and a kernel of \(3, 6\)"),
        (lambda: linen_einsum((2, 6), "abcd,de->abe"), "sums over 'c' of one operand alone"),
        (lambda: linen_einsum((2, 2), "abcd,dd->abc"), "takes a diagonal along 'd'"),
        (lambda: nnx_einsum("abcd,de->abce", (2, 6), (2,)), r"`bias_shape` is \(2,\), expected \("),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^Optical(DenseGeneral|Einsum): .*{message}"):
        call()
