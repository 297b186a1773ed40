//! Rows of patches: made of the input where they are needed, and added back to it.
//!
//! Row `(image · height + top) · width + left` holds what the kernel meets there, in its order: height,
//! width, channel. Of a group it holds the channels of the group.

use std::ops::Range;

use super::geometry::{Geometry, Shape};
use crate::isa::{Isa, for_each_isa};
use crate::ops::chain::peak_of;

/// The patches of one call.
#[derive(Clone, Copy)]
pub(super) struct Patches {
    pub(super) geometry: Geometry,
    pub(super) shape: Shape,
}

impl Patches {
    /// Calls `run(part, at)` for parts of `rows` of the patches of a group, in order, each part next
    /// to the one before: of numbers from `at` on in x, or of zeros.
    #[inline(always)]
    fn for_each_run(
        &self,
        rows: Range<usize>,
        group: usize,
        mut run: impl FnMut(Range<usize>, Option<usize>),
    ) {
        let Shape { input: [height, width], channels, taps: [tall, wide], places, .. } = self.shape;
        let [down, across] = self.geometry.axes;
        let depth = channels / self.shape.groups;
        let joined = self.shape.groups == 1;
        let mut end = 0;
        let mut next = |count: usize, at: Option<usize>| {
            run(end..end + count, at);
            end += count;
        };
        let mut left = rows.start % places[1];
        let mut top = rows.start / places[1] % places[0];
        let mut image = rows.start / self.shape.positions();
        for _ in rows {
            for tap in 0..tall {
                let Some(y) = down.input(top, tap, height) else {
                    next(wide * depth, None);
                    continue;
                };
                let line = (image * height + y) * width;
                across.for_each_run(left, wide, width, joined, |taps, x| {
                    let at = x.map(|x| (line + x) * channels + group * depth);
                    next(taps.len() * depth, at);
                });
            }
            left += 1;
            if left == places[1] {
                (left, top) = (0, top + 1);
            }
            if top == places[0] {
                (top, image) = (0, image + 1);
            }
        }
    }

    /// Writes `rows` of the patches of a group.
    pub(super) fn gather(&self, patches: &mut [f32], x: &[f32], rows: Range<usize>, group: usize) {
        self.for_each_run(rows, group, |part, at| {
            let part = &mut patches[part];
            match at {
                Some(at) => part.copy_from_slice(&x[at..at + part.len()]),
                None => part.fill(0.0),
            }
        });
    }

    /// The largest finite magnitude in the patches of an image, all groups of them.
    pub(super) fn peak(&self, isa: Isa, x: &[f32], image: usize, met: &[Vec<bool>; 2]) -> f32 {
        let Shape { input: [height, width], channels, .. } = self.shape;
        let x = &x[image * self.shape.image()..][..self.shape.image()];
        let mut peak: f32 = 0.0;
        for y in (0..height).filter(|y| met[0][*y]) {
            let line = &x[y * width * channels..][..width * channels];
            for (is_met, pixels) in runs_of(&met[1]) {
                if is_met {
                    let part = pixels.start * channels..pixels.end * channels;
                    peak = peak.max(peak_of(isa, &line[part]));
                }
            }
        }
        peak
    }

    /// Which lines and which columns of the images are in a patch.
    pub(super) fn met(&self) -> [Vec<bool>; 2] {
        let Shape { input, taps, places, .. } = self.shape;
        [0, 1].map(|axis| self.geometry.axes[axis].met(places[axis], taps[axis], input[axis]))
    }
}

/// Runs of the same value.
fn runs_of(values: &[bool]) -> impl Iterator<Item = (bool, Range<usize>)> {
    let mut start = 0;
    values.chunk_by(|a, b| a == b).map(move |run| {
        let range = start..start + run.len();
        start = range.end;
        (run[0], range)
    })
}

#[inline(always)]
fn add_body(
    images: &mut [f32],
    image: usize,
    patches: &Patches,
    values: &[f32],
    rows: Range<usize>,
    group: usize,
) {
    let before = image * patches.shape.image();
    patches.for_each_run(rows, group, |part, at| {
        if let Some(at) = at {
            let values = &values[part];
            for (sum, value) in images[at - before..][..values.len()].iter_mut().zip(values) {
                *sum += value;
            }
        }
    });
}

for_each_isa! {
    /// Adds `values`, those of `rows` of the patches of a group, to what they are of in `images`, of
    /// which the first is image `image`.
    pub(super) fn add(
        images: &mut [f32],
        image: usize,
        patches: &Patches,
        values: &[f32],
        rows: Range<usize>,
        group: usize,
    ) = add_body
}
