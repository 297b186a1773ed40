"""Dimensions: integers and polynomials in named symbols, such as ``2*batch + 1``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# A product of symbol powers, sorted by symbol: (("batch", 2), ("length", 1)) is batch^2*length.
Monomial = tuple[tuple[str, int], ...]


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
    def symbol(name: str, power: int = 1) -> Dim:
        """The dimension that is a power of the symbol `name` alone."""
        return _dim({((name, power),): 1})

    @staticmethod
    def of_terms(terms: Iterable[tuple[Iterable[tuple[str, int]], int]]) -> Dim:
        """The sum of the `terms`: products of symbol powers in any order, each with its factor."""
        sums: dict[Monomial, int] = {}
        for factors, coefficient in terms:
            powers: dict[str, int] = {}
            for name, power in factors:
                powers[name] = powers.get(name, 0) + power
            monomial = tuple(sorted(powers.items()))
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
        """Names of the symbols that occur."""
        return {name for monomial, _ in self.terms for name, _ in monomial}

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The value where every symbol has the value in `values`."""
        total = 0
        for monomial, coefficient in self.terms:
            for name, power in monomial:
                coefficient *= values[name] ** power
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

    def __floordiv__(self, divisor: int) -> Dim:
        """The quotient rounded down; ValueError where that is no polynomial."""
        quotients = {monomial: divmod(c, divisor) for monomial, c in self.terms}
        if any(rest for monomial, (_, rest) in quotients.items() if monomial):
            raise ValueError(f"{self} does not divide by {divisor} for every size")
        return _dim({monomial: quotient for monomial, (quotient, _) in quotients.items()})

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        text = ""
        for monomial, coefficient in self.terms:
            sign = "-" if coefficient < 0 else "+"
            text += f" {sign} " if text else sign.strip("+")
            factors = [f"{name}^{power}" if power > 1 else name for name, power in monomial]
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


def _order(term: tuple[Monomial, int]) -> tuple[object, ...]:
    monomial, _ = term
    degree = sum(power for _, power in monomial)
    return -degree, tuple((name, -power) for name, power in monomial)
