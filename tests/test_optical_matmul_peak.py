"""The largest finite |y| of each row, and the ranges that layers make of it while they train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lumina_jax
from flax_layers import OpticalDense
from flax_layers.nnx import OpticalDense as NnxOpticalDense
from flax_layers.ranges import seen
from jaxprs import equations
from lumina_jax import NoiseModel, OpticalSpec
from operands import call, poisoned, random_operands, ranges_and_noise
from oracle import Bits


@pytest.mark.parametrize("residual", ["none", "slope"])
@pytest.mark.parametrize("bits", [Bits(), Bits(dac=8, weight=8, adc=6)], ids=str)
@pytest.mark.parametrize("shape", [(7, 9, 35), (5, 9, 700), (3, 0, 4), (0, 3, 4), (3, 4, 0)])
@pytest.mark.parametrize("bad", [None, np.nan, np.inf, -np.inf])
def test_peak_is_that_of_y(
    bad: float | None, shape: tuple[int, int, int], bits: Bits, residual: str
) -> None:
    op = random_operands(np.random.default_rng(0), shape, bits, noise="all")
    spoiled = bad is not None and min(shape) > 0
    if spoiled:
        # A row without a finite y, and a column that no row may take.
        op = poisoned(op, "x", (2, 1), bad)
        op = poisoned(op, "w", (1, 3), bad)
    operands = [op.x, op.w, op.bias, *ranges_and_noise(op, noisy=True)]
    others = {"with_x_peak": False, "with_w_peak": False}
    attrs = {**bits.attrs(), "transpose_weight": False, "noisy": True, **others}
    *others, peak = call(
        "optical_matmul_fwd", *operands, **attrs, residual=residual, with_peak=True
    )
    alone = call("optical_matmul_fwd", *operands, **attrs, residual=residual, with_peak=False)
    for got, expected in zip(others, alone, strict=True):
        np.testing.assert_array_equal(got, expected)

    _, y = call("optical_matmul_fwd", *operands, **attrs, residual="pre_noise", with_peak=False)
    assert spoiled == (not np.isfinite(y).all())
    finite = np.where(np.isfinite(y), np.abs(y), np.float32(0))
    np.testing.assert_array_equal(peak, finite.max(axis=1, initial=0), strict=True)
    if spoiled:
        np.testing.assert_array_equal(peak == 0, np.arange(len(peak)) == 2)


# --- the functions that ask for it --------------------------------------------------------------

KEY = jax.random.key(4)
X, W = (
    jnp.asarray(np.random.default_rng(2).standard_normal(shape), jnp.float32)
    for shape in ((6, 9), (9, 5))
)
SPEC = OpticalSpec(dac_bits=6, weight_bits=6, adc_bits=6)
RELATIVE = NoiseModel(relative=0.1)
CHAIN: dict[str, Any] = {
    "spec": SPEC, "x_full_scale": jnp.float32(3), "y_full_scale": jnp.float32(6),
    "noise": RELATIVE, "key": KEY,
}  # fmt: skip


@pytest.mark.parametrize("shape", [(9,), (6, 9), (2, 3, 9)])
def test_one_peak_for_each_row(shape: tuple[int, ...]) -> None:
    x = jnp.resize(X, shape)
    out, peak = lumina_jax.optical_matmul(x, W, **CHAIN, return_peak=True)
    expected, y = lumina_jax.optical_matmul(x, W, **CHAIN, return_pre_noise=True)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(peak, jnp.abs(y).max(-1), strict=True)


@pytest.mark.parametrize(
    ("residual", "chain"),
    [
        ("slope", {}),
        ("signs", {"noise": None}),
        ("none", {"noise": None, "spec": OpticalSpec(dac_bits=6, weight_bits=6)}),
        ("pre_noise", {"noise": NoiseModel(relative=0.1, weight=0.1)}),
    ],
)
def test_gradient_is_that_without_the_peak(residual: str, chain: dict[str, Any]) -> None:
    def loss(x: jax.Array, w: jax.Array) -> jax.Array:
        return (lumina_jax.optical_matmul(x, w, **{**CHAIN, **chain}) ** 2).sum()

    def with_peak(x: jax.Array, w: jax.Array) -> jax.Array:
        out, peak = lumina_jax.optical_matmul(x, w, **{**CHAIN, **chain}, return_peak=True)
        return (out**2).sum() + peak.sum()

    grad = jax.jit(jax.grad(with_peak, argnums=(0, 1)))
    assert forward_attrs(grad, X, W) == [(residual, True)]
    for got, expected in zip(grad(X, W), jax.grad(loss, argnums=(0, 1))(X, W), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_peak_is_not_differentiated() -> None:
    grad = jax.grad(lambda w: lumina_jax.optical_matmul(X, w, **CHAIN, return_peak=True)[1].sum())
    np.testing.assert_array_equal(grad(W), jnp.zeros_like(W))


def forward_attrs(function: Callable[..., Any], *arguments: Any) -> list[tuple[str, bool]]:
    """`residual` and `with_peak` of each forward op of the traced function."""
    traced = equations(jax.make_jaxpr(function)(*arguments).jaxpr)
    plain = {"optical_matmul": {"residual": "none", "with_peak": False}, "optical_matmul_fwd": {}}
    attrs = [{**plain[name], **params} for name, params, _ in traced if name in plain]
    return [(of_op["residual"], of_op["with_peak"]) for of_op in attrs]


# --- layers -------------------------------------------------------------------------------------

OLD = {"x_full_scale": jnp.float32(2.5), "y_full_scale": jnp.float32(4.0)}


def batches() -> list[jax.Array]:
    return [X, X.at[2, 1].set(np.nan), X.at[3, 4].set(np.inf), jnp.full_like(X, np.nan)]


def ranges_from_y(x: jax.Array, kernel: jax.Array) -> dict[str, jax.Array]:
    """What the ranges become without momentum, from y in full."""
    _, y = lumina_jax.optical_matmul(x, kernel, spec=SPEC, **OLD, return_pre_noise=True)
    of_batch = {"x_full_scale": seen(x), "y_full_scale": seen(y)}
    return {name: v if v > 0 else OLD[name] for name, v in of_batch.items()}


@pytest.mark.parametrize("x", batches(), ids=["finite", "nan", "inf", "all nan"])
def test_linen_layer_calibrates_on_the_peak(x: jax.Array) -> None:
    layer = OpticalDense(5, profile=None, spec=SPEC, noise=RELATIVE, momentum=0.0)
    variables = layer.init({"params": KEY, "noise": KEY}, X)

    def loss(params: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        y, after = layer.apply(
            {"params": params, "ranges": OLD}, x, rngs={"noise": KEY}, mutable=["ranges"]
        )
        return (y**2).sum(), after["ranges"]

    grad = jax.jit(jax.grad(loss, has_aux=True))
    assert forward_attrs(grad, variables["params"], x)[-1] == ("slope", True)
    after = grad(variables["params"], x)[1]
    expected = ranges_from_y(x, variables["params"]["kernel"])
    assert after.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(after[name], expected[name], err_msg=name, strict=True)


@pytest.mark.parametrize("x", batches(), ids=["finite", "nan", "inf", "all nan"])
def test_nnx_layer_calibrates_on_the_peak(x: jax.Array) -> None:
    layer = NnxOpticalDense(
        9, 5, profile=None, spec=SPEC, noise=RELATIVE, momentum=0.0,
        rngs=nnx.Rngs(params=0, noise=1),
    )  # fmt: skip
    layer.train()
    for name, value in OLD.items():
        getattr(layer, name)[...] = value
    graph, state = nnx.split(layer)

    def step(state: Any, x: jax.Array) -> Any:
        layer = nnx.merge(graph, state)
        nnx.grad(lambda layer: (layer(x) ** 2).sum())(layer)
        return {name: getattr(layer, name)[...] for name in OLD}

    assert forward_attrs(jax.jit(step), state, x)[-1] == ("slope", True)
    after = jax.jit(step)(state, x)
    expected = ranges_from_y(x, layer.kernel[...])
    for name in expected:
        np.testing.assert_array_equal(after[name], expected[name], err_msg=name, strict=True)


def test_ranges_that_stay_ask_for_no_peak() -> None:
    layer = OpticalDense(5, profile=None, spec=SPEC, noise=RELATIVE)
    variables = {**layer.init({"params": KEY, "noise": KEY}, X), "ranges": OLD}
    attrs = forward_attrs(lambda x: layer.apply(variables, x, rngs={"noise": KEY}), X)
    assert attrs
    assert not any(with_peak for _, with_peak in attrs)
