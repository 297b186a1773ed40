"""The ops on arrays of any library: the bits of JAX, in the memory of the caller."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lumina_jax as lj
from any_array import CASES, FINE, IDS, KEY, NOISY, SEED, Calls, Case, complexes, real
from lumina_jax import array_api

strict = pytest.importorskip("array_api_strict", reason="needs array-api-strict")
XP = array_api.namespace("lumina_nano_v1", key=jax.random.key(0))
NOISY_CALL = NOISY | {"seed": SEED}
SPEC = lj.OpticalSpec()


class Library(NamedTuple):
    """How arrays of a library are made of NumPy's and read as such."""

    made: Any
    read: Any = np.asarray


LIBRARIES = {
    "numpy": Library(lambda array: array),
    "jax": Library(jnp.asarray),
    "strict": Library(strict.asarray, np.from_dlpack),
    "namespace": Library(XP.asarray),
}


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_bits_are_those_of_jax_in_every_library(case: Case) -> None:
    expected = case.expected()
    for name, library in LIBRARIES.items():
        results = case.on(array_api, library.made)
        assert len(results) == len(expected)
        for got, value in zip(results, expected, strict=True):
            assert type(got) is type(library.made(value)), name
            array = library.read(got)
            assert (array.shape, array.dtype) == (value.shape, value.dtype), name
            assert array.tobytes() == value.tobytes(), name


@pytest.mark.parametrize("case", [case for case in CASES if case.shares], ids=lambda c: c.name)
@pytest.mark.parametrize("name", ["numpy", "strict"])
def test_memory_is_that_of_the_caller_in_and_out(
    name: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch)
    library = LIBRARIES[name]
    arrays = {id(array): library.made(array) for array in case.arrays}
    results = case.on(array_api, lambda array: arrays.get(id(array), library.made(array)))
    assert {library.read(array).ctypes.data for array in arrays.values()} <= calls.inputs
    assert {library.read(array).ctypes.data for array in results} <= calls.outputs
    for array in results:
        array[...] = 0  # it can be written to


def test_columns_that_follow_each_other_are_read_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    for op, x, w in (
        ("optical_matmul", real(4, 6), real(5, 6)),
        ("complex_optical_matmul", complexes(4, 6), complexes(5, 6)),
        ("complex_matmul", complexes(4, 6), complexes(5, 6)),
    ):
        options = {} if op == "complex_matmul" else NOISY_CALL
        got = getattr(array_api, op)(x, w.T, **options)
        assert w.ctypes.data in calls.inputs
        same = getattr(array_api, op)(x, w.T.copy(), **options)
        assert got.tobytes() == same.tobytes()


def test_any_layout_is_read_and_none_is_written() -> None:
    x, w = real(6, 8), real(8, 4)
    expected = array_api.optical_matmul(x, w, **NOISY_CALL)
    apart = np.zeros((12, 16), np.float32)[::2, ::2]
    apart[...] = x
    shifted = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(6, 8)
    shifted[...] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    layouts = {
        "apart": apart,
        "reversed": x[::-1, ::-1].copy()[::-1, ::-1],
        "by column": np.asfortranarray(x),
        "not aligned": shifted,
        "big-endian": x.astype(">f4"),
        "read-only": read_only,
        "subclass": x.view(type("Sub", (np.ndarray,), {})),
    }
    for name, array in layouts.items():
        got = array_api.optical_matmul(array, w, **NOISY_CALL)
        assert type(got) is np.ndarray
        assert got.tobytes() == expected.tobytes(), name
        assert np.array_equal(array, x), name
    rows = np.broadcast_to(x[:1], x.shape)
    got = array_api.optical_matmul(strict.asarray(rows), strict.asarray(w), **NOISY_CALL)
    same = array_api.optical_matmul(rows.copy(), w, **NOISY_CALL)
    assert np.from_dlpack(got).tobytes() == same.tobytes()


def test_results_are_memory_of_their_own() -> None:
    v = real(3, 4)
    out = array_api.quantize(v, bits=None)
    out += 1
    assert np.array_equal(out, v + 1)
    seen = array_api.optical_matmul(v, real(4, 2), return_pre_noise=True, **NOISY_CALL)
    assert all(array.flags.writeable for array in seen)


def test_no_array_is_kept() -> None:
    x, w = real(4, 6), real(6, 3)
    array_api.optical_matmul(x, w, **NOISY_CALL)
    seen = [weakref.ref(x), weakref.ref(w)]
    del x, w
    gc.collect()
    assert [reference() for reference in seen] == [None, None]


def test_a_seed_is_the_key_of_its_two_words() -> None:
    x, w = real(4, 6), real(6, 3)
    by_seed = array_api.optical_matmul(x, w, **NOISY, seed=np.int64(5))
    for key in (jax.random.key(5), jax.random.PRNGKey(5)):
        assert by_seed.tobytes() == array_api.optical_matmul(x, w, **NOISY, key=key).tobytes()
    rbg = jax.random.key(5, impl="rbg")
    expected = np.asarray(lj.optical_matmul(x, w, **NOISY, key=rbg))
    assert array_api.optical_matmul(x, w, **NOISY, key=rbg).tobytes() == expected.tobytes()
    traced = jax.jit(lambda x, key: array_api.optical_matmul(x, jnp.asarray(w), **NOISY, key=key))
    assert np.asarray(traced(x, jax.random.key(5))).tobytes() == by_seed.tobytes()


def test_noise_is_that_of_the_library_that_is_asked_for() -> None:
    expected = np.asarray(lj.optical_noise(KEY, (6, 5)))
    for xp, read in ((None, np.asarray), (np, np.asarray), (jnp, np.asarray), (XP, np.asarray),
                     (strict, np.from_dlpack)):  # fmt: skip
        got = array_api.optical_noise(SEED, (6, 5), xp=xp)
        assert type(got) is type((np if xp is None else xp).zeros(1))
        assert read(got).tobytes() == expected.tobytes()
        rest = array_api.optical_noise(SEED, (4, 5), first_row=2, xp=xp)
        assert read(rest).tobytes() == expected[2:].tobytes()
    assert array_api.optical_noise(jax.random.key(5), (2, 3)).shape == (2, 3)


def test_complex128_needs_no_mode_of_jax() -> None:
    x, w = (complexes(3, 4).astype(np.complex128), complexes(4, 2).astype(np.complex128))
    got = array_api.complex_matmul(x, w)
    # Three products of doubles, of sums of four terms.
    np.testing.assert_allclose(got, x @ w, rtol=1e-13, atol=1e-14)
    with jax.enable_x64(True):
        assert np.asarray(lj.complex_matmul(x, w)).tobytes() == got.tobytes()


def test_numpy_within_jit_is_a_constant() -> None:
    x, w = real(4, 6), real(6, 3)
    kwargs = {"profile": "lumina_nano_v1", "y_full_scale": 4.0, "seed": 3}
    expected = array_api.optical_matmul(x, w, **kwargs)

    @jax.jit
    def within(y: jax.Array) -> jax.Array:
        noise = array_api.optical_matmul(x, w, bias=real(3) * 0, **kwargs)
        assert isinstance(noise, np.ndarray)
        assert noise.tobytes() == expected.tobytes()
        return y + noise

    within(jnp.zeros((4, 3)))
    with jax.transfer_guard("disallow"):
        assert array_api.optical_matmul(x, w, **kwargs).tobytes() == expected.tobytes()


def test_eight_threads_at_once() -> None:
    x, w = real(70, 40), real(40, 30)
    calls = [{**NOISY, "seed": seed, "y_full_scale": 3.0 + seed % 2} for seed in range(8)]
    expected = [
        np.asarray(lj.optical_matmul(x, w, **NOISY | {"y_full_scale": call["y_full_scale"]},
                                     key=jax.random.key(call["seed"]))).tobytes()
        for call in calls
    ]  # fmt: skip
    with ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            results = pool.map(lambda call: array_api.optical_matmul(x, w, **call), calls)
            assert [result.tobytes() for result in results] == expected


def test_other_numbers_are_the_same_program_and_zero_is_another() -> None:
    """A program is kept for each kind of call, and not for each of its numbers."""
    x, w = real(4, 6), real(6, 3)
    for relative, y_full_scale in ((0.1, 2.0), (0.2, 3.0), (0.0, 2.0), (0.3, np.float32(2))):
        noise = lj.NoiseModel(relative=relative)
        kwargs = {"spec": FINE, "noise": noise, "y_full_scale": y_full_scale}
        got = array_api.optical_matmul(x, w, **kwargs, seed=SEED)
        assert got.tobytes() == np.asarray(lj.optical_matmul(x, w, **kwargs, key=KEY)).tobytes()


@pytest.mark.parametrize(
    ("kind", "call", "text"),
    [
        (
            TypeError,
            lambda: array_api.optical_matmul(real(2, 3), strict.asarray(real(3, 2))),
            "optical_matmul: `w` is an array of array_api_strict and `x` one of NumPy; bring it "
            "there with numpy.asarray(w)",
        ),
        (
            TypeError,
            lambda: array_api.optical_matmul(
                XP.ones((2, 3)), array_api.namespace(None).ones((3, 2)), spec=SPEC
            ),
            "array_api: optical_matmul of arrays of two devices, 'lumina_nano_v1' and 'ideal'; "
            "bring one to the other with xp.asarray(array)",
        ),
        (
            ValueError,
            lambda: array_api.optical_attention(real(2, 3, 4), 1.0, real(2, 3, 4), spec=SPEC),
            "optical_attention: `k` has shape (), expected (..., s, h, d) with the leading "
            "dimensions () of `q`",
        ),
        (
            TypeError,
            lambda: array_api.optical_matmul([[1.0]], real(1, 1)),
            "optical_matmul: `x` must be an array of NumPy, PyTorch, JAX, Dask or another library "
            "of the Array API standard, got list",
        ),
        (
            TypeError,
            lambda: array_api.optical_matmul(real(2, 3).astype(np.float64), real(3, 2)),
            "optical_matmul: `x` must be float32, got float64; cast it with "
            "x.astype(numpy.float32)",
        ),
        (
            TypeError,
            lambda: array_api.optical_matmul(strict.ones(3, dtype=strict.int64), strict.ones(3)),
            "optical_matmul: `x` must be float32, got int64; cast it with "
            "array_api_strict.astype(x, array_api_strict.float32)",
        ),
        (
            TypeError,
            lambda: array_api.optical_matmul(complexes(2, 3), real(3, 2)),
            "optical_matmul: `x` must be float32, got complex64; pass its real part, or use "
            "complex_optical_matmul",
        ),
        (
            TypeError,
            lambda: array_api.complex_matmul(real(2, 3), real(3, 2)),
            "complex_matmul: `x` must be complex64 or complex128, got float32; cast it with "
            "x.astype(numpy.complex64)",
        ),
        (
            TypeError,
            lambda: array_api.optical_matmul(np.ma.ones((2, 3), np.float32), real(3, 2)),
            "optical_matmul: `x` is a masked array, whose mask would be lost; fill it with "
            "x.filled(0)",
        ),
        (
            ValueError,
            lambda: array_api.quantize(
                strict.ones(3, dtype=strict.float32, device=strict.Device("device1")), bits=3
            ),
            "quantize: `v` is on array_api_strict.Device('device1'), expected an array on the "
            "CPU; pass numpy.from_dlpack(v, device='cpu')",
        ),
        (
            ValueError,
            lambda: array_api.optical_matmul(real(2, 3), real(2, 3), spec=FINE, y_full_scale=1.0),
            "optical_matmul: `w` has shape (2, 3), expected (k, n) with k = 3, the last extent of "
            "`x`",
        ),
        (
            ValueError,
            lambda: array_api.optical_matmul(real(2, 3), real(3, 2), **NOISY),
            "optical_matmul: `noise` needs a `seed`, got None; pass an int such as seed=0, or "
            "noise=NoiseModel() for a quiet device",
        ),
        (
            ValueError,
            lambda: array_api.optical_matmul(real(2, 3), real(3, 2), **NOISY, seed=-1),
            "optical_matmul: `seed` must be from 0 to 18446744073709551615, got -1",
        ),
        (
            TypeError,
            lambda: array_api.optical_matmul(real(2, 3), real(3, 2), **NOISY, seed=1.5),
            "optical_matmul: `seed` must be an int, got 1.5",
        ),
        (
            TypeError,
            lambda: array_api.optical_matmul(real(2, 3), real(3, 2), **NOISY, seed=1, key=KEY),
            "optical_matmul: `seed` and `key` are given, expected one of them",
        ),
        (
            ValueError,
            lambda: array_api.optical_matmul(
                real(2, 3), real(3, 2), **NOISY | {"y_full_scale": -1.0}, seed=1
            ),
            "optical_matmul: `y_full_scale` must not be negative or NaN, got -1.0",
        ),
        (
            ValueError,
            lambda: array_api.quantize(real(2, 3), bits=4, full_scale=np.full(3, np.nan)),
            "quantize: `full_scale` must not be negative or NaN, got [nan nan nan]",
        ),
        (
            ValueError,
            lambda: array_api.optical_matmul(real(2, 3), real(3, 2), **NOISY, seed=1, first_row=-1),
            "optical_matmul: `first_row` must be from 0 to 4294967295, got -1",
        ),
        (
            ValueError,
            lambda: array_api.causal_softmax(real(2, 3), lengths=4),
            "causal_softmax: `lengths` must be at most 3, got 4",
        ),
        (
            ValueError,
            lambda: array_api.optical_attention(*[real(2, 3, 4)] * 3, spec=SPEC, offset=2),
            "optical_attention: `offset` is of use with `causal` alone, got 2",
        ),
        (
            TypeError,
            lambda: array_api.optical_matmul(real(2, 3), real(3, 2), spec={"adc_bits": [3]}),
            "optical_matmul: `spec` must be an OpticalSpec, got dict",
        ),
        (
            TypeError,
            lambda: array_api.quantize(real(2, 3), bits=8.0),
            "quantize: `bits` must be an int or None, got 8.0",
        ),
        (
            TypeError,
            lambda: array_api.optical_noise(1, (2, 3), xp=json),
            "optical_noise: `xp` must be an array of NumPy, PyTorch, JAX, Dask or another library "
            "of the Array API standard, got module",
        ),
        (
            TypeError,
            lambda: array_api.optical_matmul(real(2, 3)),
            "missing a required argument: 'w'",
        ),
    ],
)  # fmt: skip
def test_an_error_says_what_to_do(kind: Any, call: Any, text: str) -> None:
    array_api.quantize(real(2, 3), bits=8)  # a program that 8.0 bits must not find
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == text


def test_other_libraries_are_imported_by_those_who_use_them() -> None:
    code = "import sys, lumina_jax.array_api; assert not {'torch', 'dask'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
