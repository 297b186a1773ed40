"""What the forward op saves: slope or signs where they are enough, else y."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import grad_oracle
import lumina_jax
import oracle
from flax_layers import OpticalDense
from flax_layers.nnx import OpticalDense as NnxOpticalDense
from jaxprs import equations
from lumina_jax import NoiseModel, OpticalSpec, nat
from operands import NO_PEAK, backward, bind, forward, poisoned, random_operands
from oracle import EPS32, Bits, Operands

KINDS = {
    "quiet": (0, 0, 0, 0),
    "thermal": (1, 0, 0, 0),
    "shot": (0, 1, 0, 0),
    "relative": (0, 0, 1, 0),
    "shot and relative": (0, 1, 1, 0),
    "all but weight": (1, 1, 1, 0),
    "all": (1, 1, 1, 1),
}
"""Which of thermal, shot, relative and weight there is."""

kinds = pytest.mark.parametrize("kind", KINDS)
with_and_without_adc = pytest.mark.parametrize("adc", [0, 6])


def sample(kind: str, adc: int) -> tuple[Operands, Bits]:
    """Products of integers, so that y is the same bits in kernel and oracle."""
    bits = Bits(dac=8, weight=8, adc=adc)
    op = random_operands(np.random.default_rng(0), (7, 9, 35), bits, noise="all")
    x, bias = op.x.copy(), op.bias.copy()
    x[0], bias[:3] = 0, 0
    return replace(op, x=x, bias=bias, noise=op.noise * np.float32(KINDS[kind])), bits


@kinds
@with_and_without_adc
@pytest.mark.parametrize("bad", [None, np.nan, np.inf])
def test_slope_is_its_formula(bad: float | None, adc: int, kind: str) -> None:
    op, bits = sample(kind, adc)
    noisy = kind != "quiet"
    if bad is not None:
        op = poisoned(op, "x", (2, 1), bad)
    chain = oracle.optical_matmul(op, bits, noisy=noisy)
    assert (chain.linear[0, :3] == 0).all()
    out, slope = forward(op, bits, noisy=noisy, residual="slope")

    y, sigma, eps = (v.astype(np.float64) for v in (chain.linear, chain.sigma, op.eps))
    shot, relative = (op.noise[:, i : i + 1].astype(np.float64) for i in (1, 2))
    by_y = shot**2 * np.sign(y) / 2 + relative**2 * y
    per_sigma = np.divide(by_y, sigma, out=np.zeros_like(y), where=sigma > 0)
    inside = grad_oracle.inside(chain.before_adc, op.y_full_scale[None, :], bits.adc)
    assert (inside == 0).any() == (adc > 0)
    inside = np.where(np.isfinite(chain.before_adc), inside, np.nan)
    expected = inside * (1 + eps * per_sigma)

    np.testing.assert_array_equal(np.isnan(slope), np.isnan(expected))
    np.testing.assert_array_equal(np.isnan(slope), np.isnan(out))
    # Few roundings of each term.
    tolerance = 16 * EPS32 * (1 + np.abs(eps * per_sigma))
    assert not (np.abs(slope - expected) > tolerance).any()


@pytest.mark.parametrize("kind", ["quiet", "relative"])
@with_and_without_adc
@pytest.mark.parametrize("bad", [None, np.nan, np.inf])
def test_signs_tell_the_slope(bad: float | None, adc: int, kind: str) -> None:
    op, bits = sample(kind, adc)
    noisy = kind != "quiet"
    if bad is not None:
        op = poisoned(op, "x", (2, 1), bad)
    out, slope = forward(op, bits, noisy=noisy, residual="slope")
    same, signs = forward(op, bits, noisy=noisy, residual="signs")
    _, y = forward(op, bits, noisy=noisy)
    np.testing.assert_array_equal(out, same)
    assert signs.dtype == np.int8

    expected = np.where(y == 0, 2, np.sign(np.nan_to_num(y))) * (slope != 0)
    np.testing.assert_array_equal(signs, np.where(np.isnan(slope), -128, expected))
    some = {-1, 1, 2, *[0] * (adc > 0), *[-128] * (bad is not None)}
    assert set(np.unique(signs)) == some

    g = np.random.default_rng(1).standard_normal((7, 35)).astype(np.float32)
    of_slope, of_signs = (
        backward(g, saved, op, bits, noisy=noisy, residual=residual)
        for saved, residual in ((slope, "slope"), (signs, "signs"))
    )
    for got, expected in zip(of_signs, of_slope, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "all"])
@with_and_without_adc
@pytest.mark.parametrize("bad", [None, np.nan, np.inf])
def test_gradient_of_slope_is_that_of_linear(bad: float | None, adc: int, kind: str) -> None:
    op, bits = sample(kind, adc)
    noisy = kind != "quiet"
    if bad is not None:
        op = poisoned(op, "x", (2, 1), bad)
    g = np.random.default_rng(1).standard_normal((7, 35)).astype(np.float32)
    chain = oracle.optical_matmul(op, bits, noisy=noisy)
    exact = grad_oracle.optical_matmul_grad(g, op, chain, bits, noisy=noisy)
    of_slope, of_linear = (
        backward(
            g, forward(op, bits, noisy=noisy, residual=residual)[1], op, bits,
            noisy=noisy, residual=residual,
        )
        for residual in ("slope", "pre_noise")
    )  # fmt: skip
    for name, got, expected in zip(exact._fields[:3], of_slope[:3], of_linear[:3], strict=True):
        np.testing.assert_array_equal(np.isnan(got), np.isnan(expected), err_msg=name)
        # Both are sums of the same terms, each within its rounding of the exact one.
        excess = np.abs(got - expected) - 2 * getattr(exact, name).tolerance
        assert not (excess > 0).any(), name
    for of_ranges in of_slope[3:]:
        np.testing.assert_array_equal(of_ranges, np.zeros_like(of_ranges))


# --- the public functions -----------------------------------------------------------------------

KEY = jax.random.key(4)
X, W = (
    jnp.asarray(np.random.default_rng(2).standard_normal(shape), jnp.float32)
    for shape in ((6, 9), (9, 5))
)
CHAIN: dict[str, Any] = {
    "x": X, "w": W, "spec": OpticalSpec(dac_bits=6, weight_bits=6, adc_bits=6),
    "x_full_scale": jnp.float32(3), "y_full_scale": jnp.float32(6), "key": KEY,
}  # fmt: skip
RELATIVE = NoiseModel(relative=0.1)
WITHOUT_ADC = OpticalSpec(dac_bits=6, weight_bits=6)


def saved(function: Callable[..., Any], *arguments: Any) -> list[str]:
    """`residual` of each matmul op of the traced function."""
    traced = equations(jax.make_jaxpr(function)(*arguments).jaxpr)
    matmuls = [params for name, params, _ in traced if name.startswith("optical_matmul")]
    return [params.get("residual", "none") for params in matmuls]


def loss(arguments: dict[str, Any], **chain: Any) -> jax.Array:
    return (lumina_jax.optical_matmul(**{**CHAIN, **chain, **arguments}) ** 2).sum()


@pytest.mark.parametrize("name", ["x", "w"])
@pytest.mark.parametrize(
    ("residual", "chain"),
    [
        ("slope", {"noise": RELATIVE}),
        ("slope", {"noise": NoiseModel(shot=0.1, weight=np.float32(0))}),
        ("slope", {"noise": NoiseModel(thermal=0.1, weight=0), "spec": WITHOUT_ADC}),
        ("signs", {"noise": None}),
        ("pre_noise", {"noise": NoiseModel(relative=0.1, weight=0.1)}),
        ("pre_noise", {"noise": NoiseModel(relative=0.1, weight=jnp.float32(0))}),
        ("none", {"noise": None, "spec": WITHOUT_ADC}),
    ],
)
def test_slope_is_saved_where_it_is_enough(residual: str, chain: dict[str, Any], name: str) -> None:
    of_gradient = "pre_noise" if residual == "none" else residual
    grad = jax.grad(lambda p: loss(p, **chain))
    assert saved(jax.jit(grad), {name: CHAIN[name]}) == [residual, of_gradient]
    assert saved(lambda: loss({}, **chain)) == ["none"]


@pytest.mark.parametrize(
    ("residual", "noise"),
    [
        ("signs", RELATIVE),
        ("slope", NoiseModel(relative=0.1, shot=0.1)),
        ("slope", NoiseModel(relative=0.1, thermal=jnp.float32(0))),
    ],
)
def test_of_many_outputs_only_signs_are_saved_if_noise_is_relative(
    residual: str, noise: NoiseModel
) -> None:
    x = jax.ShapeDtypeStruct((1 << 12, 9), jnp.float32)
    for columns, expected in ((1 << 8, residual), ((1 << 8) - 1, "slope")):
        w = jax.ShapeDtypeStruct((9, columns), jnp.float32)
        grad = jax.grad(lambda w, x: loss({"x": x, "w": w}, noise=noise))
        assert saved(grad, w, x) == [expected] * 2


def test_many_outputs_have_the_gradient_of_few() -> None:
    x = jnp.asarray(np.random.default_rng(3).standard_normal((1 << 12, 9)), jnp.float32)
    w = jnp.asarray(np.random.default_rng(4).standard_normal((9, 1 << 8)), jnp.float32)
    chain = {"w_full_scale": jnp.float32(2), "noise": RELATIVE}
    many = jax.grad(lambda x: loss({"x": x, "w": w}, **chain))(x)
    # A noise whose other parts are zeros that nobody knows when tracing.
    noise = NoiseModel(relative=0.1, thermal=jnp.float32(0))
    slopes = jax.grad(lambda x: loss({"x": x, "w": w}, **{**chain, "noise": noise}))(x)
    np.testing.assert_array_equal(many, slopes)


@pytest.mark.parametrize("name", ["x_full_scale", "w_full_scale", "y_full_scale", "noise"])
def test_gradients_of_ranges_and_noise_need_y(name: str) -> None:
    chain = {**CHAIN, "w_full_scale": jnp.float32(2), "noise": jax.tree.map(jnp.float32, RELATIVE)}
    grad = jax.grad(lambda p: loss(p, **{**chain, "noise": RELATIVE, **p}))
    assert saved(grad, {name: chain[name]}) == ["pre_noise"] * 2


def test_noise_that_is_traced_or_scaled() -> None:
    grads = {
        "argument": lambda noise, f: noise,
        "traced weight": lambda noise, f: NoiseModel(relative=0.1, weight=f),
        "traced relative": lambda noise, f: NoiseModel(relative=f),
        "scaled": lambda noise, f: RELATIVE.scaled(f),
        "schedule": lambda noise, f: nat.scale_noise(RELATIVE, f),
    }
    found = {
        label: saved(
            jax.jit(lambda n, f, of=of: jax.grad(lambda p: loss(p, noise=of(n, f)))({"w": W})),
            RELATIVE, jnp.float32(0.5),
        )
        for label, of in grads.items()
    }  # fmt: skip
    assert found == {
        "argument": ["pre_noise"] * 2,
        "traced weight": ["pre_noise"] * 2,
        "traced relative": ["slope"] * 2,
        "scaled": ["slope"] * 2,
        "schedule": ["slope"] * 2,
    }


def test_known_zeros_stay_numbers() -> None:
    for scaled in (RELATIVE.scaled(jnp.float32(2)), nat.scale_noise(RELATIVE, jnp.float32(2))):
        for name in ("thermal", "shot", "weight"):
            assert type(getattr(scaled, name)) is float


def test_y_that_is_asked_for_is_what_is_saved() -> None:
    def with_pre_noise(w: jax.Array) -> jax.Array:
        out, _ = lumina_jax.optical_matmul(
            **{**CHAIN, "w": w}, noise=RELATIVE, return_pre_noise=True
        )
        return (out**2).sum()

    assert saved(jax.grad(with_pre_noise), W) == ["pre_noise"] * 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_every_precision_takes_slope_and_signs(precision: Any) -> None:
    spec = OpticalSpec(dac_bits=6, weight_bits=6, adc_bits=6, grad_precision=precision)
    for noise, residual in ((RELATIVE, "slope"), (None, "signs")):
        grad = jax.grad(lambda p, noise=noise: loss(p, spec=spec, noise=noise))
        assert saved(grad, {"w": W}) == [residual] * 2


def test_linen_layers() -> None:
    # Ranges that follow the batch look at the peaks of y; those that are learned have a gradient.
    spec = OpticalSpec(dac_bits=6, weight_bits=6, adc_bits=6)
    for ranges, mutable, expected in (
        ("calibrate", False, "slope"),
        ("calibrate", ["ranges"], "slope"),
        ("learn", False, "pre_noise"),
    ):
        layer = OpticalDense(5, profile=None, spec=spec, noise=RELATIVE, ranges=ranges)

        def of_params(variables: Any, layer: Any = layer, mutable: Any = mutable) -> Any:
            def layer_loss(params: Any) -> jax.Array:
                variables_of = {**variables, "params": params}
                y = layer.apply(variables_of, X, rngs={"noise": KEY}, mutable=mutable)
                return ((y[0] if mutable else y) ** 2).sum()

            return jax.grad(layer_loss)(variables["params"])

        variables = jax.eval_shape(layer.init, {"params": KEY, "noise": KEY}, X)
        assert saved(jax.jit(of_params), variables) == [expected] * 2


def test_nnx_layers() -> None:
    spec = OpticalSpec(dac_bits=6, weight_bits=6, adc_bits=6)
    for fixed in (True, False):

        def step(x: jax.Array, fixed: bool = fixed) -> Any:
            layer = NnxOpticalDense(
                9, 5, profile=None, spec=spec, noise=RELATIVE, use_running_average=fixed,
                rngs=nnx.Rngs(params=0, noise=1),
            )  # fmt: skip
            return nnx.grad(lambda layer: (layer(x) ** 2).sum())(layer)

        assert saved(jax.jit(step), X) == ["slope"] * 2


# --- errors -------------------------------------------------------------------------------------

FORWARD: dict[str, Any] = {
    "dac_bits": 0, "weight_bits": 0, "adc_bits": 0, "transpose_weight": False, "noisy": False,
}  # fmt: skip
BACKWARD: dict[str, Any] = {
    **FORWARD, "residual": "slope", "grad_precision": "float32", "with_inputs": True,
    "with_ranges": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("op", "attrs", "message"),
    [
        ("optical_matmul_fwd",
         {**FORWARD, **NO_PEAK, "residual": "y"},
         "optical_matmul_fwd: `residual` must be none, pre_noise, slope or signs, got y"),
        ("optical_matmul_grad", {**BACKWARD, "residual": "none"},
         "optical_matmul_grad: `residual` must be pre_noise, slope or signs, got none"),
        ("optical_matmul_grad", {**BACKWARD, "residual": "signs", "adc_bits": 8},
         'optical_matmul_grad: with `residual`="signs" `adc_bits` must be 0, got 8'),
        ("optical_matmul_grad", {**BACKWARD, "noisy": True},
         'optical_matmul_grad: with `residual`="slope" `noisy` must be False, got True'),
        ("optical_matmul_grad", {**BACKWARD, "adc_bits": 8},
         'optical_matmul_grad: with `residual`="slope" `adc_bits` must be 0, got 8'),
        ("optical_matmul_grad", {**BACKWARD, "with_ranges": True},
         'optical_matmul_grad: with `residual`="slope" `with_ranges` must be False, got True'),
    ],
)  # fmt: skip
def test_attribute_errors(op: str, attrs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call_with(op, attrs)


def test_signs_are_int8() -> None:
    message = "optical_matmul_grad: `saved` must be int8, got float32"
    with pytest.raises(TypeError, match=re.escape(message)):
        call_with("optical_matmul_grad", {**BACKWARD, "residual": "signs"})


def call_with(op: str, attrs: dict[str, Any]) -> None:
    one, seed = jnp.ones(1), jnp.zeros((1, 2), jnp.uint32)
    ids = jnp.zeros(1, jnp.uint32)
    first = (
        [X, W, one] if op == "optical_matmul_fwd" else [jnp.ones((6, 5)), jnp.ones((6, 5)), X, W]
    )
    bind(op, *first, one, one, one, jnp.zeros((1, 4)), seed, ids, ids, **attrs)
