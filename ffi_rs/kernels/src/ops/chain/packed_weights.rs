//! w through its DAC, packed as the rhs of a product.

use std::fmt;
use std::ops::Range;

use super::format::{OperandFormat, pack_line, step_of, zero_point_correction};
use super::tiles::Tiles;
use super::weight_codes::code_columns;
use super::weights::{Columns, Weights};
use crate::disjoint::{Chunk, DisjointMut, StageBuffer};
use crate::gemm::Rhs;
use crate::isa::Isa;
use crate::packing::Packing;
use crate::quantizer::{Converted, Converter, Quantizers, convert};
use crate::scratch::Scratch;
use crate::tuning::PACKED_COLUMNS;
use crate::vector::TRANSPOSED;

/// Weights that are converted and packed, in chunks of columns.
pub(crate) struct PackedWeights {
    isa: Isa,
    packing: Packing,
    tiles: Tiles,
    columns: usize,
    /// Columns of a chunk.
    width: usize,
    /// Chunk by chunk and tile by tile: words\[words of the inputs, columns of the chunk\].
    packed: StageBuffer<u32>,
    /// Codes only, by tile: where the sum of each column starts.
    corrections: StageBuffer<i32>,
    /// Codes only, by tile: what one unit of each column stands for; NaN if a weight is not finite.
    steps: StageBuffer<f32>,
}

impl fmt::Debug for PackedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packing, tiles, columns, .. } = self;
        write!(f, "{packing:?} words of {columns} columns of weights in {tiles:?}")
    }
}

impl PackedWeights {
    /// Room for `weights`, which [`pack`](Self::pack) fills, in chunks enough for `workers`.
    pub(crate) fn new(isa: Isa, weights: &Weights<'_>, workers: usize) -> Self {
        let Weights { columns, plan, tiles, .. } = *weights;
        let packing = plan.packing(isa);
        let codes = if plan.format == OperandFormat::Code { tiles.count() * columns } else { 0 };
        // What lies together is read at once, as far as there is a part for everyone.
        let width = columns.div_ceil(workers.max(2)).next_multiple_of(128).min(PACKED_COLUMNS);
        Self {
            isa,
            packing,
            tiles,
            columns,
            width,
            packed: StageBuffer::scratch(tiles.packed_len(packing) * columns),
            corrections: StageBuffer::scratch(codes),
            steps: StageBuffer::scratch(codes),
        }
    }

    /// Bytes of all that is packed.
    pub(crate) fn bytes(&self) -> usize {
        let words = self.packed.len() + self.corrections.len() + self.steps.len();
        words * size_of::<u32>()
    }

    /// How many chunks there are to pack.
    pub(crate) fn chunks(&self) -> usize {
        self.columns.div_ceil(self.width.max(1))
    }

    /// The columns of a chunk.
    pub(crate) fn columns_of(&self, chunk: usize) -> Range<usize> {
        chunk * self.width..self.columns.min((chunk + 1) * self.width)
    }

    /// Converts and packs the columns of a chunk, and writes their peaks where these are wanted.
    pub(crate) fn pack(
        &self,
        weights: &Weights<'_>,
        chunk: usize,
        peaks_out: Option<&DisjointMut<'_, f32>>,
    ) {
        let range = self.columns_of(chunk);
        let looks = weights.finds_ranges() || peaks_out.is_some();
        let mut peaks = Scratch::new(if looks { range.len() } else { 0 });
        if looks {
            weights.peaks(self.isa, &range, &mut peaks);
        }
        if let Some(out) = peaks_out {
            out.write(range.clone()).copy_from_slice(&peaks);
        }
        let dacs = weights.dacs(self.isa, &range, &peaks);
        for tile in 0..self.tiles.count() {
            let codes = self.codes_of(tile, &range);
            let mut packed = self.packed.write(self.place_of(tile, &range));
            let mut corrections = self.corrections.write(codes.clone());
            let mut steps = self.steps.write(codes.clone());
            steps.copy_from_slice(dacs.steps(0..codes.len()));
            // Without depth no line is packed, and the sums start from zero.
            corrections.fill(0);
            let (packed, corrections, steps) = (&mut *packed, &mut *corrections, &mut *steps);
            let (range, inputs) = (range.clone(), self.tiles.inputs(tile));
            let mut into = Columns { packed, range, inputs, corrections, steps };
            if weights.transposed {
                self.pack_lines(&mut into, weights, &dacs);
            } else if weights.plan.format == OperandFormat::Code {
                code_columns(self.isa, into, weights, &dacs, self.packing);
            } else {
                convert_columns(self.isa, into, weights, &dacs);
            }
        }
    }

    /// Calls `part(columns, rhs, corrections)` for the parts of some columns of a tile that lie
    /// together; codes only have corrections, where the sum of each column starts.
    pub(crate) fn for_each_part(
        &self,
        tile: usize,
        columns: &Range<usize>,
        part: impl Fn(Range<usize>, Rhs<'_>, &[i32]),
    ) {
        for chunk in columns.start / self.width..columns.end.div_ceil(self.width) {
            let of_chunk = self.columns_of(chunk);
            let range = columns.start.max(of_chunk.start)..columns.end.min(of_chunk.end);
            let packed = self.packed.read(self.place_of(tile, &of_chunk));
            let packed = packed.get(range.start - of_chunk.start..).unwrap_or(&[]);
            let codes = self.codes_of(tile, &range);
            let rhs = Rhs { packed, stride: of_chunk.len() };
            part(range, rhs, &self.corrections.read(codes));
        }
    }

    /// What one unit of each of some columns of a tile stands for; None where they are no codes.
    pub(crate) fn steps(&self, tile: usize, columns: &Range<usize>) -> Option<Chunk<'_, f32>> {
        (!self.steps.is_empty()).then(|| self.steps.read(self.codes_of(tile, columns)))
    }

    /// Where the words of a tile are, in a chunk with these columns.
    fn place_of(&self, tile: usize, columns: &Range<usize>) -> Range<usize> {
        let start = columns.start * self.tiles.packed_len(self.packing);
        let Range { start: first, end } = self.tiles.words(tile, self.packing);
        start + first * columns.len()..start + end * columns.len()
    }

    /// Where what is known of the codes of some columns of a tile is; nowhere where there are none.
    fn codes_of(&self, tile: usize, columns: &Range<usize>) -> Range<usize> {
        if self.steps.is_empty() {
            return 0..0;
        }
        let first = tile * self.columns;
        first + columns.start..first + columns.end
    }

    /// Packs weights whose rows are along the depth.
    fn pack_lines(&self, into: &mut Columns<'_>, weights: &Weights<'_>, dacs: &Quantizers) {
        let packed_len = self.packing.packed_len(into.inputs.len());
        let mut lines = Scratch::new(TRANSPOSED * packed_len);
        let mut room = Vec::new();
        for first in into.range.clone().step_by(TRANSPOSED) {
            let columns = first..into.range.end.min(first + TRANSPOSED);
            for (line, column) in lines.chunks_exact_mut(packed_len.max(1)).zip(columns.clone()) {
                let values = weights.column(column, &into.inputs, &mut room);
                let index = column - into.range.start;
                let dac = Converter::one(weights.dac, dacs.full_scale(index));
                let Converted { sum, clipped } =
                    pack_line(self.isa, line, values, &dac, weights.plan);
                if let Some(step) = into.steps.get_mut(index) {
                    into.corrections[index] = zero_point_correction(self.packing, sum);
                    *step = step_of(self.isa, *step, values, clipped);
                }
            }
            into.transpose(self.isa, columns, &lines, packed_len);
        }
    }
}

/// Floats, from weights whose rows are along the columns.
fn convert_columns(isa: Isa, into: Columns<'_>, weights: &Weights<'_>, dacs: &Quantizers) {
    let Columns { packed, range, inputs, .. } = into;
    let dacs = Converter::Each(dacs.columns(0, range.len()));
    let mut room = [0.0; PACKED_COLUMNS];
    for (row, out) in inputs.zip(packed.chunks_exact_mut(range.len())) {
        let out = bytemuck::cast_slice_mut(out);
        let values = weights.row(row, &range, &mut room);
        if weights.plan.format == OperandFormat::Exact {
            out.copy_from_slice(values);
        } else {
            convert(isa, out, values, &dacs, &mut false);
        }
    }
}
