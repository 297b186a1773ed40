//! Patches: the elements that a kernel meets, at some places or of some depth.
//!
//! As one would write it down, for an index of a place and one of the depth, which is a channel and a
//! tap along each spatial axis:
//!
//! ```text
//! position = place·stride + tap·window_dilation                           of each spatial axis
//! patch = 0 where one of the positions is that of padding, else x[image, channel, elements there]
//! ```
//!
//! Positions are sums of what the place and what the depth bring, so a [`Point`] is either of them, or
//! both. One of the two is kept while a run of the other is copied, which mostly lies together.

use std::ops::Range;

use lumina_kernels::{Element, Strided};

use crate::ops::window_axis::{WindowAxis, inside};
use crate::tensor::MAX_RANK;

/// Most spatial axes: those of a tensor but for batch and channels.
pub(super) const MOST_SPATIAL: usize = MAX_RANK - 2;

/// What an index brings: positions along the spatial axes, and elements of x beside them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Point {
    positions: [isize; MOST_SPATIAL],
    offset: isize,
}

impl Point {
    /// So many elements of x further.
    pub(super) fn moved(mut self, elements: isize) -> Self {
        self.offset += elements;
        self
    }

    fn along(&mut self, step: Step, index: isize) {
        match step {
            Step::Elements(stride) => self.offset += stride * index,
            Step::Positions { axis, step } => self.positions[axis] += step * index,
            Step::Together { axis, unit } => {
                self.positions[axis] += index / unit as isize;
                self.offset += index % unit as isize;
            }
        }
    }

    /// What both bring.
    pub(super) fn plus(mut self, other: &Self) -> Self {
        for (position, other) in self.positions.iter_mut().zip(other.positions) {
            *position += other;
        }
        self.moved(other.offset)
    }
}

/// What an axis of places or of the depth brings with each index.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Images, or channels: so many elements of x.
    Elements(isize),
    /// Places, or taps, along a spatial axis: so many positions.
    Positions { axis: usize, step: isize },
    /// Taps along a spatial axis and channels as one, where they lie together: each `unit`-th index a
    /// position, and an element otherwise.
    Together { axis: usize, unit: usize },
}

impl Step {
    /// The spatial axis along which it goes.
    #[inline(always)]
    fn axis(self) -> Option<usize> {
        match self {
            Self::Elements(_) => None,
            Self::Positions { axis, .. } | Self::Together { axis, .. } => Some(axis),
        }
    }
}

/// The places, or the depth, as axes in row-major order.
#[derive(Clone, Debug)]
pub(super) struct Side {
    axes: Vec<(usize, Step)>,
}

/// A run of indices along the last axis of a side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Of its first index.
    point: Point,
    /// Where it comes in what is copied.
    at: usize,
    count: usize,
    step: Step,
}

impl Side {
    pub(super) fn new(axes: impl IntoIterator<Item = (usize, Step)>) -> Self {
        let mut axes: Vec<(usize, Step)> =
            axes.into_iter().filter(|(extent, _)| *extent != 1).collect();
        if axes.is_empty() {
            axes.push((1, Step::Elements(0)));
        }
        Self { axes }
    }

    pub(super) fn count(&self) -> usize {
        self.axes.iter().map(|(extent, _)| extent).product()
    }

    /// What index number `index` brings.
    pub(super) fn point(&self, index: usize) -> Point {
        let (mut rest, mut point) = (index, Point::default());
        for &(extent, step) in self.axes.iter().rev() {
            point.along(step, (rest % extent) as isize);
            rest /= extent;
        }
        point
    }

    /// The runs of these indices.
    pub(super) fn runs(&self, indices: Range<usize>) -> Vec<Run> {
        let mut runs = Vec::new();
        let Some(&(extent, step)) = self.axes.last() else { return runs };
        let mut index = indices.start;
        while index < indices.end {
            let count = (extent - index % extent).min(indices.end - index);
            let at = index - indices.start;
            runs.push(Run { point: self.point(index), at, count, step });
            index += count;
        }
        runs
    }

    /// The same with the last two axes as one where those are neighbors that lie together in x: taps
    /// and channels, of at most `most` elements.
    pub(super) fn joined(mut self, spatial: &[Spatial], most: usize) -> Self {
        if let [.., (taps, Step::Positions { axis, step: 1 }), (channels, Step::Elements(1))] =
            self.axes[..]
            && spatial[axis].stride == channels as isize
            && spatial[axis].geometry.base_dilation == 1
            && taps.checked_mul(channels).is_some_and(|count| count <= most)
        {
            self.axes.truncate(self.axes.len() - 2);
            self.axes.push((taps * channels, Step::Together { axis, unit: channels }));
        }
        self
    }

    /// Indices that must not be parted.
    pub(super) fn unit(&self) -> usize {
        match self.axes.last() {
            Some(&(extent, Step::Together { .. })) => extent,
            _ => 1,
        }
    }

    /// Elements of x from index to index, if they are as many everywhere; there is no padding.
    pub(super) fn stride(&self, spatial: &[Spatial]) -> Option<isize> {
        let mut axes = self.axes.iter().rev().map(|&(extent, step)| match step {
            Step::Elements(stride) => (extent, stride),
            Step::Positions { axis, step } => (extent, step * spatial[axis].stride),
            Step::Together { .. } => (extent, 1),
        });
        let (mut count, stride) = axes.next()?;
        for (extent, outer) in axes {
            if outer != stride * count as isize {
                return None;
            }
            count *= extent;
        }
        Some(stride)
    }
}

/// A spatial axis of x.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spatial {
    pub(super) geometry: WindowAxis,
    pub(super) extent: usize,
    pub(super) stride: isize,
}

/// The input, of which patches are taken.
#[derive(Clone, Copy)]
pub(super) struct Patches<'a, T> {
    pub(super) data: &'a [T],
    pub(super) start: usize,
    pub(super) spatial: &'a [Spatial],
}

impl<'a, T: Element> Patches<'a, T> {
    pub(super) fn new(x: &Strided<'a, T>, spatial: &'a [Spatial]) -> Self {
        Self { data: x.data, start: x.start, spatial }
    }

    /// The elements from `point` on, which is not padding.
    pub(super) fn at(&self, point: &Point) -> &'a [T] {
        self.find(point, &Point::default()).map_or(&[], |at| &self.data[at..])
    }

    /// Where what `a` and `b` bring lies in the data, unless that is padding; but for the spatial axis
    /// `without`.
    #[inline(always)]
    fn locate(&self, a: &Point, b: &Point, without: Option<usize>) -> Option<usize> {
        let mut at = self.start as isize + a.offset + b.offset;
        for (index, axis) in self.spatial.iter().enumerate() {
            if Some(index) != without {
                let element = axis.element(a.positions[index] + b.positions[index])?;
                at += element as isize * axis.stride;
            }
        }
        Some(at as usize)
    }

    /// Where what `a` and `b` bring lies in the data, unless that is padding.
    #[inline]
    pub(super) fn find(&self, a: &Point, b: &Point) -> Option<usize> {
        self.locate(a, b, None)
    }

    /// Writes the elements of `runs` at `point`, in order, and zeros where there is padding.
    pub(super) fn gather(&self, point: &Point, runs: &[Run], out: &mut [T]) {
        for run in runs {
            let out = &mut out[run.at..][..run.count];
            let (axis, Point { positions, .. }) = (run.step.axis(), &run.point);
            let Some(from) = self.locate(point, &run.point, axis) else {
                out.fill(T::zeroed());
                continue;
            };
            match run.step {
                Step::Elements(stride) => copy(self.data, from, stride, out),
                Step::Positions { axis, step } => {
                    self.line(from, axis, point.positions[axis] + positions[axis], step, out);
                }
                Step::Together { axis, unit } => {
                    self.pixels(from, axis, point.positions[axis] + positions[axis], unit, out);
                }
            }
        }
    }

    /// What lies at `position`, `position + step` … along an axis.
    fn line(&self, from: usize, axis: usize, position: isize, step: isize, out: &mut [T]) {
        let spatial = &self.spatial[axis];
        if spatial.geometry.base_dilation != 1 {
            let mut position = position;
            for out in out {
                *out = match spatial.element(position) {
                    Some(e) => self.data[from.wrapping_add_signed(e as isize * spatial.stride)],
                    None => T::zeroed(),
                };
                position = position.wrapping_add(step);
            }
            return;
        }
        let position = position - spatial.geometry.low;
        let inside = inside(position, step, spatial.extent, out.len());
        let (before, rest) = out.split_at_mut(inside.start);
        let (within, behind) = rest.split_at_mut(inside.len());
        before.fill(T::zeroed());
        behind.fill(T::zeroed());
        if !within.is_empty() {
            let first = position + inside.start as isize * step;
            let from = from.wrapping_add_signed(first * spatial.stride);
            copy(self.data, from, step * spatial.stride, within);
        }
    }

    /// The pixels of `unit` elements each from `position` on.
    fn pixels(&self, from: usize, axis: usize, position: isize, unit: usize, out: &mut [T]) {
        let position = position - self.spatial[axis].geometry.low;
        let inside = inside(position, 1, self.spatial[axis].extent, out.len() / unit);
        let (before, rest) = out.split_at_mut(inside.start * unit);
        let (within, behind) = rest.split_at_mut(inside.len() * unit);
        before.fill(T::zeroed());
        behind.fill(T::zeroed());
        if !within.is_empty() {
            let first = (position + inside.start as isize) * unit as isize;
            let from = from.wrapping_add_signed(first);
            within.copy_from_slice(&self.data[from..from + within.len()]);
        }
    }
}

impl Spatial {
    /// Whether element i is at position i, and all positions are elements.
    pub(super) fn is_plain(&self) -> bool {
        self.geometry.is_dense() && self.geometry.low == 0
    }

    #[inline(always)]
    fn element(&self, position: isize) -> Option<usize> {
        self.geometry.element(position, self.extent)
    }
}

/// The elements `stride` apart.
fn copy<T: Element>(data: &[T], from: usize, stride: isize, out: &mut [T]) {
    match stride {
        1 => out.copy_from_slice(&data[from..from + out.len()]),
        0 => out.fill(data[from]),
        2.. => {
            for (out, x) in out.iter_mut().zip(data[from..].iter().step_by(stride as usize)) {
                *out = *x;
            }
        }
        _ => {
            let mut from = from;
            for out in out {
                *out = data[from];
                from = from.wrapping_add_signed(stride);
            }
        }
    }
}
