//! The converters of the chain, as attributes say.

use crate::quantizer::Bits;
use crate::{Attrs, Error};

/// The attributes that every op of the chain has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub(crate) op: &'static str,
    pub(crate) dac: Bits,
    pub(crate) weight: Bits,
    pub(crate) adc: Bits,
    pub(crate) noisy: bool,
    /// Whether every row and column has an id: something random is drawn for it.
    pub(crate) with_ids: bool,
    /// Whether the ranges of x and w may be left out, so that the op finds them.
    pub(crate) finds_ranges: bool,
}

impl Chain {
    /// From `dac_bits`, `weight_bits`, `adc_bits` and `noisy`.
    pub(crate) fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        let noisy = attrs.bool(op, "noisy")?;
        Ok(Self {
            op,
            dac: Bits::from_attrs(op, attrs, "dac_bits")?,
            weight: Bits::from_attrs(op, attrs, "weight_bits")?,
            adc: Bits::from_attrs(op, attrs, "adc_bits")?,
            noisy,
            with_ids: noisy,
            finds_ranges: false,
        })
    }

    /// Whether products over `depth` numbers are summed as integers, which i32 must hold.
    pub(crate) fn is_integer(&self, depth: usize) -> bool {
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
