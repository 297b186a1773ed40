//! Sums of products column by column, which no matrix product is: what a depthwise convolution asks
//! for.

use super::matmul::Matrix;
use crate::isa::{Isa, for_each_isa};

/// Columns whose sums registers hold.
const COLUMNS: usize = 64;
/// What a row of zeros is made of.
static ZEROS: [f32; COLUMNS] = [0.0; COLUMNS];

/// `C ← rows of sums`, for as many rows of so many columns as C has and for the depth of B, whose
/// columns lie together.
///
/// ```text
/// sum = 0;   for d in 0..depth { sum = a[starts[i·depth + d] + j]·B[d, j] + sum };   C[i, j] = sum
/// ```
///
/// is what every element is, in this order, rounded once a step where the CPU has fused
/// multiply-adds. Where there is no start, there are zeros.
///
/// Panics where `a` or B is shorter than that.
pub fn multiply_columnwise(
    c: &mut [f32],
    [depth, columns]: [usize; 2],
    a: &[f32],
    starts: &[Option<usize>],
    b: Matrix<'_>,
) {
    if columns == 0 {
        return;
    }
    assert!(b.strides[1] == 1, "the columns of the rhs must lie together");
    assert!(starts.len() == c.len() / columns * depth, "a start is missing");
    rows(Isa::detect(), c, [depth, columns], a, starts, b);
}

for_each_isa! {
    fn rows(
        isa;
        c: &mut [f32],
        extents: [usize; 2],
        a: &[f32],
        starts: &[Option<usize>],
        b: Matrix<'_>,
    ) = rows_body
}

#[inline(always)]
fn rows_body(
    isa: Isa,
    c: &mut [f32],
    extents: [usize; 2],
    a: &[f32],
    starts: &[Option<usize>],
    b: Matrix<'_>,
) {
    match isa != Isa::Baseline || cfg!(target_arch = "aarch64") {
        true => rows_of::<true>(c, extents, a, starts, b),
        false => rows_of::<false>(c, extents, a, starts, b),
    }
}

#[inline(always)]
fn rows_of<const FUSED: bool>(
    c: &mut [f32],
    extents: [usize; 2],
    a: &[f32],
    starts: &[Option<usize>],
    b: Matrix<'_>,
) {
    let [depth, columns] = extents;
    for (row, c) in c.chunks_exact_mut(columns).enumerate() {
        let starts = &starts[row * depth..][..depth];
        let (wide, rest) = c.as_chunks_mut::<COLUMNS>();
        let mut first = 0;
        for c in wide {
            sums::<FUSED, _>(c, first, a, starts, b);
            first += COLUMNS;
        }
        let (narrow, rest) = rest.as_chunks_mut::<16>();
        for c in narrow {
            sums::<FUSED, _>(c, first, a, starts, b);
            first += 16;
        }
        for c in rest {
            sums::<FUSED, 1>(std::array::from_mut(c), first, a, starts, b);
            first += 1;
        }
    }
}

/// The sums of `N` columns from `first` on.
#[inline(always)]
fn sums<const FUSED: bool, const N: usize>(
    c: &mut [f32; N],
    first: usize,
    a: &[f32],
    starts: &[Option<usize>],
    b: Matrix<'_>,
) {
    let mut sums = [0.0; N];
    for (d, start) in starts.iter().enumerate() {
        let left = match start {
            Some(start) => &a[start + first..][..N],
            None => &ZEROS[..N],
        };
        let right = &b.data[d * b.strides[0] + first..][..N];
        for ((sum, a), b) in sums.iter_mut().zip(left).zip(right) {
            *sum = if FUSED { a.mul_add(*b, *sum) } else { a * b + *sum };
        }
    }
    *c = sums;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_one_chain_of_sums() {
        let fused = Isa::detect() != Isa::Baseline || cfg!(target_arch = "aarch64");
        let numbers = |count: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * 7919) % 1013) as f32 / 500.0 - 1.0).collect()
        };
        for [rows, depth, columns] in [[3, 9, 64], [2, 4, 85], [5, 3, 147], [4, 0, 7], [1, 2, 1]] {
            let (a, b) = (numbers(depth * columns + 9), numbers(depth * (columns + 3)));
            let starts: Vec<Option<usize>> =
                (0..rows * depth).map(|i| (i % 4 != 1).then_some(i * 7 % 10)).collect();
            let mut c = vec![f32::NAN; rows * columns];
            let right = Matrix { data: &b, strides: [columns + 3, 1] };
            multiply_columnwise(&mut c, [depth, columns], &a, &starts, right);
            for (index, got) in c.iter().enumerate() {
                let (row, column) = (index / columns, index % columns);
                let want = (0..depth).fold(0.0f32, |sum, d| {
                    let a = starts[row * depth + d].map_or(0.0, |start| a[start + column]);
                    let b = b[d * (columns + 3) + column];
                    if fused { a.mul_add(b, sum) } else { a * b + sum }
                });
                assert_eq!(got.to_bits(), want.to_bits(), "{row} {column} of {depth}");
            }
        }
    }
}
