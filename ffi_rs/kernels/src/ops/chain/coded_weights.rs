//! w as a file has it, in packed codes, which a product takes as they are.

use std::ops::Range;

use super::attributes::Chain;
use super::format::OperandFormat;
use super::inputs::{InputRow, code_row};
use super::operands::Operands;
use super::weights::Weights;
use crate::codes::{Coded, Finish, Frame, multiply_coded, multiply_codes};
use crate::disjoint::TileMut;
use crate::gemm::Lhs;
use crate::isa::Isa;
use crate::pack::Side;
use crate::packing::Packing;
use crate::quantizer::Quantizers;
use crate::scratch::Scratch;
use crate::tuning::CODED_ARRAY_ROWS;

/// Weights that are given by codes.
pub(crate) struct CodedWeights<'a> {
    isa: Isa,
    coded: Coded<'a>,
    /// Rows of x.
    rows: usize,
    /// Where products of codes are summed as integers: the steps of the columns.
    dacs: Option<Quantizers>,
}

impl<'a> CodedWeights<'a> {
    /// Of `weights` whose numbers are those of `coded`, which [`is_through_dac`] or a chain without DAC
    /// of w vouches for.
    pub(crate) fn new(isa: Isa, weights: &Weights<'_>, coded: Coded<'a>, rows: usize) -> Self {
        let is_code = weights.plan.format == OperandFormat::Code;
        let dacs = is_code.then(|| weights.dacs(isa, &(0..weights.columns), &[]));
        Self { isa, coded, rows, dacs }
    }

    /// Whether products are summed as integers.
    pub(crate) fn is_integer(&self) -> bool {
        self.dacs.is_some()
    }

    /// What one unit of each of some columns stands for; None where they are no codes.
    pub(crate) fn steps(&self, columns: &Range<usize>) -> Option<&[f32]> {
        self.dacs.as_ref().map(|dacs| dacs.steps(columns.clone()))
    }

    /// Integers of x as a product with these rows of the codes takes them.
    pub(crate) fn frame(&self, inputs: Range<usize>) -> Frame {
        Frame::new(self.isa, &self.coded.codes, inputs, self.rows)
    }

    /// Writes the codes of `x`, row `row`, to a frame.
    pub(crate) fn code_row(
        &self,
        packed: &mut [u32],
        x: &[f32],
        operands: &Operands<'_>,
        row: usize,
        frame: Frame,
    ) -> InputRow {
        let mut words = Scratch::<u32>::new(Packing::I8.packed_len(x.len()));
        let input = code_row(self.isa, &mut words, x, operands, row, (Packing::I8, Side::Right));
        frame.write(packed, &bytemuck::cast_slice(&words)[..x.len()]);
        input
    }

    /// Writes sums of products of codes of x and of w, over these inputs, of some columns.
    pub(crate) fn multiply_codes<'r>(
        &self,
        out: &mut TileMut<'_, f32>,
        x: (&[u32], usize),
        rows: impl Iterator<Item = &'r InputRow>,
        inputs: Range<usize>,
        columns: Range<usize>,
    ) {
        let codes = &self.coded.codes;
        // Two levels ±1 of the codes 0 and 1, and else as many on both sides of 0.
        let (factor, zero) = match codes.bits {
            1 => (2, 1),
            bits => (1, (1 << (bits - 1)) - 1),
        };
        let frame = self.frame(inputs);
        let of_one = frame.taken_off() * factor as i32 - zero;
        let start: Vec<i32> = rows.map(|row| row.sum.wrapping_mul(of_one)).collect();
        let finish = Finish { factor, start: &start };
        multiply_codes(self.isa, out, x, frame, codes, columns, finish);
    }

    /// Writes sums of products of numbers, as [`multiply_codes`](Self::multiply_codes).
    pub(crate) fn multiply_numbers(
        &self,
        out: &mut TileMut<'_, f32>,
        x: Lhs<'_>,
        inputs: Range<usize>,
        columns: Range<usize>,
    ) {
        multiply_coded(self.isa, out, x, &self.coded, inputs, columns, false);
    }
}

/// Whether the DAC of w with these full scales leaves the numbers as they are, with their codes less a
/// zero point for its own.
pub(crate) fn is_through_dac(chain: &Chain, coded: &Coded<'_>, full_scale: &[f32]) -> bool {
    let [_, columns] = coded.extents();
    let (bits, levels) = (coded.codes.bits, &coded.levels);
    let rows = [levels.scale, levels.zero_point].map(|values| values.only_row());
    let ([Some(scale), Some(zero_point)], None) = (rows, levels.table) else {
        return false;
    };
    let is_one = bits == 1;
    let zero = if is_one { 0.5 } else { ((1 << (bits - 1)) - 1) as f32 };
    let of = |values: &[f32], column: usize| values[column.min(values.len() - 1)];
    chain.weight.is(bits)
        && !full_scale.is_empty()
        && zero_point.iter().all(|value| *value == zero)
        && (0..columns).all(|column| {
            let step = chain.weight.quantizer(of(full_scale, column)).step();
            // So that no level is rounded to 0 or to infinity.
            let is_normal = (1e-30..1e30).contains(&step);
            is_normal && of(scale, column) == if is_one { 2.0 * step } else { step }
        })
        && (is_one || !coded.codes.has_largest())
}

/// Whether arrays have inputs enough for words of them to be read in place.
pub(crate) fn is_wide(chain: &Chain, depth: usize) -> bool {
    let tiles = chain.tiles(depth);
    tiles.count() == 1 || tiles.widest() >= CODED_ARRAY_ROWS
}
