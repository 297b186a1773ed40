//! The weights, packed as the rhs of x·w.

use std::ops::Range;

use super::operands::{Chain, Sizes, Weights};
use super::prepare::{OperandFormat, pack_line, poisoned, step_of, zero_point_correction};
use crate::disjoint::StageBuffer;
use crate::gemm::Rhs;
use crate::isa::{Isa, for_each_isa};
use crate::pack::{TRANSPOSED, join, transpose};
use crate::packing::{Arithmetic, Packing};
use crate::quantizer::{
    self, Converted, Converter, PIECE, Quantizers, beyond, convert, fixed_code, fixed_integer,
    fixed_sum, integer, padded, within,
};
use crate::scratch::Scratch;

/// The rhs of x·w: converted and packed weights, or the weights as they lie in memory.
pub(crate) struct PackedWeights<'a> {
    isa: Isa,
    weights: Weights<'a>,
    quantizers: Quantizers,
    chain: &'a Chain,
    arithmetic: Arithmetic,
    packing: Packing,
    /// Columns that one chunk converts.
    width: usize,
    /// Chunk by chunk, each its columns; empty where the weights are multiplied as they are.
    packed: StageBuffer<u32>,
    /// Integers only: where the sum of each column starts.
    correction: StageBuffer<i32>,
    /// Integers only: what one unit of each column stands for; NaN if a weight is not finite.
    steps: StageBuffer<f32>,
}

impl<'a> PackedWeights<'a> {
    /// Room for the packed weights, which [`convert`](Self::convert) fills, in parts for so many workers.
    pub(crate) fn new(
        isa: Isa,
        weights: Weights<'a>,
        quantizers: Quantizers,
        chain: &'a Chain,
        arithmetic: Arithmetic,
        workers: usize,
    ) -> Self {
        let Sizes { depth, columns, .. } = weights.sizes;
        let packing = arithmetic.packing(isa);
        let in_place =
            arithmetic == Arithmetic::F32 && chain.weight.is_off() && !chain.transpose_weight;
        let packed = if in_place { 0 } else { packing.packed_len(depth) * columns };
        let integers = if arithmetic == Arithmetic::Int8 { columns } else { 0 };
        let steps = StageBuffer::scratch(integers);
        // SAFETY: nothing else uses it yet.
        unsafe { steps.write(0, integers) }.copy_from_slice(quantizers.steps(integers));
        // Without depth there is nothing to convert, and the sums are where they start.
        let (packed, correction) = (StageBuffer::scratch(packed), StageBuffer::new(0, integers));
        // What lies together is read at once, as far as there is a part for everyone.
        let width = columns.div_ceil(workers.max(2)).next_multiple_of(128).min(MOST_COLUMNS);
        Self {
            isa,
            weights,
            quantizers,
            chain,
            arithmetic,
            packing,
            width,
            packed,
            correction,
            steps,
        }
    }

    /// Chunks of columns to convert.
    pub(crate) fn chunks(&self) -> usize {
        if self.packed.is_empty() { 0 } else { self.weights.sizes.columns.div_ceil(self.width) }
    }

    /// Converts the columns of a chunk.
    ///
    /// # Safety
    ///
    /// Nothing else uses the chunk meanwhile.
    pub(crate) unsafe fn convert(&self, chunk: usize) {
        let range = self.columns_of(chunk);
        let integers = if self.arithmetic == Arithmetic::Int8 { range.clone() } else { 0..0 };
        let place = self.place_of(&range);
        // SAFETY: chunks do not overlap; nothing else uses this one.
        let (packed, correction, steps) = unsafe {
            (
                self.packed.write(place.start, place.len()),
                self.correction.write(integers.start, integers.len()),
                self.steps.write(integers.start, integers.len()),
            )
        };
        let into = Columns { packed, range, correction, steps };
        if self.chain.transpose_weight {
            self.along(into);
        } else if self.arithmetic == Arithmetic::Int8 {
            code_columns(self.isa, into, self);
        } else {
            self.values(into);
        }
    }

    /// The columns of a chunk.
    pub(crate) fn columns_of(&self, chunk: usize) -> Range<usize> {
        chunk * self.width..self.weights.sizes.columns.min((chunk + 1) * self.width)
    }

    /// Where the words of a chunk with these columns are.
    fn place_of(&self, columns: &Range<usize>) -> Range<usize> {
        let depth = self.packing.packed_len(self.weights.sizes.depth);
        columns.start * depth..columns.end * depth
    }

    /// Some columns of the weights, as parts that lie together.
    ///
    /// # Safety
    ///
    /// The chunks of these columns are converted.
    pub(crate) unsafe fn parts(
        &self,
        columns: Range<usize>,
    ) -> impl Iterator<Item = (Range<usize>, Rhs<'_>)> {
        let whole = 0..self.weights.sizes.columns;
        let in_place = self.packed.is_empty();
        let chunks = if in_place {
            0..1
        } else {
            columns.start / self.width..columns.end.div_ceil(self.width)
        };
        chunks.map(move |chunk| {
            let of_chunk = if in_place { whole.clone() } else { self.columns_of(chunk) };
            let part = columns.start.max(of_chunk.start)..columns.end.min(of_chunk.end);
            let packed = if in_place {
                bytemuck::cast_slice(self.weights.data)
            } else {
                // SAFETY: as this function's.
                unsafe { self.packed.read(self.place_of(&of_chunk)) }
            };
            let packed = packed.get(part.start - of_chunk.start..).unwrap_or(&[]);
            (part, Rhs { packed, stride: of_chunk.len() })
        })
    }

    /// Integers only: where the sums of `columns` start, and what their units stand for.
    ///
    /// # Safety
    ///
    /// The chunks of these columns are converted.
    pub(crate) unsafe fn sums(&self, columns: Range<usize>) -> (&[i32], &[f32]) {
        // SAFETY: as this function's.
        unsafe { (self.correction.read(columns.clone()), self.steps.read(columns)) }
    }

    /// Floats, from weights whose rows are along the columns.
    fn values(&self, into: Columns<'_>) {
        let count = into.range.len();
        let converter = Converter::Each(self.quantizers.columns(into.range.start, count));
        let rows = self.weights.data.chunks_exact(self.weights.sizes.columns);
        for (out, row) in into.packed.chunks_exact_mut(count).zip(rows) {
            let out = bytemuck::cast_slice_mut(out);
            convert(self.isa, out, &row[into.range.clone()], &converter, &mut false);
        }
    }

    /// Floats or integers, from weights whose rows are along the depth.
    fn along(&self, mut into: Columns<'_>) {
        let isa = self.isa;
        let depth = self.weights.sizes.depth;
        let packed = self.packing.packed_len(depth);
        let mut lines = Scratch::new(TRANSPOSED * packed);
        for first in into.range.clone().step_by(TRANSPOSED) {
            let columns = first..into.range.end.min(first + TRANSPOSED);
            for (line, column) in lines.chunks_exact_mut(packed.max(1)).zip(columns.clone()) {
                let values = &self.weights.data[column * depth..][..depth];
                let format = if self.arithmetic == Arithmetic::Int8 {
                    OperandFormat::Code
                } else if self.chain.weight.is_off() {
                    OperandFormat::Exact
                } else {
                    OperandFormat::Value
                };
                let scale = self.quantizers.full_scale(column);
                let converter = Converter::one(self.chain.weight, scale);
                let Converted { sum, clipped } =
                    pack_line(isa, line, values, &converter, format, self.arithmetic);
                if self.arithmetic == Arithmetic::Int8 {
                    let index = column - into.range.start;
                    into.correction[index] = zero_point_correction(self.packing, sum);
                    into.steps[index] = step_of(isa, into.steps[index], values, clipped);
                }
            }
            transpose_into(isa, &mut into, first, &lines, packed, columns.len());
        }
    }
}

/// Columns that one chunk converts at most.
const MOST_COLUMNS: usize = 256;

/// Where some packed columns go.
struct Columns<'a> {
    packed: &'a mut [u32],
    range: Range<usize>,
    correction: &'a mut [i32],
    steps: &'a mut [f32],
}

/// Writes `count` lines of words as columns `first …`.
fn transpose_into(
    isa: Isa,
    into: &mut Columns<'_>,
    first: usize,
    lines: &[u32],
    packed: usize,
    count: usize,
) {
    if packed == 0 {
        return;
    }
    let mut rows: [&[u32]; TRANSPOSED] = [&[]; TRANSPOSED];
    for (row, line) in rows.iter_mut().zip(lines.chunks_exact(packed)) {
        *row = line;
    }
    let mut block = [0; TRANSPOSED * PIECE];
    for piece in (0..packed).step_by(PIECE) {
        let length = PIECE.min(packed - piece);
        let rows = rows.map(|row| &row[piece..piece + length]);
        transpose(isa, &mut block, TRANSPOSED, &rows[..count], length);
        for (d, row) in block.chunks_exact(TRANSPOSED).take(length).enumerate() {
            let at = (piece + d) * into.range.len() + first - into.range.start;
            into.packed[at..at + count].copy_from_slice(&row[..count]);
        }
    }
}

#[inline(always)]
fn code_columns_body(into: Columns<'_>, weights: &PackedWeights<'_>) {
    // Narrow registers of 16 columns are too few for the values of two rows and what is known of them.
    match (weights.packing.values_per_word(), weights.isa < Isa::Avx512) {
        (4, _) => code_columns_by::<4, 16>(into, weights),
        (_, false) => code_columns_by::<2, 16>(into, weights),
        (_, true) => code_columns_by::<2, 8>(into, weights),
    }
}

/// The same, with `GROUP` codes to a word, for `LANES` columns in registers.
#[inline(always)]
fn code_columns_by<const GROUP: usize, const LANES: usize>(
    into: Columns<'_>,
    packed_weights: &PackedWeights<'_>,
) {
    let PackedWeights { weights, quantizers, packing, .. } = packed_weights;
    let Sizes { depth, columns, .. } = weights.sizes;
    let (first, count) = (into.range.start, into.range.len());
    let quantizers = quantizers.columns(first, count);
    let zeros = [0.0; MOST_COLUMNS];
    let mut totals = Totals { sums: [0; MOST_COLUMNS], peaks: [0; MOST_COLUMNS] };
    for (word, out) in into.packed.chunks_exact_mut(count).enumerate() {
        let mut rows: [&[f32]; GROUP] = [&zeros[..count]; GROUP];
        for (values, row) in rows.iter_mut().zip(word * GROUP..depth) {
            *values = &weights.data[row * columns + first..][..count];
        }
        let present = GROUP.min(depth - word * GROUP);
        totals.code::<GROUP, LANES>(out, rows, &quantizers, present);
    }
    let sums = totals.sums.iter().zip(&totals.peaks);
    for ((sum, peak), (correction, step)) in sums.zip(into.correction.iter_mut().zip(into.steps)) {
        *correction = zero_point_correction(*packing, *sum as i32);
        *step = poisoned(*step, f32::from_bits(*peak) * 0.0);
    }
}

/// What is known of each column of a chunk.
#[repr(align(64))]
struct Totals {
    /// The sum of the codes; anything where nothing `counts` them.
    sums: [u32; MOST_COLUMNS],
    /// The bits of the largest magnitude, where one is clipped or not finite.
    peaks: [u32; MOST_COLUMNS],
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

for_each_isa! {
    /// Integers, from weights whose rows are along the columns.
    fn code_columns(into: Columns<'_>, weights: &PackedWeights<'_>) = code_columns_body
}
