"""Narrow element types: arithmetic is done in wide ones, and the results are those of JAX."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import exporter
from exported import Program

pytestmark = pytest.mark.usefixtures("numpy_promotion")

RNG = np.random.default_rng(3)
X = RNG.normal(size=(7, 4)).astype(np.float32)
U = (np.arange(28, dtype=np.uint8) * 9).reshape(7, 4)
INTEGERS = {"uint8": U, "int8": U.astype(np.int8), "int16": U.astype(np.int16) * 300}
# A rounding to eight bits, and of sums of some terms of order one a few.
BFLOAT16 = {"rtol": 2**-6, "atol": 2**-6}


def integers(i: jax.Array) -> Any:
    return (
        i + i, i * i - 7, i // 3, i % 5, -i, abs(i), jnp.sign(i), i**3, i > 7, jnp.minimum(i, 3),
        i << 3, i >> 1, ~i, i & 6, i.max(0), i.sum(0, dtype=i.dtype), i.prod(1, dtype=i.dtype),
        jnp.argmax(i, 1), lax.argmin(i, 0, jnp.int8), lax.clamp(i[0, 1], i, i[1, 2]),
        lax.dot(i, i.T, preferred_element_type=jnp.int32), i.astype(jnp.float32) / 255, i[::2, 1],
        jnp.cumsum(i, 0, dtype=i.dtype), jnp.where(i > 3, i, i[:, :1]), jnp.arange(4) + i,
        lax.fori_loop(0, 3, lambda j, c: c + i, i),
    )  # fmt: skip


def test_integers_wrap_as_those_of_jax(program: Program) -> None:
    def fn(arguments: dict[str, jax.Array]) -> Any:
        return {name: integers(i) for name, i in arguments.items()}

    model = program.export(fn, INTEGERS, rtol=1e-6, atol=0.0)
    assert "i16[7, 4]" in model.outputs.values()


def floats(h: jax.Array) -> Any:
    return (
        h @ h.T, jnp.dot(h, h.T, preferred_element_type=jnp.float32), jax.nn.softmax(h * 2 + 1),
        h.sum(0), h.max(1), jnp.tanh(h).mean(), jnp.where(h > 0, h, 0)[::2, 1], h.astype(jnp.int32),
        lax.scan(lambda c, row: (c + row, c * row), h[0], h), jnp.arange(4, dtype=h.dtype) + h,
        lax.dot_general(h, X.astype(jnp.float32), (((1,), (1,)), ((), ())),
                        preferred_element_type=jnp.float32),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_floats_are_rounded_to_their_type(program: Program, dtype: Any) -> None:
    model = program.export(floats, X.astype(dtype), **BFLOAT16)
    assert {"dot_general", "scan", "exp", "reduce_sum"} <= set(model.ops)


def test_a_network_in_bfloat16_keeps_its_weights(program: Program) -> None:
    net = nn.Sequential([
        nn.Dense(8, dtype=jnp.bfloat16), nn.gelu, nn.LayerNorm(dtype=jnp.bfloat16),
        nn.Dense(3, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16),
    ])  # fmt: skip
    variables = net.init(jax.random.key(0), X)
    model = program.export(net.apply, X, params=variables, batch="batch", **BFLOAT16)
    dtypes = {name: weight.dtype for name, weight in model.weights.items()}
    assert dtypes["params['layers_3']['kernel']"] == jnp.bfloat16


def test_bits_of_a_narrow_integer_are_not_widened() -> None:
    with pytest.raises(exporter.ExportError, match=r"`shift_right_logical` .*operand 1 is i16"):
        exporter.export(lambda i: lax.shift_right_logical(i, i), INTEGERS["int16"])
