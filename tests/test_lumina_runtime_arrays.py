"""Arrays of any origin go into `lumina_runtime` and out of it, where they lie."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import exporter
from runtime_models import W, X, dense, exported, rt


@pytest.fixture(scope="module")
def plain() -> Any:
    return exported(dense, X, batch="batch")[1]


@pytest.fixture(scope="module")
def flipped() -> Any:
    """Models that turn the rows of arrays of a type around."""
    made = {}

    def model(name: str) -> Any:
        if name not in made:
            with jax.enable_x64(True):
                x = np.zeros((2, 3), getattr(ml_dtypes, name, name))
                made[name] = rt.Model(exporter.export(lambda x: x[::-1], x).to_bytes())
        return made[name]

    return model


def test_arrays_of_any_layout_and_origin(plain: Any) -> None:
    model = plain
    want = model(X)
    read_only = X.copy()
    read_only.flags.writeable = False
    wide = np.zeros((10, 12), np.float32)
    wide[::2, ::-2] = X
    unaligned = np.frombuffer(b"." + X.tobytes(), np.float32, offset=1).reshape(X.shape)
    swapped = X.astype(">f4")
    for x in (
        np.asfortranarray(X),
        wide[::2, ::-2],
        read_only,
        unaligned,
        swapped,
        memoryview(X),
        jnp.asarray(X),
        X.tolist(),
        X.astype(np.float64),
    ):
        np.testing.assert_array_equal(model(x), want)
    np.testing.assert_array_equal(model(np.broadcast_to(X[:1], (3, 6))), [want[0]] * 3)
    np.testing.assert_array_equal(
        model(np.ones((2, 6), np.int8)), model(np.ones((2, 6), np.float32))
    )


def test_arrays_of_torch(plain: Any) -> None:
    torch = pytest.importorskip("torch")
    model = plain
    x = torch.from_numpy(X.copy())
    np.testing.assert_array_equal(model(x), model(X))
    np.testing.assert_array_equal(model(x.T.contiguous().T), model(X))
    np.testing.assert_array_equal(model(x.double()), model(X))
    out = torch.zeros(5, 4)
    assert model(x, out=out) is out
    np.testing.assert_array_equal(out.numpy(), model(X))
    with pytest.raises(TypeError, match=r"an array of float32, got an array of torch\.float64"):
        model(x, out=out.double())
    np.testing.assert_array_equal(model(x.requires_grad_()), model(X))


def test_outputs_are_the_callers(plain: Any) -> None:
    session = rt.Session(plain)
    first = session(X)
    kept = first.copy()
    assert first.flags.owndata
    session(X + 1)
    np.testing.assert_array_equal(first, kept)
    out = np.zeros((5, 4), np.float32)
    assert session(X, out=out) is out
    np.testing.assert_array_equal(out, kept)
    gaps = np.zeros((10, 4), np.float32, order="F")
    session(X, out=gaps[::-2])
    np.testing.assert_array_equal(gaps[::-2], kept)
    assert not gaps[::2].any()
    # The memory may be that of an input.
    x = np.concatenate([X, X], 1)
    session(x[:, :6], out=x[:, 2:6])
    np.testing.assert_array_equal(x[:, 2:6], kept)


def test_two_outputs_need_two_places() -> None:
    model = exported(lambda x: (x + 1, x * 2), X)[1]
    out = np.zeros((5, 12), np.float32)
    with pytest.raises(ValueError, match="are to be written to the same memory"):
        model(X, out=(out[:, :6], out[:, :6]))
    assert not out.any()
    # Memory of both may lie between each other.
    model(X, out=(out[:, ::2], out[:, 1::2]))
    np.testing.assert_array_equal(out[:, ::2], X + 1)
    np.testing.assert_array_equal(out[:, 1::2], X * 2)


def test_all_element_types() -> None:
    types = "float32 float64 float16 complex64 complex128 int8 uint8 int16 int32 int64 uint32 bool"
    with jax.enable_x64(True):
        for name in [*types.split(), "bfloat16"]:
            numpy = np.dtype(getattr(ml_dtypes, name, name))
            x = (np.arange(6).reshape(2, 3) % 3).astype(numpy)
            model = rt.Model(exporter.export(lambda x: (x[::-1], x.T), x).to_bytes())
            assert model.inputs[0].dtype == name
            for given in (x, np.asfortranarray(x), jnp.asarray(x)):
                flipped, transposed = model(given)
                assert flipped.dtype == transposed.dtype == numpy
                np.testing.assert_array_equal(flipped, x[::-1])
                np.testing.assert_array_equal(transposed, x.T)
            out = (np.zeros((2, 3), numpy), np.zeros((3, 2), numpy))
            assert model(x, out=out) is not out
            np.testing.assert_array_equal(out[1], x.T)
    with pytest.raises(TypeError, match="`x` must be bfloat16, got complex"):
        model(x + 0.5j)


def test_scalars_and_models_without_inputs() -> None:
    model = rt.Model(exporter.export(lambda x: x * 2, jnp.float32(1)).to_bytes())
    assert model(3).shape == ()
    assert model(3) == model(3.0) == model(np.float32(3)) == 6
    assert rt.Model(exporter.export(lambda: W).to_bytes())().shape == (6, 4)


def test_numbers_are_converted_where_none_is_lost(flipped: Any) -> None:
    numbers = np.arange(6).reshape(2, 3)
    for name, given in {
        "uint32": numbers.tolist(),
        "int8": numbers.astype(np.uint64),
        "bfloat16": numbers.astype(np.int8),
        "complex64": numbers,
        "float32": np.full((2, 3), -(2**63)),
        "bool": [[True, False, True]] * 2,
    }.items():
        got = flipped(name)(given)
        assert got.dtype == getattr(ml_dtypes, name, name)
        np.testing.assert_array_equal(got, np.array(given, got.dtype)[::-1])
    for name, number in {
        "uint32": -1,
        "int8": 128,
        "float32": 2**53 + 1,  # as float64 it is a number of float32
        "float64": 2**63 - 1,
        "float16": -(2**63),
        "bfloat16": 257,
        "complex64": 2**24 + 1,
    }.items():
        with pytest.raises(TypeError, match=f"^`x` must be {name}, got int64 with numbers that do"):
            flipped(name)(np.full((2, 3), number))
    with pytest.raises(TypeError, match=r"^`x` must be bool, got int64; convert it with `astype`$"):
        flipped("bool")(numbers)


def test_objects_with_the_buffer_protocol_are_read_and_written(plain: Any) -> None:
    want = plain(X)
    # ctypes tells no strides.
    memory = (ctypes.c_float * 6 * 5).from_buffer_copy(X.tobytes())
    np.testing.assert_array_equal(plain(memory), want)
    out = (ctypes.c_float * 4 * 5)()
    assert plain(memory, out=out) is out
    np.testing.assert_array_equal(np.frombuffer(out, np.float32).reshape(5, 4), want)
    # A field of records lies at strides that are no multiples of its elements.
    records = np.zeros((5, 6), [("kind", "i1"), ("x", "f4")])
    records["x"] = X
    np.testing.assert_array_equal(plain(records["x"]), want)
    with pytest.raises(ValueError, match=r"^`out` for `.*` cannot be written: a stride is"):
        plain(X, out=records["x"][:, :4])
    with pytest.raises(TypeError, match=r"must be an array of float32, got an array of >f4$"):
        plain(X, out=np.zeros((5, 4), ">f4"))


def test_strided_bfloat16_is_used_where_it_lies(flipped: Any) -> None:
    model = flipped("bfloat16")
    x = np.arange(12).reshape(3, 4).astype(ml_dtypes.bfloat16)[::-1, ::2].T
    out = np.zeros((3, 2), ml_dtypes.bfloat16).T
    assert model(x[:, :3], out=out) is out
    np.testing.assert_array_equal(out, x[::-1, :3])
    out.flags.writeable = False
    with pytest.raises(ValueError, match="cannot be written: it is read-only"):
        model(x, out=out)


class Lent:
    """An array that is known by DLPack alone, of version 1 or the one before."""

    def __init__(self, array: np.ndarray, is_old: bool = False) -> None:
        self.array, self.is_old, self.dtype = array, is_old, array.dtype

    def __dlpack__(self, **options: Any) -> Any:
        if self.is_old and options:
            raise TypeError("no such argument")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("is_old", [False, True])
def test_memory_that_dlpack_lends_is_given_back(plain: Any, is_old: bool) -> None:
    x, want = X.copy(), plain(X)
    out = Lent(np.zeros((4, 5), np.float32).T, is_old)
    for _ in range(3):
        assert plain(Lent(x, is_old), out=out) is out
    np.testing.assert_array_equal(out.array, want)
    kept = weakref.ref(x)
    del x
    gc.collect()
    assert kept() is None
    out.array.flags.writeable = False
    with pytest.raises(ValueError, match="cannot be written: it is read-only"):
        plain(X, out=out)


def test_tensors_of_torch_that_are_not_what_their_memory_says(flipped: Any) -> None:
    torch = pytest.importorskip("torch")
    z = torch.tensor([[1 + 1j, 2 - 2j, 3j]] * 2, dtype=torch.complex64)
    np.testing.assert_array_equal(flipped("complex64")(z.conj()), z.numpy().conj())
    np.testing.assert_array_equal(flipped("float32")(z.conj().imag), -z.numpy().imag)
    # A conversion, too, leaves gradients behind.
    wide = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    assert (flipped("float32")(wide) == 1).all()
    for model, x, out in [
        ("complex64", z, torch.zeros(2, 3, dtype=torch.complex64).conj()),
        ("float32", z.imag, torch.zeros(2, 3, dtype=torch.complex64).conj().imag),
        ("float32", z.imag, torch.zeros(2, 3, requires_grad=True)),
        ("float32", z.imag, torch.zeros(2, 3, device="meta")),
    ]:
        with pytest.raises(ValueError, match="cannot be written: it is read-only, or no plain mem"):
            flipped(model)(x, out=out)


def test_references_are_given_back(plain: Any) -> None:
    x, out = X.copy(), np.zeros((5, 4), np.float32)
    before = sys.getrefcount(x), sys.getrefcount(out)
    for _ in range(10):
        plain(x, out=out)
        with pytest.raises(ValueError, match="axis 1 must be 6"):
            plain(x[:, :5], out=out)
    assert (sys.getrefcount(x), sys.getrefcount(out)) == before
    x.resize(0, 6)  # NumPy refuses it while somebody has the memory


def test_what_an_object_raises_beyond_exceptions_ends_the_call(plain: Any) -> None:
    class Impatient:
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plain(Impatient())
    with pytest.raises(UnicodeEncodeError):
        plain(**{"\udc80": X})
