"""The attention layers beside those of Flax: parameters, masks, dropout, caches and ranges."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

import exporter
from flax_layers import linen, nnx
from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec
from lumina_jax.hardware.crosstalk import NearestNeighbor

B, T, F = 2, 6, 8
X = jax.random.normal(jax.random.key(0), (B, T, F))
Y = jax.random.normal(jax.random.key(1), (B, 9, F))
SIZES: dict[str, Any] = {"num_heads": 2, "qkv_features": 12, "out_features": 5}
SPEC = OpticalSpec(dac_bits=8, weight_bits=8, adc_bits=8)
KEY = jax.random.key(3)
NAME = "OpticalMultiHeadDotProductAttention"


def close(got: Any, want: Any) -> None:
    scale = float(np.abs(np.asarray(want)).max())
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * scale)


def of_linen(**options: Any) -> linen.OpticalMultiHeadDotProductAttention:
    return linen.OpticalMultiHeadDotProductAttention(**{**SIZES, **options})


def of_nnx(**options: Any) -> nnx.OpticalMultiHeadDotProductAttention:
    given = {**SIZES, "in_features": F, "rngs": flax_nnx.Rngs(0), **options}
    return nnx.OpticalMultiHeadDotProductAttention(**given)


def same_tree(got: Any, want: Any) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize("options", [{}, {"normalize_qk": True, "use_bias": False}], ids=str)
def test_an_ideal_linen_layer_is_that_of_flax(options: Any) -> None:
    theirs = nn.MultiHeadDotProductAttention(**SIZES, **options)
    ours = of_linen(profile=None, **options)
    variables = theirs.init(jax.random.key(1), X)
    same_tree(ours.init(jax.random.key(1), X), variables)
    causal = nn.make_causal_mask(X[..., 0], dtype=bool)
    lengths = jnp.array([6, 2])
    padding = jnp.broadcast_to(
        jnp.arange(T).reshape(1, 1, 1, T) < lengths[:, None, None, None], (B, 1, T, T)
    )
    random = jax.random.bernoulli(KEY, 0.5, (B, 2, T, 9)).at[..., 0].set(True)
    pairs: list[tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
        ((X,), {}, {}),
        ((X, Y), {}, {}),
        ((X, Y, -Y), {"mask": random}, {"mask": random}),
        ((X,), {"mask": causal}, {"is_causal": True}),
        ((X,), {"mask": causal}, {"mask": causal}),
        ((X,), {"mask": padding}, {"lengths": lengths}),
        ((X,), {"mask": causal & padding}, {"is_causal": True, "mask": padding}),
        ((X,), {"mask": causal & padding}, {"is_causal": True, "lengths": lengths}),
    ]

    @jax.jit
    def program(variables: Any) -> Any:
        return [
            (ours.apply(variables, *inputs, **our), theirs.apply(variables, *inputs, **their))
            for inputs, their, our in pairs
        ]

    for got, want in program(variables):
        close(got, want)


@pytest.mark.parametrize("options", [{}, {"normalize_qk": True, "num_kv_heads": 1}], ids=str)
def test_an_ideal_nnx_layer_is_that_of_flax(options: Any) -> None:
    given = {**SIZES, "in_features": F, "in_kv_features": 7, "decode": False, **options}
    theirs = flax_nnx.MultiHeadAttention(**given, rngs=flax_nnx.Rngs(0))
    ours = of_nnx(profile=None, **{**given, "rngs": flax_nnx.Rngs(0)})
    params = flax_nnx.state(theirs, flax_nnx.Param)
    same_tree(*(flax_nnx.to_pure_dict(flax_nnx.state(m, flax_nnx.Param)) for m in (ours, theirs)))
    flax_nnx.update(ours, params)
    flax_nnx.update(theirs, flax_nnx.state(ours, flax_nnx.Param))
    inputs = X, Y[..., :7]
    mask = jax.random.bernoulli(KEY, 0.5, (B, 2, T, 9)).at[..., 0].set(True)
    for arguments in ({}, {"mask": mask}, {"mask": jnp.ones_like(mask), "is_causal": True}):
        close(ours(*inputs, **arguments), theirs(*inputs, **arguments))


def test_dropout_is_that_of_flax() -> None:
    for broadcast in (True, False):
        options = {"dropout_rate": 0.5, "broadcast_dropout": broadcast, "deterministic": False}
        theirs = nn.MultiHeadDotProductAttention(**SIZES, **options)
        ours = of_linen(profile=None, **options)
        variables = ours.init({"params": KEY, "dropout": KEY}, X)
        got, want = (m.apply(variables, X, rngs={"dropout": KEY}) for m in (ours, theirs))
        close(got, want)
        close(
            ours.apply(variables, X, dropout_rng=KEY), theirs.apply(variables, X, dropout_rng=KEY)
        )
        quiet = ours.apply(variables, X, deterministic=True)
        assert np.abs(quiet - got).max() > 0.1
    layer = of_nnx(profile=None, dropout_rate=0.5, rngs=flax_nnx.Rngs(0, dropout=1))
    assert np.abs(layer(X) - layer(X)).max() > 0.1
    np.testing.assert_array_equal(layer(X, rngs=KEY), layer(X, rngs=KEY))
    np.testing.assert_array_equal(*[layer(X, deterministic=True)] * 2)


def test_a_mask_is_what_causal_and_lengths_say() -> None:
    layer = of_linen(spec=SPEC, noise=NoiseModel())
    variables = layer.init(jax.random.key(1), X)
    lengths = jnp.array([5, 2])
    mask = nn.make_causal_mask(X[..., 0], dtype=bool)
    mask = mask & (jnp.arange(T).reshape(1, 1, 1, T) < lengths[:, None, None, None])

    @jax.jit
    def program(variables: Any) -> Any:
        def both(observe: bool, **arguments: Any) -> Any:
            rngs = {"noise": KEY}
            if observe:
                return layer.apply(variables, X, rngs=rngs, mutable=["ranges"], **arguments)
            return layer.apply(variables, X, deterministic=True, **arguments)

        options = [{"mask": mask}, {"is_causal": True, "lengths": lengths}]
        return [[both(observe, **o) for o in options] for observe in (True, False)]

    for a, b in program(variables):
        # Probabilities differ by roundings, which may tip one over the middle of two levels.
        for got, want in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            assert np.mean(np.abs(got - want) > 1e-5 * np.abs(want).max()) < 0.1
            np.testing.assert_allclose(got, want, rtol=0, atol=0.02 * np.abs(want).max())


def calibrated(family: str, **options: Any) -> Any:
    """A layer whose ranges are there, and its call without noise."""
    if family == "linen":
        layer = of_linen(spec=SPEC, **options)
        variables = layer.init(jax.random.key(1), X)
        variables.pop("cache", None)
        _, ranges = layer.apply(
            variables, X, is_causal=True, rngs={"noise": KEY}, mutable=["ranges"]
        )
        return layer, {**variables, **ranges}
    layer = of_nnx(spec=SPEC, **options)
    layer(X, is_causal=True, rngs=KEY, decode=False)
    layer.set_attributes(deterministic=True, use_running_average=True)
    return layer, None


@pytest.mark.parametrize("normalize", [False, True])
def test_a_cache_gives_the_bits_of_the_whole_sequence(normalize: bool) -> None:
    layer, variables = calibrated("linen", normalize_qk=normalize)
    whole = layer.apply(variables, X, is_causal=True, deterministic=True)
    cached = layer.clone(decode=True)
    empty = cached.init(jax.random.key(1), jnp.ones((B, T + 3, F)))["cache"]
    assert jax.tree.map(jnp.shape, empty) == {
        "cached_key": (B, T + 3, 2, 6), "cached_value": (B, T + 3, 2, 6), "cache_index": (),
    }  # fmt: skip
    empty = jax.tree.map(lambda v: jnp.where(v == 0, jnp.nan, v) if v.ndim else v, empty)

    @jax.jit
    def decoded(variables: Any, cache: Any) -> Any:
        def step(cache: Any, x: jax.Array) -> Any:
            y, changed = cached.apply(
                {**variables, "cache": cache}, x[:, None], deterministic=True, mutable=["cache"]
            )
            return changed["cache"], y[:, 0]

        return jax.lax.scan(step, cache, X.swapaxes(0, 1))

    cache, tokens = decoded(variables, empty)
    np.testing.assert_array_equal(tokens.swapaxes(0, 1), whole)
    assert cache["cache_index"] == T
    with pytest.raises(ValueError, match=f"^{NAME}: with a cache of shape .* one token at a time"):
        cached.apply({**variables, "cache": cache}, X, deterministic=True, mutable=["cache"])


def test_an_nnx_cache_gives_the_bits_of_the_whole_sequence() -> None:
    layer, _ = calibrated("nnx", num_kv_heads=1)
    whole = layer(X, is_causal=True)
    layer.set_attributes(decode=True)
    with pytest.raises(ValueError, match=f"^{NAME}: there is no cache, expected a call of"):
        layer(X[:, :1])
    layer.init_cache((B, T + 3, F))
    assert layer.cached_key.shape == (B, T + 3, 1, 6)
    tokens = [layer(X[:, t : t + 1]) for t in range(T)]
    np.testing.assert_array_equal(jnp.concatenate(tokens, 1), whole)
    with pytest.raises(ValueError, match=f"^{NAME}: with a cache of shape .* one token at a time"):
        layer(X)


@pytest.mark.parametrize("family", ["linen", "nnx"])
def test_gradients_reach_every_parameter(family: str) -> None:
    options: dict[str, Any] = {"ranges": "learn", "normalize_qk": True}
    layer, variables = calibrated(family, **options)
    target = jax.random.normal(jax.random.key(5), (B, T, 5))
    if family == "linen":

        def loss(params: Any) -> jax.Array:
            y = layer.apply({**variables, "params": params}, X, is_causal=True, rngs={"noise": KEY})
            return jnp.mean((y - target) ** 2)

        gradient = jax.jit(jax.grad(loss))(variables["params"])
    else:
        graph, params, rest = flax_nnx.split(layer, flax_nnx.Param, ...)

        def loss(params: Any) -> jax.Array:
            model = flax_nnx.merge(graph, params, rest)
            y = model(X, is_causal=True, deterministic=False, rngs=KEY)
            return jnp.mean((y - target) ** 2)

        gradient = flax_nnx.to_pure_dict(jax.jit(jax.grad(loss))(params))
    names = {jax.tree_util.keystr(p, simple=True): v
             for p, v in jax.tree_util.tree_leaves_with_path(gradient)}  # fmt: skip
    for name in ("scores_log_gain", "out_log_gain", "q_log_gain", "k_log_gain", "v_log_gain"):
        assert name in names
    for name, value in names.items():
        assert np.isfinite(value).all(), name
        # A score that all keys of a query share adds nothing.
        assert np.abs(value).max() > 0 or "key.bias" in name, name


@pytest.mark.parametrize("family", ["linen", "nnx"])
def test_the_runtime_gives_the_same_bits(family: str, tmp_path: Path, lumina: Path) -> None:
    layer, variables = calibrated(family)
    if family == "linen":
        model = exporter.export(
            lambda x: layer.apply(variables, x, is_causal=True, deterministic=True), X,
            batch="b", rtol=0.0, atol=0.0,
        )  # fmt: skip
    else:
        model = exporter.export(
            lambda x: layer(x, is_causal=True), X, batch="b", rtol=0.0, atol=0.0
        )
    assert "optical_attention" in model.ops
    path = model.save(tmp_path / "attention.lmn")
    done = subprocess.run([lumina, "verify", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_refused() -> None:
    crossed = HardwareProfile(crosstalk=NearestNeighbor(channels=4, coupling=0.1))
    uneven = "`qkv_features` is 12, expected a multiple of `num_heads`, 5"
    crosstalk = "`profile` has crosstalk, which is known of weights alone"
    kv_heads = "`num_kv_heads` is 4, expected a number that divides `num_heads`, 6"
    for text, options in ((uneven, {"num_heads": 5}), (crosstalk, {"profile": crossed})):
        with pytest.raises(ValueError, match=f"^{NAME}: {text}"):
            of_linen(**options).init(KEY, X)
        with pytest.raises(ValueError, match=f"^{NAME}: {text}"):
            of_nnx(**options)
    with pytest.raises(ValueError, match=f"^{NAME}: {kv_heads}"):
        of_nnx(num_heads=6, num_kv_heads=4)
    layer = of_linen(profile=None)
    with pytest.raises(ValueError, match=f"^{NAME}: `inputs_v` is given and `inputs_k` is not"):
        layer.init(KEY, X, inputs_v=X)
    with pytest.raises(ValueError, match=rf"^{NAME}: `x` has shape \(8,\), expected \[..., length"):
        layer.init(KEY, X[0, 0])
