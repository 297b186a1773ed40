//! Unbiased rounding of gradients to 8-bit codes.
//!
//! ```text
//! scale = max |t| / 127        code = clamp(⌊t / scale + u⌋, -127, 127)        E[code · scale] = t
//! ```
//!
//! where u is uniform on the 65536 midpoints of (0, 1).

use crate::gemm::Number;
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
fn scale_and_raise_body(
    out: &mut [f32],
    peak: &mut u32,
    peaks: &mut [u32],
    dz: &[f32],
    by_column: &[f32],
    by_row: f32,
) {
    let scaled = out.iter_mut().zip(dz).zip(by_column);
    for (((out, dz), by_column), peaks) in scaled.zip(peaks) {
        *out = dz * by_column;
        *peak = (*peak).max(magnitude(*out));
        *peaks = (*peaks).max(magnitude(dz * by_row));
    }
}

for_each_level! {
    /// `out = dz · by_column`, whose largest magnitude raises `peak`; raises each of `peaks` to the
    /// magnitude of `dz · by_row`.
    pub(super) fn scale_and_raise(
        out: &mut [f32],
        peak: &mut u32,
        peaks: &mut [u32],
        dz: &[f32],
        by_column: &[f32],
        by_row: f32,
    ) = scale_and_raise_body
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

#[inline(always)]
fn round_row_body(values: &mut [f32], inverse: f32, words: &[u32], rest: &mut [u16]) {
    for ((value, word), rest) in values.iter_mut().zip(words).zip(rest) {
        *value = round(*value, inverse, (word >> 16) as u16);
        *rest = *word as u16;
    }
}

for_each_level! {
    /// Rounds `values` of one scale by the upper bits of `words`, and leaves the lower in `rest`.
    pub(super) fn round_row(
        values: &mut [f32],
        inverse: f32,
        words: &[u32],
        rest: &mut [u16],
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
