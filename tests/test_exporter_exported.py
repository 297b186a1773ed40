"""Programs of `jax.export`: StableHLO, read back as what it was lowered from."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import exporter
import lumina_jax
from exported import Program
from exporter import ExportError
from lumina_jax import NoiseModel, OpticalSpec

pytestmark = pytest.mark.usefixtures("numpy_promotion")

RNG = np.random.default_rng(5)
X = RNG.standard_normal((5, 6)).astype(np.float32)
I = RNG.integers(-7, 8, (5, 6)).astype(np.int32)  # noqa: E741 - the integers beside X
C = (X + 1j * X[::-1]).astype(np.complex64)
H = X.astype(jnp.bfloat16)
CONSTANT = jnp.asarray([1, 2.5, np.inf, 4, 5, 6], jnp.bfloat16)
CONSTANTS = jnp.asarray(np.linspace(0, 1, 300), jnp.bfloat16)
IMAGES = RNG.standard_normal((2, 8, 9, 3)).astype(np.float32)
KERNEL = jnp.asarray(RNG.standard_normal((3, 3, 3, 4)), jnp.float32)


def loops(x: Any) -> Any:
    def step(c: Any, row: Any) -> Any:
        return c + row, c * 2

    chosen = lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x)
    switched = lax.switch(jnp.argmax(x[0]), [jnp.sin, jnp.cos, lambda x: -x], x)
    repeated = lax.while_loop(lambda c: c.sum() < 30, lambda c: c + 1, x)
    return lax.scan(step, x[0], x), chosen, switched, repeated, lax.map(jnp.sum, x)


FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "arithmetic": (lambda x, i: (
        x + x * 2 - x / 3, x % 2, -x, i // 2, i % 3, i << 2, i >> 1, i & 3 | 4, ~i, i ^ 5,
        jnp.maximum(x, 0), jnp.clip(x, -1, 1), jnp.sign(x), jnp.abs(x), jnp.round(x),
        jnp.floor(x), jnp.ceil(x), x**3, jnp.abs(x) ** 0.3, lax.population_count(i), lax.clz(i),
    ), (X, I)),
    "functions": (lambda x: [f(x) for f in (
        jnp.sin, jnp.cos, jnp.tan, jnp.exp, jnp.expm1, jnp.tanh, jnp.sinh, jnp.cosh, jnp.arctan,
        jnp.arcsinh, lax.erf, lax.logistic, jnp.cbrt, lax.erf_inv, lax.lgamma, lax.digamma,
        lambda x: jnp.log(jnp.abs(x)), lambda x: jnp.log1p(jnp.abs(x)),
        lambda x: lax.rsqrt(jnp.abs(x)), lambda x: jnp.sqrt(jnp.abs(x)),
        lambda x: jnp.arctan2(x, x[::-1]), lambda x: lax.nextafter(x, x + 1), jnp.isfinite,
    )], (np.clip(X, -0.9, 0.9),)),
    "comparisons": (lambda x, i: (
        [f(x, x[:, ::-1]) for f in (lax.lt, lax.le, lax.gt, lax.ge, lax.eq, lax.ne)],
        jnp.where(x > 0, i, -i), jnp.logical_xor(x > 0, i > 0),
    ), (X, I)),
    "types": (lambda x, i, h: (
        x.astype(jnp.int32), i.astype(jnp.float32), x > 0, (h * 3).astype(jnp.float32),
        i.astype(jnp.int8) + 1, x.astype(jnp.float16) * 2, lax.bitcast_convert_type(x, jnp.int32),
        lax.reduce_precision(x, 5, 7), h + jnp.bfloat16(1.5) + CONSTANT,
        h * CONSTANTS[:6], h[0, 0] * CONSTANTS,
    ), (X, I, H)),
    "complex": (lambda c: (c * c - c, jnp.exp(c), c.real, c.imag, jnp.abs(c), c.conj()), (C,)),
    "layout": (lambda x: (
        x.T, x.reshape(3, 10), x[None], x[1:4:2, ::-1], jnp.pad(x, ((1, 2), (0, 1))),
        jnp.concatenate([x, x * 2], 1), jnp.stack([x, x]), jnp.tile(x, (2, 1)), jnp.roll(x, 2, 1),
        jnp.repeat(x, 2, 0), jnp.split(x, 3, 1), jnp.arange(6.0) + x, jnp.eye(5) @ x,
    ), (X,)),
    "reductions": (lambda x, i: (
        x.sum(0), x.mean(), x.max(1), x.min(), x.prod(1), (x > 0).any(0), (x > 0).all(1),
        jnp.argmax(x, 1), jnp.argmin(x, 0), x.var(1), jnp.median(x, 0), jnp.cumsum(x, 1),
        lax.cummax(x, 0), jnp.linalg.norm(x), jax.nn.softmax(x), jax.nn.logsumexp(x, 1),
        lax.reduce(i, np.int32(0), lax.bitwise_xor, (0,)),
    ), (X, I)),
    "order": (lambda x, i: (
        jnp.sort(x, 1), jnp.argsort(x, 0), lax.top_k(x, 3), lax.sort((i, x), num_keys=2),
        lax.sort((i, x), num_keys=1),
    ), (X, I)),
    "indexing": (lambda x, i: (
        x[i[0] % 5], x[i % 5, jnp.arange(6)], jnp.take(x, i[0], 0), x.at[i[0] % 5].add(1.0),
        x.at[2].set(0.0), x.at[i[:, 0] % 5].max(2.0), lax.dynamic_slice(x, (i[0, 0], 1), (2, 3)),
        lax.dynamic_update_slice(x, x[:2] * 3, (i[0, 1], 0)), jnp.take_along_axis(x, i % 5, 0),
    ), (X, I)),
    "windows": (lambda y: (
        lax.conv_general_dilated(y, KERNEL, (2, 1), "SAME", rhs_dilation=(1, 2),
                                 dimension_numbers=("NHWC", "HWIO", "NHWC")),
        lax.conv_transpose(y, KERNEL[:, :, :2].transpose(0, 1, 3, 2)[:, :, :3], (2, 2), "SAME"),
        nn.max_pool(y, (2, 2), (2, 2)), nn.avg_pool(y, (3, 3), (1, 1), "SAME"),
    ), (IMAGES,)),
    "products": (lambda x: (x @ x.T, jnp.einsum("bi,bj->bij", x, x), jnp.dot(x, x[0])), (X,)),
    "fft": (lambda c: (jnp.fft.fft(c), jnp.fft.rfft(c.real), jnp.fft.irfft(c)), (C,)),
    "loops": (loops, (X,)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_jax_lowers(program: Program, name: str) -> None:
    fn, arguments = FUNCTIONS[name]
    made = jax.export.export(jax.jit(fn))(*arguments)
    # Functions of JAX are off by some 1e-6; narrow types have a tolerance of their own.
    rtol = None if name == "types" else 1e-5
    program.export(made, *arguments, rtol=rtol, atol=5e-6 if name == "functions" else None)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> Any:
        x = nn.BatchNorm(use_running_average=True)(nn.Conv(8, (3, 3), strides=2)(x))
        x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1, 8)
        x = nn.gelu(x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x)))
        steps: Any = nn.RNN(nn.LSTMCell(8))(x)
        logits = nn.log_softmax(nn.Dense(3)(steps.mean(1)))
        return {"logits": logits, "best": jnp.argmax(steps, -1)}


def test_a_network_for_any_batch(program: Program) -> None:
    net, x = Net(), RNG.standard_normal((3, 16, 16, 3)).astype(np.float32)
    variables = net.init(jax.random.key(0), x)
    structs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), variables)
    shape = jax.export.symbolic_shape("n, 16, 16, 3")

    def infer(variables: Any, image: Any) -> Any:
        return net.apply(variables, image)

    made = jax.export.export(jax.jit(infer))(structs, jax.ShapeDtypeStruct(shape, jnp.float32))
    model = exporter.export(made, params=variables)
    program.verified(model)
    assert model.inputs == {"image": "f32[n, 16, 16, 3]"}
    assert model.outputs == {"output['best']": "i32[n, 16]", "output['logits']": "f32[n, 3]"}
    assert "params['Dense_0']['kernel']" in model.weights
    assert "(Net/Dense_0)" in [node.source for node in model.graph.nodes]
    got, expected = model(x), infer(variables, x)
    np.testing.assert_allclose(got["logits"], expected["logits"], rtol=1e-5, atol=1e-5)
    # Called in a function, it takes the symbols of that one.
    called = exporter.export(lambda x: made.call(variables, 2 * x)["logits"], x, batch="batch")
    program.verified(called)
    assert called.outputs == {"output": "f32[batch, 3]"}


def test_its_own_arguments_are_those_of_the_model(program: Program) -> None:
    n, m = jax.export.symbolic_shape("n, m")

    def fn(pair: Any, *, scale: Any) -> Any:
        return pair["b"] * scale + pair["a"].sum(0), jnp.concatenate([pair["a"], pair["a"]])

    a = jax.ShapeDtypeStruct((2 * n, m), jnp.float32)
    b = jax.ShapeDtypeStruct((m,), jnp.float32)
    made = jax.export.export(jax.jit(fn))({"a": a, "b": b}, scale=jax.ShapeDtypeStruct((), "f4"))
    model = exporter.export(made)
    program.verified(model)
    assert model.inputs == {"pair['a']": "f32[2*n, m]", "pair['b']": "f32[m]", "scale": "f32[]"}
    assert model.outputs == {"output[0]": "f32[m]", "output[1]": "f32[4*n, m]"}


def test_noise_and_seeds(program: Program) -> None:
    spec, noise = OpticalSpec(adc_bits=6), NoiseModel(thermal=0.1)
    w = jnp.asarray(X)

    def fn(x: Any, key: Any) -> Any:
        first, second = jax.random.split(key)
        y = lumina_jax.optical_matmul(
            x, w.T, spec=spec, noise=noise, key=first, y_full_scale=jnp.float32(4)
        )
        return y, jax.random.key_data(jax.random.fold_in(second, 3))

    checks = [jax.export.DisabledSafetyCheck.custom_call("lumina.optical_matmul.v1")]
    made = jax.export.export(jax.jit(fn), disabled_checks=checks)(X, jax.random.key(0))
    model = exporter.export(made, X, jax.random.key(0))
    program.verified(model)
    assert "optical_matmul" in model.ops
    np.testing.assert_array_equal(model(X, jax.random.key(7))[0], fn(X, jax.random.key(7))[0])


def test_what_cannot_be_read() -> None:
    def refused(message: str, made: Any, *arguments: Any) -> None:
        with pytest.raises(ExportError, match=message):
            exporter.export(made, *arguments)

    def fn(x: Any) -> Any:
        return x * 2

    made = jax.export.export(jax.jit(fn), platforms=["tpu"])(X)
    refused("`fn` is a program of jax.export for tpu, expected cpu among them; make it with", made)

    rows = NamedSharding(Mesh(np.array(jax.devices()[:2]), "rows"), PartitionSpec(None, "rows"))
    made = jax.export.export(jax.jit(fn, in_shardings=rows))(X)
    refused("for 2 devices, expected one; make it of the function without shardings", made)

    def solved(x: Any) -> Any:
        return jnp.linalg.inv(x[:5, :5])

    made = jax.export.export(jax.jit(solved))(X)
    refused(r"program of jax.export with .*the custom call `lapack_\w+`, which is not read", made)

    def reduced(x: Any) -> Any:
        return lax.reduce(x, np.float32(1), lambda a, b: a * b + 1, (1,))

    made = jax.export.export(jax.jit(reduced))(X)
    refused("with a `stablehlo.reduce` by a function, which is not read; export the function", made)


def test_a_program_for_several_platforms(program: Program) -> None:
    made = jax.export.export(jax.jit(jnp.sin), platforms=["tpu", "cpu"])(X)
    program.export(made, X)


def test_every_operation_that_is_refused_is_named() -> None:
    def fn(x: Any) -> Any:
        return jnp.linalg.cholesky(x @ x.T), lax.rng_bit_generator(np.zeros(4, np.uint32), (3,))

    made = jax.export.export(jax.jit(fn))(X)
    with pytest.raises(ExportError) as caught:
        exporter.export(made, X)
    assert re.search(
        r"lapack_spotrf_ffi`, `stablehlo.rng_bit_generator`|rng_bit", str(caught.value)
    )
