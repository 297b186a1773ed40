//! One call of the backward op: its operands, and what is the same for all rows.

use std::ops::Range;

use super::product_plan::Precision;
use crate::isa::Isa;
use crate::ops::chain::{Chain, OperandFormat, Operands, ProductPlan, Residual, Saved, floats};
use crate::ops::sizes::Sizes;
use crate::quantizer::Quantizers;
use crate::{Error, View};

/// Rows of which dz is kept at a time; with `int8`, dw has a scale for each column of so many.
pub(super) const BLOCK: usize = 256;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) chain: Chain,
    /// Whether w is (N, K) rather than (K, N).
    pub(crate) transpose_weight: bool,
    pub(crate) precision: Precision,
    pub(crate) residual: Residual,
    /// Whether dx is wanted.
    pub(crate) with_inputs: bool,
    /// Whether the gradients of full scales and of the noise are.
    pub(crate) with_ranges: bool,
}

/// One call.
pub(super) struct Context<'a> {
    pub(super) isa: Isa,
    pub(super) request: &'a Request,
    /// Of the tile: its depth is that of the tile.
    pub(super) sizes: Sizes,
    pub(super) g: &'a [f32],
    /// The residual of the forward op.
    pub(super) saved: Saved<Matrix<'a, f32>, Matrix<'a, i8>>,
    /// The inputs of the tile, and x there.
    pub(super) inputs: Range<usize>,
    pub(super) x: Matrix<'a, f32>,
    /// Whether the forward op sums products as integers.
    pub(super) is_integer: bool,
    /// depth × columns
    pub(super) w: &'a [f32],
    pub(super) operands: Operands<'a>,
    pub(super) weight_dacs: Quantizers,
    pub(super) adcs: Quantizers,
    /// dz · w_qᵀ, of w
    pub(super) dx: ProductPlan,
    /// What dz takes over from the weights for dx: the step of each column, or 1.
    pub(super) dx_steps: Vec<f32>,
    /// x_qᵀ · dz, of x
    pub(super) dw: ProductPlan,
}

/// Rows of a matrix, or of some of its columns.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    data: &'a [T],
    /// From one row to the next.
    pub(super) stride: usize,
    columns: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Some columns of rows that lie `stride` apart.
    fn new(data: &'a [T], stride: usize, columns: Range<usize>) -> Self {
        let data = data.get(columns.start..).unwrap_or(&[]);
        Self { data, stride, columns: columns.len() }
    }

    pub(super) fn row(&self, row: usize) -> &'a [T] {
        &self.from(row)[..self.columns]
    }

    /// All from row `row` on.
    pub(super) fn from(&self, row: usize) -> &'a [T] {
        &self.data[row * self.stride..]
    }
}

impl<'a> Context<'a> {
    /// Of the tile `tile` of the sizes `whole`, whose weights `w` are.
    pub(super) fn new(
        request: &'a Request,
        inputs: &[View<'a>],
        whole: Sizes,
        tile: usize,
        w: &'a [f32],
    ) -> Result<Self, Error> {
        let Request { chain, precision, .. } = request;
        let Sizes { rows, columns, .. } = whole;
        let tiles = chain.tiles(whole.depth);
        let of_tile = tiles.inputs(tile);
        let isa = Isa::detect();
        let mut operands = Operands::new(chain, &inputs[4..], rows)?;
        operands.noise = operands.noise.of_tile(tile);
        let stride = tiles.count() * columns;
        let residual = tile * columns..(tile + 1) * columns;
        let weight_dacs = operands.weight_dacs(isa, columns);
        let dx = precision.plan(chain.weight, columns);
        let dx_steps = if dx.format == OperandFormat::Code {
            weight_dacs.steps(0..columns).to_vec()
        } else {
            vec![1.0; columns]
        };
        Ok(Self {
            isa,
            request,
            sizes: Sizes { depth: of_tile.len(), ..whole },
            g: floats(&inputs[0])?,
            saved: match request.residual {
                Residual::PreNoise => {
                    Saved::PreNoise(Matrix::new(floats(&inputs[1])?, stride, residual))
                }
                Residual::Slope => Saved::Slope(Matrix::new(inputs[1].data()?, stride, residual)),
                Residual::Signs => Saved::Signs(Matrix::new(inputs[1].data()?, stride, residual)),
            },
            x: Matrix::new(floats(&inputs[2])?, whole.depth, of_tile.clone()),
            inputs: of_tile,
            is_integer: chain.is_integer(whole.depth),
            w,
            adcs: operands.adcs(isa, columns),
            operands,
            weight_dacs,
            dx,
            dx_steps,
            dw: precision.plan(chain.dac, BLOCK),
        })
    }

    /// Whether dz is rounded to codes for both products.
    pub(super) fn rounds(&self) -> bool {
        self.request.precision == Precision::Int8
    }

    /// Whether dx is computed: it is wanted, or what comes from it.
    pub(super) fn needs_inputs(&self) -> bool {
        let Request { chain, with_inputs, with_ranges, .. } = self.request;
        *with_inputs || *with_ranges && !chain.dac.is_off()
    }
}
