"""PRNG keys: the noise seed of a model, and the keys derived from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from exported import Program
from exporter import ExportError
from exporter._graph import Role

KEY = jax.random.key(11)


def words(key: jax.Array) -> jax.Array:
    return jax.random.key_data(key)


@pytest.mark.parametrize("key", [KEY, jax.random.PRNGKey(11)], ids=["typed", "raw"])
def test_a_key_is_the_noise_seed(program: Program, key: jax.Array) -> None:
    def fn(x, key):
        return x + jnp.sum(jax.random.key_data(jax.random.fold_in(key, 3))).astype(jnp.float32)

    model = program.export(fn, np.ones((2, 2), np.float32), key, batch="batch")
    assert model.inputs["key"] == "u32[2]"
    assert [port.role for port in model.graph.inputs] == [Role.PLAIN, Role.NOISE_SEED]
    assert model.ops["threefry_fold_in"] == 1
    np.testing.assert_array_equal(model.tests[0].inputs[1], [0, 11])


DERIVED = [
    lambda k: words(jax.random.fold_in(jax.random.fold_in(k, 1), 2**32 - 1)),
    lambda k: words(jax.random.split(k)),
    lambda k: words(jax.random.split(k, 5)[3]),
    lambda k: words(jax.random.split(k, (2, 3))[1, :]),
    lambda k: words(jax.random.clone(jax.random.split(k, 4)[1:3])),
    lambda k: words(jnp.broadcast_to(k, (2, 3))),
    lambda k: words(jnp.stack([k, jax.random.fold_in(k, 1)])),
    lambda k: words(jax.random.split(k, (2, 3)).T),
    lambda k: words(jax.random.split(k, 6).reshape(2, 3)),
    lambda k: [words(key) for key in jax.random.split(k, 3)],
    lambda k: words(jnp.where(words(k)[0] > 0, k, jax.random.fold_in(k, 2))),
    lambda k: words(jnp.where(words(jax.random.split(k))[:, 0] > 2**30, k, KEY)),
    lambda k: words(jnp.tile(jax.random.split(k), (2,))),
    lambda k: words(jax.random.split(k, 5)[jnp.array([3, 0, 1])]),
    lambda k: words(jax.random.split(k, 5)[::-2]),
    lambda k: words(jax.random.wrap_key_data(words(k) + jnp.uint32(1))),
    lambda k: words(jax.random.split(jax.random.key(5))[1]) + words(k),
]


def test_derived_keys_are_those_of_jax(program: Program) -> None:
    program.export(lambda k: [derive(k) for derive in DERIVED], KEY)


def test_keys_among_the_params_are_constants(program: Program) -> None:
    params = {"key": KEY, "data": np.array([1, 2], np.uint32)}
    model = program.export(
        lambda p, x: x + words(p["key"]) + p["data"], np.uint32([3, 4]), params=params
    )
    assert list(model.weights) == ["data"]
    np.testing.assert_array_equal(model.graph.tensors[0].data, [0, 11])


def test_fold_in_of_data_from_an_argument(program: Program) -> None:
    program.export(lambda k, n: words(jax.random.fold_in(k, n[0])), KEY, np.array([7], np.int32))


@pytest.mark.parametrize(
    ("fn", "args", "message"),
    [
        (
            lambda a, b: words(a) + words(b),
            (KEY, KEY),
            "takes 2 PRNG keys, `a`, `b`, expected at most one",
        ),
        (
            lambda k: words(jax.random.fold_in(k, 1)),
            (jax.random.key(0, impl="rbg"),),
            r"key<rbg> PRNG key .*only threefry keys can be exported",
        ),
        (lambda k: k == jax.random.fold_in(k, 1), (KEY,), "it compares PRNG keys"),
        (lambda k: jax.random.normal(k, (3,)), (KEY,), "only the noise of the optical ops"),
        (
            lambda k: words(jax.vmap(jax.random.split)(jax.random.split(k, 3))),
            (KEY,),
            r"`random_split` .*it takes one key, got an array of shape \[3\]",
        ),
        (
            lambda x: words(jax.random.key(x)),
            (np.uint32(3),),
            "pass the key as an argument, made by jax.random.key",
        ),
    ],
    ids=["two", "rbg", "compare", "normal", "vmap", "seed"],
)
def test_errors(fn, args, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        exporter.export(fn, *args)


def test_the_old_split_is_refused() -> None:
    with (
        jax.threefry_partitionable(False),
        pytest.raises(ExportError, match="it means jax_threefry_partitionable=True"),
    ):
        exporter.export(lambda k: words(jax.random.split(k)), KEY)
