//! One call of the backward op: its operands, and what is the same for all rows.

use std::borrow::Cow;

use super::product_plan::Precision;
use crate::isa::Isa;
use crate::ops::chain::{Chain, OperandFormat, Operands, ProductPlan, Residual, Saved};
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
    pub(super) sizes: Sizes,
    pub(super) g: &'a [f32],
    /// The residual of the forward op.
    pub(super) saved: Saved<&'a [f32], &'a [i8]>,
    pub(super) x: &'a [f32],
    /// depth × columns
    pub(super) w: Cow<'a, [f32]>,
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

impl<'a> Context<'a> {
    pub(super) fn new(request: &'a Request, inputs: &[View<'a>]) -> Result<Self, Error> {
        let Request { chain, transpose_weight, precision, .. } = request;
        let (x, w) = (inputs[2].fact(), inputs[3].fact());
        let sizes = Sizes::of(chain.op, &x, &w, *transpose_weight)?;
        let Sizes { rows, depth, columns } = sizes;
        let isa = Isa::detect();
        let operands = Operands::new(chain, &inputs[4..], rows)?;
        let mut w = Cow::Borrowed(inputs[3].data()?);
        if *transpose_weight {
            let mut transposed = vec![0.0; w.len()];
            transpose(&mut transposed, &w, columns, depth);
            w = transposed.into();
        }
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
            sizes,
            g: inputs[0].data()?,
            saved: match request.residual {
                Residual::PreNoise => Saved::PreNoise(inputs[1].data()?),
                Residual::Slope => Saved::Slope(inputs[1].data()?),
                Residual::Signs => Saved::Signs(inputs[1].data()?),
            },
            x: inputs[2].data()?,
            w,
            adcs: operands.adcs(isa, columns),
            operands,
            weight_dacs,
            dx,
            dx_steps,
            dw: precision.plan(chain.dac, BLOCK),
        })
    }

    /// Row `row` of x.
    pub(super) fn x_row(&self, row: usize) -> &'a [f32] {
        &self.x[row * self.sizes.depth..][..self.sizes.depth]
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

/// Writes the transpose of `matrix`, rows × columns.
pub(super) fn transpose(out: &mut [f32], matrix: &[f32], rows: usize, columns: usize) {
    for row in 0..rows {
        for column in 0..columns {
            out[column * rows + row] = matrix[row * columns + column];
        }
    }
}
