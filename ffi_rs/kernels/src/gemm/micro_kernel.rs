//! The micro-kernels: which registers hold a tile, for each instruction set.

use crate::isa::Isa;
use crate::packing::{Arithmetic, Packing};
use crate::vector::{self, DotIsa};

/// A computation on tiles of `ROWS` rows and `COLUMNS` registers of columns.
pub(super) trait MicroKernel {
    /// What it returns.
    type Output;

    /// Runs it; to be inlined.
    ///
    /// # Safety
    ///
    /// The CPU has the instruction set of `D`.
    unsafe fn run<D: DotIsa, const ROWS: usize, const COLUMNS: usize>(self) -> Self::Output;
}

/// Runs `task` with the registers and the tiles that `isa` has for numbers of `arithmetic`.
pub(super) fn run<T: MicroKernel>(isa: Isa, arithmetic: Arithmetic, task: T) -> T::Output {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: an `Isa` exists only where `detect` saw its features.
    unsafe {
        match (arithmetic.packing(isa), isa) {
            (Packing::F32, Isa::Baseline) => baseline_f32(task),
            (Packing::F32, Isa::Avx2 | Isa::Avx2Vnni) => avx2_f32(task),
            (Packing::F32, _) => avx512_f32(task),
            (Packing::I16, Isa::Baseline) => baseline_i16(task),
            (Packing::I16, Isa::Avx2) => avx2_i16(task),
            (Packing::I16, _) => avx512_i16(task),
            (Packing::I8, Isa::Avx2Vnni) => avx2_i8(task),
            (Packing::I8, _) => avx512_i8(task),
            (Packing::Bf16, _) => avx512_bf16(task),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: an `Isa` exists only where `detect` saw its features.
    unsafe {
        match arithmetic.packing(isa) {
            Packing::F32 => baseline_f32(task),
            Packing::I16 => baseline_i16(task),
            #[cfg(target_arch = "aarch64")]
            Packing::I8 => neon_i8(task),
            _ => unreachable!("no such isa on this CPU"),
        }
    }
}

/// Defines one compiled variant: its instruction set, its numbers, and the rows of its tiles by the
/// registers of their columns.
macro_rules! variants {
    ($($(#[$meta:meta])* $name:ident = $dot:ident, $rows:literal x $columns:literal;)*) => {$(
        $(#[$meta])*
        unsafe fn $name<T: MicroKernel>(task: T) -> T::Output {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { task.run::<vector::$dot, $rows, $columns>() }
        }
    )*};
}

variants! {
    baseline_f32 = BaselineF32, 4 x 3;
    baseline_i16 = BaselineI16, 4 x 3;
}

#[cfg(target_arch = "x86_64")]
variants! {
    #[target_feature(enable = "avx2,fma")]
    avx2_f32 = Avx2F32, 6 x 2;
    #[target_feature(enable = "avx2,fma")]
    avx2_i16 = Avx2I16, 6 x 2;
    #[target_feature(enable = "avx2,fma,avxvnni")]
    avx2_i8 = Avx2I8, 6 x 2;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    avx512_f32 = Avx512F32, 8 x 3;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    avx512_i16 = Avx512I16, 8 x 3;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    avx512_i8 = Avx512I8, 8 x 3;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    avx512_bf16 = Avx512Bf16Words, 8 x 3;
}

#[cfg(target_arch = "aarch64")]
variants! {
    #[target_feature(enable = "dotprod")]
    neon_i8 = NeonI8, 4 x 3;
}
