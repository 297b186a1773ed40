//! What a micro-kernel asks of an instruction set.

/// A register of 32-bit words of one or more numbers, and how products of words are added to a
/// register of sums.
///
/// # Safety
///
/// The methods may run only on a CPU that has the instruction set of the type, and are to be
/// inlined into a function compiled for it.
pub(crate) unsafe trait DotIsa {
    /// Words of a register, and sums of one.
    const LEN: usize;
    /// Whether stored sums can be loaded and gone on with: those of floats.
    const CAN_ACCUMULATE: bool;

    /// A register of words.
    type Words: Copy;
    /// A register of sums.
    type Sums: Copy;

    /// Sums that are zero.
    unsafe fn zero() -> Self::Sums;

    /// The sums at `from`, which has `LEN` of them.
    unsafe fn sums(from: *const u32) -> Self::Sums;

    /// The words at `from`, which has `LEN` of them.
    unsafe fn words(from: *const u32) -> Self::Words;

    /// `LEN` times `word`.
    unsafe fn splat(word: u32) -> Self::Words;

    /// Adds the products of the numbers of `left` and `right`.
    unsafe fn add(sums: Self::Sums, left: Self::Words, right: Self::Words) -> Self::Sums;

    /// Writes the sums as f32 to `to`, which has room for `LEN`.
    unsafe fn store(sums: Self::Sums, to: *mut f32);

    /// The same, each sum times its `scale`, of which there are `LEN`; adds to what is there if
    /// `add_to`.
    unsafe fn store_scaled(sums: Self::Sums, scale: *const f32, add_to: bool, to: *mut f32);
}

macro_rules! dot_isa {
    (
        $(#[$meta:meta])*
        $name:ident: $len:literal words, $words:ty => $sums:ty, $can_accumulate:literal {
            zero: $zero:expr,
            sums: $load_sums:expr,
            words: $load_words:expr,
            splat: $splat:expr,
            add: $add:expr,
            store: $store:expr,
            store_scaled: $store_scaled:expr $(,)?
        }
    ) => {
        $(#[$meta])*
        pub(crate) struct $name;

        // SAFETY: the intrinsics need what the trait asks of its callers.
        #[allow(unused_unsafe, clippy::redundant_closure_call)]
        unsafe impl DotIsa for $name {
            const LEN: usize = $len;
            const CAN_ACCUMULATE: bool = $can_accumulate;

            type Words = $words;
            type Sums = $sums;

            #[inline(always)]
            unsafe fn zero() -> Self::Sums {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $zero }
            }

            #[inline(always)]
            unsafe fn sums(from: *const u32) -> Self::Sums {
                // SAFETY: as above, and for the elements.
                unsafe { $load_sums(from.cast()) }
            }

            #[inline(always)]
            unsafe fn words(from: *const u32) -> Self::Words {
                // SAFETY: as above, and for the elements.
                unsafe { $load_words(from.cast()) }
            }

            #[inline(always)]
            unsafe fn splat(word: u32) -> Self::Words {
                // SAFETY: as above.
                unsafe { ($splat)(word) }
            }

            #[inline(always)]
            unsafe fn add(sums: Self::Sums, left: Self::Words, right: Self::Words) -> Self::Sums {
                // SAFETY: as above.
                unsafe { ($add)(sums, left, right) }
            }

            #[inline(always)]
            unsafe fn store(sums: Self::Sums, to: *mut f32) {
                // SAFETY: as above, and for the elements.
                unsafe { ($store)(sums, to) }
            }

            #[inline(always)]
            unsafe fn store_scaled(
                sums: Self::Sums,
                scale: *const f32,
                add_to: bool,
                to: *mut f32,
            ) {
                // SAFETY: as above, and for the elements.
                unsafe { ($store_scaled)(sums, scale, add_to, to) }
            }
        }
    };
}

pub(super) use dot_isa;
