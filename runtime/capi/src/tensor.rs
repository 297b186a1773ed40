//! Tensors in memory of the caller, and what is checked of them.

use std::ffi::{c_char, c_void};
use std::ops::Range;
use std::ptr;
use std::slice;

use lumina_kernels::{for_each_dtype, is_nested, is_row_major, reach};
use lumina_runtime::MAX_RANK;

use crate::status::{Failure, Status};

macro_rules! dtypes {
    ($($variant:ident: $ty:ty, $name:literal, $xla:literal, $file:literal, $c:literal,
       $numpy:literal, $doc:literal;)*) => {
        /// Element types. The numbers are those of infiniop.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum DType {
            $(#[doc = concat!(" `", $numpy, "`: ", $doc, ".")] $variant = $c,)*
        }
    };
}

for_each_dtype!(dtypes);

macro_rules! names {
    ($($variant:ident: $ty:ty, $name:literal, $xla:literal, $file:literal, $c:literal,
       $numpy:literal, $doc:literal;)*) => {
        /// The name of that type in NumPy, such as "float32"; null where there is no such type.
        #[unsafe(no_mangle)]
        pub extern "C" fn lumina_dtype_name(dtype: i32) -> *const c_char {
            match dtype {
                $($c => concat!($numpy, "\0").as_ptr().cast(),)*
                _ => ptr::null(),
            }
        }
    };
}

for_each_dtype!(names);

/// Bytes of an element of that type; 0 where there is no such type.
#[unsafe(no_mangle)]
pub extern "C" fn lumina_dtype_size(dtype: i32) -> usize {
    lumina_kernels::DType::from_c_number(dtype).map_or(0, lumina_kernels::DType::size)
}

/// A tensor in memory. This struct stays as it is: arrays of it are passed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Tensor {
    /// The element whose index is 0 along each axis. Not read where there are no elements. What is
    /// only read, such as an input, is never written.
    pub data: *mut c_void,
    /// Number of axes, at most 8.
    pub rank: usize,
    /// Extent of each axis; may be null where there are none.
    pub shape: *const usize,
    /// Elements from one index of each axis to the next, which may be 0 or negative; null:
    /// row-major.
    pub strides: *const isize,
    /// A `lumina_dtype`.
    pub dtype: i32,
}

impl Tensor {
    /// Whether all of it is zero, which stands for no tensor.
    pub(crate) fn is_absent(&self) -> bool {
        self.data.is_null() && self.rank == 0 && self.dtype == 0
    }
}

/// A tensor of the caller that has been checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked<'a> {
    pub(crate) data: *mut u8,
    pub(crate) dtype: lumina_kernels::DType,
    pub(crate) shape: &'a [usize],
    /// None where the elements are row-major.
    pub(crate) strides: Option<&'a [isize]>,
    /// Number of elements.
    pub(crate) len: usize,
    /// Addresses from the first byte of an element to behind the last one.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl<'a> Checked<'a> {
    /// What `tensor`, called `name` in messages, says of itself. Its data may be null only where
    /// there are no elements, or with `may_lack_data`.
    ///
    /// # Safety
    /// Shape and strides are null or as long as the rank says, and stay for `'a`.
    pub(crate) unsafe fn new(
        tensor: &Tensor,
        name: &dyn std::fmt::Display,
        may_lack_data: bool,
    ) -> Result<Self, Failure> {
        let Some(dtype) = lumina_kernels::DType::from_c_number(tensor.dtype) else {
            let message = format!("{name}: there is no element type {}", tensor.dtype);
            return Err(Failure::new(Status::BadTensorDtype, message));
        };
        let rank = tensor.rank;
        if rank > MAX_RANK {
            let message = format!("{name}: rank {rank} is above the limit of {MAX_RANK}");
            return Err(Failure::new(Status::BadTensorShape, message));
        }
        let shape: &[usize] = match (rank, tensor.shape.is_null()) {
            (0, _) => &[],
            (_, true) => return Err(Failure::null(format_args!("{name}: `shape`"))),
            // SAFETY: the caller vouches for as many extents.
            _ => unsafe { slice::from_raw_parts(tensor.shape, rank) },
        };
        let strides: Option<&[isize]> = match (rank, tensor.strides.is_null()) {
            (0, _) | (_, true) => None,
            // SAFETY: the caller vouches for as many strides.
            _ => Some(unsafe { slice::from_raw_parts(tensor.strides, rank) }),
        };
        let size = dtype.size();
        let too_large = || {
            let message = format!(
                "{name}: no memory holds a tensor of shape {shape:?} with strides {strides:?}"
            );
            Failure::new(Status::BadTensorShape, message)
        };
        let len = if shape.contains(&0) {
            0
        } else {
            shape.iter().try_fold(1usize, |len, &n| len.checked_mul(n)).ok_or_else(too_large)?
        };
        let bytes = len.checked_mul(size).filter(|&bytes| isize::try_from(bytes).is_ok());
        let bytes = bytes.ok_or_else(too_large)?;
        if tensor.data.is_null() && len > 0 && !may_lack_data {
            return Err(Failure::null(format_args!("{name}: `data`")));
        }
        let strides = strides.filter(|strides| len > 0 && !is_row_major(shape, strides));
        let data = tensor.data.cast::<u8>();
        let (before, after) = match strides {
            Some(strides) => span(shape, strides, size).ok_or_else(too_large)?,
            None => (0, bytes),
        };
        let start = data.addr().wrapping_sub(before);
        let end = data.addr().wrapping_add(after);
        if !data.is_null() && len > 0 && (before > data.addr() || end < data.addr()) {
            return Err(too_large());
        }
        Ok(Self { data, dtype, shape, strides, len, start, end })
    }

    /// Whether kernels can read it where it lies.
    pub(crate) fn is_usable(&self) -> bool {
        let is_aligned = self.data.addr().is_multiple_of(self.dtype.align());
        self.len == 0 || self.strides.is_none() && is_aligned
    }

    /// Bytes of all elements.
    pub(crate) fn bytes(&self) -> usize {
        self.len * self.dtype.size()
    }

    pub(crate) fn overlaps(&self, range: &Range<usize>) -> bool {
        self.len > 0 && self.start < range.end && range.start < self.end
    }

    /// Refuses a layout that has two elements at one place, or axes that are not nested in each
    /// other, so that this cannot be told.
    pub(crate) fn check_writable(&self, name: &dyn std::fmt::Display) -> Result<(), Failure> {
        let Some(strides) = self.strides else { return Ok(()) };
        if is_nested(self.shape, strides) {
            return Ok(());
        }
        let message = format!(
            "{name}: elements of shape {:?} with strides {strides:?} may share a place, and are to be \
             written",
            self.shape
        );
        Err(Failure::new(Status::BadTensorStrides, message))
    }
}

/// Bytes from the start of the element of index 0 down to the first byte, and up to the last.
fn span(shape: &[usize], strides: &[isize], size: usize) -> Option<(usize, usize)> {
    let (before, behind) = reach(shape, strides)?;
    let (before, after) = (before.checked_mul(size)?, behind.checked_add(1)?.checked_mul(size)?);
    let whole = before.checked_add(after)?;
    isize::try_from(whole).is_ok().then_some((before, after))
}
