//! How the operands of a product are packed: 32-bit words of one to four values that are neighbors
//! along the depth.

use crate::isa::Isa;

/// What is multiplied, and so how it is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    /// f32, summed in f32.
    F32,
    /// Numbers rounded to bfloat16, summed in f32.
    Bf16,
    /// Integers of 8 bits, summed exactly.
    Int8,
}

/// The numbers of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    F32,
    Bf16,
    I16,
    /// i8 on the right; on the left the integer plus [`OFFSET`], which is u8 or i8.
    I8,
}

/// What the instructions want added to bytes of the lhs, and so taken off by where the
/// sums start: those of x86-64 take u8 there, those of AArch64 i8.
pub(crate) const OFFSET: i32 = if cfg!(target_arch = "aarch64") { 0 } else { 128 };

impl Packing {
    /// Numbers of a word.
    pub(crate) fn values_per_word(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 | Self::I16 => 2,
            Self::I8 => 4,
        }
    }

    /// Words that hold `count` numbers.
    pub(crate) fn packed_len(self, count: usize) -> usize {
        count.div_ceil(self.values_per_word())
    }
}

impl Arithmetic {
    /// How `isa` packs the values.
    pub(crate) fn packing(self, isa: Isa) -> Packing {
        match self {
            Self::F32 => Packing::F32,
            Self::Bf16 if isa >= Isa::Avx512Bf16 => Packing::Bf16,
            Self::Bf16 => Packing::F32,
            Self::Int8 if isa.has_byte_products() => Packing::I8,
            Self::Int8 => Packing::I16,
        }
    }
}
