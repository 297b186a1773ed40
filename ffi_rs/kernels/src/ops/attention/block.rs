//! Scores, probabilities and outputs of some queries of a head.

use std::ops::Range;
use std::sync::OnceLock;

use super::call::Call;
use super::head::Head;
use crate::disjoint::{AtomicMax, DisjointMut};
use crate::gemm::{Accumulate, Lhs, Rhs, multiply};
use crate::isa::Isa;
use crate::noise::SEED_STEP;
use crate::ops::causal_softmax::softmax;
use crate::ops::chain::{Saved, peak_of};
use crate::ops::forward::{self, Outputs};
use crate::ops::seen::SeenRows;
use crate::packing::Arithmetic;
use crate::par::{ParFor, Schedule, Serial, parallel_if};
use crate::scratch::Scratch;
use crate::{Data, Error, View};

/// Which of the two products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Product {
    /// q · kᵀ
    Scores,
    /// p · v
    Outputs,
}

/// Some queries of a head.
pub(super) struct Block<'h, 'c, 'a> {
    pub(super) head: &'h Head<'c, 'a>,
    pub(super) rows: Range<usize>,
    /// Keys that they are computed with.
    pub(super) count: usize,
    pub(super) queries: Scratch<f32>,
}

/// A matrix with its rows and columns.
pub(super) type Matrix<'m> = (&'m [f32], [usize; 2]);

impl<'h, 'c, 'a> Block<'h, 'c, 'a> {
    pub(super) fn new(head: &'h Head<'c, 'a>, rows: Range<usize>) -> Self {
        let (count, queries) = (head.count_of(&rows), head.queries(&rows));
        Self { head, rows, count, queries }
    }

    /// The operands of a chain whose factors are `x` and `w`, from x to columns.
    pub(super) fn with_views<R>(
        &self,
        product: Product,
        x: Matrix<'_>,
        w: Matrix<'_>,
        columns: usize,
        run: impl FnOnce(&[View<'_>]) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let Head { call, place, ranges, .. } = self.head;
        let ([x_range, w_range, y_range], index) = match product {
            Product::Scores => ([ranges.q, ranges.k, ranges.scores], 0),
            Product::Outputs => ([ranges.p, ranges.v, ranges.out], 1),
        };
        let &[high, low] = call.seed.at(*place) else { unreachable!("a seed has two words") };
        let seed = (u64::from(high) << 32 | u64::from(low))
            .wrapping_add((index as u64).wrapping_mul(SEED_STEP));
        let seed = [(seed >> 32) as u32, seed as u32];
        let first = call.rows.at(*place)[0].wrapping_add(self.rows.start as u32);
        let rows: Vec<u32> =
            (0..self.rows.len() as u32).map(|row| first.wrapping_add(row)).collect();
        let of_rows = [rows.len()];
        let of_columns = [columns];
        run(&[
            View::new(&x.1, Data::F32(x.0))?,
            View::new(&w.1, Data::F32(w.0))?,
            View::new(&[1], Data::F32(&[0.0]))?,
            View::new(&[1], Data::F32(&[x_range]))?,
            View::new(&[1], Data::F32(&[w_range]))?,
            View::new(&[1], Data::F32(&[y_range]))?,
            View::new(&[1, 4], Data::F32(&call.noise.at(*place)[4 * index..][..4]))?,
            View::new(&[1, 2], Data::U32(&seed))?,
            View::new(&of_rows, Data::U32(&rows))?,
            View::new(&of_columns, Data::U32(&call.columns[..columns]))?,
        ])
    }

    /// Writes the scores, \[rows, count\], before their scale; `saved` takes y unless it is empty.
    pub(super) fn scores(&self, out: &mut [f32], saved: &mut [f32]) -> Result<(), Error> {
        let Head { call, keys, keys_across, scores, count: all, .. } = self.head;
        let (depth, rows) = (call.sizes.depth, self.rows.len());
        if call.request.is_exact() {
            let lhs = across_rows(&self.queries, depth);
            let rhs = Rhs { packed: bytemuck::cast_slice(keys_across), stride: *all };
            product(call.isa, out, [rows, depth, self.count], lhs, rhs, Accumulate::Overwrite);
            if self.head.may_overflow {
                // As behind the noise of a chain.
                out.iter_mut().filter(|score| score.is_infinite()).for_each(|v| *v = f32::NAN);
            }
            return Ok(());
        }
        let x = (&*self.queries, [rows, depth]);
        let w = (&keys[..self.count * depth], [self.count, depth]);
        self.with_views(Product::Scores, x, w, self.count, |views| {
            forward::run(scores, views, with_saved(out, saved), &Serial)
        })
    }

    /// Writes the probabilities, \[rows, count\], of scores.
    pub(super) fn probabilities(&self, out: &mut [f32], scores: &[f32]) {
        let Head { call, place, seen, .. } = self.head;
        let seen = &seen[self.rows.clone()];
        let rows = SeenRows::of(self.count, seen, call.scale.at(*place));
        softmax(call.isa, out, scores, rows, 0..seen.len());
    }

    /// Writes the outputs, \[rows, width\]; `saved` takes y unless it is empty.
    pub(super) fn outputs(
        &self,
        out: &mut [f32],
        p: &[f32],
        saved: &mut [f32],
    ) -> Result<(), Error> {
        let Head { call, values, .. } = self.head;
        let (width, rows) = (call.sizes.width, self.rows.len());
        if call.request.is_exact() {
            let rhs = Rhs { packed: bytemuck::cast_slice(values), stride: width };
            let lhs = across_rows(p, self.count);
            product(call.isa, out, [rows, self.count, width], lhs, rhs, Accumulate::Overwrite);
            return Ok(());
        }
        let x = (p, [rows, self.count]);
        let w = (&values[..self.count * width], [self.count, width]);
        self.with_views(Product::Outputs, x, w, width, |views| {
            forward::run(&call.request.outputs, views, with_saved(out, saved), &Serial)
        })
    }

    /// Writes the outputs of these queries to `out`, the result of the op, and raises the peaks of
    /// their head where these are wanted.
    fn run(
        &self,
        out: &DisjointMut<'_, f32>,
        peaks: Option<(&AtomicMax<'_>, usize)>,
    ) -> Result<(), Error> {
        let Head { call, place, seen, bad, .. } = self.head;
        let (sizes, rows) = (call.sizes, self.rows.len());
        let mut computed = Scratch::new(rows * sizes.width);
        if self.count > 0 {
            let mut scores = Scratch::new(rows * self.count);
            let mut p = Scratch::new(rows * self.count);
            // Without converters and noise they are y themselves.
            let saves = peaks.is_some() && !call.request.is_exact();
            let room = |count: usize| Scratch::new(if saves { rows * count } else { 0 });
            let (mut scores_y, mut y) = (room(self.count), room(sizes.width));
            self.scores(&mut scores, &mut scores_y)?;
            self.probabilities(&mut p, &scores);
            self.outputs(&mut computed, &p, &mut y)?;
            if let Some((peaks, first)) = peaks {
                let (scores_y, y) = if saves { (scores_y, &y) } else { (scores, &computed) };
                let seen = self.rows.clone().map(|row| seen[row] as usize);
                for (index, sees) in seen.enumerate().filter(|(_, sees)| *sees > 0) {
                    let of_scores = &scores_y[index * self.count..][..sees];
                    peaks.raise(first, peak_of(call.isa, of_scores));
                    let of_out = &y[index * sizes.width..][..sizes.width];
                    peaks.raise(first + 1, peak_of(call.isa, of_out));
                }
            }
        }
        for (row, computed) in self.rows.clone().zip(computed.chunks_exact(sizes.width.max(1))) {
            let mut out = out.write(sizes.out_at(*place, row));
            match (bad[row], seen[row]) {
                (0, 0) => out.fill(0.0),
                (0, _) => out.copy_from_slice(computed),
                _ => out.fill(f32::NAN),
            }
        }
        Ok(())
    }
}

/// The rows of a matrix with so many columns, as the lhs of a product.
pub(super) fn across_rows(matrix: &[f32], columns: usize) -> Lhs<'_> {
    Lhs { packed: bytemuck::cast_slice(matrix), row_stride: columns, depth_stride: 1 }
}

/// A plain product of these rows, depth and columns.
pub(super) fn product(
    isa: Isa,
    out: &mut [f32],
    [rows, depth, columns]: [usize; 3],
    lhs: Lhs<'_>,
    rhs: Rhs<'_>,
    accumulate: Accumulate<'_>,
) {
    let out = DisjointMut::new(out);
    let mut out = out.tile(columns, 0..rows, 0..columns);
    multiply(isa, Arithmetic::F32, &mut out, lhs, rhs, depth, accumulate);
}

fn with_saved<'o>(out: &'o mut [f32], saved: &'o mut [f32]) -> Outputs<'o> {
    let saved = (!saved.is_empty()).then_some(Saved::PreNoise(saved));
    Outputs { saved, ..Outputs::of(out) }
}

impl Call<'_> {
    /// Computes the outputs, and where these are wanted the peaks, two of each head.
    pub(crate) fn run(
        &self,
        out: &mut [f32],
        peaks: Option<&mut [f32]>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let sizes = self.sizes;
        let (heads, blocks) = (sizes.all_heads(), sizes.blocks());
        let (out, peaks) = (DisjointMut::new(out), peaks.map(AtomicMax::new));
        let gathered: Vec<OnceLock<Result<Head<'_, '_>, Error>>> =
            (0..heads).map(|_| OnceLock::new()).collect();
        let failed: OnceLock<Error> = OnceLock::new();
        let mut schedule = Schedule::default();
        schedule.stage("heads", heads, |index| {
            gathered[index].get_or_init(|| Head::new(self, index));
        });
        schedule.stage("blocks", heads * blocks, |chunk| {
            // The last blocks of a head see the most.
            let (index, block) = (chunk / blocks, blocks - 1 - chunk % blocks);
            let start = block * sizes.block;
            let rows = start..sizes.queries.min(start + sizes.block);
            let computed = match gathered[index].get().expect("the stage before gathers it") {
                Ok(head) => {
                    let peaks = peaks.as_ref().map(|peaks| (peaks, 2 * index));
                    Block::new(head, rows).run(&out, peaks)
                }
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = computed {
                failed.get_or_init(|| error);
            }
        });
        schedule.run(parallel_if(pool, sizes.nanoseconds(1)));
        drop(schedule);
        failed.into_inner().map_or(Ok(()), Err)
    }
}
