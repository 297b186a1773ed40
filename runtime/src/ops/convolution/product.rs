//! A convolution as products of matrices, of patches that exist for some places at a time.
//!
//! ```text
//! out[outer, o, inner] = sum over d of kernel[d, o]·patch[outer, inner, d]
//! ```
//!
//! where `outer` and `inner` are the places before and behind the outputs in the result, and d is the
//! depth. Where there is nothing behind, the rows of a product are places and its columns outputs; else
//! its rows are outputs and its columns the inner places. Departures from that:
//!
//! 1. A part of the places and of the depth at a time is copied, and the sums go on.
//! 2. What lies in x as a matrix of places and depth is not copied.
//! 3. Where each channel is a group, rows are sums of products column by column.

use lumina_kernels::{ParFor, Serial, Strided};

use super::super::common::chunked;
use super::numbers::{Columns, Factor, Number};
use super::patches::{Patches, Point, Side, Spatial, Step};

/// Sizes that only speed depends on. Tests have small ones, so that small tensors are cut as well.
struct Sizes {
    /// Elements of the patches that one thread copies at a time: a part of the cache of a core. More are
    /// read from the next one, fewer read the kernel more often.
    patches: usize,
    /// Depth that is copied at a time. Less loads and stores sums more often.
    depth: usize,
    /// Places of a product at most, where there is little depth.
    places: usize,
    /// The same where places are columns that one thread computes.
    columns: usize,
    /// Places for each worker from which on each has products of its own. Fewer read the kernel too
    /// often.
    places_of_worker: usize,
    /// Products from which on they are shared with other threads, which are to be woken.
    shared: usize,
}

const SIZES: Sizes = if cfg!(test) {
    Sizes { patches: 64, depth: 10, places: 8, columns: 6, places_of_worker: 3, shared: 16 }
} else {
    Sizes {
        patches: 1 << 16,
        depth: 512,
        places: 1024,
        columns: 240,
        places_of_worker: 64,
        shared: 1 << 21,
    }
};

/// Rows of whole tiles.
const TILE: usize = 8;
/// Elements of a cache line. Rows of patches are an odd number of them apart, so that they take turns
/// in all sets of a cache.
const LINE: usize = if cfg!(test) { 4 } else { 16 };

/// Extents of the places before and behind the outputs in the result, and of the depth, with what each
/// axis brings.
pub(super) struct Axes {
    pub(super) outer: Vec<(usize, Step)>,
    pub(super) inner: Vec<(usize, Step)>,
    pub(super) depth: Vec<(usize, Step)>,
}

/// The groups of outputs.
#[derive(Clone, Copy)]
pub(super) struct Groups {
    pub(super) count: usize,
    /// Outputs of each.
    pub(super) outputs: usize,
    /// Elements of x from one to the next.
    pub(super) step: isize,
    /// Whether each has one channel of its own.
    pub(super) lone_channels: bool,
}

/// What to compute.
pub(super) struct Product<'a, T> {
    patches: Patches<'a, T>,
    /// What there is a product of for each group.
    images: Side,
    /// Rows of a product, or its columns.
    places: Side,
    places_are_rows: bool,
    depth: Side,
    /// Elements of x from place to place and along the depth, where these need no copy.
    direct: Option<[usize; 2]>,
    /// Depth and outputs.
    kernel: Factor<'a, T>,
    groups: Groups,
}

impl<'a, T: Number> Product<'a, T> {
    pub(super) fn new(
        x: &Strided<'a, T>,
        spatial: &'a [Spatial],
        axes: Axes,
        kernel: Factor<'a, T>,
        groups: Groups,
    ) -> Self {
        let Axes { outer, inner, depth } = axes;
        let places_are_rows = inner.iter().all(|&(extent, _)| extent == 1);
        let (images, places, depth) = match places_are_rows {
            true => {
                (Side::new([]), Side::new(outer), Side::new(depth).joined(spatial, SIZES.depth))
            }
            false => (Side::new(outer), Side::new(inner), Side::new(depth)),
        };
        let stride = |side: &Side| usize::try_from(side.stride(spatial)?).ok();
        let is_plain = spatial.iter().all(Spatial::is_plain);
        let strides = || Some([stride(&places)?, stride(&depth)?]);
        let direct = if is_plain { strides() } else { None };
        let patches = Patches::new(x, spatial);
        Self { patches, images, places, places_are_rows, depth, direct, kernel, groups }
    }

    /// Computes the result.
    pub(super) fn run(&self, out: &mut [T], pool: &dyn ParFor) {
        if out.is_empty() {
            return;
        }
        let products = out.len().saturating_mul(self.depth.count());
        let pool = if products < SIZES.shared { &Serial } else { pool };
        let lone_channels = self.groups.lone_channels && self.kernel.strides[1] == 1;
        match self.places_are_rows {
            true if lone_channels => self.columnwise(out, pool),
            true => self.rows(out, pool),
            false => self.columns(out, pool),
        }
    }

    /// Outputs of all groups.
    fn width(&self) -> usize {
        self.groups.count * self.groups.outputs
    }

    /// About equal parts of the depth, each at most `most` of it where that is possible.
    fn slice(&self, most: usize) -> usize {
        let (depth, unit) = (self.depth.count(), self.depth.unit());
        depth.div_ceil(depth.div_ceil(most)).next_multiple_of(unit).min(depth)
    }

    fn rows(&self, out: &mut [T], pool: &dyn ParFor) {
        let (rows, width, workers) = (self.places.count(), self.width(), pool.width());
        let most = match self.direct {
            Some(_) => SIZES.places,
            None => {
                (SIZES.patches / apart(self.depth.count().min(SIZES.depth))).clamp(1, SIZES.places)
            }
        };
        if rows < SIZES.places_of_worker * workers {
            // Threads share the outputs.
            for (index, out) in out.chunks_mut(most * width).enumerate() {
                self.some_rows(index * most, out, pool);
            }
        } else {
            let blocks = rows.div_ceil(most).next_multiple_of(workers);
            let height = rows.div_ceil(blocks).next_multiple_of(TILE);
            chunked(pool, out, height * width, |start, out| {
                self.some_rows(start / width, out, &Serial);
            });
        }
    }

    /// The rows from `first` on.
    fn some_rows(&self, first: usize, out: &mut [T], pool: &dyn ParFor) {
        let Self { groups, kernel, .. } = self;
        let (width, depth) = (self.width(), self.depth.count());
        let rows = out.len() / width;
        let mut multiply = |group: usize, from: usize, depth: usize, a: Factor<'_, T>| {
            let c = Columns { data: &mut *out, stride: width, first: group * groups.outputs };
            let b = kernel.from([from, group * groups.outputs]);
            T::multiply(pool, c, [rows, depth, groups.outputs], a, b, from > 0);
        };
        if let Some(strides) = self.direct {
            let point = self.places.point(first);
            for group in 0..groups.count {
                let data = self.patches.at(&point.moved(groups.step * group as isize));
                multiply(group, 0, depth, Factor { data, strides });
            }
            return;
        }
        let points: Vec<Point> = (first..first + rows).map(|row| self.places.point(row)).collect();
        let slice = self.slice(SIZES.depth.max(SIZES.patches / rows));
        let stride = apart(slice);
        T::with_scratch(rows * stride, |scratch| {
            for from in (0..depth).step_by(slice) {
                let count = slice.min(depth - from);
                let runs = self.depth.runs(from..from + count);
                for group in 0..groups.count {
                    let step = groups.step * group as isize;
                    let rows_of_worker = rows.div_ceil(pool.width());
                    chunked(pool, scratch, rows_of_worker * stride, |start, scratch| {
                        let points = &points[start / stride..];
                        for (point, patch) in points.iter().zip(scratch.chunks_mut(stride)) {
                            self.patches.gather(&point.moved(step), &runs, patch);
                        }
                    });
                    multiply(group, from, count, Factor { data: scratch, strides: [stride, 1] });
                }
            }
        });
    }

    fn columns(&self, out: &mut [T], pool: &dyn ParFor) {
        let one = self.groups.outputs * self.places.count();
        let workers = pool.width();
        if self.images.count() * self.groups.count < workers {
            for (index, out) in out.chunks_mut(one).enumerate() {
                self.some_columns(index, out, pool);
            }
        } else {
            let products = one.saturating_mul(self.depth.count());
            let chunk = one * (SIZES.shared / 2 / products).max(1);
            chunked(pool, out, chunk, |start, out| {
                for (index, out) in (start / one..).zip(out.chunks_mut(one)) {
                    self.some_columns(index, out, &Serial);
                }
            });
        }
    }

    /// Product number `index`, of an image and a group of it.
    fn some_columns(&self, index: usize, out: &mut [T], pool: &dyn ParFor) {
        let Self { groups, .. } = *self;
        let (columns, depth) = (self.places.count(), self.depth.count());
        let group = index % groups.count;
        let point = self.images.point(index / groups.count).moved(groups.step * group as isize);
        let mut multiply = |from: [usize; 2], extents: [usize; 2], b: Factor<'_, T>| {
            let c = Columns { data: &mut *out, stride: columns, first: from[1] };
            let a = self.kernel.from([from[0], group * groups.outputs]).transposed();
            T::multiply(pool, c, [groups.outputs, extents[0], extents[1]], a, b, from[0] > 0);
        };
        if let Some([across, down]) = self.direct {
            let b = Factor { data: self.patches.at(&point), strides: [down, across] };
            return multiply([0, 0], [depth, columns], b);
        }
        let most = if pool.width() > 1 { SIZES.places } else { SIZES.columns };
        let width = columns.div_ceil(columns.div_ceil(most)).next_multiple_of(LINE).min(columns);
        let stride = apart(width);
        let slice = self.slice((SIZES.patches * pool.width() / stride).max(1));
        T::with_scratch(slice * stride, |scratch| {
            for first in (0..columns).step_by(width) {
                let width = width.min(columns - first);
                let runs = self.places.runs(first..first + width);
                for from in (0..depth).step_by(slice) {
                    let count = slice.min(depth - from);
                    let scratch = &mut scratch[..count * stride];
                    let rows_of_worker = count.div_ceil(pool.width());
                    chunked(pool, scratch, rows_of_worker * stride, |start, scratch| {
                        let indices = from + start / stride..;
                        for (index, patch) in indices.zip(scratch.chunks_mut(stride)) {
                            let tap = self.depth.point(index);
                            self.patches.gather(&point.plus(&tap), &runs, patch);
                        }
                    });
                    let b = Factor { data: scratch, strides: [stride, 1] };
                    multiply([from, first], [count, width], b);
                }
            }
        });
    }

    /// Rows whose every channel is a group, and so meets a few numbers of the kernel alone.
    fn columnwise(&self, out: &mut [T], pool: &dyn ParFor) {
        let Self { groups, kernel, .. } = self;
        let (rows, width, taps) = (self.places.count(), self.width(), self.depth.count());
        let taps_of_all: Vec<Point> = (0..taps).map(|tap| self.depth.point(tap)).collect();
        let is_direct = groups.outputs == 1 && groups.step == 1;
        let room = if is_direct { 1 } else { width } * taps;
        let most = (SIZES.patches / room).clamp(1, SIZES.places);
        let height = rows.div_ceil(rows.div_ceil(most).next_multiple_of(pool.width()));
        chunked(pool, out, height * width, |start, out| {
            let first = start / width;
            let points = first..first + out.len() / width;
            let starts = points.flat_map(|row| {
                let place = self.places.point(row);
                taps_of_all.iter().map(move |tap| self.patches.find(&place, tap))
            });
            let mut starts: Vec<Option<usize>> = starts.collect();
            if is_direct {
                T::multiply_columnwise(out, [taps, width], self.patches.data, &starts, *kernel);
                return;
            }
            // Each channel as often as it has outputs.
            T::with_scratch(starts.len() * width, |scratch| {
                for (index, start) in starts.iter_mut().enumerate() {
                    let Some(from) = *start else { continue };
                    let line = &mut scratch[index * width..][..width];
                    for (group, line) in line.chunks_mut(groups.outputs).enumerate() {
                        let at = from.wrapping_add_signed(groups.step * group as isize);
                        line.fill(self.patches.data[at]);
                    }
                    *start = Some(index * width);
                }
                T::multiply_columnwise(out, [taps, width], scratch, &starts, *kernel);
            });
        });
    }
}

/// From row to row of patches of so many elements.
fn apart(count: usize) -> usize {
    (count.div_ceil(LINE) | 1) * LINE
}
