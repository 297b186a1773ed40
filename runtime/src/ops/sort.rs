//! Sorting, and the largest elements.

use std::cmp::Reverse;

use lumina_kernels::{Attrs, DType, Entry, Error, Fact, Op, ParFor, View, ViewMut};

use super::common::{
    CHUNK, check_axes, chunked, element_arms, natural, operands, refuse, unsupported, with_element,
};
use super::lines::Lines;
use super::order::Ordered;

pub(super) static OPS: &[Entry] = &[Entry::of::<Sort>(), Entry::of::<TopK>()];

/// The operands, each line along `dimension` brought into the order of the first `num_keys`
/// operands: of elements that are equal in the first one, the second one decides, and so on. Equal
/// elements keep their order.
struct Sort {
    dimension: usize,
    num_keys: usize,
}

impl Op for Sort {
    const NAME: &'static str = "sort";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let read = |name| natural(Self::NAME, name, attrs.int(Self::NAME, name)?);
        Ok(Self { dimension: read("dimension")?, num_keys: read("num_keys")? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let Some(first) = inputs.first() else {
            return refuse(Self::NAME, "expected at least 1 operand, got 0".into());
        };
        if let Some(other) = inputs.iter().find(|other| other.shape != first.shape) {
            let message = format!("operands must have equal shapes, got {first} and {other}");
            return refuse(Self::NAME, message);
        }
        check_axes(Self::NAME, "dimension", &[self.dimension], first.shape.len())?;
        check_extent(Self::NAME, first, self.dimension)?;
        if self.num_keys == 0 || self.num_keys > inputs.len() {
            let (most, got) = (inputs.len(), self.num_keys);
            let message = format!(
                "attribute `num_keys` must be from 1 to the number of operands, {most}, got {got}"
            );
            return refuse(Self::NAME, message);
        }
        Ok(inputs.to_vec())
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let lines = Lines::along(inputs[0].shape(), self.dimension);
        let mut order = vec![0; lines.count * lines.extent];
        chunked(pool, &mut order, CHUNK, |start, order| {
            for (place, index) in (start..).zip(order) {
                *index = (place % lines.extent) as u32;
            }
        });
        // Stable sorts by one operand after the other, the one that decides first the last.
        for keys in inputs[..self.num_keys].iter().rev() {
            with_element!(keys.dtype(), T => reorder(keys.data::<T>()?, &lines, &mut order, pool));
        }
        for (x, out) in inputs.iter().zip(outputs) {
            with_element!(x.dtype(), T => {
                let x = x.data::<T>()?;
                lines.gather(out.data_mut::<T>()?, lines.extent, pool, |line, place| {
                    x[lines.position(line, order[line * lines.extent + place] as usize)]
                });
            });
        }
        Ok(())
    }
}

/// Sorts the indices of each line by what `keys` has at them.
fn reorder<T: Ordered>(keys: &[T], lines: &Lines, order: &mut [u32], pool: &dyn ParFor) {
    chunked(pool, order, lines.per_chunk() * lines.extent, |start, order| {
        let first = start / lines.extent;
        let mut keyed = Vec::with_capacity(lines.extent);
        for (line, order) in (first..).zip(order.chunks_mut(lines.extent)) {
            keyed.clear();
            let places = (0u32..).zip(order.iter());
            keyed.extend(places.map(|(place, &index)| {
                (keys[lines.position(line, index as usize)].key(), place, index)
            }));
            // Places differ, so equal keys stay in order.
            keyed.sort_unstable();
            for (index, &(_, _, sorted)) in order.iter_mut().zip(&keyed) {
                *index = sorted;
            }
        }
    });
}

/// The `k` largest elements along `axis`, the largest first, and their indices, i32; of equal ones
/// the first one first.
struct TopK {
    axis: usize,
    k: usize,
}

impl Op for TopK {
    const NAME: &'static str = "top_k";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let read = |name| natural(Self::NAME, name, attrs.int(Self::NAME, name)?);
        Ok(Self { axis: read("axis")?, k: read("k")? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        if matches!(x.dtype, DType::C64 | DType::C128) {
            return Err(unsupported(Self::NAME, "operand", x.dtype));
        }
        check_axes(Self::NAME, "axis", &[self.axis], x.shape.len())?;
        check_extent(Self::NAME, x, self.axis)?;
        if self.k > x.shape[self.axis] {
            let (axis, k) = (self.axis, self.k);
            let message =
                format!("attribute `k` must be at most the extent of axis {axis} of {x}, got {k}");
            return refuse(Self::NAME, message);
        }
        let mut shape = x.shape.clone();
        shape[self.axis] = self.k;
        Ok(vec![Fact::new(x.dtype, shape.as_slice()), Fact::new(DType::I32, shape)])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let [values, indices] = outputs else {
            return refuse(Self::NAME, "expected 2 outputs".into());
        };
        let lines = Lines::along(inputs[0].shape(), self.axis);
        if self.k == 0 || lines.count == 0 {
            return Ok(());
        }
        with_element!(inputs[0].dtype(), T => {
            let x = inputs[0].data::<T>()?;
            let order = largest(x, &lines, self.k, pool);
            let chosen = |line: usize, place: usize| order[line * self.k + place];
            lines.gather(values.data_mut::<T>()?, self.k, pool, |line, place| {
                x[lines.position(line, chosen(line, place) as usize)]
            });
            lines.gather(indices.data_mut::<i32>()?, self.k, pool, |line, place| {
                chosen(line, place) as i32
            });
        });
        Ok(())
    }
}

/// The indices of the `k` largest elements of each line, which has as many.
fn largest<T: Ordered>(x: &[T], lines: &Lines, k: usize, pool: &dyn ParFor) -> Vec<u32> {
    let mut order = vec![0; lines.count * k];
    chunked(pool, &mut order, lines.per_chunk() * k, |start, order| {
        let mut keyed = Vec::with_capacity(lines.extent);
        for (line, order) in (start / k..).zip(order.chunks_mut(k)) {
            keyed.clear();
            keyed.extend(
                (0..lines.extent).map(|index| {
                    (Reverse(x[lines.position(line, index)].total_key()), index as u32)
                }),
            );
            keyed.select_nth_unstable(k - 1);
            keyed[..k].sort_unstable();
            for (index, &(_, sorted)) in order.iter_mut().zip(&keyed) {
                *index = sorted;
            }
        }
    });
    order
}

fn check_extent(op: &'static str, x: &Fact, axis: usize) -> Result<(), Error> {
    if x.shape[axis] > i32::MAX as usize {
        return refuse(op, format!("axis {axis} must have at most 2^31-1 elements, got {x}"));
    }
    Ok(())
}
