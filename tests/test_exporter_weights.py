"""Weights with the bits that `export(weights=)` says: narrow floats, levels of a quantizer."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from exported import Program
from flax_layers import OpticalDense
from lumina_jax import (
    HardwareProfile,
    OpticalSpec,
    WeightQuantizer,
    crosstalk,
    optical_matmul,
)
from lumina_jax.hardware import Converters
from lumina_jax.quantizer import BitAllocation, dequantize

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


class Gpt(nn.Module):
    """A block whose embedding is that of its outputs, too."""

    @nn.compact
    def __call__(self, tokens):
        embedding = nn.Embed(97, 64)
        x = embedding(tokens)
        x = x + nn.MultiHeadDotProductAttention(num_heads=4)(nn.LayerNorm()(x))
        x = x + nn.Dense(64)(nn.gelu(nn.Dense(256)(nn.LayerNorm()(x))))
        return embedding.attend(nn.LayerNorm()(x))


TOKENS = RNG.integers(0, 97, (1, 6)).astype(np.int32)


@pytest.fixture(scope="module")
def gpt():
    net = Gpt()
    return net, net.init(jax.random.key(0), TOKENS)


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(nn.Dense(512)(x)))


def test_a_file_of_4_bits_is_small(program: Program) -> None:
    net, x = Mlp(), normal(1, 784)
    variables = net.init(jax.random.key(0), x)
    quantizer = WeightQuantizer(method="absmax", axis=1)
    model = program.export(net.apply, x, params=variables, weights={"*": (quantizer, 4)})
    whole = exporter.export(net.apply, x, params=variables)
    assert len(model.to_bytes()) <= 0.16 * len(whole.to_bytes())
    report = model.weights_report()
    kernel = next(w for w in report.weights if w.name == "params['Dense_1']['kernel']")
    assert (kernel.shape, kernel.bits, kernel.scale) == ((784, 512), 4, "column")
    assert "of the 1.6 MiB that they take as float32" in str(report)


def test_a_transformer_of_4_bits_in_groups(program: Program, gpt) -> None:
    net, variables = gpt
    model = exporter.export(net.apply, TOKENS, params=variables, weights={"*": (4, 32)})
    program.verified(model)
    whole = exporter.export(net.apply, TOKENS, params=variables)
    assert model.weight_bytes <= 0.19 * whole.weight_bytes
    # The embedding is there once, and read by rows and by columns.
    coded = [node for node in model.graph.nodes if node.op == "dequantize"]
    assert len({node.inputs[0] for node in coded}) == len(coded) - 1 == 7
    # What it computes is what JAX does with the weights of the file.
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: of_file(model, jax.tree_util.keystr(path), leaf), variables["params"]
    )
    want = net.apply({"params": params}, TOKENS)
    np.testing.assert_allclose(model(TOKENS), want, rtol=1e-4, atol=1e-4)
    assert np.abs(model(TOKENS) - net.apply(variables, TOKENS)).max() > 1e-3


def of_file(model: exporter.Model, path: str, leaf: jax.Array) -> np.ndarray:
    """The weight that the model has, in the shape and order of the parameter."""
    found = model.weights[f"params{path}"]
    is_exchanged = found.ndim == 2 and found.shape == leaf.shape[::-1] != leaf.shape
    return (found.T if is_exchanged else found).reshape(leaf.shape)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_floats(program: Program, gpt, dtype: str) -> None:
    net, variables = gpt
    model = exporter.export(net.apply, TOKENS, params=variables, weights=dtype)
    program.verified(model)
    for path in ("['Dense_0']['kernel']", "['Dense_1']['kernel']", "['Embed_0']['embedding']"):
        first, second = path[2:-2].split("']['")
        leaf = variables["params"][first][second]
        stored = of_file(model, path, leaf)
        assert str(stored.dtype) == dtype
        np.testing.assert_array_equal(stored.astype(np.float32), leaf.astype(dtype), strict=False)
    bias = model.weights["params['MultiHeadDotProductAttention_0']['query']['bias']"]
    assert bias.dtype == np.float32


PRODUCTS = {
    "leading": (lambda w, x: x @ w, (12, 5), (3, 12)),
    "trailing": (lambda w, x: x @ w.T, (5, 12), (3, 12)),
    "several leading": (lambda w, x: jnp.einsum("bhd,hdo->bo", x, w), (3, 4, 5), (2, 3, 4)),
    "several trailing": (lambda w, x: jnp.einsum("bhd,ohd->bo", x, w), (5, 3, 4), (2, 3, 4)),
    "between": (lambda w, x: jnp.einsum("bd,hdk->bhk", x, w), (3, 12, 5), (2, 12)),
    "of experts": (lambda w, x: jnp.einsum("ebd,edf->ebf", x, w), (3, 12, 5), (3, 2, 12)),
    "around": (lambda w, x: jnp.einsum("bac,ahc->bh", x, w), (3, 5, 4), (2, 3, 4)),
    "reshaped": (lambda w, x: x @ w.reshape(12, 10), (12, 2, 5), (3, 12)),
    "rows": (lambda w, x: w[jnp.asarray([2, 0])] * x[:2, :1], (5, 12), (3, 12)),
    "layers": (
        lambda w, x: jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0],
        (3, 6, 6),
        (2, 6),
    ),
    "convolution": (
        lambda w, x: jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        (3, 3, 2, 5),
        (1, 4, 4, 2),
    ),
    "convolution of OIHW": (
        lambda w, x: jax.lax.conv_general_dilated(x, w, (1, 1), "VALID"),
        (5, 2, 3, 3),
        (1, 2, 4, 4),
    ),
    "half the columns": (lambda w, x: x @ w[:, 3:], (12, 5), (3, 12)),
}


@pytest.mark.parametrize("form", [3, (4, 5), 8], ids=str)
@pytest.mark.parametrize("kind", PRODUCTS)
def test_levels_of_outputs(program: Program, kind: str, form: Any) -> None:
    fn, shape, of_x = PRODUCTS[kind]
    w, x = normal(*shape), normal(*of_x)
    model = program.export(fn, x, params=w, weights={"params": form})
    assert model.ops["dequantize"] == 1
    report = model.weights_report()
    bits = form if isinstance(form, int) else form[0]
    assert [weight.bits for weight in report.weights if weight.scale] == [bits]
    # As good as the levels that were asked for: one step of each output is far smaller.
    quantizer = WeightQuantizer(axis=0)
    step = quantizer.calibrate(w.reshape(1, -1), bits=bits).scale
    want = fn(w, x)
    error = float(jnp.abs(model(x) - want).max())
    assert 0 < error < 0.75 * float(step[0]) * 3 * w.size**0.5


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("method", ["absmax", "optimal", "lut"])
def test_any_parameters_of_a_quantizer(program: Program, axis: int | None, method: Any) -> None:
    """Whatever their axis, and whatever the product sums over."""
    w, x = normal(3, 4, 5), normal(2, 3, 4)
    quantizer = WeightQuantizer(method=method, axis=axis)
    params = quantizer.calibrate(w, bits=3)
    codes = quantizer.quantize(w, params)
    rounded = quantizer.dequantize(codes, params)
    for fn in (PRODUCTS["several leading"][0], lambda w, x: w * 2 + x.sum()):
        want = fn(rounded, x)
        for form in ((codes, params), params, (quantizer, 3)):
            model = program.export(fn, x, params=w, weights={"params": form})
            assert model.ops["dequantize"] == 1
            if "transpose" not in model.ops:
                np.testing.assert_array_equal(model.weights["params"], rounded)
            np.testing.assert_allclose(model(x), want, rtol=1e-5, atol=1e-5)


def test_groups_of_a_quantizer(program: Program) -> None:
    w, x = normal(13, 5), normal(2, 13)
    quantizer = WeightQuantizer(axis=1, group=4)
    params = quantizer.calibrate(w, bits=4)
    codes = quantizer.quantize(w, params)
    model = program.export(lambda w, x: x @ w, x, params=w, weights={"params": (codes, params)})
    (node,) = (node for node in model.graph.nodes if node.op == "dequantize")
    assert node.attrs["group"] == 4
    np.testing.assert_array_equal(model.weights["params"], quantizer.dequantize(codes, params))


@pytest.mark.parametrize("quantizer", [
    WeightQuantizer(axis=1), WeightQuantizer(), WeightQuantizer(axis=1, group=4),
    WeightQuantizer(method="lut", axis=1),
], ids=["channel", "tensor", "group", "table"])  # fmt: skip
def test_dequantize_in_the_function_is_the_node(program: Program, quantizer: Any) -> None:
    w, x = normal(13, 5), normal(2, 13)
    params = quantizer.calibrate(w, bits=4)
    codes = quantizer.quantize(w, params)

    def fn(leaves: Any, x: jax.Array) -> jax.Array:
        return x @ dequantize(leaves["codes"], leaves["params"])

    leaves = {"codes": codes, "params": params}
    model = program.export(fn, x, params=leaves)
    assert model.ops["dequantize"] == 1
    np.testing.assert_array_equal(model.weights["codes"], quantizer.dequantize(codes, params))
    inside = program.export(lambda x: x @ dequantize(codes, params), x)
    assert inside.ops["dequantize"] == 1
    assert inside.weight_bytes == model.weight_bytes


def test_dequantize_of_an_argument_is_computed(program: Program) -> None:
    quantizer = WeightQuantizer(axis=1)
    w = normal(3, 5)
    params = quantizer.calibrate(w, bits=4)
    codes = quantizer.quantize(w, params)
    model = program.export(lambda codes: dequantize(codes, params), codes)
    assert "dequantize" not in model.ops
    stacked = jnp.stack([codes, codes])
    mapped = program.export(lambda x: x * jax.vmap(lambda c: dequantize(c, params))(stacked), x3())
    want = x3() * np.asarray(dequantize(codes, params))
    np.testing.assert_allclose(mapped(x3()), want, rtol=1e-6)


def x3() -> np.ndarray:
    return np.arange(30, dtype=np.float32).reshape(2, 3, 5)


def test_weights_that_the_function_closes_over(program: Program) -> None:
    net, x = nn.Dense(5), normal(2, 12)
    variables = net.init(jax.random.key(0), x)
    model = program.export(lambda x: net.apply(variables, x), x, weights={"kernel": 4})
    assert model.ops["dequantize"] == 1
    assert list(model.weights) == ["variables['params']['kernel']", "variables['params']['bias']"]


def test_entry_points_share_codes(program: Program) -> None:
    w, x = normal(6, 6), normal(2, 6)
    entries = {"a": (lambda w, x: x @ w, x), "b": (lambda w, x: x @ w.T, x)}
    model = exporter.export(entries, params=w, weights={"params": 4})
    program.verified(model)
    assert sum(tensor.data.size for tensor in model.graphs[1].tensors) < w.size
    rounded = model.weights["params"]
    session = model.session()
    np.testing.assert_allclose(session.run("a", x), x @ rounded, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(session.run("b", x), x @ rounded.T, rtol=1e-5, atol=1e-6)


def test_bits_of_an_optical_op() -> None:
    """Fewer than those of its converter are stored; else the codes of the converter are."""
    w, x = normal(33, 5), normal(2, 33)

    def fn(w: jax.Array, x: jax.Array) -> jax.Array:
        return optical_matmul(x, w, spec=OpticalSpec(weight_bits=6, adc_bits=None))

    for bits, stored in ((3, 3), (8, 6)):
        model = exporter.export(fn, x, params=w, weights={"params": bits})
        (weight,) = (weight for weight in model.weights_report().weights if weight.scale)
        assert weight.bits == stored
        quantizer = WeightQuantizer(axis=1, group=len(w))
        rounded = quantizer.dequantize(
            *(lambda p: (quantizer.quantize(w, p), p))(quantizer.calibrate(w, bits=bits))
        )
        assert model(x).tobytes() == exporter.export(fn, x, params=rounded)(x).tobytes()
    narrow = exporter.export(fn, x, params=w, weights="bfloat16")
    assert narrow(x).tobytes() == exporter.export(fn, x, params=w)(x).tobytes()


def test_what_follows_from_a_weight_of_an_optical_op_is_folded() -> None:
    w, x = normal(8, 5), normal(2, 8)
    mixed = jnp.eye(8) + 0.1

    def fn(w: jax.Array, x: jax.Array) -> jax.Array:
        return optical_matmul(x, mixed @ w, spec=OpticalSpec(weight_bits=6, adc_bits=None))

    model = exporter.export(fn, x, params=w, weights={"params": 3})
    assert model.ops == {"dequantize": 1, "optical_matmul": 1}


def test_an_allocation_is_taken_as_it_is(gpt) -> None:
    net, variables = gpt
    bits = {"Dense_0": 3, "MultiHeadDotProductAttention_0/out": 5}
    allocation = BitAllocation(bits=bits, loss=0.0, cost=0.0, budget=0.0)
    model = exporter.export(net.apply, TOKENS, params=variables, weights=allocation)
    stored = {w.name: w.bits for w in model.weights_report().weights if w.scale}
    assert stored == {
        "params['Dense_0']['kernel']": 3,
        "params['MultiHeadDotProductAttention_0']['out']['kernel']": 5,
    }


def test_the_last_key_counts(gpt) -> None:
    net, variables = gpt
    weights = {"params/*/*/kernel": 2, "query": (3, 16), "Dense_?": "bfloat16", "Dense_1": 8}
    model = exporter.export(net.apply, TOKENS, params=variables, weights=weights)
    stored = {w.name: (w.bits, w.scale) for w in model.weights_report().weights}
    assert stored["params['MultiHeadDotProductAttention_0']['query']['kernel']"] == (
        3, "group of 16",
    )  # fmt: skip
    assert stored["params['MultiHeadDotProductAttention_0']['out']['kernel']"] == (2, "column")
    assert stored["params['Dense_0']['kernel']"] == (16, "")
    assert stored["params['Dense_1']['kernel']"] == (8, "column")
    assert stored["params['Embed_0']['embedding']"] == (32, "")


PARAMS_4, PARAMS_16 = (WeightQuantizer().calibrate(np.ones(3), bits=bits) for bits in (4, 16))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("int8", r"`weights` is 'int8', expected \"float32\", \"bfloat16\" or \"float16\""),
        (3, "`weights` is of type int, expected the name of a type"),
        ({3: 4}, "`weights` has the key 3, expected the path of a weight"),
        ({"/": 4}, "`weights` has the key '/', expected the path of a weight"),
        ({"*": 9}, r"`weights` has 9 for `\*`, expected \"float32\".* bits from 1 to 8"),
        ({"*": True}, r"`weights` has True for `\*`, expected"),
        ({"*": (4, 0)}, r"`weights` has \(4, 0\) for `\*`, expected"),
        ({"Dens_0": 4}, r"`Dens_0`, which means no weight; near are `params\['Dense_0'\]"),
        ({"Dense_0/bias": 4}, "means `params.*bias'.` alone, expected floats of two axes or more"),
        ({"bia?": 4}, "alone, which no product reads; if it is meant, give the last step"),
        ({"Dense_0": PARAMS_16}, "has 16 bits for `Dense_0`, expected at most 8"),
        (
            {"Dense_0": (WeightQuantizer(axis=7), 4)},
            r"cannot store `params.*kernel'\]`: WeightQuantizer.calibrate: `axis` is 7",
        ),
        (
            {"Dense_0": (np.zeros((3, 3), np.int8), PARAMS_4)},
            r"its codes have shape \(3, 3\), expected \(256, 64\)",
        ),
    ],
)  # fmt: skip
def test_wrong_weights_are_refused(gpt, weights: Any, said: str) -> None:
    net, variables = gpt
    with pytest.raises(exporter.ExportError, match=said):
        exporter.export(net.apply, TOKENS, params=variables, weights=weights)


def test_progress_counts_what_takes_long(
    gpt, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, variables = gpt
    weights = {"Dense_0": 4, "Dense_1": 8}

    def written(**options: Any) -> str:
        exporter.export(net.apply, TOKENS, params=variables, weights=weights, **options)
        return capsys.readouterr().err

    assert written() == written(progress=False) == ""
    monkeypatch.setattr("exporter._export._BAR_S", 0.0)
    text = written(progress=True)
    assert "export: weights: 100%" in text
    assert "2/2" in text
    assert "export: test vectors: 100%" in text
    with pytest.raises(TypeError, match="export: `progress`"):
        written(progress=2)


def test_weights_that_no_quantizer_takes_are_refused() -> None:
    w = np.full((4, 4), np.nan, np.float32)
    with pytest.raises(exporter.ExportError, match=r"cannot store `params`: .* finite"):
        exporter.export(lambda w, x: x @ w, normal(2, 4), params=w, weights={"params": 4})


def test_a_weight_that_crosstalk_mixes_is_stored_by_itself(program: Program) -> None:
    """What acts is Cᵀ times the levels of its converter: that is computed when the model loads."""
    w, x = normal(8, 5), normal(2, 8)
    chip = HardwareProfile(
        converters=Converters.all(4), crosstalk=crosstalk.RingComb(channels=8, spacing=2.0)
    )
    layer = OpticalDense(5, profile=chip, deterministic=True, use_bias=False)
    ranges = {"x_full_scale": jnp.float32(3), "y_full_scale": jnp.float32(9)}
    variables = {"params": {"kernel": w}, "ranges": ranges}
    quantizer = WeightQuantizer(method="absmax", axis=1)
    weights = {"kernel": (quantizer, 4)}
    model = program.export(layer.apply, x, params=variables, weights=weights)
    assert model.ops["dequantize"] == 1
    step = 9 / 7
    want = np.asarray(layer.apply(variables, x))
    np.testing.assert_allclose(model(x), want, atol=1.01 * step)
