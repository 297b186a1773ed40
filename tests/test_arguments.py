"""What each kind of argument becomes, and the text of every error about one."""

from __future__ import annotations

import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumina_jax import _arguments
from lumina_jax._arguments import (
    array_of,
    choice,
    complex_array,
    complex_matrix,
    concrete,
    constant,
    distinct,
    field,
    file_path,
    float32,
    instance,
    integer,
    integers,
    kind_of,
    magnitude,
    nonnegative,
    number,
    number_f32,
    numeric,
    positive,
    real,
    reals,
    scalar,
)

RAGGED = [[1.0], [1.0, 2.0]]


def asks(check: Any, value: Any, **limits: Any) -> Any:
    """An argument `a` of a function `f`."""
    return check("f", "a", value, **limits)


ERRORS = [
    (integer, 2.5, {}, TypeError, "must be an int, got 2.5"),
    (integer, True, {}, TypeError, "must be an int, got True"),
    (integer, "8", {"got": kind_of}, TypeError, "must be an int, got str"),
    (integer, np.True_, {"got": kind_of}, TypeError, "must be an int, got numpy.bool"),
    (integer, 0, {"at_least": 1}, ValueError, "must be at least 1, got 0"),
    (integer, 9, {"at_least": 1, "at_most": 8}, ValueError, "must be from 1 to 8, got 9"),
    (integers, 1.0, {"expected": "integers"}, TypeError, "must be integers, got float32"),
    (integers, True, {"expected": "integers"}, TypeError, "must be integers, got True"),
    (
        integers,
        [3, -1],
        {"expected": "integers", "at_least": 0},
        ValueError,
        "must be at least 0, got -1",
    ),
    (
        integers,
        2**40,
        {"expected": "integers", "at_most": 9},
        ValueError,
        f"must be at most 9, got {2**40}",
    ),
    (constant, True, {}, TypeError, "must be a number, got True"),
    (constant, np.True_, {}, TypeError, "must be a number, got np.True_"),
    (constant, -(10**400), {}, ValueError, f"must be finite, got -1{'0' * 400}"),
    (constant, np.inf, {}, ValueError, "must be finite, got inf"),
    (constant, np.nan, {"infinite": True}, ValueError, "must be finite, got nan"),
    (number, "1", {}, TypeError, "must be a number, got '1'"),
    (number, [1.0], {}, TypeError, "must be a number, got [1.0]"),
    (number, None, {}, TypeError, "must be a number, got None"),
    (number, np.True_, {}, TypeError, "must be a number, got True"),
    (number, 10**400, {}, ValueError, "must be finite, got inf"),
    (number, np.nan, {}, ValueError, "must be finite, got nan"),
    (number, 0, {"above": 0}, ValueError, "must be above 0, got 0"),
    (number, 0.5, {"at_least": 1.0}, ValueError, "must be at least 1, got 0.5"),
    (positive, 0, {}, ValueError, "must be positive, got 0"),
    (positive, "x", {}, TypeError, "must be a number, got 'x'"),
    (
        number_f32,
        None,
        {"at_least": 0.0, "expected": "0 or more"},
        TypeError,
        "must be a number, got NoneType",
    ),
    (
        number_f32,
        np.inf,
        {"at_least": 0.0, "expected": "0 or more"},
        ValueError,
        "must be 0 or more and finite in float32, got inf",
    ),
    (numeric, None, {"expected": "float32"}, TypeError, "must be float32, got None"),
    (numeric, ["f4"], {"expected": "float32"}, TypeError, "must be float32, got ['f4']"),
    (
        numeric,
        RAGGED,
        {"expected": "float32"},
        ValueError,
        "must be a rectangular array, got rows of unequal length",
    ),
    (real, 1j, {}, TypeError, "must be a real number, got complex64"),
    (real, np.inf, {}, ValueError, "must be finite, got inf"),
    (real, np.True_, {}, TypeError, "must be a real number, got bool"),
    (real, 1e39, {}, ValueError, "must be finite in float32, got 1e+39"),
    (real, -1, {"at_least": 0}, ValueError, "must be at least 0, got -1"),
    (real, [1.0, 0.0], {"above": 0}, ValueError, "must be above 0, got [1. 0.]"),
    (real, 2, {"at_most": 1}, ValueError, "must be at most 1, got 2"),
    (real, np.arange(9.0), {"below": 8}, ValueError, "must be below 8, got values from 0.0 to 8.0"),
    (real, 1e39, {}, ValueError, "must be finite in float32, got 1e+39"),
    (real, 10**400, {}, ValueError, f"must be finite in float32, got {10**400}"),
    (
        real,
        1e-40,
        {"above": 0},
        ValueError,
        "must be above 0 in float32, at least 1.18e-38, got 1e-40",
    ),
    (file_path, 3, {}, TypeError, "must be a str, bytes or an os.PathLike, got int"),
    (file_path, "", {}, ValueError, "is empty, expected the name of a file"),
    (field, "4", {}, TypeError, "must be a real number, got '4'"),
    (field, True, {}, TypeError, "must be a real number, got True"),
    (field, np.float32(-1), {"at_least": 0}, ValueError, "must be at least 0, got -1.0"),
    (scalar, [1.0, 2.0], {"above": 0}, ValueError, "has shape (2,), expected a scalar"),
    (complex_matrix, [True], {}, TypeError, "must be a matrix of numbers, got bool"),
    (complex_matrix, [np.nan], {}, ValueError, "must be finite, got NaN or infinity"),
    (
        float32,
        jnp.ones(2, jnp.bfloat16),
        {},
        TypeError,
        "must be float32, got bfloat16; cast it with a.astype(jnp.float32)",
    ),
    (
        float32,
        1j,
        {},
        TypeError,
        "must be float32, got complex64; pass a.real or layers.detect(a), or use "
        "lumina_jax.complex_optical_matmul or layers.ComplexOpticalDense",
    ),
    (
        complex_array,
        1.0,
        {},
        TypeError,
        "must be complex64, got float32; cast it with a.astype(jnp.complex64)",
    ),
    (magnitude, 1j, {}, TypeError, "must be a real number, got complex64"),
    (magnitude, True, {}, TypeError, "must be a real number, got True"),
    (magnitude, -1.0, {}, ValueError, "must not be negative or NaN, got -1.0"),
    (
        magnitude,
        [1, 2**200],
        {},
        ValueError,
        "must be finite in float32, got [1.00000000e+00 1.60693804e+60]",
    ),
    (magnitude, np.inf, {}, ValueError, "must be finite in float32, got inf"),
    (reals, RAGGED, {}, ValueError, "is ragged, expected rows of equal length"),
    (reals, ["a"], {}, TypeError, "is of type <U1, expected real numbers"),
    (reals, [np.nan], {}, ValueError, "has NaN or infinite values, expected finite ones"),
    (reals, [], {"expected": "[n]"}, ValueError, "has shape (0,), expected [n]"),
    (
        reals,
        [[1.0]],
        {"expected": "[n] with n >= 1"},
        ValueError,
        "has shape (1, 1), expected [n] with n >= 1",
    ),
    (reals, [[1.0, 2.0]], {"expected": "[n, n]"}, ValueError, "has shape (1, 2), expected [n, n]"),
    (reals, [1.0], {"expected": "[K, N]"}, ValueError, "has shape (1,), expected [K, N]"),
    (nonnegative, [-0.5], {"expected": "[n]"}, ValueError, "must not be negative, got -0.5"),
    (concrete, RAGGED, {}, ValueError, "is ragged, expected an array"),
    (concrete, ["a"], {}, TypeError, "is of type <U1, expected real numbers"),
    (concrete, [], {}, ValueError, "has shape (0,), expected at least one value"),
    (concrete, [1e39], {}, ValueError, "has NaN or infinite values, expected finite f32"),
    (distinct, RAGGED, {"count": 2}, ValueError, "is ragged, expected (2,)"),
    (distinct, [0.0, 1.0], {"count": 2}, TypeError, "is of type float64, expected integers"),
    (distinct, [0], {"count": 2}, ValueError, "has shape (1,), expected (2,)"),
    (distinct, [1, 1], {"count": 2}, ValueError, "must name distinct slots from 0, got [1, 1]"),
    (distinct, [0, 2], {"count": 2, "below": 2}, ValueError, "names slot 2, expected less than 2"),
    (
        array_of,
        [1.0],
        {"types": (np.float32,), "expected": "a vector", "rank": 1},
        TypeError,
        "must be a numpy.ndarray, got list",
    ),
    (
        array_of,
        np.ones(1),
        {"types": (np.float32,), "expected": "a vector", "rank": 1},
        TypeError,
        "must be float32, got float64; pass numpy.asarray(a, numpy.float32)",
    ),
    (
        array_of,
        np.float32([[1]]),
        {"types": (np.float32,), "expected": "a vector", "rank": 1},
        ValueError,
        "must be a vector, got shape (1, 1)",
    ),
    (choice, "c", {"options": Literal["a", "b"]}, ValueError, "is 'c', expected one of 'a', 'b'"),
    (
        instance,
        3,
        {"kinds": str | None, "expected": "a name"},
        TypeError,
        "is of type int, expected a name",
    ),
]


@pytest.mark.parametrize(("check", "value", "limits", "error", "text"), ERRORS)
def test_errors(check: Any, value: Any, limits: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^f: `a` {re.escape(text)}$"):
        asks(check, value, **limits)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.5, TypeError, "f: `axis` must be an int or None, got 0.5"),
        (2, ValueError, "f: `axis` is 2, expected -2 to 1 for rank 2"),
    ],
)
def test_errors_of_an_axis(value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        _arguments.axis("f", value, 2)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("x", TypeError, "f: `seed` must be an int, got 'x'"),
        (-1, ValueError, "f: `seed` must not be negative, got -1"),
    ],
)
def test_errors_of_a_seed(value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        _arguments.seed("f", value)


def test_every_check_has_a_tested_error() -> None:
    tested = {check.__name__ for check, *_ in ERRORS} | {"axis", "seed", "kind_of", "no_mask"}
    public = {
        name
        for name, value in vars(_arguments).items()
        if callable(value) and value.__module__ == _arguments.__name__ and name[0] != "_"
    }
    assert tested == public


MASKED = np.ma.MaskedArray([1.0, 2.0], [False, True])


@pytest.mark.parametrize(
    ("check", "limits"),
    [
        (numeric, {"expected": "float32"}),
        (real, {}),
        (float32, {}),
        (magnitude, {}),
        (reals, {}),
        (concrete, {}),
        (array_of, {"types": (np.float32,), "expected": "a vector", "rank": 1}),
    ],
)
def test_arrays_of_every_kind(check: Any, limits: dict[str, Any], tmp_path: Any) -> None:
    with pytest.raises(TypeError, match=r"`a` is a masked array.*fill it with a\.filled\(0\)"):
        asks(check, MASKED, **limits)
    if check is array_of:
        return
    values = np.float32([0.5, 2, 1e-40])
    values.tofile(tmp_path / "a")
    read_only = values.copy()
    read_only.flags.writeable = False
    with np.errstate(all="raise"):
        for same in (
            values.astype(">f4"),
            np.repeat(values, 2)[::2],
            values[::-1].copy()[::-1],
            read_only,
            np.memmap(tmp_path / "a", np.float32, "r"),
        ):
            np.testing.assert_array_equal(asks(check, same, **limits), values)
        if check is not float32:
            wide = asks(check, values.astype(">f8"), **limits)
            np.testing.assert_array_equal(np.asarray(wide, np.float32), values)


def test_values_become_what_functions_use() -> None:
    assert type(asks(integer, np.int64(3), at_least=1)) is int
    assert _arguments.axis("f", -1, 3) == 2
    assert _arguments.axis("f", None, 3) is None
    assert asks(constant, np.inf, infinite=True) == np.inf
    assert type(asks(number, np.float32(0.5), above=0)) is float
    for eight in (8, np.int8(8), np.float32(8), np.array(8), jnp.array(8), jnp.bfloat16(8)):
        for check in (constant, number, positive, real, scalar, magnitude):
            assert asks(check, eight) == 8
        assert asks(number_f32, eight, at_least=0, expected="0 or more") == 8
    assert type(asks(constant, np.float32(0.5))) is float
    for check in (number, real, magnitude):
        assert asks(check, 2**40) == 2.0**40
    assert _arguments.axis("f", np.int64(-1), 3) == 2
    assert asks(real, 3).dtype == jnp.float32
    assert asks(real, jnp.ones(2, jnp.bfloat16)).dtype == jnp.float32
    assert asks(magnitude, 3).dtype == jnp.float32
    assert asks(reals, [[1, 2], [3, 4]], expected="[n, n]").dtype == np.float64
    assert asks(concrete, jnp.ones(2, jnp.bfloat16)).dtype == np.float32
    assert asks(distinct, [1, 0], count=2, below=2).tolist() == [1, 0]
    x = np.ones((2, 3), np.float32)
    assert asks(array_of, x, types=(np.float32,), expected="a matrix", rank=2) is x
    assert asks(array_of, x.T, types=(np.float32,), expected="a matrix", rank=2).flags.c_contiguous


def test_traced_values_are_trusted_but_not_read() -> None:
    def checks(v: jax.Array) -> jax.Array:
        with pytest.raises(TypeError, match="`a` is traced, expected an array outside"):
            asks(concrete, v)
        return asks(real, v, above=0) + asks(magnitude, v)

    assert jax.jit(checks)(-1.0) == -2.0
    with pytest.raises(ValueError, match="`a` must be above 0, got 0"):
        jax.jit(lambda: asks(real, 0, above=0))()
