//! The gradient of [`OpticalMatmul`](super::OpticalMatmul), straight through the converters and
//! through the noise.

use std::ops::Range;
use std::sync::Mutex;

use super::grad_steps::{
    Noise, RowSums, Upstream, accumulate, add_scaled, noisy_piece, quiet_piece, scale, through,
    through_row,
};
use super::operands::{Chain, Coefficients, Ranges, Sizes, Weights, matrix};
use super::prepare::{
    Across, Factor, MAX_ROWS_PER_BLOCK, Panels, Row, columns_per_group, convert_row, forms,
    rows_per_block, weight_quantizers,
};
use crate::gemm::{Left, Product, Right, Sum, multiply};
use crate::quantizer::{Form, Quantizers};
use crate::shared::SharedMut;
use crate::simd::{Level, panel_width};
use crate::{Attrs, DType, Error, Fact, Op, ParFor, View, ViewMut};

/// The gradient with respect to every float operand of the forward op.
///
/// With `y' = y + σ·ε`, where ε is drawn again from the seed:
///
/// ```text
/// h     = g · [|y'| ≤ y_full_scale]
/// dz    = h · (1 + ε · (shot²·sign(y)/2 + relative²·y) / σ)
/// dx    = (dz · w_qᵀ + x_q · weight² · Σ_n h·ε/σ) · [|x| ≤ x_full_scale]
/// dw    = (x_qᵀ · dz) · [|w| ≤ w_full_scale]               dbias = Σ_m dz
/// ```
///
/// A full scale takes the upstream gradient times `(code - v/step)/Q` within the range and
/// `sign v` beyond it; a noise coefficient takes `Σ_n h·ε·∂σ/∂coefficient`.
///
/// Inputs: g f32\[M,N\], linear f32\[M,N\] (y of the forward op), then x, w and the operands from
/// x_full_scale to columns as the forward op has them.
/// Outputs: dx f32\[M,K\], dw as w, dbias f32\[N\], dx_full_scale f32\[M\],
/// dw_full_scale f32\[N\], dy_full_scale f32\[N\], dnoise f32\[M,4\].
#[derive(Debug)]
pub struct OpticalMatmulGrad {
    chain: Chain,
}

impl Op for OpticalMatmulGrad {
    const NAME: &'static str = "optical_matmul_grad";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self { chain: Chain::from_attrs(Self::NAME, attrs)? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [g, linear, x, w, ranges @ ..] = inputs else {
            return Err(self.chain.refuse(format!("expected 11 operands, got {}", inputs.len())));
        };
        let sizes = self.chain.sizes(x, w)?;
        for (name, fact) in [("g", g), ("linear", linear)] {
            if matrix(Self::NAME, name, fact)? != &[sizes.rows, sizes.columns] {
                let Sizes { rows, columns, .. } = sizes;
                return Err(self
                    .chain
                    .refuse(format!("`{name}` must be f32[{rows},{columns}], got {fact}")));
            }
        }
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

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let [dx, dw, dbias, dx_full_scale, dw_full_scale, dy_full_scale, dnoise] = outputs else {
            return Err(self.chain.refuse(format!("expected 7 results, got {}", outputs.len())));
        };
        let backward = Backward::new(&self.chain, inputs)?;
        let rows = RowResults {
            x: SharedMut::new(dx.data_mut()?),
            x_full_scale: SharedMut::new(dx_full_scale.data_mut()?),
            noise: SharedMut::new(dnoise.data_mut()?),
        };
        backward.run_rows(&rows, pool);
        let columns = ColumnResults {
            w: SharedMut::new(dw.data_mut()?),
            bias: SharedMut::new(dbias.data_mut()?),
            w_full_scale: SharedMut::new(dw_full_scale.data_mut()?),
            y_full_scale: SharedMut::new(dy_full_scale.data_mut()?),
        };
        backward.run_columns(&columns, pool);
        Ok(())
    }
}

/// The results that each row block computes on its own.
struct RowResults<'a> {
    x: SharedMut<'a, f32>,
    x_full_scale: SharedMut<'a, f32>,
    noise: SharedMut<'a, f32>,
}

/// The results that each group of columns computes on its own.
struct ColumnResults<'a> {
    w: SharedMut<'a, f32>,
    bias: SharedMut<'a, f32>,
    w_full_scale: SharedMut<'a, f32>,
    y_full_scale: SharedMut<'a, f32>,
}

/// One call: its operands, and what is the same for all rows.
struct Backward<'a> {
    level: Level,
    chain: &'a Chain,
    sizes: Sizes,
    g: &'a [f32],
    linear: &'a [f32],
    x: &'a [f32],
    w: &'a [f32],
    ranges: Ranges<'a>,
    x_form: Form,
    w_quantizers: Quantizers,
    adc: Quantizers,
}

/// What one worker needs for one block.
struct Scratch {
    x: Vec<f32>,
    dz: Vec<f32>,
    dw: Vec<f32>,
}

impl<'a> Backward<'a> {
    fn new(chain: &'a Chain, inputs: &[View<'a>]) -> Result<Self, Error> {
        let sizes = chain.sizes(&inputs[2].fact(), &inputs[3].fact())?;
        let ranges = Ranges::new(chain, &inputs[4..], sizes)?;
        let (x_form, _) = forms(chain, chain.is_integer(sizes.depth));
        let adc = (0..sizes.columns).map(|column| ranges.y_full_scale.get(column));
        Ok(Self {
            level: Level::detect(),
            chain,
            sizes,
            g: inputs[0].data()?,
            linear: inputs[1].data()?,
            x: inputs[2].data()?,
            w: inputs[3].data()?,
            x_form,
            w_quantizers: weight_quantizers(chain, &ranges, sizes.columns),
            adc: Quantizers::new(chain.adc, adc),
            ranges,
        })
    }

    fn weights(&self) -> Weights<'a> {
        Weights::new(self.w, self.sizes, self.chain.transpose_weight)
    }

    /// dx, and what is summed along rows.
    fn run_rows(&self, results: &RowResults<'_>, pool: &dyn ParFor) {
        let Sizes { rows, depth, columns } = self.sizes;
        let factor = if self.chain.weight.is_off() && self.chain.transpose_weight {
            Factor::InPlace(self.w, depth)
        } else {
            let form = if self.chain.weight.is_off() { Form::Exact } else { Form::Value };
            let (weights, quantizers) = (self.weights(), &self.w_quantizers);
            let across = Across::Depth;
            Factor::Packed(Panels::new(self.level, &weights, quantizers, form, across, pool))
        };
        let block = rows_per_block(rows, pool.width());
        let scratch = self.scratch(pool, block, columns, 0);
        pool.run(rows.div_ceil(block), &|chunk, worker| {
            let mut scratch = scratch[worker].lock().expect("no chunk panicked");
            let range = chunk * block..rows.min((chunk + 1) * block);
            self.row_block(range, &factor, &mut scratch, results);
        });
    }

    fn row_block(
        &self,
        rows: Range<usize>,
        factor: &Factor<'_>,
        scratch: &mut Scratch,
        results: &RowResults<'_>,
    ) {
        let Sizes { depth, columns, .. } = self.sizes;
        let mut sums = [RowSums::default(); MAX_ROWS_PER_BLOCK];
        for (index, row) in rows.clone().enumerate() {
            let energy = self.convert(scratch, index, row).energy;
            let dz = &mut scratch.dz[index * columns..][..columns];
            sums[index].energy = energy;
            self.dz(dz, row, 0..columns, energy, Some(&mut sums[index]), None);
        }
        // SAFETY: row blocks do not overlap, and each is computed by one chunk.
        let (dx, dx_full_scale, dnoise) = unsafe {
            (
                results.x.slice(rows.start * depth, rows.len() * depth),
                results.x_full_scale.slice(rows.start, rows.len()),
                results.noise.slice(rows.start * 4, rows.len() * 4),
            )
        };
        multiply(
            self.level,
            &mut Product { data: dx, stride: depth, rows: rows.len(), columns: depth },
            Left::RowMajor(&scratch.dz, columns),
            factor.starting_at(self.level, 0),
            columns,
            Sum::Fresh,
        );
        for (index, row) in rows.clone().enumerate() {
            let x = &self.x[row * depth..][..depth];
            let converted = self.converted(scratch, index, row);
            let dx = &mut dx[index * depth..][..depth];
            let mut gradient = [0.0; 4];
            if let Some(noise) = self.ranges.coefficients(row) {
                gradient = noise.gradient(&sums[index]);
                let factor = noise.weight * noise.weight * sums[index].plain;
                if factor != 0.0 {
                    add_scaled(self.level, dx, converted, factor);
                }
            }
            dx_full_scale[index] = 0.0;
            if !self.chain.dac.is_off() {
                let quantizer = self.chain.dac.quantizer(self.ranges.x_full_scale.get(row));
                through(self.level, dx, x, &quantizer, &mut dx_full_scale[index]);
            }
            dnoise[index * 4..][..4].copy_from_slice(&gradient);
        }
    }

    /// dw, and what is summed along columns.
    fn run_columns(&self, results: &ColumnResults<'_>, pool: &dyn ParFor) {
        let Sizes { rows, columns, .. } = self.sizes;
        let group = columns_per_group(self.level, columns, 2 * pool.width());
        let block = rows.clamp(1, MAX_ROWS_PER_BLOCK);
        let scratch = self.scratch(pool, block, group, self.sizes.depth * group);
        pool.run(columns.div_ceil(group), &|chunk, worker| {
            let mut scratch = scratch[worker].lock().expect("no chunk panicked");
            let range = chunk * group..columns.min((chunk + 1) * group);
            self.column_group(range, block, &mut scratch, results);
        });
    }

    fn column_group(
        &self,
        columns: Range<usize>,
        block: usize,
        scratch: &mut Scratch,
        results: &ColumnResults<'_>,
    ) {
        let Sizes { rows, depth, columns: all_columns } = self.sizes;
        let (first, width) = (columns.start, columns.len());
        // SAFETY: column groups do not overlap, and each is computed by one chunk.
        let (dbias, dw_full_scale, dy_full_scale) = unsafe {
            (
                results.bias.slice(first, width),
                results.w_full_scale.slice(first, width),
                results.y_full_scale.slice(first, width),
            )
        };
        dbias.fill(0.0);
        dw_full_scale.fill(0.0);
        dy_full_scale.fill(0.0);
        scratch.dw.fill(0.0);
        for start in (0..rows).step_by(block) {
            let count = block.min(rows - start);
            for index in 0..count {
                let row = start + index;
                let energy = self.convert(scratch, index, row).energy;
                let dz = &mut scratch.dz[index * width..][..width];
                self.dz(dz, row, columns.clone(), energy, None, Some(dy_full_scale));
                accumulate(self.level, dbias, dz);
            }
            let Scratch { x, dz, dw } = scratch;
            let x = match self.x_form {
                Form::Exact => &self.x[start * depth..(start + count) * depth],
                _ => x,
            };
            multiply(
                self.level,
                &mut Product { data: dw, stride: width, rows: depth, columns: width },
                Left::DepthMajor(x, depth),
                Right { data: dz, depth_stride: width, panel_stride: panel_width(self.level) },
                count,
                Sum::Onto,
            );
        }
        if !self.chain.weight.is_off() {
            self.through_weights(&mut scratch.dw, first, dw_full_scale);
        }
        if self.chain.transpose_weight {
            for column in 0..width {
                // SAFETY: as above.
                let out = unsafe { results.w.slice((first + column) * depth, depth) };
                for (out, dw) in out.iter_mut().zip(scratch.dw.iter().skip(column).step_by(width)) {
                    *out = *dw;
                }
            }
        } else {
            for (row, dw) in scratch.dw[..depth * width].chunks_exact(width).enumerate() {
                // SAFETY: as above.
                unsafe { results.w.slice(row * all_columns + first, width) }.copy_from_slice(dw);
            }
        }
    }

    /// Applies the clip mask of w to `dw`, and sums the gradient of its full scales.
    fn through_weights(&self, dw: &mut [f32], first: usize, dw_full_scale: &mut [f32]) {
        let (weights, width) = (self.weights(), dw_full_scale.len());
        let quantizers = self.w_quantizers.columns(first, width);
        for (row, dw) in dw[..self.sizes.depth * width].chunks_exact_mut(width).enumerate() {
            through_row(self.level, dw, row, first, &weights, &quantizers, dw_full_scale);
        }
    }

    fn scratch(
        &self,
        pool: &dyn ParFor,
        rows: usize,
        columns: usize,
        weights: usize,
    ) -> Vec<Mutex<Scratch>> {
        let converted = if self.x_form == Form::Exact { 0 } else { rows * self.sizes.depth };
        let scratch = || Scratch {
            x: vec![0.0; converted],
            dz: vec![0.0; rows * columns],
            dw: vec![0.0; weights],
        };
        (0..pool.width()).map(|_| Mutex::new(scratch())).collect()
    }

    /// Converts row `row` of x into row `index` of the scratch, as levels.
    fn convert(&self, scratch: &mut Scratch, index: usize, row: usize) -> Row {
        let depth = self.sizes.depth;
        let x = &self.x[row * depth..][..depth];
        let out = scratch.x.get_mut(index * depth..(index + 1) * depth).unwrap_or_default();
        let (chain, ranges) = (self.chain, &self.ranges);
        let state = convert_row(self.level, out, x, chain, ranges, row, self.x_form);
        if self.x_form == Form::Code {
            scale(self.level, out, state.step);
        }
        state
    }

    /// Row `row` of x_q, of which `convert` has filled row `index` of the scratch.
    fn converted<'s>(&'s self, scratch: &'s Scratch, index: usize, row: usize) -> &'s [f32] {
        let depth = self.sizes.depth;
        match self.x_form {
            Form::Exact => &self.x[row * depth..][..depth],
            _ => &scratch.x[index * depth..][..depth],
        }
    }

    /// Writes `columns` of row `row` of dz, and adds to the sums that are asked for.
    fn dz(
        &self,
        dz: &mut [f32],
        row: usize,
        columns: Range<usize>,
        energy: f32,
        mut sums: Option<&mut RowSums>,
        mut dy_full_scale: Option<&mut [f32]>,
    ) {
        let start = row * self.sizes.columns;
        let adc = (!self.chain.adc.is_off()).then_some(&self.adc);
        let mut piece = |first: usize, width: usize, noise: Option<(Coefficients, &[f32])>| {
            let local = first - columns.start..first - columns.start + width;
            let upstream = Upstream {
                g: &self.g[start + first..][..width],
                y: &self.linear[start + first..][..width],
                adc: adc.map(|adc| adc.columns(first, width)),
            };
            let by_full_scale = dy_full_scale.as_deref_mut().map(|sum| &mut sum[local.clone()]);
            let dz = &mut dz[local];
            match noise {
                Some((noise, epsilon)) => {
                    let noise = Noise { coefficients: noise, epsilon, energy };
                    let sums = sums.as_deref_mut();
                    noisy_piece(self.level, dz, &upstream, &noise, sums, by_full_scale);
                }
                None => quiet_piece(self.level, dz, &upstream, by_full_scale),
            }
        };
        match self.ranges.coefficients(row) {
            Some(noise) => {
                self.ranges.noise_pieces(self.level, row, columns.clone(), |first, epsilon| {
                    piece(first, epsilon.len(), Some((noise, epsilon)));
                });
            }
            None => piece(columns.start, columns.len(), None),
        }
    }
}
