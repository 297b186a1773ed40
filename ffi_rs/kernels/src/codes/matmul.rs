//! Products with a matrix that is given by codes.

use std::ops::Range;

use super::Coded;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::streams;
use crate::disjoint::{DisjointMut, TileMut};
use crate::gemm::{Accumulate, Columns, Lhs, Matrix, Rhs, multiply};
use crate::isa::Isa;
use crate::packing::Arithmetic;
use crate::par::{ParFor, parallel_if};
use crate::scratch::Scratch;
use crate::tuning::{
    CODED_COLUMNS, CODED_DEPTH, CODED_FEW_COLUMNS, CODED_FEW_DEPTH, CODED_FEW_ROWS,
    CODED_FEW_SHARE, CODED_PER_NANOSECOND, MATMUL_PRODUCTS_PER_NANOSECOND,
};

/// `C ← A·B`, or with `add` `C ← C + A·B`, for so many rows of A and the rows `depth` of B.
///
/// ```text
/// sum = add ? C[i, j] : 0;   for d in depth { sum = A[i, d - depth.start]·B[d, j] + sum };   C[i, j] = sum
/// ```
///
/// The bits are those of [`matmul`](crate::matmul) with the numbers that the codes stand for.
///
/// Panics where A or B is shorter than that.
pub fn coded_matmul(
    pool: &dyn ParFor,
    c: Columns<'_>,
    rows: usize,
    a: Matrix<'_>,
    b: &Coded<'_>,
    depth: Range<usize>,
    add: bool,
) {
    let [of_codes, columns] = b.extents();
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(depth.start <= depth.end && depth.end <= of_codes, "the rhs has no such rows");
    a.check("the lhs", rows, depth.len());
    let isa = Isa::detect();
    let numbers = depth.len().saturating_mul(columns);
    let nanoseconds = numbers / CODED_PER_NANOSECOND
        + numbers.saturating_mul(rows) / MATMUL_PRODUCTS_PER_NANOSECOND;
    let pool = parallel_if(pool, nanoseconds);
    // Each worker has columns of its own, as long as there are enough of them.
    let of_lines = if rows < CODED_FEW_ROWS { CODED_FEW_SHARE } else { CODED_COLUMNS };
    let width = columns.div_ceil(pool.width()).next_multiple_of(of_lines).min(columns);
    let groups = columns.div_ceil(width);
    let height = rows.div_ceil(pool.width().div_ceil(groups)).next_multiple_of(CODED_FEW_ROWS);
    let (stride, first) = (c.stride, c.first);
    let c = DisjointMut::new(c.data);
    pool.run(rows.div_ceil(height) * groups, &|task, _| {
        let (row, column) = (task / groups * height, task % groups * width);
        let range = column..columns.min(column + width);
        let of_rows = row..rows.min(row + height);
        let mut product = c.tile(stride, of_rows, first + range.start..first + range.end);
        let lhs = Lhs {
            packed: bytemuck::cast_slice(a.data.get(row * a.strides[0]..).unwrap_or(&[])),
            row_stride: a.strides[0],
            depth_stride: a.strides[1],
        };
        multiply_coded(isa, &mut product, lhs, b, depth.clone(), range, add);
    });
}

/// `C ← A·B` or `C ← C + A·B` for some rows and columns of B, of numbers as they are.
pub(crate) fn multiply_coded(
    isa: Isa,
    c: &mut TileMut<'_, f32>,
    a: Lhs<'_>,
    b: &Coded<'_>,
    depth: Range<usize>,
    columns: Range<usize>,
    add: bool,
) {
    if c.row_count() >= CODED_FEW_ROWS {
        return by_panels(isa, c, a, b, [CODED_DEPTH, CODED_COLUMNS], depth, columns, add);
    }
    let few = [CODED_FEW_DEPTH, CODED_FEW_COLUMNS];
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if streams::takes(b, &depth) {
        let blocks = depth.len() / streams::BLOCK * streams::BLOCK;
        let (whole, rest) = (depth.start..depth.start + blocks, depth.start + blocks..depth.end);
        streams::multiply(isa, c, a, b, whole, columns.clone(), add);
        if !rest.is_empty() {
            let packed = &a.packed[blocks * a.depth_stride..];
            by_panels(isa, c, Lhs { packed, ..a }, b, few, rest, columns, true);
        }
        return;
    }
    by_panels(isa, c, a, b, few, depth, columns, add);
}

/// The same, of numbers that are written for so many rows and columns of B at a time.
#[expect(clippy::too_many_arguments, reason = "those of a product, and the size of a panel")]
fn by_panels(
    isa: Isa,
    c: &mut TileMut<'_, f32>,
    a: Lhs<'_>,
    b: &Coded<'_>,
    [deep, wide]: [usize; 2],
    depth: Range<usize>,
    columns: Range<usize>,
    add: bool,
) {
    let mut panel = Scratch::<f32>::new(deep.min(depth.len()) * wide.min(columns.len()));
    for first in columns.clone().step_by(wide) {
        let range = first..columns.end.min(first + wide);
        let mut c = c.columns(first - columns.start..range.end - columns.start);
        // Without depth the sums are written all the same.
        for start in (depth.start..depth.end.max(depth.start + 1)).step_by(deep) {
            let slice = start..depth.end.min(start + deep);
            let panel = &mut panel[..slice.len() * range.len()];
            b.write(isa, slice.clone(), range.clone(), panel, range.len());
            let from = (start - depth.start) * a.depth_stride;
            let lhs = Lhs { packed: a.packed.get(from..).unwrap_or(&[]), ..a };
            let rhs = Rhs { packed: bytemuck::cast_slice(panel), stride: range.len() };
            let adds = add || start > depth.start;
            let accumulate = if adds { Accumulate::Add } else { Accumulate::Overwrite };
            multiply(isa, Arithmetic::F32, &mut c, lhs, rhs, slice.len(), accumulate);
        }
    }
}
