"""Weights that only enter converters are stored as the codes of these, and change no bit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from exported import Program
from lumina_jax import OpticalSpec, optical_conv, optical_matmul
from lumina_jax.ops import OPS

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def same_bits(fn: Any, w: Any, *inputs: Any, **options: Any) -> exporter.Model:
    """The model with codes, which computes the same bits as the one that has none."""
    model = exporter.export(fn, *inputs, params=w, **options)
    whole = exporter.export(fn, *inputs, params=w, weights="float32", **options)
    assert "dequantize" in model.ops
    assert "dequantize" not in whole.ops
    got, want = model(*inputs), whole(*inputs)
    assert got.tobytes() == want.tobytes()
    return model


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_of_converters_change_no_bit(bits: int, program: Program) -> None:
    for depth, columns in ((1, 1), (13, 1), (33, 5), (64, 7)):
        w = {"w": normal(depth, columns)}
        for dac_bits in (None, 8, 12):
            spec = OpticalSpec(dac_bits=dac_bits, weight_bits=bits, adc_bits=None)
            model = same_bits(
                lambda p, x, spec=spec: optical_matmul(x, p["w"], spec=spec), w, normal(3, depth)
            )
    path = program.verified(model)
    assert f'"bits":{bits}' in program.call("inspect", path, "--json").replace(" ", "")


@pytest.mark.parametrize("weight_bits", [1, 3, 4, 8])
@pytest.mark.parametrize("transpose_weight", [False, True])
@pytest.mark.parametrize("given", [0, 1, 6])
def test_layouts_tiles_and_ranges_that_are_given(
    weight_bits: int, transpose_weight: bool, given: int
) -> None:
    """The op itself: with arrays of 5 inputs, whose bounds are those of no word."""
    op = OPS["optical_matmul"]
    attrs = op.attrs(
        dac_bits=8, weight_bits=weight_bits, adc_bits=6, noisy=False, array_rows=5,
        transpose_weight=transpose_weight,
    )  # fmt: skip
    full_scale = jnp.asarray(np.linspace(0.5, 2, given), jnp.float32)

    def fn(w: Any, x: jax.Array) -> jax.Array:
        zero, one = jnp.zeros(1), jnp.ones(1)
        operands = op.operands(
            x=x, w=w, bias=zero, x_full_scale=one, w_full_scale=full_scale, y_full_scale=9 * one,
            noise=jnp.zeros((1, 4)), seed=jnp.zeros((1, 2), jnp.uint32),
            rows=jnp.zeros(1, jnp.uint32), columns=jnp.zeros(1, jnp.uint32),
        )  # fmt: skip
        return op(attrs, operands)[0]

    w = normal(6, 19) if transpose_weight else normal(19, 6)
    model = same_bits(fn, w, normal(4, 19))
    (node,) = (node for node in model.graph.nodes if node.op == "dequantize")
    assert node.attrs["transpose"] is transpose_weight
    assert model.weight_bytes < w.nbytes


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
@pytest.mark.parametrize("groups", [1, 2])
def test_kernels_of_convolutions(bits: int, groups: int) -> None:
    spec = OpticalSpec(dac_bits=8, weight_bits=bits, adc_bits=None)

    def fn(kernel: jax.Array, x: jax.Array) -> jax.Array:
        return optical_conv(x, kernel, feature_group_count=groups, spec=spec)

    same_bits(fn, normal(3, 2, 4 // groups, 6), normal(2, 5, 6, 4))


def loss_of_a_row(w: jax.Array, x: jax.Array) -> jax.Array:
    return optical_matmul(x, w, spec=OpticalSpec(weight_bits=4, adc_bits=None))


@pytest.mark.parametrize(
    "w",
    [
        np.where(np.eye(4, 2) > 0, np.float32(np.nan), np.float32(1)),
        np.where(np.eye(4, 2) > 0, np.float32(np.inf), np.float32(1)),
        np.full((4, 2), 3e-38, np.float32),
    ],
    ids=["nan", "inf", "a step below the normal numbers"],
)
def test_weights_that_codes_do_not_give_again_stay(w: np.ndarray) -> None:
    x = normal(3, 4)
    model = exporter.export(loss_of_a_row, x, params=w)
    assert "dequantize" not in model.ops
    np.testing.assert_array_equal(model.weights["params"], w)


def test_a_range_of_zero(program: Program) -> None:
    """All levels are 0, and weights beyond the range have codes that w' = 0 has not."""

    def fn(w: jax.Array, x: jax.Array) -> jax.Array:
        spec = OpticalSpec(weight_bits=4, adc_bits=None)
        return optical_matmul(x, w, spec=spec, w_full_scale=jnp.zeros(2))

    assert "dequantize" not in program.export(fn, normal(3, 4), params=normal(4, 2)).ops
    model = same_bits(loss_of_a_row, np.zeros((4, 2), np.float32), normal(3, 4))
    np.testing.assert_array_equal(model(normal(3, 4)), np.zeros((3, 2)))


def test_weights_with_other_readers_stay() -> None:
    def twice(w: jax.Array, x: jax.Array, *, bits: int) -> jax.Array:
        y = loss_of_a_row(w, x)
        return loss_of_a_row(w, y) if bits == 4 else optical_matmul(
            y, w, spec=OpticalSpec(weight_bits=bits, adc_bits=None)
        )  # fmt: skip

    w, x = normal(4, 4), normal(3, 4)
    shared = exporter.export(lambda w, x: twice(w, x, bits=4), x, params=w)
    assert shared.ops == {"optical_matmul": 2, "dequantize": 1}
    assert "dequantize" not in exporter.export(lambda w, x: twice(w, x, bits=5), x, params=w).ops
    for other in (lambda w, x: (loss_of_a_row(w, x), w), lambda w, x: loss_of_a_row(w, x) @ w):
        assert "dequantize" not in exporter.export(other, x, params=w).ops
    entries = {"a": (loss_of_a_row, x), "b": (lambda w, x: x @ w, x)}
    assert "dequantize" not in exporter.export(entries, params=w).ops


def test_weights_in_a_loop(program: Program) -> None:
    def fn(w: jax.Array, x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 3, lambda _, x: loss_of_a_row(w, x), x)

    model = same_bits(fn, normal(4, 4), normal(2, 4))
    program.verified(model)


def test_float32_by_name_keeps_a_weight() -> None:
    w = {"a": normal(4, 4), "b": normal(4, 4)}

    def fn(w: Any, x: jax.Array) -> jax.Array:
        return loss_of_a_row(w["b"], loss_of_a_row(w["a"], x))

    model = exporter.export(fn, normal(2, 4), params=w, weights={"a": "float32"})
    assert model.ops["dequantize"] == 1
    np.testing.assert_array_equal(model.weights["a"], w["a"])
    assert not np.array_equal(model.weights["b"], w["b"])
