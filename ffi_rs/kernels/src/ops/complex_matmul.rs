//! Products of complex matrices, by three real products instead of four.
//!
//! ```text
//! for m in rows, n in columns:
//!     common = Σ_k (re x[m, k] + im x[m, k]) · re w[k, n]
//!     re     = common - Σ_k im x[m, k] · (re w[k, n] + im w[k, n])
//!     im     = common + Σ_k re x[m, k] · (im w[k, n] - re w[k, n])
//! ```
//!
//! This is the algorithm of Gauss (Higham, "Stability of a method for multiplying complex matrices
//! with three real matrix multiplications", SIAM J. Matrix Anal. Appl. 13, 1992). What cancels in
//! the last two lines leaves an error of both parts that is small beside `Σ_k |x[m, k]|·|w[k, n]|`,
//! and not always beside the part itself.
//!
//! What is done otherwise: the three factors of x are written once for all columns, those of w for
//! some columns at a time, and the second and third sum go on where the first ends. Every element is
//! one chain of sums in order, whatever the tiles and threads.

use std::ops::Range;

use num_complex::Complex;

use super::chain::extents;
use crate::disjoint::{DisjointMut, StageBuffer, TileMut};
use crate::dtype::Element;
use crate::gemm::{Part, Real, Rows, WHOLE_COLUMNS};
use crate::isa::Isa;
use crate::par::{Schedule, parallel_if};
use crate::scratch::Scratch;
use crate::tuning::{
    COMPLEX_COLUMNS, COMPLEX_DEPTH, COMPLEX_ROWS, COMPLEX_SPLIT_ROWS,
    MATMUL_PRODUCTS_PER_NANOSECOND,
};
use crate::{Attrs, DType, Error, Fact, Op, ParFor, View, ViewMut, Work};

/// `out = x · w`
///
/// Inputs: x c\[M,K\] (or \[K,M\] with `transpose_x`), w c\[K,N\] (or \[N,K\] with `transpose_w`).
/// Output: out c\[M,N\]. All are c64, or all c128, as `dtype` says.
#[derive(Debug)]
pub struct ComplexMatmul {
    dtype: DType,
    transpose_x: bool,
    transpose_w: bool,
}

impl ComplexMatmul {
    /// Rows, depth and columns.
    fn sizes(&self, inputs: &[Fact]) -> Result<[usize; 3], Error> {
        let refuse = |message: String| Err(Error::invalid(Self::NAME, message));
        let [x, w] = inputs else {
            return refuse(format!("expected 2 operands, got {}", inputs.len()));
        };
        let matrix = |name: &str, fact: &Fact, transposed: bool| match *fact.shape {
            [first, second] if fact.dtype == self.dtype => {
                Ok(if transposed { [second, first] } else { [first, second] })
            }
            _ => Err(Error::invalid(
                Self::NAME,
                format!("`{name}` must be a matrix of {}, got {fact}", self.dtype),
            )),
        };
        let [rows, depth] = matrix("x", x, self.transpose_x)?;
        let [_, columns] = matrix("w", w, self.transpose_w)?;
        let of_w = if self.transpose_w { [columns, depth] } else { [depth, columns] };
        extents(Self::NAME, "w", w, self.dtype, &[&[of_w[0]], &[of_w[1]]])?;
        Ok([rows, depth, columns])
    }

    fn multiply<T: Real>(
        &self,
        inputs: &[View<'_>],
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error>
    where
        Complex<T>: Element,
    {
        let [rows, depth, columns] = self.sizes(&[inputs[0].fact(), inputs[1].fact()])?;
        let strides = |transposed, [down, across]: [usize; 2]| {
            if transposed { [1, down] } else { [across, 1] }
        };
        let product = Product {
            x: Operand {
                data: inputs[0].data::<Complex<T>>()?,
                strides: strides(self.transpose_x, [rows, depth]),
            },
            w: Operand {
                data: inputs[1].data()?,
                strides: strides(self.transpose_w, [depth, columns]),
            },
            rows,
            depth,
            columns,
        };
        product.run(out.data_mut()?, pool);
        Ok(())
    }
}

impl Op for ComplexMatmul {
    const NAME: &'static str = "complex_matmul";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let dtype = match attrs.str(Self::NAME, "dtype")? {
            "c64" => DType::C64,
            "c128" => DType::C128,
            other => {
                let message = format!("`dtype` must be c64 or c128, got {other}");
                return Err(Error::invalid(Self::NAME, message));
            }
        };
        Ok(Self {
            dtype,
            transpose_x: attrs.bool(Self::NAME, "transpose_x")?,
            transpose_w: attrs.bool(Self::NAME, "transpose_w")?,
        })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [rows, _, columns] = self.sizes(inputs)?;
        Ok(vec![Fact::new(self.dtype, [rows, columns])])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        match self.dtype {
            DType::C64 => self.multiply::<f32>(inputs, &mut outputs[0], pool),
            _ => self.multiply::<f64>(inputs, &mut outputs[0], pool),
        }
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        // As four real products, which is what it is worth.
        Ok(Work::of_matmuls(4, self.sizes(inputs)?, inputs, &self.output_shapes(inputs)?))
    }
}

/// A matrix: element (i, j) is `data[i·strides[0] + j·strides[1]]`.
struct Operand<'a, T> {
    data: &'a [Complex<T>],
    strides: [usize; 2],
}

impl<T: Real> Operand<'_, T> {
    /// Writes a part of some rows and columns to rows of `out`, `stride` apart.
    fn copy(
        &self,
        isa: Isa,
        rows: Range<usize>,
        columns: Range<usize>,
        out: &mut [T],
        stride: usize,
        part: Part,
    ) {
        let [down, across] = self.strides;
        // Along what lies together.
        if across == 1 {
            for (out, row) in out.chunks_mut(stride.max(1)).zip(rows) {
                let numbers = &self.data[row * down..][columns.clone()];
                T::write_part(isa, &mut out[..numbers.len()], numbers, part);
            }
            return;
        }
        for (index, column) in columns.enumerate() {
            let numbers = &self.data[column * across..][rows.clone()];
            for (row, number) in numbers.iter().enumerate() {
                out[row * stride + index] = part.of(*number);
            }
        }
    }
}

/// One call.
struct Product<'a, T> {
    x: Operand<'a, T>,
    w: Operand<'a, T>,
    rows: usize,
    depth: usize,
    columns: usize,
}

impl<T: Real> Product<'_, T> {
    fn run(&self, out: &mut [Complex<T>], pool: &dyn ParFor) {
        let Self { rows, depth, columns, .. } = *self;
        if rows == 0 || columns == 0 {
            return;
        }
        let isa = Isa::detect();
        let products = (rows * depth).saturating_mul(3 * columns);
        let pool = parallel_if(pool, products / MATMUL_PRODUCTS_PER_NANOSECOND);
        let factors: [StageBuffer<T>; 3] =
            std::array::from_fn(|_| StageBuffer::scratch(rows * depth));
        let out = DisjointMut::new(out);
        let groups = columns.div_ceil(COMPLEX_COLUMNS);
        let mut schedule = Schedule::default();
        schedule.stage("factors of x", rows.div_ceil(COMPLEX_SPLIT_ROWS), |chunk| {
            let range = chunk * COMPLEX_SPLIT_ROWS..rows.min((chunk + 1) * COMPLEX_SPLIT_ROWS);
            let [mut sum, mut minus_im, mut re] = factors
                .each_ref()
                .map(|factor| factor.write(range.start * depth..range.end * depth));
            self.x.copy(isa, range.clone(), 0..depth, &mut sum, depth, Part::Sum);
            self.x.copy(isa, range.clone(), 0..depth, &mut minus_im, depth, Part::MinusIm);
            self.x.copy(isa, range, 0..depth, &mut re, depth, Part::Re);
        });
        schedule.stage("products", rows.div_ceil(COMPLEX_ROWS) * groups, |chunk| {
            let (row, column) = (chunk / groups * COMPLEX_ROWS, chunk % groups * COMPLEX_COLUMNS);
            let range = row..rows.min(row + COMPLEX_ROWS);
            let columns_here = column..columns.min(column + COMPLEX_COLUMNS);
            let factors = factors
                .each_ref()
                .map(|factor| factor.read(range.start * depth..range.end * depth));
            let out = out.tile(columns, range, columns_here.clone());
            self.multiply(isa, factors.each_ref().map(|factor| &**factor), &columns_here, out);
        });
        schedule.run(pool);
    }

    /// Computes some columns of rows whose factors these are.
    fn multiply(
        &self,
        isa: Isa,
        [sum, minus_im, re]: [&[T]; 3],
        columns: &Range<usize>,
        mut out: TileMut<'_, Complex<T>>,
    ) {
        let width = columns.len().next_multiple_of(WHOLE_COLUMNS);
        let rows = out.row_count();
        let mut real = Scratch::new(rows * width);
        self.add(isa, &mut real, sum, columns, false, Part::Re);
        let mut imaginary = Scratch::new(rows * width);
        imaginary.copy_from_slice(&real);
        self.add(isa, &mut real, minus_im, columns, true, Part::Sum);
        self.add(isa, &mut imaginary, re, columns, true, Part::Difference);
        let parts = real.chunks_exact(width).zip(imaginary.chunks_exact(width));
        for (out, (real, imaginary)) in out.rows_mut().zip(parts) {
            for ((out, re), im) in out.iter_mut().zip(real).zip(imaginary) {
                *out = Complex::new(*re, *im);
            }
        }
    }

    /// `C ← C + X·factor(w)`, or `C ← X·factor(w)` unless `add`, for some columns of w.
    fn add(&self, isa: Isa, c: &mut [T], x: &[T], columns: &Range<usize>, add: bool, factor: Part) {
        let width = columns.len().next_multiple_of(WHOLE_COLUMNS);
        let mut packed = Scratch::new(COMPLEX_DEPTH.min(self.depth) * width);
        let rows = c.len() / width;
        let c = DisjointMut::new(c);
        let mut c = c.tile(width, 0..rows, 0..width);
        // Without depth there is a product too, of zeros.
        for start in (0..self.depth.max(1)).step_by(COMPLEX_DEPTH) {
            let slice = start..self.depth.min(start + COMPLEX_DEPTH);
            let depth = slice.len();
            packed.chunks_exact_mut(width).for_each(|row| row[columns.len()..].fill(T::zeroed()));
            self.w.copy(isa, slice, columns.clone(), &mut packed, width, factor);
            let x = Rows { data: x.get(start..).unwrap_or(&[]), stride: self.depth };
            let w = Rows { data: &packed, stride: width };
            T::multiply(isa, &mut c, x, w, depth, add || start > 0);
        }
    }
}
