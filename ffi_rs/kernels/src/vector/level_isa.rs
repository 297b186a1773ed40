//! What products with numbers that are given by codes ask of an instruction set.

use super::dot_isa::DotIsa;

/// Entries of a table that registers hold.
pub(crate) const ENTRIES: usize = 16;

/// Registers of words of codes, which become registers of f32.
///
/// # Safety
///
/// As [`DotIsa`].
pub(crate) unsafe trait LevelIsa: DotIsa {
    /// A register of words of codes.
    type Codes: Copy;
    /// Registers of [`ENTRIES`] numbers.
    type Table: Copy;

    /// The words at `from`, which has `LEN` of them.
    unsafe fn codes(from: *const u32) -> Self::Codes;

    /// `words >> shift & mask` as numbers; `mask` is below 2³¹.
    unsafe fn numbers(words: Self::Codes, shift: u32, mask: u32) -> Self::Words;

    /// A table.
    unsafe fn table(entries: &[f32; ENTRIES]) -> Self::Table;

    /// The entries of the numbers of four bits from `shift` on.
    unsafe fn entries(table: Self::Table, words: Self::Codes, shift: u32) -> Self::Words;

    /// `(level - zero_point) · scale`, rounded twice.
    unsafe fn scaled(
        level: Self::Words,
        zero_point: Self::Words,
        scale: Self::Words,
    ) -> Self::Words;

    /// Writes the sums to `to`, which has room for `LEN`.
    unsafe fn save(sums: Self::Sums, to: *mut f32);
}
