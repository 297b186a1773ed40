//! Sums of products.

use lumina_kernels::{Attrs, Complex32, DType, Element, Error, Fact, Op, ParFor, View, ViewMut};

use super::common::{check_axes, chunked, naturals, operands, strides, unsupported};
use super::strided::Walk;

/// Products per chunk.
const WORK: usize = 1 << 16;

/// `out[batch, i, j] = sum over k of lhs[batch, i, k] * rhs[batch, j, k]`, where each of batch, i,
/// j and k may be several axes, k in the order of the attributes.
pub(super) struct DotGeneral {
    lhs: Side,
    rhs: Side,
}

/// The axes of one operand.
struct Side {
    contracting: Vec<usize>,
    batch: Vec<usize>,
}

impl Side {
    fn from_attrs(attrs: &dyn Attrs, contracting: &str, batch: &str) -> Result<Self, Error> {
        let read = |name| naturals(DotGeneral::NAME, name, attrs.ints(DotGeneral::NAME, name)?);
        Ok(Self { contracting: read(contracting)?, batch: read(batch)? })
    }

    /// The axes that are neither contracted nor batched.
    fn free(&self, rank: usize) -> Vec<usize> {
        let bound = |axis: &usize| self.contracting.contains(axis) || self.batch.contains(axis);
        (0..rank).filter(|axis| !bound(axis)).collect()
    }

    fn check(&self, name: &str, fact: &Fact) -> Result<(), Error> {
        let axes = [self.batch.as_slice(), &self.contracting].concat();
        check_axes(DotGeneral::NAME, name, &axes, fact.shape.len())
    }

    /// Positions of the batches, the free and the contracted elements, each from 0.
    fn positions(&self, shape: &[usize]) -> [Vec<usize>; 3] {
        let strides = strides(shape);
        [&self.batch, &self.free(shape.len()), &self.contracting].map(|axes| {
            let count: usize = axes.iter().map(|&axis| shape[axis]).product();
            let walk = Walk::new(0, axes.iter().map(|&axis| (shape[axis], strides[axis])));
            (0..count).map(|index| walk.position(index)).collect()
        })
    }
}

impl Op for DotGeneral {
    const NAME: &'static str = "dot_general";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self {
            lhs: Side::from_attrs(attrs, "lhs_contracting", "lhs_batch")?,
            rhs: Side::from_attrs(attrs, "rhs_contracting", "rhs_batch")?,
        })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [lhs, rhs] = operands(Self::NAME, inputs)?;
        self.lhs.check("lhs_batch` and `lhs_contracting", lhs)?;
        self.rhs.check("rhs_batch` and `rhs_contracting", rhs)?;
        if lhs.dtype != rhs.dtype {
            let message = format!("operands must have equal dtypes, got {lhs} and {rhs}");
            return Err(Error::invalid(Self::NAME, message));
        }
        if !matches!(lhs.dtype, DType::F32 | DType::I32 | DType::C64) {
            return Err(unsupported(Self::NAME, "operand", lhs.dtype));
        }
        for (name, left, right) in [
            ("contracting", &self.lhs.contracting, &self.rhs.contracting),
            ("batch", &self.lhs.batch, &self.rhs.batch),
        ] {
            let extents = |fact: &Fact, axes: &[usize]| -> Vec<usize> {
                axes.iter().map(|&axis| fact.shape[axis]).collect()
            };
            let (left, right) = (extents(lhs, left), extents(rhs, right));
            if left != right {
                let message = format!(
                    "{name} axes must have equal extents, got {left:?} of {lhs} and {right:?} of {rhs}"
                );
                return Err(Error::invalid(Self::NAME, message));
            }
        }
        let batch = self.lhs.batch.iter().map(|&axis| lhs.shape[axis]);
        let rows = self.lhs.free(lhs.shape.len()).into_iter().map(|axis| lhs.shape[axis]);
        let columns = self.rhs.free(rhs.shape.len()).into_iter().map(|axis| rhs.shape[axis]);
        Ok(vec![Fact::new(lhs.dtype, batch.chain(rows).chain(columns).collect::<Vec<_>>())])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let out = &mut outputs[0];
        match inputs[0].dtype() {
            DType::F32 => self.multiply::<f32>(inputs, out, pool, 0.0, |sum, a, b| sum + a * b),
            DType::I32 => self.multiply::<i32>(inputs, out, pool, 0, |sum, a, b| {
                sum.wrapping_add(a.wrapping_mul(b))
            }),
            _ => {
                let zero = Complex32::new(0.0, 0.0);
                self.multiply(inputs, out, pool, zero, |sum, a, b| sum + a * b)
            }
        }
    }
}

impl DotGeneral {
    fn multiply<T: Element>(
        &self,
        inputs: &[View<'_>],
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
        zero: T,
        add_product: impl Fn(T, T, T) -> T + Sync,
    ) -> Result<(), Error> {
        let [lhs_batch, rows, lhs_depth] = self.lhs.positions(inputs[0].shape());
        let [rhs_batch, columns, rhs_depth] = self.rhs.positions(inputs[1].shape());
        let (lhs, rhs) = (inputs[0].data::<T>()?, inputs[1].data::<T>()?);
        let width = columns.len();
        let contiguous = columns.iter().enumerate().all(|(index, &column)| index == column);
        let length = (WORK / (width * lhs_depth.len()).max(1)).max(1) * width;
        chunked(pool, out.data_mut::<T>()?, length, |start, out| {
            for (row, out) in (start / width..).zip(out.chunks_mut(width)) {
                let batch = row / rows.len();
                // Without depth there is no element to start from.
                if lhs_depth.is_empty() {
                    out.fill(zero);
                    continue;
                }
                let lhs = &lhs[lhs_batch[batch] + rows[row % rows.len()]..];
                let rhs = &rhs[rhs_batch[batch]..];
                if contiguous {
                    // A row of the result at a time, which stays in the cache.
                    out.fill(zero);
                    for (&a, &b) in lhs_depth.iter().zip(&rhs_depth) {
                        let a = lhs[a];
                        for (sum, &b) in out.iter_mut().zip(&rhs[b..b + width]) {
                            *sum = add_product(*sum, a, b);
                        }
                    }
                } else {
                    for (out, &column) in out.iter_mut().zip(&columns) {
                        let rhs = &rhs[column..];
                        let products = lhs_depth.iter().zip(&rhs_depth);
                        *out =
                            products.fold(zero, |sum, (&a, &b)| add_product(sum, lhs[a], rhs[b]));
                    }
                }
            }
        });
        Ok(())
    }
}
