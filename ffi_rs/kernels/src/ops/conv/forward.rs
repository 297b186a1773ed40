//! The forward pass of a convolution.
//!
//! ```text
//! peaks of x    each image, where they are wanted or are the range of the DAC
//! pack w        each group
//! rows          some of them at a time: patches, and the chain with one product for each group
//! ```
//!
//! Patches exist for as many rows as a cache of a core holds, and the bits are those of the product
//! with all of them, as no row of it depends on another.

use std::ops::{DerefMut, Range};
use std::sync::Arc;

use super::OfProduct;
use super::geometry::{Geometry, Shape};
use super::groups::{are_small, is_by_output, matrices, merged};
use super::operands::{Operands, of_group};
use super::patches::Patches;
use crate::disjoint::{AtomicMax, DisjointMut};
use crate::isa::Isa;
use crate::ops::Dequantize;
use crate::ops::chain::{Chain, Residual, Saved, check_ranges_and_noise, extents};
use crate::ops::forward::{self, Request, fact_of_weights};
use crate::par::{Serial, parallel_if};
use crate::scratch::Scratch;
use crate::tuning::{CONV_PATCHES, CONV_ROWS};
use crate::{Attrs, DType, Data, Error, Fact, ParFor, View, Work};

/// What the op writes.
pub(crate) struct Outputs<'a> {
    pub(crate) out: &'a mut [f32],
    pub(crate) saved: Option<Saved<&'a mut [f32], &'a mut [i8]>>,
    /// By image, max |y|.
    pub(crate) peak: Option<&'a mut [f32]>,
    /// By image, max |x| of the patches.
    pub(crate) x_peak: Option<&'a mut [f32]>,
    /// By column, max |w|.
    pub(crate) w_peak: Option<&'a mut [f32]>,
}

/// The attributes of the forward pass, and what is prepared.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    geometry: Geometry,
    chain: Chain,
    /// The chain with the product of one group.
    product: Request,
    /// The same with packed weights, where those never change.
    packed: Option<Packed>,
    /// Where the operands of this op are there in place of the kernel, which is what they give.
    codes: Option<Dequantize>,
}

/// Products with packed weights, each of so many groups.
#[derive(Clone, Debug)]
struct Packed {
    count: usize,
    products: Arc<[Request]>,
}

impl Forward {
    pub(crate) fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self {
            geometry: Geometry::from_attrs(op, attrs)?,
            chain: Chain { finds_ranges: true, ..Chain::from_attrs(op, attrs)? },
            product: Request::from_attrs(op, false, &OfProduct(attrs))?,
            packed: None,
            codes: None,
        })
    }

    /// The extents that the operands give, all of which are checked: from x to columns.
    pub(crate) fn shape(&self, inputs: &[Fact]) -> Result<Shape, Error> {
        let chain = &self.chain;
        let Some((x, of_w, [bias, others @ ..])) = self.product.split(inputs) else {
            let expected = if self.codes.is_some() { 13 } else { 10 };
            let message = format!("expected {expected} operands, got {}", inputs.len());
            return Err(chain.refuse(message));
        };
        let shape = self.geometry.shape(x, &fact_of_weights(self.codes.as_ref(), of_w)?)?;
        extents(chain.op, "bias", bias, DType::F32, &[&[1, shape.columns]])?;
        check_ranges_and_noise(chain, others, shape.images, shape.columns)?;
        Ok(shape)
    }

    /// The same with the operands of `codes` in place of the kernel, where the product of the only group
    /// takes them as they are.
    pub(crate) fn with_codes(
        &self,
        codes: &Dequantize,
        full_scale: Option<View<'_>>,
        coded: &[View<'_>],
    ) -> Option<Self> {
        let kernel = Fact::new(DType::F32, codes.shape());
        let shape =
            self.geometry.shape_of_weights(&kernel).ok().filter(|shape| shape.groups == 1)?;
        let matrix = codes.reshaped([shape.depth, shape.columns]);
        let product = self.product.with_codes(&matrix, full_scale, coded)?;
        Some(Self { product, codes: Some(codes.clone()), packed: None, ..self.clone() })
    }

    /// What the op saves: of each array on its own, where these have a limited number of inputs.
    pub(crate) fn residual(&self, kind: Residual, inputs: &[Fact]) -> Result<Fact, Error> {
        Ok(Fact::new(kind.dtype(DType::F32), self.shape(inputs)?.residual(&self.chain)))
    }

    /// What a run takes.
    pub(crate) fn work(&self, inputs: &[Fact], outputs: &[Fact]) -> Result<Work, Error> {
        Ok(Work::of_matmuls(1, self.shape(inputs)?.extents(), inputs, outputs))
    }

    /// The same with packed weights, where the weights and their ranges are constant; None where
    /// they are not, or are multiplied as they lie in memory.
    pub(crate) fn prepared(&self, constants: &[Option<View<'_>>]) -> Result<Option<Self>, Error> {
        let (Some(Some(kernel)), Some(Some(full_scale)), None) =
            (constants.get(1), constants.get(4), &self.codes)
        else {
            return Ok(None);
        };
        let shape = self.geometry.shape_of_weights(&kernel.fact())?;
        let noise = constants.get(6).copied().flatten();
        let is_by_output = match noise {
            Some(noise) => noise.data()?.chunks_exact(4).all(|noise: &[f32]| noise[3] == 0.0),
            None => !self.chain.noisy,
        };
        let count = if is_by_output { merged(&shape, &self.chain) } else { 1 };
        let matrices = matrices(kernel.data()?, &shape, count);
        let products = self.pack(&shape.merged(count), &matrices, full_scale.data()?)?;
        let packed = products.map(|products| Packed { count, products: products.into() });
        Ok(packed.map(|packed| Self { packed: Some(packed), ..self.clone() }))
    }

    /// Bytes of the packed weights, where there are some.
    pub(crate) fn held_bytes(&self) -> usize {
        let products = self.packed.iter().flat_map(|packed| packed.products.iter());
        products.map(Request::held_bytes).sum()
    }

    /// The product of each group with packed weights; None where there is nothing to pack.
    fn pack(
        &self,
        shape: &Shape,
        matrices: &[f32],
        full_scale: &[f32],
    ) -> Result<Option<Vec<Request>>, Error> {
        let sides = [shape.depth, shape.columns_of_group()];
        let of_group = |group: usize| {
            let range = of_group(full_scale, shape, group);
            let extent = [range.len()];
            let size = sides[0] * sides[1];
            let w = View::new(&sides, Data::F32(&matrices[group * size..][..size]))?;
            let range = View::new(&extent, Data::F32(range))?;
            self.product.prepared(&[None, Some(w), None, None, Some(range)])
        };
        (0..shape.groups).map(of_group).collect()
    }

    /// Computes the outputs for `inputs`, which are checked.
    pub(crate) fn run(
        &self,
        inputs: &[View<'_>],
        outputs: Outputs<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let (x, of_w, others) = self.product.split(inputs).expect("the operands are checked");
        let facts: Vec<Fact> = of_w.iter().map(View::fact).collect();
        let shape =
            self.geometry.shape(&x.fact(), &fact_of_weights(self.codes.as_ref(), &facts)?)?;
        let pool = parallel_if(pool, shape.groups * shape.sizes().nanoseconds(1, 4));
        let (isa, x) = (Isa::detect(), x.data()?);
        let operands = Operands::new(&others[1..], self.chain.with_ids)?;
        let mut count = merged(&shape, &self.chain);
        if count > 1 && !(is_by_output(&self.chain, &operands) && are_small(isa, x, pool)) {
            count = 1;
        }
        let packed = self.packed.as_ref().filter(|packed| packed.count == count);
        let kernel: &[f32] = if self.codes.is_some() { &[] } else { of_w[0].data()? };
        let matrices = matrices(kernel, &shape, count);
        let shape = shape.merged(count);
        let mut call = Call {
            isa,
            request: self,
            patches: Patches { geometry: self.geometry, shape },
            x,
            matrices: &matrices,
            of_w,
            bias: others[0].data()?,
            operands,
            packed: &[],
        };
        call.find_x_range(outputs.x_peak, pool);
        if let Some(peaks) = outputs.w_peak {
            call.find_w_peaks(peaks)?;
        }
        let shared = Shared {
            out: DisjointMut::new(outputs.out),
            saved: outputs.saved.map(|saved| saved.map(DisjointMut::new, DisjointMut::new)),
            peak: outputs.peak.map(AtomicMax::new),
        };
        let chunk = call.rows_of_chunk(pool.width());
        let chunks = shape.rows.div_ceil(chunk);
        let own;
        call.packed = match packed {
            Some(packed) => &packed.products,
            None if chunks > 1 && self.codes.is_none() => {
                own = self.pack(&shape, &matrices, call.operands.w_full_scale)?;
                own.as_deref().unwrap_or(&[])
            }
            None => &[],
        };
        // The product itself is for all threads where there is no more than one.
        let (outer, inner) = if chunks > 1 {
            (pool, &Serial as &dyn ParFor)
        } else {
            (&Serial as &dyn ParFor, pool)
        };
        outer.run(chunks, &|index, _| {
            let rows = index * chunk..shape.rows.min((index + 1) * chunk);
            call.compute(&rows, &shared, inner).expect("the operands are checked");
        });
        Ok(())
    }
}

/// One call.
struct Call<'a> {
    isa: Isa,
    request: &'a Forward,
    patches: Patches,
    x: &'a [f32],
    /// Of each group, depth × columns.
    matrices: &'a [f32],
    /// The operands that give the kernel.
    of_w: &'a [View<'a>],
    bias: &'a [f32],
    operands: Operands<'a>,
    /// The products of the groups with packed weights, or nothing.
    packed: &'a [Request],
}

/// What the chunks write.
struct Shared<'a> {
    out: DisjointMut<'a, f32>,
    saved: Option<Saved<DisjointMut<'a, f32>, DisjointMut<'a, i8>>>,
    peak: Option<AtomicMax<'a>>,
}

impl Call<'_> {
    /// Rows that are computed together, by so many workers.
    fn rows_of_chunk(&self, workers: usize) -> usize {
        let Shape { rows, depth, .. } = self.patches.shape;
        let most = (CONV_PATCHES / depth.max(1) / 8 * 8).clamp(8, CONV_ROWS);
        if rows <= 8 * workers {
            rows.max(1)
        } else {
            rows.div_ceil(4 * workers).next_multiple_of(8).min(most)
        }
    }

    /// Finds the peaks of the images where they are wanted, and the range of x where it is not given.
    fn find_x_range(&mut self, peaks: Option<&mut [f32]>, pool: &dyn ParFor) {
        let images = self.patches.shape.images;
        let finds = self.operands.x_full_scale.is_empty() && !self.request.chain.dac.is_off();
        let mut own = Scratch::new(if finds && peaks.is_none() { images } else { 0 });
        let peaks = match peaks {
            Some(peaks) => peaks,
            None if finds => &mut own,
            None => return,
        };
        let met = self.patches.met();
        let shared = DisjointMut::new(peaks);
        pool.run(images, &|image, _| {
            let peak = self.patches.peak(self.isa, self.x, image, &met);
            shared.write(image..image + 1)[0] = peak;
        });
        if finds {
            let range = peaks.iter().fold(0.0, |range: f32, peak| range.max(*peak));
            self.operands.x_full_scale = vec![range].into();
        }
    }

    /// Finds the peaks of the columns of w.
    fn find_w_peaks(&self, peaks: &mut [f32]) -> Result<(), Error> {
        let width = self.patches.shape.columns_of_group().max(1);
        for (group, peaks) in peaks.chunks_exact_mut(width).enumerate() {
            let outputs = forward::Outputs { w_peak: Some(peaks), ..forward::Outputs::of(&mut []) };
            self.multiply(&(0..0), group, &[], outputs, &Serial)?;
        }
        Ok(())
    }

    /// Computes some rows of all groups.
    fn compute(
        &self,
        rows: &Range<usize>,
        shared: &Shared<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let shape = &self.patches.shape;
        let (all, columns) = (shape.columns, shape.columns_of_group());
        // Of each row, every array has what is saved.
        let tiles = self.request.chain.tiles(shape.depth).count();
        let saved_rows = rows.start * tiles..rows.end * tiles;
        let mut patches = Scratch::new(rows.len() * shape.depth);
        let mut peaks = Scratch::new(if shared.peak.is_some() { rows.len() } else { 0 });
        for group in 0..shape.groups {
            self.patches.gather(&mut patches, self.x, rows.clone(), group);
            let peak = shared.peak.is_some().then_some(&mut peaks[..]);
            if shape.groups == 1 {
                let part = rows.start * all..rows.end * all;
                let mut out = shared.out.write(part.clone());
                let part = saved_rows.start * all..saved_rows.end * all;
                let mut saved = shared.saved.as_ref().map(|saved| {
                    saved.as_ref().map(|y| y.write(part.clone()), |signs| signs.write(part.clone()))
                });
                let outputs = outputs_of(&mut out, &mut saved, peak);
                self.multiply(rows, group, &patches, outputs, pool)?;
            } else {
                let size = saved_rows.len() * columns;
                let mut out = Scratch::<f32>::new(rows.len() * columns);
                let mut saved = shared.saved.as_ref().map(|saved| {
                    saved.as_ref().map(|_| Scratch::<f32>::new(size), |_| Scratch::<i8>::new(size))
                });
                let outputs = outputs_of(&mut out, &mut saved, peak);
                self.multiply(rows, group, &patches, outputs, pool)?;
                let of_group = group * columns..(group + 1) * columns;
                let place = |rows| Place { stride: all, rows, columns: of_group.clone() };
                place(rows).write(&shared.out, &out);
                let place = place(&saved_rows);
                match (&shared.saved, &saved) {
                    (Some(Saved::PreNoise(to)), Some(Saved::PreNoise(from)))
                    | (Some(Saved::Slope(to)), Some(Saved::Slope(from))) => place.write(to, from),
                    (Some(Saved::Signs(to)), Some(Saved::Signs(from))) => place.write(to, from),
                    _ => {}
                }
            }
            if let Some(of_images) = &shared.peak {
                for (row, peak) in rows.clone().zip(&*peaks) {
                    of_images.raise(row / shape.positions(), *peak);
                }
            }
        }
        Ok(())
    }

    /// The chain with the product of one group, for rows of which these are the patches.
    fn multiply(
        &self,
        rows: &Range<usize>,
        group: usize,
        patches: &[f32],
        outputs: forward::Outputs<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let shape = &self.patches.shape;
        let (depth, columns) = (shape.depth, shape.columns_of_group());
        let bias = of_group(self.bias, shape, group);
        let shapes = ([rows.len(), depth], [depth, columns], [bias.len()]);
        let part = self.operands.of(shape, rows, group);
        let mut inputs = vec![View::new(&shapes.0, Data::F32(patches))?];
        if self.request.codes.is_some() {
            inputs.extend(self.of_w);
        } else {
            let w = &self.matrices[group * depth * columns..][..depth * columns];
            inputs.push(View::new(&shapes.1, Data::F32(w))?);
        }
        inputs.push(View::new(&shapes.2, Data::F32(bias))?);
        inputs.extend(part.views()?);
        let request = self.packed.get(group).unwrap_or(&self.request.product);
        forward::run(request, &inputs, outputs, pool)
    }
}

/// Where a group stands in the rows of all.
struct Place<'a> {
    stride: usize,
    rows: &'a Range<usize>,
    columns: Range<usize>,
}

impl Place<'_> {
    fn write<T: Copy>(&self, to: &DisjointMut<'_, T>, from: &[T]) {
        let mut tile = to.tile(self.stride, self.rows.clone(), self.columns.clone());
        for (to, from) in tile.rows_mut().zip(from.chunks_exact(self.columns.len().max(1))) {
            to.copy_from_slice(from);
        }
    }
}

/// Outputs of the chain with one product.
fn outputs_of<'a, F: DerefMut<Target = [f32]>, B: DerefMut<Target = [i8]>>(
    out: &'a mut [f32],
    saved: &'a mut Option<Saved<F, B>>,
    peak: Option<&'a mut [f32]>,
) -> forward::Outputs<'a> {
    let saved = saved.as_mut().map(|saved| match saved {
        Saved::PreNoise(y) => Saved::PreNoise(&mut **y),
        Saved::Slope(slope) => Saved::Slope(&mut **slope),
        Saved::Signs(signs) => Saved::Signs(&mut **signs),
    });
    forward::Outputs { saved, peak, ..forward::Outputs::of(out) }
}
