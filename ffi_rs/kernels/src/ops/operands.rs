//! The operands that the forward and the backward op of the signal chain have in common.

use std::ops::Range;

use super::grad_steps::RowSums;
use super::optical_noise::seed_of;
use crate::isa::Isa;
use crate::noise::{self, SEEDED, Source};
use crate::quantizer::{Bits, Converter};
use crate::scratch::Scratch;
use crate::{Attrs, DType, Error, Fact, View};

/// The converters and the layout, as attributes say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    op: &'static str,
    pub(crate) dac: Bits,
    pub(crate) weight: Bits,
    pub(crate) adc: Bits,
    /// Whether w is (N, K) rather than (K, N).
    pub(crate) transpose_weight: bool,
    pub(crate) noisy: bool,
    /// Whether every row and column has an id: something random is drawn for it.
    pub(crate) with_ids: bool,
}

/// Rows, depth and columns: x is (M, K), y is (M, N).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
}

impl Sizes {
    /// Rows, depth and columns.
    pub(crate) fn extents(&self) -> [usize; 3] {
        [self.rows, self.depth, self.columns]
    }

    /// About what one thread takes for so many products, where it does 100 products of numbers in a
    /// nanosecond, and has `weights` of w ready.
    pub(crate) fn nanoseconds(&self, products: usize, weights: usize) -> usize {
        let numbers = self.depth * self.columns;
        let product = (self.rows * numbers / 100).max(numbers / weights);
        products * (product + self.rows * self.columns)
    }
}

impl Chain {
    pub(crate) fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        let mut chain = Self {
            op,
            dac: Bits::from_attrs(op, attrs, "dac_bits")?,
            weight: Bits::from_attrs(op, attrs, "weight_bits")?,
            adc: Bits::from_attrs(op, attrs, "adc_bits")?,
            transpose_weight: attrs.bool(op, "transpose_weight")?,
            noisy: attrs.bool(op, "noisy")?,
            with_ids: false,
        };
        chain.with_ids = chain.noisy;
        Ok(chain)
    }

    /// Whether the products are summed as integers, which i32 must hold.
    pub(crate) fn is_integer(&self, depth: usize) -> bool {
        self.dac.is_byte()
            && self.weight.is_byte()
            && u64::from(self.dac.largest_code() * self.weight.largest_code())
                .checked_mul(depth as u64)
                .is_some_and(|sum| sum < 1 << 31)
    }

    /// The sizes that `x` and `w` give.
    pub(crate) fn sizes(&self, x: &Fact, w: &Fact) -> Result<Sizes, Error> {
        let &[rows, depth] = matrix(self.op, "x", x)?;
        let &[first, second] = matrix(self.op, "w", w)?;
        let (w_depth, columns) =
            if self.transpose_weight { (second, first) } else { (first, second) };
        if w_depth != depth {
            return Err(self.refuse(format!(
                "`w` must have {depth} elements along the contracted axis as `x` has, got {w_depth}"
            )));
        }
        Ok(Sizes { rows, depth, columns })
    }

    /// Checks the operands from `x_full_scale` to `columns`.
    pub(crate) fn check_ranges_and_noise(&self, facts: &[Fact], sizes: Sizes) -> Result<(), Error> {
        let Sizes { rows, columns, .. } = sizes;
        let [x_full_scale, w_full_scale, y_full_scale, noise, seed, row_ids, column_ids] = facts
        else {
            return Err(
                self.refuse(format!("expected 7 range and noise operands, got {}", facts.len()))
            );
        };
        let op = self.op;
        extents(op, "x_full_scale", x_full_scale, DType::F32, &[&[1, rows]])?;
        extents(op, "w_full_scale", w_full_scale, DType::F32, &[&[1, columns]])?;
        extents(op, "y_full_scale", y_full_scale, DType::F32, &[&[1, columns]])?;
        extents(op, "noise", noise, DType::F32, &[&[1, rows], &[4]])?;
        extents(op, "seed", seed, DType::U32, &[&[1, rows], &[2]])?;
        // Rows that share an id would share their noise.
        let ids = |extent| if self.with_ids { [extent, extent] } else { [1, extent] };
        extents(op, "rows", row_ids, DType::U32, &[&ids(rows)])?;
        extents(op, "columns", column_ids, DType::U32, &[&ids(columns)])
    }

    pub(crate) fn refuse(&self, message: String) -> Error {
        Error::invalid(self.op, message)
    }
}

/// What the forward op hands on to the backward op, \[M,N\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residual {
    /// y, from which noise and ADC are gone through again.
    PreNoise,
    /// What the upstream gradient is multiplied by on its way through ADC and noise.
    Slope,
    /// What tells the slope where there is relative noise alone, once ε is drawn again.
    Signs,
}

impl Residual {
    const ALL: [Self; 3] = [Self::PreNoise, Self::Slope, Self::Signs];

    /// From attribute `residual`; None is "none".
    pub(crate) fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Option<Self>, Error> {
        let text = attrs.str(op, "residual")?;
        // Files of format 1.0 call it linear.
        let text = if text == "linear" { "pre_noise" } else { text };
        let residual = Self::ALL.into_iter().find(|residual| residual.name() == text);
        if residual.is_none() && text != "none" {
            let message = format!("`residual` must be none, pre_noise, slope or signs, got {text}");
            return Err(Error::invalid(op, message));
        }
        Ok(residual)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PreNoise => "pre_noise",
            Self::Slope => "slope",
            Self::Signs => "signs",
        }
    }

    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::PreNoise | Self::Slope => DType::F32,
            Self::Signs => DType::I8,
        }
    }
}

/// What is handed on, and where it is.
#[derive(Clone, Copy)]
pub(crate) enum Saved<Floats, Bytes> {
    PreNoise(Floats),
    Slope(Floats),
    Signs(Bytes),
}

/// What stands in a residual of signs for a y that is 0, which has none.
pub(crate) const NO_SIGN: i8 = 2;
/// What stands there for an output whose slope is NaN.
pub(crate) const NO_SLOPE: i8 = i8::MIN;

/// The two extents of a matrix of f32.
pub(crate) fn matrix<'a>(
    op: &'static str,
    name: &str,
    fact: &'a Fact,
) -> Result<&'a [usize; 2], Error> {
    match (fact.dtype, <&[usize; 2]>::try_from(fact.shape.as_slice())) {
        (DType::F32, Ok(shape)) => Ok(shape),
        _ => Err(Error::invalid(op, format!("`{name}` must be an f32 matrix, got {fact}"))),
    }
}

/// Checks that each axis of `fact` has one of the extents allowed for it.
pub(crate) fn extents(
    op: &'static str,
    name: &str,
    fact: &Fact,
    dtype: DType,
    allowed: &[&[usize]],
) -> Result<(), Error> {
    let fits = fact.dtype == dtype
        && fact.shape.len() == allowed.len()
        && fact.shape.iter().zip(allowed).all(|(extent, allowed)| allowed.contains(extent));
    if fits {
        return Ok(());
    }
    let mut axes = String::new();
    for (axis, allowed) in allowed.iter().enumerate() {
        let mut allowed = allowed.to_vec();
        allowed.dedup();
        let choices: Vec<String> = allowed.iter().map(usize::to_string).collect();
        axes += if axis == 0 { "" } else { "," };
        axes += &choices.join("|");
    }
    Err(Error::invalid(op, format!("`{name}` must be {dtype}[{axes}], got {fact}")))
}

/// A per-row or per-column operand, of which one row may stand for all.
#[derive(Clone, Copy)]
pub(crate) struct Broadcast<'a, T> {
    data: &'a [T],
    /// Elements from one row to the next; 0 where one stands for all.
    stride: usize,
}

impl<'a, T: Copy> Broadcast<'a, T> {
    /// Of `data` with `width` elements per row, for `extent` rows.
    pub(crate) fn new(data: &'a [T], width: usize, extent: usize) -> Self {
        Self { data, stride: if data.len() == width && extent != 1 { 0 } else { width } }
    }

    #[inline(always)]
    pub(crate) fn row<const W: usize>(&self, index: usize) -> [T; W] {
        std::array::from_fn(|element| self.data[index * self.stride + element])
    }

    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> T {
        self.data[index * self.stride]
    }
}

/// Ranges and noise of the chain, by row and by column.
pub(crate) struct Ranges<'a> {
    x_full_scale: Broadcast<'a, f32>,
    /// Of all columns, or one that they share.
    pub(crate) w_full_scale: &'a [f32],
    pub(crate) y_full_scale: &'a [f32],
    noise: Broadcast<'a, f32>,
    seed: Broadcast<'a, u32>,
    row_ids: Broadcast<'a, u32>,
    first_column: u32,
    noisy: bool,
    dac: Bits,
    /// The converter of x, where all rows share one.
    input: Option<Converter<'static>>,
}

impl<'a> Ranges<'a> {
    /// From the operands that [`Chain::check_ranges_and_noise`] has passed.
    pub(crate) fn new(chain: &Chain, views: &[View<'a>], sizes: Sizes) -> Result<Self, Error> {
        let rows = sizes.rows;
        let x_full_scale: &[f32] = views[0].data()?;
        let shared = <[f32; 1]>::try_from(x_full_scale).ok();
        Ok(Self {
            x_full_scale: Broadcast::new(x_full_scale, 1, rows),
            dac: chain.dac,
            input: shared.map(|[full_scale]| Converter::one(chain.dac, full_scale)),
            w_full_scale: views[1].data()?,
            y_full_scale: views[2].data()?,
            noise: Broadcast::new(views[3].data()?, 4, rows),
            seed: Broadcast::new(views[4].data()?, 2, rows),
            row_ids: Broadcast::new(views[5].data()?, 1, rows),
            first_column: views[6].data::<u32>()?.first().copied().unwrap_or(0),
            noisy: chain.noisy,
        })
    }

    /// The converter of row `row` of x.
    pub(crate) fn input_converter(&self, row: usize) -> Converter<'static> {
        self.input.unwrap_or_else(|| Converter::one(self.dac, self.x_full_scale.get(row)))
    }

    /// The noise coefficients of `row`, or None where the row is free of noise.
    pub(crate) fn coefficients(&self, row: usize) -> Option<Coefficients> {
        if !self.noisy {
            return None;
        }
        let [thermal, shot, relative, weight] = self.noise.row(row);
        let coefficients = Coefficients { thermal, shot, relative, weight };
        (coefficients.as_array() != [0.0; 4]).then_some(coefficients)
    }

    /// Whether the noise of `row` depends on ‖x_q‖².
    pub(crate) fn has_weight_noise(&self, row: usize) -> bool {
        self.coefficients(row).is_some_and(|noise| noise.weight != 0.0)
    }

    /// Calls `piece(rows, columns, room)` for some of `rows` at a time, at most [`SEEDED`], and the
    /// parts of `columns` that noise blocks cut; `room` holds ε of one row after the other, or
    /// anything where no row has noise.
    #[inline(always)]
    pub(crate) fn noise_pieces(
        &self,
        isa: Isa,
        rows: Range<usize>,
        columns: Range<usize>,
        epsilon: &mut Scratch<f32>,
        mut piece: impl FnMut(Range<usize>, Range<usize>, &mut [f32]),
    ) {
        for first in rows.clone().step_by(SEEDED) {
            let rows = first..rows.end.min(first + SEEDED);
            let noisy = rows.clone().any(|row| self.coefficients(row).is_some());
            let mut sources = [Source::default(); SEEDED];
            if noisy {
                for (source, row) in sources.iter_mut().zip(rows.clone()) {
                    *source = self.source(row);
                }
            }
            let mut column = columns.start;
            while column < columns.end {
                let id = self.first_column.wrapping_add(column as u32);
                let width = (noise::BLOCK - id as usize % noise::BLOCK).min(columns.end - column);
                epsilon.resize(rows.len() * width);
                if noisy {
                    noise::fill(isa, epsilon, &sources[..rows.len()], id);
                }
                piece(rows.clone(), column..column + width, epsilon);
                column += width;
            }
        }
    }

    /// Writes random bits that round `rows`, all columns of them.
    pub(crate) fn rounding_words(&self, isa: Isa, rows: Range<usize>, words: &mut [u32]) {
        let mut sources = [Source::default(); SEEDED];
        for (source, row) in sources.iter_mut().zip(rows.clone()) {
            *source = self.source(row).rounding();
        }
        noise::rounding_words(isa, words, &sources[..rows.len()], self.first_column);
    }

    fn source(&self, row: usize) -> Source {
        Source { seed: seed_of(self.seed.row(row)), row: self.row_ids.get(row) }
    }
}

/// σ² = thermal² + shot²·|y| + relative²·y² + weight²·‖x_q‖²
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

    /// σ at `y`, in a row whose ‖x_q‖² is `x_norm_sq`.
    #[inline(always)]
    pub(crate) fn sigma(&self, y: f32, x_norm_sq: f32) -> f32 {
        let floor = self.thermal * self.thermal;
        let shot = self.shot * self.shot;
        let relative = self.relative * self.relative;
        let weight = self.weight * self.weight;
        (floor + shot * y.abs() + relative * (y * y) + weight * x_norm_sq).sqrt()
    }

    /// `relative`, where there is no other noise: then σ = relative · |y|.
    #[inline(always)]
    pub(crate) fn only_relative(&self) -> Option<f32> {
        let others = [self.thermal, self.shot, self.weight];
        (others == [0.0; 3]).then_some(self.relative())
    }

    /// σ/|y|, as far as it is relative noise.
    #[inline(always)]
    pub(crate) fn relative(&self) -> f32 {
        self.relative.abs()
    }

    /// ∂σ/∂y · σ
    #[inline(always)]
    pub(crate) fn sigma_by_y(&self, y: f32) -> f32 {
        0.5 * (self.shot * self.shot) * sign(y) + self.relative * self.relative * y
    }

    /// `∂(y + σ·ε)/∂y`, where σ is `sigma`.
    #[inline(always)]
    pub(crate) fn slope(&self, y: f32, epsilon: f32, sigma: f32) -> f32 {
        let ratio = if sigma == 0.0 { 0.0 } else { epsilon / sigma };
        1.0 + ratio * self.sigma_by_y(y)
    }

    /// Σ h·ε/σ · ∂σ/∂(thermal, shot, relative, weight) · σ
    pub(crate) fn gradient(&self, sums: &RowSums) -> [f32; 4] {
        let RowSums { noise_cotangent, magnitude, square, x_norm_sq } = *sums;
        [
            self.thermal * noise_cotangent,
            self.shot * magnitude,
            self.relative * square,
            self.weight * x_norm_sq * noise_cotangent,
        ]
    }
}

/// 1, -1 or 0.
#[inline(always)]
pub(crate) fn sign(y: f32) -> f32 {
    let magnitude = if y == 0.0 { 0.0 } else { 1.0f32 };
    magnitude.copysign(y)
}

/// The weights: depth × columns, or columns × depth where the chain transposes them.
pub(crate) struct Weights<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) sizes: Sizes,
}
