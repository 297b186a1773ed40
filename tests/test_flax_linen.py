"""`flax_layers.OpticalDense`: Linen parameters, ranges, noise streams, transforms, checkpoints."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import serialization
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import lumina_jax
from flax_layers import OpticalDense

QUIET = lumina_jax.OpticalSpec(dac_bits=4, weight_bits=4, adc_bits=6)
NOISE = lumina_jax.NoiseModel(relative=0.2)
X = jax.random.normal(jax.random.key(7), (6, 5))


def equal(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


class Net(nn.Module):
    """Three optical layers with ReLU between them."""

    widths: tuple[int, ...] = (8, 8, 3)

    @nn.compact
    def __call__(self, x: jax.Array, *, deterministic: bool = False) -> jax.Array:
        for i, width in enumerate(self.widths):
            x = nn.relu(x) if i else x
            x = OpticalDense(width, spec=QUIET, noise=NOISE)(x, deterministic=deterministic)
        return x


@functools.cache
def trained() -> Any:
    """Variables of a `Net` after a few noisy forward passes."""
    net = Net()
    variables = net.init(jax.random.key(0), X)

    @jax.jit
    def step(variables: Any, key: jax.Array) -> Any:
        return net.apply(variables, X, rngs={"noise": key}, mutable=["ranges"])[1]

    for seed in range(3):
        variables = {**variables, **step(variables, jax.random.key(seed))}
    return variables


def test_parameters_are_those_of_dense() -> None:
    optical = OpticalDense(4).init(jax.random.key(0), X)
    plain = nn.Dense(4).init(jax.random.key(0), X)
    equal(optical["params"], plain["params"])
    equal(optical["ranges"], {"x_full_scale": np.float32(0), "y_full_scale": np.float32(0)})
    assert set(OpticalDense(4, use_bias=False).init(jax.random.key(0), X)["params"]) == {"kernel"}


def test_without_a_profile_it_is_dense() -> None:
    layer = OpticalDense(4, profile=None)
    variables = layer.init(jax.random.key(0), X)
    assert set(variables) == {"params"}
    # Two orders of summation over five products.
    np.testing.assert_allclose(
        layer.apply(variables, X), nn.Dense(4).apply(variables, X), rtol=1e-5, atol=1e-6
    )


def test_the_profile_sets_bits_noise_and_attenuation() -> None:
    profile = lumina_jax.HardwareProfile.preset("lumina_micro_v1")
    layer = OpticalDense(4, profile=profile)
    variables = layer.init(jax.random.key(0), X)
    equal(
        layer.apply(variables, X, deterministic=True),
        OpticalDense(4, profile="lumina_micro_v1").apply(variables, X, deterministic=True),
    )
    key = jax.random.key(3)
    x_scale = jnp.max(jnp.abs(X))
    weight = variables["params"]["kernel"] * profile.path.transmission
    quiet_spec = lumina_jax.OpticalSpec(
        dac_bits=profile.spec.dac_bits, weight_bits=profile.spec.weight_bits
    )
    linear = lumina_jax.optical_matmul(X, weight, spec=quiet_spec, x_full_scale=x_scale)
    expected = lumina_jax.optical_matmul(
        X,
        weight,
        spec=profile.spec,
        x_full_scale=x_scale,
        y_full_scale=jnp.max(jnp.abs(linear)),
        noise=profile.noise,
        key=_Key(parent=None).apply({}, rngs={"noise": key}),
    )
    equal(layer.apply(variables, X, rngs={"noise": key}), expected)


class _Key(nn.Module):
    """The first key that a top-level module draws from the stream."""

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.make_rng("noise")


def test_spec_and_noise_stand_in_for_those_of_the_profile() -> None:
    off = lumina_jax.OpticalSpec()
    layer = OpticalDense(4, spec=off, noise=lumina_jax.NoiseModel())
    variables = layer.init(jax.random.key(0), X)
    assert "ranges" not in variables
    attenuation = lumina_jax.HardwareProfile.preset("lumina_nano_v1").path.transmission
    expected = attenuation * X @ variables["params"]["kernel"]
    np.testing.assert_allclose(
        layer.apply(variables, X, deterministic=True), expected, rtol=1e-5, atol=1e-6
    )


def test_only_converters_that_are_on_keep_a_range() -> None:
    spec = lumina_jax.OpticalSpec(adc_bits=8)
    layer = OpticalDense(4, profile=None, spec=spec, ranges="learn")
    variables = layer.init(jax.random.key(0), X)
    assert set(variables["ranges"]) == {"y_full_scale"}
    assert set(variables["params"]) == {"kernel", "bias", "y_log_gain"}


def test_leading_axes_are_rows() -> None:
    net, x = Net(), jax.random.normal(jax.random.key(1), (2, 3, 5))
    variables = trained()
    rngs = {"noise": jax.random.key(0)}
    y = net.apply(variables, x, rngs=rngs)
    assert y.shape == (2, 3, 3)
    equal(y.reshape(6, 3), net.apply(variables, x.reshape(6, 5), rngs=rngs))
    one_row = net.apply(variables, x[0, 0], deterministic=True)
    equal(one_row, net.apply(variables, x[:1, 0], deterministic=True)[0])


def test_an_empty_batch_is_fine() -> None:
    y, updates = Net().apply(
        trained(), X[:0], rngs={"noise": jax.random.key(0)}, mutable=["ranges"]
    )
    assert y.shape == (0, 3)
    equal(updates["ranges"], trained()["ranges"])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_floats_are_computed_in_float32(dtype: Any) -> None:
    layer = OpticalDense(4, param_dtype=dtype, deterministic=True)
    variables = layer.init(jax.random.key(0), X)
    assert variables["params"]["kernel"].dtype == dtype
    y = layer.apply(variables, X.astype(dtype))
    assert y.dtype == jnp.float32
    wide = {**variables, "params": jax.tree.map(jnp.float32, variables["params"])}
    equal(y, layer.apply(wide, X.astype(dtype).astype(jnp.float32)))


def test_noise_is_reproducible_and_independent_between_layers_and_steps() -> None:
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            a = OpticalDense(400, profile=None, noise=NOISE, kernel_init=nn.initializers.ones)
            b = OpticalDense(400, profile=None, noise=NOISE, kernel_init=nn.initializers.ones)
            return a(x), b(x), a(x)

    model, x = Twice(), jnp.ones((50, 2))
    variables = model.init(jax.random.key(0), x)
    draw = jax.jit(lambda seed: model.apply(variables, x, rngs={"noise": jax.random.key(seed)}))
    first, again, other = draw(0), draw(0), draw(1)
    equal(first, again)
    samples = np.stack([np.ravel(y) / 2 - 1 for y in (*first, *other)])
    correlation = np.corrcoef(samples) - np.eye(len(samples))
    assert np.abs(correlation).max() * np.sqrt(samples.shape[1]) < 4.9
    np.testing.assert_allclose(samples.std(1), 0.2, rtol=0.03)


def test_deterministic_needs_no_stream_and_draws_nothing() -> None:
    net = Net()
    variables = trained()
    equal(
        net.apply(variables, X, deterministic=True),
        net.apply(variables, X, deterministic=True, rngs={"noise": jax.random.key(0)}),
    )


def test_the_call_argument_wins_over_the_field() -> None:
    layer = OpticalDense(4, deterministic=True)
    variables = layer.init(jax.random.key(0), X)
    rngs = {"noise": jax.random.key(0)}
    quiet = layer.apply(variables, X, rngs=rngs)
    loud = layer.apply(variables, X, rngs=rngs, deterministic=False)
    assert jnp.any(quiet != loud)
    equal(loud, OpticalDense(4).apply(variables, X, rngs=rngs))


def test_a_noise_schedule_does_not_retrace() -> None:
    layer = OpticalDense(4, profile=None)
    variables = layer.init(jax.random.key(0), X)
    traces = 0

    @jax.jit
    def run(relative: jax.Array) -> jax.Array:
        nonlocal traces
        traces += 1
        noise = lumina_jax.NoiseModel(relative=relative)
        return layer.apply(variables, X, noise=noise, rngs={"noise": jax.random.key(0)})

    outputs = [run(jnp.float32(level)) for level in (0.0, 0.1, 0.2)]
    assert traces == 1
    np.testing.assert_allclose(
        outputs[2] - outputs[0], 2 * (outputs[1] - outputs[0]), rtol=1e-3, atol=1e-6
    )


def test_missing_stream_is_named() -> None:
    variables = OpticalDense(4).init(jax.random.key(0), X)
    with pytest.raises(flax.errors.InvalidRngError, match='needs PRNG for "noise"'):
        OpticalDense(4).apply(variables, X)


def test_ranges_move_only_in_training_and_when_mutable() -> None:
    layer = OpticalDense(4, momentum=0.5)
    variables = layer.init(jax.random.key(0), jnp.ones((1, 5)))
    rngs = {"noise": jax.random.key(0)}
    _, after = layer.apply(variables, X, deterministic=True, mutable=["ranges"])
    equal(after["ranges"], variables["ranges"])
    _, first = layer.apply(variables, X, rngs=rngs, mutable=["ranges"])
    np.testing.assert_array_equal(first["ranges"]["x_full_scale"], jnp.max(jnp.abs(X)))
    _, second = layer.apply({**variables, **first}, 3 * X, rngs=rngs, mutable=["ranges"])
    np.testing.assert_allclose(second["ranges"]["x_full_scale"], 2 * jnp.max(jnp.abs(X)), rtol=1e-6)
    _, third = layer.apply({**variables, **second}, X * jnp.nan, rngs=rngs, mutable=["ranges"])
    equal(third["ranges"], second["ranges"])


def test_init_leaves_the_ranges_uncalibrated_whatever_the_dummy() -> None:
    for dummy in (jnp.zeros((1, 5)), jnp.ones((1, 5)), 1e6 * X):
        ranges = OpticalDense(4).init(jax.random.key(0), dummy)["ranges"]
        equal(ranges, {"x_full_scale": np.float32(0), "y_full_scale": np.float32(0)})


def test_evaluation_before_training_takes_the_range_of_the_batch() -> None:
    layer = OpticalDense(4, spec=QUIET, deterministic=True)
    variables = layer.init(jax.random.key(0), jnp.zeros((1, 5)))
    before = layer.apply(variables, X)
    _, updates = layer.apply(
        variables, X, deterministic=False, mutable=["ranges"], rngs={"noise": jax.random.key(0)}
    )
    equal(before, layer.apply({**variables, **updates}, X))
    assert jnp.max(jnp.abs(before)) > 0


@pytest.mark.parametrize("ranges", ["calibrate", "learn"])
def test_it_learns_under_jit_and_scan(ranges: Any) -> None:
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = nn.relu(OpticalDense(16, spec=QUIET, noise=NOISE, ranges=ranges)(x))
            return OpticalDense(2, spec=QUIET, noise=NOISE, ranges=ranges)(x)

    model, optimizer = Model(), optax.sgd(0.1, momentum=0.9)
    x = jax.random.normal(jax.random.key(1), (64, 5))
    target = jnp.stack([x[:, 0] + x[:, 1], x[:, 2] * x[:, 3]], axis=1)
    variables = model.init(jax.random.key(0), x)

    def step(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        params, ranges, state = carry

        def loss(params: Any) -> tuple[jax.Array, Any]:
            y, updates = model.apply(
                {"params": params, "ranges": ranges}, x, rngs={"noise": key}, mutable=["ranges"]
            )
            return jnp.mean((y - target) ** 2), updates["ranges"]

        (value, new_ranges), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), new_ranges, state), value

    params = variables["params"]
    start = (params, variables["ranges"], optimizer.init(params))
    (params, learned, _), losses = jax.jit(
        lambda start: jax.lax.scan(step, start, jax.random.split(jax.random.key(2), 300))
    )(start)
    assert losses[-20:].mean() < 0.5 * losses[:5].mean()
    assert all(r > 0 for r in jax.tree.leaves(learned))
    if ranges == "learn":
        assert params["OpticalDense_0"]["y_log_gain"] != 0


def test_vmap_is_one_call_per_example() -> None:
    net = Net()
    variables = trained()
    batch = jax.random.normal(jax.random.key(1), (3, 6, 5))
    keys = jax.random.split(jax.random.key(2), 3)

    @jax.jit
    def one(x: jax.Array, key: jax.Array) -> jax.Array:
        return net.apply(variables, x, rngs={"noise": key})

    mapped = jax.jit(jax.vmap(one))(batch, keys)
    for i in range(3):
        equal(mapped[i], one(batch[i], keys[i]))
    one_key = jax.jit(jax.vmap(one, (0, None)))(batch, keys[0])
    equal(one_key[2], one(batch[2], keys[0]))


def test_remat_changes_nothing() -> None:
    class Model(nn.Module):
        layer: Any

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = nn.relu(self.layer(8, spec=QUIET, noise=NOISE, name="a")(x))
            return self.layer(3, spec=QUIET, noise=NOISE, name="b")(x)

    plain, remat = Model(OpticalDense), Model(nn.remat(OpticalDense))
    variables = plain.init(jax.random.key(0), X)

    def loss(model: Model, params: Any) -> Any:
        y, updates = model.apply(
            {**variables, "params": params},
            X,
            rngs={"noise": jax.random.key(1)},
            mutable=["ranges"],
        )
        return jnp.sum(y**2), updates

    results = [
        jax.jit(jax.value_and_grad(lambda p, m=m: loss(m, p), has_aux=True))(variables["params"])
        for m in (plain, remat)
    ]
    equal(*results)


class Block(nn.Module):
    """One optical layer as the body of a scan, which passes on its output or its input."""

    stack: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        y = OpticalDense(5, profile=None, spec=QUIET, noise=NOISE)(x)
        return nn.tanh(y) if self.stack else x, y


def scanned(**fields: Any) -> nn.Module:
    return nn.scan(
        Block,
        variable_axes={"params": 0, "ranges": 0},
        split_rngs={"params": True, "noise": True},
        length=3,
    )(**fields)


def test_scan_over_layers_keeps_a_range_for_each() -> None:
    variables = scanned().init(jax.random.key(0), X, None)
    assert variables["ranges"]["OpticalDense_0"]["x_full_scale"].shape == (3,)
    (_, ys), updates = scanned().apply(
        variables, X, None, rngs={"noise": jax.random.key(1)}, mutable=["ranges"]
    )
    seen = updates["ranges"]["OpticalDense_0"]["x_full_scale"]
    np.testing.assert_array_equal(seen[0], jnp.max(jnp.abs(X)))
    np.testing.assert_array_equal(seen[1], jnp.max(jnp.abs(jnp.tanh(ys[0]))))


def test_scan_over_layers_draws_independently() -> None:
    model, rngs = scanned(stack=False), {"noise": jax.random.key(1)}
    variables = model.init(jax.random.key(0), X, None)
    same = jax.tree.map(lambda v: jnp.broadcast_to(v[:1], v.shape), variables)
    _, ys = model.apply(same, X, None, rngs=rngs)
    assert jnp.any(ys[0] != ys[1])
    assert jnp.any(ys[1] != ys[2])
    equal(model.apply(same, X, None, rngs=rngs)[1], ys)


def test_sharded_batch_is_the_whole_batch() -> None:
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("batch",))
    if mesh.size < 2:
        pytest.skip("needs two CPU devices")
    net = Net()
    variables = net.init(jax.random.key(0), X)

    @jax.jit
    def run(variables: Any, x: jax.Array) -> Any:
        return net.apply(variables, x, rngs={"noise": jax.random.key(1)}, mutable=["ranges"])

    sharded = jax.device_put(X, NamedSharding(mesh, PartitionSpec("batch")))
    everywhere = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    equal(run(everywhere, sharded), run(variables, X))


def test_shard_map_takes_ranges_over_the_axis() -> None:
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("batch",))
    if mesh.size < 2:
        pytest.skip("needs two CPU devices")
    rows, whole = PartitionSpec("batch"), PartitionSpec()
    quiet = lumina_jax.NoiseModel()
    layer = OpticalDense(4, spec=QUIET, noise=quiet, axis_name="batch")
    alone = OpticalDense(4, spec=QUIET, noise=quiet)
    variables = alone.init(jax.random.key(0), X)

    def run(variables: Any, x: jax.Array) -> Any:
        return layer.apply(variables, x, rngs={"noise": jax.random.key(1)}, mutable=["ranges"])

    mapped = jax.shard_map(run, mesh=mesh, in_specs=(whole, rows), out_specs=(rows, whole))
    expected = alone.apply(variables, X, rngs={"noise": jax.random.key(1)}, mutable=["ranges"])
    equal(jax.jit(mapped)(variables, X), expected)


@pytest.mark.parametrize("axis_name", [None, "batch"])
def test_shard_map_of_a_trained_layer(axis_name: str | None) -> None:
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("batch",))
    if mesh.size < 2:
        pytest.skip("needs two CPU devices")
    rows, whole = PartitionSpec("batch"), PartitionSpec()
    alone = OpticalDense(4, ranges="learn", deterministic=True)
    layer = alone.clone(axis_name=axis_name)
    variables = alone.init(jax.random.key(0), X)
    variables["ranges"] = {"x_full_scale": jnp.float32(2.0), "y_full_scale": jnp.float32(3.0)}

    def value_and_grad(model: OpticalDense, variables: Any, x: jax.Array) -> Any:
        def loss(params: Any) -> tuple[jax.Array, jax.Array]:
            y = model.apply({**variables, "params": params}, x)
            return jnp.sum(y**2), y

        gradient, y = jax.grad(loss, has_aux=True)(variables["params"])
        return y, gradient

    mapped = jax.shard_map(
        functools.partial(value_and_grad, layer),
        mesh=mesh,
        in_specs=(whole, rows),
        out_specs=(rows, whole),
    )
    y, gradient = jax.jit(mapped)(variables, X)
    expected_y, expected_gradient = value_and_grad(alone, variables, X)
    equal(y, expected_y)
    # The halves of the batch are summed one after the other.
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
        gradient,
        expected_gradient,
    )


def test_orbax_round_trip(tmp_path: Path) -> None:
    variables = trained()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "checkpoint", variables)
        checkpointer.wait_until_finished()
        abstract = jax.eval_shape(Net().init, jax.random.key(0), X)
        restored = checkpointer.restore(tmp_path / "checkpoint", abstract)
    equal(restored, variables)
    equal(
        Net().apply(restored, X, deterministic=True), Net().apply(variables, X, deterministic=True)
    )


def test_flax_serialization_round_trip() -> None:
    variables = trained()
    fresh = Net().init(jax.random.key(5), X)
    equal(serialization.from_bytes(fresh, serialization.to_bytes(variables)), variables)


def test_another_width_of_input_is_refused() -> None:
    variables = OpticalDense(4).init(jax.random.key(0), X)
    with pytest.raises(flax.errors.ScopeParamShapeError, match="kernel"):
        OpticalDense(4).apply(variables, X[:, :3], deterministic=True)
