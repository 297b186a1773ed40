//! What products with packed codes ask of an instruction set.

use super::dot_isa::DotIsa;

/// Registers of words of codes, parts of which are multiplied by signed integers.
///
/// # Safety
///
/// As [`DotIsa`].
pub(crate) unsafe trait CodeIsa: DotIsa {
    /// Whether a word has two numbers rather than four.
    const PAIRS: bool;
    /// Whether one instruction multiplies two rows of integers, so that sums of two rows alternate where
    /// there are more than one.
    const ALTERNATES: bool = false;

    /// `words >> shift & mask`
    unsafe fn field(words: Self::Words, shift: u32, mask: u32) -> Self::Words;

    /// Words of four bytes that use all of their bits, as `add` takes them: less 128 on AArch64, whose
    /// instructions take signed ones.
    unsafe fn bytes(words: Self::Words) -> Self::Words;

    /// Adds the products of two registers of words that are neighbors along the depth, and of two words
    /// of integers of each row, of which there are one or an even number.
    #[inline(always)]
    unsafe fn add_two<const ROWS: usize>(
        sums: &mut [Self::Sums; ROWS],
        words: [Self::Words; 2],
        x: &[[u32; 2]; ROWS],
    ) {
        for (word, words) in words.into_iter().enumerate() {
            for (sums, x) in sums.iter_mut().zip(x) {
                // SAFETY: the caller vouches for the instruction set.
                *sums = unsafe { Self::add(*sums, words, Self::splat(x[word])) };
            }
        }
    }

    /// The sums of each of two rows, of those that alternate.
    #[inline(always)]
    unsafe fn by_row(sums: [Self::Sums; 2]) -> [Self::Sums; 2] {
        sums
    }

    /// Writes the sums to `to`, which has room for `LEN`.
    unsafe fn save(sums: Self::Sums, to: *mut u32);
}

macro_rules! code_isa {
    ($name:ident: pairs $pairs:literal {
        field: $field:expr,
        bytes: $bytes:expr,
        save: $save:expr $(,)?
    }) => {
        // SAFETY: the intrinsics need what the trait asks of its callers.
        #[allow(unused_unsafe, clippy::redundant_closure_call)]
        unsafe impl CodeIsa for $name {
            const PAIRS: bool = $pairs;

            #[inline(always)]
            unsafe fn field(words: Self::Words, shift: u32, mask: u32) -> Self::Words {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { ($field)(words, shift, mask) }
            }

            #[inline(always)]
            unsafe fn bytes(words: Self::Words) -> Self::Words {
                // SAFETY: as above.
                unsafe { ($bytes)(words) }
            }

            #[inline(always)]
            unsafe fn save(sums: Self::Sums, to: *mut u32) {
                // SAFETY: as above, and for the room.
                unsafe { ($save)(sums, to.cast()) }
            }
        }
    };
}

pub(super) use code_isa;
