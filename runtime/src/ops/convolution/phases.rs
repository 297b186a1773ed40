//! Convolutions of dilated inputs, most of whose products are with zeros: convolutions of inputs that
//! are not, each of the places that meet the same taps.
//!
//! Along an axis, place p meets an element with tap t where `p·stride + t·window_dilation - low` is a
//! multiple of `base_dilation`. Of the places that are as many apart as that takes to come again, all
//! meet the same taps, which are equally far apart, too; place by place and tap by tap the element
//! moves on by whole numbers.

use lumina_kernels::{Element, Strided};

use crate::ops::strided::Walk;
use crate::ops::window_axis::{WindowAxis, common_divisor};

/// Phases of all axes up to which the places are parted.
const MOST_PHASES: usize = 64;

/// Places along an axis that meet the same taps.
#[derive(Clone, Copy)]
pub(super) struct Phase {
    places: Every,
    taps: Every,
    /// As these places and taps lie over the input.
    geometry: WindowAxis,
}

/// So many indices, `step` apart.
#[derive(Clone, Copy)]
struct Every {
    first: usize,
    step: usize,
    count: usize,
}

/// The phases of every axis with so many places, taps and elements, in all combinations; None where
/// no input is dilated, or there are too many.
pub(super) fn phases(axes: &[(WindowAxis, [usize; 3])]) -> Option<Vec<Vec<Phase>>> {
    if axes.iter().all(|(axis, _)| axis.base_dilation == 1) {
        return None;
    }
    let count = axes.iter().try_fold(1usize, |count, (axis, [places, ..])| {
        count.checked_mul(period(axis).min(*places)).filter(|&count| count <= MOST_PHASES)
    })?;
    let mut all = vec![Vec::new(); count.min(1)];
    for (axis, [places, taps, extent]) in axes {
        let longer = |of: &Vec<Phase>, phase| [&of[..], &[phase]].concat();
        let ways = (0..period(axis).min(*places))
            .map(|first| Phase::new(axis, first, [*places, *taps, *extent]));
        let ways: Vec<Phase> = ways.collect();
        all = all.iter().flat_map(|of| ways.iter().map(move |way| longer(of, *way))).collect();
    }
    Some(all)
}

/// How many places later the same taps meet elements.
fn period(axis: &WindowAxis) -> usize {
    (axis.base_dilation / common_divisor(axis.stride, axis.base_dilation)) as usize
}

impl Phase {
    fn new(axis: &WindowAxis, first: usize, [places, taps, extent]: [usize; 3]) -> Self {
        let WindowAxis { stride, low, base_dilation, window_dilation, .. } = *axis;
        let step = period(axis);
        let places = Every { first, step, count: (places - first).div_ceil(step) };
        let position = |tap: usize| first as isize * stride + tap as isize * window_dilation - low;
        let shared = common_divisor(window_dilation, base_dilation);
        let step = (base_dilation / shared) as usize;
        let taps = match (0..taps.min(step)).find(|&tap| position(tap) % base_dilation == 0) {
            Some(first) => Every { first, step, count: (taps - first).div_ceil(step) },
            None => Every { first: 0, step: 1, count: 0 },
        };
        let mut geometry = WindowAxis {
            stride: stride / common_divisor(stride, base_dilation),
            low: -(position(taps.first) / base_dilation),
            high: 0,
            base_dilation: 1,
            window_dilation: window_dilation / shared,
        };
        let last = |every: Every, step: isize| every.count.saturating_sub(1) as isize * step;
        let end = last(places, geometry.stride) + last(taps, geometry.window_dilation);
        // What is behind the elements is padding, however much of it.
        geometry.high = isize::from(end - geometry.low >= extent as isize);
        Self { places, taps, geometry }
    }

    pub(super) fn geometry(&self) -> WindowAxis {
        self.geometry
    }

    pub(super) fn places(&self) -> usize {
        self.places.count
    }

    pub(super) fn taps(&self) -> usize {
        self.taps.count
    }
}

/// The kernel with these of its taps, where `axes` are its spatial axes; it has `shape`.
pub(super) fn kernel_of<'a, T: Element>(
    kernel: &Strided<'a, T>,
    shape: &'a [usize],
    axes: &[usize],
    phases: &[Phase],
) -> Strided<'a, T> {
    let mut part = Strided { shape, ..kernel.clone() };
    for (&axis, Phase { taps, .. }) in axes.iter().zip(phases) {
        if taps.count > 0 {
            let offset = kernel.strides[axis] * taps.first as isize;
            part.start = part.start.wrapping_add_signed(offset);
        }
        // A step beyond the only tap is never taken.
        part.strides[axis] = match taps.count {
            0 | 1 => 0,
            _ => kernel.strides[axis] * taps.step as isize,
        };
    }
    part
}

/// Writes the result of a phase to its places in that of all, where `axes` are the spatial axes.
pub(super) fn put<T: Element>(
    part: &[T],
    part_shape: &[usize],
    out: &mut [T],
    strides: &[isize],
    axes: &[usize],
    phases: &[Phase],
) {
    let mut steps = strides.to_vec();
    let mut start = 0;
    for (&axis, Phase { places, .. }) in axes.iter().zip(phases) {
        start += places.first * strides[axis] as usize;
        steps[axis] = match places.count {
            0 | 1 => 0,
            _ => strides[axis] * places.step as isize,
        };
    }
    let walk = Walk::over(part_shape, [(start, &steps)]);
    walk.runs(0, part.len(), |done, [from], [step], count| {
        let part = &part[done..done + count];
        match step {
            1 => out[from..from + count].copy_from_slice(part),
            _ => {
                for (index, part) in part.iter().enumerate() {
                    out[from + index * step as usize] = *part;
                }
            }
        }
    });
}
