"""Every op through everything: the table is in `cases.py`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from cases import CASES, Case
from operands import bind, call, reference


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def run(case: Case, *operands: jax.Array) -> list[jax.Array]:
    return bind(case.op, *operands, **case.attrs)


def on_device(case: Case) -> list[jax.Array]:
    return [jnp.asarray(operand) for operand in case.operands()]


def assert_same_bits(got: object, expected: object) -> None:
    for a, b in zip(got, expected, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a.view(f"u{a.itemsize}"), b.view(f"u{b.itemsize}"))


def test_kernel_is_the_reference(case: Case) -> None:
    operands = on_device(case)
    kernel = run(case, *operands)
    compiled = jax.jit(lambda *operands: reference(case.op, *operands, **case.attrs))
    for got, expected in zip(kernel, compiled(*operands), strict=True):
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
        if case.tolerance == 0:
            np.testing.assert_array_equal(got, expected)
        elif got.size:
            tolerance = case.tolerance * max(float(np.abs(expected).max()), 1)
            np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


def test_eager_is_jit(case: Case) -> None:
    operands = on_device(case)
    assert_same_bits(run(case, *operands), jax.jit(lambda *o: run(case, *o))(*operands))


def test_numpy_is_xla(case: Case) -> None:
    from_numpy = call(case.op, *case.operands(), **case.attrs)
    assert_same_bits(from_numpy, run(case, *on_device(case)))


@pytest.mark.parametrize("which", ["all", "first", "all but the first"])
def test_vmap_is_stacking(case: Case, which: str) -> None:
    operands = on_device(case)
    axes = [None if (which == "all but the first") == (i == 0) else 0 for i in range(len(operands))]
    if which == "first":
        axes = [0, *(None for _ in operands[1:])]
    elif which == "all":
        axes = [0 for _ in operands]

    def example(i: int) -> list[jax.Array]:
        """Operands that differ between examples; ids and seeds move on by one."""

        def moved_on(operand: jax.Array) -> jax.Array:
            match operand.dtype:
                case jnp.uint32:
                    return operand + jnp.uint32(i)
                case jnp.int8:
                    return jnp.roll(operand, i)
                case _:
                    return operand * (1 + i / 8)

        moved = [moved_on(operand) for operand in operands]
        return [m if axis == 0 else o for m, o, axis in zip(moved, operands, axes, strict=True)]

    examples = [example(i) for i in range(3)]
    batched = [
        jnp.stack(column) if axis == 0 else column[0]
        for column, axis in zip(zip(*examples, strict=True), axes, strict=True)
    ]
    got = jax.jit(jax.vmap(lambda *o: run(case, *o), in_axes=axes))(*batched)
    expected = [
        jnp.stack(results) for results in zip(*(run(case, *e) for e in examples), strict=True)
    ]
    assert_same_bits(got, expected)


@pytest.mark.parametrize("case", [case for case in CASES if case.gradient is not None], ids=str)
def test_gradient_is_the_models(case: Case) -> None:
    gradient = case.gradient()
    arguments = jax.tree.map(jnp.asarray, gradient.arguments)
    value, pull = jax.vjp(gradient.function, *arguments)
    model_value, model_pull = jax.vjp(gradient.model, *arguments)
    # Where a code differs, a value of the model rounded to the other side of a tie.
    np.testing.assert_allclose(value, model_value, rtol=0, atol=1e-5)
    g = np.random.default_rng(0).normal(0, 1, value.shape).astype(np.float32)
    pulled = zip(jax.tree.leaves(pull(g)), jax.tree.leaves(model_pull(g)), strict=True)
    for got, expected in pulled:
        assert got.shape == expected.shape
        if got.size:
            # Sums of at most 200 rounded terms, and what cancels in `code - v / s`.
            scale = max(float(np.abs(expected).max()), 1)
            np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_other_platforms_need_no_custom_call(case: Case, platform: str) -> None:
    traced = jax.jit(lambda *operands: run(case, *operands)).trace(*on_device(case))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert "lumina" not in text.replace(f"@{case.op}", "")
    assert "custom_call" not in text


def test_export_round_trip(case: Case, tmp_path: Path, lumina: Path) -> None:
    operands = on_device(case)
    model = exporter.export(lambda *o: run(case, *o), *operands, rtol=0.0, atol=0.0)
    assert case.op in model.ops
    path = model.save(tmp_path / "op.lmn")
    # The file holds the operands and what JAX computed; a tolerance of 0 asks for the same bits.
    done = subprocess.run([lumina, "verify", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
