//! What the forward and the backward op do before they multiply: convert rows of x, and lines of w.

use std::ops::Range;

use super::operands::{Chain, Ranges};
use crate::number::{Kind, Number, OFFSET};
use crate::quantizer::{Converted, Converter, PIECE, Quantizers, convert};
use crate::scratch::Scratch;
use crate::simd::{Level, for_each_level, lane_sum};
use crate::words::{self, MAX_GROUP, Side, code_words, narrow, round_to_brain};

/// One input row as the converters hand it on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    /// What one unit of the converted values stands for; NaN if a value is not finite.
    pub(crate) step: f32,
    /// ‖x_q‖²
    pub(crate) energy: f32,
    /// Whether a value may be beyond the full scale, or not finite.
    pub(crate) clipped: bool,
}

/// Writes the codes of row `row` of x as words of the left factor.
pub(crate) fn code_row(
    level: Level,
    words: &mut [u32],
    x: &[f32],
    ranges: &Ranges<'_>,
    row: usize,
    number: Number,
) -> Row {
    let converter = ranges.input_converter(row);
    let mut converted = Converted::default();
    code_words(level, words, x, &converter, (number, Side::Left), &mut converted);
    let Converted { clipped, .. } = converted;
    let step = step_of(level, converter.at(0).step(), x, clipped);
    let energy = if ranges.has_weight_noise(row) {
        squares_of_codes(level, x, &converter) * step * step
    } else {
        0.0
    };
    Row { step, energy, clipped }
}

/// Σ code²
fn squares_of_codes(level: Level, x: &[f32], converter: &Converter<'_>) -> f32 {
    let mut squares = 0.0;
    for values in x.chunks(PIECE) {
        let mut codes = [0; PIECE];
        let codes = &mut codes[..values.len()];
        let form = (Number::F32, Side::Left);
        code_words(level, codes, values, converter, form, &mut Converted::default());
        add_squares(level, bytemuck::cast_slice(codes), &mut squares);
    }
    squares
}

/// ‖x_q‖² of row `row` of x, as the forward op has it.
pub(crate) fn energy_of_row(
    level: Level,
    x: &[f32],
    chain: &Chain,
    ranges: &Ranges<'_>,
    row: usize,
) -> f32 {
    let mut converted = Scratch::<f32>::new(x.len());
    if chain.is_integer(x.len()) {
        let words = bytemuck::cast_slice_mut(&mut converted);
        code_row(level, words, x, ranges, row, Number::F32).energy
    } else {
        convert_row(level, &mut converted, x, chain, ranges, row).energy
    }
}

/// Writes the codes of `rows` of x, which follow each other along the depth, as a row of words of
/// the left factor, and returns what became of each.
pub(crate) fn code_rows(
    level: Level,
    words: &mut [u32],
    x: &[f32],
    ranges: &Ranges<'_>,
    rows: Range<usize>,
    number: Number,
) -> [Row; MAX_GROUP] {
    let depth = words.len();
    // Of the left factor, what is beyond the last row may be any number: that of the right is 0.
    let row = |g: usize| (rows.start + g).min(rows.end - 1);
    let values = std::array::from_fn(|g| &x[row(g) * depth..][..depth]);
    let converters = std::array::from_fn(|g| ranges.input_converter(row(g)));
    let mut clipped = false;
    words::code_rows(level, words, values, &converters, number, &mut clipped);
    std::array::from_fn(|g| {
        let step = step_of(level, converters[g].at(0).step(), values[g], clipped);
        Row { step, energy: 0.0, clipped }
    })
}

/// `step`, or NaN if one of `values` is not finite, which only clipped ones are.
pub(super) fn step_of(level: Level, step: f32, values: &[f32], clipped: bool) -> f32 {
    let mut poison = 0.0;
    if clipped {
        add_poison(level, values, &mut poison);
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

for_each_level! {
    /// Adds 0, or NaN if a value is not finite.
    fn add_poison(values: &[f32], sum: &mut f32) = add_poison_body
}

/// Converts row `row` of x into `out`, which is not touched where the converter is off.
pub(crate) fn convert_row(
    level: Level,
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
        convert(level, out, x, &ranges.input_converter(row), &mut clipped);
        out
    };
    let mut energy = 0.0;
    if ranges.has_weight_noise(row) {
        add_squares(level, converted, &mut energy);
    }
    Row { step: 1.0, energy, clipped }
}

#[inline(always)]
fn add_squares_body(values: &[f32], sum: &mut f32) {
    *sum += lane_sum(values.len(), |index| values[index] * values[index]);
}

for_each_level! {
    /// Adds Σ v², summed in 16 lanes.
    fn add_squares(values: &[f32], sum: &mut f32) = add_squares_body
}

/// Where sums over codes that sum to `sum` start.
pub(crate) fn start_of(number: Number, sum: i32) -> i32 {
    if number == Number::Byte { sum.wrapping_mul(-OFFSET) } else { 0 }
}

/// What becomes of a number before it is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing.
    Exact,
    /// It is converted to the nearest level.
    Value,
    /// It is converted to the code of the nearest level.
    Code,
}

/// Writes `values`, which follow each other along the depth, as words of the right factor.
pub(crate) fn line_of_words(
    level: Level,
    line: &mut [u32],
    values: &[f32],
    converter: &Converter<'_>,
    form: Form,
    kind: Kind,
) -> Converted {
    let number = kind.number(level);
    let mut converted = Converted::default();
    if form == Form::Code {
        code_words(level, line, values, converter, (number, Side::Right), &mut converted);
        return converted;
    }
    if number == Number::F32 {
        let numbers = bytemuck::cast_slice_mut(line);
        write_numbers(level, numbers, values, converter, form, &mut converted.clipped);
        if kind == Kind::Brain {
            round_to_brain(level, numbers);
        }
        return converted;
    }
    for (index, values) in values.chunks(PIECE).enumerate() {
        let mut buffer = [0.0; PIECE];
        let numbers = &mut buffer[..values.len()];
        let converter = converter.part(index * PIECE, values.len());
        write_numbers(level, numbers, values, &converter, form, &mut converted.clipped);
        let words = &mut line[number.words(index * PIECE)..][..number.words(values.len())];
        narrow(level, words, numbers, number);
    }
    converted
}

/// Writes `values` as they are, or the levels nearest to them.
fn write_numbers(
    level: Level,
    numbers: &mut [f32],
    values: &[f32],
    converter: &Converter<'_>,
    form: Form,
    clipped: &mut bool,
) {
    if form == Form::Exact {
        numbers.copy_from_slice(values);
    } else {
        convert(level, numbers, values, converter, clipped);
    }
}

/// Quantizers for `columns` columns of w; of no effect where its converter is off.
pub(crate) fn weight_quantizers(
    level: Level,
    chain: &Chain,
    ranges: &Ranges<'_>,
    columns: usize,
) -> Quantizers {
    Quantizers::new(level, chain.weight, columns, ranges.w_full_scale)
}
