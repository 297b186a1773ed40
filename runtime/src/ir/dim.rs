//! Symbolic extents: polynomials of named dimensions.

use std::fmt;

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

/// Largest power of a symbol in a term.
pub(crate) const MAX_POWER: u32 = 8;

/// The value of each symbol, where it is known.
pub(crate) type Symbols = Vec<Option<usize>>;

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

    /// The extent, where every symbol in it is known and it is an extent.
    pub(crate) fn eval(&self, symbols: &[Option<usize>]) -> Option<usize> {
        let sum = self.terms.iter().try_fold(0i128, |sum, term| {
            let factors = term.factors.iter().try_fold(1i128, |product, factor| {
                let value = symbols.get(factor.symbol as usize).copied().flatten()? as i128;
                product.checked_mul(value.checked_pow(factor.power)?)
            })?;
            sum.checked_add(factors.checked_mul(term.coefficient.into())?)
        })?;
        usize::try_from(sum).ok()
    }

    /// The symbol that alone is unknown, if the extent is linear in it.
    pub(crate) fn unknown(&self, symbols: &[Option<usize>]) -> Option<u32> {
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
    pub(crate) fn solve(&self, got: usize, symbols: &[Option<usize>]) -> Solution {
        let Some(symbol) = self.unknown(symbols) else {
            let open = |f: &Factor| symbols.get(f.symbol as usize) == Some(&None);
            let open = self.terms.iter().any(|term| term.factors.iter().any(open));
            return if open { Solution::Open } else { Solution::Known };
        };
        // The extent is `offset + slope * symbol`, so two values of the symbol give both.
        let at = |value: i64| {
            let mut offset = 0i128;
            for term in &self.terms {
                let mut product = i128::from(term.coefficient);
                for factor in &term.factors {
                    let base = match symbols.get(factor.symbol as usize).copied().flatten() {
                        Some(known) => known as i128,
                        None => value.into(),
                    };
                    product = product.checked_mul(base.checked_pow(factor.power)?)?;
                }
                offset = offset.checked_add(product)?;
            }
            Some(offset)
        };
        let (Some(offset), Some(at_one)) = (at(0), at(1)) else { return Solution::Impossible };
        let slope = at_one - offset;
        let rise = got as i128 - offset;
        if slope == 0 {
            return if rise == 0 { Solution::Open } else { Solution::Impossible };
        }
        match usize::try_from(rise / slope) {
            Ok(value) if rise % slope == 0 => Solution::Symbol(symbol as usize, value),
            _ => Solution::Impossible,
        }
    }

    /// The polynomial in words: `2*batch + 1`.
    pub(crate) fn display<'a>(&'a self, symbols: &'a [String]) -> impl fmt::Display + 'a {
        Words { dim: self, symbols }
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

/// A symbolic shape in words: `[batch,64]`.
pub(crate) fn describe_shape(shape: &[Dim], symbols: &[String]) -> String {
    let dims: Vec<String> = shape.iter().map(|dim| dim.display(symbols).to_string()).collect();
    format!("[{}]", dims.join(","))
}
