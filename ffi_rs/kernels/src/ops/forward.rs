//! The forward pass of the chain with one matrix product, in tiles of its output.
//!
//! ```text
//! peaks of x    each group of rows, where they are the range of the DAC
//! pack w        each chunk of columns, where w is not multiplied as it lies in memory
//! convert x     each group of rows, where several tiles share them
//! tiles         product, bias, noise and ADC of some rows and columns
//! ```

use std::ops::Range;
use std::sync::Arc;

use super::chain::{
    Chain, Common, InputRow, Operands, PackedWeights, ProductPlan, Row, RowNoise, Saved, Weights,
    check_ranges_and_noise, code_row, convert_row, extents, finish, matrix, peak_of,
};
use super::sizes::Sizes;
use crate::disjoint::{AtomicMax, DisjointMut, StageBuffer};
use crate::gemm::{Accumulate, Lhs, Rhs, multiply};
use crate::isa::Isa;
use crate::noise::{self, SEEDED};
use crate::packing::Arithmetic;
use crate::par::{Schedule, Serial, parallel_if};
use crate::quantizer::Quantizers;
use crate::scratch::Scratch;
use crate::tuning::{FORWARD_CONVERTED_ROWS, FORWARD_MANY_WEIGHTS, FORWARD_ROWS, PACKED_COLUMNS};
use crate::{Attrs, DType, Error, Fact, ParFor, View, Work};

/// What the op writes.
pub(super) struct Outputs<'a> {
    pub(super) out: &'a mut [f32],
    pub(super) saved: Option<Saved<&'a mut [f32], &'a mut [i8]>>,
    /// By row, max |y|.
    pub(super) peak: Option<&'a mut [f32]>,
    /// By row, max |x|.
    pub(super) x_peak: Option<&'a mut [f32]>,
    /// By column, max |w|.
    pub(super) w_peak: Option<&'a mut [f32]>,
}

impl<'a> Outputs<'a> {
    /// The output alone.
    pub(super) fn of(out: &'a mut [f32]) -> Self {
        Self { out, saved: None, peak: None, x_peak: None, w_peak: None }
    }
}

/// The attributes of the forward pass, and what is prepared.
#[derive(Clone, Debug)]
pub(super) struct Request {
    chain: Chain,
    /// Whether w is (N, K) rather than (K, N).
    transpose_weight: bool,
    /// Weights that never change.
    packed: Option<Arc<PackedWeights>>,
}

impl Request {
    pub(super) fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        let chain = Chain { finds_ranges: true, ..Chain::from_attrs(op, attrs)? };
        let transpose_weight = attrs.bool(op, "transpose_weight")?;
        Ok(Self { chain, transpose_weight, packed: None })
    }

    /// The same with packed weights, where the weights and their ranges are constant; None where
    /// they are not, or are multiplied as they lie in memory.
    pub(super) fn prepared(&self, constants: &[Option<View<'_>>]) -> Result<Option<Self>, Error> {
        let (Some(Some(w)), Some(Some(full_scale))) = (constants.get(1), constants.get(4)) else {
            return Ok(None);
        };
        let isa = Isa::detect();
        let &[first, second] = matrix(self.chain.op, "w", &w.fact())?;
        let (depth, columns) =
            if self.transpose_weight { (second, first) } else { (first, second) };
        let weights = self.weights(w, full_scale, depth, columns)?;
        if weights.is_in_place() || columns == 0 {
            return Ok(None);
        }
        let packed = PackedWeights::new(isa, &weights, 1);
        (0..packed.chunks()).for_each(|chunk| packed.pack(&weights, chunk, None));
        Ok(Some(Self { packed: Some(Arc::new(packed)), ..self.clone() }))
    }

    /// Bytes of the packed weights, where there are some.
    pub(super) fn held_bytes(&self) -> usize {
        self.packed.as_ref().map_or(0, |packed| packed.bytes())
    }

    /// The weights that `w` holds, and what `full_scale` says of their ranges.
    fn weights<'a>(
        &self,
        w: &View<'a>,
        full_scale: &View<'a>,
        depth: usize,
        columns: usize,
    ) -> Result<Weights<'a>, Error> {
        Ok(Weights {
            data: w.data()?,
            depth,
            columns,
            transposed: self.transpose_weight,
            dac: self.chain.weight,
            full_scale: full_scale.data()?,
            plan: ProductPlan::forward(&self.chain, depth),
        })
    }

    /// The sizes that the operands give, all of which are checked: from x to columns.
    pub(super) fn sizes(&self, inputs: &[Fact]) -> Result<Sizes, Error> {
        let Self { chain, transpose_weight, .. } = self;
        let [x, w, bias, others @ ..] = inputs else {
            return Err(chain.refuse(format!("expected 10 operands, got {}", inputs.len())));
        };
        let sizes = Sizes::of(chain.op, x, w, *transpose_weight)?;
        let Sizes { rows, columns, .. } = sizes;
        extents(chain.op, "bias", bias, DType::F32, &[&[1, columns]])?;
        check_ranges_and_noise(chain, others, rows, columns)?;
        Ok(sizes)
    }

    /// What a run takes.
    pub(super) fn work(&self, inputs: &[Fact], outputs: &[Fact]) -> Result<Work, Error> {
        Ok(Work::of_matmuls(1, self.sizes(inputs)?.extents(), inputs, outputs))
    }
}

/// Runs the chain on `inputs`, which are checked.
pub(super) fn run(
    request: &Request,
    inputs: &[View<'_>],
    outputs: Outputs<'_>,
    pool: &dyn ParFor,
) -> Result<(), Error> {
    let forward = Forward::new(request, inputs, pool.width())?;
    let shared = Shared {
        out: DisjointMut::new(outputs.out),
        saved: outputs.saved.map(|saved| saved.map(DisjointMut::new, DisjointMut::new)),
        peak: outputs.peak.map(AtomicMax::new),
        x_peak: outputs.x_peak.map(DisjointMut::new),
        w_peak: outputs.w_peak.map(DisjointMut::new),
    };
    forward.run(&shared, pool);
    Ok(())
}

/// What the chunks write.
struct Shared<'a> {
    out: DisjointMut<'a, f32>,
    saved: Option<Saved<DisjointMut<'a, f32>, DisjointMut<'a, i8>>>,
    peak: Option<AtomicMax<'a>>,
    x_peak: Option<DisjointMut<'a, f32>>,
    w_peak: Option<DisjointMut<'a, f32>>,
}

/// One call: its operands, and what is the same for all rows.
struct Forward<'a> {
    isa: Isa,
    chain: &'a Chain,
    sizes: Sizes,
    plan: ProductPlan,
    x: &'a [f32],
    weights: Weights<'a>,
    /// None where the weights are multiplied as they lie in memory.
    packed: Option<Arc<PackedWeights>>,
    /// Chunks of the weights that are not packed yet.
    unpacked: usize,
    operands: Operands<'a>,
    bias: Vec<f32>,
    adcs: Quantizers,
}

/// Converted rows of x: words along the depth, and what is known of each.
struct Inputs<'a> {
    packed: &'a [u32],
    rows: &'a [InputRow],
}

impl<'a> Forward<'a> {
    fn new(request: &'a Request, inputs: &[View<'a>], workers: usize) -> Result<Self, Error> {
        let isa = Isa::detect();
        let Request { chain, transpose_weight, packed } = request;
        let sizes = Sizes::of(chain.op, &inputs[0].fact(), &inputs[1].fact(), *transpose_weight)?;
        let Sizes { rows, depth, columns } = sizes;
        let operands = Operands::new(chain, &inputs[3..], rows)?;
        let weights = request.weights(&inputs[1], &inputs[4], depth, columns)?;
        let bias: &[f32] = inputs[2].data()?;
        let (packed, unpacked) = match packed {
            Some(packed) => (Some(Arc::clone(packed)), 0),
            None if weights.is_in_place() => (None, 0),
            None => {
                let packed = PackedWeights::new(isa, &weights, workers);
                let chunks = packed.chunks();
                (Some(Arc::new(packed)), chunks)
            }
        };
        Ok(Self {
            isa,
            chain,
            sizes,
            plan: weights.plan,
            x: inputs[0].data()?,
            packed,
            unpacked,
            weights,
            bias: if bias.len() == 1 { vec![bias[0]; columns] } else { bias.to_vec() },
            adcs: operands.adcs(isa, columns),
            operands,
        })
    }

    fn run(&self, outputs: &Shared<'_>, pool: &dyn ParFor) {
        let Sizes { rows, columns, .. } = self.sizes;
        if rows == 0 || columns == 0 {
            let mut schedule = Schedule::default();
            if outputs.x_peak.is_some() {
                self.look_at_inputs(&mut schedule, outputs);
            }
            self.look_at_weights(&mut schedule, outputs);
            return schedule.run(&Serial);
        }
        let packed_in_a_nanosecond = if self.unpacked > 0 { 4 } else { 16 };
        let pool = parallel_if(pool, self.sizes.nanoseconds(1, packed_in_a_nanosecond));
        let tiling = self.tiling(pool.width());
        let chunks = self.unpacked;

        let packed_len = self.packed_len();
        let shared = if tiling.shares_inputs { rows } else { 0 };
        let x_packed = StageBuffer::scratch(shared * packed_len);
        let inputs = StageBuffer::new(InputRow::default(), shared);
        let convert_shared = |chunk: usize| {
            let rows =
                chunk * FORWARD_CONVERTED_ROWS..rows.min((chunk + 1) * FORWARD_CONVERTED_ROWS);
            let mut packed = x_packed.write(rows.start * packed_len..rows.end * packed_len);
            self.convert(rows.clone(), &mut packed, &mut inputs.write(rows), outputs);
        };
        let compute = |part: &Part| {
            let Range { start, end } = part.rows;
            if tiling.shares_inputs {
                let packed = x_packed.read(start * packed_len..end * packed_len);
                let rows = inputs.read(start..end);
                return self.compute(part, &Inputs { packed: &packed, rows: &rows }, outputs);
            }
            let mut packed = Scratch::new(part.rows.len() * packed_len);
            let mut rows = vec![InputRow::default(); part.rows.len()];
            self.convert(part.rows.clone(), &mut packed, &mut rows, outputs);
            self.compute(part, &Inputs { packed: &packed, rows: &rows }, outputs);
        };

        let converted = shared.div_ceil(FORWARD_CONVERTED_ROWS);
        let Tiling { block, group, .. } = tiling;
        let groups = columns.div_ceil(group);
        let pack = |packed: &PackedWeights, chunk: usize| {
            packed.pack(&self.weights, chunk, outputs.w_peak.as_ref());
        };
        let mut schedule = Schedule::default();
        if self.operands.finds_x_range() {
            self.look_at_inputs(&mut schedule, outputs);
        }
        if chunks == 0 {
            self.look_at_weights(&mut schedule, outputs);
        }
        if let (Some(packed), true) = (&self.packed, tiling.packs_with_tiles) {
            schedule.stage("convert x", converted, convert_shared);
            schedule.stage("pack w, tiles", chunks, |chunk| {
                pack(packed, chunk);
                for row in (0..rows).step_by(FORWARD_ROWS) {
                    let rows = row..rows.min(row + FORWARD_ROWS);
                    compute(&Part { rows, columns: packed.columns_of(chunk) });
                }
            });
        } else {
            schedule.stage("pack w, convert x", chunks + converted, |chunk| match &self.packed {
                Some(packed) if chunk < chunks => pack(packed, chunk),
                _ => convert_shared(chunk - chunks),
            });
            schedule.stage("tiles", rows.div_ceil(block) * groups, |chunk| {
                let (row, column) = (chunk / groups * block, chunk % groups * group);
                compute(&Part {
                    rows: row..rows.min(row + block),
                    columns: column..columns.min(column + group),
                });
            });
        }
        schedule.run(pool);
    }

    /// A stage that finds the peaks of the rows of x.
    fn look_at_inputs<'s>(&'s self, schedule: &mut Schedule<'s>, outputs: &'s Shared<'_>) {
        let Sizes { rows, depth, .. } = self.sizes;
        schedule.stage("peaks of x", rows.div_ceil(FORWARD_ROWS), move |chunk| {
            for row in chunk * FORWARD_ROWS..rows.min((chunk + 1) * FORWARD_ROWS) {
                let peak = peak_of(self.isa, &self.x[row * depth..][..depth]);
                self.operands.raise(peak);
                if let Some(peaks) = &outputs.x_peak {
                    peaks.write(row..row + 1)[0] = peak;
                }
            }
        });
    }

    /// A stage that finds the peaks of the columns of w, if they are wanted.
    fn look_at_weights<'s>(&'s self, schedule: &mut Schedule<'s>, outputs: &'s Shared<'_>) {
        let Some(peaks) = &outputs.w_peak else { return };
        let columns = self.sizes.columns;
        schedule.stage("peaks of w", columns.div_ceil(PACKED_COLUMNS), move |chunk| {
            let range = chunk * PACKED_COLUMNS..columns.min((chunk + 1) * PACKED_COLUMNS);
            self.weights.peaks(self.isa, &range, &mut peaks.write(range.clone()));
        });
    }

    /// How the output is cut, for so many workers.
    fn tiling(&self, workers: usize) -> Tiling {
        let Sizes { rows, depth, columns } = self.sizes;
        let chunks = self.unpacked;
        let balanced = chunks.is_multiple_of(workers) || chunks >= 3 * workers;
        let block = if depth * columns < FORWARD_MANY_WEIGHTS {
            rows.div_ceil(4 * workers).next_multiple_of(8).min(FORWARD_ROWS)
        } else {
            rows.min(4 * FORWARD_ROWS)
        };
        let blocks = rows.div_ceil(block);
        let group = if rows < 8 {
            // Little but to read the weights, of which wide parts lie together.
            columns.div_ceil(workers).next_multiple_of(noise::BLOCK)
        } else {
            let width = columns.div_ceil((3 * workers).div_ceil(blocks));
            // Whole noise blocks if they are wide.
            width.next_multiple_of(if width > noise::BLOCK { noise::BLOCK } else { 128 })
        };
        let packs_with_tiles = chunks > 0 && balanced && rows * workers <= columns;
        Tiling {
            block,
            group,
            packs_with_tiles,
            shares_inputs: packs_with_tiles || group < columns,
        }
    }

    /// Words of a converted row of x; none where x is multiplied as it is.
    fn packed_len(&self) -> usize {
        match self.plan.arithmetic {
            Arithmetic::F32 if self.chain.dac.is_off() => 0,
            _ => self.plan.packing(self.isa).packed_len(self.sizes.depth),
        }
    }

    /// Converts rows of x.
    fn convert(
        &self,
        rows: Range<usize>,
        packed: &mut [u32],
        inputs: &mut [InputRow],
        outputs: &Shared<'_>,
    ) {
        let (isa, depth, packed_len) = (self.isa, self.sizes.depth, self.packed_len());
        // Where the range was found, so were they.
        let peaks = outputs.x_peak.as_ref().filter(|_| !self.operands.finds_x_range());
        for (index, (row, input)) in rows.zip(inputs).enumerate() {
            let x = &self.x[row * depth..][..depth];
            let packed = &mut packed[index * packed_len..][..packed_len];
            *input = if self.plan.arithmetic == Arithmetic::Int8 {
                code_row(isa, packed, x, &self.operands, row, self.plan.packing(isa))
            } else {
                convert_row(isa, bytemuck::cast_slice_mut(packed), x, &self.operands, row)
            };
            if let Some(peaks) = peaks {
                peaks.write(row..row + 1)[0] = peak_of(isa, x);
            }
        }
    }

    /// Computes a part of the outputs from its rows of x; its columns of the weights are packed.
    fn compute(&self, part: &Part, inputs: &Inputs<'_>, outputs: &Shared<'_>) {
        self.multiply(part, inputs.packed, outputs);
        let columns = self.sizes.columns;
        let steps = self.packed.as_ref().and_then(|packed| packed.steps(&part.columns));
        let piece = |rows: Range<usize>, range: Range<usize>, epsilon: &mut [f32]| {
            let mut states: [Row<'_>; SEEDED] = Default::default();
            let mut out = outputs.out.tile(columns, rows.clone(), range.clone());
            for ((state, row), out) in states.iter_mut().zip(rows.clone()).zip(out.rows_mut()) {
                let input = inputs.rows[row - part.rows.start];
                let coefficients = self.operands.noise.coefficients(row);
                state.out = out;
                state.x_step = input.step;
                state.noise = coefficients
                    .map(|coefficients| RowNoise { coefficients, x_norm_sq: input.x_norm_sq });
            }
            let (rows, range) = (&rows, &range);
            let mut saved = outputs.saved.as_ref().map(|saved| {
                saved.as_ref().map(
                    |floats| floats.tile(columns, rows.clone(), range.clone()),
                    |bytes| bytes.tile(columns, rows.clone(), range.clone()),
                )
            });
            match &mut saved {
                None => {}
                Some(Saved::PreNoise(y)) => {
                    for (state, y) in states.iter_mut().zip(y.rows_mut()) {
                        state.saved = Some(Saved::PreNoise(y));
                    }
                }
                Some(Saved::Slope(slope)) => {
                    for (state, slope) in states.iter_mut().zip(slope.rows_mut()) {
                        state.saved = Some(Saved::Slope(slope));
                    }
                }
                Some(Saved::Signs(signs)) => {
                    for (state, signs) in states.iter_mut().zip(signs.rows_mut()) {
                        state.saved = Some(Saved::Signs(signs));
                    }
                }
            }
            let local = range.start - part.columns.start..range.end - part.columns.start;
            let common = Common {
                steps: steps.as_ref().map(|steps| &steps[local]),
                bias: &self.bias[range.clone()],
                adc: (!self.chain.adc.is_off())
                    .then(|| self.adcs.columns(range.start, range.len())),
                with_peak: outputs.peak.is_some(),
            };
            finish(self.isa, &mut states[..rows.len()], epsilon, &common);
            if let Some(peaks) = &outputs.peak {
                for (row, state) in rows.clone().zip(&states) {
                    peaks.raise(row, state.peak);
                }
            }
        };
        let (rows, columns) = (part.rows.clone(), part.columns.clone());
        let mut epsilon = Scratch::default();
        self.operands.noise.for_each_piece(self.isa, rows, columns, &mut epsilon, piece);
    }

    /// x_q · w_q of a part, in units of the steps.
    fn multiply(&self, part: &Part, x_packed: &[u32], outputs: &Shared<'_>) {
        let Sizes { depth, columns, .. } = self.sizes;
        let Range { start, end } = part.rows;
        let packed = if self.packed_len() == 0 {
            &bytemuck::cast_slice(self.x)[start * depth..end * depth]
        } else {
            x_packed
        };
        let words = self.plan.packing(self.isa).packed_len(depth);
        let lhs = Lhs { packed, row_stride: words, depth_stride: 1 };
        let product = |range: Range<usize>, rhs: Rhs<'_>, accumulate: Accumulate<'_>| {
            let mut out = outputs.out.tile(columns, part.rows.clone(), range);
            multiply(self.isa, self.plan.arithmetic, &mut out, lhs, rhs, words, accumulate);
        };
        let Some(weights) = &self.packed else {
            let packed = bytemuck::cast_slice(self.weights.data);
            let packed = packed.get(part.columns.start..).unwrap_or(&[]);
            let rhs = Rhs { packed, stride: columns };
            return product(part.columns.clone(), rhs, Accumulate::Overwrite);
        };
        weights.for_each_part(&part.columns, |range, rhs, corrections| {
            let accumulate = if corrections.is_empty() {
                Accumulate::Overwrite
            } else {
                Accumulate::Init(corrections)
            };
            product(range, rhs, accumulate);
        });
    }
}

/// How the output is cut into parts.
struct Tiling {
    /// Rows and columns of a part.
    block: usize,
    group: usize,
    /// Few rows: who packs some columns of the weights also multiplies them, all rows of x, as the
    /// cache of another core would have to fetch them.
    packs_with_tiles: bool,
    /// Whether rows of x are converted once for several parts.
    shares_inputs: bool,
}

/// Rows and columns of the outputs that one chunk computes.
struct Part {
    rows: Range<usize>,
    columns: Range<usize>,
}
