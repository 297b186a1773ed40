"""Dimensions are polynomials: the laws of a ring, and the text form of JAX."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter._dim import Dim, Shape
from exporter._errors import Unsupported
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


@pytest.mark.parametrize("text", ["batch // 2", "batch % 2"])
def test_what_is_no_polynomial(text: str) -> None:
    (batch,) = jax.export.symbolic_shape("batch")
    with pytest.raises(Unsupported, match="must be a polynomial of the symbols"):
        dim(eval(text, {"batch": batch}))
