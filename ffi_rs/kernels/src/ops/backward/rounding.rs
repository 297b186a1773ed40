//! Unbiased rounding of gradients to 8-bit codes.
//!
//! ```text
//! scale = max |t| / 127        code = clamp(⌊t / scale + u⌋, -127, 127)        E[code · scale] = t
//! ```
//!
//! where u is uniform on the 65536 midpoints of (0, 1).

use crate::isa::for_each_isa;
use crate::noise::SEEDED;
use crate::pack::{MAX_VALUES_PER_WORD, join};
use crate::packing::{OFFSET, Packing};
use crate::quantizer::integer;

const LARGEST: f32 = 127.0;

/// The scale of numbers whose largest magnitude has the bits `peak`: what one code stands for, and
/// its reciprocal. (NaN, 0) if a number is not finite.
#[inline(always)]
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

/// The bits of the largest magnitude of `dz · by_column`; raises each of `peaks` to that of
/// `dz · by_row`.
#[inline(always)]
fn raise(peaks: &mut [u32], dz: &[f32], by_column: &[f32], by_row: f32) -> u32 {
    let mut peak = 0;
    for ((dz, by_column), peaks) in dz.iter().zip(by_column).zip(peaks) {
        peak = peak.max(magnitude(dz * by_column));
        *peaks = (*peaks).max(magnitude(dz * by_row));
    }
    peak
}

#[inline(always)]
fn raise_all_body(peaks: &mut [u32], others: &[u32]) {
    for (peak, other) in peaks.iter_mut().zip(others) {
        *peak = (*peak).max(*other);
    }
}

for_each_isa! {
    /// Raises each of `peaks` to another peak.
    pub(super) fn raise_all(peaks: &mut [u32], others: &[u32]) = raise_all_body
}

#[inline(always)]
fn round(t: f32, inverse: f32, bits: u16) -> f32 {
    let u = (f32::from(bits) + 0.5) * (1.0 / 65536.0);
    (t * inverse + u).floor().clamp(-LARGEST, LARGEST)
}

/// Some rows of dz, and what rounds them.
pub(super) struct Upstream<'a> {
    pub(super) dz: &'a [f32],
    /// What dz is multiplied by for dx, by column.
    pub(super) by_column: &'a [f32],
    /// What it is multiplied by for dw, by row.
    pub(super) by_row: &'a [f32],
    pub(super) random: &'a [u32],
}

/// Where rounded rows of dz go.
pub(super) struct Rounded<'a> {
    /// Codes as words of an lhs.
    pub(super) packed: &'a mut [u32],
    /// Of each row, what a code stands for.
    pub(super) scales: &'a mut [f32],
    /// The lower halves of the random words.
    pub(super) rest: &'a mut [u16],
    /// The bits of the largest magnitude of each column for dw.
    pub(super) peaks: &'a mut [u32],
}

#[inline(always)]
fn round_by_row_body(out: Rounded<'_>, upstream: &Upstream<'_>, packing: Packing) {
    let columns = upstream.by_column.len();
    let Rounded { packed, scales, rest, peaks } = out;
    if columns == 0 {
        return scales.fill(0.0);
    }
    peaks.fill(0);
    let rows = || upstream.dz.chunks_exact(columns);
    let mut inverses = [0.0; SEEDED];
    let of_rows = scales.iter_mut().zip(&mut inverses).zip(rows().zip(upstream.by_row));
    for ((scale, inverse), (dz, by_row)) in of_rows {
        (*scale, *inverse) = scale_of(raise(peaks, dz, upstream.by_column, *by_row));
    }
    let random = upstream.random.chunks_exact(columns);
    let from = rows().zip(random).zip(inverses);
    let to =
        packed.chunks_exact_mut(packing.packed_len(columns)).zip(rest.chunks_exact_mut(columns));
    for (((dz, random), inverse), (packed, rest)) in from.zip(to) {
        let row = Row { dz, factors: upstream.by_column, inverse, random };
        round_row(packed, rest, &row, packing);
    }
}

for_each_isa! {
    /// Rounds at most [`SEEDED`] rows, each of a scale of its own, by the upper halves of random words.
    pub(super) fn round_by_row(
        out: Rounded<'_>,
        upstream: &Upstream<'_>,
        packing: Packing,
    ) = round_by_row_body
}

/// A row of dz, and what rounds it.
struct Row<'a> {
    dz: &'a [f32],
    factors: &'a [f32],
    /// The reciprocal of the scale.
    inverse: f32,
    random: &'a [u32],
}

#[inline(always)]
fn round_row(packed: &mut [u32], rest: &mut [u16], row: &Row<'_>, packing: Packing) {
    let count = rest.len();
    let (dz, factors, random) = (&row.dz[..count], &row.factors[..count], &row.random[..count]);
    let codes = dz
        .iter()
        .zip(factors)
        .zip(random)
        .map(|((dz, factor), random)| round(dz * factor, row.inverse, (random >> 16) as u16));
    // What is behind the last number must not be looked at: 0 times anything finite.
    if let Some(last) = packed.last_mut() {
        *last = 0;
    }
    match packing {
        Packing::I8 => {
            let bytes: &mut [u8] = &mut bytemuck::cast_slice_mut(packed)[..count];
            for (byte, code) in bytes.iter_mut().zip(codes) {
                *byte = (integer(code) + OFFSET) as u8;
            }
        }
        Packing::I16 => {
            let halves: &mut [i16] = &mut bytemuck::cast_slice_mut(packed)[..count];
            for (half, code) in halves.iter_mut().zip(codes) {
                *half = integer(code) as i16;
            }
        }
        Packing::F32 | Packing::Bf16 => {
            let numbers: &mut [f32] = &mut bytemuck::cast_slice_mut(packed)[..count];
            for (packing, code) in numbers.iter_mut().zip(codes) {
                *packing = code;
            }
        }
    }
    for (rest, random) in rest.iter_mut().zip(random) {
        *rest = *random as u16;
    }
}

/// Rows of dz that follow each other along the depth of dw, as many as a word holds; the others are
/// not looked at.
pub(super) struct Rows<'a> {
    pub(super) dz: [&'a [f32]; MAX_VALUES_PER_WORD],
    /// By row, what dz is multiplied by.
    pub(super) factors: [f32; MAX_VALUES_PER_WORD],
    pub(super) bits: [&'a [u16]; MAX_VALUES_PER_WORD],
}

#[inline(always)]
fn round_rows_body(
    packed: &mut [u32],
    sums: &mut [i32],
    rows: &Rows<'_>,
    inverse: &[f32],
    packing: Packing,
) {
    match packing.values_per_word() {
        4 => round_rows_by::<4>(packed, sums, rows, inverse),
        2 => round_rows_by::<2>(packed, sums, rows, inverse),
        _ => {
            let bits = rows.bits[0].iter().zip(inverse);
            for ((word, dz), (bits, inverse)) in packed.iter_mut().zip(rows.dz[0]).zip(bits) {
                *word = round(dz * rows.factors[0], *inverse, *bits).to_bits();
            }
        }
    }
}

#[inline(always)]
fn round_rows_by<const GROUP: usize>(
    packed: &mut [u32],
    sums: &mut [i32],
    rows: &Rows<'_>,
    inverse: &[f32],
) {
    let count = packed.len();
    let (sums, inverse) = (&mut sums[..count], &inverse[..count]);
    let dz: [&[f32]; GROUP] = std::array::from_fn(|g| &rows.dz[g][..count]);
    let bits: [&[u16]; GROUP] = std::array::from_fn(|g| &rows.bits[g][..count]);
    for index in 0..count {
        let mut codes = [0; GROUP];
        for (g, code) in codes.iter_mut().enumerate() {
            let t = dz[g][index] * rows.factors[g];
            *code = integer(round(t, inverse[index], bits[g][index])) as u32;
        }
        packed[index] = join(codes);
        let sum = codes.into_iter().fold(0, u32::wrapping_add);
        sums[index] = sums[index].wrapping_add(sum as i32);
    }
}

for_each_isa! {
    /// Writes a row of words of the codes of `rows`, each column of its own scale, and adds them to
    /// the `sums` of the columns if they are integers.
    pub(super) fn round_rows(
        packed: &mut [u32],
        sums: &mut [i32],
        rows: &Rows<'_>,
        inverse: &[f32],
        packing: Packing,
    ) = round_rows_body
}
