"""`flax_layers.nnx.OpticalDense`: state, train and eval modes, noise streams, transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import lumina_jax
from flax_layers import OpticalDense as LinenOpticalDense
from flax_layers.nnx import FullScale, OpticalDense

SPEC = lumina_jax.OpticalSpec(dac_bits=4, weight_bits=4, adc_bits=6)
NOISE = lumina_jax.NoiseModel(relative=0.2)
X = jax.random.normal(jax.random.key(7), (6, 5))


def equal(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def pure(module: nnx.Module, *filters: Any) -> Any:
    """The state as plain nested dicts of arrays."""
    return nnx.to_pure_dict(nnx.state(module, *filters or (nnx.Not(nnx.RngState),)))


class Net(nnx.Module):
    """Two optical layers with ReLU between them."""

    def __init__(self, rngs: nnx.Rngs, **options: Any) -> None:
        options = {"spec": SPEC, "noise": NOISE, **options}
        self.a = OpticalDense(5, 8, rngs=rngs, **options)
        self.b = OpticalDense(8, 3, rngs=rngs, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.b(nnx.relu(self.a(x)))


def trained(seed: int = 0, steps: int = 3) -> Net:
    net = Net(nnx.Rngs(seed))
    for _ in range(steps):
        net(X)
    return net


def test_parameters_are_those_of_linear() -> None:
    optical, plain = OpticalDense(5, 4, rngs=nnx.Rngs(3)), nnx.Linear(5, 4, rngs=nnx.Rngs(3))
    equal(pure(optical, nnx.Param), pure(plain, nnx.Param))
    equal(pure(optical, FullScale), {"x_full_scale": np.float32(0), "y_full_scale": np.float32(0)})
    assert OpticalDense(5, 4, use_bias=False, rngs=nnx.Rngs(0)).bias is None


def test_without_a_profile_it_is_linear() -> None:
    layer = OpticalDense(5, 4, profile=None, rngs=nnx.Rngs(params=3))
    assert not pure(layer, FullScale)
    # Two orders of summation over five products.
    np.testing.assert_allclose(
        layer(X), nnx.Linear(5, 4, rngs=nnx.Rngs(3))(X), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("ranges", ["calibrate", "learn"])
def test_it_computes_what_the_linen_layer_computes(ranges: Any) -> None:
    layer = OpticalDense(5, 4, spec=SPEC, ranges=ranges, rngs=nnx.Rngs(0))
    linen = LinenOpticalDense(4, spec=SPEC, ranges=ranges)
    variables = {"params": pure(layer, nnx.Param), "ranges": pure(layer, FullScale)}
    layer.deterministic = True
    for scale in (1.0, 3.0):
        got = layer(scale * X)
        want, updates = linen.apply(
            variables,
            scale * X,
            noise=lumina_jax.NoiseModel(),
            rngs={"noise": jax.random.key(0)},
            mutable=["ranges"],
        )
        variables = {**variables, **updates}
        equal(got, want)
        equal(pure(layer, FullScale), updates["ranges"])


def test_train_and_eval_switch_noise_and_ranges_together_or_apart() -> None:
    net = trained()
    net.eval()
    frozen = pure(net)
    equal(net(3 * X), net(3 * X))
    equal(pure(net), frozen)
    net.set_attributes(deterministic=False)
    assert jnp.any(net(3 * X) != net(3 * X))
    equal(pure(net), frozen)
    net.train()
    net(3 * X)
    assert net.a.x_full_scale[...] > frozen["a"]["x_full_scale"]


@pytest.mark.skipif(not hasattr(nnx, "view"), reason="new in flax 0.12.4")
def test_views_switch_a_copy() -> None:
    net = trained()
    quiet = nnx.view(net, deterministic=True, use_running_average=True)
    equal(quiet(X), quiet(X))
    assert jnp.any(net(X) != net(X))


def test_evaluation_before_training_takes_the_range_of_the_batch() -> None:
    layer = OpticalDense(5, 4, spec=SPEC, rngs=nnx.Rngs(0))
    layer.eval()
    before = layer(X)
    layer(X, use_running_average=False)
    equal(before, layer(X))


def test_a_broken_batch_leaves_no_trace() -> None:
    net = trained()
    before = pure(net)
    assert jnp.all(jnp.isnan(net(X * jnp.nan)))
    equal(pure(net), before)


def test_noise_is_reproducible_and_independent_between_layers_and_calls() -> None:
    class Pair(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            ones = nnx.initializers.ones
            self.a, self.b = (
                OpticalDense(2, 400, profile=None, noise=NOISE, kernel_init=ones, rngs=rngs)
                for _ in range(2)
            )

        def __call__(self, x: jax.Array) -> list[jax.Array]:
            return [self.a(x), self.b(x), self.a(x)]

    x = jnp.ones((50, 2))
    first, again = Pair(nnx.Rngs(0, noise=5))(x), Pair(nnx.Rngs(0, noise=5))(x)
    equal(first, again)
    other = Pair(nnx.Rngs(0, noise=6))(x)
    samples = np.stack([np.ravel(y) / 2 - 1 for y in (*first, *other)])
    correlation = np.corrcoef(samples) - np.eye(len(samples))
    assert np.abs(correlation).max() * np.sqrt(samples.shape[1]) < 4.9
    np.testing.assert_allclose(samples.std(1), 0.2, rtol=0.03)


def test_a_key_streams_or_one_stream_in_the_call() -> None:
    layer = OpticalDense(5, 4, spec=SPEC, rngs=nnx.Rngs(params=0))
    key = jax.random.key(3)
    by_key = layer(X, rngs=jax.random.fold_in(key, 0), use_running_average=True)
    equal(by_key, layer(X, rngs=nnx.Rngs(noise=key), use_running_average=True))
    equal(by_key, layer(X, rngs=nnx.Rngs(noise=key).noise, use_running_average=True))


def test_missing_stream_is_named() -> None:
    layer = OpticalDense(5, 4, rngs=nnx.Rngs(params=0))
    with pytest.raises(ValueError, match="there is no stream `noise`, expected rngs="):
        layer(X)
    assert layer(X, deterministic=True).shape == (6, 4)


@pytest.mark.parametrize("ranges", ["calibrate", "learn"])
def test_it_learns_under_jit_and_grad(ranges: Any) -> None:
    net = Net(nnx.Rngs(0), ranges=ranges)
    optimizer = nnx.Optimizer(net, optax.sgd(0.05, momentum=0.9), wrt=nnx.Param)
    x = jax.random.normal(jax.random.key(1), (64, 5))
    target = jnp.stack([x[:, 0] + x[:, 1], x[:, 2] * x[:, 3], -x[:, 4]], axis=1)

    @nnx.jit
    def step(net: Net, optimizer: nnx.Optimizer) -> jax.Array:
        value, grads = nnx.value_and_grad(lambda net: jnp.mean((net(x) - target) ** 2))(net)
        optimizer.update(net, grads)
        return value

    losses = np.asarray([step(net, optimizer) for _ in range(150)])
    assert losses[-10:].mean() < 0.5 * losses[:3].mean()
    if ranges == "learn":
        assert net.a.y_log_gain[...] != 0
    assert net.a.y_full_scale[...] > 0


def test_vmap_over_examples() -> None:
    net = trained()
    net.eval()
    batch = jax.random.normal(jax.random.key(1), (3, 6, 5))
    mapped = nnx.vmap(lambda net, x: net(x), in_axes=(None, 0))(net, batch)
    for i in range(3):
        equal(mapped[i], net(batch[i]))


def test_remat_changes_nothing() -> None:
    def loss(net: Net, forward: Any) -> jax.Array:
        return jnp.sum(forward(net, X) ** 2)

    results = []
    for forward in (Net.__call__, nnx.remat(Net.__call__)):
        net = trained()
        value, grads = nnx.value_and_grad(lambda net, f=forward: loss(net, f))(net)
        results.append((value, nnx.to_pure_dict(grads), pure(net)))
    equal(*results)


def test_scan_over_layers_draws_independently_and_keeps_a_range_each() -> None:
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def stack(rngs: nnx.Rngs) -> OpticalDense:
        return OpticalDense(5, 5, profile=None, spec=SPEC, noise=NOISE, rngs=rngs)

    layers = stack(nnx.Rngs(0))

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    def run(x: jax.Array, layer: OpticalDense) -> tuple[jax.Array, jax.Array]:
        y = layer(x)
        return nnx.tanh(y), y

    _, ys = run(X, layers)
    assert layers.x_full_scale.shape == (3,)
    np.testing.assert_array_equal(layers.x_full_scale[0], jnp.max(jnp.abs(X)))
    np.testing.assert_array_equal(layers.x_full_scale[1], jnp.max(jnp.abs(jnp.tanh(ys[0]))))
    layers.kernel[...] = jnp.ones_like(layers.kernel[...])
    same_input = nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))(layers, X)
    assert jnp.any(same_input[0] != same_input[1])


def test_sharded_batch_is_the_whole_batch() -> None:
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("batch",))
    if mesh.size < 2:
        pytest.skip("needs two CPU devices")
    run = nnx.jit(lambda net, x: net(x))
    whole, sharded = trained(), trained()
    graph, state = nnx.split(sharded)
    sharded = nnx.merge(graph, jax.device_put(state, NamedSharding(mesh, PartitionSpec())))
    rows = jax.device_put(X, NamedSharding(mesh, PartitionSpec("batch")))
    equal(run(sharded, rows), run(whole, X))
    equal(pure(sharded), pure(whole))


def test_orbax_round_trip(tmp_path: Path) -> None:
    net, fresh = trained(), Net(nnx.Rngs(9))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "checkpoint", pure(net))
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "checkpoint", pure(fresh))
    nnx.update(fresh, restored)
    net.eval()
    fresh.eval()
    equal(pure(fresh), pure(net))
    equal(fresh(X), net(X))


def test_a_noise_schedule_does_not_retrace() -> None:
    layer = OpticalDense(5, 4, profile=None, rngs=nnx.Rngs(0))
    traces = 0

    @nnx.jit
    def run(layer: OpticalDense, relative: jax.Array) -> jax.Array:
        nonlocal traces
        traces += 1
        noise = lumina_jax.NoiseModel(relative=relative)
        return layer(X, noise=noise, rngs=jax.random.key(0))

    outputs = [run(layer, jnp.float32(level)) for level in (0.0, 0.1, 0.2)]
    assert traces == 1
    np.testing.assert_allclose(
        outputs[2] - outputs[0], 2 * (outputs[1] - outputs[0]), rtol=1e-3, atol=1e-6
    )


def test_another_width_of_input_is_refused() -> None:
    layer = OpticalDense(5, 4, rngs=nnx.Rngs(0))
    message = r"OpticalDense: `x` has shape \(2, 3\), expected \[..., in_features=5\]"
    with pytest.raises(ValueError, match=message):
        layer(jnp.ones((2, 3)))
