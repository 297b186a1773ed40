//! Products of few rows with numbers that are given by codes.
//!
//! ```text
//! for d in depth, n in columns:
//!     w = (level of code[d, n] - zero_point[n]) · scale[n]
//!     for r in rows:   sums[r, n] = x[r, d]·w + sums[r, n]
//! ```
//!
//! What is done otherwise, to the same bits: 32 rows of the matrix are read side by side, each row of
//! words from its start to its end, so that memory gives what it can, and a register of columns takes
//! all of them before its sums are stored. Numbers exist in registers alone. A level of at most four
//! bits is an entry of a register, from which a zero point that all columns share is already taken.
//! Codes with several planes are put together to bytes first, a block at a time.

use std::ops::Range;

use super::coded::spread;
use super::{Coded, MOST_ROWS, planes, rows_together};
use crate::disjoint::TileMut;
use crate::gemm::Lhs;
use crate::isa::Isa;
use crate::scratch::Scratch;
use crate::tuning::CODED_SUMS;
use crate::vector::{self, ENTRIES, LevelIsa};

/// Rows of the matrix that are read side by side: those of one row of words of one bit, of two of two
/// bits, and so on.
pub(super) const BLOCK: usize = 32;
/// Columns that registers take together at most.
const WIDEST: usize = 64;

/// Whether this is the way of these numbers: a block has one zero point and scale for each column, and
/// registers hold all levels.
pub(super) fn takes(b: &Coded<'_>, depth: &Range<usize>) -> bool {
    let levels = &b.levels;
    let shared = [levels.scale, levels.zero_point].iter().all(|all| all.only_row().is_some());
    let has_entries = match &levels.table {
        None => true,
        Some(table) => b.codes.bits <= 4 && table.only_row().is_some(),
    };
    has_entries
        && depth.start.is_multiple_of(BLOCK)
        && depth.len() >= BLOCK
        && (shared || levels.group.is_multiple_of(BLOCK))
}

/// `C ← A·B` or `C ← C + A·B` for some columns of these rows of B, which are whole blocks.
pub(super) fn multiply(
    isa: Isa,
    c: &mut TileMut<'_, f32>,
    a: Lhs<'_>,
    b: &Coded<'_>,
    depth: Range<usize>,
    columns: Range<usize>,
    add: bool,
) {
    let rows = c.row_count();
    let together = rows_together(rows);
    // As many columns as leave their sums, zero points and scales in the nearest cache.
    let of_block = CODED_SUMS / 2 / together;
    let mut x = Scratch::<f32>::new(together * depth.len());
    let mut room = [(); 3].map(|()| Scratch::<f32>::default());
    for first in columns.clone().step_by(of_block) {
        let range = first..columns.end.min(first + of_block);
        let width = range.len().next_multiple_of(WIDEST);
        let [sums, zero_points, scales] = &mut room;
        sums.resize(together * width);
        zero_points.resize(width);
        scales.resize(width);
        let mut c = c.columns(range.start - columns.start..range.end - columns.start);
        let mut row = 0;
        while row < rows {
            let together = rows_together(rows - row);
            let (x, sums) = (&mut x[..together * depth.len()], &mut sums[..together * width]);
            for (r, line) in x.chunks_exact_mut(depth.len()).enumerate() {
                let from = (row + r).min(rows - 1) * a.row_stride;
                for (d, x) in line.iter_mut().enumerate() {
                    *x = f32::from_bits(a.packed[from + d * a.depth_stride]);
                }
            }
            let mut c = c.rows(row..rows.min(row + together));
            sums.fill(0.0);
            if add {
                for (sums, c) in sums.chunks_exact_mut(width).zip(c.rows_mut()) {
                    sums[..c.len()].copy_from_slice(c);
                }
            }
            blocks(isa, sums, x, b, depth.clone(), &range, [zero_points, scales]);
            for (sums, c) in sums.chunks_exact(width).zip(c.rows_mut()) {
                c.copy_from_slice(&sums[..c.len()]);
            }
            row += together;
        }
    }
}

/// Adds the products of all blocks to the sums of one row, or of several.
fn blocks(
    isa: Isa,
    sums: &mut [f32],
    x: &[f32],
    b: &Coded<'_>,
    depth: Range<usize>,
    columns: &Range<usize>,
    [zero_points, scales]: [&mut [f32]; 2],
) {
    let plane = planes(b.codes.bits, b.codes.depth).next().expect("codes of some bits");
    let (count, levels) = (columns.len(), &b.levels);
    let joins = b.codes.has_planes();
    let mut bytes = Scratch::<u32>::new(if joins { BLOCK / 4 * count } else { 0 });
    let width = if joins { 8 } else { plane.width };
    let looks = b.codes.bits <= 4 && (levels.table.is_some() || isa >= Isa::Avx512);
    let (mut entries, mut of_group, mut subtracts) = ([0.0; ENTRIES], usize::MAX, true);
    for first in depth.clone().step_by(BLOCK) {
        let group = first / levels.group;
        if group != of_group {
            of_group = group;
            let zero_point = levels.zero_point.row(group);
            subtracts = !looks || zero_point.len() != 1;
            // The subtraction of 0 leaves a level as it is, -0 also.
            let taken = if subtracts { 0.0 } else { zero_point[0] };
            for (code, entry) in entries.iter_mut().enumerate() {
                // Codes of fewer bits have those of their neighbors above them.
                let code = code & ((1 << b.codes.bits.min(4)) - 1);
                let level = levels.table.map_or(code as f32, |table| table.row(0)[code]);
                *entry = level - taken;
            }
            spread(&mut zero_points[..count], zero_point, columns);
            spread(&mut scales[..count], levels.scale.row(group), columns);
            zero_points[count..].fill(0.0);
            scales[count..].fill(0.0);
        }
        let (words, apart) = if joins {
            b.codes.write_bytes(isa, first..first + BLOCK, columns, &mut bytes, count);
            (&*bytes, count)
        } else {
            let start = b.codes.columns * plane.place(first).0 + columns.start;
            (&b.codes.words[start..], b.codes.columns)
        };
        let block = Block {
            words,
            apart,
            count,
            x: &x[first - depth.start..],
            x_apart: depth.len(),
            zero_points,
            scales,
            entries: &entries,
        };
        block.add(isa, sums, width, looks, subtracts);
    }
}

/// A block of rows of the matrix.
struct Block<'a> {
    words: &'a [u32],
    /// Words from row to row of them.
    apart: usize,
    /// Columns.
    count: usize,
    /// Of each row of sums one, so many apart.
    x: &'a [f32],
    x_apart: usize,
    /// By column, to the end of a register.
    zero_points: &'a [f32],
    scales: &'a [f32],
    entries: &'a [f32; ENTRIES],
}

impl Block<'_> {
    /// Adds its products to rows of sums; levels are entries of a register if it `looks`, and have a
    /// zero point for each column if it `subtracts`.
    fn add(&self, isa: Isa, sums: &mut [f32], width: usize, looks: bool, subtracts: bool) {
        let (rows, levels) = (sums.len() / self.scales.len(), [looks, subtracts]);
        // SAFETY: an `Isa` exists only where `detect` saw its features.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 | Isa::Avx512Vnni | Isa::Avx512Bf16 => match rows {
                    1 => avx512::<1, 4>(self, sums, width, levels),
                    2 => avx512::<2, 2>(self, sums, width, levels),
                    _ => avx512::<MOST_ROWS, 2>(self, sums, width, levels),
                },
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 | Isa::Avx2Vnni => match rows {
                    1 => avx2::<1, 2>(self, sums, width, levels),
                    2 => avx2::<2, 2>(self, sums, width, levels),
                    _ => avx2::<MOST_ROWS, 1>(self, sums, width, levels),
                },
                _ => match rows {
                    1 => baseline::<1, 2>(self, sums, width, levels),
                    2 => baseline::<2, 2>(self, sums, width, levels),
                    _ => baseline::<MOST_ROWS, 1>(self, sums, width, levels),
                },
            }
        }
    }
}

/// Defines one compiled variant by its instruction set and registers.
macro_rules! variants {
    ($($(#[$meta:meta])* $name:ident = $registers:ident;)*) => {$(
        /// # Safety
        ///
        /// The CPU has these features.
        $(#[$meta])*
        unsafe fn $name<const ROWS: usize, const N: usize>(
            block: &Block<'_>,
            sums: &mut [f32],
            width: usize,
            [looks, subtracts]: [bool; 2],
        ) {
            use vector::$registers as D;
            // SAFETY: as this function's.
            unsafe {
                match (width, looks, subtracts) {
                    (8, false, _) => add_words::<D, ROWS, N, 8, false, true>(block, sums),
                    (8, true, true) => add_words::<D, ROWS, N, 8, true, true>(block, sums),
                    (8, true, false) => add_words::<D, ROWS, N, 8, true, false>(block, sums),
                    (4, false, _) => add_words::<D, ROWS, N, 4, false, true>(block, sums),
                    (4, true, true) => add_words::<D, ROWS, N, 4, true, true>(block, sums),
                    (4, true, false) => add_words::<D, ROWS, N, 4, true, false>(block, sums),
                    (2, false, _) => add_words::<D, ROWS, N, 2, false, true>(block, sums),
                    (2, true, true) => add_words::<D, ROWS, N, 2, true, true>(block, sums),
                    (2, true, false) => add_words::<D, ROWS, N, 2, true, false>(block, sums),
                    (_, false, _) => add_words::<D, ROWS, N, 1, false, true>(block, sums),
                    (_, true, true) => add_words::<D, ROWS, N, 1, true, true>(block, sums),
                    (_, true, false) => add_words::<D, ROWS, N, 1, true, false>(block, sums),
                }
            }
        }
    )*};
}

variants! {
    baseline = BaselineF32;
}

#[cfg(target_arch = "x86_64")]
variants! {
    #[target_feature(enable = "avx2,fma")]
    avx2 = Avx2F32;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    avx512 = Avx512F32;
}

/// Adds the products of a block with words of that width.
///
/// # Safety
///
/// The CPU has the instruction set of `D`.
#[inline(always)]
unsafe fn add_words<
    D: LevelIsa,
    const ROWS: usize,
    const N: usize,
    const WIDTH: usize,
    const LOOKS: bool,
    const SUBTRACTS: bool,
>(
    block: &Block<'_>,
    sums: &mut [f32],
) {
    const { assert!(WIDEST.is_multiple_of(N * D::LEN)) };
    let (count, stride) = (block.count, block.scales.len());
    assert!(ROWS * stride <= sums.len() && stride <= block.zero_points.len());
    assert!(count <= stride && stride.is_multiple_of(WIDEST));
    let x: [*const f32; ROWS] =
        std::array::from_fn(|row| block.x[row * block.x_apart..][..BLOCK].as_ptr());
    let lines: [&[u32]; WIDTH] =
        std::array::from_fn(|line| &block.words[line * block.apart..][..count]);
    let mut rest = [[0; WIDEST]; WIDTH];
    let sums = sums.as_mut_ptr();
    for column in (0..count).step_by(N * D::LEN) {
        let mut at = lines.map(|line| line.as_ptr().wrapping_add(column));
        if column + N * D::LEN > count {
            for ((rest, line), at) in rest.iter_mut().zip(lines).zip(&mut at) {
                rest[..count - column].copy_from_slice(&line[column..]);
                *at = rest.as_ptr();
            }
        }
        // SAFETY: as many words are there in each line; sums, zero points and scales by the assertions,
        // as their rows have whole registers; and a block of each row of x. The caller has the
        // instruction set.
        unsafe {
            let table = D::table(block.entries);
            let register =
                |from: &[f32], n: usize| D::words(from.as_ptr().add(column + n * D::LEN).cast());
            let zero_points: [D::Words; N] =
                std::array::from_fn(|n| register(block.zero_points, n));
            let scales: [D::Words; N] = std::array::from_fn(|n| register(block.scales, n));
            let zero = D::splat(0);
            let place = |r: usize, n: usize| sums.add(r * stride + column + n * D::LEN);
            let mut chains: [[D::Sums; N]; ROWS] =
                std::array::from_fn(|r| std::array::from_fn(|n| D::sums(place(r, n).cast())));
            for (line, at) in at.into_iter().enumerate() {
                let words: [D::Codes; N] = std::array::from_fn(|n| D::codes(at.add(n * D::LEN)));
                for value in 0..BLOCK / WIDTH {
                    let shift = (value % 4 * 8 + value / 4 * WIDTH) as u32;
                    let right: [D::Words; N] = std::array::from_fn(|n| {
                        let level = if LOOKS {
                            D::entries(table, words[n], shift)
                        } else {
                            D::numbers(words[n], shift, (1 << WIDTH) - 1)
                        };
                        D::scaled(level, if SUBTRACTS { zero_points[n] } else { zero }, scales[n])
                    });
                    for (chains, x) in chains.iter_mut().zip(x) {
                        let left = D::splat((*x.add(line * (BLOCK / WIDTH) + value)).to_bits());
                        for (chain, right) in chains.iter_mut().zip(right) {
                            *chain = D::add(*chain, left, right);
                        }
                    }
                }
            }
            for (r, chains) in chains.into_iter().enumerate() {
                for (n, chain) in chains.into_iter().enumerate() {
                    D::save(chain, place(r, n));
                }
            }
        }
    }
}
