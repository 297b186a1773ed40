"""The two lists of ops, in Python and in Rust, and the table of cases are about the same ops."""

from __future__ import annotations

from pathlib import Path

import lumina_jax
from cases import CASES
from lumina_jax import _lumina
from lumina_jax.ops import OPS, Matmul

PACKAGE = Path(lumina_jax.__file__).parent


def test_python_and_rust_have_the_same_ops() -> None:
    assert sorted(OPS) == sorted(_lumina.op_names())


def test_every_op_has_an_xla_target() -> None:
    targets = {name for name, _ in _lumina.registrations()}
    assert targets == {f"lumina.{name}.v1" for name in OPS}


def test_every_op_has_a_case() -> None:
    assert {case.op for case in CASES} == set(OPS)


def test_case_labels_are_unique() -> None:
    labels = [str(case) for case in CASES]
    assert len(labels) == len(set(labels))


def test_every_op_is_its_own_file() -> None:
    files = {path.stem for path in (PACKAGE / "ops").glob("[!_]*.py")}
    assert files == set(OPS)


def test_every_differentiable_function_has_a_gradient_case() -> None:
    functions = {path.stem for path in (PACKAGE / "custom_vjp").glob("[!_]*.py")}
    without_gradient = {"optical_noise"}  # it draws, so there is nothing to differentiate
    differentiated = {case.op.removesuffix("_fwd") for case in CASES if case.gradient is not None}
    assert differentiated == functions - without_gradient


def test_matrix_ops_know_their_products() -> None:
    def products(label: str) -> tuple[Matmul, ...]:
        case = next(case for case in CASES if str(case) == label)
        return OPS[case.op].matmuls(case.attrs, [operand.shape for operand in case.operands()])

    expected = (Matmul(batch=1, rows=5, depth=9, columns=35),)
    for chain in ("integer", "float"):  # whose weights are transposed
        assert products(f"optical_matmul-{chain}") == expected
    assert products("optical_attention-integer") == (
        Matmul(batch=4, rows=9, depth=5, columns=13),
        Matmul(batch=4, rows=9, depth=13, columns=6),
    )
    # A complex product is four of floats.
    of_floats = (Matmul(batch=1, rows=5, depth=18, columns=70),)
    for chain in ("integer", "float"):
        assert products(f"complex_optical_matmul-none, {chain}") == of_floats
    assert products("optical_matmul_grad-integer") == ()
    assert products("quantize-per tensor") == ()
