//! Which registers hold a tile, at each level.

use crate::number::{Kind, Number};
use crate::simd::Level;
use crate::vector::{self, Dot};

/// What is done by tiles of `ROWS` rows and `COLUMNS` registers of columns.
pub(crate) trait Tiled {
    /// What comes of it.
    type Output;

    /// Does it; to be inlined.
    ///
    /// # Safety
    ///
    /// The CPU has the instruction set of `D`.
    unsafe fn run<D: Dot, const ROWS: usize, const COLUMNS: usize>(self) -> Self::Output;
}

/// Runs `task` with the registers and the tiles that `level` has for numbers of `kind`.
pub(crate) fn run<T: Tiled>(level: Level, kind: Kind, task: T) -> T::Output {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a level exists only where `detect` saw its features.
    unsafe {
        match (kind.number(level), level) {
            (Number::F32, Level::Baseline) => baseline_floats(task),
            (Number::F32, Level::Avx2 | Level::Avx2Vnni) => avx2_floats(task),
            (Number::F32, _) => avx512_floats(task),
            (Number::I16, Level::Baseline) => baseline_pairs(task),
            (Number::I16, Level::Avx2) => avx2_pairs(task),
            (Number::I16, _) => avx512_pairs(task),
            (Number::Byte, Level::Avx2Vnni) => avx2_bytes(task),
            (Number::Byte, _) => avx512_bytes(task),
            (Number::Bf16, _) => avx512_brains(task),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: a level exists only where `detect` saw its features.
    unsafe {
        match kind.number(level) {
            Number::F32 => baseline_floats(task),
            Number::I16 => baseline_pairs(task),
            #[cfg(target_arch = "aarch64")]
            Number::Byte => neon_bytes(task),
            _ => unreachable!("no such level on this CPU"),
        }
    }
}

/// Defines one compiled variant: its instruction set, its numbers, and the rows of its tiles by the
/// registers of their columns.
macro_rules! variants {
    ($($(#[$meta:meta])* $name:ident = $dot:ident, $rows:literal x $columns:literal;)*) => {$(
        $(#[$meta])*
        unsafe fn $name<T: Tiled>(task: T) -> T::Output {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { task.run::<vector::$dot, $rows, $columns>() }
        }
    )*};
}

variants! {
    baseline_floats = BaselineFloats, 4 x 3;
    baseline_pairs = BaselinePairs, 4 x 3;
}

#[cfg(target_arch = "x86_64")]
variants! {
    #[target_feature(enable = "avx2,fma")]
    avx2_floats = Avx2Floats, 6 x 2;
    #[target_feature(enable = "avx2,fma")]
    avx2_pairs = Avx2Pairs, 6 x 2;
    #[target_feature(enable = "avx2,fma,avxvnni")]
    avx2_bytes = Avx2Bytes, 6 x 2;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    avx512_floats = Avx512Floats, 8 x 3;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    avx512_pairs = Avx512Pairs, 8 x 3;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    avx512_bytes = Avx512Bytes, 8 x 3;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    avx512_brains = Avx512Brains, 8 x 3;
}

#[cfg(target_arch = "aarch64")]
variants! {
    #[target_feature(enable = "dotprod")]
    neon_bytes = NeonBytes, 4 x 3;
}
