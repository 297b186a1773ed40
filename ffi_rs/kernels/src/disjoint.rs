//! Buffers that several chunks write at once.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use bytemuck::Pod;

use crate::scratch::Scratch;

/// A mutable slice of which each chunk of a parallel loop takes its own pieces.
#[derive(Clone, Copy)]
pub(crate) struct DisjointMut<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out `&mut [T]` to disjoint ranges (the contract of `slice`), which may be
// used on any thread where `T` may.
unsafe impl<T: Send> Sync for DisjointMut<'_, T> {}

impl<'a, T> DisjointMut<'a, T> {
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
        // SAFETY: within the buffer, which is borrowed for 'a, and disjoint from every other live
        // slice by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(start, len), len) }
    }

    /// Where the elements `start .. start + len` are.
    #[inline(always)]
    pub(crate) fn pointer(&self, start: usize, len: usize) -> *mut T {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "slice out of bounds");
        // SAFETY: within the buffer, which is borrowed for 'a.
        unsafe { self.start.add(start) }
    }
}

/// AtomicMax of numbers that are not negative, each of what several chunks find.
///
/// The order in which they come does not matter, so that the number of threads changes no bit.
pub(crate) struct AtomicMax<'a>(&'a [AtomicU32]);

impl<'a> AtomicMax<'a> {
    /// In `data`, from 0 on.
    pub(crate) fn new(data: &'a mut [f32]) -> Self {
        data.fill(0.0);
        // SAFETY: an atomic has size and alignment of its number, whose bits any f32 is, and `data`
        // is borrowed for 'a.
        Self(unsafe { &*(std::ptr::from_mut(data) as *const [AtomicU32]) })
    }

    /// Takes in `value`, which is not negative and not NaN.
    pub(crate) fn raise(&self, index: usize, value: f32) {
        // The bits of such numbers are in the order of the numbers.
        self.0[index].fetch_max(value.to_bits(), Ordering::Relaxed);
    }
}

/// A buffer of which chunks of one stage write their own pieces, and those of later stages read.
pub(crate) struct StageBuffer<T> {
    start: *mut T,
    len: usize,
    /// What `start` points into.
    _memory: Scratch<T>,
}

// SAFETY: the memory is its own, as that of a vector is.
unsafe impl<T: Send> Send for StageBuffer<T> {}
// SAFETY: who writes and who reads is the contract of `write` and `read`; values are handed from
// thread to thread as by `&[T]` and `&mut [T]`.
unsafe impl<T: Send + Sync> Sync for StageBuffer<T> {}

impl<T: Pod> StageBuffer<T> {
    /// `len` numbers, which hold anything until they are written.
    pub(crate) fn scratch(len: usize) -> Self {
        let mut memory = Scratch::new(len);
        Self { start: memory.as_mut_ptr(), len, _memory: memory }
    }
}

impl<T: Copy> StageBuffer<T> {
    /// `len` times `value`.
    pub(crate) fn new(value: T, len: usize) -> Self {
        let mut memory = Scratch::new(len);
        let start: *mut T = memory.as_mut_ptr();
        for index in 0..len {
            // SAFETY: the memory has room for `len` values.
            unsafe { start.add(index).write(value) };
        }
        Self { start, len, _memory: memory }
    }
}

impl<T> StageBuffer<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements `start .. start + len`, to write.
    ///
    /// # Safety
    ///
    /// Nothing else uses these elements meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn write(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "out of bounds");
        // SAFETY: these are in the memory and hold values of T; nothing else uses them.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }

    /// The elements of `range`, to read.
    ///
    /// # Safety
    ///
    /// Nothing writes these elements meanwhile.
    pub(crate) unsafe fn read(&self, range: Range<usize>) -> &[T] {
        assert!(range.start <= range.end && range.end <= self.len, "out of bounds");
        // SAFETY: these are in the memory and hold values of T; nothing writes them.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }

    /// All elements, to read.
    ///
    /// # Safety
    ///
    /// As [`Self::read`].
    pub(crate) unsafe fn all(&self) -> &[T] {
        // SAFETY: as this function's.
        unsafe { self.read(0..self.len) }
    }
}
