//! Codes of weights whose rows lie along the columns, several rows to a word.
//!
//! Codes of at most 8 bits are found as fixed-point numbers, see [`fixed_code`]; of what the
//! reciprocal leaves open, a register is divided.

use super::format::{poisoned, zero_point_correction};
use super::weights::{Columns, Weights};
use crate::isa::{Isa, for_each_isa};
use crate::pack::join;
use crate::packing::Packing;
use crate::quantizer::{
    self, Quantizers, beyond, fixed_code, fixed_integer, fixed_sum, integer, padded, within,
};
use crate::tuning::PACKED_COLUMNS;

#[inline(always)]
fn code_columns_body(
    isa: Isa,
    into: Columns<'_>,
    weights: &Weights<'_>,
    dacs: &Quantizers,
    packing: Packing,
) {
    // Narrow registers of 16 columns are too few for the values of two rows and what is known of them.
    match (packing.values_per_word(), isa < Isa::Avx512) {
        (4, _) => code_columns_by::<4, 16>(into, weights, dacs, packing),
        (_, false) => code_columns_by::<2, 16>(into, weights, dacs, packing),
        (_, true) => code_columns_by::<2, 8>(into, weights, dacs, packing),
    }
}

for_each_isa! {
    /// Writes the codes of some columns of weights, whose DACs these are, as words, with their
    /// corrections and steps.
    pub(super) fn code_columns(
        isa;
        into: Columns<'_>,
        weights: &Weights<'_>,
        dacs: &Quantizers,
        packing: Packing,
    ) = code_columns_body
}

/// The same, with `GROUP` codes to a word, for `LANES` columns in registers.
#[inline(always)]
fn code_columns_by<const GROUP: usize, const LANES: usize>(
    into: Columns<'_>,
    weights: &Weights<'_>,
    dacs: &Quantizers,
    packing: Packing,
) {
    let (depth, count) = (into.inputs.len(), into.range.len());
    let mut rooms = [[0.0; PACKED_COLUMNS]; GROUP];
    let dacs = dacs.columns(0, count);
    let zeros = [0.0; PACKED_COLUMNS];
    let mut totals = Totals { sums: [0; PACKED_COLUMNS], peaks: [0; PACKED_COLUMNS] };
    for (word, out) in into.packed.chunks_exact_mut(count).enumerate() {
        let mut rows: [&[f32]; GROUP] = [&zeros[..count]; GROUP];
        let filled = rows.iter_mut().zip(&mut rooms);
        for ((values, room), row) in filled.zip(word * GROUP..depth) {
            *values = weights.row(into.inputs.start + row, &into.range, room);
        }
        let present = GROUP.min(depth - word * GROUP);
        totals.code::<GROUP, LANES>(out, rows, &dacs, present);
    }
    let sums = totals.sums.iter().zip(&totals.peaks);
    for ((sum, peak), (correction, step)) in sums.zip(into.corrections.iter_mut().zip(into.steps)) {
        *correction = zero_point_correction(packing, *sum as i32);
        *step = poisoned(*step, f32::from_bits(*peak) * 0.0);
    }
}

/// What is known of each column of a chunk.
#[repr(align(64))]
struct Totals {
    /// The sum of the codes; anything where nothing `counts` them.
    sums: [u32; PACKED_COLUMNS],
    /// The bits of the largest magnitude, where one is clipped or not finite.
    peaks: [u32; PACKED_COLUMNS],
}

impl Totals {
    /// Writes words of the codes of `rows`, of which `present` are not beyond the last row.
    #[inline(always)]
    fn code<const GROUP: usize, const LANES: usize>(
        &mut self,
        out: &mut [u32],
        rows: [&[f32]; GROUP],
        quantizers: &quantizer::Columns<'_>,
        present: usize,
    ) {
        let (divisors, largest, tie) = quantizers.divisors();
        if tie < 0.0 {
            return self.code_each(out, rows, quantizers, present);
        }
        let whole = out.len() - out.len() % LANES;
        let part = Part { rows: rows.map(|row| &row[..whole]), divisors, largest };
        self.code_lanes::<GROUP, LANES>(&mut out[..whole], 0, &part);
        if whole < out.len() {
            let rest = rows.map(|row| padded::<LANES>(&row[whole..], 0.0));
            let divisors = divisors.map(|divisors| padded::<LANES>(&divisors[whole..], 1.0));
            let part = Part {
                rows: rest.each_ref().map(|row| &row[..]),
                divisors: divisors.each_ref().map(|divisors| &divisors[..]),
                largest,
            };
            let mut packed = [0; LANES];
            self.code_lanes::<GROUP, LANES>(&mut packed, whole, &part);
            let rest = out.len() - whole;
            out[whole..].copy_from_slice(&packed[..rest]);
        }
    }

    /// The same for whole registers, from column `first` on.
    #[inline(always)]
    fn code_lanes<const GROUP: usize, const LANES: usize>(
        &mut self,
        out: &mut [u32],
        first: usize,
        part: &Part<'_, GROUP>,
    ) {
        let limit = beyond(part.largest);
        let mut clipped = [0; LANES];
        let packed = out.as_chunks_mut::<LANES>().0;
        let count = packed.len();
        let sums = &mut self.sums[first..].as_chunks_mut::<LANES>().0[..count];
        let [divisors, inverses] =
            part.divisors.map(|divisors| &divisors.as_chunks::<LANES>().0[..count]);
        let rows = part.rows.map(|row| &row.as_chunks::<LANES>().0[..count]);
        for index in 0..count {
            let (inverse, before) = (inverses[index], sums[index]);
            // All is read before anything is written, which might be the same for all that compilers
            // know.
            let (mut word, mut sum) = ([0; LANES], before);
            let mut least = [u32::MAX; LANES];
            for lane in 0..LANES {
                let mut codes = [0; GROUP];
                for (code, row) in codes.iter_mut().zip(rows) {
                    let ratio = row[index][lane] * inverse[lane];
                    let near = within(ratio, limit);
                    clipped[lane] |= near.to_bits() ^ ratio.to_bits();
                    let fraction;
                    (*code, fraction) = fixed_code(near);
                    least[lane] = least[lane].min(fraction);
                }
                (word[lane], sum[lane]) = word_and_sum(codes, before[lane]);
            }
            packed[index] = word;
            if counts::<GROUP>() {
                sums[index] = sum;
            }
            if least.contains(&0) {
                // The reciprocal leaves a code open.
                let rows = rows.map(|row| row[index]);
                (packed[index], sums[index]) = divide(rows, divisors[index], part.largest, before);
            }
        }
        if clipped.iter().fold(0, |all, clipped| all | clipped) != 0 {
            self.raise(first, part);
        }
    }

    /// Adds codes to the sum of a column.
    #[inline(always)]
    fn add<const GROUP: usize>(&mut self, column: usize, codes: [u32; GROUP]) {
        self.sums[column] = codes.into_iter().fold(self.sums[column], u32::wrapping_add);
    }

    /// Raises the peaks of the columns to the magnitudes in the rows.
    #[inline(always)]
    fn raise<const GROUP: usize>(&mut self, first: usize, part: &Part<'_, GROUP>) {
        for row in part.rows {
            for (peak, value) in self.peaks[first..].iter_mut().zip(row) {
                *peak = (*peak).max(value.abs().to_bits());
            }
        }
    }

    /// The same, one by one.
    fn code_each<const GROUP: usize>(
        &mut self,
        out: &mut [u32],
        rows: [&[f32]; GROUP],
        quantizers: &quantizer::Columns<'_>,
        present: usize,
    ) {
        for (index, word) in out.iter_mut().enumerate() {
            // Of what is beyond the last row, the code is 0 also of one bit.
            let mut codes = [0; GROUP];
            for (code, row) in codes.iter_mut().zip(rows).take(present) {
                *code = integer(quantizers.at(index).code(row[index])) as u32;
                self.peaks[index] = self.peaks[index].max(row[index].abs().to_bits());
            }
            self.add(index, codes);
            *word = join(codes);
        }
    }
}

/// Whether sums of codes are of use: those of products of two codes to a word start from zero, as
/// [`zero_point_correction`] says.
const fn counts<const GROUP: usize>() -> bool {
    GROUP == 4
}

/// Joins what [`fixed_code`] gives to a word, and adds the codes to `sum`.
#[inline(always)]
fn word_and_sum<const GROUP: usize>(codes: [u32; GROUP], sum: u32) -> (u32, u32) {
    let here = codes.into_iter().fold(0, u32::wrapping_add);
    (join(codes.map(|code| fixed_sum(code, 1))), sum.wrapping_add(fixed_sum(here, GROUP)))
}

/// The words of rows of weights by division, and the sums of their columns after `sums`.
#[cold]
#[inline(never)]
fn divide<const GROUP: usize, const LANES: usize>(
    rows: [[f32; LANES]; GROUP],
    divisors: [f32; LANES],
    largest: f32,
    mut sums: [u32; LANES],
) -> ([u32; LANES], [u32; LANES]) {
    let mut packed = [0; LANES];
    for lane in 0..LANES {
        let codes =
            rows.each_ref().map(|row| fixed_integer(within(row[lane] / divisors[lane], largest)));
        (packed[lane], sums[lane]) = word_and_sum(codes, sums[lane]);
    }
    (packed, sums)
}

/// Weights of some columns, the divisors and their reciprocals, and the largest code.
struct Part<'a, const GROUP: usize> {
    rows: [&'a [f32]; GROUP],
    divisors: [&'a [f32]; 2],
    largest: f32,
}
