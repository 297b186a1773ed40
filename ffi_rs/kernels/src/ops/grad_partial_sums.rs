//! Many rows of the backward op: the blocks are cut into parts, each with partial sums of its own.
//!
//! A worker computes a whole part in its own caches, and waits for nobody. How many parts there
//! are, and so the order of the sums, depends on the sizes alone.

use std::ops::Range;
use std::sync::Mutex;

use super::grad_panels::Panels;
use super::grad_products::{Call, Gradients, Place, Tiling};
use super::grad_rows::Block;
use super::grad_steps::accumulate;
use super::operands::Sizes;
use super::optical_matmul_grad::{BLOCK, Backward, WorkerScratch};
use crate::ParFor;
use crate::disjoint::DisjointMut;
use crate::par::run_stages;
use crate::scratch::Scratch;

/// Parts at most, and from how many on they are of use.
const MOST: usize = 8;
const FEWEST: usize = 4;
/// Columns of the sums that one chunk adds up.
const WIDTH: usize = 64;

/// What one worker needs for its parts.
#[derive(Default)]
struct PartialScratch {
    block: Option<Block>,
    worker: WorkerScratch,
}

impl Backward<'_> {
    /// The number of parts; 1 where all workers are to share each block.
    pub(super) fn partial_sums(&self) -> usize {
        let Sizes { rows, depth, columns } = self.sizes;
        // All their sums together take less room than one of the results.
        let room = rows * depth.max(columns) / (depth * columns).max(1);
        let parts = rows.div_ceil(BLOCK).min(room).min(MOST);
        // Else blocks would lay out the weights anew.
        if self.keeps_panels() && parts >= FEWEST { parts } else { 1 }
    }

    pub(super) fn run_partial_sums(
        &self,
        parts: usize,
        panels: &Panels,
        gradients: &Gradients<'_>,
        pool: &dyn ParFor,
    ) {
        let Sizes { rows, depth, columns } = self.sizes;
        let tiling = Tiling::new(self, panels, 1);
        let mut memory = Scratch::new((parts - 1) * (depth + 2) * columns);
        let sums = Sums::new(gradients, &mut memory, depth * columns, columns);
        let blocks = rows.div_ceil(BLOCK);
        let stages = [panels.chunks(), parts, columns.div_ceil(WIDTH)];
        let scratch: Vec<_> =
            (0..pool.width()).map(|_| Mutex::new(PartialScratch::default())).collect();
        run_stages(pool, &stages, &|stage, chunk, worker| match stage {
            // SAFETY: each panel is filled by one chunk.
            0 => unsafe { panels.fill(self, chunk) },
            1 => {
                let mut scratch = scratch[worker].lock().expect("no chunk panicked");
                let PartialScratch { block, worker } = &mut *scratch;
                let block = block.get_or_insert_with(|| Block::new(self, BLOCK));
                let call = Call { block, panels, tiling: &tiling, gradients: &sums.parts[chunk] };
                let first = chunk * blocks / parts;
                for index in first..(chunk + 1) * blocks / parts {
                    let rows = index * BLOCK..rows.min((index + 1) * BLOCK);
                    let place = Place { first: index == first, last: false };
                    // SAFETY: the block and the sums are those of this chunk, and no other one has
                    // these rows.
                    unsafe { self.run_block(&call, rows, place, worker) };
                }
            }
            _ => {
                let range = chunk * WIDTH..columns.min((chunk + 1) * WIDTH);
                // SAFETY: the stage of the parts is over, and no other chunk has these columns.
                unsafe {
                    sums.add_up(self, &range);
                    self.mask_weights(panels, gradients, 0..depth, &range);
                }
            }
        });
    }

    /// All that comes of some rows.
    ///
    /// # Safety
    ///
    /// The panels are filled; nothing else uses what belongs to these rows, the block and the sums
    /// meanwhile.
    unsafe fn run_block(
        &self,
        call: &Call<'_>,
        rows: Range<usize>,
        place: Place,
        scratch: &mut WorkerScratch,
    ) {
        let Call { block, tiling, gradients, .. } = call;
        for strip in 0..tiling.strips_of(rows.len()) {
            for chunk in tiling.groups_of_strip(rows.len(), strip) {
                // SAFETY: as this function's.
                unsafe { block.fill(self, rows.clone(), chunk, gradients, &mut scratch.rows) };
            }
            for chunk in tiling.inputs_of_strip(strip) {
                // SAFETY: as this function's; the strip is filled.
                unsafe { self.multiply_inputs(call, rows.clone(), chunk, &mut scratch.products) };
            }
        }
        for chunk in 0..tiling.weights {
            // SAFETY: as this function's; the block is filled.
            unsafe {
                self.multiply_weights(call, rows.clone(), chunk, place, &mut scratch.products)
            };
        }
        if self.with_ranges {
            // SAFETY: as this function's; dx of these rows is computed.
            unsafe { self.add_up(call, rows) };
        }
    }
}

/// The results, by part: what is summed over rows is apart, in memory of its own but for the first.
struct Sums<'a> {
    parts: Vec<Gradients<'a>>,
}

impl<'a> Sums<'a> {
    fn new(
        gradients: &Gradients<'a>,
        memory: &'a mut [f32],
        weights: usize,
        columns: usize,
    ) -> Self {
        let mut parts = vec![*gradients];
        for part in memory.chunks_exact_mut(weights + 2 * columns) {
            let (w, vectors) = part.split_at_mut(weights);
            vectors.fill(0.0);
            let (bias, y_full_scale) = vectors.split_at_mut(columns);
            parts.push(Gradients {
                w: DisjointMut::new(w),
                bias: DisjointMut::new(bias),
                y_full_scale: DisjointMut::new(y_full_scale),
                ..*gradients
            });
        }
        Self { parts }
    }

    /// Adds the sums of some columns to those of the first part.
    ///
    /// # Safety
    ///
    /// Nothing else uses these columns meanwhile.
    unsafe fn add_up(&self, backward: &Backward<'_>, range: &Range<usize>) {
        let Sizes { depth, columns, .. } = backward.sizes;
        let (total, others) = self.parts.split_first().expect("one part or more");
        let add = |sum: &DisjointMut<'_, f32>, part: &DisjointMut<'_, f32>, row: usize| {
            let at = row * columns + range.start;
            // SAFETY: as this function's.
            let (sum, part) = unsafe { (sum.slice(at, range.len()), part.slice(at, range.len())) };
            accumulate(backward.isa, sum, part);
        };
        for row in 0..depth {
            others.iter().for_each(|part| add(&total.w, &part.w, row));
        }
        for part in others {
            add(&total.bias, &part.bias, 0);
            add(&total.y_full_scale, &part.y_full_scale, 0);
        }
    }
}
