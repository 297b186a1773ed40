//! Memory for the time of a call, which is kept for the next one.
//!
//! What is allocated anew must be cleared, and large pieces be mapped page by page, which takes as
//! long as a short op.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, TryLockError};

use bytemuck::{Pod, Zeroable};

use crate::tuning::{KEPT_LARGE_LINES, KEPT_SMALL_LINES};

/// A cache line: a vector that lies across two of them takes two loads.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u64; 8]);

// SAFETY: integers, for which zero is a number.
unsafe impl Zeroable for Line {}
// SAFETY: integers without padding, all bits of which are numbers.
unsafe impl Pod for Line {}

/// What no call uses. It is locked for moments; a process that is forked in one of them inherits it
/// locked for good, so nobody waits for it: see [`spare`].
static SPARE: Mutex<Spare> =
    Mutex::new(Spare { small: [const { Vec::new() }; CLASSES], large: Vec::new() });
/// Sizes of small pieces, of which a call needs many: 1, 2, 4 … 1024 lines.
const CLASSES: usize = 11;
/// How often the lock is tried before memory is allocated anew: a few times as long as it is held.
const TRIES: usize = 100;

struct Spare {
    small: [Vec<Vec<Line>>; CLASSES],
    /// From the oldest to the latest.
    large: Vec<Vec<Line>>,
}

impl Spare {
    fn take(&mut self, count: usize) -> Option<Vec<Line>> {
        if let Some(class) = self.small.get_mut(class_of(count)) {
            return class.pop();
        }
        // The smallest that does, unless it would keep most of a large one busy.
        let fitting = self.large.iter().enumerate().filter(|(_, lines)| lines.len() >= count);
        let (index, best) = fitting.min_by_key(|(_, lines)| lines.len())?;
        (best.len() <= 8 * count).then(|| self.large.remove(index))
    }

    /// Keeps `lines` for later calls, in place of older ones if they are too many: those are for the
    /// caller to drop, once it has given back the lock.
    #[must_use]
    fn give(&mut self, lines: Vec<Line>) -> Vec<Vec<Line>> {
        let mut gone = Vec::new();
        if let Some(class) = self.small.get_mut(class_of(lines.len())) {
            if (class.len() + 1) * lines.len() <= KEPT_SMALL_LINES {
                class.push(lines);
            } else {
                gone.push(lines);
            }
            return gone;
        }
        let mut total = lines.len() + self.large.iter().map(Vec::len).sum::<usize>();
        while total > KEPT_LARGE_LINES && !self.large.is_empty() {
            let oldest = self.large.remove(0);
            total -= oldest.len();
            gone.push(oldest);
        }
        if total <= KEPT_LARGE_LINES {
            self.large.push(lines);
        } else {
            gone.push(lines);
        }
        gone
    }
}

/// The size of a piece that holds so many lines, as a power of two.
fn class_of(count: usize) -> usize {
    count.next_power_of_two().trailing_zeros() as usize
}

/// What no call uses, unless another thread keeps it longer than it takes to move a piece.
fn spare() -> Option<MutexGuard<'static, Spare>> {
    for _ in 0..TRIES {
        match SPARE.try_lock() {
            Ok(spare) => return Some(spare),
            Err(TryLockError::Poisoned(spare)) => return Some(spare.into_inner()),
            Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
        }
    }
    None
}

/// At least so many lines, which hold anything.
fn take(count: usize) -> Vec<Line> {
    let kept = spare().and_then(|mut spare| spare.take(count));
    let mut lines = kept.unwrap_or_else(|| {
        let whole = if class_of(count) < CLASSES { count.next_power_of_two() } else { count };
        vec![Line([0; 8]); whole]
    });
    if cfg!(debug_assertions) {
        // Nobody is to count on what is there.
        lines.fill(Line([u64::MAX; 8]));
    }
    lines
}

/// Numbers that hold anything until they are written.
pub(crate) struct Scratch<T> {
    /// Empty where there are no numbers. Not a box, whose move would end what `as_mut_ptr` gave.
    lines: Vec<Line>,
    len: usize,
    number: PhantomData<T>,
}

impl<T> Scratch<T> {
    /// Room for `len` values.
    pub(crate) fn new(len: usize) -> Self {
        const { assert!(align_of::<T>() <= align_of::<Line>()) };
        let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        let lines = if lines == 0 { Vec::new() } else { take(lines) };
        Self { lines, len, number: PhantomData }
    }

    /// The first value, which may hold no valid one yet.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.lines.as_mut_ptr().cast()
    }

    /// Makes room for `len` values, and keeps nothing.
    pub(crate) fn resize(&mut self, len: usize) {
        if len * size_of::<T>() <= size_of_val(&*self.lines) {
            self.len = len;
        } else {
            *self = Self::new(len);
        }
    }
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if !lines.is_empty() {
            let gone = spare().map(|mut spare| spare.give(lines));
            drop(gone);
        }
    }
}

impl<T: Pod> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: Pod> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_at_a_line_and_has_as_many() {
        for len in [0, 1, 15, 16, 17, 100_000] {
            let mut numbers = Scratch::<f32>::new(len);
            assert_eq!(numbers.len(), len);
            assert!(len == 0 || numbers.as_ptr().addr().is_multiple_of(64));
            numbers.fill(1.0);
            numbers.resize(len / 2);
            assert_eq!(numbers.len(), len / 2);
            numbers.resize(3 * len);
            assert_eq!(numbers.len(), 3 * len);
        }
    }

    #[test]
    fn two_at_a_time_are_apart() {
        let mut all: Vec<Scratch<u32>> = (0..20).map(|_| Scratch::new(1000)).collect();
        for (value, numbers) in (0..).zip(&mut all) {
            numbers.fill(value);
        }
        for (value, numbers) in (0..).zip(&all) {
            assert!(numbers.iter().all(|number| *number == value));
        }
    }

    #[test]
    fn nobody_waits_for_the_lock() {
        // As in the child of a fork whose lock another thread of the parent held.
        let spare = SPARE.lock().unwrap();
        for len in [1, 100_000] {
            let mut numbers = Scratch::<u64>::new(len);
            numbers.fill(7);
            numbers.resize(3 * len);
            assert_eq!(numbers.len(), 3 * len);
        }
        drop(spare);
    }

    #[test]
    fn no_more_is_kept_than_the_limit() {
        for _ in 0..3 {
            let many: Vec<Scratch<u64>> = (0..9).map(|_| Scratch::new(1 << 19)).collect();
            drop(many);
            drop(Scratch::<u64>::new(1 << 23));
            let spare = SPARE.lock().unwrap();
            assert!(spare.large.iter().map(Vec::len).sum::<usize>() <= KEPT_LARGE_LINES);
        }
        for len in [1, 8, 100, 8 << 10] {
            let many: Vec<Scratch<u64>> = (0..2000).map(|_| Scratch::new(len)).collect();
            drop(many);
        }
        let spare = SPARE.lock().unwrap();
        for (class, pieces) in spare.small.iter().enumerate() {
            assert!(pieces.iter().all(|lines| lines.len() == 1 << class));
            assert!(pieces.len() << class <= KEPT_SMALL_LINES);
        }
    }
}
