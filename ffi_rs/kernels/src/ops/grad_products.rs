//! The two products of the backward op, and what comes after them.

use std::ops::Range;

use super::grad_panels::{PANEL, Panels};
use super::grad_rows::{Block, GROUP};
use super::grad_steps::{accumulate, add_scaled, scale, through_inputs, through_weights};
use super::operands::Sizes;
use super::optical_matmul_grad::{BLOCK, Backward};
use super::prepare::{OperandFormat, zero_point_correction};
use super::rounding::{Rows, raise_all, round_rows, scale_of};
use crate::disjoint::DisjointMut;
use crate::gemm::{Accumulate, Lhs, Product, Rhs, multiply};
use crate::pack::{MAX_VALUES_PER_WORD, pack_rows, round_to_bf16};
use crate::packing::{Arithmetic, Packing};
use crate::quantizer::{Converter, convert};
use crate::scratch::Scratch;

/// The results of the op.
#[derive(Clone, Copy)]
pub(super) struct Gradients<'a> {
    pub(super) x: DisjointMut<'a, f32>,
    /// depth × columns
    pub(super) w: DisjointMut<'a, f32>,
    pub(super) bias: DisjointMut<'a, f32>,
    pub(super) x_full_scale: DisjointMut<'a, f32>,
    pub(super) w_full_scale: DisjointMut<'a, f32>,
    pub(super) y_full_scale: DisjointMut<'a, f32>,
    pub(super) noise: DisjointMut<'a, f32>,
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
pub(super) fn zero(result: &DisjointMut<'_, f32>) {
    // SAFETY: between parallel loops nothing else uses it.
    unsafe { result.slice(0, result.len()) }.fill(0.0);
}

/// Words along the depth of dx that are laid out at a time.
const SLICE: usize = 512;
/// Rows of dw that are computed together.
const PART: usize = 128;

/// Columns below which tiles of dw are cut unfavorably.
const NARROW: usize = 64;

/// How the products are cut into chunks.
pub(super) struct Tiling {
    /// Columns of dw that are computed together.
    width: usize,
    /// Chunks of dw.
    pub(super) weights: usize,
    /// Rows of dx that are computed together, and panels of their columns.
    rows: usize,
    panels: usize,
    /// Rows of a block from which on there are strips enough for all workers; None where parts of
    /// dx lay out the weights, each for all rows.
    many_rows: Option<usize>,
}

impl Tiling {
    pub(super) fn new(backward: &Backward<'_>, panels: &Panels, workers: usize) -> Self {
        let columns = backward.sizes.columns;
        // As many for each worker; twice as many where they stay wide, as one may come late.
        let chunks = if columns < 2 * workers * NARROW { workers } else { 2 * workers };
        let width = columns.div_ceil(chunks).next_multiple_of(16);
        Self {
            width,
            weights: columns.div_ceil(width.max(1)),
            rows: if panels.chunks() == 0 { BLOCK } else { ROW_CHUNK },
            panels: if backward.needs_inputs() { backward.panels() } else { 0 },
            many_rows: (panels.chunks() > 0).then_some(ROW_CHUNK * workers),
        }
    }

    /// Strips of a block of so many rows: those of which dx follows dz at once, while dz is still in
    /// the cache. 0 where there are too few of them.
    pub(super) fn strips(&self, rows: usize) -> usize {
        let enough = self.many_rows.is_some_and(|many| rows >= many);
        if enough { self.strips_of(rows) } else { 0 }
    }

    /// The same, however few.
    pub(super) fn strips_of(&self, rows: usize) -> usize {
        rows.div_ceil(self.rows)
    }

    /// Chunks of a strip to fill, in a block of so many rows.
    pub(super) fn groups_of_strip(&self, rows: usize, strip: usize) -> Range<usize> {
        let first = strip * self.rows;
        first / GROUP..Block::chunks(rows.min(first + self.rows))
    }

    /// Chunks of dx of a strip.
    pub(super) fn inputs_of_strip(&self, strip: usize) -> Range<usize> {
        strip * self.panels..(strip + 1) * self.panels
    }

    /// Chunks of dx, of so many rows; none where they are those of strips.
    pub(super) fn inputs(&self, rows: usize) -> usize {
        if self.strips(rows) > 0 { 0 } else { self.strips_of(rows) * self.panels }
    }
}

impl Backward<'_> {
    /// Adds up the gradients of the rows' full scales.
    ///
    /// # Safety
    ///
    /// All chunks of the rows are computed.
    pub(super) unsafe fn add_up(&self, call: &Call<'_>, rows: Range<usize>) {
        let panels = self.panels();
        // SAFETY: as this function's.
        let (out, sums) = unsafe {
            let out = call.gradients.x_full_scale.slice(rows.start, rows.len());
            (out, call.block.x_full_scale.read(0..rows.len() * panels))
        };
        for (index, out) in out.iter_mut().enumerate() {
            // Not `sum`, which is -0 where there is nothing.
            *out = sums[index * panels..][..panels].iter().fold(0.0, |sum, part| sum + part);
        }
    }

    /// A chunk of dx, of some of the rows `rows` of the call and the columns of one panel.
    ///
    /// # Safety
    ///
    /// The chunk's rows of the block, and the panels, are filled; nothing else uses the chunk of dx
    /// meanwhile.
    pub(super) unsafe fn multiply_inputs(
        &self,
        call: &Call<'_>,
        rows: Range<usize>,
        chunk: usize,
        scratch: &mut ProductScratch,
    ) {
        let Call { block, panels, tiling, gradients } = call;
        let (row, panel) = (chunk / tiling.panels * tiling.rows, chunk % tiling.panels);
        let part = row..rows.len().min(row + tiling.rows);
        let (isa, plan) = (self.isa, self.dx);
        let Sizes { depth, columns, .. } = self.sizes;
        let packing = plan.arithmetic.packing(isa);
        let range = panel * PANEL..depth.min((panel + 1) * PANEL);
        let stride = packing.packed_len(columns);
        // SAFETY: the part is filled.
        let (packed, sums, scales, clipped) = unsafe {
            let numbers = part.start * stride..part.end * stride;
            let packed = if block.dz_packed.is_empty() {
                bytemuck::cast_slice(block.dz.read(numbers))
            } else {
                block.dz_packed.read(numbers)
            };
            let scales = block.dz_scale.read(part.clone());
            (packed, block.sums.read(part.clone()), scales, block.x_clipped.read(part.clone()))
        };
        let left = |word: usize| Lhs {
            packed: packed.get(word..).unwrap_or(&[]),
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
            if let Some((packed, correction)) = panels.get(panel) {
                let right = Rhs { packed, stride: PANEL };
                let accumulate = if correction.is_empty() {
                    Accumulate::Overwrite
                } else {
                    Accumulate::Init(correction)
                };
                multiply(isa, plan.arithmetic, &product, left(0), right, stride, accumulate);
            } else {
                scratch.packed.resize(SLICE * PANEL);
                let mut clipped = false;
                for first in (0..columns.max(1)).step_by(SLICE) {
                    let slice = first..columns.min(first + SLICE);
                    let count = slice.len();
                    clipped |=
                        self.lay_out_weights(&mut scratch.packed, &mut [], range.clone(), slice);
                    let right = Rhs { packed: &scratch.packed, stride: PANEL };
                    let accumulate =
                        if first == 0 { Accumulate::Overwrite } else { Accumulate::Add };
                    multiply(isa, plan.arithmetic, &product, left(first), right, count, accumulate);
                }
                panels.clipped.write(panel, 1)[0] = clipped;
            }
        }
        for (index, in_block) in part.enumerate() {
            let row = rows.start + in_block;
            // SAFETY: as above.
            let dx = unsafe { gradients.x.slice(row * depth + range.start, range.len()) };
            if plan.rounded {
                scale(isa, dx, scales[index]);
            }
            let x = &self.x[row * depth..][range.clone()];
            let mut by_full_scale = 0.0;
            let wanted = self.with_ranges.then_some(&mut by_full_scale);
            self.finish_inputs(dx, x, row, sums[index].noise_cotangent, clipped[index], wanted);
            if self.with_ranges {
                let at = in_block * self.panels() + panel;
                // SAFETY: as above.
                unsafe { block.x_full_scale.write(at, 1)[0] = by_full_scale };
            }
        }
    }

    /// Adds to dx what σ's dependence on ‖x_q‖² gives, and takes it through the DAC.
    fn finish_inputs(
        &self,
        dx: &mut [f32],
        x: &[f32],
        row: usize,
        noise_cotangent: f32,
        clipped: bool,
        dx_full_scale: Option<&mut f32>,
    ) {
        let weight = self.ranges.coefficients(row).map_or(0.0, |noise| noise.weight);
        let factor = weight * weight * noise_cotangent;
        // Within its full scale a converter passes the gradient as it is.
        let passes = !clipped && !self.with_ranges;
        if factor == 0.0 && passes {
            return;
        }
        let converter = (!self.chain.dac.is_off()).then(|| self.ranges.input_converter(row));
        if factor != 0.0 {
            let mut converted = [0.0; PANEL];
            let values = match &converter {
                Some(converter) => {
                    convert(self.isa, &mut converted[..x.len()], x, converter, &mut false);
                    &converted[..x.len()]
                }
                None => x,
            };
            add_scaled(self.isa, dx, values, factor);
        }
        if let Some(converter) = converter.filter(|_| !passes) {
            through_inputs(self.isa, dx, x, &converter, dx_full_scale);
        }
    }

    /// A chunk of dw, from the rows `rows` of the call, and what is summed along its columns; the
    /// first rows of a sum replace what is there.
    ///
    /// # Safety
    ///
    /// The block holds these rows; which weights are clipped is known; nothing else uses the
    /// chunk of dw meanwhile.
    pub(super) unsafe fn multiply_weights(
        &self,
        call: &Call<'_>,
        rows: Range<usize>,
        chunk: usize,
        place: Place,
        scratch: &mut ProductScratch,
    ) {
        let Call { block, panels, tiling, gradients } = call;
        let range = chunk * tiling.width..self.sizes.columns.min((chunk + 1) * tiling.width);
        let (isa, plan) = (self.isa, self.dw);
        let Sizes { depth, columns, .. } = self.sizes;
        let (first, width) = (range.start, range.len());
        // SAFETY: ranges do not overlap, and each is computed by one chunk.
        let (bias, y_full_scale) = unsafe {
            (gradients.bias.slice(first, width), gradients.y_full_scale.slice(first, width))
        };
        for group in 0..Block::chunks(rows.len()) {
            let part = group * columns + first..group * columns + first + width;
            // SAFETY: the block is filled.
            unsafe {
                accumulate(isa, bias, block.bias.read(part.clone()));
                if self.with_ranges {
                    accumulate(isa, y_full_scale, block.y_full_scale.read(part));
                }
            }
        }
        let packed = if plan.is_in_place() {
            bytemuck::cast_slice(&self.x[rows.start * depth..rows.end * depth])
        } else {
            // SAFETY: as above.
            unsafe { block.x_packed.all() }
        };
        let add = !place.first;
        let mut accumulate = if add { Accumulate::Add } else { Accumulate::Overwrite };
        let mut right = Rhs { packed: &[], stride: columns };
        if plan.arithmetic == Arithmetic::F32 && !plan.rounded {
            // SAFETY: as above.
            right.packed = &bytemuck::cast_slice(unsafe { block.dz.all() })[first..];
        } else {
            // SAFETY: as above.
            unsafe { self.lay_out_upstream(block, rows.len(), &range, scratch) };
            let ProductScratch { packed, correction, scales: scale, .. } = &*scratch;
            right = Rhs { packed, stride: width };
            if plan.rounded {
                accumulate = Accumulate::Scale { init: correction, scale, add };
            }
        }
        // What is masked is still in the nearest cache.
        for part in (0..depth).step_by(PART) {
            let product = Product {
                data: &gradients.w,
                start: part * columns + first,
                stride: columns,
                rows: PART.min(depth - part),
                columns: width,
            };
            let packed = packed.get(part..).unwrap_or(&[]);
            let left = Lhs { packed, row_stride: 1, depth_stride: depth };
            let packed = plan.arithmetic.packing(isa).packed_len(rows.len());
            // SAFETY: ranges do not overlap, and each is computed by one chunk.
            unsafe { multiply(isa, plan.arithmetic, &product, left, right, packed, accumulate) };
            if place.last {
                // SAFETY: as above, and as this function's.
                unsafe { self.mask_weights(panels, gradients, part..part + product.rows, &range) };
            }
        }
    }

    /// Takes some rows and columns of dw through the converter of the weights.
    ///
    /// # Safety
    ///
    /// They are summed up; which weights are clipped is known; nothing else uses these elements, and
    /// the gradients of the full scales of these columns, meanwhile.
    pub(super) unsafe fn mask_weights(
        &self,
        panels: &Panels,
        gradients: &Gradients<'_>,
        rows: Range<usize>,
        range: &Range<usize>,
    ) {
        if self.chain.weight.is_off() {
            return;
        }
        let (first, width) = (range.start, range.len());
        let converter = Converter::Each(self.w_quantizers.columns(first, width));
        for row in rows {
            // SAFETY: as this function's.
            let clipped = unsafe { panels.clipped.read(row / PANEL..row / PANEL + 1)[0] };
            if !(clipped || self.with_ranges) {
                continue;
            }
            let at = row * self.sizes.columns + first;
            // SAFETY: as this function's.
            let (dw, sums) = unsafe {
                let Gradients { w, w_full_scale, .. } = gradients;
                (w.slice(at, width), w_full_scale.slice(first, width))
            };
            let sums = self.with_ranges.then_some(sums);
            through_weights(self.isa, dw, &self.w[at..at + width], &converter, sums);
        }
    }

    /// Writes some columns of dz as the rhs of dw, with their scales and starts.
    ///
    /// # Safety
    ///
    /// The block is filled.
    unsafe fn lay_out_upstream(
        &self,
        block: &Block,
        rows: usize,
        range: &Range<usize>,
        scratch: &mut ProductScratch,
    ) {
        let (isa, plan, columns) = (self.isa, self.dw, self.sizes.columns);
        // SAFETY: as this function's.
        let (all_dz, x_steps, bits, all_peaks) =
            unsafe { (block.dz.all(), block.x_steps.all(), block.bits.all(), block.peaks.all()) };
        let width = range.len();
        let packing = plan.arithmetic.packing(isa);
        let ProductScratch { packed, values, correction, peaks, scales, inverse } = scratch;
        packed.resize(packing.packed_len(rows) * width);
        correction.clear();
        if plan.rounded {
            peaks.clear();
            peaks.resize(width, 0);
            for group in all_peaks.chunks_exact(columns).take(Block::chunks(rows)) {
                raise_all(isa, peaks, &group[range.clone()]);
            }
            scales.clear();
            inverse.clear();
            for (scale, reciprocal) in peaks.iter().map(|peak| scale_of(*peak)) {
                scales.push(scale);
                inverse.push(reciprocal);
            }
        }
        if plan.arithmetic == Arithmetic::Int8 {
            correction.resize(width, 0);
        }
        if plan.rounded {
            let zeros = (vec![0.0; width], vec![0; width]);
            for (word, out) in packed.chunks_exact_mut(width).enumerate() {
                // Zeros are rounded to zero.
                let mut group = Rows {
                    dz: [&zeros.0; MAX_VALUES_PER_WORD],
                    factors: [1.0; MAX_VALUES_PER_WORD],
                    bits: [&zeros.1; MAX_VALUES_PER_WORD],
                };
                let first = word * packing.values_per_word();
                for (g, row) in (first..rows.min(first + packing.values_per_word())).enumerate() {
                    let at = row * columns + range.start;
                    (group.dz[g], group.bits[g]) = (&all_dz[at..at + width], &bits[at..at + width]);
                    if plan.format == OperandFormat::Code {
                        group.factors[g] = x_steps[row];
                    }
                }
                round_rows(isa, out, correction, &group, inverse, packing);
            }
            for correction in correction {
                *correction = zero_point_correction(packing, *correction);
            }
            return;
        }
        values.resize(MAX_VALUES_PER_WORD * width);
        for (word, out) in packed.chunks_exact_mut(width).enumerate() {
            for (g, out) in
                values.chunks_exact_mut(width).take(packing.values_per_word()).enumerate()
            {
                let row = word * packing.values_per_word() + g;
                if row >= rows {
                    out.fill(0.0);
                    continue;
                }
                let at = row * columns + range.start;
                out.copy_from_slice(&all_dz[at..at + width]);
                if plan.format == OperandFormat::Code {
                    scale(isa, out, x_steps[row]);
                }
                if packing == Packing::F32 {
                    round_to_bf16(isa, out);
                }
            }
            let rows = std::array::from_fn(|g| &values[g * width..][..width]);
            pack_rows(isa, out, rows, packing);
        }
    }
}

/// Where some rows of the call stand among those that are summed to one dw.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) first: bool,
    pub(super) last: bool,
}

/// Rows of dx that one chunk computes, where panels are kept.
const ROW_CHUNK: usize = 64;

/// One call, as every chunk of its products sees it.
pub(super) struct Call<'a> {
    pub(super) block: &'a Block,
    pub(super) panels: &'a Panels,
    pub(super) tiling: &'a Tiling,
    pub(super) gradients: &'a Gradients<'a>,
}

/// What one worker needs for its products.
#[derive(Default)]
pub(super) struct ProductScratch {
    packed: Scratch<u32>,
    values: Scratch<f32>,
    correction: Vec<i32>,
    peaks: Vec<u32>,
    scales: Vec<f32>,
    inverse: Vec<f32>,
}
