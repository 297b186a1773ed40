//! Rows of x through their DAC: what the forward op multiplies, and the backward op again.

use std::ops::Range;

use super::format::step_of;
use super::operands::Operands;
use crate::isa::{Isa, for_each_isa, lane_sum};
use crate::pack::{self, MAX_VALUES_PER_WORD, Side, pack_codes};
use crate::packing::Packing;
use crate::quantizer::{Converted, Converter, PIECE, convert};
use crate::scratch::Scratch;

/// What is known of a row of x once it is converted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InputRow {
    /// What one unit of the converted values stands for; NaN if a value is not finite.
    pub(crate) step: f32,
    /// ‖x_q‖², where the noise of the row depends on it; else 0.
    pub(crate) x_norm_sq: f64,
    /// Whether a value may be beyond the full scale, or not finite.
    pub(crate) clipped: bool,
    /// The sum of its codes, where it is coded by itself; else 0.
    pub(crate) sum: i32,
}

impl Default for InputRow {
    /// A row that is multiplied as it is.
    fn default() -> Self {
        Self { step: 1.0, x_norm_sq: 0.0, clipped: true, sum: 0 }
    }
}

/// Writes the codes of `x`, row `row`, as words of an operand.
pub(crate) fn code_row(
    isa: Isa,
    packed: &mut [u32],
    x: &[f32],
    operands: &Operands<'_>,
    row: usize,
    format: (Packing, Side),
) -> InputRow {
    let dac = operands.dac(row);
    let mut converted = Converted::default();
    pack_codes(isa, packed, x, &dac, format, &mut converted);
    let step = step_of(isa, dac.at(0).step(), x, converted.clipped);
    let x_norm_sq = if operands.noise.needs_x_norm(row) {
        let squares = squares_of_codes(isa, x, &dac);
        let exact = f64::from(squares) * f64::from(step) * f64::from(step);
        narrow_or(squares * step * step, || exact)
    } else {
        0.0
    };
    InputRow { step, x_norm_sq, clipped: converted.clipped, sum: converted.sum }
}

/// Writes the codes of `rows` of `x`, which follow each other along the depth, as a row of words of
/// the lhs. The norms are not computed.
pub(crate) fn code_rows<'x>(
    isa: Isa,
    packed: &mut [u32],
    x: impl Fn(usize) -> &'x [f32],
    operands: &Operands<'_>,
    rows: Range<usize>,
    packing: Packing,
) -> [InputRow; MAX_VALUES_PER_WORD] {
    // Of the lhs, what is beyond the last row may be any number: that of the rhs is 0.
    let row = |g: usize| (rows.start + g).min(rows.end - 1);
    let values = std::array::from_fn(|g| x(row(g)));
    let dacs = std::array::from_fn(|g| operands.dac(row(g)));
    let mut clipped = false;
    pack::pack_code_rows(isa, packed, values, &dacs, packing, &mut clipped);
    std::array::from_fn(|g| {
        let step = step_of(isa, dacs[g].at(0).step(), values[g], clipped);
        InputRow { step, x_norm_sq: 0.0, clipped, sum: 0 }
    })
}

/// Writes the levels of `x`, row `row`, to `out`, which is not touched where the DAC is off.
pub(crate) fn convert_row(
    isa: Isa,
    out: &mut [f32],
    x: &[f32],
    operands: &Operands<'_>,
    row: usize,
) -> InputRow {
    let mut clipped = false;
    let converted = if operands.is_dac_off() {
        x
    } else {
        convert(isa, out, x, &operands.dac(row), &mut clipped);
        out
    };
    let mut x_norm_sq = 0.0;
    if operands.noise.needs_x_norm(row) {
        let mut squares = 0.0;
        add_squares(isa, converted, &mut squares);
        x_norm_sq = narrow_or(squares, || {
            converted.iter().map(|value| f64::from(*value) * f64::from(*value)).sum()
        });
    }
    InputRow { step: 1.0, x_norm_sq, clipped, sum: 0 }
}

/// ‖x_q‖² of `x`, row `row`, to the bit as the forward op has it.
pub(crate) fn x_norm_sq_of_row(
    isa: Isa,
    x: &[f32],
    operands: &Operands<'_>,
    row: usize,
    is_integer: bool,
) -> f64 {
    let mut converted = Scratch::<f32>::new(x.len());
    if is_integer {
        let packed = bytemuck::cast_slice_mut(&mut converted);
        code_row(isa, packed, x, operands, row, (Packing::F32, Side::Left)).x_norm_sq
    } else {
        convert_row(isa, &mut converted, x, operands, row).x_norm_sq
    }
}

/// A sum of squares, unless f32 cannot hold it or loses what counts of it: then `exact`.
fn narrow_or(squares: f32, exact: impl FnOnce() -> f64) -> f64 {
    const SMALLEST: f32 = f32::MIN_POSITIVE * (1u64 << 40) as f32;
    if squares >= SMALLEST && squares.is_finite() { f64::from(squares) } else { exact() }
}

/// Σ code²
fn squares_of_codes(isa: Isa, x: &[f32], dac: &Converter<'_>) -> f32 {
    let mut squares = 0.0;
    for values in x.chunks(PIECE) {
        let mut codes = [0; PIECE];
        let codes = &mut codes[..values.len()];
        let format = (Packing::F32, Side::Left);
        pack_codes(isa, codes, values, dac, format, &mut Converted::default());
        add_squares(isa, bytemuck::cast_slice(codes), &mut squares);
    }
    squares
}

#[inline(always)]
fn add_squares_body(values: &[f32], sum: &mut f32) {
    *sum += lane_sum([values], |[value]| value * value);
}

for_each_isa! {
    /// Adds Σ v², summed in 16 lanes.
    fn add_squares(values: &[f32], sum: &mut f32) = add_squares_body
}
