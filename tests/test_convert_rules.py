"""Which layers become optical: rules, reports, and models of every make."""

from __future__ import annotations

import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lumina_jax import (
    ConversionRule,
    HardwareProfile,
    NoiseModel,
    OpticalSpec,
    calibrate,
    convert,
)
from lumina_jax.hardware.crosstalk import NearestNeighbor

KEY = jax.random.key(0)
SPEC = OpticalSpec(dac_bits=6, weight_bits=6, adc_bits=8)
CHIP = ConversionRule(profile=None, spec=SPEC, noise=NoiseModel(relative=0.1))
X = jax.random.normal(jax.random.key(3), (4, 6))
PASSED_ON = {
    "variable_axes": {"params": 0, "ranges": 0},
    "split_rngs": {"params": True, "noise": True},
}
ALONE = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}


COMPLEX: Any = {"dtype": jnp.complex64, "param_dtype": jnp.complex64}


JITTED = nn.jit(nn.Dense)


class Block(nn.Module):
    """A shortcut around a layer, fit for `nn.scan`."""

    @nn.compact
    def __call__(self, x: jax.Array, _: None = None) -> tuple[jax.Array, None]:
        return x + nn.Dense(6)(x), None


class Mixed(nn.Module):
    """Layers in `setup`, shared, in compact methods and behind methods of other names."""

    def setup(self) -> None:
        self.shared = nn.Dense(6)
        self.blocks = [Block() for _ in range(2)]

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x, _ = block(self.shared(x))
        return self.decode(x)

    def encode(self, x: jax.Array) -> jax.Array:
        return self.shared(x)

    @nn.compact
    def decode(self, x: jax.Array) -> jax.Array:
        return nn.Dense(3, name="head")(x)


def optical(model: Any) -> dict[str, str | None]:
    """Class of each layer by its path; None where it is digital."""
    return {layer.path: layer.optical for layer in model.report.layers}


def reason(model: Any, path: str) -> str:
    return next(layer.reason for layer in model.report.layers if layer.path == path)


def applied(model: nn.Module, variables: Any, *args: Any, **options: Any) -> Any:
    """Output and ranges under noise."""
    return model.apply(variables, *args, rngs={"noise": KEY}, mutable=["ranges"], **options)


def test_the_first_rule_that_matches_the_whole_path_decides() -> None:
    rules = [
        ConversionRule("head", digital=True),
        ConversionRule(r"blocks_\d/.*", profile=None, spec=OpticalSpec(adc_bits=3)),
        ConversionRule("sha.*", profile=None),
    ]
    model = convert(Mixed(), rules)
    variables = model.init(KEY, X)
    assert [(x.path, x.optical, x.rule, x.reason) for x in model.report.layers] == [
        ("shared", "OpticalDense", 2, ""),
        ("blocks_0/Dense_0", "OpticalDense", 1, ""),
        ("blocks_1/Dense_0", "OpticalDense", 1, ""),
        ("head", None, 0, "its rule says so"),
    ]
    assert set(variables["ranges"]) == {"blocks_0", "blocks_1"}
    assert set(variables["ranges"]["blocks_0"]["Dense_0"]) == {"y_full_scale"}
    partial = convert(Mixed(), [ConversionRule("head")])
    partial.init(KEY, X)
    assert reason(partial, "shared") == "no rule matches"


def test_a_rule_for_no_layer_is_told() -> None:
    rules = [ConversionRule(), ConversionRule("shared"), ConversionRule("block_.*")]
    taken = "^convert: rule 1, `module_path` 'shared', is the first for no layer; earlier ones take"
    none = r"rule 2, `module_path` 'block_\.\*', .*; there are shared, blocks_0/Dense_0, blocks_1"
    model = convert(Mixed(), rules)
    with pytest.warns(UserWarning, match=taken), pytest.warns(UserWarning, match=none):
        model.init(KEY, X)
    assert model.report.unmatched == (1, 2)
    with pytest.warns(UserWarning, match=r"rule 1, `module_path` 'x', .*; there are 0$"):
        convert(nnx.List([nnx.Linear(2, 2, rngs=nnx.Rngs(0))]), [CHIP, ConversionRule("x")])
    with pytest.warns(UserWarning, match="there is none that convert knows"):
        convert(nnx.List([]), CHIP)


def test_the_report_is_a_table_and_json() -> None:
    model = convert(Mixed(), [ConversionRule("head", digital=True), CHIP])
    assert str(model.report).endswith("are seen when it is initialized or applied")
    model.init(KEY, X)
    assert repr(model.report) == "ConversionReport: 3 of 4 layers are optical"
    lines = str(model.report).splitlines()
    assert lines[2].split() == ["layer", "Flax", "becomes", "rule", "because"]
    assert lines[3].split() == ["shared", "Dense", "OpticalDense", "1"]
    assert lines[6].split() == ["head", "Dense", "-", "0", "its", "rule", "says", "so"]
    content = json.loads(model.report.to_json())
    assert content["layers"][0]["path"] == "shared"
    assert content["unmatched"] == []
    assert "<td>blocks_0/Dense_0</td>" in model.report._repr_html_()


def test_linen_models_of_every_make() -> None:
    """Shared layers, other methods, functions of the model, submodules, and jit change nothing."""
    plain = Mixed()
    model = convert(plain, CHIP)
    variables = model.init(KEY, X)
    same(variables["params"], plain.init(KEY, X)["params"])
    y, ranges = applied(model, variables, X)
    np.testing.assert_array_equal(y, jax.jit(lambda v: applied(model, v, X)[0])(variables))
    assert jnp.any(y != model.apply(variables, X))
    variables = {**variables, **ranges}
    encoded = model.apply(variables, X, method="encode")
    for method in (Mixed.encode, lambda m, x: m.encode(x), lambda m, x: m.shared(x)):
        np.testing.assert_array_equal(model.apply(variables, X, method=method), encoded)
    np.testing.assert_array_equal(model.bind(variables).encode(X), encoded)
    assert jnp.any(encoded != plain.apply({"params": variables["params"]}, X, method="encode"))

    class Outer(nn.Module):
        inner: nn.Module

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return nn.Dense(6)(self.inner(nn.Dense(6)(x)))

    outer = Outer(model)
    inside = outer.init(KEY, X)
    assert inside["ranges"].keys() == {"inner"}
    # A model that is converted inside of one that is converted has rules of its own.
    both = convert(outer, ConversionRule(profile=None))
    assert both.init(KEY, X)["ranges"].keys() == {"inner"}
    assert optical(both) == {"Dense_0": "OpticalDense", "Dense_1": "OpticalDense"}
    assert "shared" in model.tabulate(KEY, X)
    assert model.clone().report is model.report


def test_a_call_without_noise_lets_ranges_follow() -> None:
    model = convert(nn.Dense(3), CHIP)
    variables = model.init(KEY, X)
    y, ranges = model.apply(variables, X, mutable=["ranges"])
    assert ranges["ranges"]["x_full_scale"] == jnp.abs(X).max()
    np.testing.assert_array_equal(y, model.apply({**variables, **ranges}, X))
    # Variables of the original do: each batch is then converted at its own range.
    np.testing.assert_array_equal(y, model.apply({"params": variables["params"]}, X))


def same(got: Any, want: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_ranges_that_cannot_follow_are_told() -> None:
    """`nn.WeightNorm` hands all variables to its layer as constants."""
    model = convert(nn.Sequential([nn.WeightNorm(nn.Dense(3, name="normed")), nn.Dense(2)]), CHIP)
    variables = model.init(KEY, X)
    _, updates = applied(model, variables, X)
    ranges = {**variables["ranges"], **updates["ranges"]}
    told = {layer.path: layer.reason for layer in model.report.layers}
    paths = dict(zip(("normed", "after"), told, strict=True))
    assert told[paths["normed"]].startswith("the lifted module around it keeps its ranges")
    assert told[paths["after"]] == ""
    full_scales = [float(leaf) for leaf in jax.tree.leaves(ranges)]
    assert sorted(scale > 0 for scale in full_scales) == [False, False, True, True]


def test_steps_of_an_rnn_draw_noise_of_their_own_and_share_ranges() -> None:
    """`nn.RNN` passes on to its cell what a plain cell has no use for."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(2)(nn.RNN(nn.GRUCell(3), name="rnn")(x))

    x = jax.random.normal(KEY, (2, 5, 4))
    net, ideal, chip = Net(), convert(Net(), ConversionRule(profile=None)), convert(Net(), CHIP)

    @jax.jit
    def runs() -> Any:
        plain, variables = net.init(KEY, x), chip.init(KEY, x)
        _, first = chip.apply(variables, x, mutable=["ranges"])
        noisy, second = chip.apply(
            {**variables, **first}, x, rngs={"noise": KEY}, mutable=["ranges"]
        )
        quiet = chip.apply({**variables, **first}, x)
        outputs = net.apply(plain, x), ideal.apply(plain, x), noisy, quiet
        return plain, variables, first, second, outputs

    plain, variables, first, second, (digital, same, noisy, quiet) = runs()
    jax.tree.map(np.testing.assert_array_equal, variables["params"], plain["params"])
    np.testing.assert_allclose(same, digital, rtol=1e-5, atol=1e-6)
    assert np.abs(noisy - quiet).max() > 1e-3
    assert len(jax.tree.leaves(second)) == 14
    ranges = jax.tree.leaves(first) + jax.tree.leaves(second)
    assert min(ranges) > 0
    assert all(" no ranges " not in str(layer) for layer in chip.report.layers)
    found = calibrate(chip, [x], variables=variables, method="mse")
    counted = {r.path: r.values for r in found.ranges}
    assert counted["GRUCell_0/ir/x_full_scale"] == x.size
    assert counted["Dense_0/x_full_scale"] == x.size * 3 // 4


def test_lifted_linen_modules() -> None:
    """What a scan passes on reaches the layers in it; what it does not is told."""

    class Stack(nn.Module):
        options: Any

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x, _ = nn.scan(Block, length=3, **self.options)(name="stack")(x, None)
            x, _ = nn.remat(Block)(name="again")(x)
            many = nn.vmap(nn.Dense, in_axes=0, out_axes=0, **self.options)
            return JITTED(6, name="jitted")(many(6, name="many")(x))

    plain, knowing = Stack(ALONE), convert(Stack(PASSED_ON), CHIP)
    variables = plain.init(KEY, X)
    # What `nn.jit` keeps of one model is not what another one runs.
    digital = plain.apply(variables, X)
    for bits in (2, 3):
        spec = OpticalSpec(weight_bits=bits)
        one = convert(plain, ConversionRule("jitted", profile=None, spec=spec))
        coarse = one.apply(variables, X)
        assert optical(one)["jitted"] == "OpticalDense"
        assert jnp.any(coarse != digital)
        np.testing.assert_array_equal(plain.apply(variables, X), digital)
    own = knowing.init(KEY, X)
    same(own["params"], variables["params"])
    _, updates = applied(knowing, own, X)
    seen = updates["ranges"]["stack"]["Dense_0"]["x_full_scale"]
    assert seen.shape == (3,)
    assert len(set(seen.tolist())) == 3
    assert updates["ranges"]["many"]["y_full_scale"].shape == (4,)
    assert set(optical(knowing).values()) == {"OpticalDense"}

    model = convert(plain, CHIP)
    own = model.init(KEY, X)
    assert own["ranges"].keys() == {"again", "jitted"}
    assert reason(model, "stack/Dense_0").startswith("no ranges reach it")
    assert reason(model, "again/Dense_0") == ""
    with pytest.raises(ValueError, match="no stream `noise` reaches 'stack/Dense_0'"):
        applied(model, own, X)
    ideal = convert(plain, ConversionRule(profile=None))
    got, want = ideal.apply(variables, X), plain.apply(variables, X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)


@pytest.mark.parametrize(
    ("layer", "x", "why"),
    [
        (nn.ConvTranspose(3, (3,)), X[None], "there is no optical transposed convolution"),
        (nn.ConvLocal(3, (3,)), X[None], "each place has a kernel of its own"),
        (nn.Conv(3, (1, 1, 1)), X[None, None, None], "expected one or two sizes"),
        (nn.Conv(3, (3,), padding=((-1, 0),)), X[None], "`padding` is ((-1, 0),), expected SAME"),
        (nn.Conv(3, (2,), padding="SAME_LOWER"), X[None], "`padding` is 'SAME_LOWER', expected"),
        (nn.Dense(3, dtype=jnp.float16), X, "computes in float16, and the device in float32"),
        (nn.Dense(3, **COMPLEX), X, "computes in complex64, and the device in float32"),
        (nn.Dense(3, dot_general=jax.lax.dot_general), X, "has a `dot_general` of its own"),
        (nn.Einsum((4, 6), "ab,ab->b", use_bias=False), X, None),
        (nn.Einsum((4, 2), "aa,ab->ab", use_bias=False), X[:, :4], "takes a diagonal along 'a'"),
        (nn.Embed(7, 6), jnp.arange(3), None),
    ],
)
def test_what_stays_digital_and_why(layer: nn.Module, x: Any, why: str | None) -> None:
    model = convert(layer, ConversionRule(profile=None))
    variables = jax.jit(layer.init)(KEY, x)
    got, want = model.apply(variables, x), layer.apply(variables, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, want)
    if why is None:
        assert all(optical(model).values())
    else:
        assert optical(model) == {"": None}
        assert why in reason(model, "")


def test_products_of_attention_have_the_rule_of_their_layer() -> None:
    x = jax.random.normal(jax.random.key(5), (2, 5, 8))
    mask = nn.make_causal_mask(x[..., 0])
    plain = nn.SelfAttention(num_heads=2)
    variables = plain.init(KEY, x)
    rules = [ConversionRule("query|key|value|out", digital=True), CHIP]
    model = convert(plain, rules)
    own = model.init(KEY, x)
    same(own["params"], variables["params"])
    signals = {f"{name}_full_scale" for name in ("q", "k", "v", "scores", "out")}
    assert own["ranges"].keys() == signals
    assert optical(model) == {
        "": "optical_attention", "query": None, "key": None, "value": None, "out": None
    }  # fmt: skip
    quiet, ranges = model.apply(own, x, mask=mask, mutable=["ranges"])
    assert all(value > 0 for value in ranges["ranges"].values())
    assert jnp.any(quiet != applied(model, own, x, mask=mask)[0])
    found = calibrate(model, [x, 2 * x], variables=own, method="mse", mask=mask)
    assert all(0 < kept.full_scale <= kept.largest for kept in found.ranges)

    def run(net: nn.Module, **options: Any) -> Any:
        drop = {"deterministic": False, "rngs": {"dropout": KEY}}
        return net.apply(variables, x, mask=mask, **options), net.apply(variables, x, **drop)

    dropping = nn.SelfAttention(num_heads=2, dropout_rate=0.5)
    ideal = convert(dropping, ConversionRule(profile=None))
    got, want = run(ideal, deterministic=True), run(dropping, deterministic=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)

    crossed = HardwareProfile(crosstalk=NearestNeighbor(channels=4, coupling=0.01))
    for layer, rule, why in [
        (plain, ConversionRule(profile=crossed), "its profile has crosstalk, which is known of"),
        (plain, ConversionRule(spec=OpticalSpec(dac_bits=1)), "its DAC of one bit has no level"),
        (nn.SelfAttention(2, attention_fn=lambda q, k, v: v), CHIP, "has an `attention_fn` of its"),
    ]:
        model = convert(layer, [rules[0], rule])
        model.init(KEY, x)
        assert reason(model, "").startswith(why)

    network = nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0))
    want = network(x, is_causal=True), network(x, mask=mask)
    convert(network, ConversionRule(profile=None))
    got = network(x, is_causal=True), network(x, mask=mask)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)
    network = convert(nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0)), CHIP)
    calibrate(network, [x])
    network.eval()
    attention: Any = network.attention_fn
    assert attention.scores_full_scale[...] > 0
    assert optical(network)[""] == "optical_attention"
    with pytest.raises(
        ValueError, match=r"^optical_attention: `sow_weights` is True, expected Fal"
    ):
        network(x, sow_weights=True)


def test_modules_that_multiply_by_themselves_are_told() -> None:
    class Own(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return x @ self.param("w", nn.initializers.ones, (6, 2))

    class Weighted(nn.Dense):
        """Calls Flax's method, which then is optical."""

        @nn.compact
        def __call__(self, inputs: jax.Array) -> jax.Array:
            return 2 * super().__call__(inputs)

    model = convert(nn.Sequential([Weighted(6), nn.LayerNorm(), Own()]), CHIP)
    model.init(KEY, X)
    assert optical(model) == {"layers_0": "OpticalDense", "layers_2": None}
    assert reason(model, "layers_2") == "multiplies by itself, if it does; parameters w"


def test_a_cell_that_joins_its_matrices_names_the_one_that_does_not() -> None:
    """Both have the same parameters, so a checkpoint of one is one of the other."""
    x, cells = X[:, None], (nn.OptimizedLSTMCell(3), nn.LSTMCell(3))
    joined, parted = (convert(nn.RNN(cell), ConversionRule(profile=None)) for cell in cells)
    variables = joined.init(KEY, x)
    assert set(optical(joined).values()) == {None}
    want = "OptimizedLSTMCell joins it with others; LSTMCell has the same parameters"
    assert reason(joined, "cell/hi") == want
    np.testing.assert_allclose(
        parted.apply(variables, x), joined.apply(variables, x), rtol=1e-5, atol=1e-6
    )
    assert set(optical(parted).values()) == {"OpticalDense"}


class NnxBlock(nnx.Module):
    """A shortcut around a layer."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.dense = nnx.Linear(6, 6, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.dense(x)


class NnxMixed(nnx.Module):
    """Layers that are shared, stacked, in lists, and of kinds that stay digital."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        @nnx.split_rngs(splits=3)
        @nnx.vmap
        def stack(rngs: nnx.Rngs) -> NnxBlock:
            return NnxBlock(rngs)

        self.first = nnx.Linear(6, 6, rngs=rngs)
        self.tied = self.first
        self.list = nnx.List(
            [NnxBlock(rngs), nnx.relu, nnx.LoRALinear(6, 6, lora_rank=2, rngs=rngs)]
        )
        self.half = nnx.Linear(6, 6, dtype=jnp.float16, rngs=rngs)
        self.own = nnx.Param(jnp.ones((6, 2)))
        self.stack = stack(rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in (self.first, self.tied, *self.list):
            x = layer(x)
        x = nnx.scan(lambda b, x: b(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(self.stack, x)
        return self.half(x).astype(jnp.float32) @ self.own[...]


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.bool_])
def test_integers_are_taken_where_flax_takes_them(dtype: Any) -> None:
    """Images of bytes go into a first layer as they are."""
    images = jnp.arange(4 * 6).reshape(4, 6).astype(dtype)
    network = nnx.Linear(6, 3, rngs=nnx.Rngs(0))
    dense, ideal = nn.Dense(3), convert(nn.Dense(3), ConversionRule(profile=None))
    variables = dense.init(KEY, X)
    with jax.numpy_dtype_promotion("standard"):
        pairs = [
            (network(images), convert(network, ConversionRule(profile=None))(images)),
            (dense.apply(variables, images), ideal.apply(variables, images)),
        ]
    for want, got in pairs:
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_nnx_models_of_every_make() -> None:
    plain, model = NnxMixed(nnx.Rngs(0)), NnxMixed(nnx.Rngs(0))
    parameter = model.first.kernel
    assert convert(model, CHIP, rngs=nnx.Rngs(noise=1)) is model
    assert model.first is model.tied
    assert model.first.kernel is parameter
    same(nnx.state(model, nnx.Param), nnx.state(plain, nnx.Param))
    assert optical(model) == {
        "": None,
        "first": "OpticalDense",
        "list/0/dense": "OpticalDense",
        "list/2": None,
        "list/2/lora": None,
        "half": None,
        "stack/dense": "OpticalDense",
    }
    assert reason(model, "") == "multiplies by itself, if it does; parameters own"
    assert reason(model, "list/2") == "is a Linear that may compute otherwise"
    assert reason(model, "half") == "computes in float16, and the device in float32"
    run = nnx.jit(lambda model, x: model(x))
    model.train()
    run(model, X)
    dense: Any = model.stack.dense
    assert len(set(dense.x_full_scale[...].tolist())) == 3
    assert dense.rngs is not None
    assert dense.rngs.count[...].tolist() == [1, 1, 1]
    assert len(set(map(str, jax.random.key_data(dense.rngs.key[...])))) == 3
    model.eval()
    np.testing.assert_array_equal(run(model, X), run(model, X))
    assert jnp.any(model(X) != plain(X))
