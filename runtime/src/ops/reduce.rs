//! Ops that combine the elements along some axes.

use lumina_kernels::{
    Attrs, Bool, Complex32, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut, Work,
    row_major_strides,
};

use super::binary::{max, min};
use super::common::{check_axes, chunked, naturals, operands, unsupported};
use super::reductions::{Over, reduction_ops, reductions};
use super::strided::Walk;

/// Elements read per chunk.
const WORK: usize = 1 << 14;
/// Partial results of a contiguous run, so that it can use vector instructions.
const LANES: usize = 16;

/// The walks over the kept and over the reduced axes.
struct Partition {
    kept: Walk<1>,
    reduced: Walk<1>,
    reduced_count: usize,
}

impl Partition {
    fn new(shape: &[usize], axes: &[usize]) -> Self {
        let strides = row_major_strides(shape);
        let side = |reduced: bool| {
            let axes = (0..shape.len()).filter(move |axis| axes.contains(axis) == reduced);
            axes.map(|axis| (shape[axis], [strides[axis]]))
        };
        Self {
            kept: Walk::new([0], side(false)),
            reduced: Walk::new([0], side(true)),
            reduced_count: side(true).map(|(extent, _)| extent).product(),
        }
    }
}

/// The shape without `axes`.
fn kept_shape(shape: &[usize], axes: &[usize]) -> Vec<usize> {
    let kept = (0..shape.len()).filter(|axis| !axes.contains(axis));
    kept.map(|axis| shape[axis]).collect()
}

/// The axes that are reduced.
struct Axes(Vec<usize>);

impl Over for Axes {
    fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        naturals(op, "axes", attrs.ints(op, "axes")?).map(Self)
    }

    fn shape(&self, op: &'static str, x: &Fact) -> Result<Vec<usize>, Error> {
        check_axes(op, "axes", &self.0, x.shape.len())?;
        Ok(kept_shape(&x.shape, &self.0))
    }

    /// `out[kept] = combine over reduced of x[kept, reduced]`
    fn reduce<T: Element>(
        &self,
        x: &View<'_>,
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
        initial: T,
        combine: impl Fn(T, T) -> T + Sync,
    ) -> Result<(), Error> {
        let parts = Partition::new(x.shape(), &self.0);
        let x = x.data::<T>()?;
        let length = (WORK / parts.reduced_count.max(1)).max(1);
        chunked(pool, out.data_mut::<T>()?, length, |start, out| {
            for (index, out) in (start..).zip(out) {
                if parts.reduced_count == 0 {
                    *out = initial;
                    continue;
                }
                let [base] = parts.kept.position(index);
                let mut result = initial;
                parts.reduced.runs(0, parts.reduced_count, |_, [from], [step], count| {
                    let from = base + from;
                    if step == 1 {
                        let run = fold_contiguous(&x[from..from + count], initial, &combine);
                        result = combine(result, run);
                    } else {
                        let strided = x[from..].iter().step_by(step.unsigned_abs().max(1));
                        result = strided.take(count).fold(result, |a, &b| combine(a, b));
                    }
                });
                *out = result;
            }
        });
        Ok(())
    }
}

fn fold_contiguous<T: Copy>(run: &[T], initial: T, combine: &impl Fn(T, T) -> T) -> T {
    let (blocks, rest) = run.as_chunks::<LANES>();
    let mut lanes = [initial; LANES];
    for block in blocks {
        for (lane, &element) in lanes.iter_mut().zip(block) {
            *lane = combine(*lane, element);
        }
    }
    let tail = rest.iter().fold(initial, |a, &b| combine(a, b));
    lanes.into_iter().fold(tail, combine)
}

reductions! { Axes, "reduce_";
    sum { Complex32: Complex32::ZERO, |a, b| a + b; }
    prod { Complex32: Complex32::ONE, |a, b| a * b; }
    "xor" Xor {
        Bool: Bool::from(false), |a, b| a ^ b;
        u32: 0, |a, b| a ^ b;
        i32: 0, |a, b| a ^ b;
        i8: 0, |a, b| a ^ b;
    }
}
