//! What the backward op makes of each row before it multiplies: dz, and x once more.

use std::ops::Range;

use super::epilogue::Noise;
use super::grad_products::Gradients;
use super::grad_steps::{
    RowSums, Upstream, accumulate, by_signs, by_slope, multiply_each, scale, upstream,
};
use super::operands::{Saved, Sizes};
use super::optical_matmul_grad::Backward;
use super::prepare::{Form, code_row, code_rows, convert_row, energy_of_row};
use super::rounding::{self, Rounded, round_by_row};
use crate::noise::SEEDED;
use crate::number::{Kind, Number};
use crate::quantizer::Converter;
use crate::scratch::Scratch;
use crate::shared::Staged;
use crate::simd::prefetch_all;
use crate::words::{interleave, narrow, round_to_brain};

/// Rows that one chunk computes, whatever the number of threads: sums over them come first.
pub(super) const GROUP: usize = 8;
// Their random words are drawn together.
const _: () = assert!(GROUP <= SEEDED);

/// Some rows of dz, and of x as the product of dw needs them.
pub(super) struct Block {
    /// f32\[rows, columns\]
    pub(super) dz: Staged<f32>,
    /// dz as the left factor of dx, words\[rows, words of columns\]; empty where that is `dz`.
    pub(super) dz_words: Staged<u32>,
    /// What one code of a row of `dz_words` stands for.
    pub(super) dz_scale: Staged<f32>,
    /// Random bits that round dz for dw, \[rows, columns\].
    pub(super) bits: Staged<u16>,
    /// x as the left factor of dw, words\[words of rows, depth\]; empty where that is x itself.
    pub(super) x_words: Staged<u32>,
    /// The step of each row of x.
    pub(super) x_steps: Staged<f32>,
    /// Whether the DAC clips a value of the row.
    pub(super) x_clipped: Staged<bool>,
    pub(super) sums: Staged<RowSums>,
    /// By group of rows and column: Σ dz, Σ g·∂out/∂y_full_scale, and the largest |dz · step of x|.
    pub(super) bias: Staged<f32>,
    pub(super) y_full_scale: Staged<f32>,
    pub(super) peaks: Staged<u32>,
    /// By row and panel of dx: part of the gradient of x_full_scale.
    pub(super) x_full_scale: Staged<f32>,
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
        let Backward { level, sizes: Sizes { depth, columns, .. }, dx, dw, .. } = *backward;
        let groups = Self::chunks(rows);
        let when = |needed: bool, count: usize| if needed { count } else { 0 };
        let converted = dx.kind != Kind::Float || dx.rounded;
        let words = dx.kind.number(level).words(columns);
        let x_words = dw.kind.number(level).words(rows) * depth;
        Self {
            dz: Staged::scratch(rows * columns),
            dz_words: Staged::scratch(when(converted, rows * words)),
            dz_scale: Staged::scratch(rows),
            bits: Staged::scratch(when(dw.rounded, rows * columns)),
            x_words: Staged::scratch(when(!dw.is_in_place(), x_words)),
            x_steps: Staged::new(1.0, rows),
            x_clipped: Staged::new(true, rows),
            sums: Staged::new(RowSums::default(), rows),
            bias: Staged::scratch(groups * columns),
            y_full_scale: Staged::scratch(when(backward.with_ranges, groups * columns)),
            peaks: Staged::scratch(when(dw.rounded, groups * columns)),
            // Zero where dx is not computed.
            x_full_scale: Staged::new(0.0, rows * panel_count(backward)),
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
            Saved::Linear(y) => {
                let dz = dz.chunks_exact_mut(columns.max(1));
                for ((row, dz), sums) in rows.clone().zip(dz).zip(sums) {
                    if row + 1 < rows.end {
                        backward.prefetch(row + 1);
                    }
                    let mut sums = Sums { row: sums, bias, y_full_scale };
                    backward.fill_by_linear(dz, y, row, &mut sums, epsilon);
                }
            }
            Saved::Slope(slope) => {
                by_slope(backward.level, dz, bias, &backward.g[at.clone()], &slope[at]);
            }
            Saved::Signs(signs) => {
                backward.fill_by_signs(dz, bias, signs, rows.clone(), epsilon);
            }
        }
        // SAFETY: as this function's.
        unsafe { self.lay_out(backward, dz, first, rows, scratch) };
    }

    /// Converts rows of x: their energy, their steps, and words for the product of dw.
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
        let Backward { level, chain, sizes, dw, ref ranges, .. } = *backward;
        let depth = sizes.depth;
        let x = |row: usize| &backward.x[row * depth..][..depth];
        let (start, count) = (start + first, sums.len());
        sums.fill(RowSums::default());
        for (row, sums) in (start..).zip(sums).filter(|(row, _)| ranges.has_weight_noise(*row)) {
            sums.energy = energy_of_row(level, x(row), chain, ranges, row);
        }
        if dw.is_in_place() {
            return;
        }
        // SAFETY: as this function's.
        let clipped = unsafe { self.x_clipped.write(first, count) };
        let number = dw.kind.number(level);
        let group = number.group();
        // SAFETY: as this function's.
        let words =
            unsafe { self.x_words.write(number.words(first) * depth, number.words(count) * depth) };
        if dw.form == Form::Code {
            let states = steps.chunks_mut(group).zip(clipped.chunks_mut(group));
            for (word, (steps, clipped)) in states.enumerate() {
                let row = start + word * group;
                let words = &mut words[word * depth..][..depth];
                let rows = row..row + steps.len();
                let coded = code_rows(level, words, backward.x, ranges, rows, number);
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
                if dw.form == Form::Exact {
                    out.copy_from_slice(x(row));
                } else if chain.is_integer(depth) {
                    let words = bytemuck::cast_slice_mut(out);
                    let state = code_row(level, words, x(row), ranges, row, Number::F32);
                    (*step, *clipped) = (state.step, state.clipped);
                    scale(level, out, state.step);
                } else {
                    let state = convert_row(level, out, x(row), chain, ranges, row);
                    (*step, *clipped) = (state.step, state.clipped);
                }
            }
        };
        if number == Number::F32 {
            // Words are the numbers.
            let numbers = bytemuck::cast_slice_mut(words);
            fill(numbers);
            if dw.kind == Kind::Brain {
                round_to_brain(level, numbers);
            }
            return;
        }
        scratch.x.resize(GROUP * depth);
        // Rows beyond the last.
        scratch.x[count * depth..].fill(0.0);
        fill(&mut scratch.x);
        for (word, out) in words.chunks_exact_mut(depth.max(1)).enumerate() {
            let rows = std::array::from_fn(|g| {
                let at = (word * group + g).min(GROUP - 1);
                &scratch.x[at * depth..][..depth]
            });
            interleave(level, out, rows, number);
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
        let Backward { level, sizes: Sizes { columns, .. }, dx, dw, .. } = *backward;
        // Codes take the random bits of dw with theirs.
        if !(dx.rounded || dx.kind == Kind::Brain && backward.needs_inputs()) {
            return;
        }
        let count = rows.len();
        let number = dx.kind.number(level);
        let size = number.words(columns);
        // SAFETY: as this function's.
        let words = unsafe { self.dz_words.write(first * size, count * size) };
        if !dx.rounded {
            let values = &mut scratch.dz;
            values.resize(columns);
            let rows = dz.chunks_exact(columns.max(1));
            for (out, dz) in words.chunks_exact_mut(size.max(1)).zip(rows) {
                multiply_each(level, values, dz, &backward.dx_steps);
                if number == Number::F32 {
                    round_to_brain(level, values);
                }
                narrow(level, out, values, number);
            }
            return;
        }
        let random = &mut scratch.random;
        random.resize(count * columns);
        backward.ranges.rounding_words(level, rows, random);
        // SAFETY: as this function's.
        let (out, steps) = unsafe {
            let out = Rounded {
                words,
                scales: self.dz_scale.write(first, count),
                rest: self.bits.write(first * columns, count * columns),
                peaks: self.peaks.write(first / GROUP * columns, columns),
            };
            (out, self.x_steps.read(first..first + count))
        };
        let by_row = if dw.form == Form::Code { steps } else { &[1.0; GROUP][..count] };
        let upstream = rounding::Upstream { dz, by_column: &backward.dx_steps, by_row, random };
        round_by_row(level, out, &upstream, number);
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
            Saved::Linear(values) | Saved::Slope(values) => prefetch_all(&values[at]),
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
                by_signs(self.level, dz, &mut bias[range.clone()], g, signs, noise);
            }
        };
        self.ranges.noise_pieces(self.level, rows, 0..columns, epsilon, piece);
    }

    /// Writes row `row` of dz from y, and adds to the sums along the row and the columns.
    fn fill_by_linear(
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
        let energy = row_sums.energy;
        let with_sums = self.with_ranges || self.ranges.has_weight_noise(row);
        let noise =
            self.ranges.coefficients(row).map(|coefficients| Noise { coefficients, energy });
        let piece = |_, range: Range<usize>, epsilon: &mut [f32]| {
            let adc = (!self.chain.adc.is_off())
                .then(|| Converter::Each(self.adc.columns(range.start, range.len())));
            let (g, y) = (&g[range.clone()], &y[range.clone()]);
            let part = Upstream { g, y, adc, noise, epsilon };
            let sums = with_sums.then_some(&mut **row_sums);
            let y_full_scale = self.with_ranges.then(|| &mut y_full_scale[range.clone()]);
            upstream(self.level, &mut dz[range], &part, sums, y_full_scale);
        };
        self.ranges.noise_pieces(self.level, row..row + 1, 0..columns, epsilon, piece);
        accumulate(self.level, bias, dz);
    }
}
