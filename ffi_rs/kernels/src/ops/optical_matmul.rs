//! The whole signal chain in one pass: convert, multiply, add bias and noise, convert back.

use std::ops::Range;
use std::sync::Mutex;

use super::operands::{Chain, Coefficients, Ranges, Sizes, Weights, extents};
use super::prepare::{
    Across, Factor, Panels, Row, columns_per_group, convert_row, convert_row_to_bytes, forms,
    rows_per_block, weight_quantizers,
};
use crate::bytes::{self, BytePanels, has_byte_products, row_bytes};
use crate::gemm::{Left, Product, Sum, multiply};
use crate::quantizer::{Form, Quantizers, convert_columns};
use crate::shared::SharedMut;
use crate::simd::{Level, for_each_level};
use crate::{Attrs, DType, Error, Fact, Op, ParFor, View, ViewMut};

/// `out = ADC(x_q · w_q + bias + σ·ε)`
///
/// ```text
/// x_q = DAC(x)                 w_q = DAC(w)                y = x_q · w_q + bias
/// σ²  = thermal² + shot²·|y| + relative²·y² + weight²·‖x_q‖²         out = ADC(y + σ·ε)
/// ```
///
/// Inputs: x f32\[M,K\], w f32\[K,N\] (or \[N,K\] with `transpose_weight`), bias f32\[1|N\],
/// x_full_scale f32\[1|M\], w_full_scale f32\[1|N\], y_full_scale f32\[1|N\],
/// noise f32\[1|M,4\] (thermal, shot, relative, weight), seed u32\[1|M,2\] (high word first),
/// rows u32\[1|M\], columns u32\[1|N\] (global ids, consecutive from the first).
/// Outputs: out f32\[M,N\] and, with `with_linear`, y f32\[M,N\].
#[derive(Debug)]
pub struct OpticalMatmul {
    chain: Chain,
    with_linear: bool,
}

impl Op for OpticalMatmul {
    const NAME: &'static str = "optical_matmul";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self {
            chain: Chain::from_attrs(Self::NAME, attrs)?,
            with_linear: attrs.bool(Self::NAME, "with_linear")?,
        })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x, w, bias, ranges @ ..] = inputs else {
            return Err(self.chain.refuse(format!("expected 10 operands, got {}", inputs.len())));
        };
        let sizes = self.chain.sizes(x, w)?;
        extents(Self::NAME, "bias", bias, DType::F32, &[&[1, sizes.columns]])?;
        self.chain.check_ranges_and_noise(ranges, sizes)?;
        let out = Fact::new(DType::F32, [sizes.rows, sizes.columns]);
        Ok(if self.with_linear { vec![out.clone(), out] } else { vec![out] })
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let sizes = self.chain.sizes(&inputs[0].fact(), &inputs[1].fact())?;
        let (out, linear) = outputs.split_first_mut().expect("one output or two");
        let linear = match linear {
            [linear] => linear.data_mut()?,
            _ => &mut [],
        };
        Forward::new(self, inputs, sizes, pool)?.run(out.data_mut()?, linear, pool);
        Ok(())
    }
}

/// One call: its operands, and what is the same for all rows.
struct Forward<'a> {
    level: Level,
    chain: &'a Chain,
    with_linear: bool,
    sizes: Sizes,
    x: &'a [f32],
    weights: Operand<'a>,
    ranges: Ranges<'a>,
    /// What one unit of the converted weights stands for, by column; empty where that is 1.
    steps: Vec<f32>,
    bias: Vec<f32>,
    adc: Quantizers,
}

/// The converted weights, and so how they are multiplied.
enum Operand<'a> {
    /// As f32, by x in the form that is named.
    Floats(Factor<'a>, Form, Sum),
    /// As 8-bit codes.
    Bytes(BytePanels),
}

/// What one worker needs for one tile.
struct Scratch {
    x: Vec<f32>,
    x_bytes: Vec<u8>,
    product: Vec<f32>,
    rows: Vec<Row>,
}

impl<'a> Forward<'a> {
    fn new(
        op: &'a OpticalMatmul,
        inputs: &[View<'a>],
        sizes: Sizes,
        pool: &dyn ParFor,
    ) -> Result<Self, Error> {
        let level = Level::detect();
        let chain = &op.chain;
        let w: &[f32] = inputs[1].data()?;
        let bias: &[f32] = inputs[2].data()?;
        let ranges = Ranges::new(chain, &inputs[3..], sizes)?;
        let integer = chain.is_integer(sizes.depth);
        let (x_form, w_form) = forms(chain, integer);
        let quantizers = weight_quantizers(chain, &ranges, sizes.columns);
        let source = Weights::new(w, sizes, chain.transpose_weight);
        let mut steps = Vec::new();
        if integer {
            steps.extend((0..sizes.columns).map(|column| quantizers.at(column).step()));
        }
        let weights = if integer && has_byte_products(level) {
            let panels = BytePanels::new(level, &source, &quantizers, pool);
            for (step, poison) in steps.iter_mut().zip(&panels.poison) {
                *step += poison;
            }
            Operand::Bytes(panels)
        } else {
            let factor = if w_form == Form::Exact && !chain.transpose_weight {
                Factor::InPlace(w, sizes.columns)
            } else {
                let across = Across::Columns;
                Factor::Packed(Panels::new(level, &source, &quantizers, w_form, across, pool))
            };
            let sum = if integer { Sum::Integers(chain.exact_products()) } else { Sum::Fresh };
            Operand::Floats(factor, x_form, sum)
        };
        let adc = (0..sizes.columns).map(|column| ranges.y_full_scale.get(column));
        Ok(Self {
            level,
            chain,
            with_linear: op.with_linear,
            sizes,
            x: inputs[0].data()?,
            weights,
            steps,
            bias: if bias.len() == 1 { vec![bias[0]; sizes.columns] } else { bias.to_vec() },
            adc: Quantizers::new(chain.adc, adc),
            ranges,
        })
    }

    fn run(&self, out: &mut [f32], linear: &mut [f32], pool: &dyn ParFor) {
        let Sizes { rows, depth, columns } = self.sizes;
        if rows == 0 || columns == 0 {
            return;
        }
        let workers = pool.width();
        let block = rows_per_block(rows, workers);
        let blocks = rows.div_ceil(block);
        let group = columns_per_group(self.level, columns, (4 * workers).div_ceil(blocks));
        let groups = columns.div_ceil(group);
        let (floats, bytes) = match self.weights {
            Operand::Floats(_, Form::Exact, _) => (0, 0),
            Operand::Floats(..) => (block * depth, 0),
            Operand::Bytes(_) => (0, block * row_bytes(depth)),
        };
        let scratch: Vec<_> = (0..workers)
            .map(|_| {
                Mutex::new(Scratch {
                    x: vec![0.0; floats],
                    x_bytes: vec![0; bytes],
                    product: vec![0.0; block * group],
                    rows: Vec::with_capacity(block),
                })
            })
            .collect();
        let (out, linear) = (SharedMut::new(out), SharedMut::new(linear));
        pool.run(blocks * groups, &|chunk, worker| {
            let (row, column) = (chunk / groups * block, chunk % groups * group);
            let tile = Tile {
                rows: row..rows.min(row + block),
                columns: column..columns.min(column + group),
            };
            let mut scratch = scratch[worker].lock().expect("no chunk panicked");
            self.tile(&tile, &mut scratch, &out, &linear);
        });
    }

    /// Computes one tile of the outputs.
    fn tile(
        &self,
        tile: &Tile,
        scratch: &mut Scratch,
        out: &SharedMut<'_, f32>,
        linear: &SharedMut<'_, f32>,
    ) {
        let columns = self.sizes.columns;
        let width = tile.columns.len();
        self.product(tile, scratch);
        for (index, row) in tile.rows.clone().enumerate() {
            let start = row * columns + tile.columns.start;
            // SAFETY: tiles do not overlap, and each is computed by one chunk.
            let y = unsafe { out.slice(start, width) };
            let product = &scratch.product[index * width..][..width];
            self.scale_and_bias(y, product, scratch.rows[index].step, tile.columns.start);
            if self.with_linear {
                // SAFETY: as above, of the other output.
                unsafe { linear.slice(start, width) }.copy_from_slice(y);
            }
            if let Some(noise) = self.ranges.coefficients(row) {
                let energy = scratch.rows[index].energy;
                self.ranges.noise_pieces(
                    self.level,
                    row,
                    tile.columns.clone(),
                    |start, epsilon| {
                        let y = &mut y[start - tile.columns.start..][..epsilon.len()];
                        add_noise(self.level, y, epsilon, &noise, energy);
                    },
                );
            }
            if self.chain.adc.is_off() {
                expose_overflow(self.level, y);
            } else {
                convert_columns(self.level, y, &self.adc.columns(tile.columns.start, width));
            }
        }
    }

    /// Converts the rows of `tile`, and multiplies them by the weights of its columns.
    fn product(&self, tile: &Tile, scratch: &mut Scratch) {
        let (level, chain, ranges) = (self.level, self.chain, &self.ranges);
        let depth = self.sizes.depth;
        let x = &self.x[tile.rows.start * depth..tile.rows.end * depth];
        let Scratch { x: floats, x_bytes: bytes, product, rows } = scratch;
        let width = tile.columns.len();
        let c =
            &mut Product { data: product, stride: width, rows: tile.rows.len(), columns: width };
        rows.clear();
        match &self.weights {
            Operand::Floats(factor, form, sum) => {
                for (index, row) in tile.rows.clone().enumerate() {
                    let range = index * depth..(index + 1) * depth;
                    let out = floats.get_mut(range.clone()).unwrap_or_default();
                    rows.push(convert_row(level, out, &x[range], chain, ranges, row, *form));
                }
                let left = if *form == Form::Exact { x } else { floats };
                let right = factor.starting_at(level, tile.columns.start);
                multiply(level, c, Left::RowMajor(left, depth), right, depth, *sum);
            }
            Operand::Bytes(panels) => {
                let stride = row_bytes(depth);
                for (index, row) in tile.rows.clone().enumerate() {
                    let out = &mut bytes[index * stride..][..depth];
                    let x = &x[index * depth..][..depth];
                    rows.push(convert_row_to_bytes(level, out, x, chain, ranges, row));
                }
                bytes::multiply(level, c, bytes, panels, tile.columns.start);
            }
        }
    }

    fn scale_and_bias(&self, y: &mut [f32], product: &[f32], x_step: f32, first_column: usize) {
        let bias = &self.bias[first_column..][..y.len()];
        if self.steps.is_empty() {
            add(self.level, y, product, bias);
        } else {
            let steps = &self.steps[first_column..][..y.len()];
            scale_and_add(self.level, y, product, x_step, steps, bias);
        }
    }
}

/// Rows and columns of the outputs that one chunk computes.
struct Tile {
    rows: Range<usize>,
    columns: Range<usize>,
}

#[inline(always)]
fn add_body(y: &mut [f32], product: &[f32], bias: &[f32]) {
    for ((y, product), bias) in y.iter_mut().zip(product).zip(bias) {
        *y = product + bias;
    }
}

for_each_level! {
    /// `y = product + bias`
    fn add(y: &mut [f32], product: &[f32], bias: &[f32]) = add_body
}

#[inline(always)]
fn scale_and_add_body(y: &mut [f32], product: &[f32], x_step: f32, steps: &[f32], bias: &[f32]) {
    for (((y, product), step), bias) in y.iter_mut().zip(product).zip(steps).zip(bias) {
        *y = product * (x_step * step) + bias;
    }
}

for_each_level! {
    /// `y = product · (x_step · step) + bias`
    fn scale_and_add(
        y: &mut [f32],
        product: &[f32],
        x_step: f32,
        steps: &[f32],
        bias: &[f32],
    ) = scale_and_add_body
}

#[inline(always)]
fn add_noise_body(y: &mut [f32], epsilon: &[f32], noise: &Coefficients, energy: f32) {
    for (y, epsilon) in y.iter_mut().zip(epsilon) {
        *y += noise.sigma(*y, energy) * epsilon;
    }
}

for_each_level! {
    /// `y = y + σ(y) · ε`
    fn add_noise(
        y: &mut [f32],
        epsilon: &[f32],
        noise: &Coefficients,
        energy: f32,
    ) = add_noise_body
}

#[inline(always)]
fn expose_overflow_body(y: &mut [f32]) {
    for y in y {
        *y = if y.is_finite() { *y } else { f32::NAN };
    }
}

for_each_level! {
    /// Turns infinity into NaN, as a converter does.
    fn expose_overflow(y: &mut [f32]) = expose_overflow_body
}
