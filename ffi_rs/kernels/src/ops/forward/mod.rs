//! The forward pass of the chain with one matrix product, in parts of its output.
//!
//! ```text
//! peaks of x    each group of rows, where they are the range of the DAC
//! pack w        each chunk of columns, where w is not multiplied as it lies in memory
//! convert x     each group of rows, where several parts share them
//! parts         product, bias, noise and ADC of some rows and columns, tile after tile of the inputs
//! ```

mod part;
mod request;

use std::ops::Range;
use std::sync::Arc;

use part::{Inputs, Part};
pub(super) use request::{Request, fact_of_weights};

use super::chain::{
    Chain, CodedWeights, InputRow, Operands, PackedWeights, ProductPlan, Saved, Weights, code_row,
    convert_row, floats, peak_of,
};
use super::sizes::Sizes;
use crate::disjoint::{AtomicMax, DisjointMut, StageBuffer};
use crate::isa::Isa;
use crate::noise;
use crate::pack::Side;
use crate::packing::Arithmetic;
use crate::par::{Schedule, Serial, parallel_if};
use crate::quantizer::Quantizers;
use crate::scratch::Scratch;
use crate::tuning::{FORWARD_CONVERTED_ROWS, FORWARD_MANY_WEIGHTS, FORWARD_ROWS, PACKED_COLUMNS};
use crate::{Error, Fact, ParFor, View};

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
    /// Weights that are given by codes, which are multiplied as they lie in memory.
    coded: Option<CodedWeights<'a>>,
    /// Chunks of the weights that are not packed yet.
    unpacked: usize,
    operands: Operands<'a>,
    bias: Vec<f32>,
    adcs: Quantizers,
}

impl<'a> Forward<'a> {
    fn new(request: &'a Request, inputs: &[View<'a>], workers: usize) -> Result<Self, Error> {
        let isa = Isa::detect();
        let Request { chain, packed, codes, .. } = request;
        let (x, of_w, others) = request.split(inputs).expect("the operands are checked");
        let facts: Vec<Fact> = of_w.iter().map(View::fact).collect();
        let w = fact_of_weights(request.codes.as_ref(), &facts)?;
        let sizes = Sizes::of(chain, &x.fact(), &w, request.transpose_weight)?.in_floats(chain);
        let Sizes { rows, depth, columns } = sizes;
        let operands = Operands::new(chain, &others[1..], rows)?;
        let weights = request.weights(&of_w[0], &others[2], depth, columns)?;
        let bias = floats(&others[0])?;
        let coded = codes.as_ref().map(|codes| codes.coded(of_w)).transpose()?;
        let coded = coded.map(|coded| CodedWeights::new(isa, &weights, coded, rows));
        let (packed, unpacked) = match packed {
            Some(packed) => (Some(Arc::clone(packed)), 0),
            None if coded.is_some() || weights.is_in_place() => (None, 0),
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
            x: floats(x)?,
            packed,
            coded,
            unpacked,
            weights,
            // One number may stand for all.
            bias: bias.iter().copied().cycle().take(columns).collect(),
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
        let tiles = self.weights.tiles.count();
        let inputs = StageBuffer::new(InputRow::default(), shared * tiles);
        let convert_shared = |chunk: usize| {
            let rows =
                chunk * FORWARD_CONVERTED_ROWS..rows.min((chunk + 1) * FORWARD_CONVERTED_ROWS);
            let mut packed = x_packed.write(rows.start * packed_len..rows.end * packed_len);
            let of_rows = rows.start * tiles..rows.end * tiles;
            self.convert(rows, &mut packed, &mut inputs.write(of_rows), outputs);
        };
        let compute = |part: &Part| {
            let Range { start, end } = part.rows;
            if tiling.shares_inputs {
                let packed = x_packed.read(start * packed_len..end * packed_len);
                let rows = inputs.read(start * tiles..end * tiles);
                return self.compute(part, &Inputs { packed: &packed, rows: &rows }, outputs);
            }
            let mut packed = Scratch::new(part.rows.len() * packed_len);
            let mut rows = vec![InputRow::default(); part.rows.len() * tiles];
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
            schedule.stage("pack w, parts", chunks, |chunk| {
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
            schedule.stage("parts", rows.div_ceil(block) * groups, |chunk| {
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
            Arithmetic::Int8 if self.coded.is_some() => {
                self.words(self.weights.tiles.count() - 1).end
            }
            _ => self.weights.tiles.packed_len(self.plan.packing(self.isa)),
        }
    }

    /// Where the words of a tile are in a converted row of x.
    fn words(&self, tile: usize) -> Range<usize> {
        let tiles = self.weights.tiles;
        match &self.coded {
            Some(coded) if coded.is_integer() => {
                let before: usize =
                    (0..tile).map(|tile| coded.frame(tiles.inputs(tile)).len()).sum();
                before..before + coded.frame(tiles.inputs(tile)).len()
            }
            _ => tiles.words(tile, self.plan.packing(self.isa)),
        }
    }

    /// Converts rows of x, tile after tile.
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
        let (tiles, packing) = (self.weights.tiles, self.plan.packing(isa));
        let words: Vec<Range<usize>> = (0..tiles.count()).map(|tile| self.words(tile)).collect();
        for (index, (row, inputs)) in rows.zip(inputs.chunks_exact_mut(tiles.count())).enumerate() {
            let x = &self.x[row * depth..][..depth];
            let packed = &mut packed[index * packed_len..][..packed_len];
            for (tile, input) in inputs.iter_mut().enumerate() {
                let x = &x[tiles.inputs(tile)];
                let words = if packed.is_empty() { 0..0 } else { words[tile].clone() };
                let packed = &mut packed[words];
                *input = match &self.coded {
                    Some(coded) if coded.is_integer() => {
                        let frame = coded.frame(tiles.inputs(tile));
                        coded.code_row(packed, x, &self.operands, row, frame)
                    }
                    None if self.plan.arithmetic == Arithmetic::Int8 => {
                        code_row(isa, packed, x, &self.operands, row, (packing, Side::Left))
                    }
                    _ => convert_row(isa, bytemuck::cast_slice_mut(packed), x, &self.operands, row),
                };
            }
            if let Some(peaks) = peaks {
                peaks.write(row..row + 1)[0] = peak_of(isa, x);
            }
        }
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
