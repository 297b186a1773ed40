//! In which numbers the two products of the gradient are computed.

use crate::ops::chain::{OperandFormat, ProductPlan};
use crate::packing::Arithmetic;
use crate::quantizer::Bits;
use crate::{Attrs, Error};

/// What `grad_precision` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// Nothing is rounded.
    Float32,
    /// Both operands are rounded to bfloat16, and summed in f32.
    Bfloat16,
    /// dz is rounded to 8-bit codes at random.
    Int8,
}

impl Precision {
    /// From attribute `grad_precision`.
    pub(crate) fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        match attrs.str(op, "grad_precision")? {
            "float32" => Ok(Self::Float32),
            "bfloat16" => Ok(Self::Bfloat16),
            "int8" => Ok(Self::Int8),
            other => Err(Error::invalid(
                op,
                format!("`grad_precision` must be float32, bfloat16 or int8, got {other}"),
            )),
        }
    }

    /// The product of dz with what a converter of `bits` gives, over `depth` numbers. Of codes, dz
    /// takes the steps.
    pub(super) fn plan(self, bits: Bits, depth: usize) -> ProductPlan {
        let exact = if bits.is_off() { OperandFormat::Exact } else { OperandFormat::Level };
        let short = if bits.is_byte() { OperandFormat::Code } else { exact };
        // Sums of products of codes that i32 holds.
        let fits = u64::from(127 * bits.largest_code()) * (depth as u64) < 1 << 31;
        let (arithmetic, format) = match self {
            Self::Float32 => (Arithmetic::F32, exact),
            Self::Bfloat16 => (Arithmetic::Bf16, short),
            Self::Int8 if short == OperandFormat::Code && fits => (Arithmetic::Int8, short),
            Self::Int8 => (Arithmetic::F32, short),
        };
        ProductPlan { arithmetic, format }
    }
}
