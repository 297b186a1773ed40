//! w as the rhs of dx: transposed, as words, in panels.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::context::Context;
use crate::disjoint::{Chunk, StageBuffer};
use crate::ops::chain::{pack_line, zero_point_correction};
use crate::ops::sizes::Sizes;
use crate::packing::Arithmetic;
use crate::quantizer::Converter;
use crate::scratch::Scratch;
use crate::tuning::BACKWARD_FEW_WEIGHTS;
use crate::vector::{TRANSPOSED, transpose};

/// Columns of dx, rows of w, that are computed together.
pub(super) const PANEL: usize = 96;

/// w as the rhs of dx.
pub(super) struct TransposedWeights {
    /// By panel, words\[words of columns, PANEL\]; empty where each chunk of dx packs its own.
    packed: StageBuffer<u32>,
    /// Integers only, by panel: where sums start.
    corrections: StageBuffer<i32>,
    /// By panel: whether the DAC clips a weight, as far as is known.
    clipped: Vec<AtomicBool>,
    /// Words of a panel, and integers of one.
    size: (usize, usize),
    kept: bool,
}

impl TransposedWeights {
    /// Room for the panels, if they are worth keeping.
    pub(super) fn new(context: &Context<'_>) -> Self {
        let Context { isa, sizes: Sizes { rows, columns, .. }, dx, .. } = *context;
        let kept = rows * columns > 0 && context.needs_inputs() && context.keeps_panels();
        let integers = if dx.arithmetic == Arithmetic::Int8 { PANEL } else { 0 };
        let size = (dx.packing(isa).packed_len(columns) * PANEL, integers);
        let count = if kept { context.panels() } else { 0 };
        Self {
            packed: StageBuffer::scratch(count * size.0),
            corrections: StageBuffer::scratch(count * size.1),
            clipped: (0..context.panels()).map(|_| AtomicBool::new(true)).collect(),
            size,
            kept,
        }
    }
    /// Panels to pack, none where they are not kept.
    pub(super) fn chunks(&self) -> usize {
        if self.kept { self.clipped.len() } else { 0 }
    }

    /// Packs one panel.
    pub(super) fn pack(&self, context: &Context<'_>, panel: usize) {
        let Sizes { depth, columns, .. } = context.sizes;
        let (words, integers) = self.size;
        let mut packed = self.packed.write(panel * words..(panel + 1) * words);
        let mut corrections = self.corrections.write(panel * integers..(panel + 1) * integers);
        let rows = panel * PANEL..depth.min((panel + 1) * PANEL);
        self.set_clipped(
            panel,
            context.pack_panel(&mut packed, &mut corrections, rows, 0..columns),
        );
    }

    /// A panel, and where its sums start, if they are kept.
    pub(super) fn get(&self, panel: usize) -> Option<(Chunk<'_, u32>, Chunk<'_, i32>)> {
        let (words, integers) = self.size;
        self.kept.then(|| {
            let packed = self.packed.read(panel * words..(panel + 1) * words);
            (packed, self.corrections.read(panel * integers..(panel + 1) * integers))
        })
    }

    /// Whether the DAC may clip a weight of a panel.
    pub(super) fn is_clipped(&self, panel: usize) -> bool {
        self.clipped[panel].load(Ordering::Relaxed)
    }

    /// Says whether the DAC clips a weight of a panel.
    pub(super) fn set_clipped(&self, panel: usize, clipped: bool) {
        self.clipped[panel].store(clipped, Ordering::Relaxed);
    }
}

impl Context<'_> {
    /// Panels of dx.
    pub(super) fn panels(&self) -> usize {
        self.sizes.depth.div_ceil(PANEL)
    }

    /// Whether panels are packed once, if they are needed at all.
    pub(super) fn keeps_panels(&self) -> bool {
        let Sizes { depth, columns, .. } = self.sizes;
        self.dx.packing(self.isa).values_per_word() > 1 || depth * columns <= BACKWARD_FEW_WEIGHTS
    }

    /// Writes `columns` of the weights' rows `rows` as a panel of words, and where sums over them
    /// start; returns whether the DAC clips one of them.
    pub(super) fn pack_panel(
        &self,
        packed: &mut [u32],
        corrections: &mut [i32],
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> bool {
        let Self { isa, dx, .. } = *self;
        let packing = dx.packing(isa);
        let dacs = Converter::Each(self.weight_dacs.columns(columns.start, columns.len()));
        let words = packing.packed_len(columns.len());
        let mut lines = Scratch::new(if dx.is_in_place() { 0 } else { TRANSPOSED * words });
        let mut clipped = false;
        for first in rows.clone().step_by(TRANSPOSED) {
            let mut sources: [&[u32]; TRANSPOSED] = [&[]; TRANSPOSED];
            let count = TRANSPOSED.min(rows.end - first);
            let values =
                |row: usize| &self.w[row * self.sizes.columns..][columns.start..columns.end];
            if dx.is_in_place() {
                for (row, source) in sources[..count].iter_mut().enumerate() {
                    *source = bytemuck::cast_slice(values(first + row));
                }
            } else {
                for (row, line) in lines.chunks_exact_mut(words.max(1)).take(count).enumerate() {
                    let converted = pack_line(isa, line, values(first + row), &dacs, dx);
                    clipped |= converted.clipped;
                    if let Some(correction) = corrections.get_mut(first - rows.start + row) {
                        *correction = zero_point_correction(packing, converted.sum);
                    }
                }
                for (source, line) in sources.iter_mut().zip(lines.chunks_exact(words.max(1))) {
                    *source = line;
                }
            }
            transpose(isa, &mut packed[first - rows.start..], PANEL, &sources[..count], words);
        }
        clipped
    }
}
