//! C ← A·B, C ← C + A·B or C ← C + (A·B)·scale, on register tiles of 32-bit words.
//!
//! What a word holds is said by [`Packing`](crate::packing::Packing). Every element of C is one chain of
//! sums over the depth, in order, whatever tile it falls in: results do not depend on how rows and
//! columns are split.

mod matmul;
mod micro_kernel;
mod tile;

use crate::disjoint::TileMut;
use crate::isa::Isa;
use crate::packing::Arithmetic;
use crate::scratch::Scratch;
use crate::vector::DotIsa;

pub use matmul::{Columns, Matrix, matmul};
pub(crate) use micro_kernel::{MicroKernel, run};
pub(crate) use tile::{LINE, step};
use tile::{Part, rows};

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

/// Multiplies numbers of `arithmetic`, over `depth` words.
pub(crate) fn multiply(
    isa: Isa,
    arithmetic: Arithmetic,
    c: &mut TileMut<'_, f32>,
    a: Lhs<'_>,
    b: Rhs<'_>,
    depth: usize,
    accumulate: Accumulate<'_>,
) {
    if c.row_count() == 0 || c.column_count() == 0 {
        return;
    }
    run(isa, arithmetic, Multiply { c, a, b, depth, accumulate });
}

/// What [`multiply`] is asked for.
struct Multiply<'a, 'd> {
    /// Written through pointers: no two micro-kernels of a call have an element in common.
    c: &'a mut TileMut<'d, f32>,
    a: Lhs<'a>,
    b: Rhs<'a>,
    depth: usize,
    accumulate: Accumulate<'a>,
}

impl MicroKernel for Multiply<'_, '_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<D: DotIsa, const ROWS: usize, const COLUMNS: usize>(self) {
        let Self { c, a, b, depth, accumulate } = self;
        // Of narrow registers a line of B takes more multiplications, and a copy pays sooner.
        let registers = LINE / D::LEN;
        let can_slice = D::CAN_ACCUMULATE && !matches!(accumulate, Accumulate::Scale { .. });
        let far_apart = b.stride * registers >= FAR_APART;
        let copies = can_slice && far_apart && c.row_count() * registers >= WORTH_A_COPY;
        let deep = if copies { SLICE } else { depth.max(1) };
        let mut copy = Scratch::new(if copies { deep.min(depth) * COPY_STRIDE } else { 0 });
        let mut a_room = Scratch::default();
        let a = if c.column_count() < PACK_A_COLUMNS {
            a
        } else {
            a.pack_a(c.row_count(), depth, &mut a_room)
        };
        let mut columns = 0..0;
        while columns.end < c.column_count() {
            let left = c.column_count() - columns.end;
            let now = if copies && left > MOST_COPIED { COPIED } else { left };
            columns = columns.end..columns.end + now;
            for start in (0..depth.max(1)).step_by(deep) {
                let mut part = Part { c, a, b, columns: columns.clone(), depth, accumulate };
                if copies {
                    part.depth = deep.min(depth - start);
                    for (d, row) in copy.chunks_exact_mut(COPY_STRIDE).take(part.depth).enumerate()
                    {
                        let from = &b.packed[(start + d) * b.stride..][columns.clone()];
                        row[..from.len()].copy_from_slice(from);
                    }
                    part.a.packed = a.packed.get(start * a.depth_stride..).unwrap_or(&[]);
                    part.b = Rhs { packed: &copy, stride: COPY_STRIDE };
                    part.accumulate = if start == 0 { accumulate } else { Accumulate::Add };
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
/// Columns that are copied at a time, whole tiles of the most rows of every instruction set, and at most: where
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

impl<'a> Lhs<'a> {
    /// The same matrix, in `room` if its words along the depth would share a set of the nearest
    /// cache, whose sets follow each other within a page.
    fn pack_a<'r>(self, rows: usize, depth: usize, room: &'r mut Scratch<u32>) -> Lhs<'r>
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

/// Words of a page.
const PAGE: usize = 1024;
/// Columns from which on it pays to pack A.
const PACK_A_COLUMNS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_one_chain_of_sums_whatever_is_copied() {
        let isa = Isa::detect();
        let fused = isa != Isa::Baseline || cfg!(target_arch = "aarch64");
        let add = |sum: f32, a: f32, b: f32| if fused { a.mul_add(b, sum) } else { a * b + sum };
        let numbers = |count: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * 7919) % 1013) as f32 / 500.0 - 1.0).collect()
        };
        // With rows of B near and far, so many that they are copied in slices, and few, or none; with
        // the lhs along its rows, and along the depth by odd strides and by pages; with all
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
                    let left = Lhs { packed: bytemuck::cast_slice(&a), row_stride, depth_stride };
                    let right = Rhs { packed: bytemuck::cast_slice(&b), stride: b_stride };
                    let sum = if onto { Accumulate::Add } else { Accumulate::Overwrite };
                    let mut c = TileMut::new(&mut got, columns);
                    multiply(isa, Arithmetic::F32, &mut c, left, right, depth, sum);
                    drop(c);
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
