"""`a[index] = value` on arrays of a namespace, which code of the standard needs."""

from __future__ import annotations

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumina_jax import array_api
from lumina_jax.array_api import OpticalArray

pytestmark = pytest.mark.usefixtures("numpy_promotion")


XP = array_api.namespace(None)


def filled(*shape: int) -> OpticalArray:
    return XP.reshape(XP.arange(float(np.prod(shape))), shape)


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, 5.0),
        ((1, 2), -1),
        (slice(None, None, 2), 7.0),
        ((..., 1), [1.0, 2.0, 3.0]),
        ((slice(None), None, 2), [[1.0], [2.0], [3.0]]),
        (np.array([2, 0]), np.ones((2, 4))),
        (np.arange(12).reshape(3, 4) > 6, 0.0),
        (np.array([True, False, True]), np.arange(8.0).reshape(2, 4)),
        (np.zeros(3, bool), 1.0),
    ],
)
def test_assignment_is_that_of_numpy(index: Any, value: Any) -> None:
    a = filled(3, 4)
    expected = np.asarray(a).copy()
    expected[index] = value
    a[index] = value
    np.testing.assert_array_equal(np.asarray(a), expected)
    assert a.dtype == np.float32
    own = filled(3, 4)
    own[XP.asarray(index) if isinstance(index, np.ndarray) else index] = XP.asarray(value)
    np.testing.assert_array_equal(np.asarray(own), expected)
    own[0, 0] += 3
    assert float(own[0, 0]) == expected[0, 0] + 3


def test_what_was_given_cannot_be_changed() -> None:
    values = np.arange(3, dtype=np.float32)
    message = r"was given cannot be changed.*a\.at\[index\].*xp\.asarray\(a, copy=True\)"
    given = XP.asarray(values)
    for a in (given, XP.from_dlpack(values), XP.asarray([1.0, 2.0]), given[1:], next(iter(given)),
              copy.copy(given), XP.asarray(given), jax.tree.map(lambda x: x, given)):  # fmt: skip
        with pytest.raises(TypeError, match=message):
            a[...] = 9.0
    newest = array_api.namespace(None, api_version="2025.12")
    for a in (XP.asarray(given, copy=True), XP.asarray(values, copy=True), given + 0,
              given[np.array([0])], XP.from_dlpack(values, copy=True),
              XP.asarray(values, device=given.device), newest.asarray(filled(2)),
              XP.asarray(filled(2, 2)[0], dtype=np.float16)):  # fmt: skip
        a[0] = 9.0
        assert float(a[0]) == 9
    assert values.tolist() == np.asarray(given).tolist() == [0, 1, 2]


def test_no_memory_is_written() -> None:
    a = filled(3)
    held, same, other = a.__jax_array__(), XP.asarray(a), copy.deepcopy(a)
    assert same is a
    a[1] = 9.0
    assert held.tolist() == np.asarray(other).tolist() == [0, 1, 2]
    other[0] = 5.0
    assert np.asarray(a).tolist() == [0, 9, 2]


def test_a_slice_changes_the_array_that_it_is_of() -> None:
    a = filled(2, 3, 3)
    expected = np.asarray(a).copy()
    for each in (a, expected):
        matrix = each[1, :, :]
        for i in range(3):
            matrix[i, i] = -1.0
        matrix[0][1:] = 8.0
        for part in each:
            part[2, 0] = 4.0
        last = each[-1]
        last += 2.0
        last *= each[0]
        first = each[0].T[1:]
        first += 1.0
        taken = each[np.array([0])]
        taken -= 100.0
        taken[...] = 100.0
    np.testing.assert_array_equal(np.asarray(a), expected)


def test_a_slice_that_is_written_to_keeps_what_the_array_has_by_then() -> None:
    a = filled(2, 3)
    row, whole = a[0], a[:]
    corner = row[:1]
    a[0, 1] = 5.0
    row[0] = 3.0
    a[1, 0] = 7.0
    corner += 0.0
    whole *= 2.0
    assert np.asarray(a).tolist() == np.asarray(whole).tolist() == [[6, 10, 4], [14, 8, 10]]
    assert np.asarray(row).tolist() == [3, 5, 2]


def test_an_array_with_its_axes_in_another_order_changes_the_array() -> None:
    for name, arguments in (
        ("expand_dims", {"axis": 1}), ("matrix_transpose", {}), ("squeeze", {"axis": 0}),
        ("moveaxis", {"source": 0, "destination": 2}), ("permute_dims", {"axes": (1, 2, 0)}),
    ):  # fmt: skip
        a = filled(1, 3, 2)
        expected = np.asarray(a).copy()
        for xp, each in ((XP, a), (np, expected)):
            getattr(xp, name)(each, **arguments)[:, 1:] = 9.0
        np.testing.assert_array_equal(np.asarray(a), expected, name)
    a = filled(2, 2)
    a.mT[0, 1] = 9.0
    XP.reshape(a, (-1,))[0] = 7.0
    assert np.asarray(a).tolist() == [[0, 1], [9, 3]]
    given = XP.asarray([[1.0]])
    for part in (given.T, XP.squeeze(given, axis=0)):
        with pytest.raises(TypeError, match="was given cannot be changed"):
            part[0] = 1.0


def test_operators_in_place_make_a_new_array_of_a_whole_one() -> None:
    a = filled(3)
    b = a
    b += 1
    part = XP.asarray([1.0, 2.0])[:1]
    part += 1
    assert np.asarray(a).tolist() == [0, 1, 2]
    assert (np.asarray(b).tolist(), np.asarray(part).tolist()) == ([1, 2, 3], [2])
    part[0] = 0.0
    with pytest.raises(TypeError, match="unsupported operand"):
        a += "x"  # pyright: ignore[reportOperatorIssue]


def test_the_type_stays() -> None:
    integers = XP.zeros(3, dtype=XP.int32)
    integers[0] = True
    integers[1:] = np.array([4, 5])
    assert integers.dtype == np.int32
    assert np.asarray(integers).tolist() == [1, 4, 5]
    for a, value, got in ((integers, 0.5, "float"), (XP.zeros(3), 1j, "complex"),
                          (XP.zeros(3, dtype=XP.bool), 1, "int")):  # fmt: skip
        with pytest.raises(TypeError, match=rf"of {a.dtype} does not take {got}.*xp\.astype"):
            a[0] = value
    with pytest.raises(ValueError, match="broadcast"):
        integers[:2] = [1, 2, 3]
    other = array_api.namespace("lumina_nano_v1", key=jax.random.key(0)).asarray([1, 2, 3])
    with pytest.raises(TypeError, match="of arrays of two devices"):
        integers[...] = other


def test_assignment_within_transformations() -> None:
    def steps(a: OpticalArray) -> OpticalArray:
        out = XP.zeros((3,))
        for i in range(3):
            out[i] = a[i] * i
        return out

    a = XP.asarray([1.0, 2.0, 3.0])
    expected = [0.0, 2.0, 6.0]
    assert np.asarray(steps(a)).tolist() == np.asarray(jax.jit(steps)(a)).tolist() == expected
    gradient = jax.grad(lambda a: jnp.sum(steps(a).__jax_array__()))(a)
    assert np.asarray(gradient).tolist() == [0, 1, 2]
    both = jax.vmap(steps)(XP.stack([a, a]))
    assert np.asarray(both).tolist() == [expected, expected]

    def on_argument(a: OpticalArray) -> OpticalArray:
        a[0] = 5.0
        return a

    with pytest.raises(TypeError, match="was given cannot be changed"):
        jax.jit(on_argument)(XP.zeros((3,)))
