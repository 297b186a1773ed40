//! Where the elements of a tensor lie, and what reordering them without moving them makes of that.

use crate::tensor::{Strided, row_major_strides};

/// Where the elements of a tensor lie in a buffer: that at `index` is element
/// `start + Σ index[i]·strides[i]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    shape: Vec<usize>,
    strides: Vec<isize>,
    start: usize,
}

impl Layout {
    /// Row-major elements from the start of the buffer on.
    pub fn row_major(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), strides: row_major_strides(shape).into_vec(), start: 0 }
    }

    /// Elements from `start` on, so many apart along each axis; of as many strides as axes.
    pub fn strided(shape: &[usize], strides: &[isize], start: usize) -> Self {
        debug_assert_eq!(shape.len(), strides.len());
        Self { shape: shape.to_vec(), strides: strides.to_vec(), start }
    }

    /// Extent of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements from one index of each axis to the next.
    pub fn strides(&self) -> &[isize] {
        &self.strides
    }

    /// Where the element of index 0 lies.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// Whether the elements are row-major and next to each other.
    pub fn is_row_major(&self) -> bool {
        self.is_empty() || crate::tensor::is_row_major(&self.shape, &self.strides)
    }

    /// Axis i is axis `permutation[i]` of this layout.
    pub fn transposed(&self, permutation: &[usize]) -> Self {
        let axes = permutation.iter().map(|&axis| (self.shape[axis], self.strides[axis]));
        Self::from_axes(axes, self.start)
    }

    /// Every `steps[i]`-th index of axis i from `starts[i]` to below `limits[i]`.
    pub fn sliced(&self, starts: &[usize], limits: &[usize], steps: &[usize]) -> Self {
        let extent = |axis: usize| (limits[axis] - starts[axis]).div_ceil(steps[axis]);
        let shape: Vec<usize> = (0..self.shape.len()).map(extent).collect();
        if shape.contains(&0) {
            return Self::row_major(&shape);
        }
        let offset: isize =
            starts.iter().zip(&self.strides).map(|(&start, &stride)| start as isize * stride).sum();
        let strides = shape.iter().zip(&self.strides).zip(steps);
        // A step beyond the only index of an axis is never taken, however long it is.
        let strides = strides.map(|((&extent, &stride), &step)| match extent {
            1 => 0,
            _ => stride * step as isize,
        });
        let strides = strides.collect();
        Self { shape, strides, start: self.start.wrapping_add_signed(offset) }
    }

    /// These axes in reverse order.
    pub fn reversed(&self, axes: &[usize]) -> Self {
        let mut reversed = self.clone();
        if self.is_empty() {
            return reversed;
        }
        for &axis in axes {
            let last = (self.shape[axis] - 1) as isize * self.strides[axis];
            reversed.start = reversed.start.wrapping_add_signed(last);
            reversed.strides[axis] = -self.strides[axis];
        }
        reversed
    }

    /// Axis i becomes axis `dimensions[i]` of `shape`; extents of 1, and axes that no axis became,
    /// repeat.
    pub fn broadcast(&self, shape: &[usize], dimensions: &[usize]) -> Self {
        if shape.contains(&0) {
            return Self::row_major(shape);
        }
        let mut strides = vec![0; shape.len()];
        for ((&axis, &extent), &stride) in dimensions.iter().zip(&self.shape).zip(&self.strides) {
            if extent != 1 {
                strides[axis] = stride;
            }
        }
        Self { shape: shape.to_vec(), strides, start: self.start }
    }

    /// Without these axes, whose extent is 1.
    pub fn squeezed(&self, axes: &[usize]) -> Self {
        let kept = (0..self.shape.len()).filter(|axis| !axes.contains(axis));
        Self::from_axes(kept.map(|axis| (self.shape[axis], self.strides[axis])), self.start)
    }

    /// The same elements in the same order in `shape`, or None where no strides say that.
    pub fn reshaped(&self, shape: &[usize]) -> Option<Self> {
        if self.is_row_major() {
            return Some(Self { start: self.start, ..Self::row_major(shape) });
        }
        // Axes that are walked as one, outermost first.
        let mut merged: Vec<(usize, isize)> = Vec::new();
        for (&extent, &stride) in self.shape.iter().zip(&self.strides) {
            match merged.last_mut() {
                _ if extent == 1 => {}
                Some((outer, step)) if *step == stride * extent as isize => {
                    *outer *= extent;
                    *step = stride;
                }
                _ => merged.push((extent, stride)),
            }
        }
        let mut strides = vec![0; shape.len()];
        // Each of them is cut into axes of the new shape, innermost first.
        let mut left = merged.pop().unwrap_or((1, 0));
        for (axis, &extent) in shape.iter().enumerate().rev() {
            if extent == 1 {
                continue;
            }
            if left.0 == 1 {
                left = merged.pop()?;
            }
            if !left.0.is_multiple_of(extent) {
                return None;
            }
            strides[axis] = left.1;
            left = (left.0 / extent, left.1 * extent as isize);
        }
        Some(Self { shape: shape.to_vec(), strides, start: self.start })
    }

    fn from_axes(axes: impl Iterator<Item = (usize, isize)>, start: usize) -> Self {
        let (shape, strides) = axes.unzip();
        Self { shape, strides, start }
    }
}

impl<T> Strided<'_, T> {
    /// Where the elements lie in the buffer.
    pub fn layout(&self) -> Layout {
        Layout { shape: self.shape.to_vec(), strides: self.strides.to_vec(), start: self.start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Data, View};

    const DATA: [i32; 24] = {
        let mut data = [0; 24];
        let mut index = 0;
        while index < 24 {
            data[index] = index as i32;
            index += 1;
        }
        data
    };

    fn elements(layout: &Layout) -> Vec<i32> {
        let Layout { shape, strides, start } = layout;
        let view = View::strided(shape, strides, *start, Data::I32(&DATA)).unwrap();
        assert_eq!(view.is_row_major(), layout.is_row_major());
        view.strided_data().unwrap().iter().collect()
    }

    #[test]
    fn reordering_composes() {
        let x = Layout::row_major(&[2, 3, 4]);
        assert_eq!(elements(&x), DATA);
        let y = x.transposed(&[2, 0, 1]).sliced(&[1, 0, 0], &[4, 2, 3], &[2, 1, 2]);
        assert_eq!(y.shape(), [2, 2, 2]);
        assert_eq!(elements(&y), [1, 9, 13, 21, 3, 11, 15, 23]);
        assert_eq!(elements(&y.reversed(&[0, 2])), [11, 3, 23, 15, 9, 1, 21, 13]);
        let one = y.sliced(&[0, 1, 0], &[1, 2, 2], &[7, 7, 1]).squeezed(&[0, 1]);
        assert_eq!(elements(&one), [13, 21]);
        assert_eq!(elements(&one.broadcast(&[2, 2], &[0])), [13, 13, 21, 21]);
    }

    #[test]
    fn a_reshape_needs_no_copy_where_strides_say_it() {
        let x = Layout::row_major(&[2, 3, 4]);
        let rows = x.sliced(&[0, 0, 0], &[2, 3, 2], &[1, 1, 1]);
        let flat = rows.reshaped(&[6, 1, 2]).unwrap();
        assert_eq!(elements(&flat), elements(&rows));
        assert_eq!(elements(&rows.reshaped(&[3, 2, 2]).unwrap()), elements(&rows));
        assert_eq!(rows.reshaped(&[12]), None);
        assert_eq!(x.transposed(&[0, 2, 1]).reshaped(&[2, 12]), None);
        let wide = Layout::row_major(&[1]).broadcast(&[2, 3], &[0]);
        assert_eq!(elements(&wide.reshaped(&[6]).unwrap()), [0; 6]);
    }

    #[test]
    fn nothing_is_row_major() {
        let none = Layout::row_major(&[3, 4]).sliced(&[3, 1], &[3, 2], &[1, 9]);
        assert!(none.is_empty() && none.is_row_major());
        assert_eq!(none.reversed(&[0]).reshaped(&[0, 7]).unwrap().shape(), [0, 7]);
    }
}
