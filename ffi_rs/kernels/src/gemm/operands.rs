//! The operands of a product, and how they are packed where they lie unfavorably in memory.

use std::ops::Range;

use crate::scratch::Scratch;
use crate::tuning::COPY_B_MOST_COLUMNS;

/// Words of a cache line.
pub(super) const LINE: usize = 16;

/// The left operand (lhs), A: word (row, depth) at `row · row_stride + depth · depth_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Lhs<'a> {
    pub(crate) packed: &'a [u32],
    pub(crate) row_stride: usize,
    pub(crate) depth_stride: usize,
}

/// The right operand (rhs), B: word (depth, column) at `depth · stride + column`.
#[derive(Clone, Copy)]
pub(crate) struct Rhs<'a> {
    pub(crate) packed: &'a [u32],
    pub(crate) stride: usize,
}

/// What the sums start from, and what becomes of them.
#[derive(Clone, Copy)]
pub(crate) enum Accumulate<'a> {
    /// Sums from zero replace C.
    Overwrite,
    /// Sums go on from what C holds; not for integers.
    Add,
    /// Integers only: sums from these integers, one for each column, replace C.
    Init(&'a [i32]),
    /// Sums from these integers, or from zero where there are none, times a scale for each column,
    /// replace C or are added to it.
    Scale { init: &'a [i32], scale: &'a [f32], add: bool },
}

/// Words from row to row of a copy.
pub(super) const COPY_STRIDE: usize = odd_lines(COPY_B_MOST_COLUMNS);

/// A stride of at least so many words: an odd number of cache lines, so that rows take turns in all
/// sets of a cache.
const fn odd_lines(words: usize) -> usize {
    (words.div_ceil(LINE) | 1) * LINE
}

impl<'a> Lhs<'a> {
    /// The same matrix, in `room` if its words along the depth would share a set of the nearest
    /// cache, whose sets follow each other within a page.
    pub(super) fn pack_a<'r>(self, rows: usize, depth: usize, room: &'r mut Scratch<u32>) -> Lhs<'r>
    where
        'a: 'r,
    {
        if self.row_stride != 1 || !self.depth_stride.is_multiple_of(PAGE) || depth < 2 {
            return self;
        }
        let stride = odd_lines(rows);
        room.resize(depth * stride);
        for (d, out) in room.chunks_exact_mut(stride).enumerate() {
            out[..rows].copy_from_slice(&self.packed[d * self.depth_stride..][..rows]);
        }
        Lhs { packed: room, row_stride: 1, depth_stride: stride }
    }
}

impl Rhs<'_> {
    /// Some rows and columns, in `room`.
    pub(super) fn pack_b<'r>(
        self,
        rows: Range<usize>,
        columns: &Range<usize>,
        room: &'r mut [u32],
    ) -> Rhs<'r> {
        for (row, out) in rows.zip(room.chunks_exact_mut(COPY_STRIDE)) {
            let from = &self.packed[row * self.stride..][columns.clone()];
            out[..from.len()].copy_from_slice(from);
        }
        Rhs { packed: room, stride: COPY_STRIDE }
    }
}

/// Words of a page.
pub(super) const PAGE: usize = 1024;
