"""The complex product: its error bound, every type and layout, threads and cuts, and its errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from complex_cases import random_complex
from lumina_jax import complex_matmul
from operands import call

SIZES = [(1, 1, 1), (3, 7, 5), (17, 300, 33), (200, 20, 100), (5, 600, 250)]


def product(x: np.ndarray, w: np.ndarray, *, x_t: bool = False, w_t: bool = False) -> np.ndarray:
    dtype = {"complex64": "c64", "complex128": "c128"}[x.dtype.name]
    operands = x.T if x_t else x, w.T if w_t else w
    (out,) = call("complex_matmul", *operands, dtype=dtype, transpose_x=x_t, transpose_w=w_t)
    return out


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_error_is_small_beside_the_magnitudes(dtype: type) -> None:
    for size in SIZES:
        m, k, n = size
        rng = np.random.default_rng(size)
        x, w = random_complex(rng, m, k).astype(dtype), random_complex(rng, k, n).astype(dtype)
        # One part may be far smaller than the other, and has fewer digits then.
        x.imag *= 1e-3
        exact = x.astype(np.clongdouble) @ w.astype(np.clongdouble)
        bound = np.abs(x) @ np.abs(w)
        for x_t, w_t in [(False, False), (True, False), (False, True), (True, True)]:
            error = np.abs(product(x, w, x_t=x_t, w_t=w_t) - exact)
            # Three chains of k roundings each, of sums of parts up to twice as large; as the square
            # root of k on average.
            assert np.all(error <= (4 + 2 * np.sqrt(k)) * np.finfo(dtype).eps * bound)


def test_rows_are_independent_of_those_around_them() -> None:
    rng = np.random.default_rng(0)
    x, w = random_complex(rng, 300, 70), random_complex(rng, 70, 130)
    for dtype in (np.complex64, np.complex128):
        whole = product(x.astype(dtype), w.astype(dtype))
        for rows in (slice(0, 1), slice(190, 195), slice(7, 300)):
            part = product(x[rows].astype(dtype), w.astype(dtype))
            np.testing.assert_array_equal(part, whole[rows])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1j * np.inf, np.nan * 1j])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_no_finite_number_comes_of_one_that_is_not(bad: complex, dtype: type) -> None:
    rng = np.random.default_rng(1)
    x, w = random_complex(rng, 4, 20).astype(dtype), random_complex(rng, 20, 6).astype(dtype)
    for which, lost in ((x, np.s_[2, :]), (w, np.s_[:, 2])):
        before = which[2, 2]
        which[2, 2] = bad
        out = product(x, w)
        which[2, 2] = before
        expected = np.zeros(out.shape, bool)
        expected[lost] = True
        np.testing.assert_array_equal(np.isfinite(out.real), ~expected)
        np.testing.assert_array_equal(np.isfinite(out.imag), ~expected)


def test_128_bits_in_jax() -> None:
    with jax.enable_x64(True):
        rng = np.random.default_rng(2)
        x, w = rng.normal(size=(2, 3, 4)) + 1j, rng.normal(size=(4, 5)) - 1j
        np.testing.assert_allclose(complex_matmul(x, w), x @ w, rtol=1e-14)

        def loss(product: Any) -> Any:
            return lambda x, w: jnp.sum(jnp.abs(product(x, w)) ** 3)

        got, want = (jax.jit(jax.grad(loss(f), (0, 1)))(x, w) for f in (complex_matmul, jnp.matmul))
        for g, e in zip(got, want, strict=True):
            np.testing.assert_allclose(g, e, rtol=1e-12)


@pytest.mark.parametrize(
    ("x", "w", "error", "text"),
    [
        (np.ones((2, 3), np.float32), np.ones((3, 2), np.complex64), TypeError,
         r"complex_matmul: `x` must be complex64 or complex128, got float32; "
         r"cast it with x.astype\(jnp.complex64\)"),
        (np.ones((2, 3), np.complex64), np.ones((3, 2), np.float16), TypeError,
         "`w` must be complex64 or complex128, got float16"),
        (np.complex64(1), np.ones((3, 2), np.complex64), ValueError,
         r"`x` has shape \(\), expected \(..., k\)"),
        (np.ones((2, 4), np.complex64), np.ones((3, 2), np.complex64), ValueError,
         r"`w` has shape \(3, 2\), expected \(k, n\) with k = 4"),
    ],
)  # fmt: skip
def test_wrong_arguments(x: Any, w: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        complex_matmul(x, w)


def test_types_do_not_mix() -> None:
    with jax.enable_x64(True):
        x, w = jnp.ones((2, 3), np.complex64), jnp.ones((3, 2), np.complex128)
        with pytest.raises(TypeError, match="`w` must be complex64 as `x` is, got complex128"):
            complex_matmul(x, w)


@pytest.mark.parametrize("threads", ["1", "3"])
def test_threads_change_no_bit(threads: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x, w = random_complex(rng, 400, 300), random_complex(rng, 300, 200)
    np.savez(tmp_path / "in.npz", x=x, w=w)
    code = (
        "import numpy as np; from lumina_jax import _lumina; a = np.load('in.npz');"
        "attrs = dict(dtype='c64', transpose_x=False, transpose_w=False);"
        "np.save('out.npy', _lumina.call('complex_matmul', attrs, [a['x'], a['w']])[0])"
    )
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True,
        env={"RAYON_NUM_THREADS": threads, "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), product(x, w))
