//! C ← A·B, C ← C + A·B or C ← C + (A·B)·scale, on register tiles of 32-bit words.
//!
//! What a word holds is said by [`Number`]. Every element of C is one chain of sums over the depth,
//! in order, whatever tile it falls in: results do not depend on how rows and columns are split.

use std::hint::black_box;
use std::ops::Range;

use crate::number::{Kind, Number};
use crate::scratch::Scratch;
use crate::shared::SharedMut;
use crate::simd::{Level, prefetch};
use crate::vector::{self, Dot};

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
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a level exists only where `detect` saw its features; the caller owns the product.
    unsafe {
        match (kind.number(level), level) {
            (Number::F32, Level::Baseline) => baseline_floats(c, a, b, depth, sum),
            (Number::F32, Level::Avx2 | Level::Avx2Vnni) => avx2_floats(c, a, b, depth, sum),
            (Number::F32, _) => avx512_floats(c, a, b, depth, sum),
            (Number::I16, Level::Baseline) => baseline_pairs(c, a, b, depth, sum),
            (Number::I16, Level::Avx2) => avx2_pairs(c, a, b, depth, sum),
            (Number::I16, _) => avx512_pairs(c, a, b, depth, sum),
            (Number::Byte, Level::Avx2Vnni) => avx2_bytes(c, a, b, depth, sum),
            (Number::Byte, _) => avx512_bytes(c, a, b, depth, sum),
            (Number::Bf16, _) => avx512_brains(c, a, b, depth, sum),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: a level exists only where `detect` saw its features; the caller owns the product.
    unsafe {
        match kind.number(level) {
            Number::F32 => baseline_floats(c, a, b, depth, sum),
            Number::I16 => baseline_pairs(c, a, b, depth, sum),
            #[cfg(target_arch = "aarch64")]
            Number::Byte => neon_bytes(c, a, b, depth, sum),
            _ => unreachable!("no such level on this CPU"),
        }
    }
}

/// Defines one compiled variant: its instruction set, its numbers and the rows of its tiles.
macro_rules! variants {
    ($($(#[$meta:meta])* $name:ident = $dot:ident, $rows:literal x $columns:literal;)*) => {$(
        $(#[$meta])*
        unsafe fn $name(
            c: &Product<'_, '_>,
            a: Left<'_>,
            b: Right<'_>,
            depth: usize,
            sum: Sum<'_>,
        ) {
            // SAFETY: the caller vouches for the instruction set, and owns the product.
            unsafe { multiply_body::<vector::$dot, $rows, $columns>(c, a, b, depth, sum) }
        }
    )*};
}

variants! {
    baseline_floats = BaselineFloats, 4 x 3;
    baseline_pairs = BaselinePairs, 4 x 3;
}

#[cfg(target_arch = "x86_64")]
variants! {
    #[target_feature(enable = "avx2,fma")]
    avx2_floats = Avx2Floats, 6 x 2;
    #[target_feature(enable = "avx2,fma")]
    avx2_pairs = Avx2Pairs, 6 x 2;
    #[target_feature(enable = "avx2,fma,avxvnni")]
    avx2_bytes = Avx2Bytes, 6 x 2;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    avx512_floats = Avx512Floats, 8 x 3;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    avx512_pairs = Avx512Pairs, 8 x 3;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    avx512_bytes = Avx512Bytes, 8 x 3;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    avx512_brains = Avx512Brains, 8 x 3;
}

#[cfg(target_arch = "aarch64")]
variants! {
    #[target_feature(enable = "dotprod")]
    neon_bytes = NeonBytes, 4 x 3;
}

/// A part of a call, as every tile sees it.
#[derive(Clone)]
struct Call<'a, 'd> {
    c: &'a Product<'a, 'd>,
    a: Left<'a>,
    b: Right<'a>,
    /// The columns of the product that are computed, those of `b`.
    columns: Range<usize>,
    depth: usize,
    sum: Sum<'a>,
}

/// # Safety
///
/// As [`multiply`], on a CPU that has the instruction set of `D`.
#[inline(always)]
unsafe fn multiply_body<D: Dot, const ROWS: usize, const COLUMNS: usize>(
    c: &Product<'_, '_>,
    a: Left<'_>,
    b: Right<'_>,
    depth: usize,
    sum: Sum<'_>,
) {
    // Of narrow registers a line of B keeps the CPU busy for longer.
    let registers = LINE / D::LEN;
    let goes_on = D::CAN_GO_ON && !matches!(sum, Sum::Scaled { .. });
    let far_apart = b.stride * registers >= FAR_APART && c.rows * registers >= WORTH_A_COPY;
    let copies = goes_on && far_apart;
    let (wide, deep) = if copies { (COPIED, SLICE) } else { (c.columns, depth.max(1)) };
    let mut copy = Scratch::new(if copies { deep.min(depth) * COPY_STRIDE } else { 0 });
    for column in (0..c.columns).step_by(wide) {
        let columns = column..c.columns.min(column + wide);
        for start in (0..depth.max(1)).step_by(deep) {
            let mut part = Call { c, a, b, columns: columns.clone(), depth, sum };
            if copies {
                part.depth = deep.min(depth - start);
                for (d, row) in copy.chunks_exact_mut(COPY_STRIDE).take(part.depth).enumerate() {
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

/// Words of a cache line.
const LINE: usize = 16;
/// Words between two rows of B, times the registers of a line, from which on few of its lines fit
/// into a cache at a time.
const FAR_APART: usize = 1024;
/// Rows, times the registers of a line, from which on a copy of the columns that they share pays.
const WORTH_A_COPY: usize = 64;
/// Rows of B that are copied at a time, and columns: where rows are far from each other, to read a
/// line of each takes as long as to read some.
const SLICE: usize = 256;
const COPIED: usize = 128;
/// Words from row to row of a copy: an odd number of lines, which so take turns in all sets of a
/// cache.
const COPY_STRIDE: usize = COPIED + LINE;

/// Computes the columns of a part, all rows of them.
///
/// # Safety
///
/// As [`multiply_body`].
#[inline(always)]
unsafe fn rows<D: Dot, const ROWS: usize, const COLUMNS: usize>(call: &Call<'_, '_>) {
    let rows = call.c.rows;
    // Tiles of four rows, of which six leave some of two, and what is left.
    let (fours, rest) = match rows % ROWS {
        2 if ROWS == 6 && rows > 2 => (2, 0),
        rest => (rest / 4, rest % 4),
    };
    let last = rows - rest;
    let first = last - 4 * fours;
    // SAFETY: as this function's.
    unsafe {
        columns::<D, ROWS, COLUMNS>(call, 0, first);
        // Few rows take more columns, to keep as many sums going, and to read what lies together
        // at once; large tiles are those of levels with 32 registers.
        match (fours, ROWS) {
            (0, _) | (_, 4) => {}
            (_, 6) => columns::<D, 4, 2>(call, first, last),
            _ => columns::<D, 4, 6>(call, first, last),
        }
        match (rest, ROWS == 8) {
            (1, true) => columns::<D, 1, { MOST_COLUMNS / LINE }>(call, last, rows),
            (2, true) => columns::<D, 2, 12>(call, last, rows),
            (3, true) => columns::<D, 3, 8>(call, last, rows),
            (1, false) => columns::<D, 1, 12>(call, last, rows),
            (2, false) => columns::<D, 2, 4>(call, last, rows),
            (3, false) => columns::<D, 3, 3>(call, last, rows),
            _ => {}
        }
    }
}

/// Columns of the widest tile, whose registers hold 16 each.
const MOST_COLUMNS: usize = 256;

/// Computes rows `first … end`, `R` at a time, in tiles of `N` registers of columns and fewer at
/// the end.
///
/// # Safety
///
/// As [`multiply_body`].
#[inline(always)]
unsafe fn columns<D: Dot, const R: usize, const N: usize>(
    call: &Call<'_, '_>,
    first: usize,
    end: usize,
) {
    let mut column = call.columns.start;
    while column < call.columns.end {
        let left = (call.columns.end - column).div_ceil(D::LEN);
        // SAFETY: as this function's.
        let vectors = unsafe {
            match left {
                // Two and two keep more sums going than three and one.
                4 if N == 3 => tiles::<D, R, 2>(call, first, end, column),
                left if left >= N => tiles::<D, R, N>(call, first, end, column),
                left if N > 6 && left >= 6 => tiles::<D, R, 6>(call, first, end, column),
                left if N > 3 && left >= 3 => tiles::<D, R, 3>(call, first, end, column),
                2 => tiles::<D, R, 2>(call, first, end, column),
                _ => tiles::<D, R, 1>(call, first, end, column),
            }
        };
        column += vectors * D::LEN;
    }
}

/// Computes `N` registers of columns of these rows, and returns `N`.
///
/// # Safety
///
/// As [`multiply_body`].
#[inline(always)]
unsafe fn tiles<D: Dot, const R: usize, const N: usize>(
    call: &Call<'_, '_>,
    first: usize,
    end: usize,
    column: usize,
) -> usize {
    for row in (first..end).step_by(R) {
        // Else an address for each register of a tile is kept, and raised in memory.
        let row = black_box(row);
        // SAFETY: as this function's.
        unsafe { tile::<D, R, N>(call, row, column) };
    }
    N
}

/// Words along the depth up to which a tile is done before what it replaces has come to the cache.
const SHALLOW: usize = 64;

/// Computes the tile whose upper left corner is (`row`, `column`).
///
/// # Safety
///
/// As [`multiply_body`].
#[inline(always)]
unsafe fn tile<D: Dot, const R: usize, const N: usize>(
    call: &Call<'_, '_>,
    row: usize,
    column: usize,
) {
    let Call { c, a, b, columns, depth, sum } = call;
    let right_column = column - columns.start;
    let width = (N * D::LEN).min(columns.end - column);
    let whole = width == N * D::LEN;
    let first = c.data.pointer(c.start + row * c.stride + column, (R - 1) * c.stride + width);
    let rows = |first: *mut f32| -> [*mut f32; R] {
        // SAFETY: all rows are within what the pointer was asked for.
        std::array::from_fn(|r| unsafe { first.add(r * c.stride) })
    };
    if *depth > SHALLOW {
        for row in rows(first) {
            for n in 0..N {
                prefetch(row.wrapping_add(n * D::LEN));
            }
        }
    }
    // SAFETY: the caller has the instruction set.
    let mut sums = [[unsafe { D::zero() }; N]; R];
    match *sum {
        Sum::Fresh | Sum::Scaled { start: [], .. } => {}
        Sum::Onto => {
            for (sums, row) in sums.iter_mut().zip(rows(first)) {
                // SAFETY: the caller owns the row, and has the instruction set.
                *sums = unsafe { load::<D, N>(row.cast(), width) };
            }
        }
        Sum::From(start) | Sum::Scaled { start, .. } => {
            let start = start[column..column + width].as_ptr();
            // SAFETY: as many are there; the caller has the instruction set.
            sums = [unsafe { load::<D, N>(start.cast(), width) }; R];
        }
    }

    // Rows of B that can be read past the tile's columns; only the last ones may end there.
    let end = right_column + N * D::LEN;
    let readable = if b.words.len() < end {
        0
    } else {
        let last = (b.words.len() - end).checked_div(b.stride).unwrap_or(0);
        (last + 1).min(*depth)
    };
    if *depth > 0 {
        let last = (row + R - 1) * a.row_stride + (depth - 1) * a.depth_stride;
        assert!(last < a.words.len(), "the left factor is too short");
        // SAFETY: the first word of each row of A exists.
        let left: [*const u32; R] =
            std::array::from_fn(|r| unsafe { a.words.as_ptr().add((row + r) * a.row_stride) });
        let mut chain = sums;
        for d in 0..readable {
            // SAFETY: `readable` rows of B and `depth` words of the rows of A exist; the caller
            // has the instruction set.
            unsafe {
                let from = b.words.as_ptr().add(d * b.stride + right_column);
                let right = std::array::from_fn(|n| D::words(from.add(n * D::LEN)));
                step::<D, R, N>(&mut chain, left, d * a.depth_stride, right);
            }
        }
        for d in readable..*depth {
            let from = padded(&b.words[d * b.stride + right_column..][..width]);
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
    let scaled = match *sum {
        Sum::Scaled { scale, onto, .. } => Some((&scale[column..column + width], onto)),
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
            Some((scale, onto)) => {
                for ((c, sum), scale) in row.iter_mut().zip(&buffer).zip(scale) {
                    *c = sum * scale + if onto { *c } else { 0.0 };
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
unsafe fn load<D: Dot, const N: usize>(from: *const u32, width: usize) -> [D::Sums; N] {
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
unsafe fn store<D: Dot, const R: usize, const N: usize>(
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
unsafe fn step<D: Dot, const R: usize, const N: usize>(
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

/// `words`, and zeros.
#[inline(always)]
fn padded(words: &[u32]) -> [u32; MOST_COLUMNS] {
    let mut padded = [0; MOST_COLUMNS];
    padded[..words.len()].copy_from_slice(words);
    padded
}
