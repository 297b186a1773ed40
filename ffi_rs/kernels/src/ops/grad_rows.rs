//! What the backward op makes of each row before it multiplies: dz, and x once more.

use std::ops::Range;
use std::sync::Mutex;

use super::grad_products::Gradients;
use super::grad_steps::{Noise, RowSums, Upstream, accumulate, scale, scale_each, upstream};
use super::operands::Sizes;
use super::optical_matmul_grad::Backward;
use super::prepare::{Form, code_row, convert_row};
use super::rounding::{raise, raise_each, round_row, scale_of};
use crate::ParFor;
use crate::gemm::Kind;
use crate::quantizer::{Converter, PIECE};
use crate::shared::SharedMut;
use crate::words::{MAX_GROUP, Side, interleave, narrow, round_to_brain};

/// Rows that one chunk computes, whatever the number of threads: sums over them come first.
pub(super) const GROUP: usize = 8;

/// Some rows of dz, and of x as the product of dw needs them.
#[derive(Default)]
pub(super) struct Block {
    /// f32\[rows, columns\]
    pub(super) dz: Vec<f32>,
    /// dz as the left factor of dx, words\[rows, words of columns\]; empty where that is `dz`.
    pub(super) dz_words: Vec<u32>,
    /// What one code of a row of `dz_words` stands for.
    pub(super) dz_scale: Vec<f32>,
    /// Random bits that round dz for dw, \[rows, columns\].
    pub(super) bits: Vec<u16>,
    /// x as the left factor of dw, words\[words of rows, depth\]; empty where that is x itself.
    pub(super) x_words: Vec<u32>,
    /// The step of each row of x.
    pub(super) x_steps: Vec<f32>,
    pub(super) sums: Vec<RowSums>,
    /// By group of rows and column: Σ dz, Σ g·∂out/∂y_full_scale, and the largest |dz · step of x|.
    pub(super) bias: Vec<f32>,
    pub(super) y_full_scale: Vec<f32>,
    pub(super) peaks: Vec<u32>,
}

/// What one worker needs for its rows.
#[derive(Default)]
pub(super) struct RowScratch {
    x: Vec<f32>,
    dz: Vec<f32>,
}

impl Block {
    /// Room for `rows` rows.
    pub(super) fn new(backward: &Backward<'_>, rows: usize) -> Self {
        let Backward { level, sizes: Sizes { depth, columns, .. }, dx, dw, .. } = *backward;
        let groups = rows.div_ceil(GROUP);
        let when = |needed: bool, count: usize| if needed { count } else { 0 };
        let converted = dx.kind != Kind::Float || dx.rounded;
        let words = dx.kind.number(level).words(columns);
        let x_words = dw.kind.number(level).words(rows) * depth;
        Self {
            dz: vec![0.0; rows * columns],
            dz_words: vec![0; when(converted, rows * words)],
            dz_scale: vec![0.0; rows],
            bits: vec![0; when(dw.rounded, rows * columns)],
            x_words: vec![0; when(!dw.is_in_place(), x_words)],
            x_steps: vec![1.0; rows],
            sums: vec![RowSums::default(); rows],
            bias: vec![0.0; groups * columns],
            y_full_scale: vec![0.0; groups * columns],
            peaks: vec![0; when(dw.rounded, groups * columns)],
        }
    }

    /// Computes the rows `rows` of the call, and what is summed along them.
    pub(super) fn fill(
        &mut self,
        backward: &Backward<'_>,
        rows: Range<usize>,
        gradients: &Gradients<'_>,
        scratch: &[Mutex<RowScratch>],
        pool: &dyn ParFor,
    ) {
        let parts = Parts::new(self);
        pool.run(rows.len().div_ceil(GROUP), &|chunk, worker| {
            let mut scratch = scratch[worker].lock().expect("no chunk panicked");
            let first = chunk * GROUP;
            let count = GROUP.min(rows.len() - first);
            // SAFETY: groups do not overlap, and each is computed by one chunk.
            unsafe { parts.fill_group(backward, rows.start, first, count, &mut scratch) };
            for index in first..first + count {
                let row = rows.start + index;
                // SAFETY: as above.
                let (sums, out) =
                    unsafe { (&parts.sums.slice(index, 1)[0], gradients.noise.slice(row * 4, 4)) };
                let noise = backward.ranges.coefficients(row).filter(|_| backward.with_ranges);
                out.copy_from_slice(&noise.map_or([0.0; 4], |noise| noise.gradient(sums)));
            }
        });
    }
}

/// The parts of a block, for chunks to write.
struct Parts<'a> {
    dz: SharedMut<'a, f32>,
    dz_words: SharedMut<'a, u32>,
    dz_scale: SharedMut<'a, f32>,
    bits: SharedMut<'a, u16>,
    x_words: SharedMut<'a, u32>,
    x_steps: SharedMut<'a, f32>,
    sums: SharedMut<'a, RowSums>,
    bias: SharedMut<'a, f32>,
    y_full_scale: SharedMut<'a, f32>,
    peaks: SharedMut<'a, u32>,
}

impl<'a> Parts<'a> {
    fn new(block: &'a mut Block) -> Self {
        Self {
            dz: SharedMut::new(&mut block.dz),
            dz_words: SharedMut::new(&mut block.dz_words),
            dz_scale: SharedMut::new(&mut block.dz_scale),
            bits: SharedMut::new(&mut block.bits),
            x_words: SharedMut::new(&mut block.x_words),
            x_steps: SharedMut::new(&mut block.x_steps),
            sums: SharedMut::new(&mut block.sums),
            bias: SharedMut::new(&mut block.bias),
            y_full_scale: SharedMut::new(&mut block.y_full_scale),
            peaks: SharedMut::new(&mut block.peaks),
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
        let Backward { level, sizes: Sizes { columns, .. }, dw, .. } = *backward;
        let group = first / GROUP;
        // SAFETY: as this function's.
        let (bias, y_full_scale, sums, x_steps) = unsafe {
            (
                self.bias.slice(group * columns, columns),
                self.y_full_scale.slice(group * columns, columns),
                self.sums.slice(first, count),
                self.x_steps.slice(first, count),
            )
        };
        // SAFETY: as this function's.
        unsafe { self.convert_inputs(backward, start, first, sums, x_steps, scratch) };
        bias.fill(0.0);
        y_full_scale.fill(0.0);
        let peaks = if dw.rounded {
            // SAFETY: as this function's.
            unsafe { self.peaks.slice(group * columns, columns) }
        } else {
            &mut []
        };
        peaks.fill(0);
        for index in 0..count {
            let row = start + first + index;
            // SAFETY: as this function's.
            let dz = unsafe { self.dz.slice((first + index) * columns, columns) };
            backward.fill_dz(dz, row, &mut sums[index], y_full_scale);
            accumulate(level, bias, dz);
            if dw.rounded {
                let step = if dw.form == Form::Code { x_steps[index] } else { 1.0 };
                raise_each(level, peaks, dz, step);
            }
            // SAFETY: as this function's.
            unsafe { self.lay_out(backward, dz, row, first + index, scratch) };
        }
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
        sums.fill(RowSums::default());
        let mut rows = start + first..start + first + sums.len();
        if dw.is_in_place() && !rows.any(|row| ranges.has_weight_noise(row)) {
            return;
        }
        // Rows beyond the last are zero.
        scratch.x.clear();
        scratch.x.resize(GROUP * depth, 0.0);
        let integer = chain.is_integer(depth);
        for (index, (sums, step)) in sums.iter_mut().zip(steps).enumerate() {
            let row = start + first + index;
            let with_energy = ranges.has_weight_noise(row);
            if dw.is_in_place() && !with_energy {
                continue;
            }
            let x = &backward.x[row * depth..][..depth];
            let out = &mut scratch.x[index * depth..][..depth];
            if integer || dw.form == Form::Code {
                let converted = code_row(level, x, chain, ranges, row, |start, codes| {
                    out[start..start + codes.len()].copy_from_slice(codes);
                });
                (*step, sums.energy) = (converted.step, converted.energy);
                if dw.form == Form::Value {
                    scale(level, out, converted.step);
                }
            }
            if !integer && (with_energy || dw.form != Form::Code) {
                // The energy as the forward op has it.
                let mut values = vec![0.0; if chain.dac.is_off() { 0 } else { depth }];
                sums.energy = convert_row(level, &mut values, x, chain, ranges, row);
                match dw.form {
                    Form::Exact => out.copy_from_slice(x),
                    Form::Value => out.copy_from_slice(&values),
                    Form::Code => {}
                }
            }
        }
        if dw.is_in_place() {
            return;
        }
        let number = dw.kind.number(level);
        if dw.kind == Kind::Brain {
            round_to_brain(level, &mut scratch.x);
        }
        for word in 0..number.words(sums.len()) {
            let mut rows: [&[f32]; MAX_GROUP] = [&[]; MAX_GROUP];
            for (g, row) in rows.iter_mut().enumerate() {
                let at = (word * number.group() + g).min(GROUP - 1);
                *row = &scratch.x[at * depth..][..depth];
            }
            // SAFETY: as this function's.
            let out = unsafe { self.x_words.slice((number.words(first) + word) * depth, depth) };
            interleave(level, out, rows, number, Side::Left);
        }
    }

    /// Writes row `index` of dz as the left factor of dx.
    ///
    /// # Safety
    ///
    /// As [`Self::fill_group`].
    unsafe fn lay_out(
        &self,
        backward: &Backward<'_>,
        dz: &[f32],
        row: usize,
        index: usize,
        scratch: &mut RowScratch,
    ) {
        let Backward { level, sizes: Sizes { columns, .. }, dx, ref ranges, .. } = *backward;
        // Codes take the random bits of dw with theirs.
        if !(dx.rounded || dx.kind == Kind::Brain && backward.needs_inputs()) {
            return;
        }
        let values = &mut scratch.dz;
        values.clear();
        values.extend_from_slice(dz);
        if dx.form == Form::Code {
            scale_each(level, values, &backward.w_steps);
        }
        if dx.rounded {
            let mut peak = 0;
            raise(level, &mut peak, values);
            let (scale, inverse) = scale_of(peak);
            // SAFETY: as this function's.
            let bits = unsafe {
                self.dz_scale.slice(index, 1)[0] = scale;
                self.bits.slice(index * columns, columns)
            };
            ranges.rounding_pieces(level, row, 0..columns, |start, words| {
                let range = start..start + words.len();
                round_row(level, &mut values[range.clone()], inverse, words, &mut bits[range]);
            });
        } else {
            round_to_brain(level, values);
        }
        let number = dx.kind.number(level);
        let words = number.words(columns);
        // SAFETY: as this function's.
        let out = unsafe { self.dz_words.slice(index * words, words) };
        narrow(level, out, values, number, Side::Left);
    }
}

impl Backward<'_> {
    /// Writes row `row` of dz, and adds to the sums along the row and the columns.
    fn fill_dz(&self, dz: &mut [f32], row: usize, sums: &mut RowSums, y_full_scale: &mut [f32]) {
        let columns = self.sizes.columns;
        let (g, y) =
            (&self.g[row * columns..][..columns], &self.linear[row * columns..][..columns]);
        let energy = sums.energy;
        let with_sums = self.with_ranges || self.ranges.has_weight_noise(row);
        let mut piece = |range: Range<usize>, noise: Option<Noise<'_>>| {
            let adc = (!self.chain.adc.is_off())
                .then(|| Converter::Each(self.adc.columns(range.start, range.len())));
            let (g, y) = (&g[range.clone()], &y[range.clone()]);
            let part = Upstream { g, y, adc, noise };
            let sums = with_sums.then_some(&mut *sums);
            let y_full_scale = self.with_ranges.then(|| &mut y_full_scale[range.clone()]);
            upstream(self.level, &mut dz[range], &part, sums, y_full_scale);
        };
        match self.ranges.coefficients(row) {
            Some(coefficients) => {
                self.ranges.noise_pieces(self.level, row, 0..columns, |start, epsilon| {
                    let noise = Noise { coefficients, epsilon, energy };
                    piece(start..start + epsilon.len(), Some(noise));
                });
            }
            None => {
                for start in (0..columns).step_by(PIECE) {
                    piece(start..columns.min(start + PIECE), None);
                }
            }
        }
    }
}
