//! Rows of which only the first columns are seen: what softmax and its gradient share.

use std::ops::Range;

use super::chain::{Broadcast, extents};
use crate::disjoint::DisjointMut;
use crate::par::parallel_if;
use crate::tuning::{SOFTMAX_CHUNK, SOFTMAX_PER_NANOSECOND};
use crate::{DType, Error, Fact, ParFor, View};

/// Checks the operands that say what is seen of `rows` rows, and their scale.
pub(super) fn check(op: &'static str, seen: &Fact, scale: &Fact, rows: usize) -> Result<(), Error> {
    extents(op, "seen", seen, DType::I32, &[&[rows]])?;
    extents(op, "scale", scale, DType::F32, &[&[1, rows]])
}

/// How many columns of each row are seen, and its scale.
#[derive(Clone, Copy)]
pub(super) struct SeenRows<'a> {
    columns: usize,
    seen: &'a [i32],
    scale: Broadcast<'a, f32>,
}

impl<'a> SeenRows<'a> {
    /// Of operands that [`check`] has passed.
    pub(super) fn new(
        columns: usize,
        seen: &'a View<'_>,
        scale: &'a View<'_>,
    ) -> Result<Self, Error> {
        Ok(Self::of(columns, seen.data()?, scale.data()?))
    }

    /// Of so many columns, what is seen of each row, and the scale of each, or one of all.
    pub(super) fn of(columns: usize, seen: &'a [i32], scale: &'a [f32]) -> Self {
        Self { columns, seen, scale: Broadcast::new(scale, 1, seen.len()) }
    }

    /// Number of columns.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The elements of a row that are seen, counted over all rows.
    #[inline(always)]
    pub(super) fn range(&self, row: usize) -> Range<usize> {
        let start = row * self.columns;
        start..start + usize::try_from(self.seen[row]).unwrap_or(0).min(self.columns)
    }

    /// The scale of a row.
    #[inline(always)]
    pub(super) fn scale(&self, row: usize) -> f32 {
        self.scale.get(row)
    }

    /// Calls `task` for ranges of rows that together are all, with their part of `out`.
    pub(super) fn run(
        &self,
        out: &mut [f32],
        pool: &dyn ParFor,
        task: impl Fn(Range<usize>, &mut [f32]) + Sync,
    ) {
        if out.is_empty() {
            return;
        }
        let (rows, columns) = (self.seen.len(), self.columns);
        let step = (SOFTMAX_CHUNK / columns).max(1);
        let pool = parallel_if(pool, out.len() / SOFTMAX_PER_NANOSECOND);
        let out = DisjointMut::new(out);
        pool.run(rows.div_ceil(step), &|chunk, _| {
            let rows = chunk * step..rows.min((chunk + 1) * step);
            task(rows.clone(), &mut out.write(rows.start * columns..rows.end * columns));
        });
    }
}
