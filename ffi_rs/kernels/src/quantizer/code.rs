//! Codes of single values: the definition, and how it is computed without a division.

use crate::{Attrs, Error};

/// Resolution of a converter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits(pub(super) u32);

impl Bits {
    /// The sign alone.
    pub(crate) const ONE: Self = Self(1);

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

    /// Whether the codes are of so many bits.
    pub(crate) fn is(self, bits: usize) -> bool {
        self.0 as usize == bits
    }

    /// Whether the code is the sign.
    pub(crate) fn is_one(self) -> bool {
        self.0 == 1
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
    pub(super) fn tie(self) -> f32 {
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
    pub(super) one_bit: bool,
    pub(super) largest: f32,
    pub(super) full_scale: f32,
    pub(super) step: f32,
    /// `step`, or 1 where that is 0, so that 0 / step is no NaN.
    pub(super) divisor: f32,
    /// 1 / `divisor`
    pub(super) inverse: f32,
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
    pub(super) fn has_reciprocal(&self) -> bool {
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
