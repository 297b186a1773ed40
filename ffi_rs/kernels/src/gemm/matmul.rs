//! Products of f32 matrices of any layout, for those who have no op of their own.

use super::multiply::multiply;
use super::operands::{Accumulate, LINE, Lhs, Rhs, odd_lines};
use crate::disjoint::DisjointMut;
use crate::isa::Isa;
use crate::packing::Arithmetic;
use crate::par::{ParFor, parallel_if};
use crate::scratch::Scratch;
use crate::tuning::{
    COPY_B_COLUMNS, COPY_B_DEPTH, MATMUL_FEW_COLUMNS, MATMUL_FEW_ROWS,
    MATMUL_PRODUCTS_PER_NANOSECOND, MATMUL_TASKS_PER_WORKER,
};
use crate::vector::{TRANSPOSED, add_dots, transpose};

/// A matrix: element (i, j) is `data[i·strides[0] + j·strides[1]]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The elements, from (0, 0) on.
    pub data: &'a [f32],
    /// Elements from row to row, and from column to column.
    pub strides: [usize; 2],
}

/// Columns of a row-major matrix, from `first` on, to write; its rows are `stride` apart.
#[derive(Debug)]
pub struct Columns<'a> {
    /// The elements of the rows.
    pub data: &'a mut [f32],
    /// Elements from row to row.
    pub stride: usize,
    /// The first column that is written.
    pub first: usize,
}

impl Matrix<'_> {
    fn transposed(self) -> Self {
        let [down, across] = self.strides;
        Self { strides: [across, down], ..self }
    }

    /// Panics unless all elements of so many rows and columns are there.
    pub(crate) fn check(&self, name: &str, rows: usize, columns: usize) {
        let [down, across] = self.strides;
        let last = (rows.saturating_sub(1))
            .checked_mul(down)
            .zip(columns.saturating_sub(1).checked_mul(across));
        let last = last.and_then(|(down, across)| down.checked_add(across));
        let is_there = last.is_some_and(|last| last < self.data.len());
        assert!(is_there || rows == 0 || columns == 0, "{name} is too short");
    }
}

/// `C ← A·B`, or with `add` `C ← C + A·B`, for so many rows, products (depth) and columns.
///
/// ```text
/// sum = add ? C[i, j] : 0;   for d in 0..depth { sum = A[i, d]·B[d, j] + sum };   C[i, j] = sum
/// ```
///
/// is what every element is, in this order, rounded once a step where the CPU has fused
/// multiply-adds: neither layouts nor threads change a bit.
///
/// Panics where a matrix is shorter than its extents and strides say.
pub fn matmul(
    pool: &dyn ParFor,
    c: Columns<'_>,
    [rows, depth, columns]: [usize; 3],
    a: Matrix<'_>,
    b: Matrix<'_>,
    add: bool,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    a.check("the lhs", rows, depth);
    b.check("the rhs", depth, columns);
    if columns == 1 && rows > 1 && c.stride == 1 {
        // A column is a row as well, and of rows the registers are filled.
        let c = Columns { stride: rows, ..c };
        return matmul(pool, c, [1, depth, rows], b.transposed(), a.transposed(), add);
    }
    let isa = Isa::detect();
    let pool =
        parallel_if(pool, (rows * depth).saturating_mul(columns) / MATMUL_PRODUCTS_PER_NANOSECOND);
    let tasks = if pool.width() > 1 { MATMUL_TASKS_PER_WORKER * pool.width() } else { 1 };
    let packs = b.strides[1] != 1;
    let widest = match (packs, rows < MATMUL_FEW_ROWS) {
        (false, _) => columns,
        (true, true) => MATMUL_FEW_COLUMNS,
        (true, false) => COPY_B_COLUMNS,
    };
    // About equal shares, as many for each worker.
    let shares = columns.div_ceil(widest).next_multiple_of(tasks);
    let width = columns.div_ceil(shares).next_multiple_of(LINE).min(widest);
    let groups = columns.div_ceil(width);
    let height = rows.div_ceil(tasks.div_ceil(groups)).next_multiple_of(ROWS_OF_TILES);
    let (stride, first) = (c.stride, c.first);
    let c = DisjointMut::new(c.data);
    pool.run(rows.div_ceil(height) * groups, &|task, _| {
        let (row, column) = (task / groups * height, task % groups * width);
        let (end, columns) = (rows.min(row + height), width.min(columns - column));
        let mut product = c.tile(stride, row..end, first + column..first + column + columns);
        if rows == 1
            && depth >= TRANSPOSED
            && [a.strides[1], b.strides[0]] == [1, 1]
            && let Some(sums) = product.rows_mut().next()
            && dots(
                isa,
                sums,
                &a.data[..depth],
                &b.data[column * b.strides[1]..],
                b.strides[1],
                add,
            )
        {
            return;
        }
        let lhs = |depth: usize| Lhs {
            packed: bytemuck::cast_slice(
                a.data.get(row * a.strides[0] + depth * a.strides[1]..).unwrap_or(&[]),
            ),
            row_stride: a.strides[0],
            depth_stride: a.strides[1],
        };
        let mut multiply = |rhs: Rhs<'_>, from: usize, depth: usize| {
            let accumulate = if add || from > 0 { Accumulate::Add } else { Accumulate::Overwrite };
            multiply(isa, Arithmetic::F32, &mut product, lhs(from), rhs, depth, accumulate);
        };
        if !packs || depth == 0 {
            let packed = bytemuck::cast_slice(b.data.get(column..).unwrap_or(&[]));
            return multiply(Rhs { packed, stride: b.strides[0] }, 0, depth);
        }
        let stride = odd_lines(columns);
        let mut panel = Scratch::new(COPY_B_DEPTH.min(depth) * stride);
        for from in (0..depth).step_by(COPY_B_DEPTH) {
            let slice = COPY_B_DEPTH.min(depth - from);
            let corner = &b.data[from * b.strides[0] + column * b.strides[1]..];
            match b.strides[0] {
                1 => pack_columns(isa, &mut panel, stride, corner, b.strides[1], [slice, columns]),
                _ => pack(&mut panel, stride, corner, b.strides, [slice, columns]),
            }
            multiply(Rhs { packed: &panel, stride }, from, slice);
        }
    });
}

/// The products of x and as many rows as there are sums, which are `apart`, where the instruction set has
/// registers for that; returns whether it has.
fn dots(isa: Isa, sums: &mut [f32], x: &[f32], rows: &[f32], apart: usize, add: bool) -> bool {
    let (squares, rest) = sums.as_chunks_mut::<TRANSPOSED>();
    if !rest.is_empty() {
        return false;
    }
    squares.iter_mut().enumerate().all(|(index, sums)| {
        if !add {
            *sums = [0.0; TRANSPOSED];
        }
        add_dots(isa, sums, x, &rows[index * TRANSPOSED * apart..], apart)
    })
}

/// Rows of whole tiles of every instruction set.
const ROWS_OF_TILES: usize = 24;

/// Copies `depth` rows of B, of which so many columns, to a row each of the panel, `stride` apart.
fn pack(
    panel: &mut [u32],
    stride: usize,
    b: &[f32],
    strides: [usize; 2],
    [depth, columns]: [usize; 2],
) {
    // A square at a time, so that cache lines of both are read and written whole.
    let mut square = [[0; LINE]; LINE];
    for from in (0..depth).step_by(LINE) {
        let rows = LINE.min(depth - from);
        for left in (0..columns).step_by(LINE) {
            let width = LINE.min(columns - left);
            for (column, line) in square[..width].iter_mut().enumerate() {
                let b = &b[from * strides[0] + (left + column) * strides[1]..];
                for (row, word) in line[..rows].iter_mut().enumerate() {
                    *word = b[row * strides[0]].to_bits();
                }
            }
            for row in 0..rows {
                let out = &mut panel[(from + row) * stride + left..][..width];
                for (word, line) in out.iter_mut().zip(&square) {
                    *word = line[row];
                }
            }
        }
    }
}

/// The same where the rows lie together, and columns are `apart`.
fn pack_columns(
    isa: Isa,
    panel: &mut [u32],
    stride: usize,
    b: &[f32],
    apart: usize,
    [depth, columns]: [usize; 2],
) {
    for left in (0..columns).step_by(TRANSPOSED) {
        let mut lines: [&[u32]; TRANSPOSED] = [&[]; TRANSPOSED];
        let lines = &mut lines[..TRANSPOSED.min(columns - left)];
        for (column, line) in (left..).zip(lines.iter_mut()) {
            *line = bytemuck::cast_slice(&b[column * apart..][..depth]);
        }
        transpose(isa, &mut panel[left..], stride, lines, depth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Serial, ThreadPool};

    #[test]
    fn every_layout_and_split_gives_the_same_chain_of_sums() {
        let fused = Isa::detect() != Isa::Baseline || cfg!(target_arch = "aarch64");
        let step = |sum: f32, a: f32, b: f32| if fused { a.mul_add(b, sum) } else { a * b + sum };
        let numbers = |count: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * 7919) % 1013) as f32 / 500.0 - 1.0).collect()
        };
        let pool = ThreadPool::new(3).unwrap();
        for [rows, depth, columns] in [
            [1, 300, 1],
            [1, 270, 150],
            [5, 7, 3],
            [70, 300, 200],
            [200, 33, 10],
            [3, 0, 9],
            [0, 4, 4],
        ] {
            let (a, b) = (numbers(rows * depth + 1), numbers(depth * columns + 1));
            for a_strides in [[depth, 1], [1, rows]] {
                for b_strides in [[columns, 1], [1, depth], [0, 1], [0, 0]] {
                    for add in [false, true] {
                        let stride = columns + 2;
                        let before = numbers(rows * stride);
                        let run = |pool: &dyn ParFor| {
                            let mut c = before.clone();
                            let lhs = Matrix { data: &a, strides: a_strides };
                            let rhs = Matrix { data: &b, strides: b_strides };
                            let product = Columns { data: &mut c, stride, first: 1 };
                            matmul(pool, product, [rows, depth, columns], lhs, rhs, add);
                            c
                        };
                        let got = run(&Serial);
                        assert_eq!(got, run(&pool));
                        for (index, (&got, &before)) in got.iter().zip(&before).enumerate() {
                            // One column before, and one behind the product.
                            let (i, j) = (index / stride, (index % stride).wrapping_sub(1));
                            let product = |sum: f32, d: usize| {
                                let a = a[i * a_strides[0] + d * a_strides[1]];
                                step(sum, a, b[d * b_strides[0] + j * b_strides[1]])
                            };
                            let want = match j < columns {
                                true => (0..depth).fold(if add { before } else { 0.0 }, product),
                                false => before,
                            };
                            assert_eq!(got.to_bits(), want.to_bits(), "{rows} {depth} {columns}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_product_with_a_vector_is_the_same_chain_of_sums() {
        let fused = Isa::detect() != Isa::Baseline || cfg!(target_arch = "aarch64");
        let step = |sum: f32, a: f32, b: f32| if fused { a.mul_add(b, sum) } else { a * b + sum };
        let (rows, depth) = (150, 270);
        let a: Vec<f32> = (0..rows * depth).map(|i| ((i * 7919) % 1013) as f32 - 500.0).collect();
        let b: Vec<f32> = (0..depth).map(|i| ((i * 31) % 97) as f32 / 50.0 - 1.0).collect();
        for strides in [[depth, 1], [1, rows]] {
            for add in [false, true] {
                let mut c = vec![3.0; rows];
                let lhs = Matrix { data: &a, strides };
                let rhs = Matrix { data: &b, strides: [1, 5] };
                let product = Columns { data: &mut c, stride: 1, first: 0 };
                matmul(&Serial, product, [rows, depth, 1], lhs, rhs, add);
                for (i, got) in c.iter().enumerate() {
                    let product = |sum, d| step(sum, a[i * strides[0] + d * strides[1]], b[d]);
                    let want = (0..depth).fold(if add { 3.0 } else { 0.0 }, product);
                    assert_eq!(got.to_bits(), want.to_bits(), "{strides:?} {i}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "the rhs is too short")]
    fn a_short_matrix_is_refused() {
        let (a, b) = ([1.0; 6], [1.0; 5]);
        let lhs = Matrix { data: &a, strides: [3, 1] };
        let rhs = Matrix { data: &b, strides: [2, 1] };
        let product = Columns { data: &mut [0.0; 4], stride: 2, first: 0 };
        matmul(&Serial, product, [2, 3, 2], lhs, rhs, false);
    }
}
