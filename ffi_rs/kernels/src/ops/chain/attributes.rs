//! The converters of the chain, as attributes say.

use std::num::NonZeroUsize;

use super::tiles::{Tiles, array_rows_from_attrs};
use crate::ops::sizes::Sizes;
use crate::quantizer::Bits;
use crate::{Attrs, DType, Error};

/// The attributes that every op of the chain has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub(crate) op: &'static str,
    pub(crate) dac: Bits,
    pub(crate) weight: Bits,
    pub(crate) adc: Bits,
    /// Inputs of an array; None: as many as there are.
    pub(crate) array_rows: Option<NonZeroUsize>,
    pub(crate) noisy: bool,
    /// Whether every row and column has an id: something random is drawn for it.
    pub(crate) with_ids: bool,
    /// Whether the ranges of x and w may be left out, so that the op finds them.
    pub(crate) finds_ranges: bool,
    /// Whether numbers are complex: two f32 each, so that a row of x is one of twice as many, and
    /// noise is circular.
    pub(crate) complex: bool,
}

impl Chain {
    /// From `dac_bits`, `weight_bits`, `adc_bits`, `array_rows` and `noisy`.
    pub(crate) fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        let noisy = attrs.bool(op, "noisy")?;
        Ok(Self {
            op,
            dac: Bits::from_attrs(op, attrs, "dac_bits")?,
            weight: Bits::from_attrs(op, attrs, "weight_bits")?,
            adc: Bits::from_attrs(op, attrs, "adc_bits")?,
            array_rows: array_rows_from_attrs(op, attrs)?,
            noisy,
            with_ids: noisy,
            finds_ranges: false,
            complex: false,
        })
    }

    /// That of two operands which are signals, through DACs alike: from `dac_bits`, `adc_bits` and
    /// `noisy`.
    pub(crate) fn of_signals(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        let noisy = attrs.bool(op, "noisy")?;
        let dac = Bits::from_attrs(op, attrs, "dac_bits")?;
        Ok(Self {
            op,
            dac,
            weight: dac,
            adc: Bits::from_attrs(op, attrs, "adc_bits")?,
            array_rows: None,
            noisy,
            with_ids: noisy,
            finds_ranges: false,
            complex: false,
        })
    }

    /// The arrays of a product over `depth` f32.
    pub(crate) fn tiles(&self, depth: usize) -> Tiles {
        Tiles::new(self, depth)
    }

    /// The shape of what is saved of the products: \[rows, columns\], or \[rows, tiles, columns\]
    /// where arrays have a limited number of inputs.
    pub(crate) fn residual_shape(&self, sizes: &Sizes) -> Vec<usize> {
        let Sizes { rows, depth, columns } = *sizes;
        match self.array_rows {
            Some(_) => vec![rows, self.tiles(depth * self.parts()).count(), columns],
            None => vec![rows, columns],
        }
    }

    /// Type of x, w, bias and output.
    pub(crate) fn dtype(&self) -> DType {
        if self.complex { DType::C64 } else { DType::F32 }
    }

    /// The f32 of a number.
    pub(crate) fn parts(&self) -> usize {
        if self.complex { 2 } else { 1 }
    }

    /// Whether products over `depth` f32 are summed as integers, which i32 must hold for each array.
    pub(crate) fn is_integer(&self, depth: usize) -> bool {
        let depth = self.tiles(depth).widest();
        self.dac.is_byte()
            && self.weight.is_byte()
            && u64::from(self.dac.largest_code() * self.weight.largest_code())
                .checked_mul(depth as u64)
                .is_some_and(|sum| sum < 1 << 31)
    }

    /// What the op says to what it does not accept.
    pub(crate) fn refuse(&self, message: String) -> Error {
        Error::invalid(self.op, message)
    }
}
