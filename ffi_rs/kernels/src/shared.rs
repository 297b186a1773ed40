//! Output buffers that several chunks write at once.

use std::marker::PhantomData;

/// A mutable slice of which each chunk of a parallel loop takes its own pieces.
pub(crate) struct SharedMut<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out `&mut [T]` to disjoint ranges (the contract of `slice`), which may be
// used on any thread where `T` may.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(crate) fn new(data: &'a mut [T]) -> Self {
        Self { start: data.as_mut_ptr(), len: data.len(), owner: PhantomData }
    }

    /// Elements.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The elements `start .. start + len`.
    ///
    /// # Safety
    ///
    /// No two live slices overlap.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "slice out of bounds");
        // SAFETY: within the buffer, which is borrowed for 'a, and disjoint from every other live
        // slice by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}
