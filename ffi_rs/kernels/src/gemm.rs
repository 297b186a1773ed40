//! C ← A·B, or C ← C + A·B, on register tiles.
//!
//! Every element of C is one chain of multiply-adds over the depth, in order, whatever tile it
//! falls in: results do not depend on how rows and columns are split.

use std::ops::Range;

use crate::simd::{MAX_COLUMNS, for_each_level};
use crate::vector::Vector;

/// The left factor: rows × depth.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a> {
    /// Element (row, depth) at `row · stride + depth`.
    RowMajor(&'a [f32], usize),
    /// Element (row, depth) at `depth · stride + row`.
    DepthMajor(&'a [f32], usize),
}

/// The right factor, depth × columns, in panels of [`panel_width`](crate::simd::panel_width)
/// columns: element (depth, column) of panel p at `p · panel_stride + depth · depth_stride + column`.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) depth_stride: usize,
    pub(crate) panel_stride: usize,
}

/// The product: rows × columns, rows `stride` apart.
pub(crate) struct Product<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// How the products along the depth are summed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sum {
    /// From zero.
    Fresh,
    /// On top of what C holds.
    Onto,
    /// From zero, of integers: f32 sums over so many products are exact, and their sum is too.
    Integers(usize),
}

#[inline(always)]
fn multiply_body<V: Vector, const ROWS: usize>(
    c: &mut Product<'_>,
    a: Left<'_>,
    b: Right<'_>,
    depth: usize,
    sum: Sum,
) {
    let panel_width = VECTORS * V::LEN;
    for column in (0..c.columns).step_by(panel_width) {
        let panel = Panel {
            data: b.data.get(column / panel_width * b.panel_stride..).unwrap_or(&[]),
            stride: b.depth_stride,
            width: panel_width.min(c.columns - column),
        };
        // A last panel may need fewer vectors.
        match panel.width.div_ceil(V::LEN) {
            VECTORS => rows::<V, ROWS, VECTORS>(c, a, panel, depth, sum, column),
            2 => rows::<V, ROWS, 2>(c, a, panel, depth, sum, column),
            _ => rows::<V, ROWS, 1>(c, a, panel, depth, sum, column),
        }
    }
}

/// Vectors of a full panel.
const VECTORS: usize = 3;

/// Computes all rows of the columns of one panel.
#[inline(always)]
fn rows<V: Vector, const ROWS: usize, const N: usize>(
    c: &mut Product<'_>,
    a: Left<'_>,
    b: Panel<'_>,
    depth: usize,
    sum: Sum,
    column: usize,
) {
    let mut row = 0;
    while row < c.rows {
        let at = Corner { row, column };
        row += match c.rows - row {
            left if left >= ROWS => tile::<V, ROWS, N>(c, a, b, depth, sum, at),
            left if left >= 4 => tile::<V, 4, N>(c, a, b, depth, sum, at),
            left if left >= 2 => tile::<V, 2, N>(c, a, b, depth, sum, at),
            _ => tile::<V, 1, N>(c, a, b, depth, sum, at),
        };
    }
}

/// The upper left corner of a tile of C.
#[derive(Clone, Copy)]
struct Corner {
    row: usize,
    column: usize,
}

#[derive(Clone, Copy)]
struct Panel<'a> {
    data: &'a [f32],
    stride: usize,
    width: usize,
}

/// Computes `R` rows of one panel's columns, and returns `R`.
#[inline(always)]
fn tile<V: Vector, const R: usize, const N: usize>(
    c: &mut Product<'_>,
    a: Left<'_>,
    b: Panel<'_>,
    depth: usize,
    sum: Sum,
    at: Corner,
) -> usize {
    let start: [usize; R] = std::array::from_fn(|row| (at.row + row) * c.stride + at.column);
    let zero = || {
        // SAFETY: only `for_each_level!` calls this, with the vector of a level that the CPU has.
        let zero = unsafe { V::zero() };
        [[zero; N]; R]
    };
    let mut sums = zero();
    match sum {
        Sum::Fresh => accumulate(&mut sums, a, b, 0..depth, at.row),
        Sum::Onto => {
            for (sums, start) in sums.iter_mut().zip(start) {
                *sums = load_row(&c.data[start..start + b.width]);
            }
            accumulate(&mut sums, a, b, 0..depth, at.row);
        }
        Sum::Integers(exact) if depth <= exact => {
            accumulate(&mut sums, a, b, 0..depth, at.row);
        }
        Sum::Integers(exact) => {
            // f64 holds every i32 exactly, and NaN besides.
            let mut total = [[0.0f64; MAX_COLUMNS]; R];
            for first in (0..depth).step_by(exact) {
                sums = zero();
                accumulate(&mut sums, a, b, first..depth.min(first + exact), at.row);
                for (total, sums) in total.iter_mut().zip(sums) {
                    let mut part = [0.0; MAX_COLUMNS];
                    store_row(sums, &mut part[..b.width]);
                    for (total, part) in total.iter_mut().zip(part) {
                        *total += f64::from(part);
                    }
                }
            }
            for (total, start) in total.iter().zip(start) {
                for (c, total) in c.data[start..start + b.width].iter_mut().zip(total) {
                    *c = *total as f32;
                }
            }
            return R;
        }
    }
    for (sums, start) in sums.into_iter().zip(start) {
        store_row(sums, &mut c.data[start..start + b.width]);
    }
    R
}

/// Adds the products along `range` to `sums`.
#[inline(always)]
fn accumulate<V: Vector, const R: usize, const N: usize>(
    sums: &mut [[V; N]; R],
    a: Left<'_>,
    b: Panel<'_>,
    range: Range<usize>,
    row: usize,
) {
    match a {
        Left::RowMajor(data, stride) => {
            let rows: [&[f32]; R] =
                std::array::from_fn(|r| &data[(row + r) * stride..][..range.end]);
            chain(sums, b, range, |depth| std::array::from_fn(|r| rows[r][depth]));
        }
        Left::DepthMajor(data, stride) => chain(sums, b, range, |depth| {
            *data[depth * stride + row..].first_chunk().expect("R elements")
        }),
    }
}

#[inline(always)]
fn chain<V: Vector, const R: usize, const N: usize>(
    sums: &mut [[V; N]; R],
    b: Panel<'_>,
    range: Range<usize>,
    left: impl Fn(usize) -> [f32; R],
) {
    let mut chain = *sums;
    // The sums stay in registers only in loops that do nothing else.
    if b.width == N * V::LEN && !range.is_empty() {
        let rows = b.data[range.start * b.stride..].chunks(b.stride);
        for (depth, row) in range.zip(rows) {
            // SAFETY: as in `tile`.
            let right = std::array::from_fn(|n| unsafe { V::load(&row[n * V::LEN..]) });
            step(&mut chain, left(depth), right);
        }
    } else {
        for depth in range {
            let right = load_row(&b.data[depth * b.stride..][..b.width]);
            step(&mut chain, left(depth), right);
        }
    }
    *sums = chain;
}

#[inline(always)]
fn step<V: Vector, const R: usize, const N: usize>(
    sums: &mut [[V; N]; R],
    left: [f32; R],
    right: [V; N],
) {
    for (sums, left) in sums.iter_mut().zip(left) {
        for (sum, right) in sums.iter_mut().zip(right) {
            // SAFETY: as in `tile`.
            *sum = unsafe { V::splat(left).mul_add(right, *sum) };
        }
    }
}

/// Vectors of `values`, padded with zeros.
#[inline(always)]
fn load_row<V: Vector, const N: usize>(values: &[f32]) -> [V; N] {
    let mut padded = [0.0; MAX_COLUMNS];
    let values = if values.len() == N * V::LEN {
        values
    } else {
        padded[..values.len()].copy_from_slice(values);
        &padded
    };
    // SAFETY: as in `tile`.
    std::array::from_fn(|n| unsafe { V::load(&values[n * V::LEN..]) })
}

/// Writes the first elements of `vectors`.
#[inline(always)]
fn store_row<V: Vector, const N: usize>(vectors: [V; N], values: &mut [f32]) {
    let mut padded = [0.0; MAX_COLUMNS];
    let whole = values.len() == N * V::LEN;
    let target = if whole { &mut *values } else { &mut padded[..] };
    for (n, vector) in vectors.into_iter().enumerate() {
        // SAFETY: as in `tile`.
        unsafe { vector.store(&mut target[n * V::LEN..]) };
    }
    if !whole {
        values.copy_from_slice(&padded[..values.len()]);
    }
}

for_each_level! {
    /// Sets `c` to the product of `a` and `b`, summed over `depth` as `sum` says.
    pub(crate) fn multiply(
        c: &mut Product<'_>,
        a: Left<'_>,
        b: Right<'_>,
        depth: usize,
        sum: Sum,
    ) = tiled multiply_body
}
