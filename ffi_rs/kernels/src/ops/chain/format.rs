//! What a product takes of a number, and of what is clipped or not finite.

use super::attributes::Chain;
use crate::isa::{Isa, for_each_isa, lane_sum};
use crate::pack::{Side, pack_codes, pack_floats, round_to_bf16};
use crate::packing::{Arithmetic, OFFSET, Packing};
use crate::quantizer::{Converted, Converter, PIECE, convert};

/// What becomes of a number before it is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperandFormat {
    /// Nothing.
    Exact,
    /// It is converted to the nearest level.
    Level,
    /// It is converted to the code of the nearest level.
    Code,
}

/// How a product is computed, and of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProductPlan {
    pub(crate) arithmetic: Arithmetic,
    /// What it takes of the operand that is converted.
    pub(crate) format: OperandFormat,
}

impl ProductPlan {
    /// x_q · w_q over so many numbers: exact, wherever both are codes of at most 8 bits.
    pub(crate) fn forward(chain: &Chain, depth: usize) -> Self {
        if chain.is_integer(depth) {
            Self { arithmetic: Arithmetic::Int8, format: OperandFormat::Code }
        } else if chain.weight.is_off() {
            Self { arithmetic: Arithmetic::F32, format: OperandFormat::Exact }
        } else {
            Self { arithmetic: Arithmetic::F32, format: OperandFormat::Level }
        }
    }

    /// Whether the operand that is converted is multiplied as it lies in memory.
    pub(crate) fn is_in_place(self) -> bool {
        self.arithmetic == Arithmetic::F32 && self.format == OperandFormat::Exact
    }

    /// How a word of this product's operands stores numbers.
    pub(crate) fn packing(self, isa: Isa) -> Packing {
        self.arithmetic.packing(isa)
    }
}

/// Writes `values`, which follow each other along the depth, as words of the rhs.
pub(crate) fn pack_line(
    isa: Isa,
    line: &mut [u32],
    values: &[f32],
    converter: &Converter<'_>,
    plan: ProductPlan,
) -> Converted {
    let ProductPlan { arithmetic, format } = plan;
    let packing = plan.packing(isa);
    let mut converted = Converted::default();
    if format == OperandFormat::Code {
        pack_codes(isa, line, values, converter, (packing, Side::Right), &mut converted);
        return converted;
    }
    if packing == Packing::F32 {
        let numbers = bytemuck::cast_slice_mut(line);
        write_numbers(isa, numbers, values, converter, format, &mut converted.clipped);
        if arithmetic == Arithmetic::Bf16 {
            round_to_bf16(isa, numbers);
        }
        return converted;
    }
    for (index, values) in values.chunks(PIECE).enumerate() {
        let mut buffer = [0.0; PIECE];
        let numbers = &mut buffer[..values.len()];
        let converter = converter.part(index * PIECE, values.len());
        write_numbers(isa, numbers, values, &converter, format, &mut converted.clipped);
        let packed =
            &mut line[packing.packed_len(index * PIECE)..][..packing.packed_len(values.len())];
        pack_floats(isa, packed, numbers, packing);
    }
    converted
}

/// Writes `values` as they are, or the levels nearest to them.
fn write_numbers(
    isa: Isa,
    numbers: &mut [f32],
    values: &[f32],
    converter: &Converter<'_>,
    format: OperandFormat,
    clipped: &mut bool,
) {
    if format == OperandFormat::Exact {
        numbers.copy_from_slice(values);
    } else {
        convert(isa, numbers, values, converter, clipped);
    }
}

/// Where sums over codes that sum to `sum` start.
pub(crate) fn zero_point_correction(packing: Packing, sum: i32) -> i32 {
    if packing == Packing::I8 { sum.wrapping_mul(-OFFSET) } else { 0 }
}

/// `step`, or NaN if one of `values` is not finite, which only clipped ones are.
pub(super) fn step_of(isa: Isa, step: f32, values: &[f32], clipped: bool) -> f32 {
    let mut poison = 0.0;
    if clipped {
        add_poison(isa, values, &mut poison);
    }
    poisoned(step, poison)
}

/// `step`, or NaN if `poison` is: the same NaN wherever it came from.
#[inline(always)]
pub(super) fn poisoned(step: f32, poison: f32) -> f32 {
    if poison.is_nan() { f32::NAN } else { step }
}

#[inline(always)]
fn add_poison_body(values: &[f32], sum: &mut f32) {
    *sum += lane_sum([values], |[value]| value * 0.0);
}

for_each_isa! {
    /// Adds 0, or NaN if a value is not finite.
    fn add_poison(values: &[f32], sum: &mut f32) = add_poison_body
}
