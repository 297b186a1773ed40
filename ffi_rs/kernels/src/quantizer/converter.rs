//! Conversion of many values at a time, and of their gradients.
//!
//! Codes are those of the division `v / step`. The reciprocal of the step gives the same ones unless
//! the ratio is near a tie; then a few values are divided.

use super::{
    Bits, Columns, Quantizer, code_and_distance, code_of_bits, integer, integer_of_bits_sum, within,
};
use crate::simd::for_each_level;

/// Values of a row that are on their way through the chain at a time.
pub(crate) const PIECE: usize = 256;
/// Values that are converted again if one of them is near a tie.
const BLOCK: usize = 64;
/// The same, of what is left of a row.
const LANES: usize = 16;

/// One quantizer, or one for each column.
#[derive(Clone, Copy)]
pub(crate) enum Converter<'a> {
    One(Quantizer, f32),
    Each(Columns<'a>),
}

impl<'a> Converter<'a> {
    /// The quantizer of these bits for all columns.
    pub(crate) fn one(bits: Bits, full_scale: f32) -> Self {
        let quantizer = bits.quantizer(full_scale);
        let tie = if quantizer.has_reciprocal() { bits.tie() } else { -1.0 };
        Self::One(quantizer, tie)
    }

    /// The same for some of the columns.
    #[inline(always)]
    pub(crate) fn part(&self, start: usize, count: usize) -> Self {
        match self {
            Self::One(..) => *self,
            Self::Each(columns) => Self::Each(columns.part(start..start + count)),
        }
    }

    /// The quantizer of one column.
    #[inline(always)]
    pub(crate) fn at(&self, column: usize) -> Quantizer {
        match self {
            Self::One(quantizer, _) => *quantizer,
            Self::Each(columns) => columns.at(column),
        }
    }
}

/// What is written of a converted value.
pub(crate) trait Target {
    type Number: Copy;

    /// Of the code in the bits of its sum with the magic number, of `v`.
    fn of_bits(bits: u32, v: f32, step: f32) -> Self::Number;

    /// Of a code.
    fn of_code(code: f32, step: f32) -> Self::Number;
}

/// The levels nearest to the values.
struct Levels;

impl Target for Levels {
    type Number = f32;

    #[inline(always)]
    fn of_bits(bits: u32, v: f32, step: f32) -> f32 {
        code_of_bits(bits, v) * step
    }

    #[inline(always)]
    fn of_code(code: f32, step: f32) -> f32 {
        code * step
    }
}

/// Their codes.
pub(crate) struct Codes;

impl Target for Codes {
    type Number = f32;

    #[inline(always)]
    fn of_bits(bits: u32, v: f32, _: f32) -> f32 {
        code_of_bits(bits, v)
    }

    #[inline(always)]
    fn of_code(code: f32, _: f32) -> f32 {
        code
    }
}

/// What a conversion found out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Converted {
    /// The sum of the codes.
    pub(crate) sum: i32,
    /// Whether a value may be beyond its full scale, or not finite.
    pub(crate) clipped: bool,
}

impl Converted {
    #[inline(always)]
    pub(crate) fn add(&mut self, other: Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.clipped |= other.clipped;
    }
}

/// Converts `values`; of one that is not finite, what is written has no meaning.
#[inline(always)]
pub(crate) fn convert_to<T: Target>(
    out: &mut [T::Number],
    values: &[f32],
    converter: &Converter<'_>,
) -> Converted {
    let mut converted = Converted::default();
    let whole = out.len() - out.len() % BLOCK;
    let (blocks, rest) = out.split_at_mut(whole);
    let (block_values, rest_values) = values.split_at(whole);
    for (block, (out, values)) in
        blocks.chunks_exact_mut(BLOCK).zip(block_values.chunks_exact(BLOCK)).enumerate()
    {
        converted.add(convert_block::<T, BLOCK>(out, values, converter, block * BLOCK));
    }
    for (block, (out, values)) in rest.chunks_mut(LANES).zip(rest_values.chunks(LANES)).enumerate()
    {
        let start = whole + block * LANES;
        converted.add(convert_block::<T, LANES>(out, values, converter, start));
    }
    converted
}

/// Converts at most `WIDTH` values, the first of them with the quantizer of column `start`.
#[inline(always)]
fn convert_block<T: Target, const WIDTH: usize>(
    out: &mut [T::Number],
    values: &[f32],
    converter: &Converter<'_>,
    start: usize,
) -> Converted {
    match converter {
        Converter::One(quantizer, tie) if *tie >= 0.0 => {
            let Quantizer { full_scale, divisor, inverse, step, .. } = *quantizer;
            let scales = |_| [full_scale, divisor, inverse, step];
            convert_padded::<T, WIDTH>(out, values, *tie, scales)
        }
        Converter::Each(columns) if columns.tie >= 0.0 => {
            let Columns { full_scale, divisor, inverse, step, tie, .. } =
                columns.part(start..start + out.len());
            if let (Some(full_scale), Some(divisor), Some(inverse), Some(step)) = (
                full_scale.first_chunk::<WIDTH>(),
                divisor.first_chunk::<WIDTH>(),
                inverse.first_chunk::<WIDTH>(),
                step.first_chunk::<WIDTH>(),
            ) {
                convert_padded::<T, WIDTH>(out, values, tie, |index| {
                    [full_scale[index], divisor[index], inverse[index], step[index]]
                })
            } else {
                let scales = [full_scale, divisor, inverse, step];
                let [full_scale, divisor, inverse, step] =
                    scales.map(|scales| padded::<WIDTH>(scales, 1.0));
                convert_padded::<T, WIDTH>(out, values, tie, |index| {
                    [full_scale[index], divisor[index], inverse[index], step[index]]
                })
            }
        }
        _ => convert_each::<T>(out, values, converter, start),
    }
}

/// Converts values one by one.
fn convert_each<T: Target>(
    out: &mut [T::Number],
    values: &[f32],
    converter: &Converter<'_>,
    start: usize,
) -> Converted {
    let mut converted = Converted::default();
    for (index, (out, value)) in out.iter_mut().zip(values).enumerate() {
        let quantizer = converter.at(start + index);
        let code = quantizer.code(*value);
        let clipped = !(value.is_finite() && value.abs() <= quantizer.full_scale);
        converted.add(Converted { sum: integer(code), clipped });
        *out = T::of_code(code, quantizer.step);
    }
    converted
}

/// Converts at most `WIDTH` values; `scales` gives the full scale, the divisor, its reciprocal and
/// the step of each.
#[inline(always)]
fn convert_padded<T: Target, const WIDTH: usize>(
    out: &mut [T::Number],
    values: &[f32],
    tie: f32,
    scales: impl Fn(usize) -> [f32; 4],
) -> Converted {
    if let (Some(out), Some(values)) = (out.first_chunk_mut(), values.first_chunk()) {
        return convert_whole::<T, WIDTH>(out, values, tie, scales);
    }
    let mut whole = [T::of_code(0.0, 0.0); WIDTH];
    let converted = convert_whole::<T, WIDTH>(&mut whole, &padded(values, 0.0), tie, scales);
    out.copy_from_slice(&whole[..out.len()]);
    converted
}

#[inline(always)]
fn convert_whole<T: Target, const WIDTH: usize>(
    out: &mut [T::Number; WIDTH],
    values: &[f32; WIDTH],
    tie: f32,
    scales: impl Fn(usize) -> [f32; 4],
) -> Converted {
    let by_inverse = |v: f32, [_, _, inverse, _]: [f32; 4]| v * inverse;
    let (farthest, converted) = find_codes::<T, WIDTH>(out, values, &scales, by_inverse);
    if f32::from_bits(farthest) < tie {
        return converted;
    }
    find_codes::<T, WIDTH>(out, values, scales, |v, [_, divisor, _, _]| v / divisor).1
}

/// Converts values whose ratios to their steps `ratio` gives, and returns the bits of the largest
/// distance of one from its code.
#[inline(always)]
fn find_codes<T: Target, const WIDTH: usize>(
    out: &mut [T::Number; WIDTH],
    values: &[f32; WIDTH],
    scales: impl Fn(usize) -> [f32; 4],
    ratio: impl Fn(f32, [f32; 4]) -> f32,
) -> (u32, Converted) {
    // Sums and maxima of integers, whose order does not matter, are what compilers vectorize.
    let (mut farthest, mut sum, mut beyond) = (0, 0u32, 0);
    for index in 0..WIDTH {
        let v = values[index];
        let scales = scales(index);
        let near = within(v, scales[0]);
        beyond |= near.to_bits() ^ v.to_bits();
        let (bits, distance) = code_and_distance(ratio(near, scales));
        farthest = farthest.max(distance);
        sum = sum.wrapping_add(bits);
        out[index] = T::of_bits(bits, v, scales[3]);
    }
    (farthest, Converted { sum: integer_of_bits_sum(sum, WIDTH), clipped: beyond != 0 })
}

/// `values`, and as many times `rest` as are missing.
#[inline(always)]
pub(crate) fn padded<const WIDTH: usize>(values: &[f32], rest: f32) -> [f32; WIDTH] {
    <[f32; WIDTH]>::try_from(values).unwrap_or_else(|_| {
        let mut padded = [rest; WIDTH];
        padded[..values.len()].copy_from_slice(values);
        padded
    })
}

#[inline(always)]
pub(crate) fn convert_body(
    out: &mut [f32],
    values: &[f32],
    converter: &Converter<'_>,
    clipped: &mut bool,
) {
    for (piece, (out, values)) in out.chunks_mut(PIECE).zip(values.chunks(PIECE)).enumerate() {
        let converter = converter.part(piece * PIECE, out.len());
        let here = convert_to::<Levels>(out, values, &converter).clipped;
        if here {
            mask_invalid(out, values);
        }
        *clipped |= here;
    }
}

/// Makes what came of values that are not finite NaN.
#[inline(always)]
pub(crate) fn mask_invalid(out: &mut [f32], values: &[f32]) {
    for (out, value) in out.iter_mut().zip(values) {
        *out = if value.is_finite() { *out } else { f32::NAN };
    }
}

for_each_level! {
    /// Writes the levels nearest to `values`; sets `clipped` if not all of them are within their
    /// full scales.
    pub(crate) fn convert(
        out: &mut [f32],
        values: &[f32],
        converter: &Converter<'_>,
        clipped: &mut bool,
    ) = convert_body
}

impl Quantizer {
    /// Whether the gradient passes at `v`, as 1 or 0; NaN where there is none.
    #[inline(always)]
    fn pass(&self, v: f32) -> f32 {
        let invalid = !v.is_finite() || self.step.is_nan();
        let inside = if v.abs() <= self.full_scale { 1.0 } else { 0.0 };
        if invalid { f32::NAN } else { inside }
    }
}

/// Takes the gradient of `values` through a converter, straight through the rounding:
/// `∂value/∂v = [|v| ≤ full_scale]`.
#[inline(always)]
pub(crate) fn mask(gradient: &mut [f32], values: &[f32], converter: &Converter<'_>) {
    let values = &values[..gradient.len()];
    match converter {
        Converter::One(quantizer, _) => {
            for (gradient, v) in gradient.iter_mut().zip(values) {
                *gradient *= quantizer.pass(*v);
            }
        }
        Converter::Each(columns) => {
            let columns = columns.part(0..gradient.len());
            for (index, (gradient, v)) in gradient.iter_mut().zip(values).enumerate() {
                *gradient *= columns.at(index).pass(*v);
            }
        }
    }
}

/// The same for at most [`PIECE`] `values`, and adds the products with the slope by the full scale
/// to `by_full_scale`:
///
/// ```text
/// ∂value/∂full_scale = (code - v/step)/Q within the full scale, sign v beyond it
/// ```
#[inline(always)]
pub(crate) fn through(
    gradient: &mut [f32],
    by_full_scale: &mut [f32],
    values: &[f32],
    converter: &Converter<'_>,
) {
    let mut codes = [0.0; PIECE];
    let codes = &mut codes[..values.len()];
    convert_to::<Codes>(codes, values, converter);
    match converter {
        Converter::One(quantizer, _) => {
            through_codes(gradient, by_full_scale, values, codes, |_| *quantizer);
        }
        Converter::Each(columns) => {
            let columns = columns.part(0..values.len());
            through_codes(gradient, by_full_scale, values, codes, |index| columns.at(index));
        }
    }
}

#[inline(always)]
fn through_codes(
    gradient: &mut [f32],
    by_full_scale: &mut [f32],
    values: &[f32],
    codes: &[f32],
    at: impl Fn(usize) -> Quantizer,
) {
    let count = codes.len();
    let (gradient, by_full_scale) = (&mut gradient[..count], &mut by_full_scale[..count]);
    for (index, (v, code)) in values.iter().copied().zip(codes).enumerate() {
        let quantizer = at(index);
        let inside = v.abs() <= quantizer.full_scale;
        let sign = if v < 0.0 { -1.0 } else { 1.0 };
        let rounded = (code - v * quantizer.inverse) * (1.0 / quantizer.largest);
        let slope = if inside && !quantizer.one_bit { rounded } else { sign };
        let pass = quantizer.pass(v);
        by_full_scale[index] += gradient[index] * (slope + 0.0 * pass);
        gradient[index] *= pass;
    }
}
