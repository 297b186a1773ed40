//! Weights as they lie in memory, and as the products of the gradient read them: rows of f32, one for
//! each input.
//!
//! Weights that lie otherwise, transposed or complex, are written as such rows before the products,
//! and the gradient of such rows is written as they lie after them. Both only move memory, which all
//! workers share out among them.

use std::ops::Range;

use super::context::Request;
use crate::ParFor;
use crate::disjoint::DisjointMut;
use crate::isa::Isa;
use crate::ops::chain::write_rotated;
use crate::ops::sizes::Sizes;
use crate::par::{Schedule, parallel_if};
use crate::quantizer::Bits;
use crate::scratch::Scratch;
use crate::tuning::{MOVED_LINES, MOVED_PER_NANOSECOND};
use crate::vector::{TRANSPOSED, transpose};

/// How the weights of a call lie, and which of their rows a tile has.
pub(super) struct StoredWeights {
    isa: Isa,
    complex: bool,
    transposed: bool,
    dac: Bits,
    /// Of the whole call, in f32.
    depth: usize,
    columns: usize,
    /// The inputs of the tile.
    inputs: Range<usize>,
}

impl StoredWeights {
    /// Those of a tile of a call with the sizes `whole`.
    pub(super) fn new(request: &Request, whole: Sizes, tile: usize) -> Self {
        Self {
            isa: Isa::detect(),
            complex: request.chain.complex,
            transposed: request.transpose_weight,
            dac: request.chain.weight,
            depth: whole.depth,
            columns: whole.columns,
            inputs: request.chain.tiles(whole.depth).inputs(tile),
        }
    }

    /// Whether they are such rows as they lie.
    pub(super) fn are_rows(&self) -> bool {
        !self.transposed && !self.complex
    }

    /// Where the rows of the tile are among all rows.
    pub(super) fn in_rows(&self) -> Range<usize> {
        self.inputs.start * self.columns..self.inputs.end * self.columns
    }

    /// Room for the rows of the tile; none where they [are rows](Self::are_rows).
    pub(super) fn room(&self) -> Scratch<f32> {
        Scratch::new(if self.are_rows() { 0 } else { self.in_rows().len() })
    }

    /// Writes the rows of the tile, of weights that are no rows.
    pub(super) fn write_rows(&self, rows: &mut [f32], w: &[f32], pool: &dyn ParFor) {
        let Self { columns, .. } = *self;
        // A complex input is two rows.
        let together = if self.complex { 2 } else { 1 };
        let count = self.inputs.len() / together;
        in_lines(rows, together * columns, count, pool, |lines, rows| {
            if !self.complex {
                return self.transpose_rows(rows, w, &lines);
            }
            for (k, pair) in lines.zip(rows.chunks_exact_mut(2 * columns)) {
                self.write_complex(pair, w, self.inputs.start / 2 + k);
            }
        });
    }

    /// Writes the gradient of the weights of the tile, from that of its rows, as weights that are no
    /// rows lie.
    pub(super) fn write_gradient(&self, out: &mut [f32], rows: &[f32], pool: &dyn ParFor) {
        let Self { depth, columns, .. } = *self;
        if self.complex && !self.transposed {
            let out = &mut out[self.inputs.start / 2 * columns..self.inputs.end / 2 * columns];
            in_lines(out, columns, self.inputs.len() / 2, pool, |lines, out| {
                let pairs = rows[2 * lines.start * columns..].chunks_exact(2 * columns);
                for (out, pair) in out.chunks_exact_mut(columns).zip(pairs) {
                    let (row, rotated) = pair.split_at(columns);
                    fold(out, row, rotated);
                }
            });
            return;
        }
        let together = if self.complex { 2 } else { 1 };
        in_lines(out, depth, columns / together, pool, |lines, out| {
            if !self.complex {
                return self.transpose_gradient(out, rows, &lines);
            }
            for (j, line) in lines.zip(out.chunks_exact_mut(depth)) {
                let numbers = line[self.inputs.clone()].as_chunks_mut::<2>().0;
                for (number, pair) in numbers.iter_mut().zip(rows.chunks_exact(2 * columns)) {
                    let (row, rotated) = pair.split_at(columns);
                    fold(number, &row[2 * j..2 * j + 2], &rotated[2 * j..2 * j + 2]);
                }
            }
        });
    }

    /// Writes the two rows of a complex input, of which
    /// [`Weights::complex`](crate::ops::chain::Weights) tells.
    fn write_complex(&self, pair: &mut [f32], w: &[f32], input: usize) {
        let (row, rotated) = pair.split_at_mut(self.columns);
        if self.transposed {
            let lines = w.chunks_exact(self.depth);
            for (number, line) in row.as_chunks_mut::<2>().0.iter_mut().zip(lines) {
                number.copy_from_slice(&line[2 * input..2 * input + 2]);
            }
        } else {
            row.copy_from_slice(&w[input * self.columns..][..self.columns]);
        }
        write_rotated(rotated, row, self.dac);
    }

    /// Writes some rows of the tile, of real weights.
    fn transpose_rows(&self, rows: &mut [f32], w: &[f32], lines: &Range<usize>) {
        let first = self.inputs.start + lines.start;
        let of_line = |column: usize| &w[column * self.depth + first..][..lines.len()];
        self.transpose(rows, self.columns, self.columns, of_line);
    }

    /// Writes the gradient of some columns of the tile, of real weights.
    fn transpose_gradient(&self, out: &mut [f32], rows: &[f32], lines: &Range<usize>) {
        let of_row = |row: usize| &rows[row * self.columns..][lines.clone()];
        self.transpose(&mut out[self.inputs.start..], self.depth, self.inputs.len(), of_row);
    }

    /// Writes `count` lines as columns of rows that are `stride` apart.
    fn transpose<'l>(
        &self,
        out: &mut [f32],
        stride: usize,
        count: usize,
        line: impl Fn(usize) -> &'l [f32],
    ) {
        let out: &mut [u32] = bytemuck::cast_slice_mut(out);
        for first in (0..count).step_by(TRANSPOSED) {
            let mut lines: [&[u32]; TRANSPOSED] = [&[]; TRANSPOSED];
            let here = TRANSPOSED.min(count - first);
            for (at, words) in lines[..here].iter_mut().enumerate() {
                *words = bytemuck::cast_slice(line(first + at));
            }
            let depth = lines[0].len();
            transpose(self.isa, &mut out[first..], stride, &lines[..here], depth);
        }
    }
}

/// Adds up what the two rows of a complex input give to its gradient.
fn fold(out: &mut [f32], row: &[f32], rotated: &[f32]) {
    let pairs = row.as_chunks::<2>().0.iter().zip(rotated.as_chunks::<2>().0);
    for (out, (row, rotated)) in out.as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
        *out = [row[0] + rotated[1], row[1] - rotated[0]];
    }
}

/// Calls `write` with some of `count` lines of `out`, each `width` long, and their numbers.
fn in_lines(
    out: &mut [f32],
    width: usize,
    count: usize,
    pool: &dyn ParFor,
    write: impl Fn(Range<usize>, &mut [f32]) + Sync,
) {
    if width == 0 {
        return;
    }
    let pool = parallel_if(pool, width * count / MOVED_PER_NANOSECOND);
    let out = DisjointMut::new(out);
    let mut schedule = Schedule::default();
    schedule.stage("move weights", count.div_ceil(MOVED_LINES), |chunk| {
        let lines = chunk * MOVED_LINES..count.min((chunk + 1) * MOVED_LINES);
        let mut part = out.write(lines.start * width..lines.end * width);
        write(lines, &mut part);
    });
    schedule.run(pool);
}
