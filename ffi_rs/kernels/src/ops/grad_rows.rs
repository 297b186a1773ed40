//! What the backward op makes of each row before it multiplies: dz, and x once more.

use std::ops::Range;

use super::epilogue::Noise;
use super::grad_products::Gradients;
use super::grad_steps::{
    RowSums, Upstream, accumulate, by_signs, by_slope, multiply_each, scale, upstream,
};
use super::operands::{Saved, Sizes};
use super::optical_matmul_grad::Backward;
use super::prepare::{OperandFormat, code_row, code_rows, convert_row, x_norm_sq_of_row};
use super::rounding::{self, Rounded, round_by_row};
use crate::disjoint::StageBuffer;
use crate::isa::prefetch_all;
use crate::noise::SEEDED;
use crate::pack::{pack_floats, pack_rows, round_to_bf16};
use crate::packing::{Arithmetic, Packing};
use crate::quantizer::Converter;
use crate::scratch::Scratch;

/// Rows that one chunk computes, whatever the number of threads: sums over them come first.
pub(super) const GROUP: usize = 8;
// Their random words are drawn together.
const _: () = assert!(GROUP <= SEEDED);

/// Some rows of dz, and of x as the product of dw needs them.
pub(super) struct Block {
    /// f32\[rows, columns\]
    pub(super) dz: StageBuffer<f32>,
    /// dz as the lhs of dx, packed\[rows, packed columns\]; empty where that is `dz`.
    pub(super) dz_packed: StageBuffer<u32>,
    /// What one code of a row of `dz_packed` stands for.
    pub(super) dz_scale: StageBuffer<f32>,
    /// Random bits that round dz for dw, \[rows, columns\].
    pub(super) bits: StageBuffer<u16>,
    /// x as the lhs of dw, packed\[packed rows, depth\]; empty where that is x itself.
    pub(super) x_packed: StageBuffer<u32>,
    /// The step of each row of x.
    pub(super) x_steps: StageBuffer<f32>,
    /// Whether the DAC clips a value of the row.
    pub(super) x_clipped: StageBuffer<bool>,
    pub(super) sums: StageBuffer<RowSums>,
    /// By group of rows and column: Σ dz, Σ g·∂out/∂y_full_scale, and the largest |dz · step of x|.
    pub(super) bias: StageBuffer<f32>,
    pub(super) y_full_scale: StageBuffer<f32>,
    pub(super) peaks: StageBuffer<u32>,
    /// By row and panel of dx: part of the gradient of x_full_scale.
    pub(super) x_full_scale: StageBuffer<f32>,
}

/// What one worker needs for its rows.
#[derive(Default)]
pub(super) struct RowScratch {
    x: Scratch<f32>,
    dz: Scratch<f32>,
    epsilon: Scratch<f32>,
    /// Random words of the rows of a group.
    random: Scratch<u32>,
}

impl Block {
    /// Room for `rows` rows.
    pub(super) fn new(backward: &Backward<'_>, rows: usize) -> Self {
        let Backward { isa, sizes: Sizes { depth, columns, .. }, dx, dw, .. } = *backward;
        let groups = Self::chunks(rows);
        let when = |needed: bool, count: usize| if needed { count } else { 0 };
        let converted = dx.arithmetic != Arithmetic::F32 || dx.rounded;
        let packed = dx.arithmetic.packing(isa).packed_len(columns);
        let x_packed = dw.arithmetic.packing(isa).packed_len(rows) * depth;
        Self {
            dz: StageBuffer::scratch(rows * columns),
            dz_packed: StageBuffer::scratch(when(converted, rows * packed)),
            dz_scale: StageBuffer::scratch(rows),
            bits: StageBuffer::scratch(when(dw.rounded, rows * columns)),
            x_packed: StageBuffer::scratch(when(!dw.is_in_place(), x_packed)),
            x_steps: StageBuffer::new(1.0, rows),
            x_clipped: StageBuffer::new(true, rows),
            sums: StageBuffer::new(RowSums::default(), rows),
            bias: StageBuffer::scratch(groups * columns),
            y_full_scale: StageBuffer::scratch(when(backward.with_ranges, groups * columns)),
            peaks: StageBuffer::scratch(when(dw.rounded, groups * columns)),
            // Zero where dx is not computed.
            x_full_scale: StageBuffer::new(0.0, rows * panel_count(backward)),
        }
    }

    /// Chunks of `rows` rows to fill.
    pub(super) fn chunks(rows: usize) -> usize {
        rows.div_ceil(GROUP)
    }

    /// Computes a chunk of the block, which holds the rows `rows` of the call.
    ///
    /// # Safety
    ///
    /// Nothing else uses this chunk of the block and of the gradient of the noise meanwhile.
    pub(super) unsafe fn fill(
        &self,
        backward: &Backward<'_>,
        rows: Range<usize>,
        chunk: usize,
        gradients: &Gradients<'_>,
        scratch: &mut RowScratch,
    ) {
        let first = chunk * GROUP;
        let count = GROUP.min(rows.len() - first);
        // SAFETY: as this function's.
        unsafe {
            self.fill_group(backward, rows.start, first, count, scratch);
            let sums = self.sums.read(first..first + count);
            for (row, sums) in (rows.start + first..).zip(sums) {
                let noise = backward.ranges.coefficients(row).filter(|_| backward.with_ranges);
                let gradient = noise.map_or([0.0; 4], |noise| noise.gradient(sums));
                gradients.noise.slice(row * 4, 4).copy_from_slice(&gradient);
            }
        }
    }

    /// Computes rows `first …` of the block, whose first is row `start` of the call.
    ///
    /// # Safety
    ///
    /// Nothing else uses these rows and their group meanwhile.
    unsafe fn fill_group(
        &self,
        backward: &Backward<'_>,
        start: usize,
        first: usize,
        count: usize,
        scratch: &mut RowScratch,
    ) {
        let columns = backward.sizes.columns;
        let group = first / GROUP;
        // SAFETY: as this function's.
        let (bias, y_full_scale, sums, x_steps) = unsafe {
            (
                self.bias.write(group * columns, columns),
                if backward.with_ranges {
                    self.y_full_scale.write(group * columns, columns)
                } else {
                    &mut []
                },
                self.sums.write(first, count),
                self.x_steps.write(first, count),
            )
        };
        backward.prefetch(start + first);
        // SAFETY: as this function's.
        unsafe { self.convert_inputs(backward, start, first, sums, x_steps, scratch) };
        bias.fill(0.0);
        y_full_scale.fill(0.0);
        let rows = start + first..start + first + count;
        // SAFETY: as this function's.
        let dz = unsafe { self.dz.write(first * columns, count * columns) };
        let epsilon = &mut scratch.epsilon;
        let at = rows.start * columns..rows.end * columns;
        match backward.saved {
            Saved::PreNoise(y) => {
                let dz = dz.chunks_exact_mut(columns.max(1));
                for ((row, dz), sums) in rows.clone().zip(dz).zip(sums) {
                    if row + 1 < rows.end {
                        backward.prefetch(row + 1);
                    }
                    let mut sums = Sums { row: sums, bias, y_full_scale };
                    backward.fill_by_pre_noise(dz, y, row, &mut sums, epsilon);
                }
            }
            Saved::Slope(slope) => {
                by_slope(backward.isa, dz, bias, &backward.g[at.clone()], &slope[at]);
            }
            Saved::Signs(signs) => {
                backward.fill_by_signs(dz, bias, signs, rows.clone(), epsilon);
            }
        }
        // SAFETY: as this function's.
        unsafe { self.lay_out(backward, dz, first, rows, scratch) };
    }

    /// Converts rows of x: their x_norm_sq, their steps, and words for the product of dw.
    ///
    /// # Safety
    ///
    /// As [`Self::fill_group`].
    unsafe fn convert_inputs(
        &self,
        backward: &Backward<'_>,
        start: usize,
        first: usize,
        sums: &mut [RowSums],
        steps: &mut [f32],
        scratch: &mut RowScratch,
    ) {
        let Backward { isa, chain, sizes, dw, ref ranges, .. } = *backward;
        let depth = sizes.depth;
        let x = |row: usize| &backward.x[row * depth..][..depth];
        let (start, count) = (start + first, sums.len());
        sums.fill(RowSums::default());
        for (row, sums) in (start..).zip(sums).filter(|(row, _)| ranges.has_weight_noise(*row)) {
            sums.x_norm_sq = x_norm_sq_of_row(isa, x(row), chain, ranges, row);
        }
        if dw.is_in_place() {
            return;
        }
        // SAFETY: as this function's.
        let clipped = unsafe { self.x_clipped.write(first, count) };
        let packing = dw.arithmetic.packing(isa);
        let group = packing.values_per_word();
        // SAFETY: as this function's.
        let packed = unsafe {
            self.x_packed
                .write(packing.packed_len(first) * depth, packing.packed_len(count) * depth)
        };
        if dw.format == OperandFormat::Code {
            let states = steps.chunks_mut(group).zip(clipped.chunks_mut(group));
            for (word, (steps, clipped)) in states.enumerate() {
                let row = start + word * group;
                let packed = &mut packed[word * depth..][..depth];
                let rows = row..row + steps.len();
                let coded = code_rows(isa, packed, backward.x, ranges, rows, packing);
                for (row, (step, clipped)) in coded.iter().zip(steps.iter_mut().zip(clipped)) {
                    (*step, *clipped) = (row.step, row.clipped);
                }
            }
            return;
        }
        let fill = |numbers: &mut [f32]| {
            for (index, (step, clipped)) in steps.iter_mut().zip(clipped).enumerate() {
                let row = start + index;
                let out = &mut numbers[index * depth..][..depth];
                if dw.format == OperandFormat::Exact {
                    out.copy_from_slice(x(row));
                } else if chain.is_integer(depth) {
                    let packed = bytemuck::cast_slice_mut(out);
                    let state = code_row(isa, packed, x(row), ranges, row, Packing::F32);
                    (*step, *clipped) = (state.step, state.clipped);
                    scale(isa, out, state.step);
                } else {
                    let state = convert_row(isa, out, x(row), chain, ranges, row);
                    (*step, *clipped) = (state.step, state.clipped);
                }
            }
        };
        if packing == Packing::F32 {
            // Words are the numbers.
            let numbers = bytemuck::cast_slice_mut(packed);
            fill(numbers);
            if dw.arithmetic == Arithmetic::Bf16 {
                round_to_bf16(isa, numbers);
            }
            return;
        }
        scratch.x.resize(GROUP * depth);
        // Rows beyond the last.
        scratch.x[count * depth..].fill(0.0);
        fill(&mut scratch.x);
        for (word, out) in packed.chunks_exact_mut(depth.max(1)).enumerate() {
            let rows = std::array::from_fn(|g| {
                let at = (word * group + g).min(GROUP - 1);
                &scratch.x[at * depth..][..depth]
            });
            pack_rows(isa, out, rows, packing);
        }
    }

    /// Writes rows of dz, which are `first …` of the block and `rows` of the call, as the left
    /// factor of dx, with the peaks of their columns.
    ///
    /// # Safety
    ///
    /// As [`Self::fill_group`].
    unsafe fn lay_out(
        &self,
        backward: &Backward<'_>,
        dz: &[f32],
        first: usize,
        rows: Range<usize>,
        scratch: &mut RowScratch,
    ) {
        let Backward { isa, sizes: Sizes { columns, .. }, dx, dw, .. } = *backward;
        // Codes take the random bits of dw with theirs.
        if !(dx.rounded || dx.arithmetic == Arithmetic::Bf16 && backward.needs_inputs()) {
            return;
        }
        let count = rows.len();
        let packing = dx.arithmetic.packing(isa);
        let size = packing.packed_len(columns);
        // SAFETY: as this function's.
        let packed = unsafe { self.dz_packed.write(first * size, count * size) };
        if !dx.rounded {
            let values = &mut scratch.dz;
            values.resize(columns);
            let rows = dz.chunks_exact(columns.max(1));
            for (out, dz) in packed.chunks_exact_mut(size.max(1)).zip(rows) {
                multiply_each(isa, values, dz, &backward.dx_steps);
                if packing == Packing::F32 {
                    round_to_bf16(isa, values);
                }
                pack_floats(isa, out, values, packing);
            }
            return;
        }
        let random = &mut scratch.random;
        random.resize(count * columns);
        backward.ranges.rounding_words(isa, rows, random);
        // SAFETY: as this function's.
        let (out, steps) = unsafe {
            let out = Rounded {
                packed,
                scales: self.dz_scale.write(first, count),
                rest: self.bits.write(first * columns, count * columns),
                peaks: self.peaks.write(first / GROUP * columns, columns),
            };
            (out, self.x_steps.read(first..first + count))
        };
        let by_row = if dw.format == OperandFormat::Code { steps } else { &[1.0; GROUP][..count] };
        let upstream = rounding::Upstream { dz, by_column: &backward.dx_steps, by_row, random };
        round_by_row(isa, out, &upstream, packing);
    }
}

/// What a row of dz is added to.
struct Sums<'a> {
    row: &'a mut RowSums,
    bias: &'a mut [f32],
    y_full_scale: &'a mut [f32],
}

/// Panels of dx whose parts of the gradient of x_full_scale are kept.
fn panel_count(backward: &Backward<'_>) -> usize {
    if backward.with_ranges { backward.panels() } else { 0 }
}

impl Backward<'_> {
    /// Asks for what is read of row `row`, which is used soon.
    fn prefetch(&self, row: usize) {
        let at = row * self.sizes.columns..(row + 1) * self.sizes.columns;
        prefetch_all(&self.g[at.clone()]);
        match self.saved {
            Saved::PreNoise(values) | Saved::Slope(values) => prefetch_all(&values[at]),
            Saved::Signs(signs) => prefetch_all(&signs[at]),
        }
    }

    /// Writes rows of dz from the signs, and adds them to `bias`.
    fn fill_by_signs(
        &self,
        dz: &mut [f32],
        bias: &mut [f32],
        signs: &[i8],
        rows: Range<usize>,
        epsilon: &mut Scratch<f32>,
    ) {
        let (columns, first, last) = (self.sizes.columns, rows.start, rows.end);
        let piece = |rows: Range<usize>, range: Range<usize>, epsilon: &mut [f32]| {
            for (row, epsilon) in rows.zip(epsilon.chunks_exact(range.len())) {
                if range.start == 0 && row + 1 < last {
                    self.prefetch(row + 1);
                }
                let of = |row: usize| row * columns + range.start..row * columns + range.end;
                let noise = self.ranges.coefficients(row).map(|noise| (noise.relative(), epsilon));
                let dz = &mut dz[of(row - first)];
                let (g, signs) = (&self.g[of(row)], &signs[of(row)]);
                by_signs(self.isa, dz, &mut bias[range.clone()], g, signs, noise);
            }
        };
        self.ranges.noise_pieces(self.isa, rows, 0..columns, epsilon, piece);
    }

    /// Writes row `row` of dz from y, and adds to the sums along the row and the columns.
    fn fill_by_pre_noise(
        &self,
        dz: &mut [f32],
        y: &[f32],
        row: usize,
        sums: &mut Sums<'_>,
        epsilon: &mut Scratch<f32>,
    ) {
        let columns = self.sizes.columns;
        let at = row * columns..(row + 1) * columns;
        let (g, y) = (&self.g[at.clone()], &y[at]);
        let Sums { row: row_sums, bias, y_full_scale } = sums;
        let x_norm_sq = row_sums.x_norm_sq;
        let with_sums = self.with_ranges || self.ranges.has_weight_noise(row);
        let noise =
            self.ranges.coefficients(row).map(|coefficients| Noise { coefficients, x_norm_sq });
        let piece = |_, range: Range<usize>, epsilon: &mut [f32]| {
            let adc = (!self.chain.adc.is_off())
                .then(|| Converter::Each(self.adc.columns(range.start, range.len())));
            let (g, y) = (&g[range.clone()], &y[range.clone()]);
            let part = Upstream { g, y, adc, noise, epsilon };
            let sums = with_sums.then_some(&mut **row_sums);
            let y_full_scale = self.with_ranges.then(|| &mut y_full_scale[range.clone()]);
            upstream(self.isa, &mut dz[range], &part, sums, y_full_scale);
        };
        self.ranges.noise_pieces(self.isa, row..row + 1, 0..columns, epsilon, piece);
        accumulate(self.isa, bias, dz);
    }
}
