"""Dimensions are polynomials: the laws of a ring, quotients, and the text form of JAX."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter._dim import Dim, Shape
from exporter._types import dim

VALUES = {"batch": 3, "n": 5}

leaves = st.one_of(
    st.integers(-4, 4).map(Dim.of), st.sampled_from([Dim.symbol("batch"), Dim.symbol("n")])
)
dims = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] * pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] - pair[1]),
    ),
    max_leaves=6,
)
divisors = st.integers(1, 6)
# As spatial extents come about: by strides, padding, and halves of halves.
extents = st.recursive(
    st.sampled_from(["batch", "n"]).map(Dim.symbol),
    lambda inner: st.one_of(
        st.tuples(inner, st.integers(-3, 9)).map(lambda pair: pair[0] + pair[1]),
        st.tuples(inner, divisors).map(lambda pair: pair[0] * pair[1]),
        st.tuples(inner, divisors).map(lambda pair: pair[0] // pair[1]),
    ),
    max_leaves=5,
)


@given(dims, dims)
def test_arithmetic_is_that_of_the_values(a: Dim, b: Dim) -> None:
    x, y = a.evaluate(VALUES), b.evaluate(VALUES)
    assert (a + b).evaluate(VALUES) == x + y
    assert (a - b).evaluate(VALUES) == x - y
    assert (a * b).evaluate(VALUES) == x * y


@given(dims, dims, dims)
def test_equal_polynomials_are_equal_values(a: Dim, b: Dim, c: Dim) -> None:
    assert a + b == b + a
    assert a * b == b * a
    assert (a + b) * c == a * c + b * c
    assert a - a == Dim.of(0)
    assert hash(a * b) == hash(b * a)


@given(dims)
def test_text_is_read_back(a: Dim) -> None:
    assert dim(str(a)) == a


@given(dims)
def test_same_text_as_jax(a: Dim) -> None:
    batch, n = jax.export.symbolic_shape("batch, n")
    symbolic = 0
    for monomial, coefficient in a.terms:
        term = coefficient
        for name, power in monomial:
            term = term * (batch if name == "batch" else n) ** power
        symbolic = symbolic + term
    assert dim(symbolic) == a


@pytest.mark.parametrize("extent", [7, np.int64(7)])
def test_integers(extent: int) -> None:
    assert dim(extent).constant() == 7
    assert dim(extent).symbols() == set()


def test_text() -> None:
    batch, n = Dim.symbol("batch"), Dim.symbol("n")
    assert str(batch * batch * 2 + n * batch - n + 1) == "2*batch^2 + batch*n - n + 1"
    assert str(-batch) == "-batch"
    assert str(Dim.of(0)) == "0"
    assert repr(Shape.of([batch, 3])) == "[batch, 3]"


def test_constant_of_a_shape() -> None:
    assert Shape.of([2, 3]).constant() == (2, 3)
    assert Shape.of([2, Dim.symbol("batch")]).constant() is None


@given(dims, dims, divisors)
def test_what_is_no_polynomial_has_the_values_too(a: Dim, b: Dim, divisor: int) -> None:
    x, y = a.evaluate(VALUES), b.evaluate(VALUES)
    assert (a // divisor).evaluate(VALUES) == x // divisor
    assert (a % divisor).evaluate(VALUES) == x % divisor
    assert a.maximum(b).evaluate(VALUES) == max(x, y)
    assert a.minimum(b).evaluate(VALUES) == min(x, y)
    if y:
        assert (a // b).evaluate(VALUES) == x // y


@given(extents, divisors, st.integers(-4, 4))
def test_a_quotient_has_one_form(a: Dim, divisor: int, number: int) -> None:
    assert (a + number * divisor) // divisor == a // divisor + number
    assert (a * 2) // (divisor * 2) == a // divisor
    simple = Dim.symbol("n") + number
    assert (simple // divisor + number) // 3 == (simple + number * divisor) // (3 * divisor)
    for dimension in (a // divisor, a.maximum(number) // divisor):
        assert dim(str(dimension)) == dimension
        for inner in dimension.derived():
            assert inner.left.symbols() | inner.right.symbols() <= dimension.symbols()


@pytest.mark.parametrize("text", [
    "batch // 2", "batch % 2", "(n + 1) // 2 + (n - 1) // 2", "((n - 3) // 2 + 1) // 2 - 1",
    "(2 * n + batch - 5) // 4", "((n + 1) // 2 + 1) * batch // 2", "(n * batch) // (n + 1)",
    "jax.core.max_dim(n - 3, 0)", "jax.core.min_dim(n, batch)", "(n + 6 - 7) // 2 + 1",
])  # fmt: skip
def test_quotients_are_those_of_jax(text: str) -> None:
    batch, n = jax.export.symbolic_shape("batch, n")
    symbolic = eval(text, {"batch": batch, "n": n, "jax": jax})
    for values in ({"batch": 3, "n": 7}, {"batch": 4, "n": 12}):
        assert dim(symbolic).evaluate(values) == eval(text, {**values, "jax": jax})
