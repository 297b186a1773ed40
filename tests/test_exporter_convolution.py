"""Convolutions of every geometry, layout and type: the runtime computes what JAX computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import exporter
from exported import Program
from exporter import ExportError

pytestmark = pytest.mark.usefixtures("numpy_promotion")


def normal(*shape: int) -> np.ndarray:
    """The same numbers whenever a function is traced."""
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


X = normal(4, 7, 6, 3)
LINE = normal(4, 9, 2)
VOLUME = normal(4, 4, 5, 6, 2)
WIDE = normal(4, 5, 5, 8)
PIXELS = normal(4, 3, 7, 6)
INTEGERS = np.random.default_rng(3).integers(-9, 10, X.shape)
COMPLEX = (X + 1j * X[::-1]).astype(np.complex64)
COMPLEX_KERNEL = COMPLEX[:2, :3, :3].transpose(0, 1, 3, 2)

NHWC = ("NHWC", "HWIO", "NHWC")


def conv(kernel: Any, numbers: Any = NHWC, padding: Any = "SAME", **options: Any) -> Callable:
    strides = options.pop("strides", (1,) * (np.ndim(kernel) - 2))
    return lambda x: lax.conv_general_dilated(
        x, jnp.asarray(kernel), strides, padding, dimension_numbers=numbers, **options
    )


FUNCTIONS: dict[str, tuple[Callable[..., Any], Any]] = {
    "same": (conv(normal(3, 3, 3, 8)), X),
    "valid, strides": (conv(normal(3, 2, 3, 5), padding="VALID", strides=(2, 3)), X),
    "explicit padding": (conv(normal(3, 3, 3, 5), padding=((0, 3), (2, -1))), X),
    "negative padding": (conv(normal(2, 2, 3, 5), padding=((-1, 0), (-2, -1))), X),
    "kernel dilation": (conv(normal(3, 2, 3, 5), rhs_dilation=(2, 3), strides=(1, 2)), X),
    "input dilation": (
        conv(normal(3, 3, 3, 5), padding=((1, 2), (2, 0)), lhs_dilation=(2, 3), strides=(3, 1)), X
    ),
    "all of it": (
        conv(
            normal(3, 2, 1, 6), padding=((4, -1), (-2, 3)), strides=(2, 3), lhs_dilation=(2, 3),
            rhs_dilation=(3, 2), feature_group_count=3,
        ), X,
    ),
    "no place": (conv(normal(9, 2, 3, 5), padding="VALID"), X),
    "by 1": (
        lambda x: [conv(normal(1, 1, 3, 4), strides=(s, s))(x[:, ::t])
                   for s, t in ((1, 1), (2, 1), (1, 2))], X,
    ),
    "whole image": (conv(normal(7, 6, 3, 4), padding="VALID"), X),
    "patches of an image": (conv(normal(2, 2, 3, 4), padding="VALID", strides=(2, 2)), X),
    "groups": (conv(normal(3, 3, 4, 6), feature_group_count=2), WIDE),
    "depthwise": (conv(normal(3, 3, 1, 8), feature_group_count=8), WIDE),
    "depthwise, strides": (conv(normal(3, 3, 1, 8), strides=(2, 2), feature_group_count=8), WIDE),
    "depthwise with several outputs": (conv(normal(3, 2, 1, 24), feature_group_count=8), WIDE),
    "line": (conv(normal(3, 2, 5), ("NWC", "WIO", "NWC"), strides=(2,)), LINE),
    "line, causal": (
        conv(normal(3, 2, 5), ("NWC", "WIO", "NWC"), ((4, 0),), rhs_dilation=(2,)), LINE
    ),
    "volume": (conv(normal(2, 3, 2, 2, 3), ("NDHWC", "DHWIO", "NDHWC")), VOLUME),
    "point": (conv(normal(2, 5), ("NC", "IO", "NC"), ()), LINE[:, 0]),
    # layouts
    "channels first": (conv(normal(8, 3, 3, 2), ("NCHW", "OIHW", "NCHW"), strides=(2, 1)), PIXELS),
    "channels first, groups": (
        conv(normal(6, 1, 3, 2), ("NCHW", "OIHW", "NCHW"), feature_group_count=3), PIXELS
    ),
    "channels first, by 1": (conv(normal(8, 3, 1, 1), ("NCHW", "OIHW", "NCHW")), PIXELS),
    "channels first, one place": (
        conv(normal(8, 3, 7, 6), ("NCHW", "OIHW", "NCHW"), "VALID"), PIXELS
    ),
    "mixed": (
        lambda x: [
            conv(normal(3, 2, 3, 8).transpose(order), (lhs, rhs, out))(x.transpose(images))
            for images, lhs in (
                ((0, 1, 2, 3), "NHWC"), ((3, 1, 2, 0), "CHWN"), ((1, 0, 3, 2), "HNCW")
            )
            for order, rhs in (((0, 1, 2, 3), "HWIO"), ((3, 1, 0, 2), "OWHI"))
            for out in ("NHWC", "NCHW", "HWNC", "CWHN", "NWCH")
        ], X,
    ),
    "kernel backward": (lambda x: conv(jnp.flip(normal(3, 3, 3, 4), (0, 1)))(x[:, ::-1, ::2]), X),
    "kernel from an argument": (
        lambda x: conv(x[0, :3, :3, :, None] * jnp.ones(4), strides=(2, 2))(x), X
    ),
    # types
    "integers": (
        lambda i: (
            conv(np.ones((2, 2, 3, 4), np.int32) * 3)(i.astype(jnp.int32)),
            conv(np.ones((2, 2, 3, 4), np.uint32))(i.astype(jnp.uint32)),
            conv(np.full((2, 2, 3, 4), 7, np.int8), preferred_element_type=jnp.int32)(
                i.astype(jnp.int8)
            ),
        ), INTEGERS,
    ),
    "complex": (conv(COMPLEX_KERNEL), COMPLEX),
    "precision": (conv(normal(2, 2, 3, 4), precision="highest"), X),
    # what else is one
    "patches": (
        lambda x: (
            lax.conv_general_dilated_patches(
                x, (2, 3), (2, 1), "SAME", dimension_numbers=NHWC, rhs_dilation=(1, 2)
            ),
            lax.conv_general_dilated_patches(x.transpose(0, 3, 1, 2), (2, 2), (1, 2), "VALID"),
        ), X,
    ),
    "transposed": (
        lambda x: [
            lax.conv_transpose(
                x, jnp.asarray(normal(3, 3, 3, 4)), (2, 2), padding, transpose_kernel=False
            )
            for padding in ("SAME", "VALID")
        ] + [
            lax.conv_transpose(
                x, jnp.asarray(normal(4, 3, 5, 3)), (2, 3), "SAME", transpose_kernel=True
            )
        ], X,
    ),
    "mapped": (
        lambda x: jax.vmap(conv(normal(2, 2, 3, 4)), 1, 1)(jnp.stack([x, 2 * x], 1)), X
    ),
    "resized": (
        lambda x: [jax.image.resize(x, (x.shape[0], 9, 4, 3), method)
                   for method in ("linear", "cubic", "lanczos3")], X,
    ),
    "resized to the nearest": (
        lambda x: jax.image.resize(x, (x.shape[0], 14, 3, 3), "nearest"), X
    ),
}  # fmt: skip


def export(program: Program, batch: str | None = None) -> exporter.Model:
    def fn(arguments: dict[str, Any]) -> dict[str, Any]:
        return {name: FUNCTIONS[name][0](*args) for name, args in arguments.items()}

    arguments = {name: args for name, (_, *args) in FUNCTIONS.items()}
    return program.export(fn, arguments, batch=batch)


@pytest.mark.parametrize("batch", [None, "batch"])
def test_convolutions_are_right(program: Program, batch: str | None) -> None:
    assert export(program, batch).ops["conv_general_dilated"] > 60


def test_groups_of_images(program: Program) -> None:
    """Not of a symbolic batch, which JAX does not divide."""

    def fn(x: jax.Array) -> Any:
        first = ("NCHW", "HWIO", "NCHW")
        return (
            conv(normal(3, 2, 3, 6), batch_group_count=2)(x),
            conv(normal(3, 2, 3, 4), batch_group_count=4, strides=(2, 2))(x),
            conv(normal(3, 2, 3, 6), first, batch_group_count=2)(x.transpose(0, 3, 1, 2)),
        )

    program.export(fn, X)


@pytest.mark.parametrize("size", [(1, 40), (3, 24)], ids=["one image", "three images"])
def test_large_ones_are_cut(program: Program, size: tuple[int, int]) -> None:
    """So large that places and depth are cut, and threads take parts."""
    images, extent = size
    x = normal(images, extent, extent, 48)

    def fn(x: jax.Array) -> Any:
        first = x.transpose(0, 3, 1, 2)
        return (
            conv(normal(3, 3, 48, 64) / 20)(x),
            conv(normal(5, 5, 48, 32) / 35, strides=(4, 4))(x),
            conv(normal(3, 3, 1, 48) / 3, feature_group_count=48)(x),
            conv(normal(64, 48, 3, 3) / 20, ("NCHW", "OIHW", "NCHW"))(first),
            conv(normal(96, 16, 3, 3) / 12, ("NCHW", "OIHW", "NCHW"), feature_group_count=3)(first),
            conv(normal(64, 48, 1, 1) / 7, ("NCHW", "OIHW", "NCHW"))(first),
            conv(normal(1, 1, 48, 64) / 7)(x),
            conv(normal(4, 4, 48, 24) / 28, padding=((2, 2), (2, 2)), lhs_dilation=(2, 2))(x),
        )

    # Sums of up to 1,200 products in another order.
    program.export(fn, x, atol=1e-4, rtol=1e-4)


class Network(nn.Module):
    """What networks of images are made of."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(8, (3, 3), strides=2)(x))
        x = nn.BatchNorm(use_running_average=True)(x)
        x = nn.max_pool(x, (2, 2), (1, 1))
        y = nn.Conv(8, (3, 3), feature_group_count=8, use_bias=False, padding="CIRCULAR")(x)
        x = x + nn.Conv(8, (1, 1))(nn.gelu(y))
        x = nn.ConvTranspose(6, (3, 3), strides=(2, 2))(x)
        x = nn.avg_pool(x, (2, 2), (2, 2), count_include_pad=False, padding="SAME")
        x = nn.ConvLocal(4, (2, 2))(x)
        return nn.Dense(3)(x.mean((1, 2)))


@pytest.mark.parametrize("batch", [None, "batch"])
def test_flax_network(program: Program, batch: str | None) -> None:
    x = normal(4, 12, 12, 3)
    network = Network()
    params = network.init(jax.random.key(0), x)
    ops = program.export(network.apply, x, params=params, batch=batch).ops
    assert ops["conv_general_dilated"] + ops["fused_conv_general_dilated"] >= 4


def test_kernels_in_the_usual_order_stay_where_they_are() -> None:
    """No node moves a kernel, as the parameters of Linen and of Keras have them."""
    model = exporter.export(conv(normal(3, 3, 3, 8)), X)
    assert model.ops == {"conv_general_dilated": 1}


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (
            conv(normal(2, 2, 3, 4), precision=lax.DotAlgorithmPreset.BF16_BF16_F32),
            r"`conv_general_dilated` .*its `precision` is .*leave `precision` out",
        ),
        (
            lambda x: conv(normal(2, 2, 3, 4) > 0, preferred_element_type=None)(x > 0),
            r"`conv_general_dilated` .*operand 0 is bool, expected f32, i32, u32 or c64",
        ),
    ],
)  # fmt: skip
def test_neighbors_are_refused(fn: Any, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        exporter.export(fn, X)


def test_symbolic_height_and_width(program: Program) -> None:
    """Extents of results, and padding that is "SAME", follow from those of the images."""
    images, height, width = jax.export.symbolic_shape("n, h, w")

    def fn(x: jax.Array) -> Any:
        same = conv(normal(3, 3, 3, 4), strides=(2, 2))(x)
        valid = conv(normal(2, 1, 3, 4), padding="VALID")(x)
        return (
            same, valid, nn.max_pool(same, (2, 2), (2, 2)), nn.avg_pool(x, (3, 3), (2, 2), "SAME"),
            conv(normal(3, 3, 3, 4), padding=((1, 1), (1, 1)), strides=(2, 2))(x),
            conv(normal(2, 2, 3, 4), padding=((1, 1), (1, 1)), lhs_dilation=(2, 2))(x),
            nn.avg_pool(x, (3, 3), (2, 2), "SAME", count_include_pad=False),
        )  # fmt: skip

    shape = jax.ShapeDtypeStruct((images, height, width, 3), jnp.float32)
    model = exporter.export(fn, shape)
    path = program.verified(model)
    for n, h, w in ((2, 5, 8), (1, 9, 6)):
        x = normal(n, h, w, 3)
        np.save(program.folder / "x.npy", x)
        results = [program.folder / f"y{index}.npy" for index in range(len(model.outputs))]
        targets = [f"{name}={path}" for name, path in zip(model.outputs, results, strict=True)]
        options = [option for target in targets for option in ("--output", target)]
        program.call("run", path, "--input", program.folder / "x.npy", *options)
        for result, expected in zip(results, fn(jnp.asarray(x)), strict=True):
            np.testing.assert_allclose(np.load(result), expected, rtol=1e-4, atol=1e-5)
