//! Weights as an op gets them, and where some columns of them go once they are packed.

use std::borrow::Cow;
use std::ops::Range;

use super::format::ProductPlan;
use super::peaks::{peak_of, peaks_of_columns};
use super::tiles::Tiles;
use crate::isa::Isa;
use crate::quantizer::{Bits, PIECE, Quantizers};
use crate::tuning::PACKED_COLUMNS;
use crate::vector::{TRANSPOSED, transpose};

/// The weights as an op gets them, and the DACs of their columns.
pub(crate) struct Weights<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) depth: usize,
    pub(crate) columns: usize,
    /// Whether `data` is (columns, depth) rather than (depth, columns).
    pub(crate) transposed: bool,
    pub(crate) tiles: Tiles,
    /// Whether `data` holds complex numbers, of which `depth` and `columns` count the f32. To those
    /// of x, which lie in turns, they are the real matrix
    ///
    /// ```text
    /// rows 2k       re w[k, j]    im w[k, j]         as they lie in memory
    /// rows 2k+1    -im w[k, j]    re w[k, j]         i times the same
    /// ```
    pub(crate) complex: bool,
    pub(crate) dac: Bits,
    /// Of all columns, or one that they share, or none: then it is the peak of each.
    pub(crate) full_scale: Cow<'a, [f32]>,
    pub(crate) plan: ProductPlan,
}

impl Weights<'_> {
    /// Whether they are multiplied as they lie in memory.
    pub(crate) fn is_in_place(&self) -> bool {
        self.plan.is_in_place() && !self.transposed && !self.complex
    }

    /// Some columns of a row, of weights whose rows lie along the columns; in `room`, if they are
    /// not in memory.
    #[inline(always)]
    pub(super) fn row<'r>(
        &'r self,
        row: usize,
        columns: &Range<usize>,
        room: &'r mut [f32; PACKED_COLUMNS],
    ) -> &'r [f32] {
        let stored = if self.complex { row / 2 } else { row };
        let values = &self.data[stored * self.columns..][columns.clone()];
        if self.complex && row % 2 == 1 {
            let room = &mut room[..values.len()];
            write_rotated(room, values, self.dac);
            return room;
        }
        values
    }

    /// Some inputs of a column, of weights whose rows lie along the depth.
    pub(super) fn column<'r>(
        &'r self,
        column: usize,
        inputs: &Range<usize>,
        room: &'r mut Vec<f32>,
    ) -> &'r [f32] {
        if !self.complex {
            return &self.data[column * self.depth..][inputs.clone()];
        }
        let values = &self.data[column / 2 * self.depth..][inputs.clone()];
        room.clear();
        for pair in values.as_chunks::<2>().0 {
            let mut rotated = [0.0; 2];
            write_rotated(&mut rotated, pair, self.dac);
            room.extend([pair[column % 2], rotated[column % 2]]);
        }
        room
    }

    /// Rows of weights that are multiplied as they lie in memory.
    pub(crate) fn rows(&self, inputs: &Range<usize>) -> &[f32] {
        &self.data[inputs.start * self.columns..inputs.end * self.columns]
    }

    /// The largest finite magnitudes of some columns, 0 where there is none.
    pub(crate) fn peaks(&self, isa: Isa, columns: &Range<usize>, peaks: &mut [f32]) {
        if self.transposed {
            for (peak, column) in peaks.iter_mut().zip(columns.clone()) {
                let stored = if self.complex { column / 2 } else { column };
                *peak = peak_of(isa, &self.data[stored * self.depth..][..self.depth]);
            }
            return;
        }
        let rows = self.data.chunks_exact(self.columns);
        peaks_of_columns(isa, peaks, rows.map(|row| &row[columns.clone()]));
        if self.complex {
            // Both columns of a number have both parts.
            for pair in peaks.as_chunks_mut::<2>().0 {
                *pair = [pair[0].max(pair[1]); 2];
            }
        }
    }

    /// The DACs of some columns, whose peaks these are if [`finds_ranges`](Self::finds_ranges).
    pub(super) fn dacs(&self, isa: Isa, columns: &Range<usize>, peaks: &[f32]) -> Quantizers {
        let full_scale = match self.full_scale.len() {
            0 if self.finds_ranges() => peaks,
            0 => &[1.0],
            1 => &self.full_scale,
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

/// Writes i times complex numbers. Of one bit the negative of 0 must be the lower level where 0 is the
/// upper one, so it is the number next to 0 there.
#[inline(always)]
pub(crate) fn write_rotated(rotated: &mut [f32], numbers: &[f32], dac: Bits) {
    let zero = if dac.is_one() { -f32::MIN_POSITIVE } else { 0.0 };
    for (out, number) in rotated.as_chunks_mut::<2>().0.iter_mut().zip(numbers.as_chunks::<2>().0) {
        *out = [if number[1] == 0.0 { zero } else { -number[1] }, number[0]];
    }
}
