//! Weights as an op gets them, and where some columns of them go once they are packed.

use std::ops::Range;

use super::format::ProductPlan;
use super::peaks::{peak_of, peaks_of_columns};
use super::tiles::Tiles;
use crate::isa::Isa;
use crate::quantizer::{Bits, PIECE, Quantizers};
use crate::vector::{TRANSPOSED, transpose};

/// The weights as an op gets them, and the DACs of their columns.
pub(crate) struct Weights<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) depth: usize,
    pub(crate) columns: usize,
    /// Whether `data` is (columns, depth) rather than (depth, columns).
    pub(crate) transposed: bool,
    pub(crate) tiles: Tiles,
    pub(crate) dac: Bits,
    /// Of all columns, or one that they share, or none: then it is the peak of each.
    pub(crate) full_scale: &'a [f32],
    pub(crate) plan: ProductPlan,
}

impl Weights<'_> {
    /// Whether they are multiplied as they lie in memory.
    pub(crate) fn is_in_place(&self) -> bool {
        self.plan.is_in_place() && !self.transposed
    }

    /// Rows of weights, where those are along the columns.
    pub(crate) fn rows(&self, inputs: &Range<usize>) -> &[f32] {
        &self.data[inputs.start * self.columns..inputs.end * self.columns]
    }

    /// Weights of a column, where its rows are along the depth.
    pub(super) fn line(&self, column: usize, inputs: &Range<usize>) -> &[f32] {
        &self.data[column * self.depth..][inputs.clone()]
    }

    /// The largest finite magnitudes of some columns, 0 where there is none.
    pub(crate) fn peaks(&self, isa: Isa, columns: &Range<usize>, peaks: &mut [f32]) {
        if self.transposed {
            for (peak, column) in peaks.iter_mut().zip(columns.clone()) {
                *peak = peak_of(isa, self.line(column, &(0..self.depth)));
            }
            return;
        }
        let rows = self.data.chunks_exact(self.columns);
        peaks_of_columns(isa, peaks, rows.map(|row| &row[columns.clone()]));
    }

    /// The DACs of some columns, whose peaks these are if [`finds_ranges`](Self::finds_ranges).
    pub(super) fn dacs(&self, isa: Isa, columns: &Range<usize>, peaks: &[f32]) -> Quantizers {
        let full_scale = match self.full_scale.len() {
            0 if self.finds_ranges() => peaks,
            0 => &[1.0],
            1 => self.full_scale,
            _ => &self.full_scale[columns.clone()],
        };
        Quantizers::new(isa, self.dac, columns.len(), full_scale)
    }

    /// Whether the ranges are those of the weights themselves.
    pub(super) fn finds_ranges(&self) -> bool {
        self.full_scale.is_empty() && !self.dac.is_off()
    }
}

/// Where some packed columns of a tile go.
pub(super) struct Columns<'a> {
    pub(super) packed: &'a mut [u32],
    pub(super) range: Range<usize>,
    /// The inputs of the tile.
    pub(super) inputs: Range<usize>,
    pub(super) corrections: &'a mut [i32],
    pub(super) steps: &'a mut [f32],
}

impl Columns<'_> {
    /// Writes lines of so many words as `columns`.
    pub(super) fn transpose(
        &mut self,
        isa: Isa,
        columns: Range<usize>,
        lines: &[u32],
        packed_len: usize,
    ) {
        if packed_len == 0 {
            return;
        }
        let mut rows: [&[u32]; TRANSPOSED] = [&[]; TRANSPOSED];
        for (row, line) in rows.iter_mut().zip(lines.chunks_exact(packed_len)) {
            *row = line;
        }
        let mut block = [0; TRANSPOSED * PIECE];
        for piece in (0..packed_len).step_by(PIECE) {
            let length = PIECE.min(packed_len - piece);
            let rows = rows.map(|row| &row[piece..piece + length]);
            transpose(isa, &mut block, TRANSPOSED, &rows[..columns.len()], length);
            for (d, row) in block.chunks_exact(TRANSPOSED).take(length).enumerate() {
                let at = (piece + d) * self.range.len() + columns.start - self.range.start;
                self.packed[at..at + columns.len()].copy_from_slice(&row[..columns.len()]);
            }
        }
    }
}
