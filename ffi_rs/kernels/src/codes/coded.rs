//! Numbers by their codes.

use std::ops::Range;

use super::Codes;
use super::lines::{of_codes, of_table, of_tables};
use crate::isa::Isa;
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
        let stride = out.len();
        self.write(Isa::detect(), row..row + 1, columns, out, stride);
    }

    /// Writes some rows of a column, as [`write_row`](Self::write_row).
    pub fn write_column(&self, column: usize, rows: Range<usize>, out: &mut [f32]) {
        assert!(rows.len() == out.len(), "a column of another length");
        let levels = &self.levels;
        for (out, row) in out.iter_mut().zip(rows) {
            let code = self.codes.fields(row, &(column..column + 1)).code(0);
            let level = levels.table.map_or(code as f32, |table| table.row(column)[code]);
            let group = row / levels.group;
            let [zero_point, scale] = [levels.zero_point, levels.scale].map(|all| {
                let values = all.row(group);
                values[column.min(values.len() - 1)]
            });
            *out = (level - zero_point) * scale;
        }
    }

    /// Writes some rows and columns to rows that are so many numbers apart.
    pub(crate) fn write(
        &self,
        isa: Isa,
        rows: Range<usize>,
        columns: Range<usize>,
        out: &mut [f32],
        stride: usize,
    ) {
        let Self { codes, levels } = self;
        assert!(
            rows.end <= codes.depth && columns.end <= codes.columns,
            "no such rows and columns"
        );
        let table = levels.table.map(|table| match table.only_row() {
            Some(entries) => Table::Shared(padded(entries)),
            None => Table::ByColumn(table),
        });
        let count = columns.len();
        let mut of_columns = [(); 2].map(|()| Scratch::<f32>::new(count));
        let mut of_group = usize::MAX;
        for (index, row) in rows.enumerate() {
            let group = row / levels.group;
            if group != of_group {
                of_group = group;
                for (to, from) in of_columns.iter_mut().zip([levels.zero_point, levels.scale]) {
                    spread(to, from.row(group), &columns);
                }
            }
            let out = &mut out[index * stride..][..count];
            let of_columns = of_columns.each_ref().map(|all| &all[..]);
            let fields = codes.fields(row, &columns);
            match &table {
                None => of_codes(isa, out, &fields, of_columns),
                Some(Table::Shared(levels)) => of_table(isa, out, &fields, of_columns, levels),
                Some(Table::ByColumn(table)) => {
                    of_tables(out, &fields, of_columns, |index| table.row(columns.start + index));
                }
            }
        }
    }
}

/// The levels of codes: those of all columns, or of each.
enum Table<'a> {
    Shared(Box<[f32; CODES]>),
    ByColumn(ByGroup<'a>),
}

/// Codes of as many bits as there are at most.
const CODES: usize = 256;

/// The levels, and zeros.
fn padded(levels: &[f32]) -> Box<[f32; CODES]> {
    let mut padded = Box::new([0.0; CODES]);
    padded[..levels.len()].copy_from_slice(levels);
    padded
}

/// Writes what some columns have of these values, one of which may stand for all.
pub(super) fn spread(out: &mut [f32], values: &[f32], columns: &Range<usize>) {
    match values {
        [value] => out.fill(*value),
        _ => out.copy_from_slice(&values[columns.clone()]),
    }
}
