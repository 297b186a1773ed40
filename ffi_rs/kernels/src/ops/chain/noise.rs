//! The noise of the chain: σ and its derivatives, and which ε some rows and columns get.
//!
//! ```text
//! σ² = thermal² + shot²·|y| + relative²·y² + weight²·‖x_q‖²
//! ```

use std::ops::Range;

use super::checks::Broadcast;
use crate::isa::Isa;
use crate::noise::{self, SEEDED, Source};
use crate::scratch::Scratch;
use crate::{Error, View};

/// Who draws what: the coefficients, the seed and the ids, as the operands give them.
pub(crate) struct NoiseOperands<'a> {
    noisy: bool,
    coefficients: Broadcast<'a, f32>,
    seed: Broadcast<'a, u32>,
    row_ids: Broadcast<'a, u32>,
    first_column: u32,
}

impl<'a> NoiseOperands<'a> {
    /// From `noise`, `seed`, `rows` and `columns`, which are checked, for `rows` rows.
    pub(crate) fn new(noisy: bool, views: &[View<'a>], rows: usize) -> Result<Self, Error> {
        Ok(Self {
            noisy,
            coefficients: Broadcast::new(views[0].data()?, 4, rows),
            seed: Broadcast::new(views[1].data()?, 2, rows),
            row_ids: Broadcast::new(views[2].data()?, 1, rows),
            first_column: views[3].data::<u32>()?.first().copied().unwrap_or(0),
        })
    }

    /// The coefficients of `row`, or None where the row is free of noise.
    pub(crate) fn coefficients(&self, row: usize) -> Option<Coefficients> {
        if !self.noisy {
            return None;
        }
        let [thermal, shot, relative, weight] = self.coefficients.row(row);
        let coefficients = Coefficients { thermal, shot, relative, weight };
        (coefficients.as_array() != [0.0; 4]).then_some(coefficients)
    }

    /// Whether the noise of `row` depends on ‖x_q‖².
    pub(crate) fn needs_x_norm(&self, row: usize) -> bool {
        self.coefficients(row).is_some_and(|noise| noise.weight != 0.0)
    }

    /// Calls `piece(rows, columns, epsilon)` for some of `rows` at a time, at most [`SEEDED`], and
    /// the parts of `columns` that noise blocks cut; `epsilon` holds ε of one row after the other,
    /// or anything where no row has noise, in `room`.
    #[inline(always)]
    pub(crate) fn for_each_piece(
        &self,
        isa: Isa,
        rows: Range<usize>,
        columns: Range<usize>,
        room: &mut Scratch<f32>,
        mut piece: impl FnMut(Range<usize>, Range<usize>, &mut [f32]),
    ) {
        for first in rows.clone().step_by(SEEDED) {
            let rows = first..rows.end.min(first + SEEDED);
            let noisy = rows.clone().any(|row| self.coefficients(row).is_some());
            let sources = if noisy { self.sources(&rows) } else { [Source::default(); SEEDED] };
            let mut column = columns.start;
            while column < columns.end {
                let id = self.first_column.wrapping_add(column as u32);
                let width = (noise::BLOCK - id as usize % noise::BLOCK).min(columns.end - column);
                room.resize(rows.len() * width);
                if noisy {
                    noise::fill(isa, room, &sources[..rows.len()], id);
                }
                piece(rows.clone(), column..column + width, room);
                column += width;
            }
        }
    }

    /// Writes random bits that round at most [`SEEDED`] `rows`, all columns of them.
    pub(crate) fn rounding_bits(&self, isa: Isa, rows: Range<usize>, bits: &mut [u32]) {
        let sources = self.sources(&rows).map(Source::rounding);
        noise::rounding_words(isa, bits, &sources[..rows.len()], self.first_column);
    }

    fn sources(&self, rows: &Range<usize>) -> [Source; SEEDED] {
        let mut sources = [Source::default(); SEEDED];
        for (source, row) in sources.iter_mut().zip(rows.clone()) {
            *source = Source::new(self.seed.row(row), self.row_ids.get(row));
        }
        sources
    }
}

/// What a noise operand says of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coefficients {
    thermal: f32,
    shot: f32,
    relative: f32,
    pub(crate) weight: f32,
}

impl Coefficients {
    fn as_array(self) -> [f32; 4] {
        [self.thermal, self.shot, self.relative, self.weight]
    }

    /// σ/|y|, as far as it is relative noise.
    #[inline(always)]
    pub(crate) fn relative(&self) -> f32 {
        self.relative.abs()
    }

    /// `relative`, where there is no other noise: then σ = relative · |y|.
    #[inline(always)]
    pub(crate) fn only_relative(&self) -> Option<f32> {
        let others = [self.thermal, self.shot, self.weight];
        (others == [0.0; 3]).then_some(self.relative())
    }

    /// ∂σ/∂y · σ
    #[inline(always)]
    pub(crate) fn sigma_by_y(&self, y: f32) -> f32 {
        0.5 * (self.shot * self.shot) * sign(y) + self.relative * self.relative * y
    }

    /// The gradient of the four coefficients, from the sums over the columns of the row.
    pub(crate) fn gradient(&self, sums: &NoiseSums, x_norm_sq: f32) -> [f32; 4] {
        let NoiseSums { cotangent, magnitude, square } = *sums;
        [
            self.thermal * cotangent,
            self.shot * magnitude,
            self.relative * square,
            self.weight * x_norm_sq * cotangent,
        ]
    }
}

/// The noise of a row whose inputs are known.
#[derive(Clone, Copy)]
pub(crate) struct RowNoise {
    pub(crate) coefficients: Coefficients,
    /// ‖x_q‖²
    pub(crate) x_norm_sq: f32,
}

impl RowNoise {
    /// σ at `y`.
    #[inline(always)]
    pub(crate) fn sigma(&self, y: f32) -> f32 {
        let Coefficients { thermal, shot, relative, weight } = self.coefficients;
        let floor = thermal * thermal;
        let shot = shot * shot;
        let relative = relative * relative;
        let weight = weight * weight;
        (floor + shot * y.abs() + relative * (y * y) + weight * self.x_norm_sq).sqrt()
    }

    /// `y + σ(y)·ε`
    #[inline(always)]
    pub(crate) fn add(&self, y: f32, epsilon: f32) -> f32 {
        y + self.sigma(y) * epsilon
    }

    /// `∂(y + σ·ε)/∂y`, where σ is `sigma`.
    #[inline(always)]
    pub(crate) fn slope(&self, y: f32, epsilon: f32, sigma: f32) -> f32 {
        let ratio = if sigma == 0.0 { 0.0 } else { epsilon / sigma };
        1.0 + ratio * self.coefficients.sigma_by_y(y)
    }
}

/// Sums over the columns of one row of the noise cotangent p = h·ε/σ, for the gradients of its noise.
#[derive(Clone, Copy, Default)]
pub(crate) struct NoiseSums {
    /// Σ p
    pub(crate) cotangent: f32,
    /// Σ p·|y|
    pub(crate) magnitude: f32,
    /// Σ p·y²
    pub(crate) square: f32,
}

/// 1, -1 or 0.
#[inline(always)]
pub(crate) fn sign(y: f32) -> f32 {
    let magnitude = if y == 0.0 { 0.0 } else { 1.0f32 };
    magnitude.copysign(y)
}
