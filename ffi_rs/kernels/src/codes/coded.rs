//! Numbers by their codes.

use std::ops::Range;

use super::Codes;
use crate::scratch::Scratch;
use crate::{Error, View};

/// A matrix of numbers that are given by packed codes, depth × columns:
/// `(level - zero_point) · scale`, see [`Dequantize`](crate::ops::Dequantize).
#[derive(Clone, Copy, Debug)]
pub struct Coded<'a> {
    pub(crate) codes: Codes<'a>,
    pub(crate) levels: Levels<'a>,
}

/// What codes stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Levels<'a> {
    pub(crate) scale: ByGroup<'a>,
    pub(crate) zero_point: ByGroup<'a>,
    /// The levels by column and code; None where they are the codes.
    pub(crate) table: Option<ByGroup<'a>>,
    /// Rows with one scale and zero point.
    pub(crate) group: usize,
}

/// A matrix whose only row, or only column, may stand for all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByGroup<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
}

impl<'a> ByGroup<'a> {
    pub(crate) fn of(view: &View<'a>) -> Result<Self, Error> {
        Ok(Self { data: view.data()?, rows: view.shape()[0], columns: view.shape()[1] })
    }

    /// The elements of a row; one, if it stands for all columns.
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        let row = if self.rows == 1 { 0 } else { row };
        &self.data[row * self.columns..][..self.columns]
    }

    /// The elements of the only row.
    pub(crate) fn only_row(&self) -> Option<&'a [f32]> {
        (self.rows == 1).then(|| self.row(0))
    }
}

impl Levels<'_> {
    /// The number of a code.
    fn number(&self, row: usize, column: usize, code: u8) -> f32 {
        let level = match self.table {
            None => f32::from(code),
            Some(table) => table.row(column)[usize::from(code)],
        };
        let group = row / self.group;
        let of = |values: &[f32]| values[column.min(values.len() - 1)];
        (level - of(self.zero_point.row(group))) * of(self.scale.row(group))
    }
}

impl Coded<'_> {
    /// Depth and columns.
    pub fn extents(&self) -> [usize; 2] {
        [self.codes.depth, self.codes.columns]
    }

    /// Writes some columns of a row.
    ///
    /// Panics where there are no such row and columns, or not as many as `out` has.
    pub fn write_row(&self, row: usize, columns: Range<usize>, out: &mut [f32]) {
        assert!(columns.len() == out.len(), "a row of another length");
        let mut codes = Scratch::<u8>::new(columns.len());
        self.codes.unpack_row(row, columns.start, &mut codes);
        for ((out, &code), column) in out.iter_mut().zip(&*codes).zip(columns) {
            *out = self.levels.number(row, column, code);
        }
    }

    /// Writes some rows of a column, as [`write_row`](Self::write_row).
    pub fn write_column(&self, column: usize, rows: Range<usize>, out: &mut [f32]) {
        assert!(rows.len() == out.len(), "a column of another length");
        for (out, row) in out.iter_mut().zip(rows) {
            self.write_row(row, column..column + 1, std::array::from_mut(out));
        }
    }
}
