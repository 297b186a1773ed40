"""Dimensions: integers and polynomials in named symbols, such as ``2*batch + 1``.

What is no polynomial, a quotient that is rounded down or the larger of two extents, is a symbol
too, one that follows from others: ``floordiv(height + 1, 2)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, repr=False)
class Derived:
    """A symbol whose value follows from those of others. `floordiv` and `maximum` make one."""

    kind: str
    """ "floordiv" or "max"."""
    left: Dim
    right: Dim

    def evaluate(self, values: Mapping[str, int]) -> int:
        """Its value where every named symbol has the value in `values`."""
        left, right = self.left.evaluate(values), self.right.evaluate(values)
        return left // right if self.kind == "floordiv" else max(left, right)

    def __str__(self) -> str:
        return f"{self.kind}({self.left}, {self.right})"

    __repr__ = __str__


Symbol = str | Derived

# A product of symbol powers, sorted by symbol: (("batch", 2), ("length", 1)) is batch^2*length.
Monomial = tuple[tuple[Symbol, int], ...]


@dataclass(frozen=True, repr=False)
class Dim:
    """A polynomial with integer coefficients; an integer is the polynomial of degree 0.

    Two equal polynomials are equal values: `terms` has no zero coefficient and one order (higher
    degree first, then by symbol), which is the order of the text form and of the file.
    """

    terms: tuple[tuple[Monomial, int], ...]

    @staticmethod
    def of(value: int | Dim) -> Dim:
        """`value` as a dimension."""
        return value if isinstance(value, Dim) else _dim({(): int(value)})

    @staticmethod
    def symbol(symbol: Symbol, power: int = 1) -> Dim:
        """The dimension that is a power of `symbol` alone."""
        return _dim({((symbol, power),): 1})

    @staticmethod
    def of_terms(terms: Iterable[tuple[Iterable[tuple[Symbol, int]], int]]) -> Dim:
        """The sum of the `terms`: products of symbol powers in any order, each with its factor."""
        sums: dict[Monomial, int] = {}
        for factors, coefficient in terms:
            powers: dict[Symbol, int] = {}
            for symbol, power in factors:
                powers[symbol] = powers.get(symbol, 0) + power
            monomial = tuple(sorted(powers.items(), key=lambda factor: str(factor[0])))
            sums[monomial] = sums.get(monomial, 0) + coefficient
        return _dim(sums)

    @staticmethod
    def sum(dims: Iterable[Dim]) -> Dim:
        """The sum of the `dims`."""
        sums: dict[Monomial, int] = {}
        for dim in dims:
            for monomial, coefficient in dim.terms:
                sums[monomial] = sums.get(monomial, 0) + coefficient
        return _dim(sums)

    def constant(self) -> int | None:
        """The integer, or None where the dimension depends on a symbol."""
        if not self.terms:
            return 0
        if len(self.terms) == 1 and not self.terms[0][0]:
            return self.terms[0][1]
        return None

    def symbols(self) -> set[str]:
        """Names of the symbols that occur, in what is derived from them too."""
        names = {symbol for symbol in self._factors() if isinstance(symbol, str)}
        return names.union(*(d.left.symbols() | d.right.symbols() for d in self._derived()))

    def derived(self) -> Iterator[Derived]:
        """The derived symbols that occur, each behind those that it follows from."""
        for symbol in self._derived():
            yield from symbol.left.derived()
            yield from symbol.right.derived()
            yield symbol

    def _factors(self) -> list[Symbol]:
        return [symbol for monomial, _ in self.terms for symbol, _ in monomial]

    def _derived(self) -> list[Derived]:
        return [symbol for symbol in self._factors() if isinstance(symbol, Derived)]

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The value where every symbol has the value in `values`."""
        total = 0
        for monomial, coefficient in self.terms:
            for symbol, power in monomial:
                known = values[symbol] if isinstance(symbol, str) else symbol.evaluate(values)
                coefficient *= known**power
            total += coefficient
        return total

    def __add__(self, other: int | Dim) -> Dim:
        return Dim.sum((self, Dim.of(other)))

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: int | Dim) -> Dim:
        return self + -Dim.of(other)

    def __mul__(self, other: int | Dim) -> Dim:
        others = Dim.of(other).terms
        return Dim.of_terms(
            ((*left, *right), a * b) for left, a in self.terms for right, b in others
        )

    def __floordiv__(self, divisor: int | Dim) -> Dim:
        """The quotient rounded down, in one form for all ways to write it.

        A multiple of the divisor comes out of the quotient, and nested quotients become one, so
        that an extent is the same whether JAX or the type of an op computed it.
        """
        by = Dim.of(divisor)
        number = by.constant()
        if number is None or number <= 0:
            return Dim.symbol(Derived("floordiv", self, by))
        quotients = {monomial: divmod(c, number) for monomial, c in self.terms}
        whole = _dim({monomial: quotient for monomial, (quotient, _) in quotients.items()})
        rest = {monomial: rest for monomial, (_, rest) in quotients.items() if rest}
        offset = rest.pop((), 0)
        if not rest:
            return whole
        common = math.gcd(number, *rest.values())
        left = _dim({monomial: c // common for monomial, c in rest.items()}) + offset // common
        return whole + _quotient(left, number // common)

    def __mod__(self, divisor: int | Dim) -> Dim:
        """The rest of the quotient rounded down."""
        return self - (self // divisor) * Dim.of(divisor)

    def maximum(self, other: int | Dim) -> Dim:
        """The larger of the two."""
        left, right = sorted((self, Dim.of(other)), key=str)
        difference = (left - right).constant()
        if difference is not None:
            return left if difference > 0 else right
        return Dim.symbol(Derived("max", left, right))

    def minimum(self, other: int | Dim) -> Dim:
        """The smaller of the two."""
        return self + Dim.of(other) - self.maximum(other)

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        text = ""
        for monomial, coefficient in self.terms:
            sign = "-" if coefficient < 0 else "+"
            text += f" {sign} " if text else sign.strip("+")
            factors = [f"{sym}^{power}" if power > 1 else str(sym) for sym, power in monomial]
            if abs(coefficient) != 1 or not factors:
                factors.insert(0, str(abs(coefficient)))
            text += "*".join(factors)
        return text

    __repr__ = __str__


class Shape(tuple[Dim, ...]):
    """The extents of an array, each an integer or symbolic."""

    @staticmethod
    def of(extents: Iterable[int | Dim]) -> Shape:
        """The shape with these extents."""
        return Shape(Dim.of(extent) for extent in extents)

    def constant(self) -> tuple[int, ...] | None:
        """The integer extents, or None where one depends on a symbol."""
        extents = [dim.constant() for dim in self]
        known = [extent for extent in extents if extent is not None]
        return tuple(known) if len(known) == len(extents) else None

    def with_axis(self, axis: int, extent: int | Dim) -> Shape:
        """This shape, but for the extent of one axis."""
        return Shape.of((*self[:axis], extent, *self[axis + 1 :]))

    def appended(self, extent: int | Dim) -> Shape:
        """This shape with one more axis, the last."""
        return Shape.of((*self, extent))

    def evaluate(self, values: Mapping[str, int]) -> tuple[int, ...]:
        """The integer extents where every symbol has the value in `values`."""
        return tuple(dim.evaluate(values) for dim in self)

    def __str__(self) -> str:
        return "[" + ", ".join(map(str, self)) + "]"

    __repr__ = __str__


def _dim(terms: dict[Monomial, int]) -> Dim:
    return Dim(tuple((m, c) for m, c in sorted(terms.items(), key=_order) if c))


def _quotient(left: Dim, divisor: int) -> Dim:
    """The quotient of what has no multiple of the divisor in it; one in it becomes part of it."""
    inner = [
        (symbol, number)
        for monomial, one in left.terms
        for symbol, power in monomial
        if isinstance(symbol, Derived)
        and symbol.kind == "floordiv"
        and (number := symbol.right.constant())
        and (one, power, len(monomial)) == (1, 1, 1)
    ]
    if len(inner) == 1:
        ((symbol, number),) = inner
        return (symbol.left + (left - Dim.symbol(symbol)) * number) // (number * divisor)
    return Dim.symbol(Derived("floordiv", left, Dim.of(divisor)))


def _order(term: tuple[Monomial, int]) -> tuple[object, ...]:
    monomial, _ = term
    degree = sum(power for _, power in monomial)
    return -degree, tuple((str(symbol), -power) for symbol, power in monomial)
