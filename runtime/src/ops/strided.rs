//! Copies with a stride per axis: broadcasting, transposing, slicing and reversing are all
//! `out[i, j, ...] = source[base + i*stride_0 + j*stride_1 + ...]`.

use lumina_kernels::{Element, Error, ParFor, View, ViewMut};

use super::common::{CHUNK, chunked, element_arms, with_element};

/// Positions in a source, in the row-major order of the axes.
#[derive(Debug)]
pub(super) struct Walk {
    base: usize,
    /// Extent, and elements from one index to the next. Never empty.
    axes: Vec<(usize, isize)>,
}

impl Walk {
    /// Of these extents and strides, from `base` on. Every position must lie in the source.
    pub(super) fn new(base: usize, axes: impl IntoIterator<Item = (usize, isize)>) -> Self {
        let mut merged: Vec<(usize, isize)> = Vec::new();
        for (extent, stride) in axes {
            match merged.last_mut() {
                _ if extent == 1 => {}
                // Two axes that are walked as one.
                Some((outer, outer_stride)) if *outer_stride == stride * extent as isize => {
                    *outer *= extent;
                    *outer_stride = stride;
                }
                _ => merged.push((extent, stride)),
            }
        }
        if merged.is_empty() {
            merged.push((1, 0));
        }
        Self { base, axes: merged }
    }

    /// Calls `piece(positions before it, first position, stride, count)` for the runs of positions
    /// from the `start`-th on, `count` in all.
    #[inline]
    pub(super) fn runs(
        &self,
        start: usize,
        count: usize,
        mut piece: impl FnMut(usize, usize, isize, usize),
    ) {
        let Some((&(inner, stride), outer)) = self.axes.split_last() else { return };
        let mut done = 0;
        while done < count {
            let index = start + done;
            let (mut rest, column) = (index / inner, index % inner);
            let mut offset = self.base as isize + column as isize * stride;
            for &(extent, stride) in outer.iter().rev() {
                offset += (rest % extent) as isize * stride;
                rest /= extent;
            }
            let run = (inner - column).min(count - done);
            piece(done, offset as usize, stride, run);
            done += run;
        }
    }

    /// The `index`-th position.
    #[inline]
    pub(super) fn position(&self, index: usize) -> usize {
        let (mut rest, mut offset) = (index, self.base as isize);
        for &(extent, stride) in self.axes.iter().rev() {
            offset += (rest % extent) as isize * stride;
            rest /= extent;
        }
        offset as usize
    }

    /// Copies what the walk visits to `out`.
    pub(super) fn copy(
        &self,
        source: &View<'_>,
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        with_element!(source.dtype(), T => self.copy_elements::<T>(source, out, pool))
    }

    fn copy_elements<T: Element>(
        &self,
        source: &View<'_>,
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let source = source.data::<T>()?;
        chunked(pool, out.data_mut::<T>()?, CHUNK, |start, out| {
            self.runs(start, out.len(), |done, from, stride, count| {
                let out = &mut out[done..done + count];
                match stride {
                    1 => out.copy_from_slice(&source[from..from + count]),
                    0 => out.fill(source[from]),
                    _ => {
                        let mut position = from as isize;
                        for out in out {
                            *out = source[position as usize];
                            position += stride;
                        }
                    }
                }
            });
        });
        Ok(())
    }
}
