"""From JAX through a file to the `lumina` binary: the numbers are the same."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
import lumina_jax
from exported import Program
from flax_layers import OpticalDense

RNG = np.random.default_rng(9)
X = RNG.standard_normal((6, 12)).astype(np.float32)


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(16)(x)
        for name in ("relu", "gelu", "tanh", "sigmoid", "silu", "softmax", "log_softmax"):
            x = getattr(jax.nn, name)(nn.Dense(16)(nn.LayerNorm()(x)))
        return nn.Dense(5)(nn.RMSNorm()(x))


def test_a_network_at_every_batch_size(program: Program) -> None:
    net = Mlp()
    variables = net.init(jax.random.key(1), X)
    path = program.verified(exporter.export(net.apply, X, params=variables, batch="batch"))
    for size in (0, 1, 7):
        x = RNG.standard_normal((size, 12)).astype(np.float32)
        got, want = program.run(path, x), np.asarray(net.apply(variables, x))
        assert got.shape == want.shape == (size, 5)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


class OpticalMlp(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic):
        x = nn.relu(OpticalDense(16)(x, deterministic=deterministic))
        return OpticalDense(5)(x, deterministic=deterministic)


@pytest.fixture(scope="module")
def trained():
    net = OpticalMlp()
    keys = {"params": jax.random.key(0), "noise": jax.random.key(1)}
    variables = net.init(keys, X, False)
    _, ranges = net.apply(variables, X, False, rngs=keys, mutable=["ranges"])
    return net, {**variables, **ranges}


def test_optical_network(program: Program, trained) -> None:
    net, variables = trained
    model = exporter.export(lambda x: net.apply(variables, x, True), X, batch="batch")
    assert model.ops == {"dequantize": 2, "optical_matmul": 2, "max": 1}
    path = program.verified(model)
    for size in (0, 1, 7):
        x = np.clip(RNG.standard_normal((size, 12)), -2, 2).astype(np.float32)
        np.testing.assert_array_equal(program.run(path, x), net.apply(variables, x, True))


@pytest.mark.parametrize(
    "crosstalk",
    [
        lumina_jax.crosstalk.RingComb(channels=5, spacing=1.3),
        lumina_jax.crosstalk.CrosstalkMatrix([[1, 0.05], [0.12, 0.9]]),
    ],
    ids=["comb", "matrix"],
)
def test_crosstalk_is_in_the_file(
    program: Program, crosstalk: lumina_jax.crosstalk.Crosstalk
) -> None:
    """Buses of 5 and of 2 channels, the last of 12 inputs on a bus that is not full."""
    net = OpticalDense(7, profile=lumina_jax.HardwareProfile(crosstalk=crosstalk))
    keys = {"params": jax.random.key(2), "noise": jax.random.key(3)}
    variables = net.init(keys, X, deterministic=False)
    _, ranges = net.apply(variables, X, deterministic=False, rngs=keys, mutable=["ranges"])
    variables = {**variables, **ranges}

    def fn(x):
        return net.apply(variables, x, deterministic=True)

    want = fn(X)
    quiet = OpticalDense(7, profile=lumina_jax.HardwareProfile())
    assert np.abs(want - quiet.apply(variables, X, deterministic=True)).max() > 0.01
    path = program.verified(exporter.export(fn, X, batch="batch"))
    # Whether crosstalk is folded before or after the export may round otherwise, which the ADC
    # can take to the neighboring code.
    got = program.run(path, X)
    step = np.max(np.asarray(jax.tree.leaves(ranges))) / 127
    np.testing.assert_allclose(got, want, rtol=0, atol=1.01 * step)
    assert np.mean(got == np.asarray(want)) > 0.9


def test_the_noise_is_that_of_jax(program: Program, trained) -> None:
    """Same seed, same noise, to the last bit: the runtime has the kernels of training."""
    net, variables = trained

    def fn(x, key):
        return net.apply(variables, x, False, rngs={"noise": key})

    model = exporter.export(fn, X, jax.random.key(0), batch="batch")
    path = program.verified(model)
    for seed in (0, 7, 2**40 + 3):
        words = jnp.array([seed >> 32, seed & 0xFFFFFFFF], jnp.uint32)
        want = fn(X, jax.random.wrap_key_data(words))
        np.testing.assert_array_equal(program.run(path, X, "--noise-seed", seed), want)
    np.testing.assert_array_equal(program.run(path, X, "--noise-seed", 7), fn(X, jax.random.key(7)))


def test_ops_of_their_own(program: Program) -> None:
    spec = lumina_jax.OpticalSpec(dac_bits=None, weight_bits=4, adc_bits=8)
    noise = lumina_jax.NoiseModel(relative=0.1, shot=0.01, thermal=0.02, weight=0.03)
    w = jnp.asarray(RNG.standard_normal((12, 4)), jnp.float32)

    def fn(x, key):
        first, second = jax.random.split(key)
        y = lumina_jax.optical_matmul(
            x, w, spec=spec, y_full_scale=8.0, noise=noise, key=jax.random.fold_in(first, 3)
        )
        eps = lumina_jax.optical_noise(second, (3, 4))
        return y, eps, lumina_jax.quantize(x, bits=3, full_scale=1.0)

    model = exporter.export(fn, X, jax.random.key(4), batch="batch")
    assert {"optical_matmul", "optical_noise", "quantize", "threefry_split"} <= set(model.ops)
    program.verified(model)


def test_inputs_and_constants_as_results(program: Program) -> None:
    program.export(lambda x: (x, jnp.ones(3), x, x + 1), X, batch="batch")


def test_several_symbols(program: Program) -> None:
    n, k = jax.export.symbolic_shape("n, k")
    struct = jax.ShapeDtypeStruct((n, k + 1), jnp.float32)
    model = exporter.export(lambda x: (x.reshape(-1), x @ x.T, x.sum(0) / x.shape[1]), struct)
    program.verified(model)
