//! The gradient of [`OpticalMatmul`](super::OpticalMatmul), straight through the converters and
//! through the noise.

use std::borrow::Cow;
use std::sync::Mutex;

use super::grad_panels::Panels;
use super::grad_products::{Call, Gradients, Place, ProductScratch, Tiling, zero};
use super::grad_rows::{Block, RowScratch};
use super::operands::{Chain, Ranges, Residual, Saved, Sizes, extents};
use super::prepare::{OperandFormat, weight_quantizers};
use crate::disjoint::DisjointMut;
use crate::isa::Isa;
use crate::packing::Arithmetic;
use crate::par::{parallel_if, run_stages};
use crate::quantizer::{Bits, Quantizers};
use crate::{Attrs, DType, Error, Fact, Op, ParFor, View, ViewMut, Work};

/// The gradient with respect to every float operand of the forward op.
///
/// With `y' = y + σ·ε`, where ε is drawn again from the seed:
///
/// ```text
/// h     = g · [|y'| ≤ y_full_scale]
/// dz    = h · (1 + ε · (shot²·sign(y)/2 + relative²·y)/σ) = g · slope
/// dx    = (dz · w_qᵀ + x_q · weight² · Σ_n h·ε/σ) · [|x| ≤ x_full_scale]
/// dw    = (x_qᵀ · dz) · [|w| ≤ w_full_scale]               dbias = Σ_m dz
/// ```
///
/// A full scale takes the upstream gradient times `(code - v/step)/Q` within the range and
/// `sign v` beyond it; a noise coefficient takes `Σ_n h·ε·∂σ/∂coefficient`.
///
/// The two products are computed in `grad_precision`. The steps of a converter of at most 8 bits go
/// into dz before it is rounded, and codes into the product; otherwise the other operand is w_q or
/// x_q itself.
///
/// - `float32`: nothing is rounded.
/// - `bfloat16`: both operands are rounded to bfloat16, and summed in f32.
/// - `int8`: dz is rounded to 8-bit codes at random, without bias: for dx with one scale for each
///   row, for dw with one for each column of each 256 rows.
///
/// `with_inputs` asks for dx, and `with_ranges` for the gradients of the full scales and of the
/// noise; what is not asked for is zero.
///
/// `residual` says what the forward op saved. Of the slope nothing but dz is to be had: it comes
/// without `noisy`, `adc_bits` and `with_ranges`, and where there is no weight noise. Nor is more to
/// be had of the signs, of which the slope is made again:
///
/// ```text
/// slope = 0 where signs = 0, NaN where signs = -128, else 1 + ε·relative·sign(y)
/// ```
///
/// Inputs: g f32\[M,N\], saved f32\[M,N\] or, of signs, i8\[M,N\] (the residual of the forward op),
/// then x, w and the operands from x_full_scale to columns as the forward op has them; `int8` needs
/// every id.
/// Outputs: dx f32\[M,K\], dw as w, dbias f32\[N\], dx_full_scale f32\[M\],
/// dw_full_scale f32\[N\], dy_full_scale f32\[N\], dnoise f32\[M,4\].
#[derive(Debug)]
pub struct OpticalMatmulGrad {
    chain: Chain,
    precision: Precision,
    residual: Residual,
    with_inputs: bool,
    with_ranges: bool,
}

/// In which numbers the two products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    Float32,
    Bfloat16,
    Int8,
}

impl Precision {
    fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        match attrs.str(op, "grad_precision")? {
            "float32" => Ok(Self::Float32),
            "bfloat16" => Ok(Self::Bfloat16),
            "int8" => Ok(Self::Int8),
            other => Err(Error::invalid(
                op,
                format!("`grad_precision` must be float32, bfloat16 or int8, got {other}"),
            )),
        }
    }
}

/// How one product is computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProductPlan {
    pub(super) arithmetic: Arithmetic,
    /// What the operand beside dz is; dz holds the steps of codes.
    pub(super) format: OperandFormat,
    /// Whether dz is rounded to codes.
    pub(super) rounded: bool,
}

impl ProductPlan {
    /// The product with what a converter of `bits` gives, over `depth` numbers.
    fn new(precision: Precision, bits: Bits, depth: usize) -> Self {
        let exact = if bits.is_off() { OperandFormat::Exact } else { OperandFormat::Value };
        let short = if bits.is_byte() { OperandFormat::Code } else { exact };
        // Sums of products of codes that i32 holds.
        let fits = u64::from(127 * bits.largest_code()) * (depth as u64) < 1 << 31;
        let (arithmetic, format) = match precision {
            Precision::Float32 => (Arithmetic::F32, exact),
            Precision::Bfloat16 => (Arithmetic::Bf16, short),
            Precision::Int8 if short == OperandFormat::Code && fits => (Arithmetic::Int8, short),
            Precision::Int8 => (Arithmetic::F32, short),
        };
        Self { arithmetic, format, rounded: precision == Precision::Int8 }
    }

    /// Whether the operand beside dz is x or w as it lies in memory.
    pub(super) fn is_in_place(self) -> bool {
        self.arithmetic == Arithmetic::F32 && self.format == OperandFormat::Exact
    }
}

impl Op for OpticalMatmulGrad {
    const NAME: &'static str = "optical_matmul_grad";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let precision = Precision::from_attrs(Self::NAME, attrs)?;
        let mut chain = Chain::from_attrs(Self::NAME, attrs)?;
        chain.with_ids |= precision == Precision::Int8;
        let with_inputs = attrs.bool(Self::NAME, "with_inputs")?;
        let with_ranges = attrs.bool(Self::NAME, "with_ranges")?;
        let residual = Residual::from_attrs(Self::NAME, attrs)?.ok_or_else(|| {
            chain.refuse("`residual` must be pre_noise, slope or signs, got none".into())
        })?;
        if residual != Residual::PreNoise {
            let kind = residual.name();
            let drawn = chain.noisy && residual == Residual::Slope;
            for (name, given) in [("noisy", drawn), ("with_ranges", with_ranges)] {
                if given {
                    let message =
                        format!("with `residual` {kind} `{name}` must be false, got true");
                    return Err(chain.refuse(message));
                }
            }
            if !chain.adc.is_off() {
                let bits = attrs.int(Self::NAME, "adc_bits")?;
                let message = format!("with `residual` {kind} `adc_bits` must be 0, got {bits}");
                return Err(chain.refuse(message));
            }
        }
        Ok(Self { chain, precision, residual, with_inputs, with_ranges })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [g, saved, x, w, ranges @ ..] = inputs else {
            return Err(self.chain.refuse(format!("expected 11 operands, got {}", inputs.len())));
        };
        let sizes = self.chain.sizes(x, w)?;
        let Sizes { rows, columns, .. } = sizes;
        extents(Self::NAME, "g", g, DType::F32, &[&[rows], &[columns]])?;
        extents(Self::NAME, "saved", saved, self.residual.dtype(), &[&[rows], &[columns]])?;
        self.chain.check_ranges_and_noise(ranges, sizes)?;
        let vector = |extent: usize| Fact::new(DType::F32, [extent]);
        Ok(vec![
            x.clone(),
            w.clone(),
            vector(sizes.columns),
            vector(sizes.rows),
            vector(sizes.columns),
            vector(sizes.columns),
            Fact::new(DType::F32, [sizes.rows, 4]),
        ])
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        let outputs = self.output_shapes(inputs)?;
        let sizes = self.chain.sizes(&inputs[2], &inputs[3])?;
        let products = 1 + u64::from(self.with_inputs);
        Ok(Work::of_matmuls(products, sizes.extents(), inputs, &outputs))
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let [dx, dw, dbias, dx_full_scale, dw_full_scale, dy_full_scale, dnoise] = outputs else {
            return Err(self.chain.refuse(format!("expected 7 results, got {}", outputs.len())));
        };
        let backward = Backward::new(self, inputs)?;
        let Sizes { depth, columns, .. } = backward.sizes;
        let dw = dw.data_mut()?;
        let mut transposed = Vec::new();
        if self.chain.transpose_weight {
            transposed.resize(dw.len(), 0.0);
        }
        let gradients = Gradients {
            x: DisjointMut::new(dx.data_mut()?),
            w: DisjointMut::new(if self.chain.transpose_weight {
                &mut transposed
            } else {
                &mut *dw
            }),
            bias: DisjointMut::new(dbias.data_mut()?),
            x_full_scale: DisjointMut::new(dx_full_scale.data_mut()?),
            w_full_scale: DisjointMut::new(dw_full_scale.data_mut()?),
            y_full_scale: DisjointMut::new(dy_full_scale.data_mut()?),
            noise: DisjointMut::new(dnoise.data_mut()?),
        };
        backward.run(&gradients, pool);
        if self.chain.transpose_weight {
            transpose(dw, &transposed, depth, columns);
        }
        Ok(())
    }
}

/// Writes the transpose of `matrix`, rows × columns.
fn transpose(out: &mut [f32], matrix: &[f32], rows: usize, columns: usize) {
    for row in 0..rows {
        for column in 0..columns {
            out[column * rows + row] = matrix[row * columns + column];
        }
    }
}

/// Rows that are computed together: their dz is all that is kept of it.
pub(super) const BLOCK: usize = 256;

/// One call: its operands, and what is the same for all rows.
pub(super) struct Backward<'a> {
    pub(super) isa: Isa,
    pub(super) chain: &'a Chain,
    pub(super) sizes: Sizes,
    pub(super) g: &'a [f32],
    /// The residual of the forward op.
    pub(super) saved: Saved<&'a [f32], &'a [i8]>,
    pub(super) x: &'a [f32],
    /// depth × columns
    pub(super) w: Cow<'a, [f32]>,
    pub(super) ranges: Ranges<'a>,
    pub(super) w_quantizers: Quantizers,
    /// What dz takes over from the weights as factors of dx: the step of each column, or 1.
    pub(super) dx_steps: Vec<f32>,
    pub(super) adc: Quantizers,
    with_inputs: bool,
    pub(super) with_ranges: bool,
    /// dz · w_qᵀ
    pub(super) dx: ProductPlan,
    /// x_qᵀ · dz
    pub(super) dw: ProductPlan,
}

impl<'a> Backward<'a> {
    fn new(op: &'a OpticalMatmulGrad, inputs: &[View<'a>]) -> Result<Self, Error> {
        let chain = &op.chain;
        let sizes = chain.sizes(&inputs[2].fact(), &inputs[3].fact())?;
        let Sizes { depth, columns, .. } = sizes;
        let ranges = Ranges::new(chain, &inputs[4..], sizes)?;
        let isa = Isa::detect();
        let adc = Quantizers::new(isa, chain.adc, columns, ranges.y_full_scale);
        let mut w = Cow::Borrowed(inputs[3].data()?);
        if chain.transpose_weight {
            let mut transposed = vec![0.0; w.len()];
            transpose(&mut transposed, &w, columns, depth);
            w = transposed.into();
        }
        let w_quantizers = weight_quantizers(isa, chain, &ranges, columns);
        let dx = ProductPlan::new(op.precision, chain.weight, columns);
        let dx_steps = if dx.format == OperandFormat::Code {
            w_quantizers.steps(columns).to_vec()
        } else {
            vec![1.0; columns]
        };
        Ok(Self {
            isa,
            chain,
            sizes,
            g: inputs[0].data()?,
            saved: match op.residual {
                Residual::PreNoise => Saved::PreNoise(inputs[1].data()?),
                Residual::Slope => Saved::Slope(inputs[1].data()?),
                Residual::Signs => Saved::Signs(inputs[1].data()?),
            },
            x: inputs[2].data()?,
            w,
            dx_steps,
            w_quantizers,
            adc,
            with_inputs: op.with_inputs,
            with_ranges: op.with_ranges,
            ranges,
            dx,
            dw: ProductPlan::new(op.precision, chain.dac, BLOCK),
        })
    }

    /// Whether dx is wanted, or what comes from it.
    pub(super) fn needs_inputs(&self) -> bool {
        self.with_inputs || self.with_ranges && !self.chain.dac.is_off()
    }

    fn run(&self, gradients: &Gradients<'_>, pool: &dyn ParFor) {
        let rows = self.sizes.rows;
        let pool = parallel_if(
            pool,
            self.sizes.nanoseconds(2, if self.chain.weight.is_off() { 10 } else { 4 }),
        );
        gradients.clear();
        if rows == 0 {
            zero(&gradients.w);
        }
        let panels = Panels::new(self, rows);
        match self.partial_sums() {
            1 => self.run_blocks(&panels, gradients, pool),
            parts => self.run_partial_sums(parts, &panels, gradients, pool),
        }
        if !self.with_inputs {
            zero(&gradients.x);
        }
    }

    /// Block after block, each shared by all workers.
    fn run_blocks(&self, panels: &Panels, gradients: &Gradients<'_>, pool: &dyn ParFor) {
        let rows = self.sizes.rows;
        let block = Block::new(self, rows.min(BLOCK));
        let tiling = Tiling::new(self, panels, pool.width());
        let call = Call { panels, block: &block, tiling: &tiling, gradients };
        let range = |block: usize| block * BLOCK..rows.min((block + 1) * BLOCK);
        // The weights and dz of the first block do not need each other, unless dx follows at once.
        let first_fills = match tiling.strips(range(0).len()) {
            0 => Block::chunks(range(0).len()),
            _ => 0,
        };
        // Nor do dx and dw, unless dw is told by dx which weights are clipped.
        let dw_with_dx = self.chain.weight.is_off() || panels.chunks() > 0;
        // Of each block of rows: dz, dx, dw, and what is left to be added up.
        let mut stages = vec![panels.chunks() + first_fills];
        for block in 0..rows.div_ceil(BLOCK) {
            let rows = range(block).len();
            let fills = match tiling.strips(rows) {
                0 if block == 0 => 0,
                0 => Block::chunks(rows),
                strips => strips,
            };
            let weights = if dw_with_dx { [tiling.weights, 0] } else { [0, tiling.weights] };
            let ranges = usize::from(self.with_ranges);
            stages.extend([fills, tiling.inputs(rows) + weights[0], weights[1], ranges]);
        }
        let scratch: Vec<_> =
            (0..pool.width()).map(|_| Mutex::new(WorkerScratch::default())).collect();
        run_stages(pool, &stages, &|stage, chunk, worker| {
            let mut scratch = scratch[worker].lock().expect("no chunk panicked");
            let Some(stage) = stage.checked_sub(1) else {
                // SAFETY: each panel, and each part of the block, is filled by one chunk.
                unsafe {
                    match chunk.checked_sub(panels.chunks()) {
                        None => panels.fill(self, chunk),
                        Some(part) => {
                            block.fill(self, range(0), part, gradients, &mut scratch.rows);
                        }
                    }
                }
                return;
            };
            let rows = range(stage / 4);
            let place = Place { first: rows.start == 0, last: rows.end == self.sizes.rows };
            // SAFETY: no two chunks of a stage write the same, and none what another one reads.
            unsafe {
                match stage % 4 {
                    0 if tiling.strips(rows.len()) > 0 => {
                        for chunk in tiling.groups_of_strip(rows.len(), chunk) {
                            block.fill(self, rows.clone(), chunk, gradients, &mut scratch.rows);
                        }
                        for chunk in tiling.inputs_of_strip(chunk) {
                            let rows = rows.clone();
                            self.multiply_inputs(&call, rows, chunk, &mut scratch.products);
                        }
                    }
                    0 => block.fill(self, rows, chunk, gradients, &mut scratch.rows),
                    1 | 2 => {
                        let with_dx = stage % 4 == 1;
                        let inputs = if with_dx { tiling.inputs(rows.len()) } else { 0 };
                        let weights = if with_dx == dw_with_dx { tiling.weights } else { 0 };
                        let scratch = &mut scratch.products;
                        // From both ends those of dw come first, which are larger.
                        match chunk.checked_sub(weights / 2) {
                            Some(part) if part < inputs => {
                                self.multiply_inputs(&call, rows, part, scratch);
                            }
                            part => {
                                let part = part.map_or(chunk, |_| chunk - inputs);
                                self.multiply_weights(&call, rows, part, place, scratch);
                            }
                        }
                    }
                    _ => self.add_up(&call, rows),
                }
            }
        });
    }
}

/// What one worker needs for its chunks.
#[derive(Default)]
pub(super) struct WorkerScratch {
    pub(super) rows: RowScratch,
    pub(super) products: ProductScratch,
}
