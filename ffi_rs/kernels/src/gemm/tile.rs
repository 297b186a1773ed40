//! Tiles of a product that registers hold.

use std::hint::black_box;
use std::ops::Range;

use super::operands::{Accumulate, LINE, Panels, Rhs};
use crate::disjoint::TileMut;
use crate::tuning::{COPY_B_STRIDE, PREFETCH_B_ROWS, PREFETCH_C_DEPTH};
use crate::vector::{DotIsa, prefetch};

/// A part of a call, as every tile sees it.
pub(super) struct Part<'a, 'd> {
    pub(super) c: &'a TileMut<'d, f32>,
    /// The row of C that the first one of `a` makes.
    pub(super) first: usize,
    pub(super) a: Panels<'a>,
    pub(super) b: Rhs<'a>,
    /// The columns of the product that `b` has.
    pub(super) columns: Range<usize>,
    pub(super) depth: usize,
    pub(super) accumulate: Accumulate<'a>,
}

/// Computes the columns of a part, so many rows of them.
///
/// # Safety
///
/// As [`multiply`](super::multiply()), on a CPU that has the instruction set of `D`.
#[inline(always)]
pub(super) unsafe fn rows<D: DotIsa, const ROWS: usize, const COLUMNS: usize>(
    part: &Part<'_, '_>,
    rows: usize,
) {
    // What whole tiles leave goes to tiles of four rows, and the rest to one of its own. Where tiles of
    // six leave two rows, one tile less makes eight.
    let (fours, rest) = match rows % ROWS {
        2 if ROWS == 6 && rows > 2 => (2, 0),
        rest => (rest / 4, rest % 4),
    };
    let last = rows - rest;
    let first = last - 4 * fours;
    // SAFETY: as this function's.
    unsafe {
        columns::<D, ROWS, COLUMNS>(part, 0, first);
        // Few rows take more columns, to keep as many sums going as registers allow, and to read what
        // lies together at once; tiles of eight rows are those of instruction sets with 32 registers.
        match (fours, ROWS) {
            (0, _) | (_, 4) => {}
            (_, 6) => columns::<D, 4, 2>(part, first, last),
            _ => columns::<D, 4, 6>(part, first, last),
        }
        match (rest, ROWS == 8) {
            (1, true) => columns::<D, 1, { MOST_COLUMNS / WIDEST }>(part, last, rows),
            (2, true) => columns::<D, 2, 12>(part, last, rows),
            (3, true) => columns::<D, 3, 8>(part, last, rows),
            (1, false) => columns::<D, 1, 12>(part, last, rows),
            (2, false) => columns::<D, 2, 4>(part, last, rows),
            (3, false) => columns::<D, 3, 3>(part, last, rows),
            _ => {}
        }
    }
}

/// Columns of the widest tile, and of its registers.
const MOST_COLUMNS: usize = 256;
const WIDEST: usize = 16;

/// Computes rows `first … end`, `R` at a time, in tiles of `N` registers of columns and fewer at
/// the end.
///
/// # Safety
///
/// As [`rows`].
#[inline(always)]
unsafe fn columns<D: DotIsa, const R: usize, const N: usize>(
    part: &Part<'_, '_>,
    first: usize,
    end: usize,
) {
    let mut column = part.columns.start;
    while column < part.columns.end {
        let left = (part.columns.end - column).div_ceil(D::LEN);
        // SAFETY: as this function's.
        let vectors = unsafe {
            match left {
                // Two and two keep more sums going than three and one.
                4 if N == 3 => tiles::<D, R, 2>(part, first, end, column),
                left if left >= N => tiles::<D, R, N>(part, first, end, column),
                left if N > 6 && left >= 6 => tiles::<D, R, 6>(part, first, end, column),
                left if N > 3 && left >= 3 => tiles::<D, R, 3>(part, first, end, column),
                2 => tiles::<D, R, 2>(part, first, end, column),
                _ => tiles::<D, R, 1>(part, first, end, column),
            }
        };
        column += vectors * D::LEN;
    }
}

/// Computes `N` registers of columns of these rows, and returns `N`.
///
/// # Safety
///
/// As [`rows`].
#[inline(always)]
unsafe fn tiles<D: DotIsa, const R: usize, const N: usize>(
    part: &Part<'_, '_>,
    first: usize,
    end: usize,
    column: usize,
) -> usize {
    for row in (first..end).step_by(R) {
        // Else an address for each register of a tile is kept, and raised in memory.
        let row = black_box(row);
        // SAFETY: as this function's.
        unsafe { tile::<D, R, N>(part, row, column) };
    }
    N
}

/// Computes the tile whose upper left corner is (`row`, `column`).
///
/// # Safety
///
/// As [`rows`].
#[inline(always)]
unsafe fn tile<D: DotIsa, const R: usize, const N: usize>(
    part: &Part<'_, '_>,
    row: usize,
    column: usize,
) {
    let Part { c, first, a, b, columns, depth, accumulate } = part;
    let right_column = column - columns.start;
    let width = (N * D::LEN).min(columns.end - column);
    let whole = width == N * D::LEN;
    let first = c.pointer(first + row, column, R, width);
    let rows = |first: *mut f32| -> [*mut f32; R] {
        // SAFETY: all rows are within what the pointer was asked for.
        std::array::from_fn(|r| unsafe { first.add(r * c.stride()) })
    };
    if *depth > PREFETCH_C_DEPTH {
        for row in rows(first) {
            for n in 0..N {
                prefetch(row.wrapping_add(n * D::LEN));
            }
        }
    }
    // SAFETY: the caller has the instruction set.
    let mut sums = [[unsafe { D::zero() }; N]; R];
    match *accumulate {
        Accumulate::Overwrite | Accumulate::Scale { init: [], .. } => {}
        Accumulate::Add => {
            for (sums, row) in sums.iter_mut().zip(rows(first)) {
                // SAFETY: the caller owns the row, and has the instruction set.
                *sums = unsafe { load::<D, N>(row.cast(), width) };
            }
        }
        Accumulate::Init(init) | Accumulate::Scale { init, .. } => {
            let init = init[column..column + width].as_ptr();
            // SAFETY: as many are there; the caller has the instruction set.
            sums = [unsafe { load::<D, N>(init.cast(), width) }; R];
        }
    }

    // Rows of B that can be read past the tile's columns; only the last ones may end there.
    let end = right_column + N * D::LEN;
    let readable = if b.packed.len() < end {
        0
    } else {
        let last = (b.packed.len() - end).checked_div(b.stride).unwrap_or(0);
        (last + 1).min(*depth)
    };
    if *depth > 0 {
        let from = row / a.rows * a.stride + row % a.rows * a.row_stride;
        let last = from + (R - 1) * a.row_stride + (depth - 1) * a.depth_stride;
        assert!(last < a.packed.len(), "the lhs is too short");
        // SAFETY: the first word of each row of A exists.
        let left: [*const u32; R] =
            std::array::from_fn(|r| unsafe { a.packed.as_ptr().add(from + r * a.row_stride) });
        let mut chain = sums;
        // Few rows are done with a row of B before the next one has come.
        let is_slow = R < 4 && b.stride >= COPY_B_STRIDE;
        for d in 0..readable {
            if is_slow {
                let ahead = (d + PREFETCH_B_ROWS) * b.stride + right_column;
                for word in (0..N * D::LEN).step_by(LINE) {
                    prefetch(b.packed.as_ptr().wrapping_add(ahead + word));
                }
            }
            // SAFETY: `readable` rows of B and `depth` words of the rows of A exist; the caller
            // has the instruction set.
            unsafe {
                let from = b.packed.as_ptr().add(d * b.stride + right_column);
                let right = std::array::from_fn(|n| D::words(from.add(n * D::LEN)));
                step::<D, R, N>(&mut chain, left, d * a.depth_stride, right);
            }
        }
        for d in readable..*depth {
            let from = padded(&b.packed[d * b.stride + right_column..][..width]);
            // SAFETY: `depth` words of the rows of A exist; the caller has the instruction set.
            unsafe {
                let right = std::array::from_fn(|n| D::words(from.as_ptr().add(n * D::LEN)));
                step::<D, R, N>(&mut chain, left, d * a.depth_stride, right);
            }
        }
        sums = chain;
    }

    // Else all of them are kept meanwhile, and the loop has no registers left.
    let rows = rows(black_box(first));
    let scaled = match *accumulate {
        Accumulate::Scale { scale, add, .. } => Some((&scale[column..column + width], add)),
        _ => None,
    };
    if whole {
        // SAFETY: the rows and the scales have as many columns; the caller owns the rows, and has
        // the instruction set.
        unsafe {
            match scaled {
                None => store::<D, R, N>(&sums, rows, |sums, _, to| D::store(sums, to)),
                Some((scale, false)) => store::<D, R, N>(&sums, rows, |sums, n, to| {
                    D::store_scaled(sums, scale[n * D::LEN..].as_ptr(), false, to);
                }),
                Some((scale, true)) => store::<D, R, N>(&sums, rows, |sums, n, to| {
                    D::store_scaled(sums, scale[n * D::LEN..].as_ptr(), true, to);
                }),
            }
        }
        return;
    }
    let mut buffer = [0.0f32; MOST_COLUMNS];
    for (sums, row) in sums.iter().zip(rows) {
        // SAFETY: the buffer has room; the caller owns the row, and has the instruction set.
        let row = unsafe {
            store::<D, 1, N>(std::array::from_ref(sums), [buffer.as_mut_ptr()], |sums, _, to| {
                D::store(sums, to);
            });
            std::slice::from_raw_parts_mut(row, width)
        };
        match scaled {
            Some((scale, add)) => {
                for ((c, sum), scale) in row.iter_mut().zip(&buffer).zip(scale) {
                    *c = sum * scale + if add { *c } else { 0.0 };
                }
            }
            None => row.copy_from_slice(&buffer[..width]),
        }
    }
}

/// Sums from `width` of them, and zeros where `N` registers hold more.
///
/// # Safety
///
/// As many are there; the CPU has the instruction set of `D`.
#[inline(always)]
unsafe fn load<D: DotIsa, const N: usize>(from: *const u32, width: usize) -> [D::Sums; N] {
    let registers = |from: *const u32| {
        // SAFETY: as this function's, or of a buffer that has as many.
        std::array::from_fn(|n| unsafe { D::sums(from.add(n * D::LEN)) })
    };
    if width == N * D::LEN {
        return registers(from);
    }
    // SAFETY: as this function's.
    registers(padded(unsafe { std::slice::from_raw_parts(from, width) }).as_ptr())
}

/// Writes each register of sums as `write(sums, register, to)` does.
///
/// # Safety
///
/// The rows have `N` registers of elements.
#[inline(always)]
unsafe fn store<D: DotIsa, const R: usize, const N: usize>(
    sums: &[[D::Sums; N]; R],
    rows: [*mut f32; R],
    write: impl Fn(D::Sums, usize, *mut f32),
) {
    for (sums, row) in sums.iter().zip(rows) {
        for (n, sums) in sums.iter().enumerate() {
            // SAFETY: as this function's.
            write(*sums, n, unsafe { row.add(n * D::LEN) });
        }
    }
}

/// Adds the products of one word of each row of A, `offset` after its first, and a row of B.
///
/// # Safety
///
/// The words exist; the CPU has the instruction set of `D`.
#[inline(always)]
pub(super) unsafe fn step<D: DotIsa, const R: usize, const N: usize>(
    sums: &mut [[D::Sums; N]; R],
    rows: [*const u32; R],
    offset: usize,
    right: [D::Words; N],
) {
    for (sums, row) in sums.iter_mut().zip(rows) {
        // SAFETY: as this function's.
        unsafe {
            let left = D::splat(*row.add(offset));
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = D::add(*sum, left, right);
            }
        }
    }
}

/// `packed`, and zeros.
#[inline(always)]
fn padded(packed: &[u32]) -> [u32; MOST_COLUMNS] {
    let mut padded = [0; MOST_COLUMNS];
    padded[..packed.len()].copy_from_slice(packed);
    padded
}
