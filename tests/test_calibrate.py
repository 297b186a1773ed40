"""Ranges found from batches, against NumPy and brute force."""

from __future__ import annotations

import json
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lumina_jax
from lumina_jax import ConversionRule, NoiseModel, OpticalSpec, calibrate, convert, quantize

KEY = jax.random.key(0)
# Heavy tails, so that clipping pays.
BATCHES = list(jax.random.t(jax.random.key(1), 4.0, (3, 200, 6)))
DATA = np.abs(np.concatenate(BATCHES)).ravel()


def rule(bits: int | None = 4) -> ConversionRule:
    spec = OpticalSpec(dac_bits=bits, weight_bits=4, adc_bits=6)
    return ConversionRule(profile=None, spec=spec, noise=NoiseModel(relative=0.3))


def linen(**options: Any) -> tuple[nn.Module, Any]:
    model = convert(nn.Dense(5), rule(**options))
    return model, model.init(KEY, BATCHES[0])


def ranges_of(calibration: Any) -> dict[str, float]:
    return {found.path: found.full_scale for found in calibration.ranges}


@pytest.mark.parametrize("family", ["linen", "nnx"])
def test_absmax_is_the_largest_of_all_batches(family: str) -> None:
    if family == "linen":
        model, variables = linen()
        found = calibrate(model, BATCHES, variables=variables)
        kernel = variables["params"]["kernel"]
        assert found.variables["ranges"] == {
            name: jnp.float32(value) for name, value in ranges_of(found).items()
        }
        assert found.variables["params"] is variables["params"]
    else:
        model = convert(nnx.Linear(6, 5, rngs=nnx.Rngs(0)), rule(), rngs=nnx.Rngs(noise=0))
        model.train()
        found = calibrate(model, BATCHES)
        kernel = model.kernel[...]
        assert found.variables is None
        assert model.x_full_scale[...] == ranges_of(found)["x_full_scale"]
        assert not model.deterministic
        assert model.rngs.count[...] == 0
    # Each batch is converted at a range that clips none of it.
    seen = [
        jnp.abs(
            quantize(x, bits=4) @ quantize(kernel, bits=4, full_scale=jnp.abs(kernel).max(axis=0))
        ).max()
        for x in BATCHES
    ]
    want = {"x_full_scale": DATA.max(), "y_full_scale": float(max(seen))}
    assert ranges_of(found) == pytest.approx(want, rel=1e-5)
    assert all(found.largest == found.full_scale for found in found.ranges)


def test_a_percentile_is_that_of_all_values() -> None:
    model, variables = linen()
    found = calibrate(model, BATCHES, variables=variables, method="percentile", percentile=99.0)
    want = np.percentile(DATA, 99.0)
    # A sixteenth of an octave, of which interpolation leaves little.
    assert ranges_of(found)["x_full_scale"] == pytest.approx(want, rel=0.02)
    assert found.ranges[0].clipped == pytest.approx(0.01)
    assert np.mean(found.ranges[0].full_scale < DATA) == pytest.approx(0.01, abs=0.002)
    assert found.ranges[0].values == DATA.size
    assert found.ranges[1].values == DATA.size * 5 // 6
    every = calibrate(model, BATCHES, variables=variables, method="percentile", percentile=100)
    assert ranges_of(every)["x_full_scale"] == DATA.max()


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_mse_has_the_least_error(bits: int) -> None:
    model, variables = linen(bits=bits)
    (found,) = [
        found
        for found in calibrate(model, BATCHES, variables=variables, method="mse").ranges
        if found.path == "x_full_scale"
    ]

    @jax.jit
    def error(full_scale: Any) -> Any:
        v = jnp.asarray(DATA)
        return jnp.mean((v - quantize(v, bits=bits, full_scale=full_scale)) ** 2)

    grid = DATA.max() * np.geomspace(0.02, 1, 200).astype(np.float32)
    least = min(float(error(c)) for c in grid)
    # The rounding error is taken as spread evenly, of which two bits are the worst case.
    assert float(error(jnp.float32(found.full_scale))) <= 1.06 * least
    assert float(error(DATA.max())) > 1.2 * least or bits == 8
    assert found.clipped == pytest.approx(np.mean(found.full_scale < DATA), abs=1e-6)


def test_shared_layers_and_stacks() -> None:
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, _: None = None) -> tuple[jax.Array, None]:
            return 3 * nn.Dense(6)(x), None

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, train: bool) -> jax.Array:
            x = nn.BatchNorm(use_running_average=not train)(x)
            shared = nn.Dense(6, name="shared")
            x = shared(10 * shared(x))
            axes, rngs = {"params": 0, "ranges": 0}, {"params": True, "noise": True}
            scan = nn.scan(Block, length=2, variable_axes=axes, split_rngs=rngs)
            x, _ = scan(name="stack")(x, None)
            return nn.Einsum((200, 6, 2), "bk,bkn->bn", use_bias=False, name="many")(x)

    model = convert(Net(), rule())
    variables = model.init(KEY, BATCHES[0], False)
    for method in ("absmax", "percentile"):
        found = calibrate(
            model, BATCHES, variables=variables, method=method, percentile=100.0, train=False
        )
        ranges = ranges_of(found)
        assert set(ranges) == {
            *(f"{layer}/{signal}_full_scale" for layer in ("shared", "many") for signal in "xy"),
            *(f"stack/Dense_0/{signal}_full_scale[{i}]" for signal in "xy" for i in range(2)),
        }
        assert ranges["stack/Dense_0/x_full_scale[1]"] == pytest.approx(
            3 * ranges["stack/Dense_0/y_full_scale[0]"], rel=0.1
        )
        # Of both calls the second is the louder one.
        assert ranges["shared/x_full_scale"] > 10
        assert found.variables["batch_stats"] is variables["batch_stats"]
    counted = {found.path: found.values for found in found.ranges}
    assert counted["shared/x_full_scale"] == 2 * counted["many/x_full_scale"] == 2 * DATA.size

    stack: Any = nnx.vmap(lambda rngs: nnx.Linear(6, 6, rngs=rngs))(nnx.Rngs(0).split(2))

    class Stacked(nnx.Module):
        def __init__(self) -> None:
            self.stack = stack

        def __call__(self, x: jax.Array) -> jax.Array:
            scan = nnx.scan(lambda b, x: b(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
            return scan(self.stack, x)

    model = convert(Stacked(), rule())
    found = calibrate(model, BATCHES, method="mse")
    assert [found.path for found in found.ranges] == [
        f"stack/{signal}_full_scale[{i}]" for signal in "xy" for i in range(2)
    ]
    assert model.stack.x_full_scale[...].shape == (2,)
    assert len({found.full_scale for found in found.ranges}) == 4


class Rematerialized(nnx.Module):
    """What `checkpoint` has traced in one call is there in the next."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.dense = nnx.Linear(6, 5, rngs=rngs)

    @nnx.remat
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.dense(x)


class Jitted(nn.Module):
    """So is what `jit` has traced."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.jit(nn.Dense)(5, name="dense")(x)


def test_what_was_traced_before_is_measured() -> None:
    want = {"dense/x_full_scale": DATA.max()}
    model = convert(Rematerialized(nnx.Rngs(0)), rule(), rngs=nnx.Rngs(noise=0))
    model.train()
    model(BATCHES[0])
    model.eval()
    model(BATCHES[0])
    assert ranges_of(calibrate(model, BATCHES, method="mse")).keys() > want.keys()
    assert ranges_of(calibrate(model, BATCHES)).items() > want.items()

    network = convert(Jitted(), rule())
    variables = network.init(KEY, BATCHES[0])
    network.apply(variables, BATCHES[0], mutable=["ranges"])
    found = calibrate(network, BATCHES, variables=variables, method="mse")
    again = calibrate(network, BATCHES, variables=variables)
    assert ranges_of(again).items() > want.items()
    assert all(0 < one.full_scale <= one.largest for one in found.ranges)


def test_what_is_not_finite_or_not_there_sets_no_range() -> None:
    model, variables = linen()
    broken = BATCHES[0].at[0].set(jnp.nan).at[1].set(jnp.inf)
    for method in ("absmax", "mse"):
        clean = calibrate(model, [BATCHES[0][2:]], variables=variables, method=method)
        dirty = calibrate(model, [broken], variables=variables, method=method)
        assert ranges_of(dirty) == ranges_of(clean)
        silent = calibrate(model, [jnp.zeros((4, 6))], variables=variables, method=method)
        assert ranges_of(silent)["x_full_scale"] == 0


def test_the_report_is_a_table_and_json() -> None:
    model, variables = linen()
    found = calibrate(model, BATCHES, variables=variables, method="percentile", percentile=90.0)
    assert repr(found) == "Calibration of 2 converters by 'percentile' over 3 batches"
    lines = str(found).splitlines()
    assert lines[2].split() == ["converter", "full", "scale", "largest", "clipped", "values"]
    assert lines[3].startswith("x_full_scale  ")
    assert lines[3].endswith("10 %     3600")
    content = json.loads(found.to_json())
    assert content["ranges"][0]["full_scale"] == found.ranges[0].full_scale
    assert (content["method"], content["batches"]) == ("percentile", 3)
    assert "<td>10 %</td>" in found._repr_html_()


def test_progress_counts_both_passes(capsys: pytest.CaptureFixture[str]) -> None:
    model, variables = linen()
    calibrate(model, BATCHES, variables=variables, method="mse", progress=True)
    assert "6/6" in capsys.readouterr().err


def test_wrong_use_is_told() -> None:
    model, variables = linen()
    plain = nn.Dense(5)
    given: dict[str, Any] = {"model": model, "batches": BATCHES, "variables": variables}
    for change, error, message in [
        ({"model": 3}, TypeError, "`model` is of type int, expected a flax.linen.Module or a"),
        ({"variables": None}, TypeError, "`variables` is of type NoneType, expected the variables"),
        (
            {"model": nnx.Linear(6, 5, rngs=nnx.Rngs(0))},
            TypeError,
            "`variables` is of type dict, expected None with an NNX model",
        ),
        ({"batches": []}, ValueError, "`batches` is empty, expected at least one batch"),
        ({"method": "max"}, ValueError, "`method` is 'max', expected 'absmax', 'percentile' or"),
        ({"percentile": 0}, ValueError, "`percentile` is 0, expected above 0 and at most 100"),
        (
            {"model": plain, "variables": plain.init(KEY, BATCHES[0])},
            ValueError,
            "`model` keeps no ranges, expected optical layers whose DAC or ADC is on, and with",
        ),
        (
            {"variables": {"params": variables["params"]}},
            ValueError,
            "`model` keeps no ranges, expected optical layers whose DAC or ADC is on, and with a "
            "Linen model `variables` that have the ranges which its `init` makes",
        ),
    ]:
        with pytest.raises(error, match=f"^calibrate: {re.escape(message)}"):
            calibrate(**{**given, **change})
    assert lumina_jax.layers.calibrate is calibrate
