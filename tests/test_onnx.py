"""`lumina convert`: ONNX files of standard ops, which ONNX Runtime computes as the runtime does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
import lumina_jax as lj
from exported import Program
from exporter._graph import Role
from exporter._model import Model

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parent.parent
NETWORKS = sorted((ROOT / "runtime" / "tests" / "networks").glob("*.lmn"))
RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


class Converted:
    """An ONNX file that has been checked, in ONNX Runtime."""

    def __init__(self, path: Path) -> None:
        self.model = onnx.load(path)
        onnx.checker.check_model(self.model, full_check=True)
        self.ops = {node.op_type for node in self.model.graph.node}
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    @property
    def inputs(self) -> list[str]:
        return [port.name for port in self.session.get_inputs()]

    @property
    def outputs(self) -> list[str]:
        return [port.name for port in self.session.get_outputs()]

    def __call__(self, **inputs: Any) -> dict[str, np.ndarray]:
        return dict(zip(self.outputs, self.session.run(None, inputs), strict=True))


@pytest.fixture(autouse=True)
def _plain_jax() -> Iterator[None]:
    """Models as users write them, with promotion of ranks and types."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def convert(program: Program) -> Callable[..., Converted]:
    def converted(model: Model | Path, *options: str) -> Converted:
        path = model if isinstance(model, Path) else program.verified(model)
        target = program.folder / "m.onnx"
        program.call("convert", path, "-o", target, *options)
        return Converted(target)

    return converted


def close(got: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Equal, relative to the size of what is expected."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    if expected.dtype.kind == "f":
        size = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max(size, 1e-30))
    else:
        np.testing.assert_array_equal(got, expected)


def vectors_hold(model: Model, converted: Converted) -> None:
    """What the test vectors of the first entry point say."""
    graph = model.graph
    for test in model.tests:
        ports = zip(graph.inputs, test.inputs, strict=True)
        inputs = {port.name: x for port, x in ports if port.role is not Role.NOISE_SEED}
        got = converted(**inputs)
        for port, expected in zip(graph.outputs, test.outputs, strict=True):
            close(got[port.name], expected)


def same(convert: Callable[..., Converted], fn: Any, *args: Any, **options: Any) -> Converted:
    """The file of a function, which computes what JAX does."""
    model = exporter.export(fn, *args, **options)
    converted = convert(model)
    vectors_hold(model, converted)
    return converted


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_networks(convert: Callable[..., Converted], path: Path) -> None:
    model = exporter.load(path)
    converted = convert(path)
    if not any(port.role is Role.NOISE_SEED for port in model.graph.inputs):
        vectors_hold(model, converted)
    assert {"MatMul", "Conv"} & converted.ops
    assert ("LayerNormalization" in converted.ops) == (path.stem == "gpt_fused")
    names = {tensor.name for tensor in converted.model.graph.initializer}
    assert set(model.weights) & names


SPECS = {
    "8 bits": lj.OpticalSpec(dac_bits=8, weight_bits=8, adc_bits=8),
    "4, 6 and 10 bits": lj.OpticalSpec(dac_bits=4, weight_bits=6, adc_bits=10),
    "ADC": lj.OpticalSpec(adc_bits=8),
    "DAC": lj.OpticalSpec(dac_bits=5),
    "signs": lj.OpticalSpec(dac_bits=1, weight_bits=1, adc_bits=8),
    "tiles": lj.OpticalSpec(dac_bits=8, weight_bits=8, adc_bits=8, array_rows=5),
    "none": lj.OpticalSpec(),
}


@pytest.mark.parametrize("name", SPECS)
def test_optical_products(convert: Callable[..., Converted], name: str) -> None:
    w, bias, spec = normal(12, 7), normal(7), SPECS[name]

    def fn(x: jax.Array) -> jax.Array:
        return lj.optical_matmul(x, w, spec=spec, bias=bias, y_full_scale=8.0, x_full_scale=2.5)

    converted = same(convert, fn, normal(6, 12), batch="batch")
    assert ("Round" in converted.ops) == (name != "none")


def test_ranges_that_the_op_finds(convert: Callable[..., Converted]) -> None:
    w, spec = normal(12, 7), SPECS["8 bits"]
    same(convert, lambda x: lj.optical_matmul(x, w, spec=spec, y_full_scale=8.0), normal(6, 12))


def test_noise_is_left_out(convert: Callable[..., Converted]) -> None:
    w, spec = normal(12, 7), SPECS["8 bits"]

    def fn(x: jax.Array, key: jax.Array | None, relative: float = 0.1) -> jax.Array:
        noise = lj.NoiseModel(relative=relative) if key is not None else lj.NoiseModel()
        return lj.optical_matmul(
            x, w, spec=spec, y_full_scale=8.0, x_full_scale=2.5, noise=noise, key=key
        )

    x = normal(6, 12)
    converted = convert(exporter.export(fn, x, jax.random.key(3)))
    assert converted.inputs == ["x"]
    close(converted(x=x)["output"], fn(jnp.asarray(x), None))


@pytest.mark.parametrize("rows", [None, 7])
def test_optical_convolution(convert: Callable[..., Converted], rows: int | None) -> None:
    kernel, bias = normal(3, 3, 4, 6), normal(6)
    spec = lj.OpticalSpec(dac_bits=8, weight_bits=8, adc_bits=8, array_rows=rows)

    def fn(x: jax.Array) -> jax.Array:
        return lj.optical_conv(
            x, kernel, bias, spec=spec, x_full_scale=3.0, y_full_scale=20.0, strides=(2, 1)
        )  # fmt: skip

    same(convert, fn, normal(2, 9, 8, 4), batch="batch")


@pytest.mark.parametrize("bits", [None, 8])
def test_optical_attention(convert: Callable[..., Converted], bits: int | None) -> None:
    spec = lj.OpticalSpec(dac_bits=bits, weight_bits=bits, adc_bits=bits)
    q, k, v = normal(2, 5, 4, 8), normal(2, 5, 4, 8), normal(2, 5, 4, 8)

    def fn(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return lj.optical_attention(
            q, k, v, spec=spec, causal=True, scores_full_scale=12.0, out_full_scale=3.0
        )

    same(convert, fn, q, k, v)


def test_lstm_is_a_scan(convert: Callable[..., Converted]) -> None:
    w, u, b = normal(6, 32) / 3, normal(8, 32) / 3, normal(32)

    def cell(carry: Any, x: jax.Array) -> Any:
        h, c = carry
        i, f, g, o = jnp.split(x @ w + h @ u + b, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def fn(x: jax.Array) -> Any:
        start = jnp.zeros((x.shape[0], 8)), jnp.zeros((x.shape[0], 8))
        (h, _), lines = jax.lax.scan(cell, start, jnp.swapaxes(x, 0, 1), reverse=True)
        return h, lines

    assert "Scan" in same(convert, fn, normal(3, 5, 6), batch="batch").ops


def test_loops_and_branches(convert: Callable[..., Converted]) -> None:
    w = normal(4, 4) / 2

    def fn(x: jax.Array, n: jax.Array) -> Any:
        counted = jax.lax.fori_loop(0, 5, lambda i, y: jnp.tanh(y @ w) + i, x)
        whiled = jax.lax.while_loop(lambda c: c[1] < n, lambda c: (c[0] @ w, c[1] + 1), (x, 0))
        chosen = jax.lax.switch(n, [lambda: x, lambda: counted, lambda: x - counted])
        return counted, whiled, chosen

    model = exporter.export(fn, normal(3, 4), np.int32(1), while_limit=100)
    converted = convert(model)
    assert {"Loop", "If"} <= converted.ops
    for n in (-1, 0, 1, 2, 3):
        x = normal(3, 4)
        got = list(converted(x=x, n=np.array(n, np.int32)).values())
        counted, (whiled, trips), chosen = fn(jnp.asarray(x), jnp.int32(n))
        for a, b in zip(got, (counted, whiled, trips, chosen), strict=True):
            close(a, b)


def decoder() -> Model:
    """A block of a transformer with a cache, for prompts of any length and for one token more."""
    width, heads, room, words = 16, 2, 12, 30
    params = {
        "wte": normal(words, width), "wpe": normal(room, width),
        "qkv": normal(width, 3 * width) / 4, "out": normal(width, width) / 4,
        "scale": normal(width), "bias": normal(width),
        "up": normal(width, 4 * width) / 4, "down": normal(4 * width, width) / 8,
    }  # fmt: skip
    zeros = jnp.zeros((heads, room, width // heads))
    cache = {"key": zeros, "value": zeros, "position": jnp.int32(0)}

    def norm(p: Any, x: jax.Array) -> jax.Array:
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p["scale"] + p["bias"]

    def step(p: Any, cache: Any, ids: jax.Array) -> Any:
        place, time = cache["position"], ids.shape[0]
        x = p["wte"][ids] + jax.lax.dynamic_slice(p["wpe"], (place, 0), (time, width))
        q, k, v = jnp.split(norm(p, x) @ p["qkv"], 3, axis=-1)
        q, k, v = (jnp.swapaxes(y.reshape(time, heads, -1), 0, 1) for y in (q, k, v))
        k = jax.lax.dynamic_update_slice(cache["key"], k, (0, place, 0))
        v = jax.lax.dynamic_update_slice(cache["value"], v, (0, place, 0))
        mask = jnp.arange(room)[None, :] <= place + jnp.arange(time)[:, None]
        scores = jnp.einsum("htd,hsd->hts", q, k) / np.sqrt(width // heads)
        weights = jax.nn.softmax(jnp.where(mask, scores, -1e9), axis=-1)
        mixed = jnp.swapaxes(jnp.einsum("hts,hsd->htd", weights, v), 0, 1).reshape(time, -1)
        x = x + mixed @ p["out"]
        x = x + jax.nn.gelu(norm(p, x) @ p["up"]) @ p["down"]
        return x @ p["wte"].T, {"key": k, "value": v, "position": place + time}

    (time,) = jax.export.symbolic_shape("time", constraints=[f"time <= {room}"])
    prompt = jax.ShapeDtypeStruct((time,), jnp.int32)
    functions = {"prefill": (step, prompt), "decode": (step, np.zeros(1, np.int32))}
    return exporter.export(functions, params=params, state=cache)


def test_a_decoder_keeps_its_states_outside(convert: Callable[..., Converted]) -> None:
    model = decoder()
    session = model.session()
    ids = np.array([3, 29, 0, 7], np.int32)
    states = {name: np.zeros_like(value) for name, value in session.states.items()}

    def compare(converted: Converted, entry: str, ids: np.ndarray) -> None:
        (name,) = set(converted.inputs) - set(states)
        got = converted(**{name: ids}, **states)
        close(got["output"], session.run(entry, ids))
        for state, expected in session.states.items():
            states[state] = got[f"{state}.next"]
            close(states[state], expected)

    prefill = convert(model)
    dims = prefill.model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param for dim in dims] == ["time"]
    compare(prefill, "prefill", ids)
    decode = convert(model, "--entry", "decode")
    for token in (5, 11, 2):
        compare(decode, "decode", np.array([token], np.int32))
    told = {entry.key: entry.value for entry in decode.model.metadata_props}
    assert told["lumina.entry"] == "decode"
    found = {state["input"]: state for state in json.loads(told["lumina.states"])}
    expected = {"input": "key", "output": "key.next", "initial": None}
    assert found["key"] == expected


def test_an_encoder_with_masks(convert: Callable[..., Converted]) -> None:
    width, heads = 12, 3
    table, qkv = normal(20, width), normal(width, 3 * width) / 3
    scale, bias = normal(width), normal(width)

    def fn(ids: jax.Array, mask: jax.Array) -> jax.Array:
        x = jnp.asarray(table)[ids]
        batch, time, _ = x.shape
        q, k, v = jnp.split(x @ qkv, 3, axis=-1)
        q, k, v = (y.reshape(batch, time, heads, -1) for y in (q, k, v))
        y = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None, :])
        x = x + y.reshape(batch, time, width)
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(variance + 1e-6) * scale + bias

    ids = np.array([[1, 19, 4, 0, 0], [2, 2, 7, 8, 9]], np.int32)
    same(convert, fn, ids, ids > 0, batch="batch")


CASES: Mapping[str, tuple[Any, ...]] = {
    "functions": (
        lambda x: [f(x) for f in (jnp.sin, jnp.cosh, jnp.exp2, jnp.expm1, jnp.log1p, jnp.cbrt,
                                  jax.lax.erfc, jnp.sign, jnp.isfinite, jnp.round, jnp.floor)],
        np.abs(normal(3, 4)) + np.float32(0.1),
    ),
    "powers": (lambda x: (x**0, x**1, x**2, x**3, x**-2, x**7), normal(3, 4)),
    "halves away from zero": (
        lambda x: jax.lax.round(x), np.array([-2.5, -0.5, 0.5, 1.5, 2.4], np.float32),
    ),
    "activations": (
        lambda x: (jax.nn.gelu(x), jax.nn.gelu(x, approximate=False), jax.nn.silu(x),
                   x * jax.nn.sigmoid(1.5 * x)),
        normal(3, 4),
    ),
    "integers": (
        lambda i, j: (i // j, i % j, i & j, i | j, i ^ j, ~i, jax.lax.rem(i, j), i.astype(float)),
        np.array([7, -7, 5, 12], np.int32), np.array([2, 3, -3, 5], np.int32),
    ),
    "truth": (
        lambda a, b, x: (a & b, a | b, a ^ b, ~a, jnp.where(a, b, ~b), jnp.where(a, x, -x),
                         a.any(), b.all(0)),
        np.array([True, False, True]), np.array([True, True, False]), normal(3),
    ),
    "comparisons": (
        lambda x, y: (x < y, x <= y, x > y, x >= y, x == y, x != y, jnp.maximum(x, y)),
        np.round(normal(9)), np.round(normal(9)),
    ),
    "choices": (
        lambda i, x: (jax.lax.select_n(i, x, x + 1, x * 2), jnp.clip(x, -0.5, 0.5)),
        np.array([0, 1, 2, 1], np.int32), normal(4),
    ),
    "places": (
        lambda x: (x.T, x[::-1], x[1:, ::2], x.reshape(2, -1), jnp.concatenate([x, x]),
                   jnp.split(x, 2, axis=1), jnp.pad(x, ((1, 0), (2, 3)), constant_values=7.0),
                   x[:, None], jnp.broadcast_to(x[0], (5, 4)), jnp.tile(x, 2), jnp.flip(x, 1)),
        normal(4, 4),
    ),
    "reductions": (
        lambda x: (x.sum(), x.max(0), x.min(1), x.prod((0, 2)), x.argmax(1), x.argmin(0),
                   jnp.cumsum(x, 1), jax.lax.cumsum(x, 2, reverse=True), jax.nn.softmax(x, 1)),
        normal(2, 3, 4),
    ),
    "order": (
        lambda x: (jnp.sort(x), jnp.argsort(x, axis=0), jax.lax.top_k(x, 3)), normal(5, 6),
    ),
    "products": (
        lambda x, y: (x @ y, jnp.einsum("bij,bkj->bik", x, y), jnp.einsum("bij,bik->bjk", x, x),
                      jnp.einsum("bij,bij->b", x, y), jnp.einsum("bij,ckj->bcik", x, y)),
        normal(2, 3, 3), normal(2, 3, 3),
    ),
    "a norm without a mean": (
        lambda x: x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * 1.5, normal(3, 8),
    ),
    "tables": (
        lambda i: (jnp.take(TABLE, i, axis=0, mode="clip"), TABLE[i], TABLE.at[i].get(
            mode="fill", fill_value=-1.0), jnp.take(TABLE, i, axis=1, mode="clip")),
        np.array([[0, 4], [2, 1]], np.int32),
    ),
    "parts": (
        lambda x, i: (jax.lax.dynamic_slice(x, (i, 1), (2, 2)),
                      jax.lax.dynamic_update_slice(x, x[:2, :3] + 9, (i, i))),
        normal(4, 4), np.int32(3),
    ),
}  # fmt: skip
TABLE = jnp.asarray(normal(5, 5))


@pytest.mark.parametrize("name", CASES)
def test_ops(convert: Callable[..., Converted], name: str) -> None:
    fn, *args = CASES[name]
    same(convert, fn, *args)


CODES: Mapping[str, Any] = {
    **{f"{bits} bits": bits for bits in range(1, 9)},
    "3 bits in groups": (3, 5),
    "5 bits, one scale": (lj.WeightQuantizer(method="absmax", axis=None), 5),
    "4 bits, scales by row": (lj.WeightQuantizer(method="absmax", axis=0, affine=False), 4),
    "4 bits, zero points": (lj.WeightQuantizer(method="absmax", axis=1, affine=True), 4),
    "3 bits, tables of columns": (lj.WeightQuantizer(method="lut", axis=1), 3),
    "2 bits, one table": (lj.WeightQuantizer(method="lut", axis=None), 2),
}


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("name", CODES)
def test_weights_of_codes(convert: Callable[..., Converted], name: str, transpose: bool) -> None:
    """The numbers that they stand for are in the file to the bit."""
    form = CODES[name]

    def fn(w: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.einsum("bd,nd->bn" if transpose else "bd,dn->bn", x, w)

    w, x = normal(*((6, 13) if transpose else (13, 6))), normal(3, 13)
    model = exporter.export(fn, x, params=w, weights={"params": form}, batch="batch")
    assert model.ops["dequantize"] == 1
    converted = convert(model)
    vectors_hold(model, converted)
    # One number of each sum is not zero.
    (stored,) = converted(x=np.eye(13, dtype=np.float32)).values()
    np.testing.assert_array_equal(stored.T if transpose else stored, model.weights["params"])


def test_columns_in_another_order(convert: Callable[..., Converted]) -> None:
    """Along an axis that is not the batch, whose extent is a symbol."""

    def fn(x: jax.Array, y: jax.Array) -> Any:
        order = jnp.asarray([3, 0, 4, 1])
        clipped = [jnp.take(a, order, axis=1, mode="clip") for a in (x, y)]
        return clipped, jnp.take(x, order, axis=1), jnp.take(y, order + 9, axis=1)

    same(convert, fn, normal(2, 5), normal(2, 5, 3), batch="batch")


def windows(x: jax.Array) -> list[jax.Array]:
    def pooled(initial: float, combine: Any, padding: str) -> jax.Array:
        return jax.lax.reduce_window(x, initial, combine, (1, 3, 2, 1), (1, 2, 1, 1), padding)

    return [
        pooled(-jnp.inf, jax.lax.max, "SAME"),
        pooled(jnp.inf, jax.lax.min, "VALID"),
        pooled(0.0, jax.lax.add, "SAME"),
    ]


def convolutions(x: jax.Array) -> list[jax.Array]:
    names = ("NHWC", "HWIO", "NHWC")
    kernel, grouped = jnp.asarray(KERNEL), jnp.asarray(KERNEL[:, :, :1])

    def conv(
        kernel: jax.Array, strides: tuple[int, int], padding: Any, **options: Any
    ) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=names, **options
        )

    return [
        conv(kernel, (1, 1), "SAME"),
        conv(kernel, (2, 1), "VALID", rhs_dilation=(1, 2)),
        conv(kernel, (1, 1), ((-1, 2), (0, -1))),
        conv(grouped, (1, 1), "SAME", feature_group_count=2),
        conv(kernel, (1, 1), ((1, 2), (2, 1)), lhs_dilation=(2, 2)),
        jax.nn.relu(conv(kernel, (1, 1), "SAME") + jnp.arange(4.0)),
    ]


KERNEL = normal(3, 3, 2, 4)


@pytest.mark.parametrize("fn", [windows, convolutions])
def test_windows(convert: Callable[..., Converted], fn: Any) -> None:
    same(convert, fn, normal(2, 7, 6, 2), batch="batch")


def test_extents_follow_the_inputs(convert: Callable[..., Converted]) -> None:
    def fn(x: jax.Array) -> Any:
        time = x.shape[1]
        halves = x[:, : time // 2]
        return x.reshape(-1, x.shape[2]), halves.sum(1), jnp.arange(2 * time + 1), x.mean(1)

    shape = jax.export.symbolic_shape("batch, time, 3")
    model = exporter.export(fn, jax.ShapeDtypeStruct(shape, np.float32))
    converted = convert(model)
    for x in (normal(2, 5, 3), normal(1, 8, 3)):
        got = list(converted(x=x).values())
        for a, b in zip(got, fn(jnp.asarray(x)), strict=True):
            close(a, b)


def test_names_stay(convert: Callable[..., Converted]) -> None:
    def dense(params: Any, x: jax.Array) -> dict[str, jax.Array]:
        return {"y": x @ params["kernel"] + params["bias"], "x": x}

    params = {"kernel": normal(4, 3), "bias": normal(3)}
    converted = convert(exporter.export(dense, normal(2, 4), params=params))
    assert converted.inputs == ["x"]
    assert converted.outputs == ["output['x']", "output['y']"]
    names = {tensor.name for tensor in converted.model.graph.initializer}
    assert {"kernel", "bias"} <= names
    assert any("test_onnx.py" in node.doc_string for node in converted.model.graph.node)
    x = normal(2, 4)
    close(converted(x=x)["output['x']"], x)
