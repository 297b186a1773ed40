//! The gradient of attention, block after block of the queries of a head.

use std::sync::OnceLock;

use super::block::{Block, Matrix, Product, across_rows, product};
use super::call::{Call, Sizes};
use super::head::{Head, across, largest};
use crate::disjoint::{DisjointMut, StageBuffer};
use crate::gemm::{Accumulate, Lhs, Rhs};
use crate::isa::lane_sum;
use crate::ops::backward;
use crate::ops::causal_softmax_grad::gradient as softmax_gradient;
use crate::ops::chain::accumulate;
use crate::ops::seen::SeenRows;
use crate::par::{ParFor, Schedule, parallel_if};
use crate::scratch::Scratch;
use crate::{Error, Serial};

/// Gradients that a head has one of: of the scale, of the full scales, of the noise.
pub(crate) const PER_HEAD: usize = 1 + 6 + 8;
/// Where those of the full scales of the two products start, of the noise, and of the ADCs.
const RANGES_OF: [[usize; 3]; 2] = [[1, 2, 5], [3, 4, 6]];
const NOISE: usize = 7;

/// Queries whose gradients of keys and values one worker adds up, at least, and sums of a head at
/// most. They depend on the sizes of a head alone, so that neither threads nor other heads change a
/// bit.
const QUERIES_OF_A_SUM: usize = 512;
const MOST_SUMS: usize = 4;

/// The results of the op.
pub(crate) struct Gradients<'a> {
    pub(crate) q: &'a mut [f32],
    pub(crate) k: &'a mut [f32],
    pub(crate) v: &'a mut [f32],
    /// By head, [`PER_HEAD`].
    pub(crate) per_head: &'a mut [f32],
}

/// What is summed over some queries of a head.
struct Sums<'s> {
    /// \[keys, depth\]
    k: &'s mut [f32],
    /// \[keys, width\]
    v: &'s mut [f32],
    per_head: &'s mut [f32],
    /// How many keys have a gradient of NaN, from the first on.
    bad: &'s mut [f32],
}

impl Sizes {
    /// Partial sums of a head.
    fn sums(&self) -> usize {
        (self.queries / QUERIES_OF_A_SUM).clamp(1, MOST_SUMS)
    }

    /// Numbers of one.
    fn sum_len(&self) -> usize {
        self.keys * (self.depth + self.width) + PER_HEAD + 1
    }
}

impl<'s> Sums<'s> {
    fn of(sizes: Sizes, memory: &'s mut [f32]) -> Self {
        let (k, rest) = memory.split_at_mut(sizes.keys * sizes.depth);
        let (v, rest) = rest.split_at_mut(sizes.keys * sizes.width);
        let (per_head, bad) = rest.split_at_mut(PER_HEAD);
        Self { k, v, per_head, bad }
    }
}

impl Call<'_> {
    /// Computes the gradients for the upstream gradient `g`; those of ranges, noise and scale are 0
    /// unless they are asked for.
    pub(crate) fn run_gradient(
        &self,
        g: &[f32],
        with_ranges: bool,
        gradients: Gradients<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let sizes = self.sizes;
        let (heads, sums, size) = (sizes.all_heads(), sizes.sums(), sizes.sum_len());
        let blocks = sizes.blocks();
        let memory = StageBuffer::scratch(heads * sums * size);
        let results = [gradients.q, gradients.k, gradients.v, gradients.per_head];
        let [dq, dk, dv, per_head] = results.map(DisjointMut::new);
        let gathered: Vec<OnceLock<Result<Head<'_, '_>, Error>>> =
            (0..heads).map(|_| OnceLock::new()).collect();
        let failed: OnceLock<Error> = OnceLock::new();
        let mut schedule = Schedule::default();
        schedule.stage("heads", heads, |index| {
            gathered[index].get_or_init(|| Head::new(self, index));
        });
        schedule.stage("sums", heads * sums, |chunk| {
            // The last queries of a head see the most.
            let (index, sum) = (chunk / sums, sums - 1 - chunk % sums);
            let at = (index * sums + sum) * size;
            let mut memory = memory.write(at..at + size);
            memory.fill(0.0);
            let computed = match gathered[index].get().expect("the stage before gathers it") {
                Ok(head) => {
                    let back = Backward { head, g, with_ranges, values: head.values_across() };
                    let mut sums_of = Sums::of(sizes, &mut memory);
                    (sum * blocks / sums..(sum + 1) * blocks / sums)
                        .try_for_each(|block| back.add_block(block, &mut sums_of, &dq))
                }
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = computed {
                failed.get_or_init(|| error);
            }
        });
        schedule.stage("finish", heads, |index| {
            let parts = memory.read(index * sums * size..(index + 1) * sums * size);
            let mut total = Scratch::new(size);
            add_up(self.isa, &mut total, &parts);
            let bad = parts.chunks_exact(size).map(|part| part[size - 1]).fold(0.0, f32::max);
            let total = Sums::of(sizes, &mut total);
            let bad = bad as usize;
            total.k[..bad * sizes.depth].fill(f32::NAN);
            total.v[..bad * sizes.width].fill(f32::NAN);
            if bad > 0 && with_ranges {
                total.per_head.fill(f32::NAN);
            }
            let place = self.place(index);
            for key in 0..sizes.keys {
                let of_key = |width: usize| key * width..(key + 1) * width;
                dk.write(sizes.k_at(place, key)).copy_from_slice(&total.k[of_key(sizes.depth)]);
                dv.write(sizes.v_at(place, key)).copy_from_slice(&total.v[of_key(sizes.width)]);
            }
            per_head
                .write(index * PER_HEAD..(index + 1) * PER_HEAD)
                .copy_from_slice(total.per_head);
        });
        schedule.run(parallel_if(pool, sizes.nanoseconds(3)));
        drop(schedule);
        failed.into_inner().map_or(Ok(()), Err)
    }
}

impl Head<'_, '_> {
    /// The values as columns, \[width, count\]; nothing unless the products are plain ones.
    fn values_across(&self) -> Scratch<f32> {
        let is_exact = self.call.request.is_exact();
        let mut values = Scratch::new(if is_exact { self.values.len() } else { 0 });
        if is_exact {
            across(self.call, &mut values, &self.values, self.count, self.call.sizes.width);
        }
        values
    }
}

/// What the blocks of a head go back with.
struct Backward<'b, 'c, 'a> {
    head: &'b Head<'c, 'a>,
    g: &'b [f32],
    with_ranges: bool,
    values: Scratch<f32>,
}

impl Backward<'_, '_, '_> {
    /// Adds what a block gives to the sums, and writes its part of dq.
    fn add_block(
        &self,
        block: usize,
        sums: &mut Sums<'_>,
        dq: &DisjointMut<'_, f32>,
    ) -> Result<(), Error> {
        let (head, sizes) = (self.head, self.head.call.sizes);
        let start = block * sizes.block;
        let block = Block::new(head, start..sizes.queries.min(start + sizes.block));
        let (rows, count) = (block.rows.len(), block.count);
        let mut g = Scratch::new(rows * sizes.width);
        for (out, row) in g.chunks_exact_mut(sizes.width.max(1)).zip(block.rows.clone()) {
            out.copy_from_slice(&self.g[sizes.out_at(head.place, row)]);
        }
        let mut dq_block = Scratch::new(rows * sizes.depth);
        let mut bad = head.bad[block.rows.clone()].to_vec();
        if count > 0 {
            let mut p = Scratch::new(rows * count);
            let mut scores = Scratch::new(rows * count);
            if head.call.request.is_exact() {
                self.exact(&block, &mut g, [&mut p, &mut scores], &mut bad, &mut dq_block, sums)?;
            } else {
                self.chained(&block, &mut g, [&mut p, &mut scores], &mut bad, &mut dq_block, sums)?;
            }
        }
        for (index, row) in block.rows.clone().enumerate() {
            let mut dq = dq.write(sizes.q_at(head.place, row));
            match (bad[index], head.seen[row]) {
                (0, 0) => dq.fill(0.0),
                (0, _) => dq.copy_from_slice(&dq_block[index * sizes.depth..][..sizes.depth]),
                _ => dq.fill(f32::NAN),
            }
        }
        sums.bad[0] = bad.into_iter().fold(sums.bad[0], |most, bad| most.max(bad as f32));
        Ok(())
    }

    /// Plain products.
    fn exact(
        &self,
        block: &Block<'_, '_, '_>,
        g: &mut [f32],
        [p, scores]: [&mut [f32]; 2],
        bad: &mut [usize],
        dq: &mut [f32],
        sums: &mut Sums<'_>,
    ) -> Result<(), Error> {
        let Head { call, keys, count: all, .. } = self.head;
        let (sizes, isa) = (call.sizes, call.isa);
        let (rows, count) = (block.rows.len(), block.count);
        block.scores(scores, &mut [])?;
        block.probabilities(p, scores);
        self.find_bad(block, bad, [&*p, &*g]);
        self.clear_bad(block, bad, &mut [(&mut *p, count), (&mut *g, sizes.width)]);
        let mut dp = Scratch::new(rows * count);
        let values = Rhs { packed: bytemuck::cast_slice(&self.values), stride: *all };
        let lhs = across_rows(g, sizes.width);
        product(isa, &mut dp, [rows, sizes.width, count], lhs, values, Accumulate::Overwrite);
        let (down, onto) = (down_columns, Accumulate::Add);
        let rhs = Rhs { packed: bytemuck::cast_slice(g), stride: sizes.width };
        product(isa, sums.v, [count, rows, sizes.width], down(p, count), rhs, onto);
        let mut ds = Scratch::new(rows * count);
        self.through_softmax(block, &mut ds, &dp, p, scores, sums);
        let rhs = Rhs { packed: bytemuck::cast_slice(keys), stride: sizes.depth };
        let lhs = across_rows(&ds, count);
        product(isa, dq, [rows, count, sizes.depth], lhs, rhs, Accumulate::Overwrite);
        let rhs = Rhs { packed: bytemuck::cast_slice(&block.queries), stride: sizes.depth };
        product(isa, sums.k, [count, rows, sizes.depth], down(&ds, count), rhs, onto);
        Ok(())
    }

    /// Products that run the chain.
    fn chained(
        &self,
        block: &Block<'_, '_, '_>,
        g: &mut [f32],
        [p, scores]: [&mut [f32]; 2],
        bad: &mut [usize],
        dq: &mut [f32],
        sums: &mut Sums<'_>,
    ) -> Result<(), Error> {
        let Head { call, keys, values, .. } = self.head;
        let sizes = call.sizes;
        let (rows, count) = (block.rows.len(), block.count);
        let (mut scores_y, mut y) = (Scratch::new(rows * count), Scratch::new(rows * sizes.width));
        block.scores(scores, &mut scores_y)?;
        block.probabilities(p, scores);
        let mut out = Scratch::new(rows * sizes.width);
        block.outputs(&mut out, p, &mut y)?;
        self.find_bad(block, bad, [&*p, &*g]);
        self.find_bad(block, bad, [&*p, &out]);
        self.clear_bad(
            block,
            bad,
            &mut [
                (&mut *p, count),
                (&mut scores_y, count),
                (&mut *g, sizes.width),
                (&mut y, sizes.width),
            ],
        );
        let mut dp = Scratch::new(rows * count);
        let mut by_weights = Scratch::new(count * sizes.width);
        let x = (&*p, [rows, count]);
        let w = (&values[..count * sizes.width], [count, sizes.width]);
        let upstream = (&*g, [rows, sizes.width]);
        let product = Product::Outputs;
        self.chain_gradient(
            block,
            product,
            [upstream, x, w],
            &y,
            [&mut dp, &mut by_weights],
            sums,
        )?;
        accumulate(call.isa, &mut sums.v[..count * sizes.width], &by_weights);

        let mut ds = Scratch::new(rows * count);
        self.through_softmax(block, &mut ds, &dp, p, scores, sums);
        let x = (&*block.queries, [rows, sizes.depth]);
        let w = (&keys[..count * sizes.depth], [count, sizes.depth]);
        let upstream = (&*ds, [rows, count]);
        by_weights.resize(count * sizes.depth);
        let product = Product::Scores;
        self.chain_gradient(
            block,
            product,
            [upstream, x, w],
            &scores_y,
            [dq, &mut by_weights],
            sums,
        )?;
        accumulate(call.isa, &mut sums.k[..count * sizes.depth], &by_weights);
        Ok(())
    }

    /// The gradient of one of the products by its factors x and w; adds those of ranges and noise.
    fn chain_gradient(
        &self,
        block: &Block<'_, '_, '_>,
        product: Product,
        [upstream, x, w]: [Matrix<'_>; 3],
        y: &[f32],
        [by_x, by_w]: [&mut [f32]; 2],
        sums: &mut Sums<'_>,
    ) -> Result<(), Error> {
        let (g, [rows, columns]) = upstream;
        let index = usize::from(product == Product::Outputs);
        let request = self.head.call.request.backward(product == Product::Scores, self.with_ranges);
        let (mut bias, mut w_full_scale) = (Scratch::new(columns), Scratch::new(columns));
        let mut y_full_scale = Scratch::new(columns);
        let (mut x_full_scale, mut noise) = (Scratch::new(rows), Scratch::new(4 * rows));
        let gradients = backward::Gradients {
            x: by_x,
            w: by_w,
            bias: &mut bias,
            x_full_scale: &mut x_full_scale,
            w_full_scale: &mut w_full_scale,
            y_full_scale: &mut y_full_scale,
            noise: &mut noise,
        };
        let shape = upstream.1;
        block.with_views(product, x, w, columns, |views| {
            let first = [
                crate::View::new(&shape, crate::Data::F32(g))?,
                crate::View::new(&shape, crate::Data::F32(y))?,
                views[0],
                views[1],
            ];
            let inputs: Vec<_> = first.into_iter().chain(views[3..].iter().copied()).collect();
            backward::run(&request, &inputs, gradients, &Serial)
        })?;
        if !self.with_ranges {
            return Ok(());
        }
        let ranges = [&x_full_scale, &w_full_scale, &y_full_scale];
        for (place, parts) in RANGES_OF[index].into_iter().zip(ranges) {
            sums.per_head[place] += lane_sum([&parts[..]], |[part]| part);
        }
        for (parameter, sum) in sums.per_head[NOISE + 4 * index..][..4].iter_mut().enumerate() {
            *sum += lane_sum([noise.as_chunks::<4>().0], |[row]| row[parameter]);
        }
        Ok(())
    }

    /// Writes the gradient of the scores, and adds that of their scale if it is asked for.
    fn through_softmax(
        &self,
        block: &Block<'_, '_, '_>,
        ds: &mut [f32],
        dp: &[f32],
        p: &[f32],
        scores: &[f32],
        sums: &mut Sums<'_>,
    ) {
        let Head { call, place, seen, .. } = self.head;
        let seen = &seen[block.rows.clone()];
        let scale = call.scale.at(*place);
        let rows = SeenRows::of(block.count, seen, scale);
        if !self.with_ranges {
            return softmax_gradient(call.isa, ds, dp, p, rows, 0..seen.len());
        }
        softmax_gradient(
            call.isa,
            ds,
            dp,
            p,
            SeenRows::of(block.count, seen, &[1.0]),
            0..seen.len(),
        );
        let mut by_scale = 0.0;
        for ((ds, scores), (p, seen)) in ds
            .chunks_exact_mut(block.count)
            .zip(scores.chunks_exact(block.count))
            .zip(p.chunks_exact(block.count).zip(seen))
        {
            // Probability 0 has what is not seen, and what is bad.
            let term = |[p, ds, scores]: [f32; 3]| if p == 0.0 { 0.0 } else { ds * scores };
            let seen = usize::try_from(*seen).unwrap_or(0);
            by_scale += lane_sum([&p[..seen], ds, scores], term);
            ds.iter_mut().for_each(|ds| *ds *= scale[0]);
        }
        sums.per_head[0] += by_scale;
    }

    /// Adds the queries whose gradient is NaN to `bad`, by rows of probabilities and of outputs, or
    /// of their gradient.
    fn find_bad(&self, block: &Block<'_, '_, '_>, bad: &mut [usize], [p, of_out]: [&[f32]; 2]) {
        let Head { call, seen, .. } = self.head;
        let width = call.sizes.width;
        for (index, row) in block.rows.clone().enumerate() {
            let sees = seen[row] as usize;
            if sees == 0 {
                continue;
            }
            let of_out = &of_out[index * width..][..width];
            // Of a row of probabilities all are NaN, or none is.
            let is_bad = p[index * block.count].is_nan()
                || largest(call.isa, of_out) >= f32::INFINITY.to_bits();
            if is_bad {
                bad[index] = sees;
            }
        }
    }

    /// Clears the rows of matrices with so many columns that are bad, or see nothing.
    fn clear_bad(
        &self,
        block: &Block<'_, '_, '_>,
        bad: &[usize],
        matrices: &mut [(&mut [f32], usize)],
    ) {
        for (index, row) in block.rows.clone().enumerate() {
            if bad[index] > 0 || self.head.seen[row] == 0 {
                for (matrix, columns) in &mut *matrices {
                    matrix[index * *columns..][..*columns].fill(0.0);
                }
            }
        }
    }
}

/// The rows of a matrix with so many columns, as the depth of a product.
fn down_columns(matrix: &[f32], columns: usize) -> Lhs<'_> {
    Lhs { packed: bytemuck::cast_slice(matrix), row_stride: 1, depth_stride: columns }
}

/// The sum of parts that follow each other, each as long as `total`.
fn add_up(isa: crate::isa::Isa, total: &mut [f32], parts: &[f32]) {
    let mut parts = parts.chunks_exact(total.len());
    if let Some(first) = parts.next() {
        total.copy_from_slice(first);
    }
    parts.for_each(|part| accumulate(isa, total, part));
}
