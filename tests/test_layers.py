"""Laws that the layers of both families share; a new layer is an entry of `LAYERS` for each."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import pydoc
import re
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx

import lumina_jax
from flax_layers import linen, nnx

SPEC = lumina_jax.OpticalSpec(dac_bits=4, weight_bits=4, adc_bits=6)
NOISE = lumina_jax.NoiseModel(relative=0.2)
KEY = jax.random.key(3)


@dataclass(frozen=True)
class Layer:
    """One layer class."""

    kind: Any
    """The class."""
    sizes: dict[str, Any]
    """Arguments that say how large it is."""
    others: dict[str, Any] = field(default_factory=dict)
    """Arguments that it needs beside these."""
    x: jax.Array = field(default_factory=lambda: jax.random.normal(jax.random.key(7), (6, 5)))
    """An input."""
    numbers: str = "float32, bfloat16 or float16"
    """Types that it takes, as its errors say."""
    part: str = ""
    """The layer in it that takes the input; "" is itself."""
    dense: str = ""
    """The name of the class that has a kernel; "" is its own."""
    method: str = "__call__"
    """What is called with it."""
    kernel: str = "kernel"
    """The parameter that is multiplied."""

    def __str__(self) -> str:
        return f"{self.kind.__module__}.{self.kind.__name__}"

    def new(self, **options: Any) -> LinenModel | NnxModel:
        model = LinenModel if issubclass(self.kind, nn.Module) else NnxModel
        return model(self, {**self.sizes, **self.others, **options})


class LinenModel:
    """A layer with its variables."""

    def __init__(self, entry: Layer, options: dict[str, Any]) -> None:
        self.layer = entry.kind(**options)
        self.apply = functools.partial(self.layer.apply, method=entry.method)
        self.variables = self.layer.init(jax.random.key(0), entry.x, method=entry.method)

    def __call__(self, x: jax.Array, *, key: Any = None, observe: bool = False) -> jax.Array:
        rngs = {} if key is None else {"noise": key}
        if not observe:
            return self.apply(self.variables, x, rngs=rngs, deterministic=key is None)
        y, updates = self.apply(self.variables, x, rngs=rngs, mutable=["ranges"])
        self.variables = {**self.variables, **updates}
        return y

    @property
    def ranges(self) -> Any:
        return self.variables["ranges"]


class NnxModel:
    """A layer."""

    def __init__(self, entry: Layer, options: dict[str, Any]) -> None:
        self.layer = entry.kind(**options, rngs=flax_nnx.Rngs(params=0))
        self.method = getattr(self.layer, entry.method)

    def __call__(self, x: jax.Array, *, key: Any = None, observe: bool = False) -> jax.Array:
        return self.method(x, rngs=key, deterministic=key is None, use_running_average=not observe)

    @property
    def ranges(self) -> Any:
        return flax_nnx.to_pure_dict(flax_nnx.state(self.layer, nnx.FullScale))


FIELD = jax.random.normal(jax.random.key(7), (6, 5), jnp.complex64)
LAYERS = [
    Layer(linen.OpticalConv, {"features": 4}, {"kernel_size": 3}),
    Layer(linen.OpticalDense, {"features": 4}),
    Layer(linen.OpticalDenseGeneral, {"features": 4}),
    Layer(linen.OpticalEinsum, {"shape": (5, 4)}, {"einsum_str": "mk,kn->mn"}),
    Layer(nnx.OpticalConv, {"in_features": 5, "out_features": 4}, {"kernel_size": 3}),
    Layer(linen.ComplexOpticalDense, {"features": 4}, x=FIELD, numbers="complex64"),
    Layer(
        nnx.ComplexOpticalDense,
        {"in_features": 5, "out_features": 4},
        x=FIELD,
        numbers="complex64",
    ),
    Layer(
        linen.OpticalMultiHeadDotProductAttention,
        {"num_heads": 2},
        {"qkv_features": 6, "out_features": 4},
        part="query",
        dense="OpticalDenseGeneral",
    ),
    Layer(
        linen.OpticalEmbed,
        {"num_embeddings": 4, "features": 5},
        method="attend",
        kernel="embedding",
    ),
    Layer(nnx.OpticalDense, {"in_features": 5, "out_features": 4}),
    Layer(nnx.OpticalDenseGeneral, {"in_features": 5, "out_features": 4}),
    Layer(nnx.OpticalEinsum, {"kernel_shape": (5, 4)}, {"einsum_str": "mk,kn->mn"}),
    Layer(
        nnx.OpticalMultiHeadDotProductAttention,
        {"num_heads": 2, "in_features": 5},
        {"qkv_features": 6, "out_features": 4},
        part="query",
        dense="OpticalDenseGeneral",
    ),
    Layer(
        nnx.OpticalEmbed,
        {"num_embeddings": 4, "features": 5},
        method="attend",
        kernel="embedding",
    ),
]
every_layer = pytest.mark.parametrize("layer", LAYERS, ids=str)


def test_every_layer_has_its_entry() -> None:
    public = {getattr(family, name) for family in (linen, nnx) for name in family.__all__}
    assert public - {nnx.FullScale} == {layer.kind for layer in LAYERS}


@every_layer
@pytest.mark.parametrize("wrong", [0, -1, 2.0, True])
def test_sizes_are_positive_ints(layer: Layer, wrong: Any) -> None:
    for name in layer.sizes:
        message = f"^{layer.kind.__name__}: `{name}` is {wrong}, expected a positive int"
        with pytest.raises(ValueError, match=message):
            layer.new(**{name: wrong})


@every_layer
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"profile": 3},
            TypeError,
            "`profile` is of type int, expected a HardwareProfile or the name of a preset",
        ),
        ({"ranges": "guess"}, ValueError, "`ranges` is 'guess', expected 'calibrate' or 'learn'"),
        ({"momentum": 1.0}, ValueError, "`momentum` is 1.0, expected 0 <= momentum < 1"),
        ({"momentum": -0.1}, ValueError, "`momentum` is -0.1, expected 0 <= momentum < 1"),
    ],
)
def test_options_are_checked(
    layer: Layer, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{layer.kind.__name__}: {message}"):
        layer.new(**options)


@every_layer
def test_parameters_are_real_floats(layer: Layer) -> None:
    def integers(key: Any, shape: Any, dtype: Any) -> jax.Array:
        return jnp.zeros(shape, jnp.int32)

    name = layer.dense or layer.kind.__name__
    message = f"^{name}: `{layer.kernel}` is int32, expected {layer.numbers}"
    with pytest.raises(TypeError, match=message):
        layer.new(**{f"{layer.kernel}_init": integers})(layer.x)


@every_layer
def test_an_unknown_preset_lists_those_that_exist(layer: Layer) -> None:
    with pytest.raises(ValueError, match=r"lumina_pico.*lumina_micro_v1, lumina_nano_v1"):
        layer.new(profile="lumina_pico")


@every_layer
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.float32, jnp.complex64])
def test_inputs_are_of_the_numbers_of_the_layer(layer: Layer, dtype: Any) -> None:
    name = jnp.dtype(dtype).name
    if name in layer.numbers:
        return
    message = f"`x` is {name}, expected {layer.numbers}"
    if name == "complex64":
        message += r"; pass x.real or layers.detect\(x\), or use ComplexOpticalDense"
    if layer.numbers == "complex64":
        message += r"; pass x.astype\(jnp.complex64\)"
    with pytest.raises(TypeError, match=f"^{layer.kind.__name__}: {message}"):
        layer.new()(layer.x.real.astype(dtype))


@every_layer
def test_inputs_are_no_scalars(layer: Layer) -> None:
    message = r"`x` is a scalar, expected shape \[\.\.\., in_features\]"
    with pytest.raises(ValueError, match=f"^{layer.kind.__name__}: {message}"):
        layer.new()(layer.x[0, 0])


@every_layer
def test_errors_name_the_class_that_is_called(layer: Layer) -> None:
    own = type("Mine", (layer.kind,), {})
    with pytest.raises(TypeError, match=r"^Mine: `x` is int32"):
        dataclasses.replace(layer, kind=own).new()(layer.x.real.astype(jnp.int32))


@every_layer
def test_a_missing_stream_is_named(layer: Layer) -> None:
    model = layer.new()
    with pytest.raises(Exception, match="noise"):
        model.method(layer.x) if isinstance(model, NnxModel) else model.apply(
            model.variables, layer.x
        )


@every_layer
def test_the_key_alone_decides_the_noise(layer: Layer) -> None:
    model = layer.new(spec=SPEC, noise=NOISE)
    quiet, loud = model(layer.x), model(layer.x, key=KEY)
    np.testing.assert_array_equal(quiet, model(layer.x))
    np.testing.assert_array_equal(loud, model(layer.x, key=KEY))
    assert jnp.any(loud != quiet)
    assert jnp.any(loud != model(layer.x, key=jax.random.key(4)))


@every_layer
def test_ranges_follow_only_where_a_call_observes(layer: Layer) -> None:
    model, other = (layer.new(spec=SPEC, momentum=0.5) for _ in range(2))

    def of_x(ranges: Any) -> Any:
        return ranges[layer.part] if layer.part else ranges

    assert set(of_x(model.ranges)) == {"x_full_scale", "y_full_scale"}
    model(layer.x)
    model(layer.x, key=KEY)
    assert all(value == 0 for value in jax.tree.leaves(model.ranges))
    # What a batch shows is up to the layer; two that show different ranges are averaged.
    model(layer.x, key=KEY, observe=True)
    other(layer.x**3, key=KEY, observe=True)
    first, second = (of_x(shown.ranges)["x_full_scale"] for shown in (model, other))
    assert 0 < first != second > 0
    model(layer.x**3, key=KEY, observe=True)
    average = (first + second) / 2
    np.testing.assert_allclose(of_x(model.ranges)["x_full_scale"], average, rtol=1e-6)
    before = model.ranges
    model(layer.x * jnp.nan, key=KEY, observe=True)
    jax.tree.map(np.testing.assert_array_equal, model.ranges, before)


@every_layer
def test_only_converters_that_are_on_keep_a_range(layer: Layer) -> None:
    model = layer.new(profile=None, spec=lumina_jax.OpticalSpec(adc_bits=8))
    paths = jax.tree_util.tree_leaves_with_path(model.ranges)
    names = {jax.tree_util.keystr(path[-1:], simple=True) for path, _ in paths}
    of_attention = {"scores_full_scale", "out_full_scale"} if layer.part else set()
    assert names == {"y_full_scale"} | of_attention


@every_layer
def test_jit_changes_no_bit(layer: Layer) -> None:
    model = layer.new(spec=SPEC, noise=NOISE)
    np.testing.assert_array_equal(
        jax.jit(lambda x: model(x, key=KEY))(layer.x), model(layer.x, key=KEY)
    )


@every_layer
def test_derivatives_in_either_mode_and_of_either(layer: Layer) -> None:
    model, along = layer.new(spec=SPEC, noise=NOISE), jnp.cos(layer.x)

    def loss(x: jax.Array) -> jax.Array:
        y = model(x, key=KEY)
        return jnp.sum(jnp.tanh(y.real)) + jnp.sum(jnp.square(y.imag))

    def slope(x: jax.Array) -> jax.Array:
        return jax.jvp(loss, (x,), (along,))[1]

    @jax.jit
    def derivatives(x: jax.Array) -> list[jax.Array]:
        gradient, of_gradient = jax.jvp(jax.grad(loss), (x,), (along,))
        # Of complex numbers, a gradient of JAX is the conjugate of the derivatives by both parts.
        by_gradient = jnp.sum(gradient * along).real
        return [*jax.value_and_grad(slope)(x), of_gradient, by_gradient]

    first, second, of_gradient, by_gradient = derivatives(layer.x)
    np.testing.assert_allclose(first, by_gradient, rtol=1e-4)
    np.testing.assert_allclose(second, of_gradient, rtol=0, atol=1e-4 * jnp.abs(second).max())
    assert jnp.abs(second).max() > 0


@every_layer
def test_a_layer_does_no_arithmetic(layer: Layer) -> None:
    """With a device that does nothing, all that is left is the op and the conversion of shapes."""
    model = layer.new(profile=None)
    equations = jax.make_jaxpr(lambda x: model(x))(layer.x).jaxpr.eqns
    left = {e.primitive.name for e in equations} - {"jit", "pjit", "custom_jvp_call"}
    shapes = {"reshape", "broadcast_in_dim", "squeeze", "transpose", "iota", "copy_p", "copy"}
    assert left <= shapes, left


@every_layer
def test_help_shows_every_option(layer: Layer) -> None:
    text = pydoc.plain(pydoc.render_doc(layer.kind))
    for name in inspect.signature(layer.kind.__init__).parameters:
        if name not in ("self", "parent", "name"):
            assert re.search(rf"^ \|  +([\w, ]+, )?{name}(, [\w, ]+)?: ", text, re.MULTILINE), name
