//! The sizes of a product of two matrices.

use super::chain::{Chain, matrix_of};
use crate::tuning::CHAIN_PRODUCTS_PER_NANOSECOND;
use crate::{Error, Fact};

/// x is (rows, depth), w (depth, columns), and their product (rows, columns).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
}

impl Sizes {
    /// Those of `x` and `w`, which is (columns, depth) if `transposed`.
    pub(crate) fn of(chain: &Chain, x: &Fact, w: &Fact, transposed: bool) -> Result<Self, Error> {
        let op = chain.op;
        let &[rows, depth] = matrix_of(op, "x", chain.dtype(), x)?;
        let &[first, second] = matrix_of(op, "w", chain.dtype(), w)?;
        let (w_depth, columns) = if transposed { (second, first) } else { (first, second) };
        if w_depth != depth {
            let message = format!(
                "`w` must have {depth} elements along the contracted axis as `x` has, got {w_depth}"
            );
            return Err(Error::invalid(op, message));
        }
        Ok(Self { rows, depth, columns })
    }

    /// The sizes in f32, for each complex number two.
    pub(crate) fn in_floats(self, chain: &Chain) -> Self {
        let Self { rows, depth, columns } = self;
        Self { rows, depth: depth * chain.parts(), columns: columns * chain.parts() }
    }

    /// Rows, depth and columns.
    pub(crate) fn extents(&self) -> [usize; 3] {
        [self.rows, self.depth, self.columns]
    }

    /// About what one thread takes for so many products, where it packs `packed` weights in a nanosecond.
    pub(crate) fn nanoseconds(&self, products: usize, packed: usize) -> usize {
        let numbers = self.depth * self.columns;
        let product = (self.rows * numbers / CHAIN_PRODUCTS_PER_NANOSECOND).max(numbers / packed);
        products * (product + self.rows * self.columns)
    }
}
