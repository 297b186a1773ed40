"""Every way to shard an op over a 2 × 2 mesh, against the op on one device."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import lumina_jax
from complex_cases import random_complex
from lumina_jax import NoiseModel, OpticalSpec
from operands import EVERY_GRADIENT, EVERY_PEAK, NO_PEAK, bind, call, types_of

M, K, N = 12, 16, 8
SIZES = {"m": M, "k": K, "n": N}

Split = Mapping[str, str | tuple[str, ...]]
"""Mesh axes of the rows "m", the depth "k" and the columns "n"."""

BOTH = ("a", "b")
# The axes of the mesh are alike, so one of each kind stands for its mirror image.
SPLITS: list[Split] = [
    {},
    *({name: axes} for name in "mkn" for axes in ("a", BOTH)),
    {"m": "a", "k": "b"},
    {"m": "a", "n": "b"},
    {"k": "a", "n": "b"},
]


def name_of(split: Split) -> str:
    return " ".join(f"{name}/{''.join(axes)}" for name, axes in split.items()) or "whole"


def mesh_of(kind: AxisType = AxisType.Auto) -> Mesh:
    return jax.make_mesh((2, 2), ("a", "b"), axis_types=(kind, kind))


def put(mesh: Mesh, value: Any, *axes: Any) -> jax.Array:
    return jax.device_put(value, NamedSharding(mesh, PartitionSpec(*axes)))


QUIET = {
    "dac_bits": 4, "weight_bits": 4, "adc_bits": 0, "array_rows": 0,
    "transpose_weight": False, "noisy": False,
}  # fmt: skip
NOISY = {**QUIET, "dac_bits": 0, "weight_bits": 12, "transpose_weight": True, "noisy": True}

FORWARD: list[dict[str, Any]] = [
    {**chain, "residual": residual, **EVERY_PEAK}
    for chain in (QUIET, NOISY) for residual in ("pre_noise", "slope", "signs")
]  # fmt: skip
GRADIENT: list[dict[str, Any]] = [
    *({**chain, "residual": "pre_noise", "grad_precision": precision, **EVERY_GRADIENT}
      for chain in (QUIET, NOISY) for precision in ("float32", "bfloat16")),
    *({**chain, "residual": residual, "grad_precision": "float32", "with_inputs": True,
       "with_ranges": False}
      for chain, residual in ((QUIET, "slope"), (QUIET, "signs"), (NOISY, "signs"))),
]  # fmt: skip
COMPLEX: list[dict[str, Any]] = [
    {"dtype": "c64", "transpose_x": transposed, "transpose_w": not transposed}
    for transposed in (False, True)
]
ADC = {**NOISY, "adc_bits": 6, "residual": "slope", **NO_PEAK}


class Call(NamedTuple):
    """One op in a program, on operands that are made from its signature."""

    op: str
    attrs: dict[str, Any]
    finds_ranges: bool = False
    """Whether the full scales of x and w are left to the op."""

    def operands(self) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        made = []
        for name, tensor in types_of(self.op, **self.attrs).operands._asdict().items():
            shape = tensor.shape(SIZES)
            if name in ("rows", "columns"):
                # Neither starts at 0: ids are global.
                value = np.arange(250, 250 + shape[0], dtype=np.uint32)
            elif tensor.dtype == np.uint32:
                value = rng.integers(0, 2**32, shape, dtype=np.uint32)
            elif name == "seen":
                value = rng.integers(0, N + 1, shape, dtype=np.int32)
            elif tensor.dtype == np.int8:
                value = rng.choice(np.int8([-1, 0, 1, 2]), shape)
            elif tensor.dtype == np.complex64:
                value = random_complex(rng, *shape)
            else:
                value = rng.standard_normal(shape).astype(np.float32)
                if name.endswith("full_scale") or name == "noise":
                    scale = np.float32(0.1 if name == "noise" else 1.0)
                    value = (np.abs(value) + np.float32(1)) * scale
            if self.finds_ranges and name in ("x_full_scale", "w_full_scale"):
                value = np.zeros(0, np.float32)
            made.append(value)
        return made

    def put(self, mesh: Mesh, operands: Sequence[np.ndarray], split: Split) -> list[jax.Array]:
        tensors = types_of(self.op, **self.attrs).operands
        return [
            put(mesh, operand, *(split.get(name or "") for name in tensor.names))
            if operand.size
            else operand
            for operand, tensor in zip(operands, tensors, strict=True)
        ]

    def check(self, results: Sequence[jax.Array], split: Split) -> None:
        """Against one device: the same bits, where no split dimension is summed over."""
        expected = call(self.op, *self.operands(), **self.attrs)
        tensors = types_of(self.op, **self.attrs).results
        for index, (got, want, tensor) in enumerate(zip(results, expected, tensors, strict=True)):
            text = f"result {index} of {self}"
            if all(name in tensor.names for name in split):
                np.testing.assert_array_equal(got, want, text)
            else:
                # Shards change the order of a sum of at most 16 terms; 4 bits are 16 roundings.
                atol = 2.0**-20 * max(1.0, float(np.abs(want).max()))
                np.testing.assert_allclose(got, want, rtol=0, atol=atol, err_msg=text)


def run(calls: Sequence[Call], split: Split) -> list[list[jax.Array]]:
    """Results of all calls in one program over the mesh."""
    mesh = mesh_of()
    operands = [one.put(mesh, one.operands(), split) for one in calls]
    program = jax.jit(
        lambda operands: [
            bind(one.op, *values, **one.attrs) for one, values in zip(calls, operands, strict=True)
        ]
    )
    return program(operands)


@pytest.mark.parametrize("split", SPLITS, ids=name_of)
def test_the_chain_and_its_gradient(split: Split) -> None:
    calls = [
        *(Call("optical_matmul", chain) for chain in (QUIET, NOISY)),
        *(Call("optical_matmul_fwd", attrs) for attrs in FORWARD),
        *(Call("optical_matmul", chain, finds_ranges=True) for chain in (QUIET, NOISY)),
        *(Call("optical_matmul_fwd", attrs, finds_ranges=True) for attrs in FORWARD[::3]),
        *(Call("optical_matmul_grad", attrs) for attrs in GRADIENT),
        *(Call("complex_matmul", attrs) for attrs in COMPLEX),
        *(Call("complex_optical_matmul", chain, finds_ranges=True) for chain in (QUIET, NOISY)),
        *(Call("complex_optical_matmul_fwd", attrs) for attrs in FORWARD[::3]),
        *(Call("complex_optical_matmul_grad", attrs) for attrs in GRADIENT[:4]),
    ]
    for one, results in zip(calls, run(calls, split), strict=True):
        one.check(results, split)


@pytest.mark.parametrize("split", [s for s in SPLITS if "k" not in s], ids=name_of)
def test_ops_by_element_and_codes(split: Split) -> None:
    calls = [
        Call("optical_noise", {}), Call("quantize", {"bits": 4}), Call("optical_matmul_fwd", ADC),
        Call("causal_softmax", {}), Call("causal_softmax_grad", {}),
    ]  # fmt: skip
    for one, results in zip(calls, run(calls, split), strict=True):
        one.check(results, split)


@pytest.mark.parametrize("split", [s for s in SPLITS if "k" in s], ids=name_of)
def test_codes_of_a_split_depth(split: Split) -> None:
    matmul = Call("optical_matmul_fwd", ADC)
    step = matmul.operands()[5] / np.float32(31)
    ((got, slope),) = run([matmul], split)
    expected, expected_slope = call(matmul.op, *matmul.operands(), **ADC)
    assert (expected_slope == 0).any()
    np.testing.assert_array_equal(slope == 0, expected_slope == 0)
    # Another order of a sum moves an output over a threshold now and then.
    codes = np.rint((np.asarray(got) - expected) / step)
    assert np.abs(codes).max() <= 1
    assert np.count_nonzero(codes) <= 1


@pytest.mark.parametrize("split", [s for s in SPLITS if "n" in s], ids=name_of)
def test_peak_is_that_of_whole_rows(split: Split) -> None:
    matmul, mesh = Call("optical_matmul_fwd", FORWARD[3]), mesh_of()
    operands = matmul.operands()
    operands[0][5] = np.nan
    of_op = jax.jit(lambda *a: bind(matmul.op, *a, **matmul.attrs))
    _, y, peak, *_ = of_op(*matmul.put(mesh, operands, split))
    expected = np.abs(y).max(axis=1)
    expected[5] = 0
    np.testing.assert_array_equal(peak, expected)


def test_extents_of_one_are_not_split() -> None:
    matmul, mesh = Call("optical_matmul_fwd", FORWARD[3]), mesh_of()
    operands = matmul.operands()
    # Broadcast everything that may be: full scales, noise, seed.
    operands[2:8] = [operand[:1] for operand in operands[2:8]]
    of_op = jax.jit(lambda *a: bind(matmul.op, *a, **matmul.attrs))
    sharded = [put(mesh, operands[0], "a"), put(mesh, operands[1], "b"), *operands[2:]]
    expected = call(matmul.op, *operands, **matmul.attrs)
    for got, want in zip(of_op(*sharded), expected, strict=True):
        np.testing.assert_array_equal(got, want)


# --- the public function ------------------------------------------------------------------------

SPEC = OpticalSpec(dac_bits=8, weight_bits=8, adc_bits=8)
NOISE = NoiseModel(relative=0.1, shot=0.1, thermal=0.05, weight=0.02)


def layer(w: jax.Array, b: jax.Array, y_full_scale: jax.Array, x: jax.Array) -> jax.Array:
    return lumina_jax.optical_matmul(
        x, w, b, spec=SPEC, x_full_scale=3.0, y_full_scale=y_full_scale,
        noise=NOISE, key=jax.random.key(5),
    )  # fmt: skip


def loss(w: jax.Array, b: jax.Array, y_full_scale: jax.Array, x: jax.Array) -> jax.Array:
    return (layer(w, b, y_full_scale, x) ** 2).sum()


def arguments(rows: int = M) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(1)
    w, b, x = (rng.standard_normal(s).astype(np.float32) for s in ((K, N), (N,), (rows, K)))
    return jnp.asarray(w), jnp.asarray(b), jnp.float32(10), jnp.asarray(x)


def assert_close(got: Any, expected: Any) -> None:
    """Equal up to the order of sums over at most 16 terms of the size of the result."""
    jax.tree.map(
        lambda g, e: np.testing.assert_allclose(
            g, e, rtol=1e-5, atol=1e-5 * float(np.abs(e).max(initial=0))
        ),
        got, expected,
    )  # fmt: skip


def collectives(compiled: Any) -> list[str]:
    return re.findall(r" (all-[a-z]+|reduce-scatter|collective-permute)\(", compiled.as_text())


def test_data_parallel_gradient_is_one_all_reduce() -> None:
    mesh = mesh_of()
    w, b, y_full_scale, x = arguments()
    grad = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    sharded = (w, b, y_full_scale, put(mesh, x, ("a", "b")))
    assert collectives(grad.lower(*sharded).compile()) == ["all-reduce"]
    assert_close(grad(*sharded), grad(w, b, y_full_scale, x))


def test_split_rows_and_columns_need_no_communication() -> None:
    mesh = mesh_of()
    w, b, y_full_scale, x = arguments()
    sharded = (put(mesh, w, None, "b"), put(mesh, b, "b"), y_full_scale, put(mesh, x, "a"))
    compiled = jax.jit(layer).lower(*sharded).compile()
    assert collectives(compiled) == []
    np.testing.assert_array_equal(compiled(*sharded), jax.jit(layer)(w, b, y_full_scale, x))


def test_weights_split_over_the_axis_of_the_batch() -> None:
    mesh = mesh_of()
    w, b, y_full_scale, x = arguments()
    sharded = (put(mesh, w, "a", "b"), put(mesh, b, "b"), y_full_scale, put(mesh, x, "a"))
    np.testing.assert_array_equal(jax.jit(layer)(*sharded), jax.jit(layer)(w, b, y_full_scale, x))
    grad = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))
    assert_close(grad(*sharded), grad(w, b, y_full_scale, x))


@pytest.mark.parametrize(
    "split", [s for s in SPLITS if all(isinstance(a, str) for a in s.values())], ids=name_of
)
def test_explicit_mesh(split: Split) -> None:
    w, b, y_full_scale, x = arguments()
    mesh = mesh_of(AxisType.Explicit)
    m, k, n = (split.get(name) for name in "mkn")

    def run(*a: jax.Array) -> Any:
        y = layer(*a)
        assert jax.typeof(y).sharding.spec == PartitionSpec(m, n)
        return y, jax.value_and_grad(loss, argnums=(0, 1, 2, 3))(*a)

    with jax.set_mesh(mesh):
        sharded = (put(mesh, w, k, n), put(mesh, b, n), y_full_scale, put(mesh, x, m, k))
        # 8-bit codes may move by one where the depth is split: 0.08 in one of 96 outputs.
        got = jax.jit(run)(*sharded)
    for g, e in zip(jax.tree.leaves(got), jax.tree.leaves(on_one_device()), strict=True):
        atol = (0.02 if k else 1e-5) * float(np.abs(e).max())
        np.testing.assert_allclose(g, e, rtol=1e-5, atol=atol)


@functools.cache
def on_one_device() -> Any:
    """The layer, its loss and their gradient."""
    run = jax.jit(lambda *a: (layer(*a), jax.value_and_grad(loss, argnums=(0, 1, 2, 3))(*a)))
    return run(*arguments())


def test_rows_that_do_not_divide() -> None:
    mesh = mesh_of()
    w, b, y_full_scale, x = arguments(rows=6)

    def over_four(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        sharding = NamedSharding(mesh, PartitionSpec(("a", "b")))
        return lambda *a: f(*a[:3], jax.lax.with_sharding_constraint(a[3], sharding))

    np.testing.assert_array_equal(
        jax.jit(over_four(layer))(w, b, y_full_scale, x), jax.jit(layer)(w, b, y_full_scale, x)
    )
    got = jax.jit(jax.grad(over_four(loss), argnums=(0, 1, 2)))(w, b, y_full_scale, x)
    assert_close(got, jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(w, b, y_full_scale, x))


def test_noise_of_a_key_is_the_same_on_any_mesh() -> None:
    key = jax.random.key(11)
    expected = lumina_jax.optical_noise(key, (M, 300))
    mesh = mesh_of()
    for axes in [("a", None), (None, "b"), ("a", "b"), (None, ("a", "b"))]:
        out = NamedSharding(mesh, PartitionSpec(*axes))
        draw = jax.jit(lambda k: lumina_jax.optical_noise(k, (M, 300)), out_shardings=out)
        np.testing.assert_array_equal(draw(key), expected)


CACHED = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
import lumina_jax

jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
mesh = jax.make_mesh((2,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
v = jnp.linspace(-1, 1, 64).reshape(8, 8)
sharded = jax.device_put(v, NamedSharding(mesh, PartitionSpec("a")))
for bits in (3, 4):
    call = lambda v: lumina_jax.quantize(v, bits=bits, full_scale=1.0)
    np.testing.assert_array_equal(jax.jit(call)(sharded), jax.jit(call)(v))
print(hits.count("/jax/compilation_cache/cache_misses"))
"""


def test_persistent_cache(tmp_path: Any) -> None:
    # Two ops that differ in nothing but attributes do not share an entry, and a second process
    # finds what the first one compiled.
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-c", CACHED, str(tmp_path)]
    runs = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    first, second = (int(run.stdout) for run in runs)
    assert first > 0
    assert second == 0
