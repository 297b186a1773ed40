//! The noise of the chain: σ and its derivatives, and which ε some rows and columns get.
//!
//! ```text
//! σ² = thermal² + shot²·|y| + relative²·y² + weight²·‖x_q‖²
//! ```
//!
//! Squares reach twice as far as the exponents of f32. Where one that counts would be lost, or would
//! be infinite, the same formula is computed in f64, which holds all of them:
//! [`RowNoise::is_narrow_at`] tells where, and [`RowNoise::is_narrow`] that it is nowhere.

use std::ops::Range;

use super::attributes::Chain;
use super::checks::Broadcast;
use crate::isa::Isa;
use crate::noise::{self, SEED_STEP, SEEDED, Source};
use crate::scratch::Scratch;
use crate::{Error, View};

/// Who draws what: the coefficients, the seed and the ids, as the operands give them.
#[derive(Clone, Copy)]
pub(crate) struct NoiseOperands<'a> {
    noisy: bool,
    coefficients: Broadcast<'a, f32>,
    seed: Broadcast<'a, u32>,
    /// What the seed of the tile is ahead of `seed`.
    seed_offset: u64,
    row_ids: Broadcast<'a, u32>,
    first_column: u32,
}

impl<'a> NoiseOperands<'a> {
    /// From `noise`, `seed`, `rows` and `columns`, which are checked, for `rows` rows.
    pub(crate) fn new(chain: &Chain, views: &[View<'a>], rows: usize) -> Result<Self, Error> {
        let first_column = views[3].data::<u32>()?.first().copied().unwrap_or(0);
        Ok(Self {
            noisy: chain.noisy,
            coefficients: Broadcast::new(views[0].data()?, 4, rows),
            seed: Broadcast::new(views[1].data()?, 2, rows),
            seed_offset: 0,
            row_ids: Broadcast::new(views[2].data()?, 1, rows),
            // Each part of a number draws for itself.
            first_column: first_column.wrapping_mul(chain.parts() as u32),
        })
    }

    /// The noise of a tile, whose outputs are independent of those of the others.
    pub(crate) fn of_tile(self, tile: usize) -> Self {
        Self { seed_offset: SEED_STEP.wrapping_mul(tile as u64), ..self }
    }

    /// The coefficients of `row`, or None where the row is free of noise. All are NaN where one is
    /// negative: there is no such noise.
    pub(crate) fn coefficients(&self, row: usize) -> Option<Coefficients> {
        if !self.noisy {
            return None;
        }
        let [thermal, shot, relative, weight] = self.coefficients.row(row);
        let mut coefficients = Coefficients { thermal, shot, relative, weight };
        if !coefficients.as_array().iter().all(|value| *value >= 0.0) {
            let [thermal, shot, relative, weight] = [f32::NAN; 4];
            coefficients = Coefficients { thermal, shot, relative, weight };
        }
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
            source.seed = source.seed.wrapping_add(self.seed_offset);
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
    pub(super) fn as_array(self) -> [f32; 4] {
        [self.thermal, self.shot, self.relative, self.weight]
    }

    /// σ/|y|, as far as it is relative noise.
    #[inline(always)]
    pub(crate) fn relative(&self) -> f32 {
        self.relative
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
    pub(crate) fn gradient(&self, sums: &NoiseSums, x_norm_sq: f64) -> [f32; 4] {
        let NoiseSums { cotangent, magnitude, square, wide } = *sums;
        let narrow = [
            self.thermal * cotangent,
            self.shot * magnitude,
            self.relative * square,
            product(self.weight, x_norm_sq, cotangent),
        ];
        if wide == [0.0; 3] {
            return narrow;
        }
        let wide = [wide[0], wide[1], wide[2], x_norm_sq * wide[0]];
        let coefficients = self.as_array();
        std::array::from_fn(|index| {
            (f64::from(narrow[index]) + f64::from(coefficients[index]) * wide[index]) as f32
        })
    }

    /// What of x_q is in its gradient: ∂σ/∂x_q = weight²·x_q/σ, summed with the noise cotangent.
    pub(crate) fn gradient_by_x(&self, noise_cotangent: f32) -> f32 {
        product(self.weight, f64::from(self.weight), noise_cotangent)
    }
}

/// Coefficients and, as bits, values whose squares and their products are far from the ends of the
/// range of f32: a variance that is made of them is between 1e-24 and 1e31.
const USUAL_LOW: f32 = 1e-6;
const USUAL_HIGH: f32 = 1e3;
const LOWEST: u32 = 1e-6f32.to_bits();
const HIGHEST: u32 = 1e12f32.to_bits();

/// The noise of a row whose inputs are known.
#[derive(Clone, Copy)]
pub(crate) struct RowNoise {
    pub(crate) coefficients: Coefficients,
    /// ‖x_q‖²
    pub(crate) x_norm_sq: f64,
}

impl RowNoise {
    /// Whether f32 holds every square of which σ is made at all of `y`. NaN and infinity are no
    /// matter: of them comes NaN.
    #[inline(always)]
    pub(crate) fn is_narrow(&self, y: &[f32]) -> bool {
        // Of usual coefficients and values no square is near an end of the range.
        let mut beyond = 0;
        for y in y {
            let bits = y.abs().to_bits();
            // What is below the lowest wraps to above the highest.
            beyond = beyond.max(if bits == 0 { 0 } else { bits.wrapping_sub(LOWEST) });
        }
        self.is_usual() && beyond <= HIGHEST - LOWEST || self.is_narrow_in_all(y)
    }

    #[inline(always)]
    fn is_usual(&self) -> bool {
        let Coefficients { weight, .. } = self.coefficients;
        let usual = |value: f32| value == 0.0 || (USUAL_LOW..=USUAL_HIGH).contains(&value);
        let norm = self.x_norm_sq as f32;
        self.coefficients.as_array().into_iter().all(usual)
            && (weight == 0.0 || (1e-9..=1e24).contains(&norm))
    }

    /// [`is_narrow_at`](Self::is_narrow_at) all of `y`.
    #[cold]
    #[inline(never)]
    fn is_narrow_in_all(&self, y: &[f32]) -> bool {
        let magnitudes = y.iter().map(|y| y.abs()).filter(|y| y.is_finite());
        let skip_zeros = self.follows_y();
        // σ grows with |y|.
        let (low, high) = magnitudes
            .filter(|y| !(skip_zeros && *y == 0.0))
            .fold((f32::INFINITY, 0.0f32), |(low, high), y| (low.min(y), high.max(y)));
        low > high || self.is_narrow_at(low) && self.is_narrow_at(high)
    }

    /// Whether f32 holds every square of which σ is made at `y`, or what it loses of them is below
    /// a rounding. It depends on the row and on `y` alone, so that no cut of a row changes a bit.
    #[inline(always)]
    pub(crate) fn is_narrow_at(&self, y: f32) -> bool {
        let Coefficients { shot, relative, weight, .. } = self.coefficients;
        let is_lost = |value: f32| value != 0.0 && value * value < f32::MIN_POSITIVE;
        if y == 0.0 && self.follows_y() {
            return true;
        }
        if [shot, relative, weight].into_iter().any(is_lost) {
            return false;
        }
        // A square that is lost is below the smallest normal number, times that of a coefficient.
        let lost = f32::MIN_POSITIVE * 1.0f32.max(relative * relative).max(weight * weight);
        let variance = self.variance(y);
        variance >= lost * (1 << f32::MANTISSA_DIGITS) as f32 && variance.is_finite()
    }

    /// Whether there is no noise at y = 0.
    #[inline(always)]
    fn follows_y(&self) -> bool {
        self.coefficients.thermal == 0.0 && self.coefficients.weight == 0.0
    }

    /// `y + σ·ε` and its derivative by y, whether or not f32 holds the squares.
    #[inline(always)]
    pub(crate) fn at_any(&self, y: f32, epsilon: f32) -> (f32, f32) {
        if self.is_narrow_at(y) {
            let sigma = self.sigma(y);
            let slope = match self.coefficients.only_relative() {
                Some(relative) => 1.0 + epsilon * relative * sign(y),
                None => self.slope(y, epsilon, sigma),
            };
            return (y + sigma * epsilon, slope);
        }
        let (sigma, by_y) = self.wide_sigma(y);
        (y + sigma as f32 * epsilon, (1.0 + f64::from(epsilon) * by_y) as f32)
    }

    /// The noise cotangent p = h·ε/σ and what it adds to h, where f32 does not hold the squares.
    #[inline(always)]
    pub(crate) fn wide_cotangent(&self, h: f32, y: f32, epsilon: f32) -> (f64, f32) {
        let (sigma, by_y) = self.wide_sigma(y);
        let upstream = f64::from(h) * f64::from(epsilon);
        let cotangent = if sigma == 0.0 { 0.0 } else { upstream / sigma };
        (cotangent, (upstream * by_y) as f32)
    }

    /// σ and ∂σ/∂y, 0 where σ is.
    #[inline(always)]
    fn wide_sigma(&self, y: f32) -> (f64, f64) {
        let [thermal, shot, relative, weight] = self.coefficients.as_array().map(f64::from);
        let (magnitude, sign) = (f64::from(y).abs(), f64::from(sign(y)));
        let by_shot = shot * shot;
        let by_relative = relative * relative * magnitude;
        let variance = thermal * thermal
            + by_shot * magnitude
            + by_relative * magnitude
            + weight * weight * self.x_norm_sq;
        let sigma = variance.sqrt();
        let by_y = (0.5 * by_shot + by_relative) * sign;
        (sigma, if sigma == 0.0 { 0.0 } else { by_y / sigma })
    }

    /// σ at `y`.
    #[inline(always)]
    pub(crate) fn sigma(&self, y: f32) -> f32 {
        self.variance(y).sqrt()
    }

    /// σ² at `y`.
    #[inline(always)]
    fn variance(&self, y: f32) -> f32 {
        let Coefficients { thermal, shot, relative, weight } = self.coefficients;
        let floor = thermal * thermal;
        let shot = shot * shot;
        let relative = relative * relative;
        let weight = weight * weight;
        floor + shot * y.abs() + relative * (y * y) + weight * self.x_norm_sq as f32
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

/// `left · middle · right` in this order, as f32 has it unless f32 cannot hold a part of it.
fn product(left: f32, middle: f64, right: f32) -> f32 {
    let part = left * middle as f32;
    let narrow = part * right;
    if (middle as f32).is_normal() && part.is_normal() && narrow.is_normal() {
        return narrow;
    }
    (f64::from(left) * middle * f64::from(right)) as f32
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
    /// The same three where f32 does not hold the squares.
    pub(crate) wide: [f64; 3],
}

impl NoiseSums {
    /// Adds what some columns give, in lanes.
    #[inline(always)]
    pub(crate) fn add<const LANES: usize>(&mut self, lanes: &[[f32; LANES]; 3]) {
        self.cotangent += lanes[0].iter().sum::<f32>();
        self.magnitude += lanes[1].iter().sum::<f32>();
        self.square += lanes[2].iter().sum::<f32>();
    }

    /// Σ p of all.
    pub(crate) fn cotangent(&self) -> f32 {
        if self.wide[0] == 0.0 { self.cotangent } else { self.cotangent + self.wide[0] as f32 }
    }
}

/// 1, -1 or 0.
#[inline(always)]
pub(crate) fn sign(y: f32) -> f32 {
    let magnitude = if y == 0.0 { 0.0 } else { 1.0f32 };
    magnitude.copysign(y)
}
