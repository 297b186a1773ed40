//! The signed mid-tread quantizer of every DAC and ADC.
//!
//! ```text
//! Q = 2^(bits-1) - 1,  step = full_scale / Q,  code = clamp(rint(v / step), -Q, Q),  value = code · step
//! ```
//!
//! `rint` rounds half to even. One bit has the two levels ±full_scale, the upper for v ≥ 0.
//! A value that is not finite gives NaN; a full scale that is negative or NaN gives NaN; a full
//! scale of 0 gives 0.

mod converter;

pub(crate) use converter::{
    Codes, Converted, Converter, PIECE, Target, convert, convert_body, convert_rows_to, convert_to,
    mask, mask_invalid, padded, through,
};

use crate::isa::{Isa, for_each_isa};
use crate::scratch::Scratch;
use crate::{Attrs, Error};

/// Resolution of a converter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits(u32);

impl Bits {
    /// From attribute `name`: 0 is off, and so is 24 or more, which f32 cannot tell from off.
    pub(crate) fn from_attrs(
        op: &'static str,
        attrs: &dyn Attrs,
        name: &str,
    ) -> Result<Self, Error> {
        match attrs.int(op, name)? {
            bits @ 0..24 => Ok(Self(bits as u32)),
            24..=32 => Ok(Self(0)),
            bits => Err(Error::invalid(op, format!("`{name}` must be in 0..=32, got {bits}"))),
        }
    }

    /// No conversion, no clipping.
    pub(crate) fn is_off(self) -> bool {
        self.0 == 0
    }

    /// Whether the codes fit in 8 bits.
    pub(crate) fn is_byte(self) -> bool {
        (1..=8).contains(&self.0)
    }

    /// Largest code, Q.
    pub(crate) fn largest_code(self) -> u32 {
        if self.0 <= 1 { 1 } else { (1 << (self.0 - 1)) - 1 }
    }

    /// The quantizer of this resolution and `full_scale`.
    #[inline(always)]
    pub(crate) fn quantizer(self, full_scale: f32) -> Quantizer {
        let largest = self.largest_code() as f32;
        let step = if full_scale >= 0.0 { full_scale / largest } else { f32::NAN };
        let divisor = if step == 0.0 { 1.0 } else { step };
        Quantizer {
            one_bit: self.0 == 1,
            largest,
            full_scale,
            step,
            divisor,
            inverse: 1.0 / divisor,
        }
    }

    /// The distance to a code, in steps, below which `v · inverse` and `v / step` round to it
    /// alike: they differ by at most three roundings, 1.5 · 2⁻²³ of a ratio that is at most Q. 0,
    /// to divide, where too many values lie farther off; -1 where codes are found one by one.
    fn tie(self) -> f32 {
        match self.0 {
            2..=10 => 0.5 - self.largest_code() as f32 * (2.0 / (1u32 << 23) as f32),
            11..=20 => 0.0,
            _ => -1.0,
        }
    }
}

/// A converter of one resolution and full scale.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantizer {
    one_bit: bool,
    largest: f32,
    full_scale: f32,
    step: f32,
    /// `step`, or 1 where that is 0, so that 0 / step is no NaN.
    divisor: f32,
    /// 1 / `divisor`
    inverse: f32,
}

/// Adding 1.5 · 2²³ leaves an integer of up to 22 bits in the low bits of the mantissa; its own low
/// half is zero.
const MAGIC: f32 = 12_582_912.0;

/// A code, or another integer of up to 22 bits; any integer for NaN.
#[inline(always)]
pub(crate) fn integer(code: f32) -> i32 {
    integer_of_bits_sum(bits_of_code(code), 1)
}

/// The bits of the sum of [`MAGIC`] and a code.
#[inline(always)]
pub(crate) fn bits_of_code(code: f32) -> u32 {
    (code + MAGIC).to_bits()
}

/// The code in the bits of its sum with [`MAGIC`], of a finite `v`: where it is zero, of its sign.
#[inline(always)]
pub(crate) fn code_of_bits(bits: u32, v: f32) -> f32 {
    (f32::from_bits(bits) - MAGIC).copysign(v)
}

/// The sum of `count` integers of which the bits of their sums with [`MAGIC`] sum to `bits`.
#[inline(always)]
pub(crate) fn integer_of_bits_sum(bits: u32, count: usize) -> i32 {
    bits.wrapping_sub(MAGIC.to_bits().wrapping_mul(count as u32)) as i32
}

/// Codes of at most 8 bits as fixed-point numbers: the bits of the sum of a ratio and this number
/// have 14 bits of fraction, which are zero where the ratio lies so near to the middle between two
/// codes that its rounding decides.
const FIXED: f32 = 768.5;
const FRACTION: u32 = 14;
/// The integer part of the bits of `FIXED`.
const WHOLE: u32 = 768.0f32.to_bits() >> FRACTION;

/// The code of `ratio`, which is within ±127.49, plus [`WHOLE`], and the fraction.
///
/// `v · inverse` and `v / step` differ by at most 1.5 · 2⁻²³ of a ratio, which is less than half of a
/// unit of the fraction: where that is not zero, both are on one side of the middle.
#[inline(always)]
pub(crate) fn fixed_code(ratio: f32) -> (u32, u32) {
    let bits = (ratio + FIXED).to_bits();
    (bits >> FRACTION, bits << (32 - FRACTION))
}

/// The integer nearest to `ratio`, as [`fixed_code`] gives it.
#[inline(always)]
pub(crate) fn fixed_integer(ratio: f32) -> u32 {
    WHOLE.wrapping_add(integer(ratio) as u32)
}

/// [`fixed_code`] without [`WHOLE`], of `count` codes that sum to `sum`.
#[inline(always)]
pub(crate) fn fixed_sum(sum: u32, count: usize) -> u32 {
    sum.wrapping_sub(WHOLE.wrapping_mul(count as u32))
}

/// The ratio from which on nothing changes a code of at most `largest` any more.
#[inline(always)]
pub(crate) fn beyond(largest: f32) -> f32 {
    largest + 0.49
}

impl Quantizer {
    /// Distance of two neighboring levels.
    #[inline(always)]
    pub(crate) fn step(&self) -> f32 {
        self.step
    }

    /// The integer code of a finite `v`.
    #[inline(always)]
    pub(crate) fn code(&self, v: f32) -> f32 {
        if self.one_bit {
            if v < 0.0 { -1.0 } else { 1.0 }
        } else {
            (v / self.divisor).round_ties_even().max(-self.largest).min(self.largest)
        }
    }

    /// Whether the reciprocal is as good as the step: neither is near the ends of the range.
    #[inline(always)]
    fn has_reciprocal(&self) -> bool {
        (1e-30..1e30).contains(&self.divisor)
    }

    /// The level nearest to `v`.
    #[inline(always)]
    pub(crate) fn value(&self, v: f32) -> f32 {
        if v.is_finite() { self.code(v) * self.step } else { f32::NAN }
    }
}

/// The value within ±`limit` that is nearest to `v`, one of them if that is NaN.
#[inline(always)]
pub(crate) fn within(v: f32, limit: f32) -> f32 {
    // Not `clamp`, which takes more instructions to be symmetric for NaN.
    let v = if v > -limit { v } else { -limit };
    if v < limit { v } else { limit }
}

/// The bits of the sum of [`MAGIC`] and the integer nearest to `ratio`, whose low half is that
/// integer's, and the bits of its distance, which compare as distances do.
#[inline(always)]
pub(crate) fn code_and_distance(ratio: f32) -> (u32, u32) {
    let sum = ratio + MAGIC;
    (sum.to_bits(), (ratio - (sum - MAGIC)).abs().to_bits())
}

/// One quantizer for each column, laid out for vector loops.
pub(crate) struct Quantizers {
    bits: Bits,
    /// [`Bits::tie`], or -1 if a step has no reciprocal that is as good.
    tie: f32,
    /// The full scales, the steps, the divisors, and their reciprocals.
    scales: [Scratch<f32>; 4],
}

impl Quantizers {
    /// The quantizers of `bits` of `count` columns, of which each has its full scale, or all have
    /// the one.
    pub(crate) fn new(isa: Isa, bits: Bits, count: usize, full_scale: &[f32]) -> Self {
        let mut scales = std::array::from_fn(|_| Scratch::new(count));
        let [full_scales, steps, divisors, inverses] =
            scales.each_mut().map(|scale| &mut scale[..count]);
        let mut reciprocals = true;
        if full_scale.len() == count {
            full_scales.copy_from_slice(full_scale);
            let derived = [steps, divisors, inverses];
            derive_scales(isa, derived, full_scales, bits, &mut reciprocals);
        } else {
            let quantizer = bits.quantizer(full_scale[0]);
            reciprocals = quantizer.has_reciprocal();
            let Quantizer { full_scale, step, divisor, inverse, .. } = quantizer;
            full_scales.fill(full_scale);
            steps.fill(step);
            divisors.fill(divisor);
            inverses.fill(inverse);
        }
        Self { bits, tie: if reciprocals { bits.tie() } else { -1.0 }, scales }
    }

    /// The full scale of one column.
    pub(crate) fn full_scale(&self, column: usize) -> f32 {
        self.scales[0][column]
    }

    /// The steps of some columns.
    pub(crate) fn steps(&self, columns: std::ops::Range<usize>) -> &[f32] {
        &self.scales[1][columns]
    }

    /// The quantizers of `count` columns, `first …`.
    pub(crate) fn columns(&self, first: usize, count: usize) -> Columns<'_> {
        let [full_scale, step, divisor, inverse] =
            self.scales.each_ref().map(|scale| &scale[first..first + count]);
        Columns {
            one_bit: self.bits.0 == 1,
            largest: self.bits.largest_code() as f32,
            tie: self.tie,
            full_scale,
            step,
            divisor,
            inverse,
        }
    }
}

#[inline(always)]
fn derive_scales_body(
    [steps, divisors, inverses]: [&mut [f32]; 3],
    full_scales: &[f32],
    bits: Bits,
    reciprocals: &mut bool,
) {
    let count = full_scales.len();
    let (steps, divisors, inverses) =
        (&mut steps[..count], &mut divisors[..count], &mut inverses[..count]);
    let mut without = 0;
    for column in 0..count {
        let quantizer = bits.quantizer(full_scales[column]);
        steps[column] = quantizer.step;
        divisors[column] = quantizer.divisor;
        inverses[column] = quantizer.inverse;
        without |= u32::from(!quantizer.has_reciprocal());
    }
    *reciprocals = without == 0;
}

for_each_isa! {
    /// Writes the steps of columns with these full scales, the divisors and their reciprocals, and
    /// whether all of the latter are as good as a division.
    fn derive_scales(
        scales: [&mut [f32]; 3],
        full_scales: &[f32],
        bits: Bits,
        reciprocals: &mut bool,
    ) = derive_scales_body
}

/// The quantizers of consecutive columns.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    one_bit: bool,
    largest: f32,
    pub(crate) tie: f32,
    full_scale: &'a [f32],
    step: &'a [f32],
    divisor: &'a [f32],
    inverse: &'a [f32],
}

impl<'a> Columns<'a> {
    /// The quantizers of some of these columns.
    #[inline(always)]
    pub(crate) fn part(&self, range: std::ops::Range<usize>) -> Columns<'a> {
        Columns {
            full_scale: &self.full_scale[range.clone()],
            step: &self.step[range.clone()],
            divisor: &self.divisor[range.clone()],
            inverse: &self.inverse[range],
            ..*self
        }
    }

    /// The full scales, the reciprocals of the divisors, and the steps.
    #[inline(always)]
    pub(crate) fn scales(&self) -> [&'a [f32]; 3] {
        [self.full_scale, self.inverse, self.step]
    }

    /// The divisors, their reciprocals, the largest code, and [`Bits::tie`] or -1.
    pub(crate) fn divisors(&self) -> ([&'a [f32]; 2], f32, f32) {
        ([self.divisor, self.inverse], self.largest, self.tie)
    }

    /// The quantizer of one column.
    #[inline(always)]
    pub(crate) fn at(&self, column: usize) -> Quantizer {
        Quantizer {
            one_bit: self.one_bit,
            largest: self.largest,
            full_scale: self.full_scale[column],
            step: self.step[column],
            divisor: self.divisor[column],
            inverse: self.inverse[column],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
