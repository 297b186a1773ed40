//! Conversion of many values at a time, and of their gradients.
//!
//! Codes are those of the division `v / step`. The reciprocal of the step gives the same ones unless
//! the ratio is near a tie; then a few values are divided.

use super::code::{
    Bits, Quantizer, bits_of_code, code_and_distance, code_of_bits, integer, integer_of_bits_sum,
    within,
};
use super::columns::Columns;
use crate::isa::for_each_isa;

/// Values of a row that are on their way through the chain at a time.
pub(crate) const PIECE: usize = 256;
/// Values that are converted together, and again if one of them is near a tie.
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
    let whole = out.len() - out.len() % LANES;
    let (out, rest) = out.split_at_mut(whole);
    let (values, rest_values) = values.split_at(whole);
    let mut converted = match converter {
        Converter::One(quantizer, tie) if *tie >= 0.0 => {
            let Quantizer { full_scale, divisor, inverse, step, .. } = *quantizer;
            let scales = |_, _| [full_scale, divisor, inverse, step];
            convert_lanes::<T>(out, values, *tie, scales)
        }
        Converter::Each(columns) if columns.tie >= 0.0 => {
            let columns = columns.part(0..whole);
            let full_scale = columns.full_scale.as_chunks::<LANES>().0;
            let divisor = columns.divisor.as_chunks::<LANES>().0;
            let inverse = columns.inverse.as_chunks::<LANES>().0;
            let step = columns.step.as_chunks::<LANES>().0;
            convert_lanes::<T>(out, values, columns.tie, |index, lane| {
                [
                    full_scale[index][lane],
                    divisor[index][lane],
                    inverse[index][lane],
                    step[index][lane],
                ]
            })
        }
        _ => convert_each::<T>(out, values, converter),
    };
    if !rest.is_empty() {
        converted.add(convert_each::<T>(rest, rest_values, &converter.part(whole, rest.len())));
    }
    converted
}

/// Converts values one by one.
fn convert_each<T: Target>(
    out: &mut [T::Number],
    values: &[f32],
    converter: &Converter<'_>,
) -> Converted {
    let mut converted = Converted::default();
    for (index, (out, value)) in out.iter_mut().zip(values).enumerate() {
        let quantizer = converter.at(index);
        let code = quantizer.code(*value);
        let clipped = !(value.is_finite() && value.abs() <= quantizer.full_scale);
        converted.add(Converted { sum: integer(code), clipped });
        *out = T::of_code(code, quantizer.step);
    }
    converted
}

/// Converts whole lanes of values; `scales(index, lane)` gives the full scale, the divisor, its
/// reciprocal and the step.
#[inline(always)]
fn convert_lanes<T: Target>(
    out: &mut [T::Number],
    values: &[f32],
    tie: f32,
    scales: impl Fn(usize, usize) -> [f32; 4],
) -> Converted {
    let out = out.as_chunks_mut::<LANES>().0;
    let count = out.len();
    let values = &values.as_chunks::<LANES>().0[..count];
    let (mut sum, mut beyond) = ([0u32; LANES], [0; LANES]);
    for index in 0..count {
        let mut unsure = [0; LANES];
        let mut numbers = [T::of_code(0.0, 0.0); LANES];
        for lane in 0..LANES {
            let v = values[index][lane];
            let [full_scale, _, inverse, step] = scales(index, lane);
            let near = within(v, full_scale);
            let (bits, distance) = code_and_distance(near * inverse);
            unsure[lane] = distance;
            beyond[lane] |= near.to_bits() ^ v.to_bits();
            sum[lane] = sum[lane].wrapping_add(bits);
            numbers[lane] = T::of_bits(bits, v, step);
        }
        out[index] = numbers;
        if unsure.iter().any(|distance| *distance >= tie.to_bits()) {
            // The reciprocal leaves a code open.
            for lane in 0..LANES {
                let v = values[index][lane];
                let [full_scale, divisor, inverse, step] = scales(index, lane);
                let near = within(v, full_scale);
                let bits = bits_of_code(near / divisor);
                let change = bits.wrapping_sub(bits_of_code(near * inverse));
                sum[lane] = sum[lane].wrapping_add(change);
                out[index][lane] = T::of_bits(bits, v, step);
            }
        }
    }
    let sum = sum.iter().fold(0u32, |sum, lane| sum.wrapping_add(*lane));
    Converted {
        sum: integer_of_bits_sum(sum, count * LANES),
        clipped: beyond.iter().fold(0, |all, lane| all | lane) != 0,
    }
}

/// Converts whole lanes of rows, and writes what `join` makes of each column; returns how many
/// columns are done, and whether a value may be clipped, as in [`Converted`]. Not every row has one
/// quantizer for all that knows ties: then nothing is done.
#[inline(always)]
pub(crate) fn convert_rows_to<T: Target, const GROUP: usize>(
    out: &mut [u32],
    rows: [&[f32]; GROUP],
    converters: &[Converter<'_>],
    join: impl Fn([T::Number; GROUP]) -> u32,
) -> (usize, bool) {
    let mut least = f32::INFINITY;
    for converter in &converters[..GROUP] {
        match converter {
            Converter::One(_, tie) if *tie >= 0.0 => least = least.min(*tie),
            _ => return (0, false),
        }
    }
    let quantizers: [Quantizer; GROUP] = std::array::from_fn(|g| converters[g].at(0));
    let out = out.as_chunks_mut::<LANES>().0;
    let count = out.len();
    let rows = rows.map(|row| &row.as_chunks::<LANES>().0[..count]);
    let mut beyond = [0; LANES];
    for index in 0..count {
        let mut unsure = [0; LANES];
        let mut words = [0; LANES];
        for lane in 0..LANES {
            let mut numbers = [T::of_code(0.0, 0.0); GROUP];
            for g in 0..GROUP {
                let (v, quantizer) = (rows[g][index][lane], &quantizers[g]);
                let near = within(v, quantizer.full_scale);
                let (bits, distance) = code_and_distance(near * quantizer.inverse);
                unsure[lane] = distance.max(unsure[lane]);
                beyond[lane] |= near.to_bits() ^ v.to_bits();
                numbers[g] = T::of_bits(bits, v, quantizer.step);
            }
            words[lane] = join(numbers);
        }
        out[index] = words;
        if unsure.iter().any(|distance| *distance >= least.to_bits()) {
            // A reciprocal leaves a code open.
            for lane in 0..LANES {
                out[index][lane] = join(std::array::from_fn(|g| {
                    let (v, quantizer) = (rows[g][index][lane], &quantizers[g]);
                    let near = within(v, quantizer.full_scale);
                    T::of_bits(bits_of_code(near / quantizer.divisor), v, quantizer.step)
                }));
            }
        }
    }
    (count * LANES, beyond.iter().fold(0, |all, lane| all | lane) != 0)
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

for_each_isa! {
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
    let count = values.len();
    match converter {
        Converter::One(quantizer, _) => {
            through_codes(gradient, by_full_scale, values, codes, |_| *quantizer);
        }
        Converter::Each(columns) => {
            // A bound that the loop below shares: it is not checked for each column.
            let columns = columns.part(0..count);
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
    let count = values.len();
    let (gradient, by_full_scale) = (&mut gradient[..count], &mut by_full_scale[..count]);
    let codes = &codes[..count];
    for index in 0..count {
        let (v, quantizer) = (values[index], at(index));
        let inside = v.abs() <= quantizer.full_scale;
        let sign = if v < 0.0 { -1.0 } else { 1.0 };
        let rounded = (codes[index] - v * quantizer.inverse) * (1.0 / quantizer.largest);
        let slope = if inside && !quantizer.one_bit { rounded } else { sign };
        let pass = quantizer.pass(v);
        by_full_scale[index] += gradient[index] * (slope + 0.0 * pass);
        gradient[index] *= pass;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::isa::Isa;
    use crate::quantizer::Quantizers;

    fn gradient(bits: u32, full_scale: f32, v: f32) -> (f32, f32) {
        let (mut gradient, mut by_full_scale) = ([1.0], [0.0]);
        let converter = Converter::one(Bits(bits), full_scale);
        through(&mut gradient, &mut by_full_scale, &[v], &converter);
        (gradient[0], by_full_scale[0])
    }

    proptest! {
        #[test]
        fn the_reciprocal_gives_the_codes_of_the_division(
            bits in 1..23u32,
            full_scale in prop_oneof![1e-3..10f32, Just(0.0), 1e-38..1e-30f32, 1e30..1e38f32],
            // Ties and their neighbors, and what lies between.
            halves in prop::collection::vec((-300..300i32, -2..3i32), 1..400),
        ) {
            let quantizer = Bits(bits).quantizer(full_scale);
            let values: Vec<f32> = halves
                .iter()
                .map(|(half, ulps)| {
                    let tie = *half as f32 / 2.0 * quantizer.step;
                    f32::from_bits(tie.to_bits().saturating_add_signed(*ulps))
                })
                .filter(|value| value.is_finite())
                .collect();
            let each = Quantizers::new(Isa::detect(), Bits(bits), values.len(), &[full_scale]);
            let each = Converter::Each(each.columns(0, values.len()));
            for converter in [Converter::one(Bits(bits), full_scale), each] {
                let mut got = vec![0.0; values.len()];
                convert(Isa::detect(), &mut got, &values, &converter, &mut false);
                for (got, value) in got.iter().zip(&values) {
                    prop_assert_eq!(got.to_bits(), quantizer.value(*value).to_bits());
                }
            }
        }
    }

    #[test]
    fn rounds_half_to_even_and_clips() {
        let quantizer = Bits(3).quantizer(3.0);
        let values = [0.5, 1.5, 2.5, -0.5, -1.5, 2.49, 3.5, -100.0];
        let expected = [0.0, 2.0, 2.0, 0.0, -2.0, 2.0, 3.0, -3.0];
        for (value, expected) in values.into_iter().zip(expected) {
            assert_eq!(quantizer.value(value), expected, "of {value}");
        }
    }

    #[test]
    fn one_bit_has_two_levels() {
        let quantizer = Bits(1).quantizer(2.0);
        assert_eq!([-0.1, 0.0, 5.0].map(|v| quantizer.value(v)), [-2.0, 2.0, 2.0]);
    }

    #[test]
    fn degenerate_ranges_are_zero_or_loud() {
        assert_eq!(Bits(4).quantizer(0.0).value(3.0), 0.0);
        assert_eq!(Bits(4).quantizer(0.0).value(0.0), 0.0);
        for (full_scale, v) in [(-1.0, 0.5), (f32::NAN, 0.5), (1.0, f32::NAN), (1.0, f32::INFINITY)]
        {
            assert!(Bits(4).quantizer(full_scale).value(v).is_nan());
            assert!(Bits(1).quantizer(full_scale).value(v).is_nan());
            assert!(gradient(4, full_scale, v).0.is_nan());
        }
    }

    #[test]
    fn gradient_by_full_scale_is_the_slope() {
        // Between rounding thresholds the value is code · full_scale / Q, so the slope by the
        // full scale at a fixed v / full_scale is value / full_scale; the straight-through part
        // takes v / full_scale off.
        for bits in [2, 4, 8] {
            let quantizer = Bits(bits).quantizer(1.5);
            for v in [-1.4, -0.3, 0.01, 0.7, 1.49] {
                let expected = quantizer.value(v) / 1.5 - v / 1.5;
                assert!((gradient(bits, 1.5, v).1 - expected).abs() < 1e-6);
            }
            assert_eq!(gradient(bits, 1.5, 9.0), (0.0, 1.0));
            assert_eq!(gradient(bits, 1.5, -9.0), (0.0, -1.0));
        }
    }
}
