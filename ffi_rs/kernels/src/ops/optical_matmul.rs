//! The whole signal chain in one pass: convert, multiply, add bias and noise, convert back.

use std::ops::Range;
use std::sync::Mutex;

use super::operands::{Chain, Coefficients, Ranges, Sizes, Weights, extents};
use super::prepare::{Factor, Row, code_row, convert_row, forward_weights, weight_quantizers};
use crate::gemm::{Kind, Left, Product, Sum, multiply};
use crate::noise;
use crate::quantizer::{Converter, PIECE, Quantizers, convert_in_place_body};
use crate::shared::SharedMut;
use crate::simd::{Level, for_each_level};
use crate::words::{Side, narrow};
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
    weights: Factor<'a>,
    kind: Kind,
    ranges: Ranges<'a>,
    bias: Vec<f32>,
    adc: Quantizers,
}

/// Converted rows of x, as words along the depth.
#[derive(Default)]
struct Inputs {
    words: Vec<u32>,
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
        let bias: &[f32] = inputs[2].data()?;
        let ranges = Ranges::new(chain, &inputs[3..], sizes)?;
        let kind = if chain.is_integer(sizes.depth) { Kind::Integer } else { Kind::Float };
        let weights = Weights { data: inputs[1].data()?, sizes };
        let quantizers = weight_quantizers(chain, &ranges, sizes.columns);
        let adc = (0..sizes.columns).map(|column| ranges.y_full_scale.get(column));
        Ok(Self {
            level,
            chain,
            with_linear: op.with_linear,
            sizes,
            x: inputs[0].data()?,
            weights: forward_weights(level, &weights, &quantizers, chain, kind, pool),
            kind,
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
        let block = if depth * columns < MANY_WEIGHTS {
            rows.div_ceil(4 * workers).next_multiple_of(8).min(MAX_ROWS)
        } else {
            rows.min(4 * MAX_ROWS)
        };
        let blocks = rows.div_ceil(block);
        let group = columns_per_group(columns, (4 * workers).div_ceil(blocks));
        let groups = columns.div_ceil(group);
        // Several groups share converted rows; one converts its own, of which there are few.
        let shared = if groups > 1 { self.convert_all(pool) } else { Inputs::default() };
        let scratch: Vec<_> = (0..workers).map(|_| Mutex::new(Inputs::default())).collect();
        let (out, linear) = (SharedMut::new(out), SharedMut::new(linear));
        pool.run(blocks * groups, &|chunk, worker| {
            let (row, column) = (chunk / groups * block, chunk % groups * group);
            let tile = Tile {
                rows: row..rows.min(row + block),
                columns: column..columns.min(column + group),
            };
            if groups > 1 {
                self.tile(&tile, &shared, tile.rows.start, &out, &linear);
            } else {
                let mut inputs = scratch[worker].lock().expect("no chunk panicked");
                self.convert(&tile.rows, &mut inputs);
                self.tile(&tile, &inputs, 0, &out, &linear);
            }
        });
    }

    /// Words of a converted row of x; none where x is multiplied as it is.
    fn words(&self) -> usize {
        match self.kind {
            Kind::Float if self.chain.dac.is_off() => 0,
            kind => kind.number(self.level).words(self.sizes.depth),
        }
    }

    fn convert_all(&self, pool: &dyn ParFor) -> Inputs {
        let (rows, words) = (self.sizes.rows, self.words());
        let mut inputs = Inputs { words: vec![0; rows * words], rows: vec![Row::default(); rows] };
        let shared = (SharedMut::new(&mut inputs.words), SharedMut::new(&mut inputs.rows));
        pool.run(rows.div_ceil(8), &|chunk, _| {
            for row in 8 * chunk..rows.min(8 * chunk + 8) {
                // SAFETY: each row is converted by one chunk.
                let (out, state) =
                    unsafe { (shared.0.slice(row * words, words), shared.1.slice(row, 1)) };
                state[0] = self.convert_row(out, row);
            }
        });
        inputs
    }

    fn convert(&self, rows: &Range<usize>, inputs: &mut Inputs) {
        let words = self.words();
        inputs.words.resize(rows.len() * words, 0);
        inputs.rows.clear();
        for (index, row) in rows.clone().enumerate() {
            let out = &mut inputs.words[index * words..][..words];
            inputs.rows.push(self.convert_row(out, row));
        }
    }

    fn convert_row(&self, words: &mut [u32], row: usize) -> Row {
        let x = &self.x[row * self.sizes.depth..][..self.sizes.depth];
        let (level, chain, ranges) = (self.level, self.chain, &self.ranges);
        if self.kind == Kind::Integer {
            let number = self.kind.number(level);
            return code_row(level, x, chain, ranges, row, |start, codes| {
                let words = &mut words[number.words(start)..][..number.words(codes.len())];
                narrow(level, words, codes, number, Side::Left);
            });
        }
        let values = bytemuck::cast_slice_mut(words);
        Row { step: 1.0, energy: convert_row(level, values, x, chain, ranges, row) }
    }

    /// Computes one tile of the outputs, from `inputs` whose row `first` is the tile's first.
    fn tile(
        &self,
        tile: &Tile,
        inputs: &Inputs,
        first: usize,
        out: &SharedMut<'_, f32>,
        linear: &SharedMut<'_, f32>,
    ) {
        let Sizes { depth, columns, .. } = self.sizes;
        let words = self.words();
        let left = if words == 0 {
            &bytemuck::cast_slice(self.x)[tile.rows.start * depth..tile.rows.end * depth]
        } else {
            &inputs.words[first * words..][..tile.rows.len() * words]
        };
        let depth = self.kind.number(self.level).words(depth);
        let width = tile.columns.len();
        let sum = if self.kind == Kind::Integer {
            Sum::From(&self.weights.start[tile.columns.clone()])
        } else {
            Sum::Fresh
        };
        let product = Product {
            data: out,
            start: tile.rows.start * columns + tile.columns.start,
            stride: columns,
            rows: tile.rows.len(),
            columns: width,
        };
        let left = Left { words: left, row_stride: depth, depth_stride: 1 };
        let right = self.weights.starting_at(tile.columns.start);
        // SAFETY: tiles do not overlap, and each is computed by one chunk.
        unsafe { multiply(self.level, self.kind, &product, left, right, depth, sum) };
        for (index, row) in tile.rows.clone().enumerate() {
            let start = row * columns + tile.columns.start;
            // SAFETY: as above, of both outputs.
            let (y, linear) = unsafe {
                let linear = self.with_linear.then(|| linear.slice(start, width));
                (out.slice(start, width), linear)
            };
            self.finish_row(row, tile.columns.clone(), y, linear, inputs.rows[first + index]);
        }
    }

    /// Makes outputs of the products in `y`.
    fn finish_row(
        &self,
        row: usize,
        columns: Range<usize>,
        y: &mut [f32],
        mut linear: Option<&mut [f32]>,
        x: Row,
    ) {
        let (first, width) = (columns.start, columns.len());
        let adc = (!self.chain.adc.is_off()).then_some(&self.adc);
        let mut finish = |start: usize, count: usize, noise: Option<Noise<'_>>| {
            let local = start - first..start - first + count;
            finish_piece(
                self.level,
                &mut y[local.clone()],
                linear.as_mut().map(|linear| &mut linear[local]),
                &Piece {
                    x_step: x.step,
                    steps: self.weights.steps.get(start..start + count),
                    bias: &self.bias[start..start + count],
                    noise,
                    adc: adc.map(|adc| Converter::Each(adc.columns(start, count))),
                },
            );
        };
        match self.ranges.coefficients(row) {
            Some(coefficients) => {
                self.ranges.noise_pieces(self.level, row, columns, |start, epsilon| {
                    let noise = Noise { coefficients, epsilon, energy: x.energy };
                    finish(start, epsilon.len(), Some(noise));
                });
            }
            None => {
                for start in columns.step_by(PIECE) {
                    finish(start, PIECE.min(first + width - start), None);
                }
            }
        }
    }
}

/// Most rows of a tile, unless there are many weights.
const MAX_ROWS: usize = 64;
/// Weights that no cache of a core holds: better few rows of tiles than few columns.
const MANY_WEIGHTS: usize = 1 << 18;

/// Columns of a group, so that there are about `groups` of them; whole noise blocks if they are wide.
fn columns_per_group(columns: usize, groups: usize) -> usize {
    let width = columns.div_ceil(groups.max(1));
    width.next_multiple_of(if width > noise::BLOCK { noise::BLOCK } else { 64 })
}

/// Rows and columns of the outputs that one chunk computes.
struct Tile {
    rows: Range<usize>,
    columns: Range<usize>,
}

/// What a piece of a row goes through after the product.
struct Piece<'a> {
    /// What a unit of the products stands for: `x_step` times the step of the column, if any.
    x_step: f32,
    steps: Option<&'a [f32]>,
    bias: &'a [f32],
    noise: Option<Noise<'a>>,
    adc: Option<Converter<'a>>,
}

struct Noise<'a> {
    coefficients: Coefficients,
    epsilon: &'a [f32],
    energy: f32,
}

/// `y = y + σ(y)·ε`
#[inline(always)]
pub(super) fn add_noise(y: &mut [f32], epsilon: &[f32], noise: &Coefficients, energy: f32) {
    for (y, epsilon) in y.iter_mut().zip(epsilon) {
        *y += noise.sigma(*y, energy) * epsilon;
    }
}

#[inline(always)]
fn finish_piece_body(y: &mut [f32], linear: Option<&mut [f32]>, piece: &Piece<'_>) {
    let count = y.len();
    let bias = &piece.bias[..count];
    match piece.steps {
        Some(steps) => {
            let steps = &steps[..count];
            for index in 0..count {
                y[index] = y[index] * (piece.x_step * steps[index]) + bias[index];
            }
        }
        None => {
            for index in 0..count {
                y[index] += bias[index];
            }
        }
    }
    if let Some(linear) = linear {
        linear.copy_from_slice(y);
    }
    if let Some(Noise { coefficients, epsilon, energy }) = &piece.noise {
        add_noise(y, epsilon, coefficients, *energy);
    }
    match &piece.adc {
        Some(adc) => convert_in_place_body(y, adc),
        // Infinity becomes NaN, as in a converter.
        None => {
            for y in y {
                *y = if y.is_finite() { *y } else { f32::NAN };
            }
        }
    }
}

for_each_level! {
    /// `out = ADC(y + σ·ε)` with `y = product · x_step · step + bias`, in place; `linear` takes y.
    fn finish_piece(
        y: &mut [f32],
        linear: Option<&mut [f32]>,
        piece: &Piece<'_>,
    ) = finish_piece_body
}
