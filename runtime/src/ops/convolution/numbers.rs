//! Numbers that are convolved, and what products of matrices of them are.

use std::cell::Cell;

use lumina_kernels::{Complex32, DataMut, Element, Matrix, ParFor, matmul, multiply_columnwise};

/// A factor of a product of matrices: element (i, j) is `data[i·strides[0] + j·strides[1]]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factor<'a, T> {
    pub(super) data: &'a [T],
    pub(super) strides: [usize; 2],
}

impl<T: Copy> Factor<'_, T> {
    /// The matrix from element (i, j) on.
    pub(super) fn from(self, [i, j]: [usize; 2]) -> Self {
        let [down, across] = self.strides;
        Self { data: self.data.get(i * down + j * across..).unwrap_or(&[]), ..self }
    }

    pub(super) fn transposed(self) -> Self {
        let [down, across] = self.strides;
        Self { strides: [across, down], ..self }
    }

    fn at(&self, i: usize, j: usize) -> T {
        self.data[i * self.strides[0] + j * self.strides[1]]
    }
}

/// The columns of a row-major matrix that are written, from `first` on.
pub(super) struct Columns<'a, T> {
    pub(super) data: &'a mut [T],
    /// Elements from row to row.
    pub(super) stride: usize,
    pub(super) first: usize,
}

/// A number, and products of matrices of it.
pub(super) trait Number: Element {
    /// A tensor of these elements.
    fn data_mut(elements: &mut [Self]) -> DataMut<'_>;

    /// `sum + a·b`
    fn add_product(sum: Self, a: Self, b: Self) -> Self;

    /// `C ← A·B`, or with `add` `C ← C + A·B`, for so many rows, products (depth) and columns. Sums go
    /// over the products in order.
    fn multiply(
        _pool: &dyn ParFor,
        c: Columns<'_, Self>,
        [rows, depth, columns]: [usize; 3],
        a: Factor<'_, Self>,
        b: Factor<'_, Self>,
        add: bool,
    ) {
        for (i, row) in c.data.chunks_mut(c.stride).take(rows).enumerate() {
            for (j, sum) in row[c.first..][..columns].iter_mut().enumerate() {
                let start = if add { *sum } else { Self::zeroed() };
                *sum =
                    (0..depth).fold(start, |sum, d| Self::add_product(sum, a.at(i, d), b.at(d, j)));
            }
        }
    }

    /// `c[i, j] = sum over d of a[starts[i, d] + j]·b[d, j]`, where what has no start is zero, for so
    /// much depth and so many columns.
    fn multiply_columnwise(
        c: &mut [Self],
        [depth, columns]: [usize; 2],
        a: &[Self],
        starts: &[Option<usize>],
        b: Factor<'_, Self>,
    ) {
        for (i, row) in c.chunks_exact_mut(columns).enumerate() {
            let starts = &starts[i * depth..][..depth];
            for (j, c) in row.iter_mut().enumerate() {
                *c = starts.iter().enumerate().fold(Self::zeroed(), |sum, (d, start)| {
                    let a = start.map_or(Self::zeroed(), |start| a[start + j]);
                    Self::add_product(sum, a, b.at(d, j))
                });
            }
        }
    }

    /// Runs `task` with so many elements of any value.
    fn with_scratch(count: usize, task: impl FnOnce(&mut [Self])) {
        task(&mut vec![Self::zeroed(); count]);
    }
}

thread_local! {
    /// What a thread keeps for the patches of its next convolution.
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

impl Number for f32 {
    fn data_mut(elements: &mut [Self]) -> DataMut<'_> {
        DataMut::F32(elements)
    }

    fn add_product(sum: Self, a: Self, b: Self) -> Self {
        a.mul_add(b, sum)
    }

    fn multiply(
        pool: &dyn ParFor,
        c: Columns<'_, Self>,
        extents: [usize; 3],
        a: Factor<'_, Self>,
        b: Factor<'_, Self>,
        add: bool,
    ) {
        let c = lumina_kernels::Columns { data: c.data, stride: c.stride, first: c.first };
        let [a, b] = [a, b].map(|factor| Matrix { data: factor.data, strides: factor.strides });
        matmul(pool, c, extents, a, b, add);
    }

    fn multiply_columnwise(
        c: &mut [Self],
        extents: [usize; 2],
        a: &[Self],
        starts: &[Option<usize>],
        b: Factor<'_, Self>,
    ) {
        let b = Matrix { data: b.data, strides: b.strides };
        multiply_columnwise(c, extents, a, starts, b);
    }

    fn with_scratch(count: usize, task: impl FnOnce(&mut [Self])) {
        // Whoever comes between finds none, and makes its own.
        let mut scratch = SCRATCH.take();
        if scratch.len() < count {
            scratch.resize(count, 0.0);
        }
        task(&mut scratch[..count]);
        SCRATCH.set(scratch);
    }
}

macro_rules! plain {
    ($($ty:ty, $variant:ident: $add_product:expr;)*) => {$(
        impl Number for $ty {
            fn data_mut(elements: &mut [Self]) -> DataMut<'_> {
                DataMut::$variant(elements)
            }

            fn add_product(sum: Self, a: Self, b: Self) -> Self {
                $add_product(sum, a, b)
            }
        }
    )*};
}

plain! {
    i32, I32: |sum: i32, a: i32, b: i32| sum.wrapping_add(a.wrapping_mul(b));
    u32, U32: |sum: u32, a: u32, b: u32| sum.wrapping_add(a.wrapping_mul(b));
    i8, I8: |sum: i8, a: i8, b: i8| sum.wrapping_add(a.wrapping_mul(b));
    Complex32, C64: |sum: Complex32, a: Complex32, b: Complex32| sum + a * b;
}
