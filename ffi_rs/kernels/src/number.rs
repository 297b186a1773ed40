//! What the factors of a product are made of: 32-bit words of numbers that are neighbors along the
//! depth.

use crate::simd::Level;

/// What is multiplied, and so how it is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// f32, summed in f32.
    Float,
    /// Numbers rounded to bfloat16, summed in f32.
    Brain,
    /// Integers of 8 bits, summed exactly.
    Integer,
}

/// The numbers of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    F32,
    Bf16,
    I16,
    /// i8 on the right; on the left the integer plus [`OFFSET`], which is u8 or i8.
    Byte,
}

/// What the instructions want added to bytes of the left factor, and so taken off by where the
/// sums start: those of x86-64 take u8 there, those of AArch64 i8.
pub(crate) const OFFSET: i32 = if cfg!(target_arch = "aarch64") { 0 } else { 128 };

impl Number {
    /// Numbers of a word.
    pub(crate) fn group(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 | Self::I16 => 2,
            Self::Byte => 4,
        }
    }

    /// Words that hold `count` numbers.
    pub(crate) fn words(self, count: usize) -> usize {
        count.div_ceil(self.group())
    }
}

impl Kind {
    /// How `level` stores numbers of this kind.
    pub(crate) fn number(self, level: Level) -> Number {
        match self {
            Self::Float => Number::F32,
            Self::Brain if level >= Level::Avx512Brain => Number::Bf16,
            Self::Brain => Number::F32,
            Self::Integer if level.has_byte_products() => Number::Byte,
            Self::Integer => Number::I16,
        }
    }
}
