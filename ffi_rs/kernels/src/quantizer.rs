//! The signed mid-tread quantizer of every DAC and ADC.
//!
//! ```text
//! Q = 2^(bits-1) - 1,  step = full_scale / Q,  code = clamp(rint(v / step), -Q, Q),  value = code · step
//! ```
//!
//! `rint` rounds half to even. One bit has the two levels ±full_scale, the upper for v ≥ 0.
//! A value that is not finite gives NaN; a full scale that is negative or NaN gives NaN; a full
//! scale of 0 gives 0.

use crate::simd::for_each_level;
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
        Quantizer {
            one_bit: self.0 == 1,
            largest,
            full_scale,
            step,
            divisor: if step == 0.0 { 1.0 } else { step },
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

    /// The code as an integer, of a converter whose codes fit in 8 bits; any code of `v` that is
    /// not finite.
    #[inline(always)]
    pub(crate) fn small_code(&self, v: f32) -> i32 {
        // Adding 1.5 · 2²³ leaves an integer of that size in the low bits of the mantissa.
        const MAGIC: f32 = 12_582_912.0;
        (self.code(v) + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32
    }

    /// The level nearest to `v`.
    #[inline(always)]
    pub(crate) fn value(&self, v: f32) -> f32 {
        if v.is_finite() { self.code(v) * self.step } else { f32::NAN }
    }

    /// `(∂value/∂v, ∂value/∂full_scale)`, straight through the rounding:
    /// `(1, (code - v/step)/Q)` within the full scale, `(0, sign v)` beyond it.
    #[inline(always)]
    pub(crate) fn gradient(&self, v: f32) -> (f32, f32) {
        let invalid = !v.is_finite() || self.step.is_nan();
        let inside = v.abs() <= self.full_scale;
        let sign = if v < 0.0 { -1.0 } else { 1.0 };
        let by_full_scale = if inside && !self.one_bit {
            (self.code(v) - v / self.divisor) / self.largest
        } else {
            sign
        };
        if invalid { (f32::NAN, f32::NAN) } else { (if inside { 1.0 } else { 0.0 }, by_full_scale) }
    }
}

/// One quantizer for each column, laid out for vector loops.
pub(crate) struct Quantizers {
    bits: Bits,
    full_scale: Vec<f32>,
    step: Vec<f32>,
    divisor: Vec<f32>,
}

impl Quantizers {
    /// The quantizers of `bits` and these full scales.
    pub(crate) fn new(bits: Bits, full_scales: impl Iterator<Item = f32>) -> Self {
        let full_scale: Vec<f32> = full_scales.collect();
        let quantizers = || full_scale.iter().map(|&full_scale| bits.quantizer(full_scale));
        let step = quantizers().map(|quantizer| quantizer.step).collect();
        let divisor = quantizers().map(|quantizer| quantizer.divisor).collect();
        Self { bits, full_scale, step, divisor }
    }

    /// The quantizer of one column.
    pub(crate) fn at(&self, column: usize) -> Quantizer {
        self.columns(column, 1).at(0)
    }

    /// The quantizers of `count` columns, `first …`.
    pub(crate) fn columns(&self, first: usize, count: usize) -> Columns<'_> {
        let range = first..first + count;
        Columns {
            one_bit: self.bits.0 == 1,
            largest: self.bits.largest_code() as f32,
            full_scale: &self.full_scale[range.clone()],
            step: &self.step[range.clone()],
            divisor: &self.divisor[range],
        }
    }
}

/// The quantizers of consecutive columns.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    one_bit: bool,
    largest: f32,
    full_scale: &'a [f32],
    step: &'a [f32],
    divisor: &'a [f32],
}

impl Columns<'_> {
    /// The quantizer of one column.
    #[inline(always)]
    pub(crate) fn at(&self, column: usize) -> Quantizer {
        Quantizer {
            one_bit: self.one_bit,
            largest: self.largest,
            full_scale: self.full_scale[column],
            step: self.step[column],
            divisor: self.divisor[column],
        }
    }
}

/// What a converter gives: the value itself where it is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The input, unconverted.
    Exact,
    /// The level.
    Value,
    /// The integer code, as f32; NaN where the input is not finite, so that sums show it.
    Code,
}

impl Form {
    #[inline(always)]
    pub(crate) fn of(self, quantizer: &Quantizer, v: f32) -> f32 {
        match self {
            Self::Exact => v,
            Self::Value => quantizer.value(v),
            Self::Code if v.is_finite() => quantizer.code(v),
            Self::Code => f32::NAN,
        }
    }
}

#[inline(always)]
fn convert_body(out: &mut [f32], values: &[f32], quantizer: &Quantizer, form: Form) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out = form.of(quantizer, value);
    }
}

for_each_level! {
    /// Converts `values` by one quantizer.
    pub(crate) fn convert(
        out: &mut [f32],
        values: &[f32],
        quantizer: &Quantizer,
        form: Form,
    ) = convert_body
}

#[inline(always)]
fn convert_columns_body(values: &mut [f32], quantizers: &Columns<'_>) {
    for (column, value) in values.iter_mut().enumerate() {
        *value = quantizers.at(column).value(*value);
    }
}

for_each_level! {
    /// Quantizes each of `values` by the quantizer of its column.
    pub(crate) fn convert_columns(
        values: &mut [f32],
        quantizers: &Columns<'_>,
    ) = convert_columns_body
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(Bits(4).quantizer(full_scale).gradient(v).0.is_nan());
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
                assert!((quantizer.gradient(v).1 - expected).abs() < 1e-6);
            }
            assert_eq!(quantizer.gradient(9.0), (0.0, 1.0));
            assert_eq!(quantizer.gradient(-9.0), (0.0, -1.0));
        }
    }
}
