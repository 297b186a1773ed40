//! Registers of numbers, for each instruction set: their products, transposes of squares
//! of them, and random words. Here are the intrinsics of this crate.

mod code_isa;
mod denormals;
mod dot_isa;
mod halves;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod level_isa;
#[cfg(target_arch = "aarch64")]
#[path = "level_aarch64.rs"]
mod levels;
#[cfg(target_arch = "x86_64")]
#[path = "level_x86.rs"]
mod levels;
mod prefetch;
#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod registers;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[path = "scalar.rs"]
mod registers;
#[cfg(target_arch = "x86_64")]
#[path = "x86.rs"]
mod registers;
mod transpose;
mod xoshiro;

pub(crate) use code_isa::CodeIsa;
pub use denormals::FlushDenormals;
pub(crate) use dot_isa::DotIsa;
pub(crate) use halves::{narrow_f16, widen_f16};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use level_isa::{ENTRIES, LevelIsa};
pub(crate) use prefetch::{prefetch, prefetch_all};
pub(crate) use registers::*;
pub(crate) use transpose::{TRANSPOSED, add_dots, transpose};
pub(crate) use xoshiro::xoshiro_8;
