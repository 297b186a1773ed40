//! Loops over operands of any layout, in the row-major order of a shape: broadcasting, transposing,
//! slicing and reversing are all `out[i, j, ...] = x[start + i*stride_0 + j*stride_1 + ...]`.

use lumina_kernels::{Element, Error, Layout, ParFor, View, ViewMut};
use smallvec::SmallVec;

use super::common::{CHUNK, chunked, element_arms, with_element};
use crate::tensor::MAX_RANK;

/// Positions in `N` buffers, in the row-major order of the axes.
#[derive(Debug)]
pub(crate) struct Walk<const N: usize> {
    starts: [isize; N],
    /// Extent, and elements of each buffer from one index to the next. Never empty.
    axes: SmallVec<[(usize, [isize; N]); 4]>,
}

impl<const N: usize> Walk<N> {
    /// Of these extents and strides, from `starts` on. Every position must lie in its buffer.
    pub(crate) fn new(
        starts: [usize; N],
        axes: impl IntoIterator<Item = (usize, [isize; N])>,
    ) -> Self {
        let mut merged: SmallVec<[(usize, [isize; N]); 4]> = SmallVec::new();
        for (extent, steps) in axes {
            match merged.last_mut() {
                _ if extent == 1 => {}
                // Two axes that are walked as one.
                Some((outer, outer_steps))
                    if *outer_steps == steps.map(|step| step.wrapping_mul(extent as isize)) =>
                {
                    *outer *= extent;
                    *outer_steps = steps;
                }
                _ => merged.push((extent, steps)),
            }
        }
        if merged.is_empty() {
            merged.push((1, [0; N]));
        }
        Self { starts: starts.map(|start| start as isize), axes: merged }
    }

    /// Over `shape`, of operands of these starts and strides, which have that shape or rank 0.
    pub(super) fn over(shape: &[usize], operands: [(usize, &[isize]); N]) -> Self {
        let axes = shape.iter().enumerate().map(|(axis, &extent)| {
            // An operand of rank 0 stands for every element.
            let step = |(_, strides): (usize, &[isize])| strides.get(axis).copied().unwrap_or(0);
            (extent, operands.map(step))
        });
        Self::new(operands.map(|(start, _)| start), axes)
    }

    /// Calls `piece(positions before it, first position in each buffer, steps, count)` for the runs
    /// of positions from the `first`-th on, `count` in all.
    #[inline]
    pub(crate) fn runs(
        &self,
        first: usize,
        count: usize,
        mut piece: impl FnMut(usize, [usize; N], [isize; N], usize),
    ) {
        let Some((&(inner, steps), outer)) = self.axes.split_last() else { return };
        if count == 0 {
            return;
        }
        let mut column = first % inner;
        let mut rest = first / inner;
        let mut row = self.starts;
        let mut index = [0; MAX_RANK];
        for (axis, &(extent, steps)) in outer.iter().enumerate().rev() {
            index[axis] = rest % extent;
            rest /= extent;
            advance(&mut row, steps, index[axis] as isize);
        }
        let mut done = 0;
        while done < count {
            let run = (inner - column).min(count - done);
            let mut from = row;
            advance(&mut from, steps, column as isize);
            piece(done, from.map(|position| position as usize), steps, run);
            done += run;
            column = 0;
            for (axis, &(extent, steps)) in outer.iter().enumerate().rev() {
                index[axis] += 1;
                if index[axis] < extent {
                    advance(&mut row, steps, 1);
                    break;
                }
                index[axis] = 0;
                advance(&mut row, steps, 1 - extent as isize);
            }
        }
    }
}

#[inline]
fn advance<const N: usize>(positions: &mut [isize; N], steps: [isize; N], count: isize) {
    for (position, step) in positions.iter_mut().zip(steps) {
        *position += step * count;
    }
}

impl<const N: usize> Walk<N> {
    /// Number of positions.
    pub(crate) fn count(&self) -> usize {
        self.axes.iter().map(|&(extent, _)| extent).product()
    }

    /// The walk without its innermost axis, and that axis.
    pub(super) fn split(mut self) -> (Self, usize, [isize; N]) {
        let (extent, steps) = self.axes.pop().unwrap_or((1, [0; N]));
        if self.axes.is_empty() {
            self.axes.push((1, [0; N]));
        }
        (self, extent, steps)
    }

    /// Calls `visit(index, position in each buffer)` for every position.
    pub(super) fn for_each(&self, mut visit: impl FnMut(usize, [usize; N])) {
        self.runs(0, self.count(), |done, from, steps, count| {
            let mut position = from.map(|position| position as isize);
            for index in 0..count {
                visit(done + index, position.map(|position| position as usize));
                advance(&mut position, steps, 1);
            }
        });
    }

    /// The `index`-th position in each buffer.
    #[inline]
    pub(super) fn position(&self, index: usize) -> [usize; N] {
        let (mut rest, mut positions) = (index, self.starts);
        for &(extent, steps) in self.axes.iter().rev() {
            advance(&mut positions, steps, (rest % extent) as isize);
            rest /= extent;
        }
        positions.map(|position| position as usize)
    }

    /// Whether innermost positions lie together in every buffer.
    pub(super) fn is_contiguous(&self) -> bool {
        self.axes.last().is_none_or(|&(extent, steps)| extent == 1 || steps == [1; N])
    }
}

/// The elements of `x`, row-major.
pub(crate) fn copy(x: &View<'_>, out: &mut ViewMut<'_>, pool: &dyn ParFor) -> Result<(), Error> {
    with_element!(x.dtype(), T => {
        let x = x.strided_data::<T>()?;
        copy_layout(x.data, &x.layout(), out, pool)
    })
}

/// The elements of `x` that `layout` says, row-major.
pub(super) fn copy_layout<T: Element>(
    x: &[T],
    layout: &Layout,
    out: &mut ViewMut<'_>,
    pool: &dyn ParFor,
) -> Result<(), Error> {
    let walk = Walk::over(layout.shape(), [(layout.start(), layout.strides())]);
    chunked(pool, out.data_mut::<T>()?, CHUNK, |start, out| {
        walk.runs(start, out.len(), |done, [from], [step], count| {
            let out = &mut out[done..done + count];
            match step {
                1 => out.copy_from_slice(&x[from..from + count]),
                0 => out.fill(x[from]),
                _ => {
                    let mut position = from as isize;
                    for out in out {
                        *out = x[position as usize];
                        position += step;
                    }
                }
            }
        });
    });
    Ok(())
}
