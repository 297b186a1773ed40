//! The lines of a tensor along one of its axes.

use lumina_kernels::{Element, ParFor};

use super::common::{CHUNK, chunked};

/// Every line along an axis, by its number: that of the axes before it, then of those after it.
pub(super) struct Lines {
    /// How many there are.
    pub(super) count: usize,
    /// Elements of each.
    pub(super) extent: usize,
    /// Elements from one of a line to the next.
    pub(super) step: usize,
}

impl Lines {
    pub(super) fn along(shape: &[usize], axis: usize) -> Self {
        let step: usize = shape[axis + 1..].iter().product();
        let outer: usize = shape[..axis].iter().product();
        Self { count: outer * step, extent: shape[axis], step }
    }

    /// Lines of a chunk of work.
    pub(super) fn per_chunk(&self) -> usize {
        (CHUNK / self.extent.max(1)).max(1)
    }

    /// Where the element of a line at an index along the axis lies.
    pub(super) fn position(&self, line: usize, index: usize) -> usize {
        (line / self.step * self.extent + index) * self.step + line % self.step
    }

    /// Fills a tensor whose lines have `extent` elements: `out[line, place] = element(line, place)`.
    pub(super) fn gather<T: Element>(
        &self,
        out: &mut [T],
        extent: usize,
        pool: &dyn ParFor,
        element: impl Fn(usize, usize) -> T + Sync,
    ) {
        chunked(pool, out, CHUNK, |start, out| {
            for (position, out) in (start..).zip(out) {
                let (row, column) = (position / self.step, position % self.step);
                *out = element(row / extent * self.step + column, row % extent);
            }
        });
    }
}
