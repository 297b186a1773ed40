"""`NoiseModel`: its units, what they mean at an ADC, its checks, and its gradients."""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from sklearn import datasets

from flax_layers import OpticalDense
from flax_layers.nnx import OpticalDense as NnxDense
from lumina_jax import HardwareProfile, NoiseModel, OpticalSpec, nat, optical_matmul
from lumina_jax.hardware import Converters
from lumina_jax.physics import Receiver

OFF = OpticalSpec()
KEY = jax.random.key(5)
RELATIVE = NoiseModel(thermal=0.02, shot=0.03, relative=0.1, weight=0.01, unit="full_scale")


def test_a_pytree_of_four_numbers() -> None:
    noise = NoiseModel(relative=0.1, weight=jnp.float32(0.2), unit="full_scale")
    assert len(jax.tree.leaves(noise)) == 4
    doubled = jax.jit(lambda n: jax.tree.map(lambda v: -2 * v, n))(noise)
    assert isinstance(doubled, NoiseModel)
    # A gradient may be negative, and so may what JAX puts in place of the numbers.
    np.testing.assert_allclose(doubled.relative, -0.2, rtol=1e-6)
    assert doubled.shot == 0
    assert doubled.unit == "full_scale"
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(noise)]
    assert paths == [".relative", ".shot", ".thermal", ".weight"]
    with pytest.raises(TypeError, match="positional"):
        NoiseModel(0.1)  # type: ignore[misc]
    assert nat.scale_noise(noise, 0.5).unit == "full_scale"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"relative": -0.1}, ValueError, "NoiseModel: `relative` must be at least 0, got -0.1"),
        ({"relative": 15}, ValueError,
         "NoiseModel: `relative` must be at most 1, got 15; it is a fraction of y, so 15 % is "),
        ({"shot": math.nan}, ValueError, "NoiseModel: `shot` must be finite, got nan"),
        ({"thermal": math.inf}, ValueError, "NoiseModel: `thermal` must be finite, got inf"),
        ({"weight": "0.1"}, TypeError, "NoiseModel: `weight` must be a number, got '0.1'"),
        ({"relative": True}, TypeError, "NoiseModel: `relative` must be a number, got True"),
        ({"unit": "volts"}, ValueError,
         "NoiseModel: `unit` is 'volts', expected one of 'signal', 'full_scale'"),
    ],
)  # fmt: skip
def test_errors(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        NoiseModel(**options)


@given(st.floats(1e-3, 1e3), st.floats(0.0, 1e3))
def test_units(full_scale: float, y: float) -> None:
    signal = RELATIVE.to_signal(full_scale)
    assert signal.unit == "signal"

    def sigma(noise: NoiseModel, y: float) -> float:
        shot, relative = noise.shot**2 * y, noise.relative**2 * y**2
        return math.sqrt(noise.thermal**2 + shot + relative + noise.weight**2)

    # In parts of the full scale both are one law.
    assert sigma(signal, y) == pytest.approx(
        full_scale * sigma(RELATIVE, y / full_scale), rel=1e-5, abs=1e-6
    )
    back = signal.to_full_scale(full_scale)
    assert back.unit == "full_scale"
    for name in ("thermal", "shot", "relative", "weight"):
        assert float(getattr(back, name)) == pytest.approx(getattr(RELATIVE, name), rel=1e-5)
    assert RELATIVE.to_full_scale(full_scale) is RELATIVE
    assert signal.to_signal(full_scale) is signal
    # A full scale is the same part of the signal in any unit.
    assert RELATIVE.scaled(full_scale) is RELATIVE


def test_the_number_0_stays_in_all_units() -> None:
    assert NoiseModel(relative=0.1, unit="full_scale").to_signal(3.0) == NoiseModel(relative=0.1)
    with pytest.raises(
        ValueError, match=r"NoiseModel\.to_full_scale: `y_full_scale` must be above 0"
    ):
        NoiseModel().to_full_scale(0.0)


X = jax.random.normal(jax.random.key(0), (64, 8))
W = jax.random.normal(jax.random.key(1), (8, 2000))


def _expected(y: jax.Array, x: jax.Array, full_scale: Any) -> jax.Array:
    n = RELATIVE
    norm = jnp.sum(x**2, axis=-1, keepdims=True)
    full_scale = jnp.asarray(full_scale).reshape(1, -1)
    part = y / full_scale
    return full_scale * jnp.sqrt(
        n.thermal**2 + n.shot**2 * jnp.abs(part) + n.relative**2 * part**2 + n.weight**2 * norm
    )


@pytest.mark.parametrize("full_scale", [0.5, 40.0, "by column"])
def test_noise_of_the_op_is_in_parts_of_the_full_scale(full_scale: Any) -> None:
    scale = jnp.linspace(0.5, 40.0, 2000) if full_scale == "by column" else full_scale

    @jax.jit
    def draw(scale: Any) -> jax.Array:
        return optical_matmul(X, W, spec=OFF, y_full_scale=scale, noise=RELATIVE, key=KEY)

    y = X @ W
    ratio = (draw(scale) - y) / _expected(y, X, scale)
    # 128,000 normals: their standard deviation scatters by 0.2 %.
    assert float(ratio.std()) == pytest.approx(1.0, abs=0.01)
    assert float(ratio.mean()) == pytest.approx(0.0, abs=0.01)


def test_it_is_that_of_to_signal_bit_for_bit() -> None:
    spec = OpticalSpec(dac_bits=8, weight_bits=8, adc_bits=8)

    @jax.jit
    def both(noise: NoiseModel, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, z = (
            optical_matmul(X, W[:, :7], spec=spec, y_full_scale=scale, noise=n, key=KEY)
            for n in (noise, noise.to_signal(scale))
        )
        return y, z

    y, z = both(RELATIVE, jnp.float32(12.0))
    np.testing.assert_array_equal(y, z)
    mapped = jax.vmap(both, in_axes=(None, 0))(RELATIVE, jnp.float32([12.0, 30.0]))[0]
    np.testing.assert_array_equal(mapped[0], y)


def test_results_by_column() -> None:
    scale = jnp.float32([0.0, 3.0, 50.0])
    w, spec = W[:, :3], OpticalSpec(adc_bits=6)
    x = X.at[4, 2].set(jnp.nan)
    out, y, peak = optical_matmul(
        x, w, jnp.ones(3), spec=spec, y_full_scale=scale, w_full_scale=8.0, noise=RELATIVE, key=KEY,
        return_pre_noise=True, return_peak=True,
    )  # fmt: skip
    rows = np.arange(64) != 4
    np.testing.assert_allclose(y[rows], (x @ w + 1)[rows], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(peak[rows], np.abs(y[rows]).max(axis=1), rtol=1e-6)
    assert np.isnan(out[4]).all()
    assert (np.abs(out[rows]) <= np.asarray(scale) * (1 + 1e-6)).all()
    codes = np.asarray(out[rows, 1]) / 3.0 * 31
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-3)


@pytest.mark.parametrize("by_column", [False, True])
def test_the_gradient_reaches_the_full_scale_through_the_noise(by_column: bool) -> None:
    x, w = X[:16], W[:, :3]

    @jax.jit
    def loss(log_scale: jax.Array, spec: OpticalSpec) -> jax.Array:
        scale = jnp.exp(log_scale) * jnp.float32([1.0, 2.0, 3.0] if by_column else 1.0)
        y = optical_matmul(x, w, spec=spec, y_full_scale=scale, noise=RELATIVE, key=KEY)
        return jnp.mean((y - x @ w) ** 2)

    loss = jax.jit(loss.__wrapped__, static_argnums=1)
    at, step = jnp.float32(math.log(30.0)), 0.01
    difference = float(loss(at + step, OFF) - loss(at - step, OFF)) / (2 * step)
    gradient = float(jax.grad(loss)(at, OFF))
    # Central differences of an f32 mean.
    assert gradient == pytest.approx(difference, rel=5e-3)
    assert gradient > 1e-3


def test_it_needs_a_full_scale() -> None:
    message = (
        "optical_matmul: `noise` is in parts of the full scale of the ADC and needs "
        "`y_full_scale`, got None; pass that range, or noise=noise.to_signal(range)"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        optical_matmul(X, W, spec=OFF, noise=RELATIVE, key=KEY)
    # As it says.
    given = optical_matmul(X, W, spec=OFF, noise=RELATIVE, key=KEY, y_full_scale=5.0)
    resolved = optical_matmul(X, W, spec=OFF, noise=RELATIVE.to_signal(5.0), key=KEY)
    np.testing.assert_array_equal(given, resolved)


def test_a_receiver_is_matched_to_every_layer() -> None:
    receiver = Receiver(bandwidth_hz=5e9, tia_a_per_rthz=10e-12)
    noise = NoiseModel.from_receiver(receiver, power_w=1e-4)
    assert noise.unit == "full_scale"
    at = NoiseModel.from_receiver(receiver, power_w=1e-4, y_full_scale=8.0)
    assert at.unit == "signal"
    for name in ("thermal", "shot", "relative"):
        resolved = getattr(noise.to_signal(8.0), name)
        assert float(resolved) == pytest.approx(float(getattr(at, name)), rel=1e-5)


FULL_SCALE = 2.5
"""What the columns of the table read at the full scale of the ADC, V."""
THERMAL, SHOT, FRACTION = 0.012, 0.02, 0.03


def _measured() -> HardwareProfile:
    """A profile from a table of noise over signal, both in volts."""
    lines = ["signal,noise"]
    for part in np.linspace(0, 1, 21):
        sigma = math.sqrt(THERMAL**2 + SHOT**2 * part + FRACTION**2 * part**2)
        lines.append(f"{FULL_SCALE * part},{FULL_SCALE * sigma}")
    table = io.StringIO("\n".join(lines))
    converters = Converters(dac_bits=None, weight_bits=None, adc_bits=12)
    return HardwareProfile.from_measurements(table, full_scale=FULL_SCALE, converters=converters)


class _Mlp(nn.Module):
    profile: HardwareProfile
    noise: NoiseModel | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, deterministic: bool = False) -> jax.Array:
        for features in (64, 64, 10):
            layer = OpticalDense(features, profile=self.profile, noise=self.noise)
            y = layer(x, deterministic=deterministic)
            self.sow("signals", "x", x)
            self.sow("signals", "y", y)
            x = nn.relu(y)
        return y


def _check(noisy: Any, quiet: Any, full_scale: float) -> None:
    """Whether the noise is what was measured, at this full scale."""
    part = np.abs(quiet) / full_scale
    sigma = full_scale * np.sqrt(THERMAL**2 + SHOT**2 * part + FRACTION**2 * part**2)
    inside = part < 0.85
    ratio = ((noisy - quiet) / sigma)[inside]
    assert ratio.size > 9000
    assert float(ratio.std()) == pytest.approx(1.0, rel=0.03)


def test_layers_have_the_measured_noise_at_their_own_full_scale() -> None:
    model = _Mlp(_measured())
    x = jax.random.uniform(jax.random.key(2), (1000, 64))
    variables = model.init({"params": jax.random.key(3), "noise": KEY}, x)
    apply = jax.jit(model.apply, static_argnames=("mutable", "deterministic"))
    _, state = apply(variables, x, rngs={"noise": KEY}, mutable=("ranges",))
    variables = {"params": variables["params"], "ranges": state["ranges"]}
    _, state = apply(variables, x, rngs={"noise": jax.random.key(9)}, mutable=("signals",))
    scales = []
    for index, (x, noisy) in enumerate(
        zip(state["signals"]["x"], state["signals"]["y"], strict=True)
    ):
        name = f"OpticalDense_{index}"
        own = {key: variables[key][name] for key in ("params", "ranges")}
        layer = OpticalDense(noisy.shape[1], profile=_measured(), deterministic=True)
        scales.append(float(own["ranges"]["y_full_scale"]))
        _check(np.asarray(noisy), np.asarray(layer.apply(own, x)), scales[-1])
    assert max(scales) > 1.5 * min(scales)

    of_nnx = NnxDense(64, 64, profile=_measured(), rngs=nnx.Rngs(0, noise=1))
    of_nnx(x := jax.random.uniform(jax.random.key(2), (1000, 64)))
    of_nnx.use_running_average = True
    noisy, quiet = np.asarray(of_nnx(x)), np.asarray(of_nnx(x, deterministic=True))
    _check(noisy, quiet, float(of_nnx.y_full_scale[...]))  # type: ignore[index]


def test_a_range_is_kept_for_noise_without_an_adc() -> None:
    spec = OpticalSpec()
    layer = OpticalDense(50, profile=None, spec=spec, noise=RELATIVE)
    x = jax.random.normal(jax.random.key(2), (400, 8))
    variables = layer.init({"params": jax.random.key(3), "noise": KEY}, x)
    assert set(variables["ranges"]) == {"y_full_scale"}
    _, state = layer.apply(variables, x, rngs={"noise": KEY}, mutable=["ranges"])
    noisy = layer.apply({**variables, **state}, x, rngs={"noise": KEY})
    y = x @ variables["params"]["kernel"]
    ratio = (noisy - y) / _expected(y, x, state["ranges"]["y_full_scale"])
    assert float(ratio.std()) == pytest.approx(1.0, rel=0.03)


def test_noise_does_not_shrink_as_weights_grow() -> None:
    # In the unit of y a network escapes its noise by larger weights; a device does not let it.
    model, x = _Mlp(_measured()), jax.random.uniform(jax.random.key(2), (500, 64))
    variables = model.init({"params": jax.random.key(3), "noise": KEY}, x)

    def error(profile: HardwareProfile, factor: float) -> float:
        """Noise at the output over the largest output, with all kernels times a factor."""
        model = _Mlp(profile)
        params = jax.tree.map(lambda w: factor * w, variables["params"])
        apply = jax.jit(model.apply, static_argnames=("mutable", "deterministic"))
        _, state = apply({"params": params}, x, rngs={"noise": KEY}, mutable=("ranges",))
        of = {"params": params, "ranges": state["ranges"]}
        quiet = apply(of, x, deterministic=True)
        noisy = apply(of, x, rngs={"noise": jax.random.key(1)})
        return float(jnp.std(noisy - quiet) / jnp.abs(quiet).max())

    device = _measured()
    raw = dataclasses.replace(device, noise=NoiseModel(thermal=THERMAL))
    assert error(device, 4.0) == pytest.approx(error(device, 1.0), rel=0.1)
    assert error(raw, 4.0) < 0.5 * error(raw, 1.0)


def test_a_network_is_judged_at_the_full_scales_of_its_layers() -> None:
    # Three layers of growing outputs: noise in the unit of y is next to nothing in the last.
    data = datasets.load_digits()
    images = jnp.asarray(data.images.reshape(-1, 64) / 16, jnp.float32)
    labels = jnp.asarray(data.target)
    dense = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(64), nn.relu, nn.Dense(10)])
    params = dense.init(jax.random.key(0), images)["params"]
    adam = optax.adam(3e-3)

    @jax.jit
    def train(params: Any) -> Any:
        def step(carry: Any, _: None) -> Any:
            params, state = carry

            def loss(params: Any) -> jax.Array:
                logits = dense.apply({"params": params}, images[:1200])
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[:1200])
                return losses.mean()

            updates, state = adam.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, adam.init(params)), length=150)[0][0]

    with jax.numpy_dtype_promotion("standard"):  # optax mixes int and float
        trained = list(train(params).values())
    params = {f"OpticalDense_{index}": layer for index, layer in enumerate(trained)}
    device = _measured()

    @functools.partial(jax.jit, static_argnums=0)
    def evaluated(unit: Any, key: jax.Array) -> tuple[jax.Array, Any]:
        """Accuracy at 8 times the noise of the device, and the full scales."""
        model = _Mlp(device, noise=NoiseModel(thermal=8 * THERMAL, unit=unit))
        quiet = _Mlp(device, noise=NoiseModel(unit="full_scale"))
        rngs = {"noise": key}
        _, state = quiet.apply({"params": params}, images[:1200], rngs=rngs, mutable=["ranges"])
        logits = model.apply({"params": params, **state}, images[1200:], rngs=rngs)
        return jnp.mean(jnp.argmax(logits, axis=1) == labels[1200:]), state["ranges"]

    accuracy = {}
    for unit in ("signal", "full_scale"):
        draws = [evaluated(unit, jax.random.key(seed)) for seed in range(8)]
        accuracy[unit] = np.mean([float(share) for share, _ in draws])
    scales = [float(layer["y_full_scale"]) for layer in draws[0][1].values()]
    assert scales == sorted(scales)
    assert accuracy["signal"] - accuracy["full_scale"] > 0.05
