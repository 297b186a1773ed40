//! Buffers whose chunks are read and written by several threads at once.
//!
//! A parallel loop gives every chunk of work its own part of a result. That no two parts overlap is
//! a matter of index arithmetic, which the types cannot see. Here it is checked instead: a buffer
//! lends its parts out like a `RefCell`, many to read or one to write, and in debug builds it keeps
//! a list of what is lent. A part that overlaps another one which is still lent is a panic there.
//! In release builds nothing is kept, since a lookup would take as long as a short chunk; the tests
//! run every op in debug builds, over random sizes and several threads, and so cover the arithmetic.
//!
//! Who writes a chunk and who reads it later must be on two sides of a stage boundary of
//! [`Schedule`](crate::par::Schedule), which orders their memory accesses.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytemuck::Pod;

use crate::scratch::Scratch;

/// Elements of a buffer: `rows` times `width` of them, `stride` from each other.
#[derive(Clone, Copy, Debug)]
struct Area {
    start: usize,
    rows: usize,
    width: usize,
    stride: usize,
}

impl Area {
    fn of(range: &Range<usize>) -> Self {
        Self { start: range.start, rows: 1, width: range.len(), stride: 0 }
    }

    /// Whether one of the elements `range` is in the area.
    fn meets(&self, range: &Range<usize>) -> bool {
        // The first row that ends after the start of the range is the one to look at.
        let before = (range.start + 1).saturating_sub(self.start + self.width);
        let row =
            if self.stride == 0 { usize::from(before > 0) } else { before.div_ceil(self.stride) };
        self.width > 0 && row < self.rows && self.start + row * self.stride < range.end
    }

    fn overlaps(&self, other: &Self) -> bool {
        other.width > 0
            && (0..other.rows)
                .map(|row| other.start + row * other.stride)
                .any(|start| self.meets(&(start..start + other.width)))
    }
}

/// What of a buffer is lent at the moment; nothing, as far as it knows, in release builds.
#[derive(Default)]
struct Loans {
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    count: usize,
    /// By number: what is lent, and whether it may be written.
    loans: Vec<(usize, Area, bool)>,
}

impl Loans {
    /// Lends `area`; panics in debug builds if another loan stands against it.
    #[inline(always)]
    fn lend(&self, area: Area, mutable: bool) -> Loan<'_> {
        let number = if cfg!(debug_assertions) { self.enter(area, mutable) } else { 0 };
        Loan { loans: self, number }
    }

    fn enter(&self, area: Area, mutable: bool) -> usize {
        let mut live = self.live();
        for (_, other, other_mutable) in &live.loans {
            assert!(
                !(mutable || *other_mutable) || !area.overlaps(other),
                "{area:?} is lent while {other:?} is, and one of them to write"
            );
        }
        live.count += 1;
        let number = live.count;
        live.loans.push((number, area, mutable));
        number
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part that is lent until this is dropped.
struct Loan<'a> {
    loans: &'a Loans,
    number: usize,
}

impl Drop for Loan<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            self.loans.live().loans.retain(|(number, ..)| *number != self.number);
        }
    }
}

/// Elements that are lent to read.
pub(crate) struct Chunk<'a, T> {
    elements: &'a [T],
    _loan: Loan<'a>,
}

impl<T> Deref for Chunk<'_, T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        self.elements
    }
}

/// Elements that are lent to write.
pub(crate) struct ChunkMut<'a, T> {
    elements: &'a mut [T],
    _loan: Loan<'a>,
}

impl<T> Deref for ChunkMut<'_, T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        self.elements
    }
}

impl<T> DerefMut for ChunkMut<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        self.elements
    }
}

/// Some rows and columns of a matrix, to write.
pub(crate) struct TileMut<'a, T> {
    start: *mut T,
    stride: usize,
    rows: usize,
    columns: usize,
    owner: PhantomData<&'a mut [T]>,
    _loan: Option<Loan<'a>>,
}

impl<'a, T> TileMut<'a, T> {
    /// All of a matrix whose rows follow each other, each of so many columns.
    #[cfg(test)]
    pub(crate) fn new(data: &'a mut [T], columns: usize) -> Self {
        let rows = data.len().checked_div(columns).unwrap_or(0);
        let start = data.as_mut_ptr();
        Self { start, stride: columns, rows, columns, owner: PhantomData, _loan: None }
    }

    pub(crate) fn row_count(&self) -> usize {
        self.rows
    }

    pub(crate) fn column_count(&self) -> usize {
        self.columns
    }

    /// Elements from one row to the next.
    #[inline(always)]
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Where row `row` is from `column` on, if this and `rows - 1` more rows, and `columns` columns,
    /// are within the tile.
    #[inline(always)]
    pub(crate) fn pointer(&self, row: usize, column: usize, rows: usize, columns: usize) -> *mut T {
        assert!(row + rows <= self.rows && column + columns <= self.columns, "outside of the tile");
        self.start.wrapping_add(row * self.stride + column)
    }

    /// Some of the rows, for as long as this tile is not used.
    pub(crate) fn rows(&mut self, rows: Range<usize>) -> TileMut<'_, T> {
        let start = self.pointer(rows.start, 0, rows.len(), 0);
        TileMut { start, rows: rows.len(), owner: PhantomData, _loan: None, ..*self }
    }

    /// Some of the columns, for as long as this tile is not used.
    pub(crate) fn columns(&mut self, columns: Range<usize>) -> TileMut<'_, T> {
        let start = self.pointer(0, columns.start, 0, columns.len());
        TileMut { start, columns: columns.len(), owner: PhantomData, _loan: None, ..*self }
    }

    /// The rows, one after the other.
    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        let (start, stride, columns) = (self.start, self.stride, self.columns);
        (0..self.rows).map(move |row| {
            let row = start.wrapping_add(row * stride);
            // SAFETY: the row is within the tile, which is borrowed for as long as the rows are;
            // rows do not overlap, and the iterator gives each of them once.
            unsafe { std::slice::from_raw_parts_mut(row, columns) }
        })
    }
}

/// Memory whose elements are lent.
struct Lender<T> {
    start: *mut T,
    len: usize,
    loans: Loans,
}

// SAFETY: it is the only way to the elements, which are sent with it.
unsafe impl<T: Send> Send for Lender<T> {}
// SAFETY: what it lends at the same time does not overlap, or is only read, and may go wherever
// `&mut [T]` and `&[T]` may.
unsafe impl<T: Send + Sync> Sync for Lender<T> {}

impl<T> Lender<T> {
    /// Of the values at `start`, which live as long as what holds this.
    fn new(start: *mut T, len: usize) -> Self {
        Self { start, len, loans: Loans::default() }
    }

    #[inline]
    fn write(&self, range: Range<usize>) -> ChunkMut<'_, T> {
        assert!(range.start <= range.end && range.end <= self.len, "outside of the buffer");
        let loan = self.loans.lend(Area::of(&range), true);
        let start = self.start.wrapping_add(range.start);
        // SAFETY: the elements are within the memory and hold values; the loan keeps them apart
        // from all others that are lent.
        let elements = unsafe { std::slice::from_raw_parts_mut(start, range.len()) };
        ChunkMut { elements, _loan: loan }
    }

    #[inline]
    fn read(&self, range: Range<usize>) -> Chunk<'_, T> {
        assert!(range.start <= range.end && range.end <= self.len, "outside of the buffer");
        let loan = self.loans.lend(Area::of(&range), false);
        let start = self.start.wrapping_add(range.start);
        // SAFETY: the elements are within the memory and hold values; the loan keeps them apart
        // from all that are lent to be written.
        let elements = unsafe { std::slice::from_raw_parts(start, range.len()) };
        Chunk { elements, _loan: loan }
    }

    #[inline]
    fn tile(&self, stride: usize, rows: Range<usize>, columns: Range<usize>) -> TileMut<'_, T> {
        assert!(columns.start <= columns.end && columns.end <= stride, "outside of the row");
        let (at, count, width) = (rows.start * stride + columns.start, rows.len(), columns.len());
        // The last row of a matrix may end with its last column.
        let end = if count == 0 || width == 0 { 0 } else { at + (count - 1) * stride + width };
        assert!(rows.start <= rows.end && end <= self.len, "outside of the buffer");
        let loan = self.loans.lend(Area { start: at, rows: count, width, stride }, true);
        let start = self.start.wrapping_add(at);
        let owner = PhantomData;
        TileMut { start, stride, rows: count, columns: width, owner, _loan: Some(loan) }
    }
}

/// A result of which each chunk of a parallel loop writes its own part.
pub(crate) struct DisjointMut<'a, T> {
    elements: Lender<T>,
    owner: PhantomData<&'a mut [T]>,
}

impl<'a, T> DisjointMut<'a, T> {
    pub(crate) fn new(data: &'a mut [T]) -> Self {
        Self { elements: Lender::new(data.as_mut_ptr(), data.len()), owner: PhantomData }
    }

    /// The elements of `range`.
    #[inline]
    pub(crate) fn write(&self, range: Range<usize>) -> ChunkMut<'_, T> {
        self.elements.write(range)
    }

    /// Rows and columns of the matrix that the elements are if its rows have `stride` of them.
    #[inline]
    pub(crate) fn tile(
        &self,
        stride: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> TileMut<'_, T> {
        self.elements.tile(stride, rows, columns)
    }
}

/// Memory of which chunks of one stage write their own parts, and those of later stages read.
pub(crate) struct StageBuffer<T> {
    elements: Lender<T>,
    /// Where the elements are.
    _memory: Scratch<T>,
}

impl<T: Pod> StageBuffer<T> {
    /// `len` numbers, which hold anything until they are written.
    pub(crate) fn scratch(len: usize) -> Self {
        let mut memory = Scratch::new(len);
        Self { elements: Lender::new(memory.as_mut_ptr(), len), _memory: memory }
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
        Self { elements: Lender::new(start, len), _memory: memory }
    }
}

impl<T> StageBuffer<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.elements.len
    }

    /// The elements of `range`, to write.
    #[inline]
    pub(crate) fn write(&self, range: Range<usize>) -> ChunkMut<'_, T> {
        self.elements.write(range)
    }

    /// The elements of `range`, to read.
    #[inline]
    pub(crate) fn read(&self, range: Range<usize>) -> Chunk<'_, T> {
        self.elements.read(range)
    }
}

/// Maxima of numbers that are not negative, each of what several chunks find.
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use proptest::prelude::*;

    use super::*;

    fn panics(lend: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(lend)).is_err()
    }

    #[test]
    fn parts_that_do_not_overlap_are_written_side_by_side() {
        let mut data = [0; 12];
        let shared = DisjointMut::new(&mut data);
        let (mut first, mut tile) = (shared.write(0..2), shared.tile(4, 1..3, 1..3));
        first.fill(1);
        for (row, values) in tile.rows_mut().enumerate() {
            values.fill(2 + row);
        }
        tile.rows(1..2).rows_mut().for_each(|row| row[1] = 9);
        drop((first, tile));
        shared.tile(4, 1..2, 2..4).rows_mut().for_each(|row| row.fill(8));
        assert_eq!(data, [1, 1, 0, 0, 0, 2, 8, 8, 0, 3, 9, 0]);
    }

    #[test]
    #[cfg(debug_assertions)]
    fn what_is_written_is_lent_once_at_a_time() {
        let mut data = [0u8; 12];
        let shared = DisjointMut::new(&mut data);
        let tile = shared.tile(4, 1..3, 1..3);
        for (overlaps, range) in [(true, 5..6), (false, 0..5), (false, 7..9), (true, 8..10)] {
            assert_eq!(panics(|| drop(shared.write(range.clone()))), overlaps, "{range:?}");
        }
        drop(tile);
        assert!(!panics(|| drop(shared.write(0..12))));

        let staged = StageBuffer::new(0u8, 8);
        let (one, other) = (staged.read(0..8), staged.read(2..3));
        assert!(panics(|| drop(staged.write(7..8))));
        drop((one, other));
        let written = staged.write(2..4);
        assert!(panics(|| drop(staged.read(3..5))));
        assert!(!panics(|| drop((staged.read(0..2), staged.read(4..8)))));
        drop(written);
    }

    #[test]
    fn nothing_outside_is_lent() {
        let mut data = [0u8; 12];
        let shared = DisjointMut::new(&mut data);
        assert!(panics(|| drop(shared.write(10..13))));
        assert!(panics(|| drop(shared.tile(4, 2..4, 0..4))));
        assert!(panics(|| drop(shared.tile(4, 0..1, 3..5))));
        let mut tile = shared.tile(4, 0..2, 0..2);
        assert!(panics(|| drop(tile.rows(1..3))));
        assert!(panics(|| drop(StageBuffer::<f32>::scratch(3).read(2..4))));
    }

    #[test]
    fn maxima_are_those_of_all_chunks() {
        let mut data = [7.0; 2];
        let maxima = AtomicMax::new(&mut data);
        std::thread::scope(|scope| {
            for value in [1.0, 3.0, 2.0] {
                let maxima = &maxima;
                scope.spawn(move || maxima.raise(1, value));
            }
        });
        assert_eq!(data, [0.0, 3.0]);
    }

    proptest! {
        #[test]
        fn areas_overlap_where_they_share_an_element(
            one in (0..20usize, 0..4usize, 0..4usize, 4..7usize),
            other in (0..20usize, 0..4usize, 0..4usize, 4..7usize),
        ) {
            let area = |(start, rows, width, stride)| Area { start, rows, width, stride };
            let elements = |(start, rows, width, stride)| -> Vec<usize> {
                (0..rows).flat_map(|row| (0..width).map(move |c| start + row * stride + c)).collect()
            };
            let (one_has, other_has) = (elements(one), elements(other));
            let expected = one_has.iter().any(|element| other_has.contains(element));
            prop_assert_eq!(area(one).overlaps(&area(other)), expected);
        }
    }
}
