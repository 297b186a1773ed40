//! What the forward and the backward op do before they multiply: convert rows of x, and lines of w.

use std::ops::Range;

use super::operands::{Chain, Ranges};
use crate::isa::{Isa, for_each_isa, lane_sum};
use crate::pack::{self, MAX_VALUES_PER_WORD, Side, pack_codes, pack_floats, round_to_bf16};
use crate::packing::{Arithmetic, OFFSET, Packing};
use crate::quantizer::{Converted, Converter, PIECE, Quantizers, convert};
use crate::scratch::Scratch;

/// One input row as the converters hand it on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    /// What one unit of the converted values stands for; NaN if a value is not finite.
    pub(crate) step: f32,
    /// ‖x_q‖²
    pub(crate) x_norm_sq: f32,
    /// Whether a value may be beyond the full scale, or not finite.
    pub(crate) clipped: bool,
}

/// Writes the codes of row `row` of x as words of the lhs.
pub(crate) fn code_row(
    isa: Isa,
    packed: &mut [u32],
    x: &[f32],
    ranges: &Ranges<'_>,
    row: usize,
    packing: Packing,
) -> Row {
    let converter = ranges.input_converter(row);
    let mut converted = Converted::default();
    pack_codes(isa, packed, x, &converter, (packing, Side::Left), &mut converted);
    let Converted { clipped, .. } = converted;
    let step = step_of(isa, converter.at(0).step(), x, clipped);
    let x_norm_sq = if ranges.has_weight_noise(row) {
        squares_of_codes(isa, x, &converter) * step * step
    } else {
        0.0
    };
    Row { step, x_norm_sq, clipped }
}

/// Σ code²
fn squares_of_codes(isa: Isa, x: &[f32], converter: &Converter<'_>) -> f32 {
    let mut squares = 0.0;
    for values in x.chunks(PIECE) {
        let mut codes = [0; PIECE];
        let codes = &mut codes[..values.len()];
        let format = (Packing::F32, Side::Left);
        pack_codes(isa, codes, values, converter, format, &mut Converted::default());
        add_squares(isa, bytemuck::cast_slice(codes), &mut squares);
    }
    squares
}

/// ‖x_q‖² of row `row` of x, as the forward op has it.
pub(crate) fn x_norm_sq_of_row(
    isa: Isa,
    x: &[f32],
    chain: &Chain,
    ranges: &Ranges<'_>,
    row: usize,
) -> f32 {
    let mut converted = Scratch::<f32>::new(x.len());
    if chain.is_integer(x.len()) {
        let packed = bytemuck::cast_slice_mut(&mut converted);
        code_row(isa, packed, x, ranges, row, Packing::F32).x_norm_sq
    } else {
        convert_row(isa, &mut converted, x, chain, ranges, row).x_norm_sq
    }
}

/// Writes the codes of `rows` of x, which follow each other along the depth, as a row of words of
/// the lhs, and returns what became of each.
pub(crate) fn code_rows(
    isa: Isa,
    packed: &mut [u32],
    x: &[f32],
    ranges: &Ranges<'_>,
    rows: Range<usize>,
    packing: Packing,
) -> [Row; MAX_VALUES_PER_WORD] {
    let depth = packed.len();
    // Of the lhs, what is beyond the last row may be any number: that of the right is 0.
    let row = |g: usize| (rows.start + g).min(rows.end - 1);
    let values = std::array::from_fn(|g| &x[row(g) * depth..][..depth]);
    let converters = std::array::from_fn(|g| ranges.input_converter(row(g)));
    let mut clipped = false;
    pack::pack_code_rows(isa, packed, values, &converters, packing, &mut clipped);
    std::array::from_fn(|g| {
        let step = step_of(isa, converters[g].at(0).step(), values[g], clipped);
        Row { step, x_norm_sq: 0.0, clipped }
    })
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
    *sum += lane_sum(values.len(), |index| values[index] * 0.0);
}

for_each_isa! {
    /// Adds 0, or NaN if a value is not finite.
    fn add_poison(values: &[f32], sum: &mut f32) = add_poison_body
}

/// Converts row `row` of x into `out`, which is not touched where the converter is off.
pub(crate) fn convert_row(
    isa: Isa,
    out: &mut [f32],
    x: &[f32],
    chain: &Chain,
    ranges: &Ranges<'_>,
    row: usize,
) -> Row {
    let mut clipped = false;
    let converted = if chain.dac.is_off() {
        x
    } else {
        convert(isa, out, x, &ranges.input_converter(row), &mut clipped);
        out
    };
    let mut x_norm_sq = 0.0;
    if ranges.has_weight_noise(row) {
        add_squares(isa, converted, &mut x_norm_sq);
    }
    Row { step: 1.0, x_norm_sq, clipped }
}

#[inline(always)]
fn add_squares_body(values: &[f32], sum: &mut f32) {
    *sum += lane_sum(values.len(), |index| values[index] * values[index]);
}

for_each_isa! {
    /// Adds Σ v², summed in 16 lanes.
    fn add_squares(values: &[f32], sum: &mut f32) = add_squares_body
}

/// Where sums over codes that sum to `sum` start.
pub(crate) fn zero_point_correction(packing: Packing, sum: i32) -> i32 {
    if packing == Packing::I8 { sum.wrapping_mul(-OFFSET) } else { 0 }
}

/// What becomes of a number before it is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperandFormat {
    /// Nothing.
    Exact,
    /// It is converted to the nearest level.
    Value,
    /// It is converted to the code of the nearest level.
    Code,
}

/// Writes `values`, which follow each other along the depth, as words of the rhs.
pub(crate) fn pack_line(
    isa: Isa,
    line: &mut [u32],
    values: &[f32],
    converter: &Converter<'_>,
    format: OperandFormat,
    arithmetic: Arithmetic,
) -> Converted {
    let packing = arithmetic.packing(isa);
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

/// Quantizers for `columns` columns of w; of no effect where its converter is off.
pub(crate) fn weight_quantizers(
    isa: Isa,
    chain: &Chain,
    ranges: &Ranges<'_>,
    columns: usize,
) -> Quantizers {
    Quantizers::new(isa, chain.weight, columns, ranges.w_full_scale)
}
