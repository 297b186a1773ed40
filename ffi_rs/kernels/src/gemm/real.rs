//! Products of rows of numbers, of f32 by the tiles of words, and of f64 by tiles of arrays, which
//! compilers keep in registers.

use std::ops::{Add, Neg, Sub};

use bytemuck::Pod;
use num_complex::Complex;

use super::multiply::multiply;
use super::operands::{Accumulate, Lhs, Rhs};
use crate::disjoint::TileMut;
use crate::isa::{Isa, for_each_isa};
use crate::packing::Arithmetic;

/// Columns that every tile of rows of numbers has a multiple of.
pub(crate) const WHOLE_COLUMNS: usize = 16;

/// A real number whose matrices are multiplied.
pub(crate) trait Real:
    Pod + Send + Sync + Add<Output = Self> + Sub<Output = Self> + Neg<Output = Self>
{
    /// `C ← C + A·B`, or `C ← A·B` unless `add`, over so many numbers (depth); the rows of A and B
    /// are their strides apart, and those of C [whole](WHOLE_COLUMNS).
    fn multiply(
        isa: Isa,
        c: &mut TileMut<'_, Self>,
        a: Rows<'_, Self>,
        b: Rows<'_, Self>,
        depth: usize,
        add: bool,
    );

    /// Writes a part of each complex number.
    fn write_part(isa: Isa, out: &mut [Self], numbers: &[Complex<Self>], part: Part);
}

/// A real number that is made of a complex one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Re,
    MinusIm,
    /// re + im
    Sum,
    /// im - re
    Difference,
}

impl Part {
    #[inline(always)]
    pub(crate) fn of<T: Real>(self, z: Complex<T>) -> T {
        match self {
            Self::Re => z.re,
            Self::MinusIm => -z.im,
            Self::Sum => z.re + z.im,
            Self::Difference => z.im - z.re,
        }
    }
}

#[inline(always)]
fn write_part_body<T: Real>(out: &mut [T], numbers: &[Complex<T>], part: Part) {
    // A loop for each, without a decision in it.
    match part {
        Part::Re => write_each(out, numbers, |z| Part::Re.of(z)),
        Part::MinusIm => write_each(out, numbers, |z| Part::MinusIm.of(z)),
        Part::Sum => write_each(out, numbers, |z| Part::Sum.of(z)),
        Part::Difference => write_each(out, numbers, |z| Part::Difference.of(z)),
    }
}

#[inline(always)]
fn write_each<T: Real>(out: &mut [T], numbers: &[Complex<T>], part: impl Fn(Complex<T>) -> T) {
    for (out, number) in out.iter_mut().zip(numbers) {
        *out = part(*number);
    }
}

for_each_isa! {
    fn write_part_f32(out: &mut [f32], numbers: &[Complex<f32>], part: Part) = write_part_body
}

for_each_isa! {
    fn write_part_f64(out: &mut [f64], numbers: &[Complex<f64>], part: Part) = write_part_body
}

/// Rows of numbers, so many from one to the next.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) stride: usize,
}

impl Real for f32 {
    fn multiply(
        isa: Isa,
        c: &mut TileMut<'_, Self>,
        a: Rows<'_, Self>,
        b: Rows<'_, Self>,
        depth: usize,
        add: bool,
    ) {
        let a = Lhs { packed: bytemuck::cast_slice(a.data), row_stride: a.stride, depth_stride: 1 };
        let b = Rhs { packed: bytemuck::cast_slice(b.data), stride: b.stride };
        let accumulate = if add { Accumulate::Add } else { Accumulate::Overwrite };
        multiply(isa, Arithmetic::F32, c, a, b, depth, accumulate);
    }

    fn write_part(isa: Isa, out: &mut [Self], numbers: &[Complex<Self>], part: Part) {
        write_part_f32(isa, out, numbers, part);
    }
}

impl Real for f64 {
    fn multiply(
        isa: Isa,
        c: &mut TileMut<'_, Self>,
        a: Rows<'_, Self>,
        b: Rows<'_, Self>,
        depth: usize,
        add: bool,
    ) {
        multiply_f64(isa, c, a, b, depth, add);
    }

    fn write_part(isa: Isa, out: &mut [Self], numbers: &[Complex<Self>], part: Part) {
        write_part_f64(isa, out, numbers, part);
    }
}

for_each_isa! {
    fn multiply_f64(
        isa;
        c: &mut TileMut<'_, f64>,
        a: Rows<'_, f64>,
        b: Rows<'_, f64>,
        depth: usize,
        add: bool,
    ) = multiply_body
}

#[inline(always)]
fn multiply_body(
    isa: Isa,
    c: &mut TileMut<'_, f64>,
    a: Rows<'_, f64>,
    b: Rows<'_, f64>,
    depth: usize,
    add: bool,
) {
    debug_assert!(c.column_count().is_multiple_of(WHOLE_COLUMNS));
    // Twelve or eight registers of sums: as many as keep two pipes busy.
    match isa {
        Isa::Avx512 | Isa::Avx512Vnni | Isa::Avx512Bf16 => {
            tiles::<6, 16, true>(c, a, b, depth, add);
        }
        Isa::Avx2 | Isa::Avx2Vnni => tiles::<4, 8, true>(c, a, b, depth, add),
        _ if cfg!(target_arch = "aarch64") => tiles::<4, 8, true>(c, a, b, depth, add),
        _ => tiles::<4, 4, false>(c, a, b, depth, add),
    }
}

#[inline(always)]
fn tiles<const ROWS: usize, const COLUMNS: usize, const FUSED: bool>(
    c: &mut TileMut<'_, f64>,
    a: Rows<'_, f64>,
    b: Rows<'_, f64>,
    depth: usize,
    add: bool,
) {
    let rows = c.row_count();
    let whole = rows - rows % ROWS;
    for first in (0..c.column_count()).step_by(COLUMNS) {
        for row in (0..whole).step_by(ROWS) {
            tile::<ROWS, COLUMNS, FUSED>(c, (row, first), a, b, depth, add);
        }
        for row in whole..rows {
            tile::<1, COLUMNS, FUSED>(c, (row, first), a, b, depth, add);
        }
    }
}

/// Computes the tile whose upper left corner is there.
#[inline(always)]
fn tile<const ROWS: usize, const COLUMNS: usize, const FUSED: bool>(
    c: &mut TileMut<'_, f64>,
    (row, column): (usize, usize),
    a: Rows<'_, f64>,
    b: Rows<'_, f64>,
    depth: usize,
    add: bool,
) {
    let mut sums = [[0.0f64; COLUMNS]; ROWS];
    let mut part = c.rows(row..row + ROWS);
    if add {
        for (sums, row) in sums.iter_mut().zip(part.rows_mut()) {
            sums.copy_from_slice(&row[column..column + COLUMNS]);
        }
    }
    let left: [&[f64]; ROWS] = std::array::from_fn(|r| &a.data[(row + r) * a.stride..][..depth]);
    for d in 0..depth {
        let right = &b.data[d * b.stride + column..][..COLUMNS];
        for (sums, left) in sums.iter_mut().zip(left) {
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = if FUSED { left[d].mul_add(*right, *sum) } else { left[d] * right + *sum };
            }
        }
    }
    for (sums, row) in sums.iter().zip(part.rows_mut()) {
        row[column..column + COLUMNS].copy_from_slice(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_one_chain_of_sums() {
        let isa = Isa::detect();
        let fused = isa != Isa::Baseline || cfg!(target_arch = "aarch64");
        let numbers = |count: usize| -> Vec<f64> {
            (0..count).map(|i| ((i * 7919) % 1013) as f64 / 500.0 - 1.0).collect()
        };
        for (rows, depth, columns) in [(1, 7, 16), (6, 9, 32), (11, 40, 48), (4, 0, 16)] {
            let (a, b) = (numbers(rows * depth), numbers(depth * (columns + 3) + columns));
            let before = numbers(rows * columns);
            for add in [false, true] {
                let mut got = before.clone();
                let left = Rows { data: &a, stride: depth };
                let right = Rows { data: &b, stride: columns + 3 };
                f64::multiply(isa, &mut TileMut::new(&mut got, columns), left, right, depth, add);
                for (index, (got, before)) in got.iter().zip(&before).enumerate() {
                    let (row, column) = (index / columns, index % columns);
                    let want = (0..depth).fold(if add { *before } else { 0.0 }, |sum, d| {
                        let (a, b) = (a[row * depth + d], b[d * (columns + 3) + column]);
                        if fused { a.mul_add(b, sum) } else { a * b + sum }
                    });
                    assert_eq!(got.to_bits(), want.to_bits(), "{row} {column} of {depth}");
                }
            }
        }
    }
}
