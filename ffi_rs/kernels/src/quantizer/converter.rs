//! Conversion of many values at a time, and of their gradients.
//!
//! Codes are those of the division `v / step`. The reciprocal of the step gives the same ones unless
//! the ratio is near a tie, which a pass over the values finds out; only then is divided.

use super::{Bits, Columns, Quantizer, code_and_distance, code_of_bits};
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
/// gave all of them; `lanes` gives [`LANES`] reciprocals and steps. Adds 0 to `poison` if all values
/// are finite, and NaN if not.
#[inline(always)]
fn by_reciprocals<const LEVELS: bool>(
    out: &mut [f32],
    values: &[f32],
    (tie, largest): (f32, f32),
    lanes: impl Fn(usize) -> ([f32; LANES], [f32; LANES]),
    at: impl Fn(usize) -> Quantizer,
    poison: &mut f32,
) -> bool {
    if tie == 0.0 {
        return false;
    }
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    let (values, rest_values) = values.as_chunks::<LANES>();
    let mut farthest = [0; LANES];
    let mut zeros = [0.0; LANES];
    for (chunk, (out, values)) in chunks.iter_mut().zip(values).enumerate() {
        let (inverse, step) = lanes(chunk);
        for lane in 0..LANES {
            let v = values[lane];
            let (bits, distance) = code_and_distance(v * inverse[lane], largest);
            let code = code_of_bits(bits, v);
            farthest[lane] = farthest[lane].max(distance);
            zeros[lane] += v * 0.0;
            let level = if v.is_finite() { code * step[lane] } else { f32::NAN };
            out[lane] = if LEVELS { level } else { code };
        }
    }
    for (index, (out, value)) in rest.iter_mut().zip(rest_values).enumerate() {
        let quantizer = at(values.len() * LANES + index);
        *out = if LEVELS { quantizer.value(*value) } else { quantizer.code(*value) };
        *poison += value * 0.0;
    }
    *poison += zeros.iter().sum::<f32>();
    f32::from_bits(farthest.into_iter().fold(0, u32::max)) < tie
}

#[inline(always)]
fn convert_piece<const LEVELS: bool>(
    out: &mut [f32],
    values: &[f32],
    converter: &Converter<'_>,
    poison: &mut f32,
) {
    let values = &values[..out.len()];
    let sure = match converter {
        Converter::One(quantizer, tie) => {
            let lanes = ([quantizer.inverse; LANES], [quantizer.step; LANES]);
            let range = (*tie, quantizer.largest);
            by_reciprocals::<LEVELS>(out, values, range, |_| lanes, |_| *quantizer, poison)
        }
        Converter::Each(columns) => {
            let columns = columns.part(0..out.len());
            let (inverse, step) = (columns.inverse.as_chunks().0, columns.step.as_chunks().0);
            let range = (columns.tie, columns.largest);
            let lanes = |chunk: usize| (inverse[chunk], step[chunk]);
            by_reciprocals::<LEVELS>(out, values, range, lanes, |index| columns.at(index), poison)
        }
    };
    if !sure {
        for (index, (out, value)) in out.iter_mut().zip(values).enumerate() {
            let quantizer = converter.at(index);
            *out = if LEVELS { quantizer.value(*value) } else { quantizer.code(*value) };
            *poison += value * 0.0;
        }
    }
}

#[inline(always)]
fn codes_body(out: &mut [f32], values: &[f32], converter: &Converter<'_>, poison: &mut f32) {
    convert_piece::<false>(out, values, converter, poison);
}

for_each_level! {
    /// Writes the codes of at most [`PIECE`] `values`; any code where one is not finite, and then
    /// adds NaN to `poison`, but 0 if all are.
    pub(crate) fn codes(
        out: &mut [f32],
        values: &[f32],
        converter: &Converter<'_>,
        poison: &mut f32,
    ) = codes_body
}

#[inline(always)]
pub(crate) fn convert_body(out: &mut [f32], values: &[f32], converter: &Converter<'_>) {
    for (piece, (out, values)) in out.chunks_mut(PIECE).zip(values.chunks(PIECE)).enumerate() {
        let converter = converter.part(piece * PIECE, out.len());
        // A level shows itself whether its value was finite.
        convert_piece::<true>(out, values, &converter, &mut 0.0);
    }
}

for_each_level! {
    /// Writes the levels nearest to `values`.
    pub(crate) fn convert(out: &mut [f32], values: &[f32], converter: &Converter<'_>) = convert_body
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
    convert_piece::<false>(codes, values, converter, &mut 0.0);
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
