//! w as the rhs of dx: transposed and packed, in panels.

use std::ops::Range;

use super::operands::Sizes;
use super::optical_matmul_grad::Backward;
use super::prepare::{pack_line, zero_point_correction};
use crate::disjoint::StageBuffer;
use crate::pack::{TRANSPOSED, transpose};
use crate::packing::Arithmetic;
use crate::quantizer::Converter;
use crate::scratch::Scratch;

/// Columns of dx that are computed together.
pub(super) const PANEL: usize = 96;
/// Weights that are laid out once rather than for each block of rows, unless a word holds several.
const FEW_WEIGHTS: usize = 1 << 16;

/// w as the rhs of dx: words\[words of columns, PANEL\] for each panel.
pub(super) struct Panels {
    /// Empty where each part of dx lays out its own.
    packed: StageBuffer<u32>,
    /// Where integer sums start, by panel.
    correction: StageBuffer<i32>,
    /// By panel: whether the converter clips a weight, as far as is known.
    pub(super) clipped: StageBuffer<bool>,
    /// Words of a panel, and integers of one.
    size: (usize, usize),
    count: usize,
}

impl Panels {
    /// Room for the panels, if they are worth keeping.
    pub(super) fn new(backward: &Backward<'_>, rows: usize) -> Self {
        let Sizes { depth, columns, .. } = backward.sizes;
        let packing = backward.dx.arithmetic.packing(backward.isa);
        let kept = rows > 0 && backward.needs_inputs() && backward.keeps_panels();
        let count = if kept { depth.div_ceil(PANEL) } else { 0 };
        let integers = if backward.dx.arithmetic == Arithmetic::Int8 { PANEL } else { 0 };
        let size = (packing.packed_len(columns) * PANEL, integers);
        let packed = StageBuffer::scratch(count * size.0);
        let count = if packed.is_empty() { 0 } else { count };
        let clipped = StageBuffer::new(true, backward.panels());
        Self { packed, correction: StageBuffer::scratch(count * size.1), clipped, size, count }
    }

    /// Chunks to fill, one for each panel that is kept.
    pub(super) fn chunks(&self) -> usize {
        self.count
    }

    /// Fills one panel.
    ///
    /// # Safety
    ///
    /// Nothing else uses the panel meanwhile.
    pub(super) unsafe fn fill(&self, backward: &Backward<'_>, panel: usize) {
        let Sizes { depth, columns, .. } = backward.sizes;
        let (size, corrections) = self.size;
        // SAFETY: panels do not overlap.
        let (packed, correction, clipped) = unsafe {
            (
                self.packed.write(panel * size, size),
                self.correction.write(panel * corrections, corrections),
                &mut self.clipped.write(panel, 1)[0],
            )
        };
        let range = panel * PANEL..depth.min((panel + 1) * PANEL);
        *clipped = backward.lay_out_weights(packed, correction, range, 0..columns);
    }

    /// A panel, if they are kept.
    ///
    /// # Safety
    ///
    /// It is filled.
    pub(super) unsafe fn get(&self, panel: usize) -> Option<(&[u32], &[i32])> {
        let (size, corrections) = self.size;
        // SAFETY: as this function's.
        (self.count > 0).then(|| unsafe {
            (
                self.packed.read(panel * size..(panel + 1) * size),
                self.correction.read(panel * corrections..(panel + 1) * corrections),
            )
        })
    }
}

impl Backward<'_> {
    /// Whether panels are laid out once, if they are needed at all.
    pub(super) fn keeps_panels(&self) -> bool {
        let Sizes { depth, columns, .. } = self.sizes;
        self.dx.arithmetic.packing(self.isa).values_per_word() > 1 || depth * columns <= FEW_WEIGHTS
    }

    /// Panels of dx.
    pub(super) fn panels(&self) -> usize {
        self.sizes.depth.div_ceil(PANEL)
    }

    /// Writes `columns` of the weights' rows `rows` as a panel of words, and where sums over them
    /// start; returns whether the converter clips one of them.
    pub(super) fn lay_out_weights(
        &self,
        packed: &mut [u32],
        correction: &mut [i32],
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> bool {
        let (isa, plan) = (self.isa, self.dx);
        let mut clipped = false;
        let packing = plan.arithmetic.packing(isa);
        let converter = Converter::Each(self.w_quantizers.columns(columns.start, columns.len()));
        let depth = packing.packed_len(columns.len());
        let mut lines = Scratch::new(if plan.is_in_place() { 0 } else { TRANSPOSED * depth });
        for first in rows.clone().step_by(TRANSPOSED) {
            let mut sources: [&[u32]; TRANSPOSED] = [&[]; TRANSPOSED];
            let count = TRANSPOSED.min(rows.end - first);
            let values =
                |row: usize| &self.w[row * self.sizes.columns..][columns.start..columns.end];
            if plan.is_in_place() {
                for (row, source) in sources[..count].iter_mut().enumerate() {
                    *source = bytemuck::cast_slice(values(first + row));
                }
            } else {
                for (row, line) in lines.chunks_exact_mut(depth.max(1)).take(count).enumerate() {
                    let values = values(first + row);
                    let converted =
                        pack_line(isa, line, values, &converter, plan.format, plan.arithmetic);
                    clipped |= converted.clipped;
                    if let Some(correction) = correction.get_mut(first - rows.start + row) {
                        *correction = zero_point_correction(packing, converted.sum);
                    }
                }
                for (source, line) in sources.iter_mut().zip(lines.chunks_exact(depth.max(1))) {
                    *source = line;
                }
            }
            let out = &mut packed[first - rows.start..];
            transpose(isa, out, PANEL, &sources[..count], depth);
        }
        clipped
    }
}
