"""The NumPy contract: values, layouts, reproducibility, and the text of every error."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from lumina_jax import _lumina
from lumina_jax.numpy import (
    hello_lumina,
    optical_linear_forward,
    optical_linear_fused,
    optical_linear_infer,
    version,
)

BITS = [1, 2, 4, 8, 16, 23, 24, 32, None]


def adc(y, bits, full_scale):
    """The converter as the specification writes it, one float32 rounding per operation."""
    y = np.asarray(y, np.float32)
    if bits is None or bits >= 24:
        return np.where(np.isfinite(y), y, np.float32(np.nan))
    full_scale = np.asarray(full_scale, np.float32)
    with np.errstate(invalid="ignore"):
        if bits == 1:
            out = np.where(y < 0, -full_scale, full_scale)
        else:
            q = np.float32(2 ** (bits - 1) - 1)
            step = full_scale / q
            out = np.clip(np.rint(y / step), -q, q) * step
    return np.where(np.isfinite(y), out, np.float32(np.nan))


def small_integers(rng, *shape):
    """Integers whose products sum without rounding, in any order."""
    return rng.integers(-4, 5, shape).astype(np.float32)


def normals(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def noise(rows, columns, seed):
    words = np.array([[seed >> 32, seed & 0xFFFFFFFF]], np.uint32)
    ids = [np.arange(n, dtype=np.uint32) for n in (rows, columns)]
    return _lumina.call("optical_noise", {}, [words, *ids])[0]


def assert_same_bits(got, expected):
    assert got.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 1), (1, 7, 4), (5, 1, 6), (37, 65, 131)])
@pytest.mark.parametrize("biased", [False, True])
def test_exact_sums_give_the_bits_of_the_written_formula(bits, shape, biased):
    rows, depth, columns = shape
    rng = np.random.default_rng(depth)
    x, w = small_integers(rng, rows, depth), small_integers(rng, columns, depth)
    b = small_integers(rng, columns) if biased else None
    y = x.astype(np.float64) @ w.astype(np.float64).T + (b if biased else 0.0)
    scales = np.linspace(0.5, 60, columns, dtype=np.float32)
    assert_same_bits(optical_linear_infer(x, w, b, bits), adc(y, bits, 10.0))
    assert_same_bits(optical_linear_infer(x, w, b, bits, full_scale=scales), adc(y, bits, scales))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("seed", [0, 7, 2**32 + 7, 2**64 - 1])
def test_noise_is_that_of_the_seed(bits, seed):
    rng = np.random.default_rng(3)
    x, w, b = small_integers(rng, 9, 20), small_integers(rng, 70, 20), small_integers(rng, 70)
    y = x @ w.T + b
    relative = np.float32(0.1)
    sigma = np.sqrt(relative * relative * (y * y))
    expected = adc(y + sigma * noise(9, 70, seed), bits, 40.0)
    got = optical_linear_fused(x, w, b, 0.1, bits, seed, full_scale=40.0)
    assert_same_bits(got, expected)
    assert_same_bits(
        optical_linear_forward(x, w, b, 0.1, bits, seed=seed, full_scale=40.0), expected
    )


def test_a_float32_product_is_close_to_the_exact_one():
    rng = np.random.default_rng(5)
    x, w, b = normals(rng, 33, 300), normals(rng, 40, 300), normals(rng, 40)
    exact = x.astype(np.float64) @ w.astype(np.float64).T + b
    magnitude = np.abs(x).astype(np.float64) @ np.abs(w).astype(np.float64).T + np.abs(b)
    # One float32 rounding, of at most 2^-24, for each of the 300 terms and the bias.
    tolerance = 301 * 2.0**-24 * magnitude
    assert (np.abs(optical_linear_infer(x, w, b, 32) - exact) <= tolerance).all()


def test_forward_has_a_default_seed():
    rng = np.random.default_rng(6)
    x, w = normals(rng, 4, 8), normals(rng, 5, 8)
    assert_same_bits(
        optical_linear_forward(x, w, None, 0.1, 8), optical_linear_fused(x, w, None, 0.1, 8, 0)
    )


def test_no_noise_is_inference():
    rng = np.random.default_rng(7)
    x, w = normals(rng, 4, 8), normals(rng, 5, 8)
    assert_same_bits(
        optical_linear_fused(x, w, None, 0.0, 8, 3), optical_linear_infer(x, w, None, 8)
    )


def test_rows_do_not_depend_on_the_size_of_the_batch():
    rng = np.random.default_rng(8)
    x, w, b = normals(rng, 50, 30), normals(rng, 90, 30), normals(rng, 90)
    whole = optical_linear_fused(x, w, b, 0.2, 8, 11)
    for rows in (1, 2, 17, 49):
        assert_same_bits(optical_linear_fused(x[:rows], w, b, 0.2, 8, 11), whole[:rows])


@pytest.mark.parametrize("noise_std", [0.0, 0.1])
def test_an_empty_axis_works(noise_std):
    def call(rows, depth, columns, bias):
        x, w = np.zeros((rows, depth), np.float32), np.zeros((columns, depth), np.float32)
        return optical_linear_fused(x, w, bias, noise_std, 8, 1)

    assert call(0, 3, 4, None).shape == (0, 4)
    assert call(2, 3, 0, None).shape == (2, 0)
    assert call(2, 3, 0, np.zeros(0, np.float32)).shape == (2, 0)
    np.testing.assert_array_equal(call(2, 0, 3, None), np.zeros((2, 3)))
    if not noise_std:
        bias = np.float32([1, -1, 10])
        np.testing.assert_array_equal(call(2, 0, 3, bias), adc(np.tile(bias, (2, 1)), 8, 10.0))


@pytest.mark.parametrize("bits", [1, 8, 32])
@pytest.mark.parametrize("noise_std", [0.0, 0.1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_nan_in_its_row_alone(bits, noise_std, value):
    rng = np.random.default_rng(9)
    x, w = normals(rng, 6, 10), normals(rng, 7, 10)
    clean = optical_linear_fused(x, w, None, noise_std, bits, 2)
    x[3, 4] = value
    got = optical_linear_fused(x, w, None, noise_std, bits, 2)
    assert np.isnan(got[3]).all()
    others = np.arange(6) != 3
    assert_same_bits(got[others], clean[others])


@pytest.mark.parametrize("integer", [int, np.int8, np.uint8, np.int64, np.uint64])
@pytest.mark.parametrize("real", [float, np.float16, np.float32, np.float64, np.int32])
def test_numbers_of_numpy_are_numbers(integer, real):
    x = np.ones((1, 2), np.float32)
    got = optical_linear_fused(x, x, None, real(0), integer(8), integer(3), full_scale=real(4))
    np.testing.assert_array_equal(got, adc([[2.0]], 8, 4.0))


ONES = np.ones((2, 3), np.float32)
GOOD = {
    "input": ONES,
    "weight": np.ones((4, 3), np.float32),
    "bias": np.ones(4, np.float32),
    "noise_std": 0.1,
    "bits": 8,
    "seed": 1,
    "full_scale": 10.0,
}


def cast(name, dtype):
    return f"`{name}` must be float32, got {dtype}; pass numpy.asarray({name}, numpy.float32)"


WRONG_TYPES = [
    ("input", [[1.0]], "`input` must be a numpy.ndarray, got list"),
    (
        "input",
        ONES.astype(np.float64),
        "`input` must be float32, got float64; pass numpy.asarray(input, numpy.float32)",
    ),
    (
        "input",
        ONES.astype(">f4"),
        "`input` must be float32, got >f4; pass numpy.asarray(input, numpy.float32)",
    ),
    (
        "input",
        ONES.astype(np.complex64),
        "`input` must be float32, got complex64; pass input.real, or use complex_optical_linear or "
        "complex_matmul",
    ),
    ("weight", None, "`weight` must be a numpy.ndarray, got NoneType"),
    (
        "weight",
        ONES.astype(np.int32),
        "`weight` must be float32, got int32; pass numpy.asarray(weight, numpy.float32)",
    ),
    ("bias", 1.0, "`bias` must be a numpy.ndarray, got float"),
    (
        "bias",
        np.ones(4),
        "`bias` must be float32, got float64; pass numpy.asarray(bias, numpy.float32)",
    ),
    ("noise_std", None, "`noise_std` must be a number, got NoneType"),
    ("noise_std", True, "`noise_std` must be a number, got bool"),
    ("noise_std", 1j, "`noise_std` must be a number, got complex"),
    ("noise_std", np.ones(4, np.float32), "`noise_std` must be a number, got numpy.ndarray"),
    ("bits", 8.0, "`bits` must be an int or None, got 8.0"),
    ("bits", True, "`bits` must be an int or None, got True"),
    ("bits", np.True_, "`bits` must be an int or None, got np.True_"),
    ("bits", "8", "`bits` must be an int or None, got '8'"),
    ("seed", 1.0, "`seed` must be an int, got float"),
    ("seed", "1", "`seed` must be an int, got str"),
    ("full_scale", None, "`full_scale` must be a number, got NoneType"),
    ("full_scale", [1.0], "`full_scale` must be a number, got list"),
    (
        "full_scale",
        np.ones(4),
        "`full_scale` must be float32, got float64; pass numpy.asarray(full_scale, numpy.float32)",
    ),
]
WRONG_VALUES = [
    ("input", ONES[0], "`input` must be a matrix [B, in], got shape (3,)"),
    ("weight", ONES[None], "`weight` must be a matrix [out, in], got shape (1, 2, 3)"),
    (
        "weight",
        np.ones((3, 4), np.float32),
        "`weight` must have shape (out, 3) to fit `input` (2, 3), got (3, 4)",
    ),
    ("bias", np.ones((4, 1), np.float32), "`bias` must be a vector (4,), got shape (4, 1)"),
    ("bias", np.ones(1, np.float32), "`bias` must have shape (4,), got (1,)"),
    *(
        (
            "noise_std",
            value,
            "`noise_std` must be from 0 to 1, a fraction of |y|, and finite in "
            f"float32, got {value}",
        )
        for value in (-0.1, 15, np.nan, np.inf, 1e39)
    ),
    *(
        (
            "bits",
            value,
            f"`bits` must be from 1 to 32, or None for off, as 24 and more are; got {value}",
        )
        for value in (0, 33)
    ),
    ("seed", -1, f"`seed` must be from 0 to {2**64 - 1}, got -1"),
    ("seed", 2**64, f"`seed` must be from 0 to {2**64 - 1}, got {2**64}"),
    ("full_scale", 0, "`full_scale` must be positive and finite in float32, got 0"),
    ("full_scale", -1.0, "`full_scale` must be positive and finite in float32, got -1.0"),
    ("full_scale", 1e-39, "`full_scale` must be positive and finite in float32, got 1e-39"),
    (
        "full_scale",
        10**400,
        f"`full_scale` must be positive and finite in float32, got {10**400}",
    ),
    (
        "full_scale",
        np.float32([1, 2, 0, 1]),
        "`full_scale` must be positive and finite in float32, got 0.0 at index 2",
    ),
    (
        "full_scale",
        np.float32([1, np.nan, 1, 1]),
        "`full_scale` must be positive and finite in float32, got nan at index 1",
    ),
    ("full_scale", np.ones(3, np.float32), "`full_scale` must have shape (4,), got (3,)"),
    ("full_scale", np.array(1, np.float32), "`full_scale` must be a vector (4,), got shape ()"),
]


@pytest.mark.parametrize(
    ("error", "argument", "value", "text"),
    [(TypeError, *case) for case in WRONG_TYPES] + [(ValueError, *case) for case in WRONG_VALUES],
)
def test_errors_name_function_argument_got_and_expected(error, argument, value, text):
    arguments = GOOD | {argument: value}
    for function in (optical_linear_fused, optical_linear_forward):
        with pytest.raises(error) as caught:
            function(**arguments)
        assert str(caught.value) == f"{function.__name__}: {text}"
    if argument not in ("noise_std", "seed"):
        del arguments["noise_std"], arguments["seed"]
        with pytest.raises(error) as caught:
            optical_linear_infer(**arguments)
        assert str(caught.value) == f"optical_linear_infer: {text}"


V, S = np.ones((2, 2), np.float32), np.ones((1, 1), np.float32)


@pytest.mark.parametrize(
    ("error", "arguments", "text"),
    [
        (ValueError, ("nope", {}, []), r'`op` is "nope", expected one of causal_softmax, '),
        (ValueError, ("quantize", {}, [V, S]), r"^quantize: attribute `bits` is missing"),
        (TypeError, ("quantize", {"bits": {8}}, [V, S]), r"^attribute `bits` is a set, expected"),
        (ValueError, ("quantize", {"bits": [8]}, [V, S]), r"`bits` must be an integer, got .*8"),
        (TypeError, ("quantize", {"bits": 8}, [V, 1.0]), r"^input 1 is a float, expected a numpy"),
        (TypeError, ("quantize", {"bits": 8}, [V, S.astype(np.uint16)]), r"^input 1 is of type "),
        (
            ValueError,
            ("quantize", {"bits": 8}, [V, S.astype(np.float64)]),
            r"^quantize: `full_scale` must be f32\[.*\], got f64",
        ),
        (ValueError, ("quantize", {"bits": 8}, [V[0], S]), r"^quantize: `v` must be"),
    ],
)
def test_the_native_entry_names_what_it_refuses(error, arguments, text):
    with pytest.raises(error, match=text):
        _lumina.call(*arguments)


def test_the_bandwidth_is_of_no_more_than_lies_beyond_the_caches() -> None:
    assert _lumina.read_bandwidth(2**64 - 1, 0.001, 1) > 1e6
    # Longer than a clock can tell.
    with pytest.raises(ValueError, match=r"`seconds` is 10{30}: "):
        _lumina.read_bandwidth(64, 1e30, 1)


def test_the_native_entry_takes_every_element_type():
    for dtype in (np.complex64, np.int8, np.int32, np.uint32, np.bool_):
        with pytest.raises(ValueError, match=r"^quantize: `v` must be"):
            _lumina.call("quantize", {"bits": 8}, [V.astype(dtype), S])


def test_version_and_greeting():
    assert hello_lumina() == f"Hello from Lumina-JAX {version()}"


def run_python(code, **env):
    """The last line that a fresh interpreter prints. A hang is a failure."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


DIGEST = """
import hashlib, numpy as np
from lumina_jax.numpy import optical_linear_fused
rng = np.random.default_rng(0)
x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((131, 257), (300, 257), (300,)))
out = [optical_linear_fused(x, w, b, 0.1, bits, 5) for bits in (4, 8, 32)]
print(hashlib.sha256(b"".join(o.tobytes() for o in out)).hexdigest())
"""


def test_the_number_of_threads_changes_no_bit():
    digests = {run_python(DIGEST, RAYON_NUM_THREADS=str(n)) for n in (1, 2, 7)}
    assert len(digests) == 1


FORK = """
import os, numpy as np
from lumina_jax.numpy import optical_linear_infer
x = np.ones((256, 64), np.float32)
expected = optical_linear_infer(x, x, None, 32)
child = os.fork()
if child == 0:
    os._exit(0 if (optical_linear_infer(x, x, None, 32) == expected).all() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_has_threads_of_its_own():
    assert run_python(FORK, PYTHONWARNINGS="ignore") == "0"


NO_MEMORY_FOR_THREADS = """
import resource, numpy as np
from lumina_jax.numpy import optical_linear_infer
x = np.ones((2, 2), np.float32)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (size + 2**25, limit[1]))
try:
    optical_linear_infer(x, x, None, 8)
except RuntimeError as error:
    text = str(error)
resource.setrlimit(resource.RLIMIT_AS, limit)
optical_linear_infer(x, x, None, 8)
print(text)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
def test_an_internal_fault_is_a_runtime_error():
    text = run_python(NO_MEMORY_FOR_THREADS, RAYON_NUM_THREADS="200")
    assert text.startswith("cannot start the threads: ")


def test_the_gil_is_released():
    x = np.ones((4096, 2048), np.float32)
    w = np.ones((2048, 2048), np.float32)

    def turns_of_this_thread():
        started, finished = threading.Event(), threading.Event()

        def call():
            started.set()
            optical_linear_fused(x, w, None, 0.1, 8, 1)
            finished.set()

        thread = threading.Thread(target=call)
        thread.start()
        started.wait()
        turns = 0
        while not finished.is_set():
            time.sleep(0.0005)
            turns += 1
        thread.join()
        return turns

    # A call that held the GIL would leave a turn before it and one after it, each time. On a
    # machine that is busy, one that does not hold it may leave as few, but not each time.
    assert any(turns_of_this_thread() > 4 for _ in range(50))


def test_noise_on_the_scale_of_the_adc() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 8)).astype(np.float32)
    w = rng.normal(size=(40, 8)).astype(np.float32)
    y = x @ w.T
    thermal, shot = 0.02, 0.03
    for full_scale in (np.float32(5.0), np.linspace(1, 50, 40, dtype=np.float32)):
        noise = {"thermal": thermal, "shot": shot, "noise_unit": "full_scale"}
        out = optical_linear_fused(x, w, None, 0.1, 32, 7, full_scale=full_scale, **noise)
        sigma = np.sqrt(
            (thermal * full_scale) ** 2 + shot**2 * full_scale * np.abs(y) + 0.01 * y**2
        )
        # 20,000 normals: their standard deviation scatters by 0.5 %.
        assert ((out - y) / sigma).std() == pytest.approx(1.0, abs=0.02)
    raw = {"thermal": thermal * 5, "shot": shot * np.sqrt(5.0)}
    np.testing.assert_array_equal(
        optical_linear_forward(x, w, None, 0.1, 8, full_scale=5.0, **noise),
        optical_linear_forward(x, w, None, 0.1, 8, full_scale=5.0, **raw),
    )
    with pytest.raises(
        ValueError, match="`noise_unit` is 'volts', expected one of 'signal', 'full"
    ):
        optical_linear_fused(x, w, None, 0.1, 8, 7, noise_unit="volts")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="`thermal` must be 0 or more and finite in float32, got -1"
    ):
        optical_linear_fused(x, w, None, 0.1, 8, 7, thermal=-1.0)
