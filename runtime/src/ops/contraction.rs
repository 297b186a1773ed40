//! Sums of products.

use lumina_kernels::ops::Dequantize;
use lumina_kernels::{
    Attrs, Columns, Complex32, DType, DynOp, Element, Entry, Error, Fact, Matrix, Op, ParFor,
    Serial, Strided, View, ViewMut, Work, coded_matmul, matmul,
};

use super::activations::copy_from;
use super::common::{check_axes, chunked, naturals, operands, unsupported};
use super::strided::Walk;

pub(super) static OPS: &[Entry] = &[Entry::of::<DotGeneral>()];

/// Products per chunk.
const WORK: usize = 1 << 16;

/// `out[batch, i, j] = sum over k of lhs[batch, i, k] * rhs[batch, j, k]`, where each of batch, i,
/// j and k may be several axes, k in the order of the attributes.
#[derive(Clone)]
pub(super) struct DotGeneral {
    lhs: Side,
    rhs: Side,
    /// What makes rhs of the operands that stand for it; None where it is there itself.
    codes: Option<Dequantize>,
}

/// The axes of one operand.
#[derive(Clone)]
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
            codes: None,
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

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        let outputs = Op::output_shapes(self, inputs)?;
        let lhs = &inputs[0];
        let depth = self.lhs.contracting.iter().map(|&axis| lhs.shape[axis]);
        let depth = depth.fold(1, usize::saturating_mul);
        // A product of complex numbers that is added to a sum is four of real ones.
        let reals = if lhs.dtype == DType::C64 { 4 } else { 1 };
        Ok(Work::of_matmuls(reals, [outputs[0].len(), depth, 1], inputs, &outputs))
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let out = &mut outputs[0];
        if let Some(codes) = &self.codes {
            return multiply_codes(codes, inputs, out, pool);
        }
        match inputs[0].dtype() {
            DType::F32 => self.multiply_f32(inputs, out, pool),
            DType::I32 => self.multiply::<i32>(inputs, out, pool, 0, |sum, a, b| {
                sum.wrapping_add(a.wrapping_mul(b))
            }),
            _ => {
                let zero = Complex32::new(0.0, 0.0);
                self.multiply(inputs, out, pool, zero, |sum, a, b| sum + a * b)
            }
        }
    }

    /// Codes of rhs are read where the sums are those along their depth, and where lhs has what it is
    /// multiplied by on its last axes.
    fn with_codes(
        &self,
        operand: usize,
        codes: &Dequantize,
        constants: &[Option<View<'_>>],
        coded: &[View<'_>],
    ) -> Result<Option<Box<dyn DynOp>>, Error> {
        let [depth, columns] = codes.coded(coded)?.extents();
        let (rank, summed) = (codes.shape().len(), self.rhs.contracting.len());
        let range = if codes.is_transposed() { rank - summed..rank } else { 0..summed };
        let is_product = operand == 1
            && constants.len() == 2
            && self.rhs.batch.is_empty()
            && self.rhs.contracting.iter().copied().eq(range.clone())
            && codes.shape()[range].iter().product::<usize>() == depth
            && columns > 0
            && self.lhs.contracting.is_sorted();
        Ok(is_product.then(|| {
            let product = Self { codes: Some(codes.clone()), ..self.clone() };
            Box::new(product) as Box<dyn DynOp>
        }))
    }
}

/// The product of (lhs, the operands of `codes`), whose sums go over the last axes of lhs.
fn multiply_codes(
    codes: &Dequantize,
    inputs: &[View<'_>],
    out: &mut ViewMut<'_>,
    pool: &dyn ParFor,
) -> Result<(), Error> {
    let (lhs, coded) = (&inputs[0], codes.coded(&inputs[1..])?);
    let [depth, columns] = coded.extents();
    let mut copied = Vec::new();
    let data = if lhs.is_row_major() {
        lhs.data::<f32>()?
    } else {
        let lhs = lhs.strided_data::<f32>()?;
        copied.resize(lhs.shape.iter().product(), 0.0);
        copy_from(&lhs, 0, &mut copied);
        &copied
    };
    let rows = out.shape().iter().product::<usize>() / columns;
    let a = Matrix { data, strides: [depth, 1] };
    let out = Columns { data: out.data_mut::<f32>()?, stride: columns, first: 0 };
    coded_matmul(pool, out, rows, a, &coded, 0..depth, false);
    Ok(())
}

/// The loops of one product, over what of the result, of lhs and of rhs belongs together.
struct Loops {
    /// In lhs and in rhs.
    batch: Walk<2>,
    /// In lhs.
    rows: Walk<1>,
    /// In rhs.
    columns: Walk<1>,
    /// In lhs and in rhs, in the order of the sums.
    depth: Walk<2>,
}

impl DotGeneral {
    fn loops<T>(&self, lhs: &Strided<'_, T>, rhs: &Strided<'_, T>) -> Loops {
        let [lhs_batch, rows, lhs_depth] = self.lhs.axes(lhs);
        let [rhs_batch, columns, rhs_depth] = self.rhs.axes(rhs);
        let both = |(&(extent, left), &(_, right)): (&(usize, isize), &(usize, isize))| {
            (extent, [left, right])
        };
        let one = |&(extent, stride): &(usize, isize)| (extent, [stride]);
        Loops {
            batch: Walk::new([lhs.start, rhs.start], lhs_batch.iter().zip(&rhs_batch).map(both)),
            rows: Walk::new([0], rows.iter().map(one)),
            columns: Walk::new([0], columns.iter().map(one)),
            depth: Walk::new([0, 0], lhs_depth.iter().zip(&rhs_depth).map(both)),
        }
    }

    /// As matrix products of the innermost rows, columns and products, whose sums go over the
    /// products in order, with fused multiply-adds where the CPU has them.
    fn multiply_f32(
        &self,
        inputs: &[View<'_>],
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let (lhs, rhs) = (inputs[0].strided_data::<f32>()?, inputs[1].strided_data::<f32>()?);
        if lhs.strides.iter().chain(&rhs.strides).any(|&stride| stride < 0) {
            return self.multiply::<f32>(inputs, out, pool, 0.0, |sum, a, b| sum + a * b);
        }
        let Loops { batch, rows, columns, depth } = self.loops(&lhs, &rhs);
        let (width, area) = (columns.count(), rows.count() * columns.count());
        let out = out.data_mut::<f32>()?;
        if depth.count() == 0 {
            out.fill(0.0);
            return Ok(());
        }
        let work = area.saturating_mul(depth.count()).max(1);
        let (rows, row_count, [row_step]) = rows.split();
        let (columns, column_count, [column_step]) = columns.split();
        let (depth, depth_count, depth_steps) = depth.split();
        let strides = |steps: [isize; 2]| steps.map(isize::unsigned_abs);
        let product = |[left, right]: [usize; 2], out: &mut [f32], pool: &dyn ParFor| {
            rows.for_each(|row, [from]| {
                let left = left + from;
                columns.for_each(|column, [from]| {
                    let right = right + from;
                    depth.for_each(|slice, from| {
                        let out = Columns {
                            data: &mut out[row * row_count * width..],
                            stride: width,
                            first: column * column_count,
                        };
                        let a = Matrix {
                            data: &lhs.data[left + from[0]..],
                            strides: strides([row_step, depth_steps[0]]),
                        };
                        let b = Matrix {
                            data: &rhs.data[right + from[1]..],
                            strides: strides([depth_steps[1], column_step]),
                        };
                        let extents = [row_count, depth_count, column_count];
                        matmul(pool, out, extents, a, b, slice > 0);
                    });
                });
            });
        };
        if batch.count() < pool.width() {
            batch.for_each(|index, from| product(from, &mut out[index * area..], pool));
        } else {
            // Whole products to each worker.
            let batches = (WORK / work).max(1);
            chunked(pool, out, batches * area, |start, out| {
                let first = start / area;
                batch.runs(first, out.len() / area, |done, from, steps, count| {
                    for index in 0..count {
                        let from = [0, 1].map(|side| {
                            from[side].wrapping_add_signed(steps[side] * index as isize)
                        });
                        product(from, &mut out[(done + index) * area..][..area], &Serial);
                    }
                });
            });
        }
        Ok(())
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
        let Loops { batch, rows, columns, depth } = self.loops(&lhs, &rhs);
        let (height, width, length) = (rows.count(), columns.count(), depth.count());
        let contiguous = columns.is_contiguous();
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
            for (row, out) in (start / width..).zip(out.chunks_mut(width)) {
                let [left, right] = batch.position(row / height);
                let [from] = rows.position(row % height);
                let left = left.wrapping_add(from);
                match contiguous {
                    true => by_row(left, right, out),
                    false => by_element(left, right, out),
                }
            }
        });
        Ok(())
    }
}
