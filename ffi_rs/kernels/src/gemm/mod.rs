//! C ← A·B, C ← C + A·B or C ← C + (A·B)·scale, on register tiles of 32-bit words.
//!
//! What a word holds is said by [`Number`](crate::number::Number). Every element of C is one chain of
//! sums over the depth, in order, whatever tile it falls in: results do not depend on how rows and
//! columns are split.

mod levels;
mod tile;

use crate::number::Kind;
use crate::scratch::Scratch;
use crate::shared::SharedMut;
use crate::simd::Level;
use crate::vector::Dot;

pub(crate) use levels::{Tiled, run};
pub(crate) use tile::{LINE, step};
use tile::{Part, rows};

/// The left factor: word (row, depth) at `row · row_stride + depth · depth_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) words: &'a [u32],
    pub(crate) row_stride: usize,
    pub(crate) depth_stride: usize,
}

/// The right factor: word (depth, column) at `depth · stride + column`.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    pub(crate) words: &'a [u32],
    pub(crate) stride: usize,
}

/// The product: element (row, column) at `start + row · stride + column` of `data`.
pub(crate) struct Product<'a, 'd> {
    pub(crate) data: &'a SharedMut<'d, f32>,
    pub(crate) start: usize,
    pub(crate) stride: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// What the sums start from, and what becomes of them.
#[derive(Clone, Copy)]
pub(crate) enum Sum<'a> {
    /// Sums from zero replace C.
    Fresh,
    /// Sums go on from what C holds; not for integers.
    Onto,
    /// Integers only: sums from these integers, one for each column, replace C.
    From(&'a [i32]),
    /// Sums from these integers, or from zero where there are none, times a scale for each column,
    /// replace C or are added to it.
    Scaled { start: &'a [i32], scale: &'a [f32], onto: bool },
}

/// Multiplies numbers of `kind`, over `depth` words.
///
/// # Safety
///
/// Nothing else reads or writes the elements of the product meanwhile.
pub(crate) unsafe fn multiply(
    level: Level,
    kind: Kind,
    c: &Product<'_, '_>,
    a: Left<'_>,
    b: Right<'_>,
    depth: usize,
    sum: Sum<'_>,
) {
    if c.rows == 0 || c.columns == 0 {
        return;
    }
    run(level, kind, Multiply { c, a, b, depth, sum });
}

/// What [`multiply`] is asked for, whose caller owns the product.
struct Multiply<'a, 'd> {
    c: &'a Product<'a, 'd>,
    a: Left<'a>,
    b: Right<'a>,
    depth: usize,
    sum: Sum<'a>,
}

impl Tiled for Multiply<'_, '_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<D: Dot, const ROWS: usize, const COLUMNS: usize>(self) {
        let Self { c, a, b, depth, sum } = self;
        // Of narrow registers a line of B takes more multiplications, and a copy pays sooner.
        let registers = LINE / D::LEN;
        let goes_on = D::CAN_GO_ON && !matches!(sum, Sum::Scaled { .. });
        let far_apart = b.stride * registers >= FAR_APART;
        let copies = goes_on && far_apart && c.rows * registers >= WORTH_A_COPY;
        let deep = if copies { SLICE } else { depth.max(1) };
        let mut copy = Scratch::new(if copies { deep.min(depth) * COPY_STRIDE } else { 0 });
        let mut spread = Scratch::default();
        let a = if c.columns < WORTH_SPREADING { a } else { a.spread(c.rows, depth, &mut spread) };
        let mut columns = 0..0;
        while columns.end < c.columns {
            let left = c.columns - columns.end;
            let now = if copies && left > MOST_COPIED { COPIED } else { left };
            columns = columns.end..columns.end + now;
            for start in (0..depth.max(1)).step_by(deep) {
                let mut part = Part { c, a, b, columns: columns.clone(), depth, sum };
                if copies {
                    part.depth = deep.min(depth - start);
                    for (d, row) in copy.chunks_exact_mut(COPY_STRIDE).take(part.depth).enumerate()
                    {
                        let from = &b.words[(start + d) * b.stride..][columns.clone()];
                        row[..from.len()].copy_from_slice(from);
                    }
                    part.a.words = a.words.get(start * a.depth_stride..).unwrap_or(&[]);
                    part.b = Right { words: &copy, stride: COPY_STRIDE };
                    part.sum = if start == 0 { sum } else { Sum::Onto };
                }
                // SAFETY: as this function's.
                unsafe { rows::<D, ROWS, COLUMNS>(&part) };
            }
        }
    }
}

/// Words between two rows of B, times the registers of a line, from which on few of its lines fit
/// into a cache at a time.
const FAR_APART: usize = 1024;
/// Rows, times the registers of a line, from which on a copy of the columns that they share pays.
const WORTH_A_COPY: usize = 64;
/// Rows of B that are copied at a time.
const SLICE: usize = 256;
/// Columns that are copied at a time, whole tiles of the most rows of every level, and at most: where
/// rows are far from each other, to read a line of each takes as long as to read some.
const COPIED: usize = 144;
const MOST_COPIED: usize = 192;
/// Words from row to row of a copy.
const COPY_STRIDE: usize = odd_lines(MOST_COPIED);

/// A stride of at least so many words: an odd number of cache lines, so that rows take turns in all
/// sets of a cache.
const fn odd_lines(words: usize) -> usize {
    (words.div_ceil(LINE) | 1) * LINE
}

impl<'a> Left<'a> {
    /// The same factor, in `room` if its words along the depth would share a set of the nearest
    /// cache, whose sets follow each other within a page.
    fn spread<'r>(self, rows: usize, depth: usize, room: &'r mut Scratch<u32>) -> Left<'r>
    where
        'a: 'r,
    {
        if self.row_stride != 1 || !self.depth_stride.is_multiple_of(PAGE) || depth < 2 {
            return self;
        }
        let stride = odd_lines(rows);
        room.resize(depth * stride);
        for (d, out) in room.chunks_exact_mut(stride).enumerate() {
            out[..rows].copy_from_slice(&self.words[d * self.depth_stride..][..rows]);
        }
        Left { words: room, row_stride: 1, depth_stride: stride }
    }
}

/// Words of a page.
const PAGE: usize = 1024;
/// Columns from which on it pays to spread the left factor.
const WORTH_SPREADING: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_one_chain_of_sums_whatever_is_copied() {
        let level = Level::detect();
        let fused = level != Level::Baseline || cfg!(target_arch = "aarch64");
        let add = |sum: f32, a: f32, b: f32| if fused { a.mul_add(b, sum) } else { a * b + sum };
        let numbers = |count: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * 7919) % 1013) as f32 / 500.0 - 1.0).collect()
        };
        // With rows of B near and far, so many that they are copied in slices, and few, or none; with
        // the left factor along its rows, and along the depth by odd strides and by pages; with all
        // that tiles of six and of eight rows leave.
        for (rows, depth, columns, b_stride) in [
            (66, 300, 200, 1100),
            (67, 270, 70, 1100),
            (68, 260, 200, 1100),
            (65, 0, 70, 1100),
            (35, 9, 70, 1100),
            (33, 9, 200, 200),
            (31, 9, 200, 200),
            (2, 300, 70, 1100),
        ] {
            for (row_stride, depth_stride) in [(depth, 1), (1, 77), (1, PAGE), (1, 2 * PAGE)] {
                let a = numbers((rows - 1) * row_stride + depth * depth_stride + 1);
                let b = numbers(depth * b_stride + columns);
                let before = numbers(rows * columns);
                for onto in [false, true] {
                    let mut got = before.clone();
                    let data = SharedMut::new(&mut got);
                    let c = Product { data: &data, start: 0, stride: columns, rows, columns };
                    let left = Left { words: bytemuck::cast_slice(&a), row_stride, depth_stride };
                    let right = Right { words: bytemuck::cast_slice(&b), stride: b_stride };
                    let sum = if onto { Sum::Onto } else { Sum::Fresh };
                    // SAFETY: nothing else uses the product.
                    unsafe { multiply(level, Kind::Float, &c, left, right, depth, sum) };
                    for (index, (got, before)) in got.iter().zip(&before).enumerate() {
                        let (row, column) = (index / columns, index % columns);
                        let want = (0..depth).fold(if onto { *before } else { 0.0 }, |sum, d| {
                            let a = a[row * row_stride + d * depth_stride];
                            add(sum, a, b[d * b_stride + column])
                        });
                        assert_eq!(got.to_bits(), want.to_bits(), "{row} {column} of {depth}");
                    }
                }
            }
        }
    }
}
