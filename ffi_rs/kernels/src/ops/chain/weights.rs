//! Weights as an op gets them, and where some columns of them go once they are packed.

use std::ops::Range;

use super::format::ProductPlan;
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
    pub(crate) dac: Bits,
    pub(crate) dacs: Quantizers,
    pub(crate) plan: ProductPlan,
}

impl Weights<'_> {
    /// Whether they are multiplied as they lie in memory.
    pub(crate) fn is_in_place(&self) -> bool {
        self.plan.is_in_place() && !self.transposed
    }
}

/// Where some packed columns go.
pub(super) struct Columns<'a> {
    pub(super) packed: &'a mut [u32],
    pub(super) range: Range<usize>,
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
