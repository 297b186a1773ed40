"""Bits across layers: against every combination, and against errors that are measured."""

from __future__ import annotations

import itertools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import flax_layers
import flax_layers.nnx
from lumina_jax import HardwareProfile
from lumina_jax.hardware import Converters
from lumina_jax.quantizer import (
    LayerSensitivity,
    WeightQuantizer,
    allocate_bits,
    measure_sensitivity,
)


def layers(gains: list[float], sizes: list[int], **fields: Any) -> list[LayerSensitivity]:
    pairs = zip(gains, sizes, strict=True)
    return [
        LayerSensitivity(name=f"l{i}", gain=gain, size=size, **fields)
        for i, (gain, size) in enumerate(pairs)
    ]


def brute_force(entries: list[LayerSensitivity], budget: float, unit: str, most: int = 8) -> float:
    def cost(entry: LayerSensitivity, b: int) -> float:
        return entry.size * (b if unit == "bits" else 50e-15 * 2.0**b)

    return min(
        sum(entry.loss(b) for entry, b in zip(entries, bits, strict=True))
        for bits in itertools.product(range(1, most + 1), repeat=len(entries))
        if sum(cost(e, b) for e, b in zip(entries, bits, strict=True)) <= budget * (1 + 1e-9)
    )


@settings(max_examples=150)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["bits", "energy"]), st.booleans())
def test_equals_brute_force_on_three_layers(seed: int, unit: Any, convex: bool) -> None:
    rng = np.random.default_rng(seed)
    entries = layers(
        list(10.0 ** rng.uniform(-3, 3, 3)),
        [int(v) for v in rng.integers(1, 5000, 3)],
        floor=float(rng.choice([0.0, 1e-3])),
        **({} if convex else {"distortion": tuple(rng.random(8))}),
    )
    sizes = sum(e.size for e in entries)
    share = rng.uniform(1, 8)
    budget = sizes * (share if unit == "bits" else 50e-15 * 2.0**share)
    found = allocate_bits(entries, budget=budget, unit=unit)
    assert found.loss == pytest.approx(brute_force(entries, budget, unit), rel=1e-9)
    assert found.loss == pytest.approx(sum(e.loss(found.bits[e.name]) for e in entries))
    assert found.cost <= budget * (1 + 1e-9)
    if unit == "bits":
        assert found.cost == sum(e.size * found.bits[e.name] for e in entries)


@pytest.mark.parametrize("seed", range(5))
def test_equals_brute_force_on_six_layers_of_few_bits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    entries = layers(list(rng.random(6)), [int(v) for v in rng.integers(10, 99, 6)])
    budget = 2.7 * sum(e.size for e in entries)
    found = allocate_bits(entries, budget=budget, max_bits=4)
    assert found.loss == pytest.approx(brute_force(entries, budget, "bits", most=4), rel=1e-9)


def test_reverse_water_filling() -> None:
    # At high resolution four times the gain is one bit.
    sixteen = tuple(4.0 ** -np.arange(1, 17))
    entries = layers([1.0, 4.0, 16.0, 64.0], [100] * 4, distortion=sixteen)
    found = allocate_bits(entries, budget=100 * 4 * 6.5, max_bits=16)
    assert list(found.bits.values()) == [5, 6, 7, 8]


def test_a_hundred_layers() -> None:
    rng = np.random.default_rng(0)
    entries = layers(
        list(10.0 ** rng.uniform(-4, 4, 100)), [int(v) for v in rng.integers(1000, 10**6, 100)]
    )
    budget = 4.0 * sum(e.size for e in entries)
    found = allocate_bits(entries, budget=budget)
    # No exchange of one bit between two layers helps.
    for a, b in itertools.permutations(entries, 2):
        more, fewer = found.bits[a.name] + 1, found.bits[b.name] - 1
        if more <= 8 and fewer >= 1 and found.cost + a.size - b.size <= budget:
            change = a.loss(more) - a.loss(more - 1) + b.loss(fewer) - b.loss(fewer + 1)
            assert change >= -1e-12 * found.loss


@given(st.floats(1, 8), st.floats(1, 8))
def test_a_larger_budget_is_no_worse(one: float, other: float) -> None:
    entries = layers([1.0, 0.01, 30.0], [64, 999, 300])
    size = sum(e.size for e in entries)
    small, large = sorted((one, other))
    better = allocate_bits(entries, budget=size * large)
    assert better.loss <= allocate_bits(entries, budget=size * small).loss


def test_bits_below_the_noise_floor_are_not_spent() -> None:
    quiet = allocate_bits(layers([1.0, 1.0], [10, 10]), budget=160)
    noisy = allocate_bits(layers([1.0, 1.0], [10, 10], floor=0.02), budget=160)
    assert list(quiet.bits.values()) == [8, 8]
    # 4 bits are the first below a floor of 2 %; more would not lower the loss.
    assert list(noisy.bits.values()) == [4, 4]


def test_least_and_most_bits() -> None:
    entries = layers([1.0, 1e-9], [10, 10])
    found = allocate_bits(entries, budget=120, min_bits=3, max_bits=6)
    assert list(found.bits.values()) == [6, 6]
    found = allocate_bits(entries, budget=80, min_bits=3, max_bits=6)
    assert list(found.bits.values()) == [5, 3]


def dense(params: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ params["a"]["kernel"]) @ params["b"]["kernel"]


def parameters() -> Any:
    a, b = (jax.random.normal(key, (12, 12)) / 3 for key in jax.random.split(jax.random.key(0)))
    return {"a": {"kernel": a, "bias": jnp.zeros(12)}, "b": {"kernel": 5 * b}}


BATCHES = list(jax.random.normal(jax.random.key(1), (3, 64, 12)))


def test_sensitivity_predicts_the_error_of_the_output() -> None:
    params = parameters()
    found = measure_sensitivity(dense, params, BATCHES, probes=32)
    assert [layer.name for layer in found] == ["a", "b"]
    assert [layer.size for layer in found] == [144, 144]
    q = WeightQuantizer()
    for layer in found:
        kernel = params[layer.name]["kernel"]
        calibrated = q.calibrate(kernel, bits=6)
        np.testing.assert_allclose(layer.distortion[5], calibrated.mse, rtol=1e-6)
        # Errors of the same size and any sign: the mean over them is what is predicted.
        draws = jax.random.normal(jax.random.key(2), (100, 12, 12)) * jnp.sqrt(calibrated.mse)
        errors = []
        for draw in draws:
            changed = {**params, layer.name: {"kernel": kernel + draw}}
            errors += [jnp.mean((dense(changed, x) - dense(params, x)) ** 2) for x in BATCHES]
        # 100 draws of 144 values, and 32 probes of 3 batches.
        np.testing.assert_allclose(layer.loss(6), np.mean(errors), rtol=0.1)


def test_allocation_of_a_function() -> None:
    params = parameters()
    found = allocate_bits(dense, BATCHES, budget=288 * 4, params=params)
    assert found.cost <= 288 * 4
    q = WeightQuantizer()

    def error(bits: dict[str, int]) -> float:
        rounded = dict(params)
        for name, b in bits.items():
            p = q.calibrate(params[name]["kernel"], bits=b)
            rounded[name] = {"kernel": q.dequantize(q.quantize(params[name]["kernel"], p), p)}
        return float(np.mean([(dense(rounded, x) - dense(params, x)) ** 2 for x in BATCHES]))

    # What is predicted is what comes of it, to first order and for one draw of the rounding.
    assert found.loss == pytest.approx(error(found.bits), rel=0.3)
    assert error(found.bits) <= 1.05 * error({"a": 4, "b": 4})


class Network(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(flax_layers.OpticalDense(8, profile=None, name="first")(x))
        return flax_layers.OpticalDense(4, profile=None, name="second")(x)


def test_linen_model() -> None:
    variables = Network().init(jax.random.key(0), BATCHES[0])
    found = allocate_bits(Network(), BATCHES, budget=5 * 128, params=variables)
    assert set(found.bits) == {"first", "second"}
    same = allocate_bits(
        lambda v, batch: Network().apply(v, batch[0]),
        [(x, None) for x in BATCHES],
        budget=5 * 128,
        params=variables,
    )
    assert same == found


def test_linen_model_that_draws_noise() -> None:
    model = flax_layers.OpticalDense(4, profile="lumina_micro_v1")
    rngs = {"params": jax.random.key(0), "noise": jax.random.key(1)}
    variables = model.init(rngs, BATCHES[0])
    assert allocate_bits(model, BATCHES, budget=3 * 48, params=variables).bits == {"kernel": 3}


def test_nnx_model_is_left_as_it_was() -> None:
    rngs = nnx.Rngs(0, noise=1)

    class Model(nnx.Module):
        def __init__(self) -> None:
            self.first = flax_layers.nnx.OpticalDense(12, 8, rngs=rngs)
            self.second = flax_layers.nnx.OpticalDense(8, 4, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.second(nnx.relu(self.first(x)))

    model = Model()
    before = jax.tree.leaves(nnx.to_pure_dict(nnx.state(model, flax_layers.nnx.FullScale)))
    found = allocate_bits(model, BATCHES, budget=4 * 128)
    assert set(found.bits) == {"first", "second"}
    after = jax.tree.leaves(nnx.to_pure_dict(nnx.state(model, flax_layers.nnx.FullScale)))
    np.testing.assert_array_equal(before, after)


def test_a_profile_says_how_many_bits_there_are() -> None:
    layers = [LayerSensitivity(name="a", size=10, gain=1.0)]
    nano = allocate_bits(layers, budget=1000, profile="lumina_nano_v1")
    assert nano.bits == {"a": 4}
    off = HardwareProfile(converters=Converters(weight_bits=None))
    assert allocate_bits(layers, budget=1000, profile=off).bits == {"a": 16}
    assert allocate_bits(layers, budget=1000, profile=off, max_bits=6).bits == {"a": 6}


def test_select_and_batches_once_through() -> None:
    found = measure_sensitivity(
        dense, parameters(), iter(BATCHES), select=lambda name, leaf: name == "b/kernel"
    )
    assert [layer.name for layer in found] == ["b"]


ONE = layers([1.0], [10])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: allocate_bits(ONE, budget=9), ValueError, "`budget` is 9, expected at least 10"),
        (lambda: allocate_bits(ONE, budget=np.nan), ValueError, "`budget` must be finite"),
        (lambda: allocate_bits(ONE, budget=-1), ValueError, "`budget` must be at least 0, got -1"),
        (lambda: allocate_bits([], budget=9), ValueError, "`model` has no layers"),
        (lambda: allocate_bits(ONE + ONE, budget=99), ValueError, "layers of the same name"),
        (lambda: allocate_bits([3], budget=9), TypeError, "`model` holds a int, expected Layer"),
        (lambda: allocate_bits(3, budget=9), TypeError, "`params` is None for a `model` of type"),
        (lambda: allocate_bits(3, budget=9, params={}), TypeError, "`model` is int, expected"),
        (lambda: allocate_bits(ONE, budget=99, unit="J"), ValueError, "`unit` is 'J', expected"),
        (lambda: allocate_bits(ONE, budget=99, min_bits=0), ValueError, "from 1 to 16, got 0"),
        (lambda: allocate_bits(ONE, budget=99, max_bits=17), ValueError, "from 1 to 16, got 17"),
        (
            lambda: allocate_bits(ONE, budget=99, min_bits=5, max_bits=4),
            ValueError,
            "`min_bits` is 5, expected at most 4",
        ),
        (
            lambda: allocate_bits(ONE, budget=99, energy_per_step_fj=0),
            ValueError,
            "`energy_per_step_fj` must be positive, got 0",
        ),
        (
            lambda: allocate_bits(dense, budget=99, params=parameters()),
            ValueError,
            "allocate_bits: `calibration_batches` is None",
        ),
        (
            lambda: measure_sensitivity(dense, parameters(), None),
            ValueError,
            "measure_sensitivity: `calibration_batches` is None",
        ),
        (
            lambda: allocate_bits(dense, [], budget=99, params=parameters()),
            ValueError,
            "`calibration_batches` is empty",
        ),
        (
            lambda: allocate_bits(dense, BATCHES, budget=99, params={"w": jnp.zeros((2, 2))}),
            ValueError,
            "no array of `params` is a layer's weight, got w",
        ),
        (lambda: layers([-1.0], [10]), ValueError, "`gain` must be at least 0, got -1"),
        (lambda: layers([np.nan], [10]), ValueError, "`gain` must be finite, got nan"),
        (lambda: layers([1.0], [0]), ValueError, "`size` must be from 1 to"),
        (lambda: layers([1.0], [1], distortion=()), ValueError, "`distortion` has 0 entries"),
        (
            lambda: layers([1.0], [1], distortion=None),
            TypeError,
            "LayerSensitivity '.*': `distortion` is of type NoneType, expected a tuple of numbers",
        ),
        (lambda: layers([1.0], [1], distortion=0.5), TypeError, "`distortion` is of type float"),
        (lambda: layers([1.0], [1], distortion="ab"), TypeError, "`distortion` is of type str"),
        (
            lambda: layers([1.0], [1], distortion=(0.5, "a")),
            TypeError,
            "`distortion` must be a number, got 'a'",
        ),
    ],
)
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("bits", [0, -1, 17, 10**400])
def test_a_layer_has_a_loss_at_its_bits_alone(bits: int) -> None:
    with pytest.raises(ValueError, match=r"LayerSensitivity.loss: `bits` must be from 1 to 16"):
        LayerSensitivity(name="a", size=1, gain=1.0).loss(bits)


@pytest.mark.parametrize(
    ("layer", "arguments", "message"),
    [
        ({"gain": 1e300, "variance": 1e300}, {}, "`model` must have losses up to 1e+100, got inf"),
        ({"gain": 1e200}, {}, "`model` must have losses up to 1e+100, got 3.6338e+199"),
        ({}, {"unit": "energy", "energy_per_step_fj": 1e300}, "`energy_per_step_fj` must give"),
        ({}, {"unit": "energy", "energy_per_step_fj": 1e-320}, "`energy_per_step_fj` must give"),
    ],
)
def test_what_f64_does_not_add_up(layer: Any, arguments: Any, message: str) -> None:
    layers = [LayerSensitivity(**{"name": "a", "size": 1, "gain": 1.0} | layer)]
    with np.errstate(all="raise"), pytest.raises(ValueError, match=re.escape(message)):
        allocate_bits(layers, **{"budget": 1e99} | arguments)


def test_a_layer_is_named() -> None:
    with pytest.raises(TypeError, match="LayerSensitivity 3: `name` is of type int"):
        LayerSensitivity(name=3, size=1, gain=1.0)  # type: ignore[arg-type]
