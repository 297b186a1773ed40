//! Which element of the input meets which one of the kernel.
//!
//! Along each axis of the image, element i of the input lies at `i · input_dilation + before`, between
//! zeros, and place p meets tap t of the kernel at `p · stride + t · kernel_dilation`.

use std::ops::Range;

use crate::ops::chain::Chain;
use crate::ops::sizes::Sizes;
use crate::{Attrs, DType, Error, Fact};

/// Strides, padding, dilations and groups, as attributes say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    op: &'static str,
    /// Along the height and along the width.
    pub(super) axes: [Axis; 2],
    groups: usize,
}

/// The geometry along one axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    stride: usize,
    /// Zeros before the first element, and after the last.
    before: usize,
    after: usize,
    input_dilation: usize,
    kernel_dilation: usize,
}

impl Geometry {
    /// From `window_strides`, `padding`, `input_dilation`, `kernel_dilation` and
    /// `feature_group_count`.
    pub(crate) fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        let [stride_h, stride_w] = numbers(op, attrs, "window_strides", 1)?;
        let [top, bottom, left, right] = numbers(op, attrs, "padding", 0)?;
        let [input_h, input_w] = numbers(op, attrs, "input_dilation", 1)?;
        let [kernel_h, kernel_w] = numbers(op, attrs, "kernel_dilation", 1)?;
        let groups = attrs.int(op, "feature_group_count")?;
        let axis = |stride, before, after, input_dilation, kernel_dilation| Axis {
            stride,
            before,
            after,
            input_dilation,
            kernel_dilation,
        };
        Ok(Self {
            op,
            axes: [
                axis(stride_h, top, bottom, input_h, kernel_h),
                axis(stride_w, left, right, input_w, kernel_w),
            ],
            groups: number(op, "feature_group_count", groups, 1)?,
        })
    }

    /// The extents of a convolution of `x` with `kernel`, which are checked.
    pub(crate) fn shape(&self, x: &Fact, kernel: &Fact) -> Result<Shape, Error> {
        let refuse = |message: String| Error::invalid(self.op, message);
        let &[images, height, width, channels] = tensor(self.op, "x", x)?;
        let of_weights = self.shape_of_weights(kernel)?;
        let Shape { taps, groups, .. } = of_weights;
        if channels != of_weights.channels {
            return Err(refuse(format!(
                "`kernel` must have {channels} / {groups} channels, those of `x` over \
                 `feature_group_count`, got {}",
                kernel.shape[2]
            )));
        }
        let input = [height, width];
        let mut places = [0; 2];
        for axis in 0..2 {
            places[axis] = self.axes[axis].places(input[axis], taps[axis]).ok_or_else(|| {
                refuse(format!("`kernel` {kernel} is bigger than the padded image, `x` {x}"))
            })?;
        }
        let rows = places
            .iter()
            .try_fold(images, |rows, places| rows.checked_mul(*places))
            .ok_or_else(|| refuse(format!("`x` {x} has too many places for `kernel` {kernel}")))?;
        Ok(Shape { images, input, places, rows, ..of_weights })
    }

    /// What `kernel`, which is checked, says of the extents; without an image.
    pub(super) fn shape_of_weights(&self, kernel: &Fact) -> Result<Shape, Error> {
        let refuse = |message: String| Error::invalid(self.op, message);
        let &[tall, wide, channels, columns] = tensor(self.op, "kernel", kernel)?;
        let groups = self.groups;
        if !columns.is_multiple_of(groups) || groups > columns.max(1) {
            return Err(refuse(format!(
                "`kernel` must have outputs that `feature_group_count` {groups} divides, got \
                 {columns}"
            )));
        }
        let depth = [tall, wide].iter().try_fold(channels, |depth, taps| depth.checked_mul(*taps));
        let (Some(depth), Some(channels)) = (depth, channels.checked_mul(groups)) else {
            return Err(refuse(format!("`kernel` {kernel} has too many elements")));
        };
        Ok(Shape {
            images: 0,
            input: [0; 2],
            channels,
            taps: [tall, wide],
            places: [0; 2],
            rows: 0,
            depth,
            columns,
            groups,
        })
    }
}

impl Axis {
    /// How many places a kernel of `taps` has along `extent` elements; None where it does not fit.
    fn places(&self, extent: usize, taps: usize) -> Option<usize> {
        let dilated = |count: usize, dilation: usize| match count.checked_sub(1) {
            Some(steps) => steps.checked_mul(dilation)?.checked_add(1),
            None => Some(0),
        };
        let padded = dilated(extent, self.input_dilation)?
            .checked_add(self.before)?
            .checked_add(self.after)?;
        let rest = padded.checked_sub(dilated(taps, self.kernel_dilation)?.max(1))?;
        Some(rest / self.stride + 1)
    }

    /// The element, of `extent`, that `tap` meets at `place`; None where that is a zero.
    #[inline(always)]
    pub(super) fn input(&self, place: usize, tap: usize, extent: usize) -> Option<usize> {
        let at = (place * self.stride + tap * self.kernel_dilation).checked_sub(self.before)?;
        let dilation = self.input_dilation;
        let (element, between) =
            if dilation == 1 { (at, 0) } else { (at / dilation, at % dilation) };
        (between == 0 && element < extent).then_some(element)
    }

    /// Calls `run(taps, element)` for runs of the `taps` at `place` that meet neighbors from
    /// `element` on, or zeros; of one tap each unless they are `joined`.
    #[inline(always)]
    pub(super) fn for_each_run(
        &self,
        place: usize,
        taps: usize,
        extent: usize,
        joined: bool,
        mut run: impl FnMut(Range<usize>, Option<usize>),
    ) {
        if !(joined && self.kernel_dilation == 1 && self.input_dilation == 1) {
            return (0..taps).for_each(|tap| run(tap..tap + 1, self.input(place, tap, extent)));
        }
        let start = place * self.stride;
        let first = self.before.saturating_sub(start).min(taps);
        let end = (self.before + extent).saturating_sub(start).clamp(first, taps);
        for (taps, meets) in [(0..first, false), (first..end, true), (end..taps, false)] {
            if !taps.is_empty() {
                let element = meets.then(|| start + taps.start - self.before);
                run(taps, element);
            }
        }
    }

    /// Which of `extent` elements meet one of the `taps` at one of the `places`.
    pub(super) fn met(&self, places: usize, taps: usize, extent: usize) -> Vec<bool> {
        let meets = |element: usize, tap: usize| {
            let at = element * self.input_dilation + self.before;
            at.checked_sub(tap * self.kernel_dilation)
                .is_some_and(|at| at.is_multiple_of(self.stride) && at / self.stride < places)
        };
        (0..extent).map(|element| (0..taps).any(|tap| meets(element, tap))).collect()
    }
}

/// The extents of a convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) images: usize,
    /// Height and width of an image.
    pub(super) input: [usize; 2],
    pub(super) channels: usize,
    /// Height and width of the kernel.
    pub(super) taps: [usize; 2],
    /// Height and width of what it gives of an image.
    pub(crate) places: [usize; 2],
    /// Places of all images.
    pub(super) rows: usize,
    /// Numbers of a patch, of one group.
    pub(super) depth: usize,
    /// Outputs of all groups.
    pub(crate) columns: usize,
    pub(super) groups: usize,
}

impl Shape {
    /// Places of an image.
    pub(super) fn positions(&self) -> usize {
        self.places[0] * self.places[1]
    }

    /// Numbers of an image.
    pub(super) fn image(&self) -> usize {
        self.input[0] * self.input[1] * self.channels
    }

    /// The same with `count` groups as one.
    pub(super) fn merged(&self, count: usize) -> Self {
        Self { depth: count * self.depth, groups: self.groups / count, ..*self }
    }

    /// Outputs of one group.
    pub(super) fn columns_of_group(&self) -> usize {
        self.columns / self.groups
    }

    /// The product of one group.
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes { rows: self.rows, depth: self.depth, columns: self.columns_of_group() }
    }

    /// Rows, depth and columns of as many products as all groups have.
    pub(crate) fn extents(&self) -> [usize; 3] {
        [self.rows, self.depth, self.columns]
    }

    /// The shape of the output.
    pub(crate) fn out(&self) -> [usize; 4] {
        [self.images, self.places[0], self.places[1], self.columns]
    }

    /// The shape of what is saved of it: that of the output, with an axis of arrays before the last
    /// where these have a limited number of inputs.
    pub(super) fn residual(&self, chain: &Chain) -> Vec<usize> {
        let mut shape = self.out().to_vec();
        if chain.array_rows.is_some() {
            shape.insert(3, chain.tiles(self.depth).count());
        }
        shape
    }
}

/// The extents of a tensor of f32 with four axes.
fn tensor<'a>(op: &'static str, name: &str, fact: &'a Fact) -> Result<&'a [usize; 4], Error> {
    match (fact.dtype, <&[usize; 4]>::try_from(fact.shape.as_slice())) {
        (DType::F32, Ok(shape)) => Ok(shape),
        _ => Err(Error::invalid(op, format!("`{name}` must be f32 with four axes, got {fact}"))),
    }
}

fn numbers<const N: usize>(
    op: &'static str,
    attrs: &dyn Attrs,
    name: &str,
    least: i64,
) -> Result<[usize; N], Error> {
    let given = attrs.ints(op, name)?;
    let given = <&[i64; N]>::try_from(given).map_err(|_| {
        Error::invalid(op, format!("`{name}` must have {N} integers, got {}", given.len()))
    })?;
    let mut converted = [0; N];
    for (converted, given) in converted.iter_mut().zip(given) {
        *converted = number(op, name, *given, least)?;
    }
    Ok(converted)
}

fn number(op: &'static str, name: &str, given: i64, least: i64) -> Result<usize, Error> {
    usize::try_from(given).ok().filter(|_| given >= least).ok_or_else(|| {
        Error::invalid(op, format!("`{name}` must be at least {least}, got {given}"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_the_taps_one_by_one(
            (stride, before, after) in (1..4usize, 0..4usize, 0..4usize),
            (input_dilation, kernel_dilation) in (1..4usize, 1..4usize),
            (extent, taps) in (0..7usize, 1..5usize),
        ) {
            let axis = Axis { stride, before, after, input_dilation, kernel_dilation };
            let Some(places) = axis.places(extent, taps) else { return Ok(()) };
            // As it is defined: zeros around and between the elements.
            let mut line = vec![None; before];
            for element in 0..extent {
                line.push(Some(element));
                let between = if element + 1 < extent { input_dilation - 1 } else { 0 };
                line.extend(vec![None; between]);
            }
            line.extend(vec![None; after]);
            prop_assert!((places - 1) * stride + (taps - 1) * kernel_dilation < line.len());
            prop_assert!(places * stride + (taps - 1) * kernel_dilation >= line.len());
            let mut met = vec![false; extent];
            for place in 0..places {
                let expected: Vec<Option<usize>> =
                    (0..taps).map(|tap| line[place * stride + tap * kernel_dilation]).collect();
                expected.iter().flatten().for_each(|element| met[*element] = true);
                for joined in [false, true] {
                    let mut got = Vec::new();
                    axis.for_each_run(place, taps, extent, joined, |run, element| {
                        assert_eq!(run.start, got.len());
                        got.extend((0..run.len()).map(|n| element.map(|element| element + n)));
                    });
                    prop_assert_eq!(&got, &expected);
                }
            }
            prop_assert_eq!(axis.met(places, taps, extent), met);
        }
    }
}
