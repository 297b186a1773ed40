"""Every rule: the graph computes what JAX computes, for a symbolic batch of two sizes."""

import inspect
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import exporter
import lumina_jax
from exported import Program
from exporter import ExportError, rules
from lumina_jax import NoiseModel, OpticalSpec

pytestmark = pytest.mark.usefixtures("numpy_promotion")

RNG = np.random.default_rng(3)
X = RNG.standard_normal((5, 6)).astype(np.float32)
P = np.abs(X) + 0.1
I = RNG.integers(-7, 8, (5, 6)).astype(np.int32)  # noqa: E741 - the integers beside X
U = RNG.integers(0, 99, (5, 6)).astype(np.uint32)
B = X > 0
C = (X + 1j * X[::-1]).astype(np.complex64)
N = np.array([[1.0, np.nan, np.inf, -np.inf, 0.0, -0.0]], np.float32).repeat(5, 0)

FUNCTIONS = {
    "abs": (lambda x, i: (abs(x), abs(i)), X, I),
    "add": (lambda *a: [b + b for b in a], X, I, U, C),
    "argmax": (lambda x: (jnp.argmax(x, 1), jnp.argmin(x, 1), jnp.argmax(x, 0)), X),
    "atan2": (lambda x: jnp.arctan2(x, x[:, ::-1]), X),
    "broadcast": (lambda x: x + x[:, :1] + x[:1] + x.mean(0)[None] + 2.0, X),
    "cast": (lambda x, i, b: (x.astype(int), *(v.astype("f4") for v in (i, b)), i.astype("i1")),
             X, I, B),
    "cbrt": (jnp.cbrt, X),
    "clamp": (lambda x: (lax.clamp(0.0, x, 1.0), jnp.clip(x, -1, 1)), X),
    "compare": (lambda x, i: [op(v, v[:, ::-1]) for v in (x, i) for op in (
        jnp.less, jnp.less_equal, jnp.greater, jnp.greater_equal, jnp.equal, jnp.not_equal)], X, I),
    "complex": (lambda c: (c * c - c, -c, c == c, abs(c), lax.complex(c.imag, c.real)), C),
    "concatenate": (lambda x: (jnp.concatenate([x, x], 0), jnp.concatenate([x, 2 * x], 1)), X),
    "convolution": (lambda x: lax.conv(x[:, None], jnp.ones((2, 1, 3)), (2,), "SAME"), X),
    "cumulative": (lambda x: (jnp.cumsum(x, 1), lax.cumsum(x, 0, reverse=True), jnp.cumprod(x, 1),
                              lax.cummax(x, 1), lax.cummin(x, 0), lax.cumlogsumexp(x, 1)), X),
    "dim_as_value": (lambda x: x.sum() / x.shape[0] + (x.shape[0] * 2 + 1), X),
    "div": (lambda x, i: (1 / x, i // 2, x / x[:, :1]), X, np.abs(I)),
    "dot_general": (lambda x: (x @ x.T, jnp.einsum("bi,bj->bij", x, x), jnp.dot(x, x[0])), X),
    "dot_integers": (lambda i: i @ i.T, I),
    "bits": (lambda x, i: (lax.bitcast_convert_type(x, jnp.int32), lax.population_count(i),
                           lax.clz(i), lax.nextafter(x, -x)), X, I),
    "complex functions": (lambda c: [f(c) for f in (
        jnp.conj, lax.exp, lax.log, lax.sqrt, lax.tanh, lax.sign, lax.asinh)], C),
    "exp": (lambda x: (jnp.exp(x), jnp.exp2(x), jnp.expm1(x)), X),
    "erf": (lambda x: (lax.erf(x), lax.erfc(x)), X),
    "erf_inv": (lambda x: lax.erf_inv(jnp.tanh(x)), X),
    "expand_dims": (lambda x: x[:, None, :] + x[:, :, None], X),
    "fft": (lambda c: (jnp.fft.fft(c), jnp.fft.irfft(c), jnp.fft.rfft(c.real)), C),
    "gamma": (lambda x: (lax.lgamma(x), lax.digamma(x)), P),
    "hyperbolic": (lambda x: (jnp.sinh(x), jnp.cosh(x), jnp.arcsinh(x), jnp.arccosh(x + 1),
                              jnp.arctanh(x / 9), lax.bessel_i0e(x), lax.bessel_i1e(x)), P),
    "integer_pow": (lambda x, i: (x**3, x**-2, i**2), P, I),
    "iota": (lambda x: (jnp.arange(x.shape[0]), lax.broadcasted_iota("f4", (2, x.shape[0]), 1)), X),
    "is_finite": (lambda x: (jnp.isfinite(x), jnp.isnan(x)), N),
    "log": (lambda x: (jnp.log(x), jnp.log1p(x), jnp.log2(x)), P),
    "logical": (lambda b, i: (b & ~b, b | b[:, ::-1], b ^ b, i & 3, i | 1, i ^ 5, ~i), B, I),
    "maximum": (lambda x, i: (jnp.maximum(x, 0), jnp.minimum(i, 0)), X, I),
    "neg": (lambda x, i: (-x, -i, jnp.sign(x), jnp.sign(i)), X, I),
    "pad": (lambda x: (jnp.pad(x, ((0, 0), (1, 2))), lax.pad(x, 0.0, ((1, 0, 1), (-1, 0, 0)))), X),
    "polynomial": (jnp.sinc, X),
    "pow": (lambda x: x ** x, P),
    "reduce": (lambda x: (x.sum(1), x.max(1), x.min(1), x.prod(1), x.sum(), x.mean(0)), X),
    "reduce_logical": (lambda b: (b.any(1), b.all(0), lax.reduce_xor(b, (1,))), B),
    "reduce_by_one_operation": (lambda i: lax.reduce(i, np.int32(3), lambda a, b: a | b, (1,)), I),
    "reduce_precision": (lambda x: [lax.reduce_precision(x, *b) for b in ((8, 23), (5, 10))], X),
    "reduce_window": (lambda x: [lax.reduce_window(x, v, f, (1, 3), (1, 2), "SAME") for v, f in (
        (0.0, lax.add), (1.0, lax.mul), (-np.inf, lax.max), (np.inf, lax.min))], X),
    "rem": (lambda x: x % 0.7, X),
    "reshape": (lambda x: (x.reshape(-1), x.reshape(-1, 2, 3), x.reshape(x.shape[0] * 2, 3),
                           (x @ x.T).reshape(-1)), X),
    "rev": (lambda x: x[:, ::-1], X),
    "round": (lambda x: (jnp.round(x * 4), lax.round(x * 4), jnp.floor(x), jnp.ceil(x)), X),
    "select": (lambda x, b: [jnp.where(p, x, 1) for p in (b, x > 0, b[0, 0])],
               X, B),
    "shift": (lambda u, i: (u << 3, u >> 2, i >> 1), U, I),
    "lines": (lambda x: (x[:, ::2], x[:, ::-2], x[:, np.array([4, 1, 1])], jnp.roll(x, 2, 1)), X),
    "slice": (lambda x: (x[:, 1:3], x[:, ::2], x[:, 2], x[:1], x[..., -1:], x[:, -2]), X),
    "sort": (lambda x: (jnp.sort(x), jnp.argsort(x, 0), lax.top_k(x, 2)), X),
    "split": (lambda x: jnp.split(x, [1, 4], axis=1), X),
    "sqrt": (lambda x: (jnp.sqrt(x), lax.rsqrt(x), jnp.square(x)), P),
    "squeeze": (lambda x: x[:, :1].squeeze(1), X),
    "stack": (lambda x: (jnp.stack([x, -x]), jnp.stack([x, -x], 2), jnp.vstack([x, x])), X),
    "sub": (lambda x, i, u: (x - 1, i - 1, u - 1), X, I, U),
    "tile": (lambda x: (jnp.tile(x, (2, 3)), jnp.tile(x, (1, 2)), jnp.repeat(x, 2, 1)), X),
    "tangent": (lambda x: jax.jvp(jnp.tanh, (x,), (x,)), X),
    "transpose": (lambda x: (x.T, x.reshape(-1, 2, 3).transpose(2, 0, 1)), X),
    "trigonometric": (lambda x: (jnp.sin(x), jnp.cos(x), jnp.tan(x), jnp.tanh(x),
                                 jnp.arcsin(x / 9), jnp.arccos(x / 9), jnp.arctan(x)), X),
    # networks
    "elu": (jax.nn.elu, X),
    "gelu_erf": (lambda x: jax.nn.gelu(x, approximate=False), X),
    "gelu_tanh": (jax.nn.gelu, X),
    "hard_tanh": (jax.nn.hard_tanh, X),
    "layer_norm": (lambda x: nn.LayerNorm().apply({"params": {"scale": P[0], "bias": X[0]}}, x), X),
    "leaky_relu": (jax.nn.leaky_relu, X),
    "log_softmax": (jax.nn.log_softmax, X),
    "norm": (lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True), X),
    "one_hot": (lambda x: jax.nn.one_hot(jnp.argmax(x, 1), 6), X),
    "relu": (jax.nn.relu, X),
    "relu6": (jax.nn.relu6, X),
    "rms_norm": (lambda x: nn.RMSNorm().apply({"params": {"scale": P[0]}}, x), X),
    "sigmoid": (jax.nn.sigmoid, X),
    "silu": (jax.nn.silu, X),
    "softmax": (jax.nn.softmax, X),
    "softplus": (jax.nn.softplus, X),
    "unstack": (lambda x: (*jnp.unstack(x, axis=1), *x[0]), X),
    "variance": (lambda x: (x.var(0), x.std(1)), X),
    "standardize": (lambda x: jax.nn.standardize(x, axis=-1), X),
}  # fmt: skip


def export(program: Program, names: Iterable[str], **options: Any) -> exporter.Model:
    """All these functions in one file; a failure names the function by its output."""

    def fn(arguments):
        return {name: FUNCTIONS[name][0](*args) for name, args in arguments.items()}

    return program.export(fn, {name: FUNCTIONS[name][1:] for name in names}, **options)


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
def test_every_rule(program: Program) -> None:
    used = set(export(program, FUNCTIONS, batch="batch").ops)
    rewritten = {
        *("gather", "dynamic_slice", "stack", "unstack", "tile", "reduce_window"),
        *("log2", "one_minus_square", "polynomial", "optical_matmul_fwd", "uncalibrated_range"),
        *("approx_top_k", "reduce"),
        "complex_optical_matmul_fwd",
        "optical_conv_fwd",
    }
    # Those with tables of their own.
    elsewhere = ("scatter", "dynamic_", "scan", "while", "cond")
    rewritten |= {name for name in rules.primitives() if name.startswith(elsewhere)}
    keys = {name for name in rules.primitives() if name.startswith("random_")}
    assert set(rules.primitives()) - used - keys == rewritten


def test_rules_without_a_symbol(program: Program) -> None:
    export(program, ["broadcast", "dim_as_value", "iota", "lines", "slice", "tile"])


@pytest.mark.skipif(not hasattr(lax, "polynomial"), reason="new in jax 0.12")
def test_a_polynomial_of_any_length_with_coefficients_that_broadcast(program: Program) -> None:
    def fn(x, i):
        return lax.polynomial(x, [x[:, :1], *range(1, 12)]), lax.polynomial(i, [3, 1, 2])

    program.export(fn, X, I, batch="batch")


@pytest.mark.skipif(
    "out_dtype" not in inspect.signature(lax.mul).parameters, reason="new in jax 0.10"
)
def test_a_product_of_another_type_is_refused() -> None:
    with pytest.raises(ExportError, match=r"`mul` .*the result is f32, expected i32"):
        exporter.export(lambda i: lax.mul(i, i, out_dtype=jnp.float32), I)


def test_broadcasts_of_broadcasts_are_one(program: Program) -> None:
    model = program.export(jax.nn.softmax, X, batch="batch", fuse=False)
    broadcasts = [node for node in model.graph.nodes if node.op == "broadcast_in_dim"]
    assert [(str(n.inputs[0]), str(n.outputs[0])) for n in broadcasts] == [
        ("f32[batch]", "f32[batch, 6]")
    ] * 2


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        x = x + nn.remat(nn.Dense)(8)(nn.LayerNorm()(nn.gelu(x)))
        x = nn.Dropout(0.5, deterministic=True)(x)
        return nn.log_softmax(nn.Dense(3)(jnp.concatenate([x, nn.relu(x)], -1)))


def test_flax_network(program: Program) -> None:
    net = Mlp()
    variables = net.init(jax.random.key(0), X)
    model = program.export(net.apply, X, params=variables, batch="batch")
    assert len(model.weights) == len(jax.tree.leaves(variables))
    assert model.outputs == {"output": "f32[batch, 3]"}
    assert all("Mlp/" in n.source for n in model.graph.nodes if "dot_general" in n.op)


@pytest.mark.parametrize(
    ("fn", "args", "message"),
    [
        (lax.cummax, (C,), "`cummax` .*operand 0 is c64; of complex numbers this is not in"),
        (
            lambda x: jax.pure_callback(np.sin, jax.typeof(x), x), (X,),
            "`pure_callback` .*the file runs without Python",
        ),
    ],
    ids=[
        "complex", "callback",
    ],
)  # fmt: skip
def test_errors(fn, args, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        exporter.export(fn, *args)


def test_training_is_exported_as_inference(program: Program) -> None:
    spec = OpticalSpec(dac_bits=6, weight_bits=6, adc_bits=5)

    def fn(x: jax.Array, key: jax.Array) -> tuple[jax.Array, ...]:
        return lumina_jax.optical_matmul(
            x, X.T, spec=spec, y_full_scale=4.0, noise=NoiseModel(relative=0.1), key=key,
            return_pre_noise=True, return_peak=True,
        )  # fmt: skip

    key = jax.random.key(3)
    exact = {"batch": "batch", "rtol": 0.0, "atol": 0.0}
    model = program.export(fn, X, key, **exact)
    assert model.ops["optical_matmul"] == 2
    assert "optical_matmul_fwd" not in model.ops
    # What nobody reads is not there.
    for which, expected in ((0, 1), (1, 1), (2, 1)):
        model = program.export(lambda *a, i=which: fn(*a)[i], X, key, **exact)
        assert model.ops["optical_matmul"] == expected, which


def test_what_only_a_gradient_needs_is_refused() -> None:
    def loss(x: jax.Array) -> jax.Array:
        spec = OpticalSpec(adc_bits=5)
        return lumina_jax.optical_matmul(x, X.T, spec=spec, y_full_scale=4.0).sum()

    with pytest.raises(ExportError, match='its residual "signs" is for the gradient alone'):
        exporter.export(jax.grad(loss), X)
