//! The two products of the backward op, and what comes after them.

use std::ops::Range;
use std::sync::Mutex;

use super::grad_rows::{Block, GROUP};
use super::grad_steps::{accumulate, add_scaled, scale, through_inputs, through_weights};
use super::operands::Sizes;
use super::optical_matmul_grad::{BLOCK, Backward};
use super::prepare::{Form, line_of_words, start_of};
use super::rounding::{raise_all, round_each, scale_of};
use crate::ParFor;
use crate::gemm::{Kind, Left, Number, Product, Right, Sum, multiply};
use crate::quantizer::{Converter, convert, integer};
use crate::shared::SharedMut;
use crate::simd::for_each_level;
use crate::words::{MAX_GROUP, Side, TRANSPOSED, interleave, round_to_brain, transpose};

/// The results of the op.
pub(super) struct Gradients<'a> {
    pub(super) x: SharedMut<'a, f32>,
    /// depth × columns
    pub(super) w: SharedMut<'a, f32>,
    pub(super) bias: SharedMut<'a, f32>,
    pub(super) x_full_scale: SharedMut<'a, f32>,
    pub(super) w_full_scale: SharedMut<'a, f32>,
    pub(super) y_full_scale: SharedMut<'a, f32>,
    pub(super) noise: SharedMut<'a, f32>,
}

impl Gradients<'_> {
    /// Sets to zero what is added up.
    pub(super) fn clear(&self) {
        for sums in [&self.bias, &self.w_full_scale, &self.y_full_scale, &self.x_full_scale] {
            zero(sums);
        }
    }
}

/// Sets all of a result to zero.
pub(super) fn zero(result: &SharedMut<'_, f32>) {
    // SAFETY: between parallel loops nothing else uses it.
    unsafe { result.slice(0, result.len()) }.fill(0.0);
}

/// Columns of dx that are computed together.
pub(super) const PANEL: usize = 96;
/// Words along the depth of dx that are laid out at a time.
const SLICE: usize = 256;
/// Rows of dw that are computed together.
const PART: usize = 128;
/// Weights that are laid out once rather than for each block of rows, unless a word holds several.
const FEW_WEIGHTS: usize = 1 << 16;

/// w as the right factor of dx: words\[words of columns, PANEL\] for each panel.
pub(super) struct Panels {
    words: Vec<u32>,
    /// Where integer sums start, by panel.
    start: Vec<i32>,
    /// Words along the depth.
    depth: usize,
}

impl Panels {
    /// Room for the panels, if they are worth keeping.
    pub(super) fn new(backward: &Backward<'_>, rows: usize) -> Self {
        let Sizes { depth, columns, .. } = backward.sizes;
        let number = backward.dx.kind.number(backward.level);
        let kept = rows > 0
            && backward.needs_inputs()
            && (number.group() > 1 || depth * columns <= FEW_WEIGHTS);
        let panels = if kept { depth.div_ceil(PANEL) } else { 0 };
        let words = number.words(columns);
        let start = if backward.dx.kind == Kind::Integer { panels * PANEL } else { 0 };
        Self { words: vec![0; panels * words * PANEL], start: vec![0; start], depth: words }
    }

    pub(super) fn fill(&mut self, backward: &Backward<'_>, pool: &dyn ParFor) {
        let Sizes { depth, columns, .. } = backward.sizes;
        if self.words.is_empty() {
            return;
        }
        let size = self.depth * PANEL;
        let starts = if self.start.is_empty() { 0 } else { PANEL };
        let (words, start) = (SharedMut::new(&mut self.words), SharedMut::new(&mut self.start));
        pool.run(depth.div_ceil(PANEL), &|panel, _| {
            // SAFETY: panels do not overlap, and each is filled by one chunk.
            let (words, start) =
                unsafe { (words.slice(panel * size, size), start.slice(panel * starts, starts)) };
            let range = panel * PANEL..depth.min((panel + 1) * PANEL);
            backward.lay_out_weights(words, start, range, 0..columns);
        });
    }

    fn get(&self, panel: usize) -> Option<(&[u32], &[i32])> {
        let size = self.depth * PANEL;
        let words = self.words.get(panel * size..(panel + 1) * size).filter(|_| size > 0)?;
        Some((words, self.start.get(panel * PANEL..(panel + 1) * PANEL).unwrap_or(&[])))
    }
}

impl Backward<'_> {
    /// Writes `columns` of the weights' rows `rows` as a panel of words, and where sums over them
    /// start.
    fn lay_out_weights(
        &self,
        words: &mut [u32],
        start: &mut [i32],
        rows: Range<usize>,
        columns: Range<usize>,
    ) {
        let (level, way) = (self.level, self.dx);
        let number = way.kind.number(level);
        let converter = Converter::Each(self.w_quantizers.columns(columns.start, columns.len()));
        let depth = number.words(columns.len());
        let mut lines = vec![0; if way.is_in_place() { 0 } else { TRANSPOSED * depth }];
        for first in rows.clone().step_by(TRANSPOSED) {
            let mut sources: [&[u32]; TRANSPOSED] = [&[]; TRANSPOSED];
            let count = TRANSPOSED.min(rows.end - first);
            let values =
                |row: usize| &self.w[row * self.sizes.columns..][columns.start..columns.end];
            if way.is_in_place() {
                for (row, source) in sources[..count].iter_mut().enumerate() {
                    *source = bytemuck::cast_slice(values(first + row));
                }
            } else {
                for (row, line) in lines.chunks_exact_mut(depth.max(1)).take(count).enumerate() {
                    let values = values(first + row);
                    let sum = line_of_words(level, line, values, &converter, way.form, way.kind);
                    if let Some(start) = start.get_mut(first - rows.start + row) {
                        *start = start_of(number, sum);
                    }
                }
                for (source, line) in sources.iter_mut().zip(lines.chunks_exact(depth.max(1))) {
                    *source = line;
                }
            }
            let out = &mut words[first - rows.start..];
            transpose(level, out, PANEL, &sources[..count], depth);
        }
    }

    /// Multiplies the rows `rows` of the call, which `block` holds.
    pub(super) fn multiply(
        &self,
        block: &Block,
        panels: &Panels,
        rows: Range<usize>,
        gradients: &Gradients<'_>,
        pool: &dyn ParFor,
    ) {
        let Sizes { depth, columns, .. } = self.sizes;
        let workers = pool.width();
        let row_chunk = if panels.words.is_empty() { BLOCK } else { ROW_CHUNK };
        let row_chunks = rows.len().div_ceil(row_chunk);
        let panel_count = if self.needs_inputs() { depth.div_ceil(PANEL) } else { 0 };
        let width = columns.div_ceil(2 * workers).next_multiple_of(48);
        let groups = columns.div_ceil(width.max(1));
        let mut sums = vec![0.0; rows.len() * panel_count];
        let call =
            Call { block, panels, rows: rows.clone(), gradients, sums: SharedMut::new(&mut sums) };
        let scratch: Vec<_> = (0..workers).map(|_| Mutex::new(Scratch::default())).collect();
        pool.run(groups + row_chunks * panel_count, &|chunk, worker| {
            let mut scratch = scratch[worker].lock().expect("no chunk panicked");
            if let Some(chunk) = chunk.checked_sub(groups) {
                let (row, panel) = (chunk / panel_count * row_chunk, chunk % panel_count);
                let part = row..rows.len().min(row + row_chunk);
                self.multiply_inputs(&call, part, panel, &mut scratch);
            } else {
                let range = chunk * width..columns.min((chunk + 1) * width);
                self.multiply_weights(&call, range, &mut scratch);
            }
        });
        // SAFETY: the chunks are done.
        let out = unsafe { gradients.x_full_scale.slice(rows.start, rows.len()) };
        for (index, out) in out.iter_mut().enumerate() {
            // Not `sum`, which is -0 where there is nothing.
            let sums = &sums[index * panel_count..(index + 1) * panel_count];
            *out = sums.iter().fold(0.0, |sum, part| sum + part);
        }
    }

    /// dx of rows `part` of the block and the columns of one panel.
    fn multiply_inputs(
        &self,
        call: &Call<'_>,
        part: Range<usize>,
        panel: usize,
        scratch: &mut Scratch,
    ) {
        let Call { block, panels, rows, gradients, sums } = call;
        let (level, way) = (self.level, self.dx);
        let Sizes { depth, columns, .. } = self.sizes;
        let number = way.kind.number(level);
        let range = panel * PANEL..depth.min((panel + 1) * PANEL);
        let stride = number.words(columns);
        let words = if block.dz_words.is_empty() {
            bytemuck::cast_slice(&block.dz)
        } else {
            block.dz_words.as_slice()
        };
        let left = |word: usize| Left {
            words: words.get(part.start * stride + word..).unwrap_or(&[]),
            row_stride: stride,
            depth_stride: 1,
        };
        let product = Product {
            data: &gradients.x,
            start: (rows.start + part.start) * depth + range.start,
            stride: depth,
            rows: part.len(),
            columns: range.len(),
        };
        // SAFETY: parts and panels do not overlap, and each is computed by one chunk.
        unsafe {
            if let Some((words, start)) = panels.get(panel) {
                let right = Right { words, stride: PANEL };
                let sum = if start.is_empty() { Sum::Fresh } else { Sum::From(start) };
                multiply(level, way.kind, &product, left(0), right, stride, sum);
            } else {
                scratch.words.resize(SLICE * PANEL, 0);
                for first in (0..columns.max(1)).step_by(SLICE) {
                    let slice = first..columns.min(first + SLICE);
                    let count = slice.len();
                    self.lay_out_weights(&mut scratch.words, &mut [], range.clone(), slice);
                    let right = Right { words: &scratch.words, stride: PANEL };
                    let sum = if first == 0 { Sum::Fresh } else { Sum::Onto };
                    multiply(level, way.kind, &product, left(first), right, count, sum);
                }
            }
        }
        let panel_count = depth.div_ceil(PANEL);
        for index in part {
            let row = rows.start + index;
            // SAFETY: as above.
            let (dx, sum) = unsafe {
                let dx = gradients.x.slice(row * depth + range.start, range.len());
                (dx, &mut sums.slice(index * panel_count + panel, 1)[0])
            };
            if way.rounded {
                scale(level, dx, block.dz_scale[index]);
            }
            let x = &self.x[row * depth..][range.clone()];
            self.finish_inputs(dx, x, row, block.sums[index].plain, sum);
        }
    }

    /// Adds to dx what σ's dependence on ‖x_q‖² gives, and takes it through the DAC.
    fn finish_inputs(&self, dx: &mut [f32], x: &[f32], row: usize, pull: f32, sum: &mut f32) {
        let full_scale = self.ranges.x_full_scale.get(row);
        let converter =
            (!self.chain.dac.is_off()).then(|| Converter::one(self.chain.dac, full_scale));
        let weight = self.ranges.coefficients(row).map_or(0.0, |noise| noise.weight);
        let factor = weight * weight * pull;
        if factor != 0.0 {
            let mut converted = [0.0; PANEL];
            let values = match &converter {
                Some(converter) => {
                    convert(self.level, &mut converted[..x.len()], x, converter);
                    &converted[..x.len()]
                }
                None => x,
            };
            add_scaled(self.level, dx, values, factor);
        }
        if let Some(converter) = &converter {
            through_inputs(self.level, dx, x, converter, self.with_ranges.then_some(sum));
        }
    }

    /// dw of some columns, and what is summed along them.
    fn multiply_weights(&self, call: &Call<'_>, range: Range<usize>, scratch: &mut Scratch) {
        let Call { block, rows, gradients, .. } = call;
        let (level, way) = (self.level, self.dw);
        let Sizes { rows: all_rows, depth, columns } = self.sizes;
        let (first, width) = (range.start, range.len());
        // SAFETY: ranges do not overlap, and each is computed by one chunk.
        let (bias, y_full_scale, w_full_scale) = unsafe {
            (
                gradients.bias.slice(first, width),
                gradients.y_full_scale.slice(first, width),
                gradients.w_full_scale.slice(first, width),
            )
        };
        for group in 0..rows.len().div_ceil(GROUP) {
            let part = group * columns + first..group * columns + first + width;
            accumulate(level, bias, &block.bias[part.clone()]);
            accumulate(level, y_full_scale, &block.y_full_scale[part]);
        }
        let words = if way.is_in_place() {
            bytemuck::cast_slice(&self.x[rows.start * depth..rows.end * depth])
        } else {
            block.x_words.as_slice()
        };
        let onto = rows.start > 0;
        let mut sum = if onto { Sum::Onto } else { Sum::Fresh };
        let mut right = Right { words: &[], stride: columns };
        if way.kind == Kind::Float && !way.rounded {
            right.words = &bytemuck::cast_slice(&block.dz)[first..];
        } else {
            self.lay_out_upstream(block, rows.len(), &range, scratch);
            let Scratch { words, start, scales: scale, .. } = &*scratch;
            right = Right { words, stride: width };
            if way.rounded {
                sum = Sum::Scaled { start, scale, onto };
            }
        }
        let converter = Converter::Each(self.w_quantizers.columns(first, width));
        let masked = rows.end == all_rows && !self.chain.weight.is_off();
        // What is masked is still in the nearest cache.
        for part in (0..depth).step_by(PART) {
            let product = Product {
                data: &gradients.w,
                start: part * columns + first,
                stride: columns,
                rows: PART.min(depth - part),
                columns: width,
            };
            let words = words.get(part..).unwrap_or(&[]);
            let left = Left { words, row_stride: 1, depth_stride: depth };
            let words = way.kind.number(level).words(rows.len());
            // SAFETY: ranges do not overlap, and each is computed by one chunk.
            unsafe { multiply(level, way.kind, &product, left, right, words, sum) };
            for row in part..if masked { part + product.rows } else { part } {
                let at = row * columns + first;
                // SAFETY: as above.
                let dw = unsafe { gradients.w.slice(at, width) };
                let sums = self.with_ranges.then_some(&mut *w_full_scale);
                through_weights(level, dw, &self.w[at..at + width], &converter, sums);
            }
        }
    }

    /// Writes some columns of dz as the right factor of dw, with their scales and starts.
    fn lay_out_upstream(
        &self,
        block: &Block,
        rows: usize,
        range: &Range<usize>,
        scratch: &mut Scratch,
    ) {
        let (level, way, columns) = (self.level, self.dw, self.sizes.columns);
        let width = range.len();
        let number = way.kind.number(level);
        let Scratch { words, values, start, peaks, scales, inverse } = scratch;
        words.resize(number.words(rows) * width, 0);
        start.clear();
        if way.rounded {
            peaks.clear();
            peaks.resize(width, 0);
            for group in block.peaks.chunks_exact(columns).take(rows.div_ceil(GROUP)) {
                raise_all(level, peaks, &group[range.clone()]);
            }
            scales.clear();
            inverse.clear();
            for (scale, reciprocal) in peaks.iter().map(|peak| scale_of(*peak)) {
                scales.push(scale);
                inverse.push(reciprocal);
            }
        }
        if way.kind == Kind::Integer {
            start.resize(width, 0);
        }
        for (word, out) in words.chunks_exact_mut(width.max(1)).enumerate() {
            values.clear();
            values.resize(MAX_GROUP * width, 0.0);
            let first = word * number.group();
            for index in first..rows.min(first + number.group()) {
                let at = index * columns + range.start;
                let dz = &block.dz[at..at + width];
                let out = &mut values[(index - first) * width..][..width];
                let step = if way.form == Form::Code { block.x_steps[index] } else { 1.0 };
                if way.rounded {
                    round_each(level, out, dz, step, inverse, &block.bits[at..at + width]);
                } else {
                    out.copy_from_slice(dz);
                    scale(level, out, step);
                    round_to_brain(level, out);
                }
            }
            if way.kind == Kind::Integer {
                add_starts(level, start, values, number);
            }
            let rows = std::array::from_fn(|g| &values[g * width..][..width]);
            interleave(level, out, rows, number, Side::Right);
        }
    }
}

#[inline(always)]
fn add_starts_body(start: &mut [i32], codes: &[f32], number: Number) {
    for row in codes.chunks_exact(start.len().max(1)) {
        for (start, code) in start.iter_mut().zip(row) {
            *start = start.wrapping_add(start_of(number, integer(*code)));
        }
    }
}

for_each_level! {
    /// Adds what rows of `codes` add to where the sums of their columns start.
    fn add_starts(start: &mut [i32], codes: &[f32], number: Number) = add_starts_body
}

/// Rows of dx that one chunk computes, where panels are kept.
const ROW_CHUNK: usize = 64;

/// One block, as every chunk sees it.
struct Call<'a> {
    block: &'a Block,
    panels: &'a Panels,
    /// Of the call.
    rows: Range<usize>,
    gradients: &'a Gradients<'a>,
    /// By row and panel of dx: part of the gradient of x_full_scale.
    sums: SharedMut<'a, f32>,
}

/// What one worker needs for its chunks.
#[derive(Default)]
struct Scratch {
    words: Vec<u32>,
    values: Vec<f32>,
    start: Vec<i32>,
    peaks: Vec<u32>,
    scales: Vec<f32>,
    inverse: Vec<f32>,
}
