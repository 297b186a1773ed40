//! A product in tiles, of operands that are packed first where that pays.

use super::micro_kernel::{MicroKernel, run};
use super::operands::{Accumulate, COPY_STRIDE, LINE, Lhs, Rhs};
use super::tile::{self, Part};
use crate::disjoint::TileMut;
use crate::isa::Isa;
use crate::packing::Arithmetic;
use crate::scratch::Scratch;
use crate::tuning::{
    COPY_B_COLUMNS, COPY_B_DEPTH, COPY_B_MOST_COLUMNS, COPY_B_ROWS, COPY_B_STRIDE, PACK_A_COLUMNS,
    PACK_A_DEPTH, PACK_A_ROWS,
};
use crate::vector::DotIsa;

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
        let (rows, columns) = (c.row_count(), c.column_count());
        let can_slice = D::CAN_ACCUMULATE && !matches!(accumulate, Accumulate::Scale { .. });
        // Of narrow registers a line of B takes more multiplications, and a copy pays sooner.
        let is_reused = rows * (LINE / D::LEN) >= COPY_B_ROWS;
        let far_apart = b.stride >= COPY_B_STRIDE && (b.stride / LINE).is_multiple_of(2);
        let copies_b = can_slice && far_apart && is_reused;
        let packs_a = a.row_stride == 1 && depth >= PACK_A_DEPTH && columns >= PACK_A_COLUMNS;
        let deep = if copies_b { COPY_B_DEPTH } else { depth.max(1) };
        let high = if packs_a { PACK_A_ROWS } else { rows };
        // What tiles of six rows leave is cut across them.
        let panel = if ROWS == 6 { PACK_A_ROWS } else { ROWS };
        let mut b_room = Scratch::new(if copies_b { deep.min(depth) * COPY_STRIDE } else { 0 });
        let mut a_room = Scratch::default();
        let mut range = 0..0;
        while range.end < columns {
            let left = columns - range.end;
            let now = if copies_b && left > COPY_B_MOST_COLUMNS { COPY_B_COLUMNS } else { left };
            range = range.end..range.end + now;
            for start in (0..depth.max(1)).step_by(deep) {
                let slice = start..depth.min(start + deep);
                let b = if copies_b { b.pack_b(slice.clone(), &range, &mut b_room) } else { b };
                for first in (0..rows).step_by(high) {
                    let of_block = first..rows.min(first + high);
                    let part = Part {
                        c,
                        first,
                        a: if packs_a {
                            a.pack_a(of_block.clone(), slice.clone(), panel, &mut a_room)
                        } else {
                            a.in_place(first, start)
                        },
                        b,
                        columns: range.clone(),
                        depth: slice.len(),
                        accumulate: if start == 0 { accumulate } else { Accumulate::Add },
                    };
                    // SAFETY: as this function's.
                    unsafe { tile::rows::<D, ROWS, COLUMNS>(&part, of_block.len()) };
                }
            }
        }
    }
}

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
        // that tiles of six and of eight rows leave; with more rows than are packed at once.
        for (rows, depth, columns, b_stride) in [
            (66, 300, 200, 1100),
            (67, 270, 70, 1100),
            (68, 260, 200, 1100),
            (65, 0, 70, 1100),
            (35, 9, 70, 1100),
            (33, 9, 200, 200),
            (31, 9, 200, 200),
            (2, 300, 70, 1100),
            (197, 70, 130, 200),
        ] {
            for (row_stride, depth_stride) in [(depth, 1), (1, 77), (1, 1024), (1, 2048)] {
                let a = numbers((rows - 1) * row_stride + depth * depth_stride + 1);
                let b = numbers(depth * b_stride + columns);
                let before = numbers(rows * columns);
                for onto in [false, true] {
                    let mut got = before.clone();
                    let left = Lhs { packed: bytemuck::cast_slice(&a), row_stride, depth_stride };
                    let right = Rhs { packed: bytemuck::cast_slice(&b), stride: b_stride };
                    let sum = if onto { Accumulate::Add } else { Accumulate::Overwrite };
                    {
                        let mut c = TileMut::new(&mut got, columns);
                        multiply(isa, Arithmetic::F32, &mut c, left, right, depth, sum);
                    }
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
