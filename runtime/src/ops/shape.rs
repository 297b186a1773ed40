//! Ops that move elements of any type without changing them.

use lumina_kernels::{Attrs, Element, Error, Fact, Op, ParFor, View, ViewMut};

use super::common::{
    CHUNK, check_axes, chunked, natural, naturals, operands, strides, with_element,
};
use super::strided::Walk;

fn refuse<T>(op: &'static str, message: String) -> Result<T, Error> {
    Err(Error::invalid(op, message))
}

/// The whole of a tensor, in order.
fn copy(x: &View<'_>, out: &mut ViewMut<'_>, pool: &dyn ParFor) -> Result<(), Error> {
    let count = x.shape().iter().product();
    Walk::new(0, [(count, 1)]).copy(x, out, pool)
}

/// Axis i of the operand becomes axis `broadcast_dimensions[i]` of `shape`; extents of 1, and axes
/// that no operand axis became, repeat.
pub(super) struct BroadcastInDim {
    shape: Vec<usize>,
    dimensions: Vec<usize>,
}

impl Op for BroadcastInDim {
    const NAME: &'static str = "broadcast_in_dim";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let op = Self::NAME;
        let shape = naturals(op, "shape", attrs.ints(op, "shape")?)?;
        let name = "broadcast_dimensions";
        let dimensions = naturals(op, name, attrs.ints(op, name)?)?;
        check_axes(op, name, &dimensions, shape.len())?;
        Ok(Self { shape, dimensions })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        let fits = x.shape.len() == self.dimensions.len()
            && x.shape
                .iter()
                .zip(&self.dimensions)
                .all(|(&extent, &axis)| extent == 1 || extent == self.shape[axis]);
        if !fits {
            let (dimensions, shape) = (&self.dimensions, &self.shape);
            let message = format!(
                "{x} does not fit `shape` {shape:?} with `broadcast_dimensions` {dimensions:?}"
            );
            return refuse(Self::NAME, message);
        }
        Ok(vec![Fact::new(x.dtype, self.shape.as_slice())])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let x = &inputs[0];
        let mut result: Vec<(usize, isize)> = self.shape.iter().map(|&e| (e, 0)).collect();
        for (axis, stride) in strides(x.shape()).into_iter().enumerate() {
            if x.shape()[axis] != 1 {
                result[self.dimensions[axis]].1 = stride;
            }
        }
        Walk::new(0, result).copy(x, &mut outputs[0], pool)
    }
}

/// The same elements, row-major, in another shape.
pub(super) struct Reshape {
    shape: Vec<usize>,
}

impl Op for Reshape {
    const NAME: &'static str = "reshape";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let sizes = attrs.ints(Self::NAME, "new_sizes")?;
        Ok(Self { shape: naturals(Self::NAME, "new_sizes", sizes)? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        let count = |shape: &[usize]| {
            let empty = shape.contains(&0).then_some(0);
            empty.or_else(|| shape.iter().copied().try_fold(1, usize::checked_mul))
        };
        if count(&x.shape) != count(&self.shape) {
            let message = format!("{x} has not as many elements as `new_sizes` {:?}", self.shape);
            return refuse(Self::NAME, message);
        }
        Ok(vec![Fact::new(x.dtype, self.shape.as_slice())])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        copy(&inputs[0], &mut outputs[0], pool)
    }
}

/// Drops axes of extent 1.
pub(super) struct Squeeze {
    dimensions: Vec<usize>,
}

impl Op for Squeeze {
    const NAME: &'static str = "squeeze";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let dimensions = attrs.ints(Self::NAME, "dimensions")?;
        Ok(Self { dimensions: naturals(Self::NAME, "dimensions", dimensions)? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        check_axes(Self::NAME, "dimensions", &self.dimensions, x.shape.len())?;
        if self.dimensions.iter().any(|&axis| x.shape[axis] != 1) {
            let message = format!("`dimensions` {:?} of {x} must have extent 1", self.dimensions);
            return refuse(Self::NAME, message);
        }
        let kept = (0..x.shape.len()).filter(|axis| !self.dimensions.contains(axis));
        Ok(vec![Fact::new(x.dtype, kept.map(|axis| x.shape[axis]).collect::<Vec<_>>())])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        copy(&inputs[0], &mut outputs[0], pool)
    }
}

/// Axis i of the result is axis `permutation[i]` of the operand.
pub(super) struct Transpose {
    permutation: Vec<usize>,
}

impl Op for Transpose {
    const NAME: &'static str = "transpose";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let permutation = attrs.ints(Self::NAME, "permutation")?;
        Ok(Self { permutation: naturals(Self::NAME, "permutation", permutation)? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        check_axes(Self::NAME, "permutation", &self.permutation, x.shape.len())?;
        if self.permutation.len() != x.shape.len() {
            let message =
                format!("`permutation` {:?} must name each axis of {x}", self.permutation);
            return refuse(Self::NAME, message);
        }
        let shape: Vec<usize> = self.permutation.iter().map(|&axis| x.shape[axis]).collect();
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let (shape, strides) = (inputs[0].shape(), strides(inputs[0].shape()));
        let axes = self.permutation.iter().map(|&axis| (shape[axis], strides[axis]));
        Walk::new(0, axes).copy(&inputs[0], &mut outputs[0], pool)
    }
}

/// Every `strides[i]`-th index from `start_indices[i]` to below `limit_indices[i]`.
pub(super) struct Slice {
    starts: Vec<usize>,
    limits: Vec<usize>,
    steps: Vec<usize>,
}

impl Op for Slice {
    const NAME: &'static str = "slice";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let read = |name| naturals(Self::NAME, name, attrs.ints(Self::NAME, name)?);
        let (starts, limits) = (read("start_indices")?, read("limit_indices")?);
        let steps = read("strides")?;
        if steps.contains(&0) {
            let message = format!("attribute `strides` must be positive, got {steps:?}");
            return refuse(Self::NAME, message);
        }
        Ok(Self { starts, limits, steps })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        let Self { starts, limits, steps } = self;
        let fits = [starts, limits, steps].iter().all(|list| list.len() == x.shape.len())
            && (0..x.shape.len())
                .all(|axis| starts[axis] <= limits[axis] && limits[axis] <= x.shape[axis]);
        if !fits {
            let message = format!(
                "`start_indices` {starts:?} to `limit_indices` {limits:?} by `strides` {steps:?} \
                 does not lie in {x}"
            );
            return refuse(Self::NAME, message);
        }
        let extent = |axis: usize| (limits[axis] - starts[axis]).div_ceil(steps[axis]);
        let shape: Vec<usize> = (0..x.shape.len()).map(extent).collect();
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        if outputs[0].shape().contains(&0) {
            return Ok(());
        }
        let strides = strides(inputs[0].shape());
        let base: usize =
            self.starts.iter().zip(&strides).map(|(&start, &s)| start * s as usize).sum();
        let axes = outputs[0].shape().iter().zip(&strides).zip(&self.steps);
        // A step beyond the only index of an axis is never taken, however long it is.
        let axes = axes.map(|((&extent, &stride), &step)| match extent {
            1 => (1, 0),
            _ => (extent, stride * step as isize),
        });
        Walk::new(base, axes).copy(&inputs[0], &mut outputs[0], pool)
    }
}

/// The axes `dimensions` in reverse order.
pub(super) struct Rev {
    dimensions: Vec<usize>,
}

impl Op for Rev {
    const NAME: &'static str = "rev";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let dimensions = attrs.ints(Self::NAME, "dimensions")?;
        Ok(Self { dimensions: naturals(Self::NAME, "dimensions", dimensions)? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        check_axes(Self::NAME, "dimensions", &self.dimensions, x.shape.len())?;
        Ok(vec![x.clone()])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let (shape, mut strides) = (inputs[0].shape(), strides(inputs[0].shape()));
        if shape.contains(&0) {
            return Ok(());
        }
        let mut base = 0;
        for &axis in &self.dimensions {
            base += (shape[axis] - 1) * strides[axis] as usize;
            strides[axis] = -strides[axis];
        }
        let axes = shape.iter().copied().zip(strides);
        Walk::new(base, axes).copy(&inputs[0], &mut outputs[0], pool)
    }
}

/// The operands one after the other along the axis `dimension`.
pub(super) struct Concatenate {
    dimension: usize,
}

impl Op for Concatenate {
    const NAME: &'static str = "concatenate";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let dimension = attrs.int(Self::NAME, "dimension")?;
        Ok(Self { dimension: natural(Self::NAME, "dimension", dimension)? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let Some(first) = inputs.first() else {
            return refuse(Self::NAME, "expected at least 1 operand, got 0".into());
        };
        check_axes(Self::NAME, "dimension", &[self.dimension], first.shape.len())?;
        let mut result = first.clone();
        for other in &inputs[1..] {
            let fits = other.dtype == first.dtype
                && other.shape.len() == first.shape.len()
                && (0..first.shape.len())
                    .all(|axis| axis == self.dimension || other.shape[axis] == first.shape[axis]);
            if !fits {
                let axis = self.dimension;
                let message = format!(
                    "operands must be alike but along axis {axis}, got {first} and {other}"
                );
                return refuse(Self::NAME, message);
            }
            let extent = &mut result.shape[self.dimension];
            // What is too large for a buffer is refused by its size, whatever it is.
            *extent = extent.saturating_add(other.shape[self.dimension]);
        }
        Ok(vec![result])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        with_element!(inputs[0].dtype(), T => self.join::<T>(inputs, &mut outputs[0], pool))
    }
}

impl Concatenate {
    fn join<T: Element>(
        &self,
        inputs: &[View<'_>],
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        // What lies together of each operand, and of the result.
        let row = |shape: &[usize]| shape[self.dimension..].iter().product::<usize>();
        let parts = inputs
            .iter()
            .map(|x| Ok((x.data::<T>()?, row(x.shape()))))
            .collect::<Result<Vec<_>, Error>>()?;
        let width = row(out.shape());
        let rows = (CHUNK / width.max(1)).max(1);
        chunked(pool, out.data_mut::<T>()?, rows * width, |start, out| {
            for (index, mut out) in (start / width..).zip(out.chunks_mut(width)) {
                for &(part, length) in &parts {
                    let (piece, rest) = out.split_at_mut(length);
                    piece.copy_from_slice(&part[index * length..(index + 1) * length]);
                    out = rest;
                }
            }
        });
        Ok(())
    }
}

/// Pieces of `sizes` along `axis`, one output each.
pub(super) struct Split {
    sizes: Vec<usize>,
    axis: usize,
}

impl Op for Split {
    const NAME: &'static str = "split";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let sizes = naturals(Self::NAME, "sizes", attrs.ints(Self::NAME, "sizes")?)?;
        let axis = natural(Self::NAME, "axis", attrs.int(Self::NAME, "axis")?)?;
        Ok(Self { sizes, axis })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        check_axes(Self::NAME, "axis", &[self.axis], x.shape.len())?;
        let sum = self.sizes.iter().copied().try_fold(0, usize::checked_add);
        if sum != Some(x.shape[self.axis]) {
            let (sizes, axis) = (&self.sizes, self.axis);
            let message = format!("`sizes` {sizes:?} must add up to axis {axis} of {x}");
            return refuse(Self::NAME, message);
        }
        let piece = |&size: &usize| {
            let mut piece = x.clone();
            piece.shape[self.axis] = size;
            piece
        };
        Ok(self.sizes.iter().map(piece).collect())
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let strides = strides(inputs[0].shape());
        let mut base = 0;
        for (out, &size) in outputs.iter_mut().zip(&self.sizes) {
            if !out.shape().contains(&0) {
                let axes = out.shape().iter().copied().zip(strides.iter().copied());
                Walk::new(base, axes).copy(&inputs[0], out, pool)?;
            }
            base += size * strides[self.axis] as usize;
        }
        Ok(())
    }
}

/// The operand with `interior` elements of padding between its own, `low` before and `high` after
/// them on each axis; negative numbers of them cut off. The padding is the second operand, of
/// rank 0.
pub(super) struct Pad {
    low: Vec<i64>,
    high: Vec<i64>,
    interior: Vec<usize>,
}

impl Op for Pad {
    const NAME: &'static str = "pad";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let interior = attrs.ints(Self::NAME, "interior")?;
        Ok(Self {
            low: attrs.ints(Self::NAME, "low")?.to_vec(),
            high: attrs.ints(Self::NAME, "high")?.to_vec(),
            interior: naturals(Self::NAME, "interior", interior)?,
        })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x, padding] = operands(Self::NAME, inputs)?;
        if *padding != Fact::new(x.dtype, []) {
            let message = format!("`padding` must be {}[], got {padding}", x.dtype);
            return refuse(Self::NAME, message);
        }
        let Self { low, high, interior } = self;
        let rank = x.shape.len();
        let extent = |axis: usize| {
            let own = x.shape[axis] as i128;
            let between = interior[axis] as i128 * (own - 1).max(0);
            usize::try_from(own + between + i128::from(low[axis]) + i128::from(high[axis])).ok()
        };
        let shape: Option<Vec<usize>> = [low.len(), high.len(), interior.len()]
            .iter()
            .all(|&length| length == rank)
            .then(|| (0..rank).map(extent).collect())
            .flatten();
        match shape {
            Some(shape) => Ok(vec![Fact::new(x.dtype, shape)]),
            None => refuse(
                Self::NAME,
                format!("`low` {low:?}, `high` {high:?}, `interior` {interior:?} do not fit {x}"),
            ),
        }
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        with_element!(inputs[0].dtype(), T => self.pad::<T>(inputs, &mut outputs[0], pool))
    }
}

impl Pad {
    fn pad<T: Element>(
        &self,
        inputs: &[View<'_>],
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let (x, padding) = (inputs[0].data::<T>()?, inputs[1].data::<T>()?[0]);
        let shape = out.shape();
        let strides = strides(inputs[0].shape());
        // Where along each axis the element at an index comes from, unless it is padding.
        let source = |axis: usize, index: usize| {
            let own = index as i128 - i128::from(self.low[axis]);
            let step = self.interior[axis] as i128 + 1;
            let position = usize::try_from(own / step).ok().filter(|_| own >= 0 && own % step == 0);
            position
                .filter(|&position| position < inputs[0].shape()[axis])
                .map(|position| position * strides[axis] as usize)
        };
        chunked(pool, out.data_mut::<T>()?, CHUNK, |start, out| {
            for (index, out) in (start..).zip(out) {
                let mut rest = index;
                let mut position = Some(0);
                for (axis, &extent) in shape.iter().enumerate().rev() {
                    let along = source(axis, rest % extent);
                    position = position.zip(along).map(|(sum, along)| sum + along);
                    rest /= extent;
                }
                *out = position.map_or(padding, |position| x[position]);
            }
        });
        Ok(())
    }
}
