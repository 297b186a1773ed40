//! The whole signal chain in one pass: convert, multiply, add bias and noise, convert back.

use std::ops::Range;
use std::sync::Mutex;

use super::epilogue::{self, Common, Noise};
use super::operands::{Chain, Ranges, Residual, Saved, Sizes, Weights, extents};
use super::packed_weights::PackedWeights;
use super::prepare::{Row, code_row, convert_row, weight_quantizers};
use crate::disjoint::{AtomicMax, DisjointMut, StageBuffer};
use crate::gemm::{Accumulate, Lhs, Product, multiply};
use crate::isa::Isa;
use crate::noise::{self, SEEDED};
use crate::packing::Arithmetic;
use crate::par::{parallel_if, run_stages};
use crate::quantizer::Quantizers;
use crate::scratch::Scratch;
use crate::{Attrs, DType, Error, Fact, Op, ParFor, View, ViewMut, Work};

/// `out = ADC(x_q · w_q + bias + σ·ε)`
///
/// ```text
/// x_q = DAC(x)                 w_q = DAC(w)                y = x_q · w_q + bias
/// σ²  = thermal² + shot²·|y| + relative²·y² + weight²·‖x_q‖²         out = ADC(y + σ·ε)
///
/// slope = [|y + σ·ε| ≤ y_full_scale] · (1 + ε · (shot²·sign(y)/2 + relative²·y)/σ)
/// peak  = max |y| over the finite y of a row, 0 where there is none
/// ```
///
/// Inputs: x f32\[M,K\], w f32\[K,N\] (or \[N,K\] with `transpose_weight`), bias f32\[1|N\],
/// x_full_scale f32\[1|M\], w_full_scale f32\[1|N\], y_full_scale f32\[1|N\],
/// noise f32\[1|M,4\] (thermal, shot, relative, weight), seed u32\[1|M,2\] (high word first),
/// rows u32\[1|M\], columns u32\[1|N\] (global ids, consecutive from the first).
/// Outputs: out f32\[M,N\] and, with `residual` "pre_noise" or "slope", y or slope f32\[M,N\], or
/// with "signs" i8\[M,N\], and, `with_peak`, peak f32\[M\].
///
/// `signs` tell the slope where no noise but the relative one depends on y: they are 0 where the ADC
/// clips, -128 where the slope is NaN, and else sign(y), with 2 for y = 0.
#[derive(Debug)]
pub struct OpticalMatmul {
    chain: Chain,
    residual: Option<Residual>,
    with_peak: bool,
}

impl Op for OpticalMatmul {
    const NAME: &'static str = "optical_matmul";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let chain = Chain::from_attrs(Self::NAME, attrs)?;
        // The first files have a bool in place of the two attributes.
        if attrs.get("with_linear").is_some() {
            let residual = attrs.bool(Self::NAME, "with_linear")?.then_some(Residual::PreNoise);
            return Ok(Self { chain, residual, with_peak: false });
        }
        let residual = Residual::from_attrs(Self::NAME, attrs)?;
        Ok(Self { chain, residual, with_peak: attrs.bool(Self::NAME, "with_peak")? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x, w, bias, ranges @ ..] = inputs else {
            return Err(self.chain.refuse(format!("expected 10 operands, got {}", inputs.len())));
        };
        let sizes = self.chain.sizes(x, w)?;
        extents(Self::NAME, "bias", bias, DType::F32, &[&[1, sizes.columns]])?;
        self.chain.check_ranges_and_noise(ranges, sizes)?;
        let out = Fact::new(DType::F32, [sizes.rows, sizes.columns]);
        let residual =
            self.residual.map(|kind| Fact::new(kind.dtype(), [sizes.rows, sizes.columns]));
        let mut outputs: Vec<_> = [out].into_iter().chain(residual).collect();
        if self.with_peak {
            outputs.push(Fact::new(DType::F32, [sizes.rows]));
        }
        Ok(outputs)
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let sizes = self.chain.sizes(&inputs[0].fact(), &inputs[1].fact())?;
        let (out, others) = outputs.split_first_mut().expect("one output to three");
        let (residual, peak) = others.split_at_mut(usize::from(self.residual.is_some()));
        let saved = match (self.residual, residual.first_mut()) {
            (Some(Residual::PreNoise), Some(y)) => {
                Some(Saved::PreNoise(DisjointMut::new(y.data_mut()?)))
            }
            (Some(Residual::Slope), Some(slope)) => {
                Some(Saved::Slope(DisjointMut::new(slope.data_mut()?)))
            }
            (Some(Residual::Signs), Some(signs)) => {
                Some(Saved::Signs(DisjointMut::new(signs.data_mut()?)))
            }
            _ => None,
        };
        let outputs = Outputs {
            out: DisjointMut::new(out.data_mut()?),
            saved,
            peak: peak.first_mut().map(ViewMut::data_mut).transpose()?.map(AtomicMax::new),
        };
        Forward::new(self, inputs, sizes, pool.width())?.run(&outputs, pool);
        Ok(())
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        let outputs = self.output_shapes(inputs)?;
        let sizes = self.chain.sizes(&inputs[0], &inputs[1])?;
        Ok(Work::of_matmuls(1, sizes.extents(), inputs, &outputs))
    }
}

/// What the chunks write.
struct Outputs<'a> {
    out: DisjointMut<'a, f32>,
    saved: Option<Saved<DisjointMut<'a, f32>, DisjointMut<'a, i8>>>,
    peak: Option<AtomicMax<'a>>,
}

/// One call: its operands, and what is the same for all rows.
struct Forward<'a> {
    isa: Isa,
    chain: &'a Chain,
    sizes: Sizes,
    x: &'a [f32],
    weights: PackedWeights<'a>,
    arithmetic: Arithmetic,
    ranges: Ranges<'a>,
    bias: Vec<f32>,
    adc: Quantizers,
}

/// Converted rows of x, as words along the depth.
#[derive(Default)]
struct Inputs {
    packed: Scratch<u32>,
    rows: Vec<Row>,
}

impl<'a> Forward<'a> {
    fn new(
        op: &'a OpticalMatmul,
        inputs: &[View<'a>],
        sizes: Sizes,
        workers: usize,
    ) -> Result<Self, Error> {
        let isa = Isa::detect();
        let chain = &op.chain;
        let bias: &[f32] = inputs[2].data()?;
        let ranges = Ranges::new(chain, &inputs[3..], sizes)?;
        let arithmetic =
            if chain.is_integer(sizes.depth) { Arithmetic::Int8 } else { Arithmetic::F32 };
        let weights = Weights { data: inputs[1].data()?, sizes };
        let quantizers = weight_quantizers(isa, chain, &ranges, sizes.columns);
        let adc = Quantizers::new(isa, chain.adc, sizes.columns, ranges.y_full_scale);
        Ok(Self {
            isa,
            chain,
            sizes,
            x: inputs[0].data()?,
            weights: PackedWeights::new(isa, weights, quantizers, chain, arithmetic, workers),
            arithmetic,
            bias: if bias.len() == 1 { vec![bias[0]; sizes.columns] } else { bias.to_vec() },
            adc,
            ranges,
        })
    }

    fn run(&self, outputs: &Outputs<'_>, pool: &dyn ParFor) {
        let Sizes { rows, depth, columns } = self.sizes;
        if rows == 0 || columns == 0 {
            return;
        }
        let pool = parallel_if(
            pool,
            self.sizes.nanoseconds(1, if self.weights.chunks() > 0 { 4 } else { 16 }),
        );
        let workers = pool.width();
        let chunks = self.weights.chunks();
        let balanced = chunks.is_multiple_of(workers) || chunks >= 3 * workers;
        if chunks > 0 && balanced && rows * workers <= columns {
            return self.run_columns(outputs, pool);
        }
        let block = if depth * columns < MANY_WEIGHTS {
            rows.div_ceil(4 * workers).next_multiple_of(8).min(MAX_ROWS)
        } else {
            rows.min(4 * MAX_ROWS)
        };
        let blocks = rows.div_ceil(block);
        let group = if rows < 8 {
            // Little but to read the weights, of which wide parts lie together.
            columns.div_ceil(workers).next_multiple_of(noise::BLOCK)
        } else {
            columns_per_group(columns, (3 * workers).div_ceil(blocks))
        };
        let groups = columns.div_ceil(group);
        // Several groups share converted rows; one converts its own, of which there are few.
        let shared_rows = if groups > 1 { rows } else { 0 };
        let row_len = self.row_len();
        let shared = (
            StageBuffer::scratch(shared_rows * row_len),
            StageBuffer::new(Row::default(), shared_rows),
        );
        let scratch: Vec<_> = (0..workers).map(|_| Mutex::new(Inputs::default())).collect();
        let stages = [self.weights.chunks(), shared_rows.div_ceil(8), blocks * groups];
        run_stages(pool, &stages, &|stage, chunk, worker| match stage {
            // SAFETY: each chunk of columns is converted once.
            0 => unsafe { self.weights.convert(chunk) },
            1 => {
                for row in 8 * chunk..rows.min(8 * chunk + 8) {
                    // SAFETY: each row is converted by one chunk.
                    let (out, state) =
                        unsafe { (shared.0.write(row * row_len, row_len), shared.1.write(row, 1)) };
                    state[0] = self.convert_row(out, row);
                }
            }
            _ => {
                let (row, column) = (chunk / groups * block, chunk % groups * group);
                let tile = Tile {
                    rows: row..rows.min(row + block),
                    columns: column..columns.min(column + group),
                };
                if groups > 1 {
                    // SAFETY: the stage that writes them is over.
                    let (all, rows) = unsafe { (shared.0.all(), shared.1.all()) };
                    let inputs = (&all[row * row_len..], &rows[row..]);
                    self.tile(&tile, inputs, outputs);
                } else {
                    let mut inputs = scratch[worker].lock().expect("no chunk panicked");
                    self.convert(&tile.rows, &mut inputs);
                    self.tile(&tile, (&inputs.packed, &inputs.rows), outputs);
                }
            }
        });
    }

    /// Few rows: who converts some columns of the weights also multiplies them, as the cache of
    /// another core would have to fetch them. Each worker converts x anew, which is less.
    fn run_columns(&self, outputs: &Outputs<'_>, pool: &dyn ParFor) {
        let (rows, row_len) = (self.sizes.rows, self.row_len());
        let scratch: Vec<_> = (0..pool.width()).map(|_| Mutex::new(Inputs::default())).collect();
        run_stages(pool, &[self.weights.chunks()], &|_, chunk, worker| {
            // SAFETY: each chunk of columns is converted once.
            unsafe { self.weights.convert(chunk) };
            let mut inputs = scratch[worker].lock().expect("no chunk panicked");
            if inputs.rows.is_empty() {
                self.convert(&(0..rows), &mut inputs);
            }
            for row in (0..rows).step_by(MAX_ROWS) {
                let columns = self.weights.columns_of(chunk);
                let tile = Tile { rows: row..rows.min(row + MAX_ROWS), columns };
                self.tile(&tile, (&inputs.packed[row * row_len..], &inputs.rows[row..]), outputs);
            }
        });
    }

    /// Words of a converted row of x; none where x is multiplied as it is.
    fn row_len(&self) -> usize {
        match self.arithmetic {
            Arithmetic::F32 if self.chain.dac.is_off() => 0,
            arithmetic => arithmetic.packing(self.isa).packed_len(self.sizes.depth),
        }
    }

    fn convert(&self, rows: &Range<usize>, inputs: &mut Inputs) {
        let row_len = self.row_len();
        inputs.packed.resize(rows.len() * row_len);
        inputs.rows.clear();
        for (index, row) in rows.clone().enumerate() {
            let out = &mut inputs.packed[index * row_len..][..row_len];
            inputs.rows.push(self.convert_row(out, row));
        }
    }

    fn convert_row(&self, packed: &mut [u32], row: usize) -> Row {
        let x = &self.x[row * self.sizes.depth..][..self.sizes.depth];
        let (isa, chain, ranges) = (self.isa, self.chain, &self.ranges);
        if self.arithmetic == Arithmetic::Int8 {
            return code_row(isa, packed, x, ranges, row, self.arithmetic.packing(isa));
        }
        convert_row(isa, bytemuck::cast_slice_mut(packed), x, chain, ranges, row)
    }

    /// Computes one tile of the outputs, of these words and states of its rows; its columns of the
    /// weights are converted.
    fn tile(&self, tile: &Tile, (packed, inputs): (&[u32], &[Row]), outputs: &Outputs<'_>) {
        let Sizes { depth, columns, .. } = self.sizes;
        let left = if self.row_len() == 0 {
            &bytemuck::cast_slice(self.x)[tile.rows.start * depth..tile.rows.end * depth]
        } else {
            packed
        };
        let depth = self.arithmetic.packing(self.isa).packed_len(depth);
        let steps = (self.arithmetic == Arithmetic::Int8)
            // SAFETY: these columns are converted.
            .then(|| unsafe { self.weights.sums(tile.columns.clone()) }.1);
        let left = Lhs { packed: left, row_stride: depth, depth_stride: 1 };
        // SAFETY: as above.
        for (part, right) in unsafe { self.weights.parts(tile.columns.clone()) } {
            let accumulate = if self.arithmetic == Arithmetic::Int8 {
                // SAFETY: as above.
                Accumulate::Init(unsafe { self.weights.sums(part.clone()) }.0)
            } else {
                Accumulate::Overwrite
            };
            let product = Product {
                data: &outputs.out,
                start: tile.rows.start * columns + part.start,
                stride: columns,
                rows: tile.rows.len(),
                columns: part.len(),
            };
            // SAFETY: tiles do not overlap, and each is computed by one chunk.
            unsafe {
                multiply(self.isa, self.arithmetic, &product, left, right, depth, accumulate)
            };
        }
        let mut epsilon = Scratch::default();
        let piece = |rows: Range<usize>, range: Range<usize>, room: &mut [f32]| {
            let local = range.start - tile.columns.start..range.end - tile.columns.start;
            let mut states: [epilogue::Row<'_>; SEEDED] = Default::default();
            for (state, row) in states.iter_mut().zip(rows.clone()) {
                let (start, width) = (row * columns + range.start, range.len());
                let x = inputs[row - tile.rows.start];
                let coefficients = self.ranges.coefficients(row);
                // SAFETY: as above, of both outputs.
                unsafe {
                    state.out = outputs.out.slice(start, width);
                    state.saved = outputs.saved.as_ref().map(|saved| match saved {
                        Saved::PreNoise(y) => Saved::PreNoise(y.slice(start, width)),
                        Saved::Slope(slope) => Saved::Slope(slope.slice(start, width)),
                        Saved::Signs(signs) => Saved::Signs(signs.slice(start, width)),
                    });
                }
                state.x_step = x.step;
                state.noise =
                    coefficients.map(|coefficients| Noise { coefficients, x_norm_sq: x.x_norm_sq });
            }
            let common = Common {
                steps: steps.map(|steps| &steps[local]),
                bias: &self.bias[range.clone()],
                adc: (!self.chain.adc.is_off()).then(|| self.adc.columns(range.start, range.len())),
                with_peak: outputs.peak.is_some(),
            };
            epilogue::finish(self.isa, &mut states[..rows.len()], room, &common);
            if let Some(peaks) = &outputs.peak {
                for (row, state) in rows.zip(&states) {
                    peaks.raise(row, state.peak);
                }
            }
        };
        let (rows, columns) = (tile.rows.clone(), tile.columns.clone());
        self.ranges.noise_pieces(self.isa, rows, columns, &mut epsilon, piece);
    }
}

/// Most rows of a tile, unless there are many weights.
const MAX_ROWS: usize = 64;
/// Weights that no cache of a core holds: better few rows of tiles than few columns.
const MANY_WEIGHTS: usize = 1 << 18;

/// Columns of a group, so that there are about `groups` of them; whole noise blocks if they are wide.
fn columns_per_group(columns: usize, groups: usize) -> usize {
    let width = columns.div_ceil(groups.max(1));
    width.next_multiple_of(if width > noise::BLOCK { noise::BLOCK } else { 128 })
}

/// Rows and columns of the outputs that one chunk computes.
struct Tile {
    rows: Range<usize>,
    columns: Range<usize>,
}
