//! Sums of products.

use lumina_kernels::{
    Attrs, Complex32, DType, Element, Entry, Error, Fact, Op, ParFor, Strided, View, ViewMut,
};

use super::common::{check_axes, chunked, naturals, operands, unsupported};
use super::strided::Walk;

pub(super) static OPS: &[Entry] = &[Entry::of::<DotGeneral>()];

/// Products per chunk.
const WORK: usize = 1 << 16;

/// `out[batch, i, j] = sum over k of lhs[batch, i, k] * rhs[batch, j, k]`, where each of batch, i,
/// j and k may be several axes, k in the order of the attributes.
struct DotGeneral {
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

    /// Batch, free and contracted axes of an operand, each with its extent and stride.
    fn axes<T>(&self, x: &Strided<'_, T>) -> [Vec<(usize, isize)>; 3] {
        [&self.batch, &self.free(x.shape.len()), &self.contracting]
            .map(|axes| axes.iter().map(|&axis| (x.shape[axis], x.strides[axis])).collect())
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

    fn accepts_strides(&self) -> bool {
        true
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

/// The loops of one product: what of the result, of lhs and of rhs belongs together.
struct Loops {
    /// Over batches and rows of the result: where its factors start in lhs and in rhs.
    rows: Walk<2>,
    /// Over columns of the result, in rhs.
    columns: Walk<1>,
    /// Over products, in lhs and in rhs.
    depth: Walk<2>,
    /// Columns and products.
    extents: [usize; 2],
    /// Whether columns lie together in rhs.
    contiguous: bool,
}

impl DotGeneral {
    fn loops<T>(&self, lhs: &Strided<'_, T>, rhs: &Strided<'_, T>) -> Loops {
        let [lhs_batch, rows, lhs_depth] = self.lhs.axes(lhs);
        let [rhs_batch, columns, rhs_depth] = self.rhs.axes(rhs);
        let both = |(&(extent, left), &(_, right)): (&(usize, isize), &(usize, isize))| {
            (extent, [left, right])
        };
        let batch = lhs_batch.iter().zip(&rhs_batch).map(both);
        let extent = |axes: &[(usize, isize)]| axes.iter().map(|&(extent, _)| extent).product();
        Loops {
            rows: Walk::new(
                [lhs.start, rhs.start],
                batch.chain(rows.iter().map(|&(extent, left)| (extent, [left, 0]))),
            ),
            columns: Walk::new([0], columns.iter().map(|&(extent, right)| (extent, [right]))),
            depth: Walk::new([0, 0], lhs_depth.iter().zip(&rhs_depth).map(both)),
            extents: [extent(&columns), extent(&lhs_depth)],
            contiguous: columns.last().is_none_or(|&(_, stride)| stride == 1),
        }
    }

    /// Every element of the result is one sum from zero, its products in order.
    fn multiply<T: Element>(
        &self,
        inputs: &[View<'_>],
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
        zero: T,
        add_product: impl Fn(T, T, T) -> T + Sync,
    ) -> Result<(), Error> {
        let (lhs, rhs) = (inputs[0].strided_data::<T>()?, inputs[1].strided_data::<T>()?);
        let Loops { rows, columns, depth, extents: [width, length], contiguous } =
            self.loops(&lhs, &rhs);
        // Of a reversed axis, the offset is before the start.
        let at = |start: usize, offset: usize, step: isize, index: usize| {
            start.wrapping_add(offset).wrapping_add_signed(step * index as isize)
        };
        // A row of the result at a time, which stays in the cache.
        let by_row = |left: usize, right: usize, out: &mut [T]| {
            out.fill(zero);
            depth.runs(0, length, |_, from, steps, count| {
                for index in 0..count {
                    let a = lhs.data[at(left, from[0], steps[0], index)];
                    let right = at(right, from[1], steps[1], index);
                    columns.runs(0, width, |done, [column], [step], count| {
                        let out = out[done..done + count].iter_mut();
                        for (column_index, sum) in out.enumerate() {
                            let b = rhs.data[at(right, column, step, column_index)];
                            *sum = add_product(*sum, a, b);
                        }
                    });
                }
            });
        };
        let by_element = |left: usize, right: usize, out: &mut [T]| {
            columns.runs(0, width, |done, [column], [step], count| {
                for (index, out) in out[done..done + count].iter_mut().enumerate() {
                    let right = at(right, column, step, index);
                    let mut sum = zero;
                    depth.runs(0, length, |_, from, steps, count| {
                        for index in 0..count {
                            let a = lhs.data[at(left, from[0], steps[0], index)];
                            let b = rhs.data[at(right, from[1], steps[1], index)];
                            sum = add_product(sum, a, b);
                        }
                    });
                    *out = sum;
                }
            });
        };
        let rows_per_chunk = (WORK / (width * length).max(1)).max(1);
        chunked(pool, out.data_mut::<T>()?, rows_per_chunk * width, |start, out| {
            let count = out.len() / width;
            rows.runs(start / width, count, |done, from, steps, count| {
                for index in 0..count {
                    let out = &mut out[(done + index) * width..][..width];
                    let left = at(from[0], 0, steps[0], index);
                    let right = at(from[1], 0, steps[1], index);
                    match contiguous {
                        true => by_row(left, right, out),
                        false => by_element(left, right, out),
                    }
                }
            });
        });
        Ok(())
    }
}
