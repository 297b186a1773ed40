"""Every op through everything that ops share: the table is in `cases.py`."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from cases import CASES, REPRESENTATIVES, Case
from lumina_jax.ops import OPS
from operands import bind, call, reference

representatives = pytest.mark.parametrize("case", REPRESENTATIVES, ids=str)


def run(case: Case, *operands: jax.Array) -> list[jax.Array]:
    return bind(case.op, *operands, **case.attrs)


def in_numpy(case: Case, operands: Sequence[np.ndarray]) -> list[np.ndarray]:
    return call(case.op, *operands, **case.attrs)


def assert_same_bits(got: object, expected: object) -> None:
    for a, b in zip(got, expected, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a.view(f"u{a.itemsize}"), b.view(f"u{b.itemsize}"))


def by_operands(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases in groups that are given the same operands."""
    groups: dict[Any, list[Case]] = {}
    for case in cases:
        key = tuple((o.shape, o.dtype, o.tobytes()) for o in case.operands())
        groups.setdefault(key, []).append(case)
    return list(groups.values())


@pytest.mark.parametrize("cases", by_operands(CASES), ids=lambda cases: "; ".join(map(str, cases)))
def test_numpy_is_xla_and_both_are_the_reference(cases: list[Case]) -> None:
    """Cases with the same operands share a program: XLA compiles once what they have in common."""

    @jax.jit
    def program(*operands: jax.Array) -> list[object]:
        return [
            (run(case, *operands), reference(case.op, *operands, **case.attrs)) for case in cases
        ]

    operands = cases[0].operands()
    for given in filter(None, (operands, poisoned(operands))):
        for case, (kernel, expected) in zip(cases, program(*given), strict=True):
            got = in_numpy(case, given)
            assert_same_bits(kernel, got)
            assert_close(case, got, expected)


def assert_close(case: Case, got: Sequence[np.ndarray], expected: Sequence[jax.Array]) -> None:
    """Within the tolerance of the case, which a failure names among those of its group."""
    for g, e in zip(got, map(np.asarray, expected), strict=True):
        assert (g.shape, g.dtype) == (e.shape, e.dtype), str(case)
        finite = np.isfinite(e)
        np.testing.assert_array_equal(np.isfinite(g), finite, str(case))
        atol = case.tolerance * max(float(np.abs(e[finite]).max(initial=0)), 1)
        np.testing.assert_allclose(g[finite], e[finite], 0, atol, err_msg=str(case))


def poisoned(operands: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    """The operands with numbers in the first that are not finite; None where it takes none."""
    first, *others = operands
    if first.dtype != np.float32 or first.size < 2:
        return None
    first = first.copy()
    first.flat[first.size // 2], first.flat[0] = np.nan, np.inf
    return [first, *others]


def examples(operands: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Operands that differ between three examples; ids and seeds move on by one."""

    def moved_on(operand: np.ndarray, i: int) -> np.ndarray:
        match operand.dtype:
            case np.uint32:
                return operand + np.uint32(i)
            case np.int8 | np.int32:
                return np.roll(operand, i)
            case _:
                return operand * np.float32(1 + i / 8)

    return [[moved_on(operand, i) for operand in operands] for i in range(3)]


@representatives
def test_jit_is_eager_and_vmap_is_stacking(case: Case) -> None:
    operands = case.operands()
    count = len(operands)
    # All of the operands are mapped, the first alone, and all but the first.
    mapped = [[True] * count, [True] + [False] * (count - 1)]
    if count > 1:
        mapped.append([False] + [True] * (count - 1))
    columns = [np.stack(column) for column in zip(*examples(operands), strict=True)]

    def program(operands: Sequence[jax.Array], columns: Sequence[jax.Array]) -> list[object]:
        results: list[object] = [run(case, *operands)]
        for which in mapped:
            chosen = [c if m else o for m, c, o in zip(which, columns, operands, strict=True)]
            axes = [0 if m else None for m in which]
            results.append(jax.vmap(lambda *o: run(case, *o), in_axes=axes)(*chosen))
        return results

    jitted, *stacked = jax.jit(program)(operands, columns)
    for got in (jitted, run(case, *map(jnp.asarray, operands))):
        assert_same_bits(got, in_numpy(case, operands))
    for which, got in zip(mapped, stacked, strict=True):
        alone = [
            in_numpy(case, [e if m else o for m, e, o in zip(which, one, operands, strict=True)])
            for one in examples(operands)
        ]
        assert_same_bits(got, [np.stack(results) for results in zip(*alone, strict=True)])


def test_other_platforms_need_no_custom_call() -> None:
    operands = [case.operands() for case in REPRESENTATIVES]

    def program(operands: Sequence[Sequence[jax.Array]]) -> list[object]:
        return [run(case, *o) for case, o in zip(REPRESENTATIVES, operands, strict=True)]

    traced = jax.jit(program).trace(operands)
    text = traced.lower(lowering_platforms=("cuda", "rocm", "tpu")).as_text()
    assert "custom_call" not in text


@pytest.mark.parametrize("case", [case for case in CASES if case.gradient is not None], ids=str)
def test_gradient_is_the_models(case: Case) -> None:
    assert case.gradient is not None
    gradient = case.gradient()
    shape = jax.eval_shape(gradient.function, *gradient.arguments).shape
    g = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)

    @jax.jit
    def program(arguments: tuple[object, ...], g: jax.Array) -> object:
        value, pull = jax.vjp(gradient.function, *arguments)
        model_value, model_pull = jax.vjp(gradient.model, *arguments)
        return (value, pull(g)), (model_value, model_pull(g))

    (value, pulled), (model_value, expected) = jax.device_get(program(gradient.arguments, g))
    # Where a code differs, a value of the model rounded to the other side of a tie.
    np.testing.assert_allclose(value, model_value, rtol=0, atol=1e-5)
    for got, want in zip(jax.tree.leaves(pulled), jax.tree.leaves(expected), strict=True):
        assert got.shape == want.shape
        if got.size:
            # Sums of at most 200 rounded terms, and what cancels in `code - v / s`.
            scale = max(float(np.abs(want).max()), 1)
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * scale)


def exported(case: Case, *operands: jax.Array) -> list[jax.Array]:
    """Results but for what training saves for its gradient alone, which is not for files."""
    out, *others = run(case, *operands)
    if not case.op.endswith("_fwd"):
        return [out, *others]
    if case.attrs["array_rows"]:
        return [out]
    return [out, *others[case.attrs["residual"] in ("slope", "signs") :]]


@pytest.mark.parametrize("op", OPS)
def test_export_round_trip(op: str, tmp_path: Path, lumina: Path) -> None:
    cases = [case for case in CASES if case.op == op]
    operands = [case.operands() for case in cases]
    sizes = np.cumsum([len(o) for o in operands])[:-1]

    def program(*flat: jax.Array) -> list[object]:
        bounds = zip([0, *sizes], [*sizes, len(flat)], strict=True)
        return [exported(case, *flat[a:b]) for case, (a, b) in zip(cases, bounds, strict=True)]

    flat = [jnp.asarray(operand) for one in operands for operand in one]
    model = exporter.export(program, *flat, rtol=0.0, atol=0.0)
    assert op.removesuffix("_fwd") in model.ops
    assert not any(name.endswith("_fwd") for name in model.ops)
    path = model.save(tmp_path / "op.lmn")
    # The file holds the operands and what JAX computed; a tolerance of 0 asks for the same bits.
    done = subprocess.run([lumina, "verify", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
