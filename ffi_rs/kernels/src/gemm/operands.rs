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
pub(super) const fn odd_lines(words: usize) -> usize {
    (words.div_ceil(LINE) | 1) * LINE
}

/// Some rows of A in panels: word (row, depth) of a panel at `row · row_stride + depth · depth_stride`.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    pub(super) packed: &'a [u32],
    /// Rows of a panel, and words from one to the next.
    pub(super) rows: usize,
    pub(super) stride: usize,
    pub(super) row_stride: usize,
    pub(super) depth_stride: usize,
}

impl<'a> Lhs<'a> {
    /// As it lies in memory, from row `first` and word `start` along the depth on.
    pub(super) fn in_place(self, first: usize, start: usize) -> Panels<'a> {
        let Self { packed, row_stride, depth_stride } = self;
        let packed = packed.get(first * row_stride + start * depth_stride..).unwrap_or(&[]);
        Panels { packed, rows: usize::MAX, stride: 0, row_stride, depth_stride }
    }

    /// Some rows and depth of a matrix whose columns lie together, in `room`: there the words that a
    /// tile reads follow each other.
    pub(super) fn pack_a<'r>(
        self,
        rows: Range<usize>,
        depth: Range<usize>,
        panel: usize,
        room: &'r mut Scratch<u32>,
    ) -> Panels<'r> {
        // Panels begin in different sets of a cache.
        let stride = panel * depth.len() + LINE;
        room.resize(rows.len().div_ceil(panel) * stride);
        for (d, at) in depth.enumerate() {
            let words = &self.packed[at * self.depth_stride + rows.start..][..rows.len()];
            for (words, out) in words.chunks(panel).zip(room.chunks_exact_mut(stride)) {
                let out = &mut out[d * panel..][..words.len()];
                match words.as_chunks::<8>() {
                    // To copy a known number of words is an instruction, and any number a call.
                    ([eight], []) => out[..8].copy_from_slice(eight),
                    _ => out.copy_from_slice(words),
                }
            }
        }
        Panels { packed: room, rows: panel, stride, row_stride: 1, depth_stride: panel }
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
