//! w as a factor of dx: transposed, as words, in panels.

use std::ops::Range;

use super::operands::Sizes;
use super::optical_matmul_grad::Backward;
use super::prepare::{line_of_words, start_of};
use crate::number::Kind;
use crate::quantizer::Converter;
use crate::scratch::Scratch;
use crate::shared::Staged;
use crate::words::{TRANSPOSED, transpose};

/// Columns of dx that are computed together.
pub(super) const PANEL: usize = 96;
/// Weights that are laid out once rather than for each block of rows, unless a word holds several.
const FEW_WEIGHTS: usize = 1 << 16;

/// w as the right factor of dx: words\[words of columns, PANEL\] for each panel.
pub(super) struct Panels {
    /// Empty where each part of dx lays out its own.
    words: Staged<u32>,
    /// Where integer sums start, by panel.
    start: Staged<i32>,
    /// By panel: whether the converter clips a weight, as far as is known.
    pub(super) clipped: Staged<bool>,
    /// Words of a panel, and integers of one.
    size: (usize, usize),
    count: usize,
}

impl Panels {
    /// Room for the panels, if they are worth keeping.
    pub(super) fn new(backward: &Backward<'_>, rows: usize) -> Self {
        let Sizes { depth, columns, .. } = backward.sizes;
        let number = backward.dx.kind.number(backward.level);
        let kept = rows > 0 && backward.needs_inputs() && backward.keeps_panels();
        let count = if kept { depth.div_ceil(PANEL) } else { 0 };
        let integers = if backward.dx.kind == Kind::Integer { PANEL } else { 0 };
        let size = (number.words(columns) * PANEL, integers);
        let words = Staged::scratch(count * size.0);
        let count = if words.is_empty() { 0 } else { count };
        let clipped = Staged::new(true, backward.panels());
        Self { words, start: Staged::scratch(count * size.1), clipped, size, count }
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
        let (size, starts) = self.size;
        // SAFETY: panels do not overlap.
        let (words, start, clipped) = unsafe {
            (
                self.words.write(panel * size, size),
                self.start.write(panel * starts, starts),
                &mut self.clipped.write(panel, 1)[0],
            )
        };
        let range = panel * PANEL..depth.min((panel + 1) * PANEL);
        *clipped = backward.lay_out_weights(words, start, range, 0..columns);
    }

    /// A panel, if they are kept.
    ///
    /// # Safety
    ///
    /// It is filled.
    pub(super) unsafe fn get(&self, panel: usize) -> Option<(&[u32], &[i32])> {
        let (size, starts) = self.size;
        // SAFETY: as this function's.
        (self.count > 0).then(|| unsafe {
            (
                self.words.read(panel * size..(panel + 1) * size),
                self.start.read(panel * starts..(panel + 1) * starts),
            )
        })
    }
}

impl Backward<'_> {
    /// Whether panels are laid out once, if they are needed at all.
    pub(super) fn keeps_panels(&self) -> bool {
        let Sizes { depth, columns, .. } = self.sizes;
        self.dx.kind.number(self.level).group() > 1 || depth * columns <= FEW_WEIGHTS
    }

    /// Panels of dx.
    pub(super) fn panels(&self) -> usize {
        self.sizes.depth.div_ceil(PANEL)
    }

    /// Writes `columns` of the weights' rows `rows` as a panel of words, and where sums over them
    /// start; returns whether the converter clips one of them.
    pub(super) fn lay_out_weights(
        &self,
        words: &mut [u32],
        start: &mut [i32],
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> bool {
        let (level, way) = (self.level, self.dx);
        let mut clipped = false;
        let number = way.kind.number(level);
        let converter = Converter::Each(self.w_quantizers.columns(columns.start, columns.len()));
        let depth = number.words(columns.len());
        let mut lines = Scratch::new(if way.is_in_place() { 0 } else { TRANSPOSED * depth });
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
                    let converted =
                        line_of_words(level, line, values, &converter, way.form, way.kind);
                    clipped |= converted.clipped;
                    if let Some(start) = start.get_mut(first - rows.start + row) {
                        *start = start_of(number, converted.sum);
                    }
                }
                for (source, line) in sources.iter_mut().zip(lines.chunks_exact(depth.max(1))) {
                    *source = line;
                }
            }
            let out = &mut words[first - rows.start..];
            transpose(level, out, PANEL, &sources[..count], depth);
        }
        clipped
    }
}
