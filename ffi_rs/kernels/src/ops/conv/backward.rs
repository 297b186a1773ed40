//! The gradient of a convolution.
//!
//! ```text
//! for each part, and each block of its images:
//!     for each unit of their rows, and each group:
//!         patches, and the gradient of the chain with one product
//!         dx        of the images: the gradients of the patches, added up
//!         sums      dw and what else is a sum over rows
//! finish            the sums of the parts, in order
//! ```
//!
//! Parts go side by side where there are several, and each is added up by one worker; else all workers
//! share the products. How many there are, and so the order of the sums, depends on the sizes alone.
//! Patches and their gradients exist for one unit at a time.

use std::borrow::Cow;
use std::ops::Range;

use super::OfProduct;
use super::geometry::{Geometry, Shape};
use super::groups::{add_matrices, are_small, is_by_output, matrices, merged};
use super::operands::Operands;
use super::patches::{Patches, add};
use crate::disjoint::DisjointMut;
use crate::isa::Isa;
use crate::ops::backward::{self, Request};
use crate::ops::chain::{NO_SLOPE, Residual, Saved, accumulate, check_ranges_and_noise, extents};
use crate::ops::sizes::Sizes;
use crate::par::{Serial, parallel_if};
use crate::scratch::Scratch;
use crate::{Attrs, DType, Data, Error, Fact, ParFor, View, Work};

/// Numbers of the patches of a unit, at least [`ROWS`] of them.
const UNIT: usize = 1 << 18;
/// Rows that share scales with `int8`: a unit has them, or several times as many.
const ROWS: usize = 256;
/// Rows of a unit at most.
const MOST_ROWS: usize = 4 * ROWS;
/// Parts at most.
const MOST_PARTS: usize = 8;

/// The results of the op.
pub(crate) struct Gradients<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) kernel: &'a mut [f32],
    pub(crate) bias: &'a mut [f32],
    /// By image.
    pub(crate) x_full_scale: &'a mut [f32],
    pub(crate) w_full_scale: &'a mut [f32],
    pub(crate) y_full_scale: &'a mut [f32],
    /// By image.
    pub(crate) noise: &'a mut [f32],
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Backward {
    geometry: Geometry,
    /// The gradient of the chain with the product of one group.
    product: Request,
}

impl Backward {
    pub(crate) fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self {
            geometry: Geometry::from_attrs(op, attrs)?,
            product: backward::Request::from_attrs(op, false, &OfProduct(attrs))?,
        })
    }

    /// The extents that the operands give, all of which are checked.
    pub(crate) fn shape(&self, inputs: &[Fact]) -> Result<Shape, Error> {
        let Request { chain, residual, .. } = &self.product;
        let [g, saved, x, kernel, others @ ..] = inputs else {
            return Err(chain.refuse(format!("expected 11 operands, got {}", inputs.len())));
        };
        let shape = self.geometry.shape(x, kernel)?;
        let (out, of_arrays) = (shape.out(), shape.residual(chain));
        extents(chain.op, "g", g, DType::F32, &each(&out))?;
        extents(chain.op, "saved", saved, residual.dtype(DType::F32), &each(&of_arrays))?;
        check_ranges_and_noise(chain, others, shape.images, shape.columns)?;
        Ok(shape)
    }

    /// What a run takes.
    pub(crate) fn work(&self, inputs: &[Fact], outputs: &[Fact]) -> Result<Work, Error> {
        let products = 1 + u64::from(self.product.with_inputs);
        Ok(Work::of_matmuls(products, self.shape(inputs)?.extents(), inputs, outputs))
    }

    /// Computes the gradients that are asked for; the others are zero.
    pub(crate) fn run(
        &self,
        inputs: &[View<'_>],
        gradients: Gradients<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let shape = self.geometry.shape(&inputs[2].fact(), &inputs[3].fact())?;
        let Gradients { x: dx, kernel, bias, x_full_scale, w_full_scale, y_full_scale, noise } =
            gradients;
        for values in [&mut *kernel, &mut *bias, &mut *w_full_scale, &mut *y_full_scale] {
            values.fill(0.0);
        }
        if shape.images == 0 {
            return Ok(());
        }
        let (isa, chain) = (Isa::detect(), &self.product.chain);
        let pool = parallel_if(pool, shape.groups * shape.sizes().nanoseconds(2, 4));
        let saved = match self.product.residual {
            Residual::PreNoise => Saved::PreNoise(inputs[1].data()?),
            Residual::Slope => Saved::Slope(inputs[1].data()?),
            Residual::Signs => Saved::Signs(inputs[1].data()?),
        };
        let (g, x, w) = (inputs[0].data()?, inputs[2].data()?, inputs[3].data()?);
        let operands = Operands::new(&inputs[4..], chain.with_ids)?;
        let is_small = |values: &[f32]| are_small(isa, values, pool);
        let ranges = [operands.w_full_scale, operands.y_full_scale];
        let mut count = merged(&shape, chain);
        let changes_nothing = || {
            is_by_output(chain, &operands)
                && [g, x, w, operands.noise].into_iter().all(is_small)
                && ranges.into_iter().flatten().all(|range| *range >= 0.0 && range.is_finite())
                && match saved {
                    Saved::PreNoise(values) | Saved::Slope(values) => is_small(values),
                    Saved::Signs(signs) => !signs.contains(&NO_SLOPE),
                }
        };
        if count > 1 && !changes_nothing() {
            count = 1;
        }
        let (of_groups, shape) = (shape, shape.merged(count));
        let matrices = matrices(w, &of_groups, count);
        let call = Call {
            isa,
            request: &self.product,
            patches: Patches { geometry: self.geometry, shape },
            g,
            saved,
            x,
            matrices: &matrices,
            operands,
            dx: DisjointMut::new(dx),
            x_full_scale: DisjointMut::new(x_full_scale),
            noise: DisjointMut::new(noise),
        };
        let (blocks, parts, size) = (call.blocks(), call.parts(), call.sums());
        let mut memory = Scratch::new(parts * size);
        memory.fill(0.0);
        let shared = DisjointMut::new(&mut memory);
        let serial: &dyn ParFor = &Serial;
        let (outer, inner) = if parts > 1 { (pool, serial) } else { (serial, pool) };
        outer.run(parts, &|part, _| {
            let mut sums = shared.write(part * size..(part + 1) * size);
            let mut sums = Sums::of(&mut sums, &shape);
            for block in part * blocks / parts..(part + 1) * blocks / parts {
                call.add_block(block, &mut sums, inner).expect("the operands are checked");
            }
        });
        for part in 0..parts {
            let sums = Sums::of(&mut memory[part * size..][..size], &shape);
            for (total, sum) in [
                (&mut *bias, sums.bias),
                (&mut *w_full_scale, sums.w_full_scale),
                (&mut *y_full_scale, sums.y_full_scale),
            ] {
                accumulate(call.isa, total, sum);
            }
            add_matrices(kernel, sums.w, &of_groups, count);
        }
        Ok(())
    }
}

/// What is summed over rows.
struct Sums<'a> {
    /// Of each group, depth × columns.
    w: &'a mut [f32],
    bias: &'a mut [f32],
    w_full_scale: &'a mut [f32],
    y_full_scale: &'a mut [f32],
}

impl<'a> Sums<'a> {
    /// In `memory`.
    fn of(memory: &'a mut [f32], shape: &Shape) -> Self {
        let (w, rest) = memory.split_at_mut(shape.depth * shape.columns);
        let (bias, rest) = rest.split_at_mut(shape.columns);
        let (w_full_scale, y_full_scale) = rest.split_at_mut(shape.columns);
        Self { w, bias, w_full_scale, y_full_scale }
    }
}

/// One call.
struct Call<'a> {
    isa: Isa,
    request: &'a Request,
    patches: Patches,
    g: &'a [f32],
    /// The residual of the forward op.
    saved: Saved<&'a [f32], &'a [i8]>,
    x: &'a [f32],
    /// Of each group, depth × columns.
    matrices: &'a [f32],
    operands: Operands<'a>,
    dx: DisjointMut<'a, f32>,
    /// By image.
    x_full_scale: DisjointMut<'a, f32>,
    noise: DisjointMut<'a, f32>,
}

impl Call<'_> {
    /// Rows of a unit.
    fn unit(&self) -> usize {
        let rows = UNIT / self.patches.shape.depth.max(1) / ROWS * ROWS;
        rows.clamp(ROWS, MOST_ROWS)
    }

    /// Images of a block: one, or as many as have the rows of a unit.
    fn images_of_block(&self) -> usize {
        (self.unit() / self.patches.shape.positions()).max(1)
    }

    fn blocks(&self) -> usize {
        self.patches.shape.images.div_ceil(self.images_of_block())
    }

    /// How many parts there are, whose sums take no more memory than x and the output.
    fn parts(&self) -> usize {
        let room = (self.x.len() + self.g.len()) / self.sums().max(1);
        self.blocks().min(room).clamp(1, MOST_PARTS)
    }

    /// How many sums a part has.
    fn sums(&self) -> usize {
        (self.patches.shape.depth + 3) * self.patches.shape.columns
    }

    /// Computes the gradients of some images, and adds to the sums over rows.
    fn add_block(&self, block: usize, sums: &mut Sums<'_>, pool: &dyn ParFor) -> Result<(), Error> {
        let shape = &self.patches.shape;
        let count = self.images_of_block();
        let images = block * count..shape.images.min((block + 1) * count);
        let mut dx = self.dx.write(images.start * shape.image()..images.end * shape.image());
        let mut x_full_scale = self.x_full_scale.write(images.clone());
        let mut noise = self.noise.write(4 * images.start..4 * images.end);
        dx.fill(0.0);
        x_full_scale.fill(0.0);
        noise.fill(0.0);
        let rows = images.start * shape.positions()..images.end * shape.positions();
        for first in rows.clone().step_by(self.unit()) {
            let rows = first..rows.end.min(first + self.unit());
            for group in 0..shape.groups {
                let part = self.of_group(&rows, group, sums, pool)?;
                if self.request.with_inputs {
                    let (patches, dx) = (&self.patches, &mut dx);
                    add(self.isa, dx, images.start, patches, &part.x, rows.clone(), group);
                }
                for (index, row) in rows.clone().enumerate() {
                    let image = row / shape.positions() - images.start;
                    x_full_scale[image] += part.x_full_scale[index];
                    accumulate(
                        self.isa,
                        &mut noise[4 * image..][..4],
                        &part.noise[4 * index..][..4],
                    );
                }
            }
        }
        Ok(())
    }

    /// The gradients of some rows of one group; what is summed over rows is added to `sums`.
    fn of_group(
        &self,
        rows: &Range<usize>,
        group: usize,
        sums: &mut Sums<'_>,
        pool: &dyn ParFor,
    ) -> Result<OfRows, Error> {
        let shape = &self.patches.shape;
        let (count, depth, columns) = (rows.len(), shape.depth, shape.columns_of_group());
        let mut patches = Scratch::new(count * depth);
        self.patches.gather(&mut patches, self.x, rows.clone(), group);
        let part = self.operands.of(shape, rows, group);
        let size = depth * columns;
        let shapes = ([count, columns], [count, depth], [depth, columns]);
        let chain = &self.request.chain;
        let tiles = chain.tiles(depth).count();
        let of_arrays = chain.residual_shape(&Sizes { rows: count, depth, columns });
        let saved_rows = rows.start * tiles..rows.end * tiles;
        let g = columns_of(self.g, shape, rows, group);
        let saved = self.saved.map(
            |floats| columns_of(floats, shape, &saved_rows, group),
            |bytes| columns_of(bytes, shape, &saved_rows, group),
        );
        let operands = [
            View::new(&shapes.0, Data::F32(&g))?,
            View::new(
                &of_arrays,
                match &saved {
                    Saved::PreNoise(values) | Saved::Slope(values) => Data::F32(values),
                    Saved::Signs(signs) => Data::I8(signs),
                },
            )?,
            View::new(&shapes.1, Data::F32(&patches))?,
            View::new(&shapes.2, Data::F32(&self.matrices[group * size..][..size]))?,
        ];
        let inputs: Vec<View<'_>> = operands.into_iter().chain(part.views()?).collect();
        let mut of_rows = OfRows {
            x: Scratch::new(count * depth),
            x_full_scale: Scratch::new(count),
            noise: Scratch::new(4 * count),
        };
        let mut memory = Scratch::new(size + 3 * columns);
        let (w, rest) = memory.split_at_mut(size);
        let (bias, rest) = rest.split_at_mut(columns);
        let (w_full_scale, y_full_scale) = rest.split_at_mut(columns);
        let gradients = backward::Gradients {
            x: &mut of_rows.x,
            w: &mut *w,
            bias: &mut *bias,
            x_full_scale: &mut of_rows.x_full_scale,
            w_full_scale: &mut *w_full_scale,
            y_full_scale: &mut *y_full_scale,
            noise: &mut of_rows.noise,
        };
        backward::run(self.request, &inputs, gradients, pool)?;
        accumulate(self.isa, &mut sums.w[group * size..][..size], w);
        let range = group * columns..(group + 1) * columns;
        accumulate(self.isa, &mut sums.bias[range.clone()], bias);
        accumulate(self.isa, &mut sums.w_full_scale[range.clone()], w_full_scale);
        accumulate(self.isa, &mut sums.y_full_scale[range], y_full_scale);
        Ok(of_rows)
    }
}

/// Gradients of some rows.
struct OfRows {
    /// Of the patches.
    x: Scratch<f32>,
    x_full_scale: Scratch<f32>,
    noise: Scratch<f32>,
}

/// The columns of a group of some rows.
fn columns_of<'a, T: Copy>(
    values: &'a [T],
    shape: &Shape,
    rows: &Range<usize>,
    group: usize,
) -> Cow<'a, [T]> {
    let values = &values[rows.start * shape.columns..rows.end * shape.columns];
    if shape.groups == 1 {
        return Cow::Borrowed(values);
    }
    let width = shape.columns_of_group();
    let rows = values.chunks_exact(shape.columns.max(1));
    rows.flat_map(|row| row[group * width..][..width].iter().copied()).collect()
}

/// The one extent that is allowed for each axis.
fn each(shape: &[usize]) -> Vec<&[usize]> {
    shape.iter().map(std::slice::from_ref).collect()
}
