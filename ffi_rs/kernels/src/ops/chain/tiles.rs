//! Which inputs go through which array: an array has a limited number of them, and its own ADC.
//!
//! ```text
//! y_t = x_q[tile t] · w_q[tile t]   (+ bias where t = 0)            out = Σ_t ADC(y_t + σ_t·ε_t)
//! ```
//!
//! ε_t is drawn from the seed plus t times [`SEED_STEP`](crate::noise::SEED_STEP), so the first tile draws as an array that
//! has all inputs does.

use std::num::NonZeroUsize;
use std::ops::Range;

use super::attributes::Chain;
use crate::packing::Packing;
use crate::{Attrs, Error};

/// Inputs of an array, from attribute `array_rows`; None where it has as many as there are.
pub(super) fn array_rows_from_attrs(
    op: &'static str,
    attrs: &dyn Attrs,
) -> Result<Option<NonZeroUsize>, Error> {
    let rows = attrs.int(op, "array_rows")?;
    match usize::try_from(rows) {
        Ok(rows) => Ok(NonZeroUsize::new(rows)),
        Err(_) => Err(Error::invalid(
            op,
            format!("`array_rows` must be 0 (no limit) or more, got {rows}"),
        )),
    }
}

/// How a product over `depth` f32 is cut into arrays; a complex input is two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiles {
    depth: usize,
    /// Inputs of each tile but the last, which may have fewer.
    widest: usize,
}

impl Tiles {
    pub(crate) fn new(chain: &Chain, depth: usize) -> Self {
        let of_array = chain.array_rows.map(|rows| rows.get() * chain.parts());
        let widest = of_array.map_or(depth, |rows| depth.min(rows));
        Self { depth, widest }
    }

    /// How many there are, at least one.
    pub(crate) fn count(&self) -> usize {
        if self.widest == 0 { 1 } else { self.depth.div_ceil(self.widest) }
    }

    /// Inputs of the tile that has most.
    pub(crate) fn widest(&self) -> usize {
        self.widest
    }

    /// The inputs of a tile.
    pub(crate) fn inputs(&self, tile: usize) -> Range<usize> {
        tile * self.widest..self.depth.min((tile + 1) * self.widest)
    }

    /// Where the words of a tile are in a packed row: each starts with a word of its own.
    pub(crate) fn words(&self, tile: usize, packing: Packing) -> Range<usize> {
        let start = tile * packing.packed_len(self.widest);
        start..start + packing.packed_len(self.inputs(tile).len())
    }

    /// Words of a packed row.
    pub(crate) fn packed_len(&self, packing: Packing) -> usize {
        self.words(self.count() - 1, packing).end
    }
}
