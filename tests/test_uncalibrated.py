"""Layers that infer without calibrated ranges: they say so once, and so does an export."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

import exporter
from exported import Program
from exporter import UncalibratedRangesWarning
from flax_layers import OpticalDense, _uncalibrated
from flax_layers import nnx as nnx_layers

X = jax.random.normal(jax.random.key(0), (4, 6))
MESSAGE = r"^OpticalDense: its ranges are not calibrated, .* mutable=\['ranges'\] \(Linen\) or "


class Net(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        x = OpticalDense(5)(x, deterministic=deterministic)
        return OpticalDense(3, name="head")(x, deterministic=deterministic)


class NnxNet(nnx.Module):
    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.first = nnx_layers.OpticalDense(6, 5, rngs=rngs)
        self.rest = nnx.List([nnx_layers.OpticalDense(5, 3, rngs=rngs)])

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.rest[0](self.first(x))


NET = Net()
RAW = NET.init(jax.random.key(1), X)


def trained() -> Any:
    rngs = {"noise": jax.random.key(2)}
    _, ranges = NET.apply(RAW, X, False, rngs=rngs, mutable=["ranges"])
    return {**RAW, **ranges}


CALIBRATED = trained()


@pytest.fixture(autouse=True)
def _not_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_uncalibrated, "_told", False)
    jax.clear_caches()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def quiet(run: Callable[[], Any]) -> Any:
    """Runs it; a warning is an error."""
    return jax.block_until_ready(run())


def warned(run: Callable[[], Any]) -> Any:
    """Runs it twice; the first time warns."""
    with pytest.warns(UserWarning, match=MESSAGE):
        out = jax.block_until_ready(run())
    quiet(run)
    return out


def apply(variables: Any, x: jax.Array = X) -> jax.Array:
    return NET.apply(variables, x)  # type: ignore[return-value]


def sharded(variables: Any) -> jax.Array:
    mesh = Mesh(np.array(jax.devices()[:2]), "data")
    rows, whole = PartitionSpec("data"), PartitionSpec()
    run = jax.shard_map(apply, mesh=mesh, in_specs=(whole, rows), out_specs=rows)
    return jax.jit(run)(variables, X)


def spread(variables: Any) -> jax.Array:
    """The batch lies on several devices, as in data parallel inference without shard_map."""
    mesh = Mesh(np.array(jax.devices()[:2]), "data")
    x = jax.device_put(X, jax.sharding.NamedSharding(mesh, PartitionSpec("data")))
    return jax.jit(apply)(variables, x)


def ensemble(variables: Any) -> jax.Array:
    stacked = jax.tree.map(lambda v: jnp.stack([v, v]), variables)
    return jax.jit(jax.vmap(apply, (0, None)))(stacked, X)


WAYS: dict[str, Callable[[Any], Any]] = {
    "eager": apply,
    "constants of jit": lambda v: jax.jit(lambda x: apply(v, x))(X),
    "arguments of jit": jax.jit(apply),
    "gradient": lambda v: jax.jit(jax.grad(lambda v: apply(v).sum()))(v),
    "vmap": ensemble,
    "shard_map": sharded,
    "spread": spread,
    "remat": lambda v: jax.jit(jax.grad(lambda v: jax.checkpoint(apply)(v).sum()))(v),
    "scan": lambda v: jax.lax.scan(lambda c, x: (c, apply(v, x[None])), 0, X)[1],
}


@pytest.mark.parametrize("way", WAYS)
def test_inference_without_ranges_warns_once(way: str) -> None:
    warned(lambda: WAYS[way](RAW))


@pytest.mark.parametrize("way", WAYS)
def test_calibrated_inference_is_quiet(way: str) -> None:
    quiet(lambda: WAYS[way](CALIBRATED))


def test_a_warning_changes_no_number() -> None:
    eager = warned(lambda: apply(RAW))
    np.testing.assert_array_equal(jax.jit(apply)(RAW), eager)


def test_nnx() -> None:
    net = NnxNet()
    net.eval()
    warned(lambda: nnx.jit(lambda net, x: net(x))(net, X))
    net.set_attributes(deterministic=True, use_running_average=False)
    quiet(lambda: net(X))  # which calibrates
    net.eval()
    quiet(lambda: nnx.jit(lambda net, x: net(x))(net, X))


def test_nobody_is_told_of_initialization_and_training() -> None:
    quiet(lambda: NET.init(jax.random.key(1), X))
    quiet(lambda: jax.jit(NET.init)(jax.random.key(1), X))
    quiet(lambda: jax.eval_shape(apply, RAW))

    def step(variables: Any, key: jax.Array) -> Any:
        def loss(params: Any) -> Any:
            variables_ = {**variables, "params": params}
            y, ranges = NET.apply(variables_, X, False, rngs={"noise": key}, mutable=["ranges"])
            return y.sum(), ranges

        return jax.grad(loss, has_aux=True)(variables["params"])

    quiet(lambda: jax.jit(step)(RAW, jax.random.key(0)))
    assert "callback" not in jax.jit(step).lower(RAW, jax.random.key(0)).as_text()


def test_only_inference_of_unknown_ranges_calls_back() -> None:
    assert "callback" in jax.jit(apply).lower(RAW).as_text()
    assert "callback" not in jax.jit(lambda x: apply(CALIBRATED, x)).lower(X).as_text()


def test_jax_export_takes_inference() -> None:
    checks = [jax.export.DisabledSafetyCheck.custom_call("lumina.optical_matmul.v1")]
    exported = jax.export.export(jax.jit(apply), disabled_checks=checks)(RAW)
    np.testing.assert_array_equal(exported.call(RAW), warned(lambda: apply(RAW)))


def exported(fn: Callable[..., Any], *args: Any, **options: Any) -> list[str]:
    """What an export says of ranges that are not calibrated."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exporter.export(fn, *args, **options)
    found = [w for w in caught if issubclass(w.category, UncalibratedRangesWarning)]
    assert all(w.filename == __file__ for w in found)
    return [str(w.message) for w in found]


def test_export_names_the_layers_by_their_paths(program: Program) -> None:
    partly = jax.tree.map(lambda v: v, CALIBRATED)
    partly["ranges"]["head"]["y_full_scale"] = jnp.zeros(())
    cure = (
        "an output would depend on the other rows of its batch; run training batches with "
        "mutable=['ranges'] (Linen) or after model.train() (NNX) first, or pass "
        "allow_uncalibrated=True"
    )
    _uncalibrated._told = True
    for variables, layers in ((RAW, "`Net/OpticalDense_0`, `Net/head`"), (partly, "`Net/head`")):
        said = f"`apply`: converters have ranges that are not calibrated\n  {layers}: {cure}"
        assert exported(apply, X, params=variables, batch="batch") == [said]
        (closed,) = exported(lambda x, v=variables: apply(v, x), X, batch="batch")
        assert closed.endswith(said.removeprefix("`apply`"))
    program.export(apply, X, params=RAW, batch="batch", allow_uncalibrated=True)
    program.export(apply, X, params=CALIBRATED, batch="batch")
    # What no output needs may stay uncalibrated.
    program.export(lambda x: (apply(RAW, x), x + 1)[1], X, batch="batch")


def test_export_names_the_layers_in_a_loop() -> None:
    _uncalibrated._told = True

    def fn(x: jax.Array) -> Any:
        return jax.lax.scan(lambda c, row: (c, apply(RAW, row[None])), 0, x)[1]

    (said,) = exported(fn, X)
    assert "\n  `Net/OpticalDense_0`, `Net/head`: an output" in said


def test_export_of_nnx_layers_knows_their_paths(program: Program) -> None:
    _uncalibrated._told = True
    net = NnxNet()
    net.eval()
    (said,) = exported(net, X, batch="batch")
    assert "are not calibrated\n  `first`, `rest[0]`: an output" in said
    net.set_attributes(deterministic=True, use_running_average=False)
    net(X)
    net.eval()
    program.export(net, X, batch="batch")
