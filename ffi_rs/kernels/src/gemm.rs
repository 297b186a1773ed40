//! C ← A·B, or C ← C + A·B, on register tiles.
//!
//! Every element of C is one chain of multiply-adds over the depth, in order, whatever tile it
//! falls in: results do not depend on how rows and columns are split.

use crate::simd::for_each_level;

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
fn multiply_body<const ROWS: usize, const COLUMNS: usize, const FMA: bool>(
    c: &mut Product<'_>,
    a: Left<'_>,
    b: Right<'_>,
    depth: usize,
    sum: Sum,
) {
    let mut column = 0;
    while column < c.columns {
        let panel = Panel {
            data: b.data.get(column / COLUMNS * b.panel_stride..).unwrap_or(&[]),
            stride: b.depth_stride,
            width: COLUMNS.min(c.columns - column),
        };
        let mut row = 0;
        while row < c.rows {
            let at = Corner { row, column };
            row += match c.rows - row {
                left if left >= ROWS => tile::<ROWS, COLUMNS, FMA>(c, a, panel, depth, sum, at),
                left if left >= 4 => tile::<4, COLUMNS, FMA>(c, a, panel, depth, sum, at),
                left if left >= 2 => tile::<2, COLUMNS, FMA>(c, a, panel, depth, sum, at),
                _ => tile::<1, COLUMNS, FMA>(c, a, panel, depth, sum, at),
            };
        }
        column += COLUMNS;
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
fn tile<const R: usize, const C: usize, const FMA: bool>(
    c: &mut Product<'_>,
    a: Left<'_>,
    b: Panel<'_>,
    depth: usize,
    sum: Sum,
    at: Corner,
) -> usize {
    let mut tile = [[0.0; C]; R];
    let mut rows = [0; R];
    for (row, start) in rows.iter_mut().enumerate() {
        *start = (at.row + row) * c.stride + at.column;
    }
    match sum {
        Sum::Fresh => accumulate::<R, C, FMA>(&mut tile, a, b, 0..depth, at.row),
        Sum::Onto => {
            for (tile, start) in tile.iter_mut().zip(rows) {
                tile[..b.width].copy_from_slice(&c.data[start..start + b.width]);
            }
            accumulate::<R, C, FMA>(&mut tile, a, b, 0..depth, at.row);
        }
        Sum::Integers(exact) if depth <= exact => {
            accumulate::<R, C, FMA>(&mut tile, a, b, 0..depth, at.row);
        }
        Sum::Integers(exact) => {
            // f64 holds every i32 exactly, and NaN besides.
            let mut total = [[0.0f64; C]; R];
            for start in (0..depth).step_by(exact) {
                let mut part = [[0.0; C]; R];
                let range = start..depth.min(start + exact);
                accumulate::<R, C, FMA>(&mut part, a, b, range, at.row);
                for (total, part) in total.iter_mut().flatten().zip(part.iter().flatten()) {
                    *total += f64::from(*part);
                }
            }
            for (tile, total) in tile.iter_mut().flatten().zip(total.iter().flatten()) {
                *tile = *total as f32;
            }
        }
    }
    for (tile, start) in tile.iter().zip(rows) {
        c.data[start..start + b.width].copy_from_slice(&tile[..b.width]);
    }
    R
}

#[inline(always)]
fn accumulate<const R: usize, const C: usize, const FMA: bool>(
    tile: &mut [[f32; C]; R],
    a: Left<'_>,
    b: Panel<'_>,
    range: std::ops::Range<usize>,
    row: usize,
) {
    match a {
        Left::RowMajor(data, stride) => {
            let rows: [&[f32]; R] = std::array::from_fn(|r| &data[(row + r) * stride..]);
            let rows: [&[f32]; R] = std::array::from_fn(|r| &rows[r][..range.end]);
            chain::<R, C, FMA>(tile, b, range, |depth| std::array::from_fn(|r| rows[r][depth]));
        }
        Left::DepthMajor(data, stride) => chain::<R, C, FMA>(tile, b, range, |depth| {
            let start = depth * stride + row;
            data[start..start + R].try_into().expect("R elements")
        }),
    }
}

#[inline(always)]
fn chain<const R: usize, const C: usize, const FMA: bool>(
    tile: &mut [[f32; C]; R],
    b: Panel<'_>,
    range: std::ops::Range<usize>,
    left: impl Fn(usize) -> [f32; R],
) {
    let mut sums = *tile;
    if b.width == C {
        for depth in range {
            let start = depth * b.stride;
            let right: &[f32; C] = b.data[start..start + C].try_into().expect("C elements");
            step::<R, C, FMA>(&mut sums, left(depth), right);
        }
    } else {
        for depth in range {
            let start = depth * b.stride;
            let mut right = [0.0; C];
            right[..b.width].copy_from_slice(&b.data[start..start + b.width]);
            step::<R, C, FMA>(&mut sums, left(depth), &right);
        }
    }
    *tile = sums;
}

#[inline(always)]
fn step<const R: usize, const C: usize, const FMA: bool>(
    sums: &mut [[f32; C]; R],
    left: [f32; R],
    right: &[f32; C],
) {
    for (sums, left) in sums.iter_mut().zip(left) {
        for (sum, right) in sums.iter_mut().zip(right) {
            *sum = if FMA { left.mul_add(*right, *sum) } else { left * right + *sum };
        }
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
