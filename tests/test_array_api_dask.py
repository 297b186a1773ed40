"""The ops on arrays of Dask: the bits of one call for any chunks, and nothing computed before."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import lumina_jax as lj
from any_array import CASES, FINE, IDS, KEY, NOISY, SEED, Calls, Case, complexes, real
from lumina_jax import array_api
from lumina_jax.array_api._ops import OPERATIONS

dask: Any = pytest.importorskip("dask", reason="needs Dask: pip install dask[array]")
strict: Any = pytest.importorskip("array_api_strict", reason="needs array-api-strict")
da: Any = pytest.importorskip("dask.array", reason="needs Dask: pip install dask[array]")


@pytest.fixture(autouse=True)
def small_chunks() -> Iterator[None]:
    with dask.config.set({"array.chunk-size": "24B"}):
        yield


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_bits_are_those_of_one_call_for_any_chunks(case: Case) -> None:
    expected = case.expected()
    for chunks in (1, 2, 3, -1):
        results = case.on(array_api, lambda a, c=chunks: da.from_array(a, chunks=(c,) * a.ndim))
        for lazy, got, value in zip(results, dask.compute(*results), expected, strict=True):
            assert isinstance(lazy, da.Array)
            assert (lazy.shape, lazy.dtype) == (got.shape, got.dtype) == (value.shape, value.dtype)
            assert got.tobytes() == value.tobytes(), chunks


def test_eight_chunks_are_one_call_with_ranges_of_all() -> None:
    """One row is far larger than the others, and one holds what is not finite."""
    x, w = real(40, 16), real(16, 7)
    x[33] *= 50
    x[5, 3] = np.inf
    for first_row in (0, 2**32 - 7):
        options = NOISY | {"y_full_scale": 9.0, "seed": SEED, "first_row": first_row}
        whole = array_api.optical_matmul(x, w, **options)
        arrays = da.from_array(x, chunks=(5, 4)), da.from_array(w, chunks=(3, 2))
        parts = array_api.optical_matmul(*arrays, **options)
        assert parts.numblocks == (8, 1)
        assert parts.compute().tobytes() == whole.tobytes()
        assert parts[12:33].compute(scheduler="synchronous").tobytes() == whole[12:33].tobytes()
    z, v = complexes(9, 4), complexes(4, 3)
    z[7] *= 20
    options = {"spec": FINE, "y_full_scale": 9.0}
    whole = array_api.complex_optical_matmul(z, v, **options)
    parts = array_api.complex_optical_matmul(
        da.from_array(z, chunks=2), da.from_array(v), **options
    )
    assert parts.compute().tobytes() == whole.tobytes()


@pytest.mark.parametrize("padding", ["VALID", "SAME", "CIRCULAR", 1])
def test_a_convolution_finds_the_range_of_what_its_patches_hold(padding: Any) -> None:
    """The largest element of the last image is in no patch where there is no padding."""
    x, kernel = real(6, 6, 5, 4), real(2, 2, 2, 4)
    x[5, 5, 4] = 100
    options = {"spec": FINE, "y_full_scale": 9.0, "strides": 2, "feature_group_count": 2}
    whole = array_api.optical_conv(x, kernel, padding=padding, **options)
    parts = array_api.optical_conv(
        da.from_array(x, chunks=(2, 3, 3, 3)), da.from_array(kernel), padding=padding, **options
    )
    assert parts.numblocks[0] == 3
    assert parts.compute().tobytes() == whole.tobytes()


def test_leading_axes_may_be_cut_anywhere() -> None:
    x, w = real(3, 4, 5, 8), real(8, 3)
    whole = array_api.optical_matmul(x, w, **NOISY, seed=SEED)
    lazy = da.from_array(x, chunks=((1, 2), (3, 1), (2, 2, 1), (8,)))
    got = array_api.optical_matmul(lazy, da.from_array(w), **NOISY, seed=SEED)
    assert got.compute().tobytes() == whole.tobytes()


def test_memory_is_that_of_the_blocks_in_and_out(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    inputs, outputs = calls.inputs, calls.outputs
    x = da.from_array(real(6, 8), chunks=(2, 8)).persist()
    w = da.from_array(real(8, 3), chunks=-1).persist()
    out = array_api.optical_matmul(x, w, **NOISY, seed=SEED).persist()

    def addresses(array: Any) -> set[int]:
        blocks = dask.compute(*array.to_delayed().ravel())
        return {block.ctypes.data for block in blocks}

    assert addresses(x) | addresses(w) <= inputs
    assert len(addresses(out)) == 3
    assert addresses(out) <= outputs


def test_nothing_is_computed_before_and_each_block_once() -> None:
    computed: Counter[int] = Counter()

    def block(block_id: tuple[int, int]) -> np.ndarray[Any, Any]:
        computed[block_id[0]] += 1
        return np.full((2, 8), block_id[0] + 1, np.float32)

    x = da.map_blocks(
        block, chunks=((2, 2, 2), (8,)), dtype=np.float32, meta=np.empty((0, 0), "f4")
    )
    y = array_api.quantize(array_api.optical_matmul(x, da.from_array(real(8, 3)), spec=FINE,
                                                    y_full_scale=9.0), bits=4)  # fmt: skip
    assert not computed
    y.compute()
    # Both the range and the product look at a block.
    assert computed == {0: 1, 1: 1, 2: 1}


def test_noise_is_made_in_blocks() -> None:
    lazy = array_api.optical_noise(SEED, (7, 3), xp=da)
    assert lazy.chunks == ((2, 2, 2, 1), (3,))
    assert lazy.compute().tobytes() == np.asarray(lj.optical_noise(KEY, (7, 3))).tobytes()


def test_what_schedulers_send_to_other_processes() -> None:
    for name, operation in OPERATIONS.items():
        assert pickle.loads(pickle.dumps(operation)).name == name


@pytest.mark.parametrize(
    ("kind", "call", "text"),
    [
        (
            TypeError,
            lambda: array_api.optical_matmul(da.ones((4, 3)), da.ones((3, 2)), spec=FINE),
            "optical_matmul: `x` must be float32, got float64; cast it with x.astype('float32')",
        ),
        (
            TypeError,
            lambda: array_api.optical_matmul(da.ones((4, 3)), real(3, 2), spec=FINE),
            "optical_matmul: `w` is an array of NumPy and `x` one of Dask; bring it there with "
            "dask.array.from_array(w)",
        ),
        (
            ValueError,
            lambda: array_api.quantize(ones(4)[ones(4) > 0], bits=3),
            "quantize: `v` has chunks of unknown size, expected known ones, by which rows are "
            "numbered; call v.compute_chunk_sizes() first",
        ),
        (
            ValueError,
            lambda: array_api.optical_matmul(ones(4, 3), ones(4, 3), spec=FINE, y_full_scale=1.0),
            "optical_matmul: `w` has shape (4, 3), expected (k, n) with k = 3, the last extent of "
            "`x`",
        ),
        (
            ValueError,
            lambda: array_api.quantize(ones(4), bits=3, full_scale=-1.0),
            "quantize: `full_scale` must not be negative or NaN, got -1.0",
        ),
        (
            TypeError,
            lambda: array_api.quantize(ones(4).map_blocks(np.ma.masked_less, 0), bits=3),
            "quantize: `v` is a masked array, whose mask would be lost; fill it with v.filled(0)",
        ),
        (
            TypeError,
            lambda: array_api.quantize(
                ones(4).map_blocks(strict.asarray, meta=strict.asarray([np.float32(1)])), bits=3
            ),
            "quantize: `v` is made of blocks of array_api_strict._array_object.Array, expected "
            "those of NumPy; pass v.map_blocks(convert), where convert makes one of them",
        ),
        (
            ValueError,
            lambda: array_api.quantize(ones(4), bits=3, full_scale=-ones(4)).compute(),
            "quantize: `full_scale` must not be negative or NaN, got [-1. -1. -1. -1.]",
        ),
    ],
)
def test_an_error_says_what_to_do(kind: Any, call: Any, text: str) -> None:
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == text


def ones(*shape: int) -> Any:
    return da.ones(shape, dtype=np.float32, chunks=-1)
