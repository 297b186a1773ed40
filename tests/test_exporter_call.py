"""A model that is called: it takes and returns what the exported function does."""

from __future__ import annotations

import copy
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
import lumina_jax
from exported import Program

RNG = np.random.default_rng(3)
X = RNG.normal(size=(5, 4)).astype(np.float32)
W = RNG.normal(size=(4, 3)).astype(np.float32)


def same(got: Any, expected: Any) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_arrays_of_any_kind_and_batch(program: Program) -> None:
    model = exporter.export(lambda x: jnp.tanh(x @ W), X, batch="batch")
    loaded = exporter.load(program.verified(model))
    for x in (X, X[:1], X[:0], X[::-2], jnp.asarray(X), X.astype(np.float64), X[:, ::-1]):
        same(model(x), np.tanh(np.asarray(x, np.float32) @ W))
        same(loaded(x=x), model(x))
    assert copy.deepcopy(model)(X).shape == (5, 3)


def test_pytrees_in_and_out() -> None:
    def fn(x: Any, y: jax.Array, *rest: jax.Array) -> Any:
        image, (label, flag) = x["image"], x["label"]
        return {"sum": image.sum() + y, "pair": (label * 2, [flag, rest[0] - rest[1]])}

    x = {"image": X, "label": (np.arange(3, dtype=np.int32), np.True_)}
    arguments = x, np.float32(2), X[0], X[1]
    model = exporter.export(fn, *arguments)
    got = model(*arguments)
    expected = fn(*arguments)
    same(got["sum"], expected["sum"])
    same(got["pair"], (expected["pair"][0], tuple(expected["pair"][1])))
    # A Python number and integers of another width are taken where they fit.
    x = {"image": X, "label": (np.arange(3), True)}
    same(model(x, 2, X[0], X[1])["sum"], expected["sum"])
    same(exporter.export(lambda x: (x, x + 1), X)(X), (X, X + 1))


def test_noise_is_that_of_the_seed() -> None:
    spec, noise = lumina_jax.OpticalSpec(adc_bits=8), lumina_jax.NoiseModel(relative=0.1)

    def fn(x: jax.Array, key: jax.Array) -> jax.Array:
        return lumina_jax.optical_matmul(x, W, spec=spec, noise=noise, y_full_scale=4.0, key=key)

    model = exporter.export(fn, X, jax.random.key(0))
    expected = np.asarray(fn(X, jax.random.key(7)))
    for key in (7, jax.random.key(7), jax.random.PRNGKey(7), np.array([0, 7], np.uint32)):
        np.testing.assert_array_equal(model(X, key), expected)


def test_threads_wait_for_each_other() -> None:
    model = exporter.export(lambda x: jnp.tanh(x @ W), X, batch="batch")
    results: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda n=n: results.update({n: model(X[: n % 5 + 1])}))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, result in results.items():
        same(result, model(X)[: n % 5 + 1])


def test_wrong_arguments() -> None:
    model = exporter.export(lambda x, y: x + y, X, X, batch="batch")
    for args, options, error, message in (
        ((X,), {}, TypeError, "model: `y` is missing"),
        ((X, None), {}, TypeError, "model: `y` is missing"),
        ((X, X, X), {}, TypeError, "takes the arrays `x`, `y`, got more"),
        ((X, X), {"y": X}, TypeError, "`y` is given twice"),
        ((X,), {"z": X}, TypeError, "`z` is unknown, expected `x`, `y`"),
        ((X, {"a": X}), {}, ValueError, r"expected `y`, got an array at \['a'\] of a pytree"),
        ((X, X * 1j), {}, TypeError, "`y` must be f32, got complex64; convert it with `astype`"),
        ((X, X[:2]), {}, ValueError, "input `y`: axis 0 must be batch = 5"),
        ((X, X[0]), {}, ValueError, r"input `y` must be f32\[batch,4\], got f32\[4\]"),
    ):
        with pytest.raises(error, match=message):
            model(*args, **options)
    integers = exporter.export(lambda i: i + 1, np.arange(3, dtype=np.int32))
    with pytest.raises(TypeError, match="`i` must be i32, got int64 with numbers that do not fit"):
        integers(np.array([1, 2, 2**40]))
