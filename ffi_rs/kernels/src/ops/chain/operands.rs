//! The operands of the chain: their checks, and what they say of a row or a column.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering};

use super::attributes::Chain;
use super::checks::{Broadcast, by_column, extents};
use super::noise::NoiseOperands;
use crate::isa::Isa;
use crate::quantizer::{Converter, Quantizers};
use crate::{DType, Error, Fact, View};

/// Checks the operands from `x_full_scale` to `columns` of a chain with so many rows and columns.
pub(crate) fn check_ranges_and_noise(
    chain: &Chain,
    facts: &[Fact],
    rows: usize,
    columns: usize,
) -> Result<(), Error> {
    let [x_full_scale, w_full_scale, y_full_scale, noise, seed, row_ids, column_ids] = facts else {
        let message = format!("expected 7 range and noise operands, got {}", facts.len());
        return Err(chain.refuse(message));
    };
    let op = chain.op;
    let least = usize::from(!chain.finds_ranges);
    extents(op, "x_full_scale", x_full_scale, DType::F32, &[&[least, 1, rows]])?;
    extents(op, "w_full_scale", w_full_scale, DType::F32, &[&[least, 1, columns]])?;
    extents(op, "y_full_scale", y_full_scale, DType::F32, &[&[1, columns]])?;
    extents(op, "noise", noise, DType::F32, &[&[1, rows], &[4]])?;
    extents(op, "seed", seed, DType::U32, &[&[1, rows], &[2]])?;
    // Rows that share an id would share their noise.
    let ids = |extent| if chain.with_ids { [extent, extent] } else { [1, extent] };
    extents(op, "rows", row_ids, DType::U32, &[&ids(rows)])?;
    extents(op, "columns", column_ids, DType::U32, &[&ids(columns)])
}

/// Ranges of the converters, and noise, as the operands say by row and by column.
pub(crate) struct Operands<'a> {
    chain: Chain,
    x_full_scale: Broadcast<'a, f32>,
    /// The DAC of x, where all rows share one.
    shared_dac: Option<Converter<'static>>,
    /// Where the range of x is to be found: the bits of the largest finite |x| so far.
    found: Option<AtomicU32>,
    /// Of all columns, or one that they share.
    w_full_scale: Cow<'a, [f32]>,
    y_full_scale: Cow<'a, [f32]>,
    pub(crate) noise: NoiseOperands<'a>,
}

impl<'a> Operands<'a> {
    /// From the operands from `x_full_scale` to `columns`, which are checked, for `rows` rows.
    pub(crate) fn new(chain: &Chain, views: &[View<'a>], rows: usize) -> Result<Self, Error> {
        let x_full_scale: &[f32] = views[0].data()?;
        let shared = <[f32; 1]>::try_from(x_full_scale).ok();
        Ok(Self {
            chain: *chain,
            x_full_scale: Broadcast::new(x_full_scale, 1, rows),
            shared_dac: shared.map(|[full_scale]| Converter::one(chain.dac, full_scale)),
            found: (x_full_scale.is_empty() && !chain.dac.is_off()).then(AtomicU32::default),
            w_full_scale: by_column(chain, views[1].data()?),
            y_full_scale: by_column(chain, views[2].data()?),
            noise: NoiseOperands::new(chain, &views[3..], rows)?,
        })
    }

    /// Whether x is multiplied as it is.
    pub(crate) fn is_dac_off(&self) -> bool {
        self.chain.dac.is_off()
    }

    /// Whether the range of x is to be found: before a row is converted, [`raise`](Self::raise) has
    /// seen all.
    pub(crate) fn finds_x_range(&self) -> bool {
        self.found.is_some()
    }

    /// Raises the range of x to a peak that was found, which is not negative and not NaN.
    pub(crate) fn raise(&self, peak: f32) {
        if let Some(found) = &self.found {
            // The bits of such numbers are in the order of the numbers.
            found.fetch_max(peak.to_bits(), Ordering::Relaxed);
        }
    }

    /// The DAC of row `row` of x.
    pub(crate) fn dac(&self, row: usize) -> Converter<'static> {
        let own = || match &self.found {
            Some(found) => f32::from_bits(found.load(Ordering::Relaxed)),
            None => self.x_full_scale.get(row),
        };
        self.shared_dac.unwrap_or_else(|| Converter::one(self.chain.dac, own()))
    }

    /// The DACs of `columns` columns of w; of no effect where `weight_bits` are off.
    pub(crate) fn weight_dacs(&self, isa: Isa, columns: usize) -> Quantizers {
        Quantizers::new(isa, self.chain.weight, columns, &self.w_full_scale)
    }

    /// The ADCs of `columns` columns; of no effect where `adc_bits` are off.
    pub(crate) fn adcs(&self, isa: Isa, columns: usize) -> Quantizers {
        Quantizers::new(isa, self.chain.adc, columns, &self.y_full_scale)
    }
}
