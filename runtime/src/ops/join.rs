//! Ops that put tensors of any type together, take them apart, or put a rim around them.

use lumina_kernels::{
    Attrs, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut, row_major_strides,
};

use super::common::{
    CHUNK, check_axes, chunked, element_arms, natural, naturals, operands, refuse, with_element,
};
use super::strided::copy_layout;

pub(super) static OPS: &[Entry] =
    &[Entry::of::<Concatenate>(), Entry::of::<Split>(), Entry::of::<Pad>()];

/// The operands one after the other along the axis `dimension`.
struct Concatenate {
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
        let mut parts = inputs
            .iter()
            .map(|x| Ok((x.data::<T>()?, row(x.shape()))))
            .collect::<Result<Vec<_>, Error>>()?;
        // Those of which nothing lies in a row must not be asked for each row.
        parts.retain(|&(_, length)| length > 0);
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
struct Split {
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
        with_element!(inputs[0].dtype(), T => {
            let x = inputs[0].strided_data::<T>()?;
            let (mut starts, mut limits) = (vec![0; x.shape.len()], x.shape.to_vec());
            let steps = vec![1; x.shape.len()];
            for (out, &size) in outputs.iter_mut().zip(&self.sizes) {
                limits[self.axis] = starts[self.axis] + size;
                let piece = x.layout().sliced(&starts, &limits, &steps);
                copy_layout(x.data, &piece, out, pool)?;
                starts[self.axis] += size;
            }
            Ok(())
        })
    }

    fn accepts_strides(&self) -> bool {
        true
    }
}

/// The operand with `interior` elements of padding between its own, `low` before and `high` after
/// them on each axis; negative numbers of them cut off. The padding is the second operand, of
/// rank 0.
struct Pad {
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
        let strides = row_major_strides(inputs[0].shape());
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
