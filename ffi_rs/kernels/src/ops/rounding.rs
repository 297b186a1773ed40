//! Unbiased rounding of gradients to 8-bit codes.
//!
//! ```text
//! scale = max |t| / 127        code = clamp(⌊t / scale + u⌋, -127, 127)        E[code · scale] = t
//! ```
//!
//! where u is uniform on the 65536 midpoints of (0, 1).

use crate::number::{Number, OFFSET};
use crate::quantizer::integer;
use crate::simd::for_each_level;
use crate::words::{MAX_GROUP, join};

const LARGEST: f32 = 127.0;

/// The scale of numbers whose largest magnitude has the bits `peak`: what one code stands for, and
/// its reciprocal. (NaN, 0) if a number is not finite.
pub(super) fn scale_of(peak: u32) -> (f32, f32) {
    let peak = f32::from_bits(peak);
    let scale = peak / LARGEST;
    if !peak.is_finite() {
        (f32::NAN, 0.0)
    } else if scale < f32::MIN_POSITIVE {
        // What is smaller is flushed to 0, and has no reciprocal.
        (0.0, 0.0)
    } else {
        (scale, LARGEST / peak)
    }
}

/// The bits of |v|, which compare as the magnitudes do; those of NaN are the largest.
#[inline(always)]
fn magnitude(v: f32) -> u32 {
    v.to_bits() & 0x7FFF_FFFF
}

#[inline(always)]
fn raise_body(peak: &mut u32, peaks: &mut [u32], dz: &[f32], by_column: &[f32], by_row: f32) {
    for ((dz, by_column), peaks) in dz.iter().zip(by_column).zip(peaks) {
        *peak = (*peak).max(magnitude(dz * by_column));
        *peaks = (*peaks).max(magnitude(dz * by_row));
    }
}

for_each_level! {
    /// Raises `peak` to the largest magnitude of `dz · by_column`, and each of `peaks` to that of
    /// `dz · by_row`.
    pub(super) fn raise(
        peak: &mut u32,
        peaks: &mut [u32],
        dz: &[f32],
        by_column: &[f32],
        by_row: f32,
    ) = raise_body
}

#[inline(always)]
fn raise_all_body(peaks: &mut [u32], others: &[u32]) {
    for (peak, other) in peaks.iter_mut().zip(others) {
        *peak = (*peak).max(*other);
    }
}

for_each_level! {
    /// Raises each of `peaks` to another peak.
    pub(super) fn raise_all(peaks: &mut [u32], others: &[u32]) = raise_all_body
}

#[inline(always)]
fn round(t: f32, inverse: f32, bits: u16) -> f32 {
    let u = (f32::from(bits) + 0.5) * (1.0 / 65536.0);
    (t * inverse + u).floor().clamp(-LARGEST, LARGEST)
}

/// A row of dz, and what rounds it.
pub(super) struct Row<'a> {
    pub(super) dz: &'a [f32],
    /// By column, what dz is multiplied by.
    pub(super) factors: &'a [f32],
    /// The reciprocal of the scale.
    pub(super) inverse: f32,
    /// Random words, whose upper bits are used.
    pub(super) random: &'a [u32],
}

#[inline(always)]
fn round_row_body(words: &mut [u32], rest: &mut [u16], row: &Row<'_>, number: Number) {
    let count = rest.len();
    let (dz, factors, random) = (&row.dz[..count], &row.factors[..count], &row.random[..count]);
    let code =
        |index: usize| round(dz[index] * factors[index], row.inverse, (random[index] >> 16) as u16);
    // What is behind the last number must not be looked at: 0 times anything finite.
    if let Some(last) = words.last_mut() {
        *last = 0;
    }
    match number {
        Number::Byte => {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(words);
            for (index, byte) in bytes[..count].iter_mut().enumerate() {
                *byte = (integer(code(index)) + OFFSET) as u8;
            }
        }
        Number::I16 => {
            let halves: &mut [i16] = bytemuck::cast_slice_mut(words);
            for (index, half) in halves[..count].iter_mut().enumerate() {
                *half = integer(code(index)) as i16;
            }
        }
        Number::F32 | Number::Bf16 => {
            let numbers: &mut [f32] = bytemuck::cast_slice_mut(words);
            for (index, number) in numbers[..count].iter_mut().enumerate() {
                *number = code(index);
            }
        }
    }
    for (rest, random) in rest.iter_mut().zip(random) {
        *rest = *random as u16;
    }
}

for_each_level! {
    /// Rounds a row by the upper bits of its random words, and leaves the lower in `rest`; writes
    /// the codes as words of a left factor.
    pub(super) fn round_row(
        words: &mut [u32],
        rest: &mut [u16],
        row: &Row<'_>,
        number: Number,
    ) = round_row_body
}

/// Rows of dz that follow each other along the depth of dw, as many as a word holds; the others are
/// not looked at.
pub(super) struct Rows<'a> {
    pub(super) dz: [&'a [f32]; MAX_GROUP],
    /// By row, what dz is multiplied by.
    pub(super) factors: [f32; MAX_GROUP],
    pub(super) bits: [&'a [u16]; MAX_GROUP],
}

#[inline(always)]
fn round_rows_body(
    words: &mut [u32],
    sums: &mut [i32],
    rows: &Rows<'_>,
    inverse: &[f32],
    number: Number,
) {
    match number.group() {
        4 => round_rows_by::<4>(words, sums, rows, inverse),
        2 => round_rows_by::<2>(words, sums, rows, inverse),
        _ => {
            let bits = rows.bits[0].iter().zip(inverse);
            for ((word, dz), (bits, inverse)) in words.iter_mut().zip(rows.dz[0]).zip(bits) {
                *word = round(dz * rows.factors[0], *inverse, *bits).to_bits();
            }
        }
    }
}

#[inline(always)]
fn round_rows_by<const GROUP: usize>(
    words: &mut [u32],
    sums: &mut [i32],
    rows: &Rows<'_>,
    inverse: &[f32],
) {
    let count = words.len();
    let (sums, inverse) = (&mut sums[..count], &inverse[..count]);
    let dz: [&[f32]; GROUP] = std::array::from_fn(|g| &rows.dz[g][..count]);
    let bits: [&[u16]; GROUP] = std::array::from_fn(|g| &rows.bits[g][..count]);
    for index in 0..count {
        let mut codes = [0; GROUP];
        for (g, code) in codes.iter_mut().enumerate() {
            let t = dz[g][index] * rows.factors[g];
            *code = integer(round(t, inverse[index], bits[g][index])) as u32;
        }
        words[index] = join(codes);
        let sum = codes.into_iter().fold(0, u32::wrapping_add);
        sums[index] = sums[index].wrapping_add(sum as i32);
    }
}

for_each_level! {
    /// Writes a row of words of the codes of `rows`, each column of its own scale, and adds them to
    /// the `sums` of the columns if they are integers.
    pub(super) fn round_rows(
        words: &mut [u32],
        sums: &mut [i32],
        rows: &Rows<'_>,
        inverse: &[f32],
        number: Number,
    ) = round_rows_body
}
