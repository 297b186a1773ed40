"""Every message of the public functions and of the check of each op."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lumina_jax
from lumina_jax import NoiseModel, OpticalSpec
from operands import bind

X = jnp.ones((2, 3, 8), jnp.float32)
W = jnp.ones((8, 4), jnp.float32)
BIAS = jnp.ones(4, jnp.float32)
KEY = jax.random.key(0)
SPEC = OpticalSpec(dac_bits=8, weight_bits=8, adc_bits=8)
NOISE = NoiseModel(relative=0.1)
RELATIVE = "optical_matmul: `noise.relative` "


def call(x: Any = X, w: Any = W, bias: Any = BIAS, **keywords: Any) -> jax.Array:
    return lumina_jax.optical_matmul(x, w, bias, **{"spec": SPEC, "y_full_scale": 4.0, **keywords})


ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"noise": NOISE}, ValueError,
     "optical_matmul: `noise` needs a `key`, got None; pass key=jax.random.key(seed), "
     "or noise=NoiseModel() for a quiet device"),
    ({"y_full_scale": None}, ValueError,
     "optical_matmul: `adc_bits`=8 needs `y_full_scale`, got None; pass the range of the ADC, "
     "a scalar or f32[n], or adc_bits=None"),
    ({"x": X.astype(jnp.bfloat16)}, TypeError,
     "optical_matmul: `x` must be float32, got bfloat16; cast it with x.astype(jnp.float32)"),
    ({"x": X.astype(jnp.int32)}, TypeError, "optical_matmul: `x` must be float32, got int32"),
    ({"w": W.astype(jnp.float16)}, TypeError, "optical_matmul: `w` must be float32, got float16"),
    ({"bias": BIAS.astype(jnp.complex64)}, TypeError,
     "optical_matmul: `bias` must be float32, got complex64"),
    ({"x": jnp.float32(1)}, ValueError, "optical_matmul: `x` has shape (), expected (..., k)"),
    ({"w": jnp.ones((7, 4), jnp.float32)}, ValueError,
     "optical_matmul: `w` has shape (7, 4), expected (k, n) with k = 8, the last extent of `x`"),
    ({"w": jnp.ones(8, jnp.float32)}, ValueError,
     "optical_matmul: `w` has shape (8,), expected (k, n) with k = 8, the last extent of `x`"),
    ({"bias": jnp.ones(8, jnp.float32)}, ValueError,
     "optical_matmul: `bias` has shape (8,), expected (n,) with n = 4"),
    ({"y_full_scale": -1.0}, ValueError,
     "optical_matmul: `y_full_scale` must not be negative or NaN, got -1.0"),
    ({"w_full_scale": np.array([1, 2, np.nan, 3], np.float32)}, ValueError,
     "optical_matmul: `w_full_scale` must not be negative or NaN, got [ 1.  2. nan  3.]"),
    ({"y_full_scale": np.ones(3, np.float32)}, ValueError,
     "optical_matmul: `y_full_scale` has shape (3,), expected a scalar or (4,)"),
    ({"x_full_scale": np.ones(8, np.float32)}, ValueError,
     "optical_matmul: `x_full_scale` has shape (8,), expected a scalar or (2, 3)"),
    ({"x_full_scale": 1j}, TypeError,
     "optical_matmul: `x_full_scale` must be a real number, got complex64"),
    ({"x_full_scale": True}, TypeError,
     "optical_matmul: `x_full_scale` must be a real number, got True"),
    ({"spec": 8}, TypeError, "optical_matmul: `spec` must be an OpticalSpec, got int"),
    ({"noise": 0.1, "key": KEY}, TypeError,
     "optical_matmul: `noise` must be a NoiseModel, got float"),
    ({"noise": NoiseModel(relative=jnp.float32(-0.1)), "key": KEY}, ValueError,
     RELATIVE + "must not be negative or NaN, got -0.1"),
    ({"noise": NoiseModel(relative=jnp.float32("nan")), "key": KEY}, ValueError,
     RELATIVE + "must not be negative or NaN, got nan"),
    ({"noise": NoiseModel(relative=jnp.ones(4, jnp.float32)), "key": KEY}, ValueError,
     RELATIVE + "has shape (4,), expected a scalar"),
    ({"noise": NoiseModel(relative=None), "key": KEY}, TypeError,
     RELATIVE + "must be a real number, got None"),
    ({"noise": NOISE, "key": 0}, TypeError,
     "optical_matmul: `key` must be a key such as jax.random.key(0), got int"),
    ({"noise": NOISE, "key": jax.random.split(KEY, 3)}, ValueError,
     "optical_matmul: `key` must be one key, got keys of shape (3,)"),
    ({"noise": NOISE, "key": jnp.zeros(2, jnp.int32)}, ValueError,
     "optical_matmul: `key` must be a key such as jax.random.key(0), got int32[2]"),
    ({"noise": NOISE, "key": jnp.zeros(3, jnp.uint32)}, ValueError,
     "optical_matmul: `key` must be a key such as jax.random.key(0), got uint32[3]"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), ERRORS)
def test_optical_matmul(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call(**change)


def test_known_at_trace_time_too() -> None:
    with pytest.raises(ValueError, match="needs a `key`"):
        jax.jit(lambda x: call(x, noise=NOISE))(X)
    with pytest.raises(ValueError, match="expected a scalar or"):
        jax.eval_shape(lambda s: call(y_full_scale=s), jnp.ones(3, jnp.float32))


def test_traced_ranges_are_not_looked_at() -> None:
    # Their value is not known; a negative one gives NaN.
    assert np.isnan(jax.jit(lambda s: call(y_full_scale=s))(-1.0)).all()


def test_x64() -> None:
    with jax.enable_x64(True):
        with pytest.raises(TypeError, match="`x` must be float32, got float64; cast it with"):
            call(jnp.ones((2, 8)))
        # Numbers are converted.
        assert call(y_full_scale=4.0, x_full_scale=np.float64(2)).dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"bits": 0}, ValueError,
         "quantize: `bits` must be from 1 to 32, or None for off, as 24 and more are; got 0"),
        ({"bits": True}, TypeError, "quantize: `bits` must be an int or None, got True"),
        ({"bits": 4, "full_scale": -2.0}, ValueError,
         "quantize: `full_scale` must not be negative or NaN, got -2.0"),
        ({"bits": 4, "full_scale": np.ones(3, np.float32)}, ValueError,
         "quantize: `full_scale` has shape (3,), expected a scalar or (8,)"),
        ({"bits": 4, "full_scale": np.ones((3, 8), np.float32)}, ValueError,
         "quantize: `full_scale` has shape (3, 8), expected a scalar or (8,)"),
        ({"bits": 4, "v": jnp.ones(3, jnp.int32)}, TypeError,
         "quantize: `v` must be float32, got int32"),
    ],
)  # fmt: skip
def test_quantize(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        lumina_jax.quantize(**{"v": X, **arguments})


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3), 4, (2.0, 3), (-1, 3)])
def test_optical_noise(shape: Any) -> None:
    message = f"optical_noise: `shape` must be two extents (rows, columns), got {shape!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        lumina_jax.optical_noise(KEY, shape)


# --- the check of an op: what a direct caller of the primitive sees -----------------------------

ATTRS = {"bits": 4}


@pytest.mark.parametrize(
    ("operands", "error", "message"),
    [
        ([(2, 3, 1), (1, 1)], ValueError, "quantize: `v` has shape (2, 3, 1), expected (m, n)"),
        ([(2, 3), (2, 2)], ValueError,
         "quantize: `full_scale` has shape (2, 2), expected (1 or m, 1 or n), "
         "where m = 2 of `v` and n = 3 of `v`"),
    ],
)  # fmt: skip
def test_shape_check(operands: list[tuple[int, ...]], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        bind("quantize", *(jnp.ones(shape, jnp.float32) for shape in operands), **ATTRS)


def test_dtype_check() -> None:
    message = "optical_noise: `rows` must be uint32, got int32"
    u32 = jnp.zeros(3, jnp.uint32)
    with pytest.raises(TypeError, match=re.escape(message)):
        bind("optical_noise", jnp.zeros((1, 2), jnp.uint32), u32.astype(jnp.int32), u32)


def test_ids_are_complete_where_there_is_noise() -> None:
    x, w, one = jnp.ones((3, 2)), jnp.ones((2, 4)), jnp.ones(1)
    ids = jnp.zeros(1, jnp.uint32)
    message = "optical_matmul: `columns` has shape (1,), expected (n,), where n = 4 of `w`"
    with pytest.raises(ValueError, match=re.escape(message)):
        bind(
            "optical_matmul", x, w, one, one, one, one, jnp.ones((1, 4)),
            jnp.zeros((1, 2), jnp.uint32), jnp.zeros(3, jnp.uint32), ids,
            dac_bits=0, weight_bits=0, adc_bits=0, transpose_weight=False, noisy=True,
        )  # fmt: skip


def test_noise_that_is_zero_needs_no_key() -> None:
    """What the error of a missing key advises; a profile's noise is turned off by it too."""
    c = X[0].astype(jnp.complex64), W.astype(jnp.complex64)
    qkv = (jnp.ones((4, 2, 8), jnp.float32),) * 3
    image = jnp.ones((1, 5, 8), jnp.float32), jnp.ones((3, 8, 4), jnp.float32)
    ranges = {"scores_full_scale": 4.0, "out_full_scale": 4.0}
    for op, operands, scales in (
        (lumina_jax.optical_matmul, (X, W), {"y_full_scale": 4.0}),
        (lumina_jax.complex_optical_matmul, c, {"y_full_scale": 4.0}),
        (lumina_jax.optical_conv, image, {"y_full_scale": 4.0}),
        (lumina_jax.optical_attention, qkv, ranges),
    ):
        quiet = op(*operands, profile="lumina_micro_v1", noise=NoiseModel(), **scales)
        with pytest.raises(ValueError, match=r"needs a `key`, got None; pass key=.*, or noise="):
            op(*operands, profile="lumina_micro_v1", **scales)
        assert np.isfinite(np.asarray(quiet)).all()
