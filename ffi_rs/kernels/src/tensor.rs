//! Borrowed tensors: an element type, a shape, a layout and a buffer.

use std::fmt;

use smallvec::{SmallVec, smallvec};

use crate::Error;
use crate::dtype::{DType, Data, DataMut, Element};

/// What is known of a tensor before it is computed: `f32[2,3]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Element type.
    pub dtype: DType,
    /// Extent of each axis.
    pub shape: Vec<usize>,
}

impl Fact {
    /// A fact from its parts.
    pub fn new(dtype: DType, shape: impl Into<Vec<usize>>) -> Self {
        Self { dtype, shape: shape.into() }
    }

    /// Number of elements; `usize::MAX` where no memory could hold them.
    pub fn len(&self) -> usize {
        element_count(&self.shape).unwrap_or(usize::MAX)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (axis, extent) in self.shape.iter().enumerate() {
            write!(f, "{}{extent}", if axis == 0 { "" } else { "," })?;
        }
        f.write_str("]")
    }
}

/// A tensor that an op reads.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    shape: &'a [usize],
    data: Data<'a>,
    /// None where the elements are row-major and all of `data`.
    layout: Option<Layout<'a>>,
}

/// Where the elements of a view lie in its buffer.
#[derive(Clone, Copy, Debug)]
struct Layout<'a> {
    strides: &'a [isize],
    start: usize,
}

impl<'a> View<'a> {
    /// A view of `data` in row-major order, whose length must be the product of `shape`.
    pub fn new(shape: &'a [usize], data: Data<'a>) -> Result<Self, Error> {
        check_length(shape, data.len())?;
        Ok(Self { shape, data, layout: None })
    }

    /// A view whose element at `index` is `data[start + Σ index[i]·strides[i]]`; strides count
    /// elements and may be 0 or negative.
    ///
    /// Elements that are row-major and next to each other become a view as [`View::new`] makes it.
    pub fn strided(
        shape: &'a [usize],
        strides: &'a [isize],
        start: usize,
        data: Data<'a>,
    ) -> Result<Self, Error> {
        let outside = || Error::Strides {
            shape: shape.to_vec(),
            strides: strides.to_vec(),
            start,
            len: data.len(),
        };
        if strides.len() != shape.len() {
            return Err(outside());
        }
        if shape.contains(&0) {
            return Ok(Self { shape, data: data.part(0, 0), layout: None });
        }
        let (before, behind) = reach(shape, strides).ok_or_else(outside)?;
        let first = start.checked_sub(before).ok_or_else(outside)?;
        let last = start.checked_add(behind).ok_or_else(outside)?;
        if last >= data.len() {
            return Err(outside());
        }
        if is_row_major(shape, strides) {
            let data = data.part(first, last + 1 - first);
            return Ok(Self { shape, data, layout: None });
        }
        Ok(Self { shape, data, layout: Some(Layout { strides, start }) })
    }

    /// Extent of each axis.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// Element type and shape.
    pub fn fact(&self) -> Fact {
        Fact::new(self.dtype(), self.shape)
    }

    /// Whether the elements are row-major and next to each other, so that [`Self::data`] has them.
    pub fn is_row_major(&self) -> bool {
        self.layout.is_none()
    }

    /// The elements, row-major. An error where they are of another type, or lie otherwise: an op
    /// that does not [accept strides](crate::Op::accepts_strides) gets no such view.
    pub fn data<T: Element>(&self) -> Result<&'a [T], Error> {
        self.check_row_major()?;
        self.buffer()
    }

    /// The elements as bytes, row-major; see [`Self::data`].
    pub fn bytes(&self) -> Result<&'a [u8], Error> {
        self.check_row_major().map(|()| self.data.bytes())
    }

    /// The elements in whatever layout they have.
    pub fn strided_data<T: Element>(&self) -> Result<Strided<'a, T>, Error> {
        let (strides, start) = match self.layout {
            None => (row_major_strides(self.shape), 0),
            Some(Layout { strides, start }) => (Strides::from_slice(strides), start),
        };
        Ok(Strided { data: self.buffer()?, start, shape: self.shape, strides })
    }

    fn check_row_major(&self) -> Result<(), Error> {
        match self.layout {
            None => Ok(()),
            Some(Layout { strides, .. }) => {
                Err(Error::NotRowMajor { shape: self.shape.to_vec(), strides: strides.to_vec() })
            }
        }
    }

    fn buffer<T: Element>(&self) -> Result<&'a [T], Error> {
        T::read(&self.data).ok_or(Error::DType { expected: T::DTYPE, got: self.dtype() })
    }
}

/// Elements of a buffer from one index of each axis to the next, without an allocation for few axes.
pub type Strides = SmallVec<[isize; 8]>;

/// The elements of a view in any layout: that at `index` is
/// `data[start + Σ index[i]·strides[i]]`, which is never out of bounds.
#[derive(Clone, Debug)]
pub struct Strided<'a, T> {
    /// The buffer.
    pub data: &'a [T],
    /// Where the element of index 0 lies.
    pub start: usize,
    /// Extent of each axis.
    pub shape: &'a [usize],
    /// Elements of the buffer from one index of each axis to the next.
    pub strides: Strides,
}

impl<T: Element> Strided<'_, T> {
    /// Every element, row-major.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        let count = element_count(self.shape).unwrap_or(0);
        let mut index = vec![0usize; self.shape.len()];
        let mut at = self.start;
        (0..count).map(move |_| {
            let element = self.data[at];
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at = at.wrapping_add_signed(self.strides[axis]);
                if index[axis] < self.shape[axis] {
                    break;
                }
                let back = self.strides[axis].wrapping_mul(index[axis] as isize);
                at = at.wrapping_add_signed(back.wrapping_neg());
                index[axis] = 0;
            }
            element
        })
    }
}

/// A tensor that an op writes, row-major.
#[derive(Debug)]
pub struct ViewMut<'a> {
    shape: &'a [usize],
    data: DataMut<'a>,
}

impl<'a> ViewMut<'a> {
    /// A view of `data`, whose length must be the product of `shape`.
    pub fn new(shape: &'a [usize], data: DataMut<'a>) -> Result<Self, Error> {
        check_length(shape, data.len())?;
        Ok(Self { shape, data })
    }

    /// Extent of each axis.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// Element type and shape.
    pub fn fact(&self) -> Fact {
        Fact::new(self.dtype(), self.shape)
    }

    /// The tensor, to be read.
    pub fn view(&self) -> View<'_> {
        View { shape: self.shape, data: self.data.as_data(), layout: None }
    }

    /// The elements, row-major.
    pub fn data_mut<T: Element>(&mut self) -> Result<&mut [T], Error> {
        let got = self.dtype();
        T::write(&mut self.data).ok_or(Error::DType { expected: T::DTYPE, got })
    }
}

/// Elements from one index of each axis to the next, row-major.
pub fn row_major_strides(shape: &[usize]) -> Strides {
    let mut strides: Strides = smallvec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        // Where there are no elements, other extents may be any.
        strides[axis - 1] = strides[axis].wrapping_mul(shape[axis].max(1) as isize);
    }
    strides
}

/// Elements from that of index 0 down to the first one in memory, and up to the last, in a tensor that
/// is not empty; None where there are too many to count.
pub fn reach(shape: &[usize], strides: &[isize]) -> Option<(usize, usize)> {
    let (mut before, mut behind) = (0usize, 0usize);
    for (&extent, &stride) in shape.iter().zip(strides) {
        let steps = stride.unsigned_abs().checked_mul(extent - 1)?;
        let side = if stride < 0 { &mut before } else { &mut behind };
        *side = side.checked_add(steps)?;
    }
    Some((before, behind))
}

/// Whether every step along an axis leads beyond all that smaller steps reach, so that no two elements
/// of a tensor, which is not empty and lies in memory, share a place.
pub fn is_nested(shape: &[usize], strides: &[isize]) -> bool {
    let axes = shape.iter().zip(strides).filter(|&(&extent, _)| extent > 1);
    let mut axes: SmallVec<[(usize, usize); 8]> =
        axes.map(|(&extent, &stride)| (stride.unsigned_abs(), extent - 1)).collect();
    axes.sort_unstable();
    let mut inside = 0;
    axes.into_iter().all(|(stride, steps)| {
        let fits = stride > inside;
        inside += stride * steps;
        fits
    })
}

/// Whether these strides of a tensor that is not empty are those of row-major elements.
pub fn is_row_major(shape: &[usize], strides: &[isize]) -> bool {
    let mut expected = 1;
    for (&extent, &stride) in shape.iter().zip(strides).rev() {
        // The stride of an axis of one element is never used.
        if extent != 1 && stride != expected {
            return false;
        }
        expected *= extent as isize;
    }
    true
}

/// The product of the extents; None where it overflows. An empty axis makes the tensor empty,
/// however long the others are.
fn element_count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent))
}

fn check_length(shape: &[usize], got: usize) -> Result<(), Error> {
    match element_count(shape) {
        Some(expected) if expected == got => Ok(()),
        expected => Err(Error::Length {
            shape: shape.to_vec(),
            expected: expected.unwrap_or(usize::MAX),
            got,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: [i32; 6] = [0, 1, 2, 3, 4, 5];

    fn elements(shape: &[usize], strides: &[isize], start: usize) -> Result<Vec<i32>, Error> {
        let view = View::strided(shape, strides, start, Data::I32(&DATA))?;
        let elements: Vec<i32> = view.strided_data()?.iter().collect();
        if view.is_row_major() {
            assert_eq!(view.data::<i32>()?, elements);
        } else {
            assert!(view.data::<i32>().is_err());
        }
        Ok(elements)
    }

    #[test]
    fn elements_come_in_row_major_order_of_any_layout() {
        assert_eq!(elements(&[2, 3], &[3, 1], 0).unwrap(), DATA);
        assert_eq!(elements(&[3, 2], &[1, 3], 0).unwrap(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(elements(&[2, 3], &[-3, -1], 5).unwrap(), [5, 4, 3, 2, 1, 0]);
        assert_eq!(elements(&[2, 2], &[0, 2], 1).unwrap(), [1, 3, 1, 3]);
        assert_eq!(elements(&[], &[], 4).unwrap(), [4]);
        assert_eq!(elements(&[3, 0], &[9, 9], 77).unwrap(), []);
    }

    #[test]
    fn rows_next_to_each_other_are_row_major() {
        let view = View::strided(&[1, 3], &[99, 1], 3, Data::I32(&DATA)).unwrap();
        assert_eq!(view.data::<i32>().unwrap(), [3, 4, 5]);
    }

    #[test]
    fn a_layout_beyond_its_buffer_is_refused() {
        for (shape, strides, start) in [
            (&[2, 3][..], &[3, 1][..], 1),
            (&[2], &[-1], 0),
            (&[2], &[isize::MIN], 5),
            (&[usize::MAX], &[2], 0),
            (&[1], &[0], 6),
            (&[1], &[0, 0], 0),
        ] {
            let error = elements(shape, strides, start).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "a view of shape {shape:?} with strides {strides:?} from element {start} on \
                     leaves its buffer of 6 elements"
                )
            );
        }
    }

    #[test]
    fn what_is_not_row_major_is_no_slice() {
        let view = View::strided(&[3, 2], &[1, 3], 0, Data::I32(&DATA)).unwrap();
        assert_eq!(
            view.data::<i32>().unwrap_err().to_string(),
            "expected a row-major tensor, got shape [3, 2] with strides [1, 3]"
        );
        assert_eq!(
            view.strided_data::<f32>().unwrap_err().to_string(),
            "expected a tensor of f32, got i32"
        );
    }
}
