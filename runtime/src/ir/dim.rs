//! Symbolic extents: polynomials of named dimensions, and of symbols that follow from these.

use std::fmt;

use crate::tensor::MAX_RANK;

/// A sum of terms: 3, batch, 2*batch + 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dim {
    pub(crate) terms: Vec<Term>,
}

/// An integer times a product of symbol powers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) coefficient: i64,
    pub(crate) factors: Vec<Factor>,
}

/// A power of a symbol, which is an index into the names of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Factor {
    pub(crate) symbol: u32,
    pub(crate) power: u32,
}

/// A symbol that follows from those before it.
#[derive(Clone, Debug)]
pub(crate) struct Derived {
    pub(crate) kind: Kind,
    pub(crate) left: Dim,
    pub(crate) right: Dim,
}

/// How a symbol follows from two polynomials.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Left over right, rounded down.
    FloorDivision,
    /// The larger of the two.
    Maximum,
}

/// Largest power of a symbol in a term.
pub(crate) const MAX_POWER: u32 = 8;
/// Terms of an extent.
pub(crate) const MAX_TERMS: usize = 64;
/// Factors of a term.
pub(crate) const MAX_FACTORS: usize = 16;
/// Symbols of a graph: a set of them is a word.
pub(crate) const MAX_SYMBOLS: usize = 64;

/// Symbols that follow from others.
pub(crate) const MAX_DERIVED: usize = 1024;
/// Terms and factors of all of these, each with those that it is made of in its place.
pub(crate) const MAX_DERIVED_SIZE: usize = 1 << 14;

/// The value of each symbol, where it is known.
pub(crate) type Symbols = Vec<Option<i128>>;

/// What the extent of an axis tells about a symbol.
pub(crate) enum Solution {
    /// All symbols are known already.
    Known,
    /// This symbol has this value.
    Symbol(usize, usize),
    /// No value of the one unknown symbol gives the extent.
    Impossible,
    /// More than one symbol is unknown, or not linear.
    Open,
}

impl Dim {
    /// Whether a symbol is in it.
    pub(crate) fn is_symbolic(&self) -> bool {
        self.terms.iter().any(|term| !term.factors.is_empty())
    }

    /// The symbol that it is, where it is no more than that.
    pub(crate) fn symbol(&self) -> Option<usize> {
        match &self.terms[..] {
            [Term { coefficient: 1, factors }] => match factors[..] {
                [Factor { symbol, power: 1 }] => Some(symbol as usize),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether one of these symbols is in it.
    pub(crate) fn has_any(&self, symbols: &[bool]) -> bool {
        let mut factors = self.terms.iter().flat_map(|term| &term.factors);
        factors.any(|factor| symbols.get(factor.symbol as usize) == Some(&true))
    }

    /// The symbols in it as a set: bit i is symbol i.
    pub(crate) fn symbols(&self) -> u64 {
        let factors = self.terms.iter().flat_map(|term| &term.factors);
        factors.fold(0, |set, factor| set | 1u64.checked_shl(factor.symbol).unwrap_or(0))
    }

    /// Terms and factors: what it takes to compute it.
    pub(crate) fn size(&self) -> usize {
        self.terms.iter().map(|term| 1 + term.factors.len()).sum()
    }

    /// The extent, where every symbol in it is known and it is an extent.
    pub(crate) fn eval(&self, symbols: &[Option<i128>]) -> Option<usize> {
        usize::try_from(self.number(symbols)?).ok()
    }

    /// The number, which may be negative, where every symbol in it is known.
    fn number(&self, symbols: &[Option<i128>]) -> Option<i128> {
        self.value(|symbol| symbols.get(symbol).copied().flatten())
    }

    /// The polynomial where the symbols have these values; None where one has none, or a number on
    /// the way is too large.
    fn value(&self, symbol: impl Fn(usize) -> Option<i128>) -> Option<i128> {
        self.terms.iter().try_fold(0i128, |sum, term| {
            let product = term.factors.iter().try_fold(term.coefficient.into(), |product, f| {
                i128::checked_mul(product, symbol(f.symbol as usize)?.checked_pow(f.power)?)
            })?;
            sum.checked_add(product)
        })
    }

    /// The symbol that alone is unknown, if the extent is linear in it.
    pub(crate) fn unknown(&self, symbols: &[Option<i128>]) -> Option<u32> {
        let mut open = self.terms.iter().flat_map(|term| {
            term.factors.iter().filter(|f| symbols.get(f.symbol as usize) == Some(&None))
        });
        let first = open.next()?;
        let linear = |term: &Term| {
            let of_first = term.factors.iter().filter(|f| f.symbol == first.symbol);
            of_first.map(|f| f.power as usize).sum::<usize>() <= 1
        };
        (open.all(|f| f.symbol == first.symbol) && self.terms.iter().all(linear))
            .then_some(first.symbol)
    }

    /// What it tells about the symbols that this extent is `got`.
    pub(crate) fn solve(&self, got: usize, symbols: &[Option<i128>]) -> Solution {
        let Some(symbol) = self.unknown(symbols) else {
            let open = |f: &Factor| symbols.get(f.symbol as usize) == Some(&None);
            let open = self.terms.iter().any(|term| term.factors.iter().any(open));
            return if open { Solution::Open } else { Solution::Known };
        };
        // The extent is `offset + slope * symbol`, so two values of the symbol give both.
        let at = |value: i128| {
            let known = |index: usize| symbols.get(index).copied().flatten();
            self.value(|index| Some(known(index).unwrap_or(value)))
        };
        let line = at(0).and_then(|offset| {
            let slope = at(1)?.checked_sub(offset)?;
            Some((slope, i128::try_from(got).ok()?.checked_sub(offset)?))
        });
        match line {
            Some((0, 0)) => Solution::Open,
            Some((slope, rise)) => match (rise.checked_div(slope), rise.checked_rem(slope)) {
                (Some(value), Some(0)) => usize::try_from(value)
                    .map_or(Solution::Impossible, |n| Solution::Symbol(symbol as usize, n)),
                _ => Solution::Impossible,
            },
            None => Solution::Impossible,
        }
    }

    /// The polynomial in words: `2*batch + 1`.
    pub(crate) fn display<'a>(&'a self, symbols: &'a [String]) -> impl fmt::Display + 'a {
        Words { dim: self, symbols }
    }
}

impl Derived {
    /// The value, where it is one.
    pub(crate) fn eval(&self, symbols: &[Option<i128>]) -> Option<i128> {
        let (left, right) = (self.left.number(symbols)?, self.right.number(symbols)?);
        match self.kind {
            Kind::Maximum => Some(left.max(right)),
            Kind::FloorDivision => {
                let rest = left.checked_rem_euclid(right)?;
                // Of a negative divisor the Euclidean quotient is rounded up where there is a rest.
                let up = i128::from(right < 0 && rest != 0);
                left.checked_div_euclid(right)?.checked_sub(up)
            }
        }
    }

    /// In words: `floordiv(height + 1, 2)`.
    pub(crate) fn describe(&self, symbols: &[String]) -> String {
        let kind = match self.kind {
            Kind::FloorDivision => "floordiv",
            Kind::Maximum => "max",
        };
        format!("{kind}({}, {})", self.left.display(symbols), self.right.display(symbols))
    }
}

struct Words<'a> {
    dim: &'a Dim,
    symbols: &'a [String],
}

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dim.terms.is_empty() {
            return f.write_str("0");
        }
        for (index, term) in self.dim.terms.iter().enumerate() {
            if index > 0 {
                f.write_str(" + ")?;
            }
            if term.coefficient != 1 || term.factors.is_empty() {
                write!(f, "{}", term.coefficient)?;
            }
            for (position, factor) in term.factors.iter().enumerate() {
                if position > 0 || term.coefficient != 1 {
                    f.write_str("*")?;
                }
                match self.symbols.get(factor.symbol as usize) {
                    Some(name) => f.write_str(name)?,
                    None => write!(f, "?{}", factor.symbol)?,
                }
                if factor.power != 1 {
                    write!(f, "^{}", factor.power)?;
                }
            }
        }
        Ok(())
    }
}

/// A symbolic shape in words: `[batch,64]`. Of more axes than a tensor can have, it names the first.
pub(crate) fn describe_shape(shape: &[Dim], symbols: &[String]) -> String {
    let shown = shape.iter().take(MAX_RANK);
    let mut dims: Vec<String> = shown.map(|dim| dim.display(symbols).to_string()).collect();
    if shape.len() > MAX_RANK {
        dims.push(format!("... {} more", shape.len() - MAX_RANK));
    }
    format!("[{}]", dims.join(","))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dim(terms: &[(i64, &[(u32, u32)])]) -> Dim {
        let factor = |&(symbol, power): &(u32, u32)| Factor { symbol, power };
        let term = |&(coefficient, factors): &(i64, &[(u32, u32)])| Term {
            coefficient,
            factors: factors.iter().map(factor).collect(),
        };
        Dim { terms: terms.iter().map(term).collect() }
    }

    fn solution(dim: &Dim, got: usize, symbols: &[Option<i128>]) -> Result<usize, &'static str> {
        match dim.solve(got, symbols) {
            Solution::Symbol(_, value) => Ok(value),
            Solution::Known => Err("known"),
            Solution::Impossible => Err("impossible"),
            Solution::Open => Err("open"),
        }
    }

    #[test]
    fn the_ends_of_the_numbers_are_no_extent() {
        // -2·a^6 is the least number there is, at a = 2^21.
        let a = Some(1 << 21);
        let least = dim(&[(-2, &[(0, 6)]), (1, &[]), (-1, &[(1, 1)])]);
        for got in [0, 1, usize::MAX] {
            assert_eq!(solution(&least, got, &[a, None]), Err("impossible"));
        }
        assert_eq!(least.eval(&[a, Some(1)]), None);
        let least = dim(&[(-2, &[(0, 6)])]);
        assert_eq!(solution(&least, 0, &[a, None]), Err("known"));
        // The least number over -1 is none; one slope is the least number itself.
        let rise = dim(&[(2, &[(0, 6)]), (-1, &[(1, 1)])]);
        assert_eq!(solution(&rise, 0, &[a, None]), Err("impossible"));
        let steep = dim(&[(-2, &[(0, 6), (1, 1)])]);
        assert_eq!(solution(&steep, 0, &[a, None]), Ok(0));
        assert_eq!(solution(&steep, 1, &[a, None]), Err("impossible"));
    }

    #[test]
    fn one_unknown_is_solved() {
        let odd = dim(&[(2, &[(0, 1)]), (1, &[])]);
        assert_eq!(solution(&odd, 7, &[None]), Ok(3));
        assert_eq!(solution(&odd, 6, &[None]), Err("impossible"));
        assert_eq!(solution(&odd, 7, &[Some(3)]), Err("known"));
        let product = dim(&[(1, &[(0, 1), (1, 1)])]);
        assert_eq!(solution(&product, 0, &[Some(0), None]), Err("open"));
        assert_eq!(solution(&product, 1, &[Some(0), None]), Err("impossible"));
        assert_eq!(solution(&product, 6, &[Some(2), None]), Ok(3));
        assert_eq!(solution(&product, 6, &[None, None]), Err("open"));
        assert_eq!(solution(&dim(&[(1, &[(0, 2)])]), 4, &[None]), Err("open"));
        assert_eq!(product.symbols(), 0b11);
    }

    #[test]
    fn quotients_are_rounded_down() {
        let derived = |kind, left: i64, right: i64| {
            let (left, right) = (dim(&[(left, &[(0, 1)])]), dim(&[(right, &[])]));
            Derived { kind, left, right }.eval(&[Some(7)])
        };
        let quotient = |left, right| derived(Kind::FloorDivision, left, right);
        assert_eq!([quotient(1, 2), quotient(-1, -2), quotient(0, 3)], [Some(3), Some(3), Some(0)]);
        // -3.5 is rounded to -4.
        assert_eq!([quotient(-1, 2), quotient(1, -2), quotient(1, 0)], [Some(-4), Some(-4), None]);
        assert_eq!(
            [derived(Kind::Maximum, -1, 3), derived(Kind::Maximum, -1, -9)],
            [Some(3), Some(-7)]
        );
    }

    #[test]
    fn more_axes_than_a_tensor_has_are_counted() {
        let shape = vec![dim(&[(3, &[])]); 100];
        assert_eq!(describe_shape(&shape, &[]), "[3,3,3,3,3,3,3,3,... 92 more]");
    }

    /// Numbers of every size, the largest included.
    fn number() -> impl Strategy<Value = i64> {
        prop_oneof![Just(0), -3..4i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)]
    }

    proptest! {
        /// What comes out fits the extent; nothing overflows, whatever the numbers are.
        #[test]
        fn what_is_solved_is_so(
            terms in proptest::collection::vec(
                (number(), proptest::collection::vec((0..3u32, 1..9u32), 0..3)), 0..4),
            known in any::<[Option<u64>; 2]>(),
            got in prop_oneof![0..9usize, any::<usize>()],
        ) {
            let terms: Vec<_> = terms.iter().map(|(c, factors)| (*c, &factors[..])).collect();
            let dim = dim(&terms);
            let mut symbols = known.map(|known| known.map(i128::from)).to_vec();
            symbols.push(None);
            prop_assert!(dim.unknown(&symbols).is_none_or(|symbol| symbol < 3));
            if let Solution::Symbol(symbol, value) = dim.solve(got, &symbols) {
                symbols[symbol] = Some(value as i128);
                // Terms that cancel may be too large each.
                prop_assert!(dim.eval(&symbols).is_none_or(|extent| extent == got));
            }
        }
    }
}
