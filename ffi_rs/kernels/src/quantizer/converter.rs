//! Conversion of many values at a time, and of their gradients.
//!
//! Codes are those of the division `v / step`. The reciprocal of the step gives the same ones unless
//! the ratio is near a tie, which a pass over the values finds out; only then is divided.

use super::{Bits, Columns, Quantizer, code_and_distance, code_of_bits, within};
use crate::simd::for_each_level;

/// Values that are converted at a time: what a second, exact pass may have to repeat.
pub(crate) const PIECE: usize = 256;
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
        let tie = if quantizer.has_reciprocal() { bits.tie() } else { 0.0 };
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

/// Writes the codes of `values`, or the levels nearest to them, and returns whether the reciprocals
/// gave all of them; `lanes` gives [`LANES`] full scales, reciprocals and steps. Sets `clipped` if a
/// value is beyond its full scale; what is written of one that is not finite has no meaning.
#[inline(always)]
fn by_reciprocals<const LEVELS: bool>(
    out: &mut [f32],
    values: &[f32],
    tie: f32,
    lanes: impl Fn(usize) -> [[f32; LANES]; 3],
    at: impl Fn(usize) -> Quantizer,
    clipped: &mut bool,
) -> bool {
    if tie == 0.0 {
        return false;
    }
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    let (values, rest_values) = values.as_chunks::<LANES>();
    let (mut farthest, mut beyond) = ([0; LANES], [0; LANES]);
    for (chunk, (out, values)) in chunks.iter_mut().zip(values).enumerate() {
        let [full_scale, inverse, step] = lanes(chunk);
        for lane in 0..LANES {
            let v = values[lane];
            let near = within(v, full_scale[lane]);
            beyond[lane] |= u32::from(near != v);
            let (bits, distance) = code_and_distance(near * inverse[lane]);
            farthest[lane] = farthest[lane].max(distance);
            let code = code_of_bits(bits, v);
            out[lane] = if LEVELS { code * step[lane] } else { code };
        }
    }
    *clipped |= beyond.into_iter().fold(0, |all, one| all | one) != 0;
    for (index, (out, value)) in rest.iter_mut().zip(rest_values).enumerate() {
        let quantizer = at(values.len() * LANES + index);
        *out = quantizer.code_or_level::<LEVELS>(*value, clipped);
    }
    f32::from_bits(farthest.into_iter().fold(0, u32::max)) < tie
}

impl Quantizer {
    /// The level nearest to `v` or its code, of no meaning if `v` is not finite.
    #[inline(always)]
    fn code_or_level<const LEVEL: bool>(&self, v: f32, clipped: &mut bool) -> f32 {
        let inside = v.is_finite() && v.abs() <= self.full_scale;
        *clipped |= !inside;
        self.code(v) * if LEVEL { self.step } else { 1.0 }
    }
}

/// Writes the codes of at most [`PIECE`] `values`, or the levels nearest to them; sets `clipped`
/// if not all of them are within their full scales.
#[inline(always)]
fn convert_piece<const LEVELS: bool>(
    out: &mut [f32],
    values: &[f32],
    converter: &Converter<'_>,
    clipped: &mut bool,
) {
    let values = &values[..out.len()];
    let sure = match converter {
        Converter::One(quantizer, tie) => {
            let Quantizer { full_scale, inverse, step, .. } = *quantizer;
            let lanes = [[full_scale; LANES], [inverse; LANES], [step; LANES]];
            by_reciprocals::<LEVELS>(out, values, *tie, |_| lanes, |_| *quantizer, clipped)
        }
        Converter::Each(columns) => {
            let columns = columns.part(0..out.len());
            let [full_scale, inverse, step] = [columns.full_scale, columns.inverse, columns.step]
                .map(|numbers| numbers.as_chunks::<LANES>().0);
            let lanes = |chunk: usize| [full_scale[chunk], inverse[chunk], step[chunk]];
            let at = |index: usize| columns.at(index);
            by_reciprocals::<LEVELS>(out, values, columns.tie, lanes, at, clipped)
        }
    };
    if !sure {
        for (index, (out, value)) in out.iter_mut().zip(values).enumerate() {
            *out = converter.at(index).code_or_level::<LEVELS>(*value, clipped);
        }
    }
}

#[inline(always)]
fn codes_body(out: &mut [f32], values: &[f32], converter: &Converter<'_>, clipped: &mut bool) {
    convert_piece::<false>(out, values, converter, clipped);
}

for_each_level! {
    /// Writes the codes of at most [`PIECE`] `values`, any code where one is not finite; sets
    /// `clipped` if not all of them are within their full scales.
    pub(crate) fn codes(
        out: &mut [f32],
        values: &[f32],
        converter: &Converter<'_>,
        clipped: &mut bool,
    ) = codes_body
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
        let mut here = false;
        convert_piece::<true>(out, values, &converter, &mut here);
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
        let inside = v.abs() <= self.full_scale;
        if invalid { f32::NAN } else { f32::from(u8::from(inside)) }
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
    convert_piece::<false>(codes, values, converter, &mut false);
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
