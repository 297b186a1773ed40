"""Several nodes become one: the forms that libraries write, and what only looks like one."""

from __future__ import annotations

import json
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
from exporter._graph import every_node

pytestmark = pytest.mark.usefixtures("numpy_promotion")

RNG = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


X, SEQUENCE, IMAGE = normal(4, 16), normal(2, 6, 16), normal(2, 8, 8, 8)
QUERY, KEY = normal(2, 6, 4, 8), normal(2, 6, 2, 8)
W, B, GAIN = normal(16, 16), normal(16), 1 + normal(16) / 4


def module(layer: nn.Module, *args: Any, **options: Any) -> Callable[..., Any]:
    """The layer with parameters that are none of the special ones that it begins with."""
    # Whoever collects tests comes here: one compilation for each layer, and NumPy for the rest.
    variables = jax.device_get(jax.jit(layer.init)(jax.random.key(0), *args))
    moved = jax.tree.map(
        lambda leaf: jnp.asarray(leaf + 0.1 + normal(*leaf.shape) ** 2 / 10), variables
    )
    return lambda *inputs: layer.apply(moved, *inputs, **options)


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        y = nn.Conv(8, (3, 3), use_bias=False)(x)
        y = nn.relu(nn.BatchNorm(use_running_average=True)(y))
        y = nn.BatchNorm(use_running_average=True)(nn.Conv(8, (3, 3), feature_group_count=8)(y))
        return nn.relu(x + y)


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(3)(nn.gelu(nn.Dense(32)(x), approximate=False))


def two_pass(x: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5) * GAIN + B


def one_example(x: Any) -> Any:
    """As Equinox has it, of which a batch is a vmap."""
    variance = jnp.maximum(0.0, jnp.var(x))
    return GAIN * ((x - jnp.mean(x)) * lax.rsqrt(variance + 1e-5)) + B


def grouped(x: Any) -> Any:
    """As Keras has it: the groups are an axis of their own until the end."""
    y = x.reshape((*x.shape[:-1], 4, 2))
    mean, variance = y.mean((1, 2, 4), keepdims=True), y.var((1, 2, 4), keepdims=True)
    inverse = lax.rsqrt(variance + 1e-3) * GAIN[:8].reshape(1, 1, 1, 4, 2)
    return (y * inverse + (B[:8].reshape(1, 1, 1, 4, 2) - mean * inverse)).reshape(x.shape)


KERNEL = normal(5, 8, 3, 3)


def channels_first(x: Any) -> Any:
    y = lax.conv_general_dilated(x, KERNEL, (1, 1), "SAME")
    return (y - B[:5, None, None]) * GAIN[:5, None, None] + B[5:10, None, None]


def attended(mask: Any, scores: Callable[[Any], Any] = lambda s: s) -> Callable[..., Any]:
    """As transformers has it: a mask that is added to the scores."""

    def attention(x: Any) -> Any:
        q, k, v = (jnp.transpose(x.reshape(-1, 6, 4, 4), (0, 2, 1, 3)) * c for c in (1, 2, 3))
        s = scores(q @ jnp.swapaxes(k, -1, -2) / 2.0)
        s = s + jnp.where(mask, 0.0, jnp.finfo(jnp.float32).min)
        return jnp.swapaxes(jax.nn.softmax(s) @ v, 1, 2).reshape(x.shape)

    return attention


def convolved(x: Any) -> Any:
    """As Equinox has it, whose layers are of one example: an axis of extent 1 comes and goes."""
    y = lax.conv_general_dilated(x[None], KERNEL, (1, 1), "SAME")[0]
    return jax.nn.relu(y * GAIN[:5, None, None] + B[:5, None, None])


def with_head_mask(x: Any) -> Any:
    """As BERT has it: weights times an integer for each head, and a mask of which all is seen."""
    q, k, v = (x.reshape(-1, 6, 4, 4) * c for c in (1, 2, 3))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k)
    scores = jnp.where(np.ones((6, 6), bool) & CAUSAL, scores, -1e9)
    weights = jnp.einsum("bhqk,h->bhqk", jax.nn.softmax(scores), np.ones(4, np.int32))
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)


CAUSAL = np.tril(np.ones((6, 6), bool))

FORMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, int]]] = {
    "gelu": (lambda x: jax.nn.gelu(x, approximate=False), (X,), {"gelu": 1}),
    "gelu by erf": (lambda x: 0.5 * x * (1 + lax.erf(x / np.sqrt(2))), (X,), {"gelu": 1}),
    "gelu by tanh": (jax.nn.gelu, (X,), {"gelu": 1}),
    "gelu by powers": (
        lambda x: x * (0.5 + 0.5 * jnp.tanh(0.7978845608 * x * (1 + 0.044715 * x * x))),
        (X,),
        {"gelu": 1},
    ),
    "silu": (jax.nn.silu, (X,), {"silu": 1}),
    "silu by exp": (lambda x: x / (1 + jnp.exp(-x)), (X,), {"silu": 1}),
    "quick gelu": (lambda x: x * jax.nn.sigmoid(1.702 * x), (X,), {"silu": 1}),
    "softmax": (jax.nn.softmax, (X,), {"softmax": 1}),
    "softmax, other axis": (lambda x: jax.nn.softmax(x, axis=1), (SEQUENCE,), {"softmax": 1}),
    "softmax by hand": (
        lambda x: (
            jnp.exp(x - x.max(-1, keepdims=True))
            / jnp.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)
        ),
        (X,),
        {"softmax": 1},
    ),
    "softmax without maximum": (
        lambda x: jnp.exp(x) * (1 / jnp.exp(x).sum(0, keepdims=True)),
        (W,),
        {"softmax": 1},
    ),
    "layer norm": (module(nn.LayerNorm(), X), (X,), {"normalization": 1}),
    "layer norm, slow": (
        module(nn.LayerNorm(use_fast_variance=False), X),
        (X,),
        {"normalization": 1},
    ),
    "layer norm, bare": (
        module(nn.LayerNorm(use_scale=False, use_bias=False), X),
        (X,),
        {"normalization": 1},
    ),
    "layer norm, scaled": (module(nn.LayerNorm(use_bias=False), X), (X,), {"normalization": 1}),
    "layer norm, two passes": (two_pass, (SEQUENCE,), {"normalization": 1}),
    "layer norm, one example": (jax.vmap(one_example), (X,), {"normalization": 1}),
    "RMS norm": (module(nn.RMSNorm(), SEQUENCE), (SEQUENCE,), {"normalization": 1}),
    "RMS norm, T5": (
        lambda x: GAIN * (x / jnp.sqrt(jnp.power(x, 2).mean(-1, keepdims=True) + 1e-6)),
        (SEQUENCE,),
        {"normalization": 1},
    ),
    "group norm": (module(nn.GroupNorm(4), IMAGE), (IMAGE,), {"normalization": 1}),
    "group norm, Keras": (grouped, (IMAGE,), {"normalization": 1}),
    "instance norm": (module(nn.InstanceNorm(), IMAGE), (IMAGE,), {"normalization": 1}),
    "batch norm and residual": (
        module(Residual(), IMAGE),
        (IMAGE,),
        {"broadcast_in_dim": 2, "fused_conv_general_dilated": 2},
    ),
    "batch norm, channels first": (
        channels_first,
        (IMAGE,),
        {"broadcast_in_dim": 1, "fused_conv_general_dilated": 1},
    ),
    "batch norm after a product": (
        lambda x: jax.nn.relu((x @ W - B) * GAIN),
        (X,),
        {"broadcast_in_dim": 1, "fused_dot_general": 1},
    ),
    "convolution of one example": (
        jax.vmap(convolved),
        (IMAGE,),
        {"fused_conv_general_dilated": 1},
    ),
    "product of one example": (
        jax.vmap(lambda x: jax.nn.relu(W @ x + B)),
        (X,),
        {"broadcast_in_dim": 1, "fused_dot_general": 1},
    ),
    "MLP": (module(Mlp(), X), (X,), {"broadcast_in_dim": 2, "fused_dot_general": 2}),
    "product and silu": (lambda x: jax.nn.silu(x @ W), (X,), {"fused_dot_general": 1}),
    "product and number": (
        lambda x: jax.nn.sigmoid(x @ W + 0.5),
        (X,),
        {"broadcast_in_dim": 1, "fused_dot_general": 1},
    ),
    "attention, Linen": (
        module(nn.MultiHeadDotProductAttention(num_heads=4), SEQUENCE),
        (SEQUENCE,),
        {"attention": 1, "fused_dot_general": 4},
    ),
    "attention, Linen, causal": (
        module(nn.SelfAttention(num_heads=4), SEQUENCE, mask=CAUSAL[None, None]),
        (SEQUENCE,),
        {"attention": 1, "fused_dot_general": 4},
    ),
    "attention, jax.nn": (
        lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=True),
        (QUERY, QUERY, QUERY),
        {"attention": 1},
    ),
    "attention, groups of heads": (
        lambda q, k, v: jax.nn.dot_product_attention(q, k, v),
        (QUERY, KEY, KEY),
        {"attention": 1},
    ),
    "attention, with a bias": (
        lambda q, k, v, b: jax.nn.dot_product_attention(q, k, v, bias=b),
        (QUERY, QUERY, QUERY, normal(2, 4, 6, 6)),
        {"attention": 1},
    ),
    "attention, BERT": (with_head_mask, (SEQUENCE,), {"attention": 1}),
    "attention, transformers": (attended(CAUSAL), (SEQUENCE,), {"attention": 1}),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_becomes_one_node(name: str, program: Program) -> None:
    fn, args, expected = FORMS[name]
    model = program.export(fn, *args, batch="batch")
    plain = exporter.export(fn, *args, batch="batch", fuse=False)
    assert model.ops == {**model.ops, **expected}
    made = {node.op for node in model.graph.nodes if node.fused}
    assert made - {"reshape", "transpose"} == {*expected} - {"broadcast_in_dim"}
    assert sum(model.ops.values()) < sum(plain.ops.values())
    assert not any(node.fused for node in plain.graph.nodes)
    longer = [np.concatenate([x, 0.5 * x[::-1], x]) for x in args]
    for inputs in (args, longer):
        got, want = model(*inputs), plain(*inputs)
        # Sums in another order: a few roundings of numbers as large as the largest.
        atol = 4e-6 * max(1.0, float(np.abs(want).max()))
        np.testing.assert_allclose(got, want, rtol=0, atol=atol)


def other_rows(x: Any) -> Any:
    e = jnp.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)[::-1]


def used_twice(x: Any) -> Any:
    e = jnp.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True), e


def outside_the_root(x: Any) -> Any:
    return (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + 1e-5)


def added_twice(x: Any) -> Any:
    variance = x.var(-1, keepdims=True)
    return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(variance + 0.1) + variance


def weights_too(x: Any) -> Any:
    p = jax.nn.softmax(x @ jnp.swapaxes(x, -1, -2))
    return p @ x, p


def product_too(x: Any) -> Any:
    y = x @ W
    return jax.nn.relu(y + B), y


def pair(x: Any) -> Any:
    """One kernel for two products, of which one is scaled."""
    kernel = jnp.asarray(W)
    return (x @ kernel) * GAIN + B, (x + 1) @ kernel


NEIGHBORS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], set[str]]] = {
    "softmax, sums of other rows": (other_rows, (X,), {"softmax"}),
    "softmax, exponentials are wanted too": (used_twice, (X,), {"softmax"}),
    "softmax, of two axes": (lambda x: jax.nn.softmax(x, axis=(1, 2)), (SEQUENCE,), {"softmax"}),
    "softmax, one more": (
        lambda x: jnp.exp(x) / (1 + jnp.exp(x).sum(-1, keepdims=True)),
        (X,),
        {"softmax"},
    ),
    "gelu, other constant": (
        lambda x: 0.5 * x * (1 + jnp.tanh(0.8 * (x + 0.044715 * x**3))),
        (X,),
        {"gelu", "silu"},
    ),
    "gelu, of another value": (
        lambda x: 0.5 * x * (1 + lax.erf((x + B) / np.sqrt(2))),
        (X,),
        {"gelu"},
    ),
    "silu, slopes of each column": (
        lambda x: x * jax.nn.sigmoid(GAIN * x),
        (X,),
        {"silu"},
    ),
    "silu, gate of another value": (lambda x: x * jax.nn.sigmoid(x @ W), (X,), {"silu"}),
    "norm, epsilon outside of the root": (outside_the_root, (X,), {"normalization"}),
    "norm, the variance is wanted too": (added_twice, (X,), {"normalization"}),
    "norm, mean along another axis": (
        lambda x: (x - x.mean(0, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5),
        (W,),
        {"normalization"},
    ),
    "norm, of one less": (
        lambda x: (
            (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True, ddof=1) + 1e-5)
        ),
        (X,),
        {"normalization"},
    ),
    "attention, weights are wanted too": (weights_too, (SEQUENCE,), {"attention"}),
    "attention, capped scores": (
        attended(CAUSAL, lambda s: 5 * jnp.tanh(s / 5)),
        (SEQUENCE,),
        {"attention"},
    ),
    "attention, scaled behind the mask": (
        attended(CAUSAL, lambda s: (s + CAUSAL) * 2),
        (SEQUENCE,),
        {"attention"},
    ),
    "product, wanted too": (product_too, (X,), {"fused_dot_general"}),
    "product, of integers": (
        lambda x: jnp.maximum(x @ np.ones((16, 3), np.int32) + 1, 0),
        (np.ones((4, 16), np.int32),),
        {"fused_dot_general"},
    ),
    "product, largest is not 0": (lambda x: jnp.maximum(x @ W, 0.1), (X,), {"fused_dot_general"}),
}


@pytest.mark.parametrize("name", NEIGHBORS)
def test_what_only_looks_like_one_is_left(name: str, program: Program) -> None:
    fn, args, wrong = NEIGHBORS[name]
    assert wrong.isdisjoint(program.export(fn, *args, batch="batch").ops)


def test_a_kernel_of_two_products_is_not_scaled(program: Program) -> None:
    model = program.export(pair, X, batch="batch")
    assert len([w for w in model.graph.tensors if w.data.shape == (16, 16)]) == 1


def test_what_is_special_stays_special(program: Program) -> None:
    """Rows of infinities, and queries that see nothing."""
    inf, nan = np.inf, np.nan
    rows = np.array([[-inf, 0, 1], [-inf, -inf, -inf], [inf, 0, 1], [nan, 0, 1]], np.float32)
    got = program.export(jax.nn.softmax, np.zeros((4, 3), np.float32))(rows)
    np.testing.assert_allclose(got, jax.nn.softmax(rows), rtol=1e-6)
    mask = CAUSAL & (np.arange(6) != 2)[:, None]
    fn = attended(mask)
    model = program.export(fn, SEQUENCE)
    assert model.ops["attention"] == 1
    np.testing.assert_allclose(model(SEQUENCE), fn(SEQUENCE), atol=1e-5)


def test_nodes_of_loops_and_branches(program: Program) -> None:
    kernel, layer = normal(3, 3, 8, 8) / 8, module(nn.LayerNorm(), IMAGE)
    steps = normal(3, 8)

    def body(carry: Any, x: Any) -> tuple[Any, Any]:
        y = lax.conv_general_dilated(
            carry, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        y = jax.nn.relu(y * GAIN[:8] + x)
        return layer(y), jax.nn.softmax(y)

    def fn(x: Any) -> Any:
        last, rows = lax.scan(body, x, steps)
        return lax.cond(last.sum() > 0, jax.nn.gelu, jax.nn.silu, last), rows

    model = program.export(fn, IMAGE, batch="batch")
    counted = ("fused_conv_general_dilated", "normalization", "softmax", "gelu", "silu")
    assert [model.ops.get(op, 0) for op in counted] == [1] * 5
    plain = exporter.export(fn, IMAGE, batch="batch", fuse=False)
    for got, want in zip(model(IMAGE), plain(IMAGE), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_equal_layers_share_what_is_stored_and_a_fused_one_has_its_own() -> None:
    """Scaled weights have no name: they are no parameter."""
    kernel = {"kernel": W, "scale": GAIN, "other": B}

    def fn(params: Any, x: Any) -> Any:
        return (x @ params["kernel"]) * params["scale"] + params["other"]

    model = exporter.export(fn, X, params=kernel)
    assert model.weights == {}
    assert sorted(exporter.export(fn, X, params=kernel, fuse=False).weights) == [
        "kernel",
        "other",
        "scale",
    ]


@pytest.mark.parametrize("uniform", [1.5, 0.0])
def test_a_norm_that_is_alike_for_all_channels(uniform: float, program: Program) -> None:
    """As networks have it that were never trained."""

    def fn(x: Any) -> Any:
        y = lax.conv_general_dilated(x, KERNEL, (1, 1), "SAME")
        return jax.nn.relu(y * np.full((5, 1, 1), uniform, np.float32) - 2)

    model = program.export(fn, IMAGE, batch="batch")
    assert model.ops == {"broadcast_in_dim": 1, "fused_conv_general_dilated": 1}


def test_entry_points_share_what_is_scaled() -> None:
    def fn(params: Any, x: Any) -> Any:
        return jax.nn.relu((x @ params["kernel"]) * params["scale"])

    params = {"kernel": W, "scale": GAIN}
    model = exporter.export({"many": (fn, X), "one": (fn, X[:1])}, params=params)
    assert model.ops == {"broadcast_in_dim": 2, "fused_dot_general": 2}
    assert model.weight_bytes == W.nbytes + B.nbytes


def test_a_state_is_left_as_it_is(program: Program) -> None:
    """What becomes the next state is read by more than the nodes that it is fused with."""

    def fn(state: Any, x: Any) -> Any:
        y = state @ W + x
        return jax.nn.relu(y), y

    model = exporter.export(fn, X, state=np.zeros((4, 16), np.float32))
    program.verified(model)
    assert (model.ops["fused_dot_general"], model.ops["max"]) == (1, 1)


def test_who_looks_at_a_file_sees_what_became_what(program: Program) -> None:
    fn = module(Mlp(), X)
    model = program.export(fn, X, batch="batch")
    first = next(node for node in every_node(model.graph.nodes) if node.fused)
    assert len(first.fused) >= 2
    assert all(" at " in text for text in first.fused)
    assert any("dot_general" in text and "Mlp/Dense" in text for text in first.fused)
    assert "fused   fused_dot_general x2" in repr(model)
    assert "fused" not in repr(exporter.export(fn, X, fuse=False))
    path = program.folder / "m.lmn"
    shown = program.call("inspect", path)
    for text in first.fused:
        assert f"\n    from {text}\n" in shown
    nodes = json.loads(program.call("inspect", path, "--json"))["nodes"]
    assert [tuple(node["fused"]) for node in nodes] == [n.fused for n in model.graph.nodes]


@pytest.mark.parametrize(
    "name", ["layer norm", "gelu by tanh", "softmax", "attention, transformers"]
)
def test_one_node_is_at_least_as_accurate(name: str) -> None:
    """Against float64, over many examples: the root of the mean of squares, and a tenth more."""
    fn, args, _ = FORMS[name]
    many = [np.concatenate([normal(*x.shape) * 2 for _ in range(40)]) for x in args]
    exact = exporter.export(fn, *args, batch="batch", fuse=False)
    with jax.enable_x64(True):
        want = np.asarray(fn(*(x.astype(np.float64) for x in many)))
    fused = exporter.export(fn, *args, batch="batch")

    def error(model: exporter.Model) -> float:
        return float(np.sqrt(np.mean((model(*many) - want) ** 2)))

    assert error(fused) <= 1.1 * error(exact)
