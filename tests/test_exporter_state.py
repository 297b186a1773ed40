"""State that stays in a session, and several entry points in one file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from exported import Program
from flax_layers import OpticalDense, OpticalMultiHeadDotProductAttention

WIDTH, LINES = 4, 8
WEIGHT = jax.random.normal(jax.random.key(0), (WIDTH, WIDTH))
CACHE = {"lines": jnp.zeros((LINES, WIDTH)), "position": jnp.int32(0)}


def read(weight: Any, cache: Any, lines: Any) -> Any:
    place = (cache["position"], 0)
    written = jax.lax.dynamic_update_slice(cache["lines"], lines @ weight, place)
    return jnp.tanh(written).sum(0), {"lines": written, "position": place[0] + lines.shape[0]}


@pytest.fixture(scope="module")
def model() -> exporter.Model:
    (time,) = jax.export.symbolic_shape("time", constraints=[f"time <= {LINES}"])
    prompt = jax.ShapeDtypeStruct((time, WIDTH), jnp.float32)
    functions = {"prefill": (read, prompt), "decode": (read, jnp.ones((1, WIDTH)))}
    return exporter.export(functions, params=WEIGHT, state=CACHE)


def lines(count: int) -> np.ndarray:
    return np.asarray(jax.random.normal(jax.random.key(count), (count, WIDTH)))


def test_entry_points_share_weights_and_the_file_round_trips(
    model: exporter.Model, program: Program
) -> None:
    assert model.entries == ("prefill", "decode")
    assert model.states == {"lines": "f32[8, 4]", "position": "i32[]"}
    assert list(model.weights) == ["params"]
    # Zeros of the cache are not in the file.
    assert model.weight_bytes < 2 * WEIGHT.nbytes
    path = program.verified(model)
    assert exporter.load(path).entries == model.entries
    vectors = [(test.entry, test.continues) for test in model.tests]
    assert vectors[:3] == [(0, False), (1, True), (1, True)]


def test_a_prompt_at_once_is_a_prompt_line_by_line(model: exporter.Model) -> None:
    prompt = lines(6)
    at_once, one_by_one = model.session(), model.session()
    whole = at_once.run("prefill", prompt)
    for row in prompt:
        last = one_by_one.run("decode", row[None])
    # The same sums in the same order, but for products of one row and of six.
    np.testing.assert_allclose(last, whole, rtol=1e-6)
    for name, value in at_once.states.items():
        np.testing.assert_allclose(one_by_one.states[name], value, rtol=1e-6)
    expected, cache = read(WEIGHT, CACHE, prompt)
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(at_once.states["lines"], cache["lines"], rtol=1e-5, atol=1e-6)


def test_sessions_are_apart_and_begin_again(model: exporter.Model) -> None:
    one, other = model.session(), model.session()
    first = one.run("decode", lines(1))
    one.run("prefill", lines(3))
    np.testing.assert_array_equal(other.run("decode", lines(1)), first)
    saved = one.states
    one.reset()
    assert one.states["position"] == 0
    np.testing.assert_array_equal(one.run("decode", lines(1)), first)
    one.set_states(**saved)
    assert one.states["position"] == 4
    other.set_states(**saved)
    np.testing.assert_array_equal(one(lines(2)), other(lines(2)))


def test_what_does_not_fit_is_told(model: exporter.Model) -> None:
    session = model.session()
    for wrong, text in [
        (lambda: model(lines(1)), "call the session that `model.session\\(\\)` returns"),
        (
            lambda: session.run("encode", lines(1)),
            "no entry point `encode`, expected `prefill`, `dec",
        ),
        (
            lambda: session.set_states(cache=lines(1)),
            "no state `cache`; the model has `lines`, `pos",
        ),
        (
            lambda: session.set_states(lines=lines(1)),
            "state `lines` must be f32.8,4., got f32.1,4.",
        ),
        (lambda: session.set_states(position=0.5), "`position` must be i32"),
        (lambda: session.run("decode", lines(2)), "axis 0 must be 1, got 2"),
    ]:
        with pytest.raises((TypeError, ValueError), match=text):
            wrong()
    # A run that is refused before it begins changes nothing.
    assert session.states["position"] == 0


def of(result: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def step(state: Any, x: Any) -> Any:
        return result(state, x)

    return step


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (lambda s, x: x, "`.*step` returns .*, expected a tuple of the outputs and the next state"),
        (lambda s, x: (x, s, x), "returns 3 results, expected a tuple"),
        (lambda s, x: (x, {"b": s["a"]}), "takes the state `a` and returns `b`"),
        (lambda s, x: (x, {"a": s["a"][:1]}), r"`a` as float32\[2\] and returns float32\[1\]"),
        (lambda s, x: (x, {"a": s["a"] > 0}), "returns bool.2.; keep its type and its shape"),
    ],
)
def test_functions_of_other_results_are_refused(result: Any, text: str) -> None:
    with pytest.raises(exporter.ExportError, match=text):
        exporter.export(of(result), jnp.ones(2), state={"a": jnp.ones(2)})


@pytest.mark.parametrize(
    ("functions", "args", "text"),
    [
        ({"a": (jnp.tanh, 1.0)}, (jnp.ones(2),), "each has example arguments of its own"),
        ({}, (), "`fn` is empty"),
        ({"": (jnp.tanh,)}, (), "`fn` has the key '', expected the name of an entry point"),
        ({"a": jnp.tanh}, (), "for `a`, expected a tuple of a function and its example arguments"),
    ],
)
def test_wrong_entry_points_are_refused(functions: Any, args: Any, text: str) -> None:
    with pytest.raises(exporter.ExportError, match=text):
        exporter.export(functions, *args)


def test_states_begin_as_they_are_given(program: Program) -> None:
    state = {
        "same": jnp.full((3, 3), 7.0),
        "shape": jax.ShapeDtypeStruct((2,), jnp.int32),
        "each": jnp.arange(3.0),
        "flag": jnp.ones((), bool),
    }

    def step(state: Any, x: Any) -> Any:
        more = {**state, "each": state["each"] + x, "flag": ~state["flag"]}
        return state["same"] @ state["each"], more

    model = exporter.export(step, jnp.ones(3), state=state)
    program.verified(model)
    session = model.session()
    np.testing.assert_array_equal(session.states["same"], state["same"])
    np.testing.assert_array_equal(session.states["shape"], [0, 0])
    for trip in range(3):
        got = session(np.ones(3, np.float32))
        np.testing.assert_allclose(got, np.full(3, 21.0 * (1 + trip)))
        assert session.states["flag"] == bool(trip % 2)


class Decoder(nn.Module):
    """Flax's own attention with its cache, as users write it."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        attention = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=8, decode=True)
        return nn.Dense(5)(x + attention(nn.LayerNorm()(x)))


def test_a_flax_cache_is_a_state(program: Program) -> None:
    net = Decoder()
    prompt = jax.random.normal(jax.random.key(0), (2, 6, 8))
    variables = net.init(jax.random.key(1), prompt)
    params = {"params": variables["params"]}

    def step(params: Any, cache: Any, x: Any) -> Any:
        y, changed = net.apply({**params, "cache": cache}, x, mutable=["cache"])
        return y, changed["cache"]

    model = exporter.export(step, prompt[:, :1], params=params, state=variables["cache"])
    program.verified(model)
    session = model.session()
    cache = variables["cache"]
    for time in range(prompt.shape[1]):
        x = prompt[:, time : time + 1]
        expected, cache = step(params, cache, x)
        np.testing.assert_allclose(session(x), expected, rtol=1e-5, atol=1e-5)


class OpticalDecoder(nn.Module):
    decode: bool

    @nn.compact
    def __call__(self, x: jax.Array, mask: Any = None, deterministic: bool = True) -> jax.Array:
        attention = OpticalMultiHeadDotProductAttention(
            num_heads=2, qkv_features=8, decode=self.decode, profile="lumina_nano_v1"
        )
        x = x + attention(nn.LayerNorm()(x), mask=mask, deterministic=deterministic)
        return OpticalDense(5, profile="lumina_nano_v1")(x, deterministic=deterministic)


PROMPT = jax.random.normal(jax.random.key(0), (2, 6, 8))
RNGS = {"params": jax.random.key(1), "noise": jax.random.key(2)}


def calibrated() -> tuple[dict[str, Any], Any]:
    """Parameters with ranges, and the cache before the first token."""
    variables = OpticalDecoder(True).init(RNGS, PROMPT)
    trained = {name: value for name, value in variables.items() if name != "cache"}
    _, ranges = OpticalDecoder(False).apply(
        trained, PROMPT, None, False, rngs=RNGS, mutable=["ranges"]
    )
    return {**trained, **ranges}, variables["cache"]  # type: ignore[dict-item]


def test_optical_attention_with_a_cache_has_the_bits_of_training(program: Program) -> None:
    params, cache = calibrated()

    def step(params: Any, cache: Any, x: Any, key: Any) -> Any:
        rngs, mutable = {"noise": key}, ["cache", "ranges"]
        y, changed = OpticalDecoder(True).apply(
            {**params, "cache": cache}, x, None, False, rngs=rngs, mutable=mutable
        )
        return y, changed["cache"]

    model = exporter.export(step, PROMPT[:, :1], jax.random.key(0), params=params, state=cache)
    program.verified(model)
    session, run = model.session(), jax.jit(step)
    for time in range(PROMPT.shape[1]):
        x, key = PROMPT[:, time : time + 1], jax.random.key(time)
        expected, cache = run(params, cache, x, key)
        np.testing.assert_array_equal(session(x, key), expected)


def test_optical_attention_with_a_mask_takes_any_batch(program: Program) -> None:
    params, _ = calibrated()
    mask = jax.random.bernoulli(jax.random.key(3), 0.5, (2, 1, 6, 6)).at[..., 0].set(True)
    net = OpticalDecoder(False)
    model = program.export(net.apply, PROMPT, mask, params=params, batch="batch")
    x, masks = jnp.concatenate([PROMPT] * 2), jnp.concatenate([mask] * 2)
    np.testing.assert_array_equal(model(x, masks), jax.jit(net.apply)(params, x, masks))
