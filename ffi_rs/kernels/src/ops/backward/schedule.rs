//! Who computes which part of the gradient when.
//!
//! ```text
//! pack w        each panel of wᵀ, where they are kept
//! for each block of rows:
//!     dz        each group of rows
//!     dx, dw    each tile of dx, and each range of columns of dw: neither needs the other
//! finish        each range of columns: dw through the DAC; once: what the tiles of dx give
//! ```
//!
//! Each tile of the inputs goes through all of it, one after the other.
//!
//! All workers share each of these stages, where there are few blocks. Where there are many, blocks
//! go side by side instead, in partial sums: each is added up by one worker, which computes what its
//! own caches hold and waits for nobody, and `finish` adds them up. How many there are, and so the
//! order of the sums, depends on the sizes alone.

use std::ops::Range;

use super::context::{BLOCK, Context, Request};
use super::dw::Sums;
use super::dx::Tile;
use super::dz::{Block, GROUP};
use super::stored_weights::StoredWeights;
use super::transposed_weights::{PANEL, TransposedWeights};
use crate::disjoint::{DisjointMut, StageBuffer};
use crate::isa::Isa;
use crate::ops::chain::{accumulate, floats};
use crate::ops::sizes::Sizes;
use crate::par::{Schedule, Serial, parallel_if};
use crate::tuning::{DW_NARROW_COLUMNS, DX_ROWS, FINISHED_COLUMNS};
use crate::{Error, ParFor, View};

/// Partial sums at most, and from how many on they are of use.
const MOST_PARTS: usize = 8;
const FEWEST_PARTS: usize = 4;

/// The results of the op.
pub(crate) struct Gradients<'a> {
    pub(crate) x: &'a mut [f32],
    /// As w.
    pub(crate) w: &'a mut [f32],
    pub(crate) bias: &'a mut [f32],
    pub(crate) x_full_scale: &'a mut [f32],
    pub(crate) w_full_scale: &'a mut [f32],
    pub(crate) y_full_scale: &'a mut [f32],
    pub(crate) noise: &'a mut [f32],
}

/// Computes the gradients that are asked for; the others are zero.
pub(crate) fn run(
    request: &Request,
    inputs: &[View<'_>],
    gradients: Gradients<'_>,
    pool: &dyn ParFor,
) -> Result<(), Error> {
    let (x, w) = (inputs[2].fact(), inputs[3].fact());
    let sizes = Sizes::of(&request.chain, &x, &w, request.transpose_weight)?;
    let sizes = sizes.in_floats(&request.chain);
    let Gradients { x, w, bias, x_full_scale, w_full_scale, y_full_scale, noise } = gradients;
    if sizes.rows == 0 {
        [w, bias, w_full_scale, y_full_scale].into_iter().for_each(|sums| sums.fill(0.0));
        return Ok(());
    }
    let first = Gradients { x, w, bias, x_full_scale, w_full_scale, y_full_scale, noise };
    run_tile(request, inputs, (sizes, 0), first, pool)?;
    let tiles = request.chain.tiles(sizes.depth).count();
    // What another tile gives to the sums. The bias enters the first alone.
    let room = |like: &[f32]| vec![0.0; if tiles > 1 { like.len() } else { 0 }];
    let mut unused = room(bias);
    let mut parts = [&*x_full_scale, w_full_scale, y_full_scale, noise].map(room);
    for tile in 1..tiles {
        let [of_x, of_w, of_y, of_noise] = &mut parts;
        let gradients = Gradients {
            x,
            w,
            bias: &mut unused,
            x_full_scale: of_x,
            w_full_scale: of_w,
            y_full_scale: of_y,
            noise: of_noise,
        };
        run_tile(request, inputs, (sizes, tile), gradients, pool)?;
        let sums = [&mut *x_full_scale, w_full_scale, y_full_scale, noise];
        for (sum, part) in sums.into_iter().zip(&parts) {
            accumulate(Isa::detect(), sum, part);
        }
    }
    if !request.with_inputs {
        x.fill(0.0);
    }
    Ok(())
}

/// Computes what one tile of a call with these sizes gives: its columns of dx and rows of dw, and its
/// share of the others.
fn run_tile(
    request: &Request,
    inputs: &[View<'_>],
    (sizes, tile): (Sizes, usize),
    gradients: Gradients<'_>,
    pool: &dyn ParFor,
) -> Result<(), Error> {
    let stored = StoredWeights::new(request, sizes, tile);
    let (as_stored, mut rows_of_w) = (floats(&inputs[3])?, stored.room());
    let w_rows = if stored.are_rows() {
        &as_stored[stored.in_rows()]
    } else {
        stored.write_rows(&mut rows_of_w, as_stored, pool);
        &*rows_of_w
    };
    let context = Context::new(request, inputs, sizes, tile, w_rows)?;
    let Sizes { rows, columns, .. } = context.sizes;
    let Gradients { x, w, bias, x_full_scale, w_full_scale, y_full_scale, noise } = gradients;
    for sums in [&mut *bias, &mut *x_full_scale, &mut *w_full_scale, &mut *y_full_scale] {
        sums.fill(0.0);
    }
    let complex = request.chain.complex;
    let mut own = stored.room();
    let dw = if stored.are_rows() { &mut w[stored.in_rows()] } else { &mut *own };
    // Of a complex number, the column of each part gives something of the gradient of its range.
    let mut ranges = vec![0.0; if complex { 2 * columns } else { 0 }];
    let (w_ranges, y_ranges) = match complex {
        true => ranges.split_at_mut(columns),
        false => (&mut *w_full_scale, &mut *y_full_scale),
    };
    let call = Call {
        weights: TransposedWeights::new(&context),
        dx: DisjointMut::new(x),
        x_full_scale: DisjointMut::new(x_full_scale),
        x_full_scale_parts: StageBuffer::scratch(if context.needs_x_full_scale() {
            context.panels() * rows
        } else {
            0
        }),
        w_full_scale: DisjointMut::new(w_ranges),
        noise: DisjointMut::new(noise),
        context: &context,
    };
    let sums = AllSums::new(dw, bias, y_ranges);
    let packed_in_a_nanosecond = if request.chain.weight.is_off() { 10 } else { 4 };
    call.run(&sums, parallel_if(pool, context.sizes.nanoseconds(2, packed_in_a_nanosecond)));
    if !stored.are_rows() {
        stored.write_gradient(w, &own, pool);
    }
    if complex {
        let (w_ranges, y_ranges) = ranges.split_at(columns);
        for (out, sums) in [(w_full_scale, w_ranges), (y_full_scale, y_ranges)] {
            for (out, pair) in out.iter_mut().zip(sums.as_chunks::<2>().0) {
                *out = pair[0] + pair[1];
            }
        }
    }
    Ok(())
}

/// All columns of what is summed over rows.
struct AllSums<'a> {
    w: DisjointMut<'a, f32>,
    bias: DisjointMut<'a, f32>,
    y_full_scale: DisjointMut<'a, f32>,
}

impl<'a> AllSums<'a> {
    fn new(w: &'a mut [f32], bias: &'a mut [f32], y_full_scale: &'a mut [f32]) -> Self {
        Self {
            w: DisjointMut::new(w),
            bias: DisjointMut::new(bias),
            y_full_scale: DisjointMut::new(y_full_scale),
        }
    }

    /// One partial sum in `memory`: a row of `bias`, one of `y_full_scale`, and those of w.
    fn in_memory(memory: &'a mut [f32], columns: usize) -> Self {
        let (vectors, w) = memory.split_at_mut(2 * columns);
        vectors.fill(0.0);
        let (bias, y_full_scale) = vectors.split_at_mut(columns);
        Self::new(w, bias, y_full_scale)
    }
}

/// One call, and what its chunks write.
struct Call<'c, 'a> {
    context: &'c Context<'a>,
    weights: TransposedWeights,
    dx: DisjointMut<'c, f32>,
    x_full_scale: DisjointMut<'c, f32>,
    /// By panel and row: what a tile of dx gives.
    x_full_scale_parts: StageBuffer<f32>,
    w_full_scale: DisjointMut<'c, f32>,
    noise: DisjointMut<'c, f32>,
}

impl Call<'_, '_> {
    fn run(&self, sums: &AllSums<'_>, pool: &dyn ParFor) {
        let context = self.context;
        let Sizes { rows, depth, columns } = context.sizes;
        let blocks = rows.div_ceil(BLOCK);
        let parts = context.partial_sums();
        let size = if parts > 1 { (depth + 2) * columns } else { 0 };
        let memory = StageBuffer::scratch(parts * size);
        let block = (parts == 1).then(|| Block::new(context, rows.min(BLOCK)));

        let ranges = if parts > 1 || !context.request.chain.weight.is_off() {
            columns.div_ceil(FINISHED_COLUMNS)
        } else {
            0
        };
        let of_x = usize::from(context.needs_x_full_scale());
        let mut schedule = Schedule::default();
        schedule.stage("pack w", self.weights.chunks(), |panel| self.weights.pack(context, panel));
        if let Some(block) = &block {
            self.add_blocks(&mut schedule, block, 0..blocks, sums, pool.width());
        } else {
            schedule.stage("partial sums", parts, |part| {
                let of_part = part * blocks / parts..(part + 1) * blocks / parts;
                let mut memory = memory.write(part * size..(part + 1) * size);
                let sums = AllSums::in_memory(&mut memory, columns);
                let block = Block::new(context, BLOCK);
                let mut own = Schedule::default();
                self.add_blocks(&mut own, &block, of_part, &sums, 1);
                own.run(&Serial);
            });
        }
        schedule.stage("finish", ranges + of_x, |chunk| {
            if chunk < ranges {
                let range = chunk * FINISHED_COLUMNS..columns.min((chunk + 1) * FINISHED_COLUMNS);
                let memory = memory.read(0..parts * size);
                let parts: Vec<&[f32]> = memory.chunks_exact(size.max(1)).collect();
                self.finish_dw(sums, &parts, &range);
            } else {
                self.finish_x_full_scale();
            }
        });
        schedule.run(pool);
    }

    /// Adds the stages of some blocks, one after the other, for so many workers.
    fn add_blocks<'s>(
        &'s self,
        schedule: &mut Schedule<'s>,
        block: &'s Block,
        blocks: Range<usize>,
        sums: &'s AllSums<'s>,
        workers: usize,
    ) {
        let context = self.context;
        let Sizes { rows: all, depth, columns } = context.sizes;
        // As many for each worker; twice as many where they stay wide, as one may come late.
        let chunks = if columns < 2 * workers * DW_NARROW_COLUMNS { workers } else { 2 * workers };
        let width = columns.div_ceil(chunks).next_multiple_of(16);
        let of_dw = columns.div_ceil(width.max(1));
        let panels = if context.needs_inputs() { context.panels() } else { 0 };
        let dx_rows = if self.weights.chunks() > 0 { DX_ROWS } else { BLOCK };
        let first = blocks.start;
        for index in blocks {
            let rows = index * BLOCK..all.min((index + 1) * BLOCK);
            let of_rows = rows.clone();
            schedule.stage("dz", Block::groups(rows.len()), move |group| {
                let (start, end) = (of_rows.start + group * GROUP, of_rows.end);
                let mut noise = self.noise.write(4 * start..4 * end.min(start + GROUP));
                block.fill(context, &of_rows, group, &mut noise);
            });
            let of_dx = rows.len().div_ceil(dx_rows) * panels;
            schedule.stage("dw, dx", of_dw + of_dx, move |chunk| {
                let Some(tile) = chunk.checked_sub(of_dw) else {
                    let range = chunk * width..columns.min((chunk + 1) * width);
                    let with_ranges = context.request.with_ranges;
                    let of_ranges = if with_ranges { range.clone() } else { 0..0 };
                    let part = Sums {
                        w: sums.w.tile(columns, 0..depth, range.clone()),
                        bias: &mut sums.bias.write(range.clone()),
                        y_full_scale: &mut sums.y_full_scale.write(of_ranges),
                    };
                    return context.add_dw(block, &rows, &range, index == first, part);
                };
                let row = tile / panels * dx_rows;
                let tile = Tile { rows: row..rows.len().min(row + dx_rows), panel: tile % panels };
                self.compute_dx(block, rows.start, &tile);
            });
        }
    }

    fn compute_dx(&self, block: &Block, start: usize, tile: &Tile) {
        let Sizes { rows: all, depth, .. } = self.context.sizes;
        let rows = start + tile.rows.start..start + tile.rows.end;
        let columns = tile.panel * PANEL..depth.min((tile.panel + 1) * PANEL);
        let by_full_scale = if self.context.needs_x_full_scale() {
            tile.panel * all + rows.start..tile.panel * all + rows.end
        } else {
            0..0
        };
        let mut by_full_scale = self.x_full_scale_parts.write(by_full_scale);
        by_full_scale.fill(0.0);
        let first = self.context.inputs.start;
        let columns = first + columns.start..first + columns.end;
        let out = self.dx.tile(self.context.x.stride, rows, columns);
        self.context.compute_dx(block, &self.weights, start, tile, out, &mut by_full_scale);
    }

    /// Adds up some columns of partial sums, if there are any, and takes dw through the DAC.
    fn finish_dw(&self, sums: &AllSums<'_>, parts: &[&[f32]], range: &Range<usize>) {
        let Context { isa, sizes: Sizes { depth, columns, .. }, request, .. } = *self.context;
        let mut dw = sums.w.tile(columns, 0..depth, range.clone());
        if let Some((first, others)) = parts.split_first() {
            let add_up = |sum: &mut [f32], row: usize| {
                let at = row * columns + range.start..row * columns + range.end;
                sum.copy_from_slice(&first[at.clone()]);
                others.iter().for_each(|part| accumulate(isa, sum, &part[at.clone()]));
            };
            add_up(&mut sums.bias.write(range.clone()), 0);
            if request.with_ranges {
                add_up(&mut sums.y_full_scale.write(range.clone()), 1);
            }
            for (row, dw) in dw.rows_mut().enumerate() {
                add_up(dw, 2 + row);
            }
        }
        if request.chain.weight.is_off() {
            return;
        }
        let mut w_full_scale = self.w_full_scale.write(range.clone());
        for panel in 0..self.context.panels() {
            if self.weights.is_clipped(panel) || request.with_ranges {
                let rows = panel * PANEL..depth.min((panel + 1) * PANEL);
                let w_full_scale = request.with_ranges.then_some(&mut *w_full_scale);
                self.context.mask_dw(dw.rows(rows.clone()), rows.start, range, w_full_scale);
            }
        }
    }

    /// Adds up what the tiles of dx give, in the order of the panels.
    fn finish_x_full_scale(&self) {
        let rows = self.context.sizes.rows;
        let mut sum = self.x_full_scale.write(0..rows);
        let parts = self.x_full_scale_parts.read(0..self.context.panels() * rows);
        for part in parts.chunks_exact(rows) {
            accumulate(self.context.isa, &mut sum, part);
        }
    }
}

impl Context<'_> {
    /// How many partial sums there are; 1 where all workers share each block.
    fn partial_sums(&self) -> usize {
        let Sizes { rows, depth, columns } = self.sizes;
        // All of them together take less room than one of the results.
        let room = rows * depth.max(columns) / (depth * columns).max(1);
        let parts = rows.div_ceil(BLOCK).min(room).min(MOST_PARTS);
        // Else blocks would pack the weights anew.
        if self.keeps_panels() && parts >= FEWEST_PARTS { parts } else { 1 }
    }

    /// Whether the tiles of dx give something of the gradient of `x_full_scale`.
    fn needs_x_full_scale(&self) -> bool {
        self.request.with_ranges && !self.request.chain.dac.is_off()
    }
}
