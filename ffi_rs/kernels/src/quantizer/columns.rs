//! One quantizer for each column.

use super::code::{Bits, Quantizer};
use crate::isa::{Isa, for_each_isa};
use crate::scratch::Scratch;

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
    pub(super) one_bit: bool,
    pub(super) largest: f32,
    pub(crate) tie: f32,
    pub(super) full_scale: &'a [f32],
    pub(super) step: &'a [f32],
    pub(super) divisor: &'a [f32],
    pub(super) inverse: &'a [f32],
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
