//! Sums of products of integers and codes, as they are packed.
//!
//! ```text
//! for r in rows, n in columns:
//!     out[r, n] = (Σ_k x[r, k]·(code[k, n] - taken_off)) · factor + start[r]
//! ```
//!
//! of integers in ±127, exactly as long as 32 bits hold the result. What is done otherwise:
//!
//! - Planes are multiplied one after the other, the highest first, and sums are shifted in between: few
//!   rows take as long as the codes are read, and none is put together.
//! - Some rows of words are read side by side, each from its start to its end, so that memory gives
//!   what it can, and sums are loaded and stored once for all of them. They stay in the nearest cache.
//! - Many rows take as long as the products: then planes are put together to bytes, some columns at a time.
//! - A shift and a mask make four bytes of a word, which are neighbors along the depth.

use std::ops::Range;

use super::{Codes, MOST_ROWS, Plane, planes, rows_together};
use crate::disjoint::TileMut;
use crate::isa::{Isa, for_each_isa};
use crate::scratch::Scratch;
use crate::tuning::{CODED_BYTES, CODED_FEW_ROWS, CODED_MANY_ROWS, CODED_SUMS};
use crate::vector::{self, CodeIsa};

/// Rows of the matrix that are multiplied together: those of one row of words of one bit, of two of two
/// bits, and so on.
const BLOCK: usize = 32;
/// Rows of words that these are at most.
const LINES: usize = 8;
/// Columns of the widest register.
const WIDEST: usize = 16;

/// Rows of integers, as a product with codes takes them.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    /// The rows of codes, from where a block begins.
    rows: [usize; 2],
    /// Zeros before the first integer.
    before: usize,
    /// Whether integers are joined in pairs, the first with the third of four.
    pairs: bool,
    /// Whether codes become bytes that lie together first: those of many rows.
    joins: bool,
    /// What is taken off each code before it is multiplied.
    taken_off: i32,
}

impl Frame {
    /// For some rows of codes, where so many rows of integers are multiplied by them.
    pub(crate) fn new(isa: Isa, codes: &Codes<'_>, rows: Range<usize>, count: usize) -> Self {
        let before = rows.start % BLOCK;
        let joins = match codes.bits {
            // They are bytes, but lie so far apart that a cache holds few of them.
            8 => count >= CODED_MANY_ROWS,
            _ => codes.has_planes() && count >= CODED_FEW_ROWS,
        };
        let with_sign = isa == Isa::NeonDotprod && (joins || codes.bits == 8);
        Self {
            rows: [rows.start - before, rows.end],
            before,
            pairs: takes_pairs(isa, codes.bits),
            joins,
            taken_off: if with_sign { 128 } else { 0 },
        }
    }

    /// What is taken off each code before it is multiplied.
    pub(crate) fn taken_off(&self) -> i32 {
        self.taken_off
    }

    /// Words of a row, all of which are written.
    pub(crate) fn len(&self) -> usize {
        let [start, end] = self.rows;
        (end - start).next_multiple_of(BLOCK) / if self.pairs { 2 } else { 4 }
    }

    /// Writes integers, one for each row of codes.
    pub(crate) fn write(&self, out: &mut [u32], integers: &[i8]) {
        if !self.pairs {
            let bytes: &mut [i8] = bytemuck::cast_slice_mut(out);
            let end = self.before + integers.len();
            bytes[..self.before].fill(0);
            bytes[self.before..end].copy_from_slice(integers);
            bytes[end..].fill(0);
            return;
        }
        let at = |index: usize| {
            let index = index.checked_sub(self.before);
            index.and_then(|index| integers.get(index)).map_or(0, |&x| u32::from(x as i16 as u16))
        };
        for (four, out) in out.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            *out = [0, 1].map(|first| at(4 * four + first) | at(4 * four + first + 2) << 16);
        }
    }
}

/// What [`multiply_codes`] makes of a sum, of each row.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    /// 1 or 2.
    pub(crate) factor: u32,
    /// By row, what is added to a sum of products with codes less what [`Frame::taken_off`] says.
    pub(crate) start: &'a [i32],
}

/// Whether integers are multiplied in pairs.
fn takes_pairs(isa: Isa, bits: usize) -> bool {
    match isa {
        Isa::Baseline => true,
        Isa::Avx2 | Isa::Avx512 => bits == 8,
        _ => false,
    }
}

/// `out[r, n] = (Σ_k x[r, k]·code[k, n]) · factor + start[r]` of some columns; x holds a row of the
/// frame for each row of `out`, so many words apart.
pub(crate) fn multiply_codes(
    isa: Isa,
    out: &mut TileMut<'_, f32>,
    (x, apart): (&[u32], usize),
    frame: Frame,
    codes: &Codes<'_>,
    columns: Range<usize>,
    finish: Finish<'_>,
) {
    let rows = out.row_count();
    // As many columns as leave their sums in the nearest cache.
    let mut of_block = CODED_SUMS / rows_together(rows);
    if rows > MOST_ROWS {
        // And their codes in the next one, from where other rows read them again.
        let bits = if frame.joins { 8 } else { codes.bits };
        let bytes_of_column = (frame.rows[1] - frame.rows[0]) * bits / 8;
        of_block =
            (CODED_BYTES / bytes_of_column.max(1)).clamp(4 * WIDEST, of_block) / WIDEST * WIDEST;
    }
    let mut bytes = Scratch::<u32>::default();
    let mut sums = Scratch::<u32>::new(CODED_SUMS);
    for first in columns.clone().step_by(of_block) {
        let range = first..columns.end.min(first + of_block);
        let stride = range.len().next_multiple_of(WIDEST);
        let (mut codes, mut of_codes, mut rows_of_codes) = (*codes, range.clone(), frame.rows);
        if frame.joins {
            let [start, end] = frame.rows;
            bytes.resize((end - start).div_ceil(4) * range.len());
            codes.write_bytes(isa, start..end, &range, &mut bytes, range.len());
            codes = Codes { words: &bytes, bits: 8, depth: end - start, columns: range.len() };
            (of_codes, rows_of_codes) = (0..range.len(), [0, end - start]);
        }
        let mut row = 0;
        while row < rows {
            let together = rows_together(rows - row);
            let of_rows = row..rows.min(row + together);
            row += together;
            let sums = &mut sums[..together * stride];
            sums.fill(0);
            let lines: [&[u32]; MOST_ROWS] = std::array::from_fn(|r| {
                &x[(of_rows.start + r).min(rows - 1) * apart..][..frame.len()]
            });
            let product = Product {
                codes: &codes,
                rows: rows_of_codes,
                pairs: frame.pairs,
                columns: of_codes.clone(),
                lines,
                sums,
                stride,
            };
            match together {
                1 => add::<1>(isa, product),
                2 => add::<2>(isa, product),
                _ => add::<MOST_ROWS>(isa, product),
            }
            let mut out = out.rows(of_rows.clone());
            let mut out = out.columns(range.start - columns.start..range.end - columns.start);
            let starts = &finish.start[of_rows];
            for ((out, sums), start) in out.rows_mut().zip(sums.chunks(stride)).zip(starts) {
                write(isa, out, sums, finish.factor, *start);
            }
        }
    }
}

/// Some rows and columns of a product.
struct Product<'a> {
    codes: &'a Codes<'a>,
    /// The first of them, with which a block begins, and the end.
    rows: [usize; 2],
    pairs: bool,
    columns: Range<usize>,
    lines: [&'a [u32]; MOST_ROWS],
    /// Rows of sums, `stride` apart, which have room for whole registers.
    sums: &'a mut [u32],
    stride: usize,
}

/// Adds the products of `ROWS` rows to their sums.
fn add<const ROWS: usize>(isa: Isa, product: Product<'_>) {
    assert!(ROWS * product.stride <= product.sums.len(), "too few sums");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: an `Isa` exists only where `detect` saw its features.
    unsafe {
        match (isa, product.pairs) {
            (Isa::Avx512Vnni | Isa::Avx512Bf16, _) => avx512_vnni::<ROWS>(product),
            (Isa::Avx512, true) => avx512_pairs::<ROWS>(product),
            (Isa::Avx512, false) => avx512::<ROWS>(product),
            (Isa::Avx2Vnni, _) => avx2_vnni::<ROWS>(product),
            (Isa::Avx2, true) => avx2_pairs::<ROWS>(product),
            (Isa::Avx2, false) => avx2::<ROWS>(product),
            _ => baseline::<ROWS>(product),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: an `Isa` exists only where `detect` saw its features.
    unsafe {
        match (isa, product.pairs) {
            #[cfg(target_arch = "aarch64")]
            (Isa::NeonDotprod, false) => neon_dotprod::<ROWS>(product),
            #[cfg(target_arch = "aarch64")]
            (Isa::NeonI8mm, false) => neon_i8mm::<ROWS>(product),
            _ => baseline::<ROWS>(product),
        }
    }
}

/// Defines one compiled variant by its instruction set and registers.
macro_rules! variants {
    ($($(#[$meta:meta])* $name:ident = $registers:ident;)*) => {$(
        $(#[$meta])*
        unsafe fn $name<const ROWS: usize>(product: Product<'_>) {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { product.add::<vector::$registers, ROWS>() }
        }
    )*};
}

variants! {
    baseline = BaselineI16;
}

#[cfg(target_arch = "x86_64")]
variants! {
    #[target_feature(enable = "avx2,fma")]
    avx2 = Avx2SmallI8;
    #[target_feature(enable = "avx2,fma")]
    avx2_pairs = Avx2I16;
    #[target_feature(enable = "avx2,fma,avxvnni")]
    avx2_vnni = Avx2I8;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    avx512 = Avx512SmallI8;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    avx512_pairs = Avx512I16;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    avx512_vnni = Avx512I8;
}

#[cfg(target_arch = "aarch64")]
variants! {
    #[target_feature(enable = "dotprod")]
    neon_dotprod = NeonI8;
    #[target_feature(enable = "i8mm")]
    neon_i8mm = NeonU8;
}

impl Product<'_> {
    /// Adds all planes.
    ///
    /// # Safety
    ///
    /// The CPU has the instruction set of `D`; there are sums for so many rows.
    #[inline(always)]
    unsafe fn add<D: CodeIsa, const ROWS: usize>(mut self) {
        let all: Vec<Plane> = planes(self.codes.bits, self.codes.depth).collect();
        for (index, plane) in all.iter().enumerate().rev() {
            let above = all.get(index + 1).map_or(0, |above| above.shift - plane.shift);
            if above > 0 {
                self.sums.iter_mut().for_each(|sum| *sum <<= above);
            }
            // SAFETY: as this function's.
            unsafe {
                match plane.width {
                    8 => self.add_plane::<D, ROWS, 8>(plane),
                    4 => self.add_plane::<D, ROWS, 4>(plane),
                    2 => self.add_plane::<D, ROWS, 2>(plane),
                    _ => self.add_plane::<D, ROWS, 1>(plane),
                }
            }
        }
        if ROWS > 1 && D::ALTERNATES {
            for rows in self.sums.chunks_exact_mut(2 * self.stride) {
                let (first, second) = rows.split_at_mut(self.stride);
                let chunks = first.chunks_exact_mut(D::LEN).zip(second.chunks_exact_mut(D::LEN));
                for (first, second) in chunks {
                    // SAFETY: both have as many sums as a register; the caller has the instruction set.
                    unsafe {
                        let of_rows =
                            D::by_row([D::sums(first.as_ptr()), D::sums(second.as_ptr())]);
                        D::save(of_rows[0], first.as_mut_ptr());
                        D::save(of_rows[1], second.as_mut_ptr());
                    }
                }
            }
        }
    }

    /// Adds a plane of that width.
    ///
    /// # Safety
    ///
    /// As [`add`](Self::add).
    #[inline(always)]
    unsafe fn add_plane<D: CodeIsa, const ROWS: usize, const WIDTH: usize>(
        &mut self,
        plane: &Plane,
    ) {
        const { assert!(ROWS <= MOST_ROWS && D::LEN <= WIDEST && WIDTH <= LINES) };
        let [start, end] = self.rows;
        let words =
            plane.first + start / (BLOCK / WIDTH)..plane.first + end.div_ceil(BLOCK / WIDTH);
        let count = self.columns.len();
        let sums = self.sums.as_mut_ptr();
        let of_block = if D::PAIRS { BLOCK / 2 } else { BLOCK / 4 };
        for (block, first) in words.clone().step_by(WIDTH).enumerate() {
            let mut x = [[[0; 2]; ROWS]; BLOCK / 4];
            for (r, line) in self.lines[..ROWS].iter().enumerate() {
                let words = &line[block * of_block..][..of_block];
                for (x, words) in x.iter_mut().zip(words.as_chunks().0) {
                    x[r] = *words;
                }
            }
            // Where lines are missing, any will do: x is zero there.
            let lines: [&[u32]; WIDTH] = std::array::from_fn(|line| {
                let start = (first + line).min(words.end - 1) * self.codes.columns;
                &self.codes.words[start + self.columns.start..][..count]
            });
            let mut rest = [[0; WIDEST]; WIDTH];
            for column in (0..count).step_by(D::LEN) {
                let mut at = lines.map(|line| line.as_ptr().wrapping_add(column));
                if column + D::LEN > count {
                    for ((rest, line), at) in rest.iter_mut().zip(lines).zip(&mut at) {
                        rest[..count - column].copy_from_slice(&line[column..]);
                        *at = rest.as_ptr();
                    }
                }
                // SAFETY: as many words are there in each line, and sums by the assertion of the caller,
                // whose rows have room for whole registers; it has the instruction set.
                unsafe { add_lines::<D, ROWS, WIDTH>(sums.add(column), self.stride, at, &x) };
            }
        }
    }
}

/// Adds the products of a register of each line to a register of sums of each row.
///
/// # Safety
///
/// The words exist; the CPU has the instruction set of `D`.
#[inline(always)]
unsafe fn add_lines<D: CodeIsa, const ROWS: usize, const WIDTH: usize>(
    sums: *mut u32,
    stride: usize,
    lines: [*const u32; WIDTH],
    x: &[[[u32; 2]; ROWS]; BLOCK / 4],
) {
    let mask = u32::MAX / 255 * ((1u32 << WIDTH) - 1);
    let mut x = x.iter();
    // SAFETY: as this function's.
    unsafe {
        let mut of_rows: [D::Sums; ROWS] = std::array::from_fn(|r| D::sums(sums.add(r * stride)));
        let mut add = |words: [D::Words; 2]| {
            D::add_two(&mut of_rows, words, x.next().expect("no more words than a block has"));
        };
        if WIDTH == 8 && !D::PAIRS {
            for lines in lines.as_chunks::<2>().0 {
                add(lines.map(|line| D::bytes(D::words(line))));
            }
        } else {
            for line in lines {
                let words = D::words(line);
                let fields =
                    |shifts: [u32; 2], mask| shifts.map(|shift| D::field(words, shift, mask));
                if D::PAIRS {
                    for shift in (0..8).step_by(WIDTH) {
                        add(fields([shift, shift + 8], mask & 0x00FF_00FF));
                    }
                } else {
                    for shift in (0..8).step_by(2 * WIDTH) {
                        add(fields([shift, shift + WIDTH as u32], mask));
                    }
                }
            }
        }
        for (r, of_row) in of_rows.into_iter().enumerate() {
            D::save(of_row, sums.add(r * stride));
        }
    }
}

#[inline(always)]
fn write_body(out: &mut [f32], sums: &[u32], factor: u32, start: i32) {
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = sum.wrapping_mul(factor).wrapping_add(start as u32) as i32 as f32;
    }
}

for_each_isa! {
    /// Writes `sum · factor + start`.
    fn write(out: &mut [f32], sums: &[u32], factor: u32, start: i32) = write_body
}
