//! Along one axis: which element meets which tap of a window, or of a kernel, at which place.
//!
//! Element e lies at `e · base_dilation + low`, between and behind elements of padding, and place p
//! meets tap t at `p · stride + t · window_dilation`.

use std::ops::{Range, RangeInclusive};

use lumina_kernels::{Attrs, Error};

use super::common::refuse;

/// What positions and their distances stay below, so that sums of some of them do not overflow.
const FAR: i64 = 1 << 60;

/// The geometry along one axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowAxis {
    /// From place to place.
    pub(super) stride: isize,
    /// Padding before the first element and behind the last; negative numbers of it cut off.
    pub(super) low: isize,
    pub(super) high: isize,
    /// From element to element.
    pub(super) base_dilation: isize,
    /// From tap to tap.
    pub(super) window_dilation: isize,
}

impl WindowAxis {
    /// The axes that `window_strides`, `low`, `high` and the attributes `dilations`, those of the
    /// elements and of the taps, say.
    pub(super) fn from_attrs(
        op: &'static str,
        attrs: &dyn Attrs,
        dilations: [&str; 2],
    ) -> Result<Vec<Self>, Error> {
        let strides = positive(op, attrs, "window_strides", None)?;
        let count = Some(strides.len());
        let lows = list(op, attrs, "low", -FAR..=FAR, count)?;
        let highs = list(op, attrs, "high", -FAR..=FAR, count)?;
        let base = positive(op, attrs, dilations[0], count)?;
        let window = positive(op, attrs, dilations[1], count)?;
        let axis = |index: usize| {
            let number = |list: &[i64]| list[index] as isize;
            Self {
                stride: number(strides),
                low: number(lows),
                high: number(highs),
                base_dilation: number(base),
                window_dilation: number(window),
            }
        };
        Ok((0..strides.len()).map(axis).collect())
    }

    /// How many places there are along `extent` elements for a window of `taps`.
    pub(super) fn places(
        &self,
        op: &'static str,
        extent: usize,
        taps: usize,
    ) -> Result<usize, Error> {
        let dilated = |count: usize, dilation: isize| match count {
            0 => 0,
            _ => (count as i128 - 1) * dilation as i128 + 1,
        };
        let padded = dilated(extent, self.base_dilation) + self.low as i128 + self.high as i128;
        let window = dilated(taps, self.window_dilation);
        if !(0..=i128::from(FAR)).contains(&padded) {
            let Self { low, high, base_dilation, .. } = self;
            let message = format!(
                "an axis of {extent} elements, dilated by {base_dilation}, with padding {low} and \
                 {high} has {padded} elements, which is no extent"
            );
            return refuse(op, message);
        }
        Ok(match padded - window {
            // In range, as it is no more than `padded`.
            rest if rest >= 0 => (rest / self.stride as i128) as usize + 1,
            _ => 0,
        })
    }

    /// The element at this position, of `extent`; None where there is padding.
    #[inline(always)]
    pub(super) fn element(&self, position: isize, extent: usize) -> Option<usize> {
        let position = usize::try_from(position - self.low).ok()?;
        let element = match self.base_dilation {
            1 => position,
            dilation => {
                let dilation = dilation as usize;
                if !position.is_multiple_of(dilation) {
                    return None;
                }
                position / dilation
            }
        };
        (element < extent).then_some(element)
    }

    /// Whether every place meets but elements, whatever the window.
    pub(super) fn is_dense(&self) -> bool {
        self.low <= 0 && self.high <= 0 && self.base_dilation == 1
    }

    /// Whether place i meets element i, if there is one tap.
    pub(super) fn is_trivial(&self) -> bool {
        self.is_dense() && self.low == 0 && self.high == 0 && self.stride == 1
    }

    /// Which of `extent` elements the `taps` meet at `place`, in their order.
    pub(super) fn met(&self, place: usize, taps: usize, extent: usize) -> Met {
        let Self { stride, low, base_dilation, window_dilation, .. } = *self;
        let start = place as isize * stride - low;
        if base_dilation == 1 {
            let taps = inside(start, window_dilation, extent, taps);
            let first = start + taps.start as isize * window_dilation;
            return Met::new(first, window_dilation, taps.len());
        }
        // Elements are met that lie a whole number of dilations behind the start; each of them is the
        // same number of elements behind the one before.
        let step = window_dilation / common_divisor(window_dilation, base_dilation);
        let first = if start <= 0 { 0 } else { (start - 1) / base_dilation + 1 };
        let meets = |element: &isize| (element * base_dilation - start) % window_dilation == 0;
        let nothing = Met { first: 0, step: 1, count: 0 };
        let mut candidates = first..first.saturating_add(step).min(extent as isize);
        let Some(first) = candidates.find(meets) else { return nothing };
        let reach = (taps as isize - 1).saturating_mul(window_dilation);
        let last = start.saturating_add(reach).div_euclid(base_dilation).min(extent as isize - 1);
        match last - first {
            rest if rest >= 0 => Met::new(first, step, (rest / step) as usize + 1),
            _ => nothing,
        }
    }
}

/// The elements `first`, `first + step` …
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    pub(super) first: usize,
    /// 1 where there is but one.
    pub(super) step: usize,
    pub(super) count: usize,
}

impl Met {
    fn new(first: isize, step: isize, count: usize) -> Self {
        let step = if count > 1 { step as usize } else { 1 };
        Self { first: if count > 0 { first as usize } else { 0 }, step, count }
    }
}

/// Which of the positions `position`, `position + step` …, so many of them, lie in `0..extent`.
#[inline]
pub(super) fn inside(position: isize, step: isize, extent: usize, count: usize) -> Range<usize> {
    // The first index whose position is at least `bound`.
    let reaching = |bound: isize| {
        let distance = bound - position;
        if distance <= 0 { 0 } else { ((distance - 1) / step + 1) as usize }
    };
    let start = reaching(0).min(count);
    start..reaching(extent as isize).clamp(start, count)
}

/// The greatest common divisor of two positive numbers.
pub(super) fn common_divisor(a: isize, b: isize) -> isize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// An attribute of positive integers, so many of them if that is known.
pub(super) fn positive<'a>(
    op: &'static str,
    attrs: &'a dyn Attrs,
    name: &str,
    count: Option<usize>,
) -> Result<&'a [i64], Error> {
    list(op, attrs, name, 1..=FAR, count)
}

fn list<'a>(
    op: &'static str,
    attrs: &'a dyn Attrs,
    name: &str,
    range: RangeInclusive<i64>,
    count: Option<usize>,
) -> Result<&'a [i64], Error> {
    let list = attrs.ints(op, name)?;
    if let Some(wrong) = list.iter().find(|&number| !range.contains(number)) {
        let (least, most) = (range.start(), range.end());
        let message = format!("attribute `{name}` must lie in {least}..={most}, got {wrong}");
        return refuse(op, message);
    }
    match count {
        Some(count) if count != list.len() => {
            let got = list.len();
            let message = format!(
                "attribute `{name}` must have as many integers as `window_strides`, {count}, got \
                 {got}"
            );
            refuse(op, message)
        }
        _ => Ok(list),
    }
}
