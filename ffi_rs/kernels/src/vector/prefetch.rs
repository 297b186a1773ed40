//! Hints for the caches.

/// Asks for the cache line of `address`, which is used soon: by itself an x86 CPU does not look
/// ahead beyond a page. The address need not be valid.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint does not access memory, and every x86-64 CPU has the instruction.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The same for all lines of `values`.
#[inline(always)]
pub(crate) fn prefetch_all<T>(values: &[T]) {
    for line in values.chunks(64 / size_of::<T>()) {
        prefetch(line.as_ptr());
    }
}
