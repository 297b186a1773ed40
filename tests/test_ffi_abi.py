"""The XLA targets: the bits of the NumPy entry, our words in every error, and no deadlock."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumina_jax import _lumina
from operands import EVERY_GRADIENT, EVERY_PEAK

ROWS, DEPTH, COLUMNS = 67, 50, 131


def ffi_call(op, attrs, inputs, outputs):
    """A jitted call of the target itself, without the primitive around it."""
    attrs = {k: v if isinstance(v, bool | str) else np.int32(v) for k, v in attrs.items()}
    call = jax.ffi.ffi_call(f"lumina.{op}.v1", outputs)
    return jax.jit(lambda *inputs: call(*inputs, **attrs))(*inputs)


def matmul_operands(rng):
    x = rng.standard_normal((ROWS, DEPTH)).astype(np.float32)
    w = rng.standard_normal((DEPTH, COLUMNS)).astype(np.float32)
    # Subnormals, which every thread must flush alike, and what is not finite.
    x[0], x[1, 3], x[2, 4] = 1e-39, np.nan, np.inf
    w[:, 5] = 1e-40
    return [
        x,
        w,
        rng.standard_normal(COLUMNS).astype(np.float32),
        np.abs(x[:, 0]) + 1,
        np.full(1, 2.0, np.float32),
        np.full(COLUMNS, 12.0, np.float32),
        np.array([[0.1, 0.1, 0.1, 0.1]], np.float32),
        np.array([[1, 2]], np.uint32),
        np.arange(ROWS, dtype=np.uint32),
        np.arange(COLUMNS, dtype=np.uint32),
    ]


def matmul_attrs(bits, *, noisy):
    return {
        "dac_bits": bits,
        "weight_bits": bits,
        "adc_bits": bits,
        "array_rows": 0,
        "transpose_weight": False,
        "noisy": noisy,
    }


def shapes(arrays):
    return [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays]


def assert_same_bits(got, expected):
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == e.dtype
        np.testing.assert_array_equal(
            np.asarray(g).view(f"u{e.itemsize}"), e.view(f"u{e.itemsize}")
        )


@pytest.mark.parametrize("bits", [0, 1, 4, 8, 16])
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("residual", ["pre_noise", "slope", "signs"])
def test_xla_and_numpy_give_the_same_bits(bits, noisy, residual):
    operands = matmul_operands(np.random.default_rng(bits))
    attrs = matmul_attrs(bits, noisy=noisy) | {"residual": residual}
    with_peak = attrs | EVERY_PEAK
    expected = _lumina.call("optical_matmul_fwd", with_peak, operands)
    got = ffi_call("optical_matmul_fwd", with_peak, operands, shapes(expected))
    assert_same_bits(got, expected)

    attrs |= {"grad_precision": "float32", **EVERY_GRADIENT}
    if residual != "pre_noise":
        attrs |= {"adc_bits": 0, "with_ranges": False, "noisy": noisy and residual == "signs"}
    x, w, _, *rest = operands
    backward = [np.ones((ROWS, COLUMNS), np.float32), expected[1], x, w, *rest]
    expected = _lumina.call("optical_matmul_grad", attrs, backward)
    got = ffi_call("optical_matmul_grad", attrs, backward, shapes(expected))
    assert_same_bits(got, expected)


def test_small_ops_give_the_same_bits():
    rng = np.random.default_rng(1)
    v = rng.standard_normal((33, 70)).astype(np.float32)
    cases = [
        ("quantize", {"bits": 5}, [v, np.full((1, 70), 2.0, np.float32)]),
        (
            "optical_noise",
            {},
            [np.uint32([[3, 4]]), np.arange(33, dtype=np.uint32), np.arange(70, dtype=np.uint32)],
        ),
    ]
    for op, attrs, inputs in cases:
        expected = _lumina.call(op, attrs, inputs)
        assert_same_bits(ffi_call(op, attrs, inputs, shapes(expected)), expected)


def test_an_empty_batch():
    v = np.zeros((0, 4), np.float32)
    (got,) = ffi_call("quantize", {"bits": 8}, [v, np.ones((1, 1), np.float32)], shapes([v]))
    assert got.shape == (0, 4)


V = np.ones((2, 3), np.float32)
S = np.ones((1, 1), np.float32)


@pytest.mark.parametrize(
    ("attrs", "inputs", "outputs", "text"),
    [
        ({"bits": 8}, [V, S], [V.T], r"quantize: result 0 is f32\[3,2\], expected f32\[2,3\]"),
        ({"bits": 8}, [V, S], [V, V], "quantize: got 2 results, expected 1"),
        (
            {"bits": 8},
            [V, S],
            [V.astype(np.int32)],
            r"quantize: result 0 is i32\[2,3\], expected f32\[2,3\]",
        ),
        ({"bits": 8}, [V[0], S], [V], "quantize: `v` must be"),
        ({"bits": 99}, [V, S], [V], "quantize: .*bits"),
        ({"bits": True}, [V, S], [V], r"quantize: .*`bits` must be an integer, got Bool\(true\)"),
        ({}, [V, S], [V], "quantize: attribute `bits` is missing, expected an integer"),
        (
            {"bits": 8},
            [V.astype(np.uint16), S],
            [V],
            "quantize: operand 0 is of type u16, expected one of pred, s8, ",
        ),
    ],
)
def test_a_wrong_call_is_an_error_with_our_text(attrs, inputs, outputs, text):
    with pytest.raises(jax.errors.JaxRuntimeError, match=text) as caught:
        jax.block_until_ready(ffi_call("quantize", attrs, inputs, shapes(outputs)))
    assert "INVALID_ARGUMENT" in str(caught.value)


def test_a_donated_operand_is_not_overwritten_under_our_feet():
    call = jax.ffi.ffi_call(
        "lumina.quantize.v1", jax.ShapeDtypeStruct(V.shape, V.dtype), input_output_aliases={0: 0}
    )
    aliased = jax.jit(lambda v, s: call(v, s, bits=np.int32(8)))
    with pytest.raises(jax.errors.JaxRuntimeError, match="shares memory with operand 0"):
        jax.block_until_ready(aliased(V, S))


def test_every_op_is_registered():
    names = [f"lumina.{op}.v1" for op in _lumina.op_names()]
    assert [name for name, _ in _lumina.registrations()] == names


def test_a_loop_over_calls():
    v = np.linspace(-2, 2, 600, dtype=np.float32).reshape(6, 20, 5)
    call = jax.ffi.ffi_call("lumina.quantize.v1", jax.ShapeDtypeStruct((20, 5), jnp.float32))
    got = jax.jit(lambda v: jax.lax.map(lambda v: call(v, S, bits=np.int32(4)), v))(v)
    for g, one in zip(got, v, strict=True):
        assert_same_bits([g], _lumina.call("quantize", {"bits": 4}, [one, S]))


STRESS = """
import os, sys, threading
if hasattr(os, "sched_setaffinity"):  # XLA makes one thread per core that it may use
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
import jax, jax.numpy as jnp, numpy as np
import lumina_jax.ops

call = jax.ffi.ffi_call("lumina.quantize.v1", jax.ShapeDtypeStruct((512, 300), jnp.float32))
noise = jax.ffi.ffi_call("lumina.optical_noise.v1", jax.ShapeDtypeStruct((300, 512), jnp.float32))
ids = np.arange(512, dtype=np.uint32)

@jax.jit
def step(v):
    # Calls that do not wait for each other, so that XLA may run them at the same time.
    parts = [call(v + i, np.ones((1, 1), np.float32), bits=np.int32(4)) for i in range(8)]
    seed = jnp.zeros((1, 2), jnp.uint32)
    eps = [noise(seed + np.uint32(i), ids[:300], ids) for i in range(4)]
    return sum(parts), sum(eps)

v = np.linspace(-8, 1, 512 * 300, dtype=np.float32).reshape(512, 300)
expected = [np.asarray(e) for e in step(v)]
wrong = []

def work():
    for _ in range(30):
        if not all((np.asarray(g) == e).all() for g, e in zip(step(v), expected)):
            wrong.append(1)

threads = [threading.Thread(target=work) for _ in range(6)]
for t in threads: t.start()
for t in threads: t.join()
print("wrong" if wrong else "right")
"""


@pytest.mark.parametrize("cores", [1, 2])
def test_many_concurrent_calls_on_few_threads_do_not_deadlock(cores):
    done = subprocess.run(
        [sys.executable, "-c", STRESS, str(cores)],
        env=os.environ | {"XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["right"]


UNBUILT = """
import sys
sys.modules["lumina_jax._lumina"] = None
try:
    import lumina_jax._native
except ImportError as error:
    print(error)
"""


def test_an_unbuilt_module_says_how_to_build_it():
    done = subprocess.run(
        [sys.executable, "-c", UNBUILT], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == (
        "lumina_jax is not built for this Python: run `pip install .` in its source directory "
        "(needs a Rust toolchain)"
    )
