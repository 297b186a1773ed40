//! Tensors that own their data, and views of raw bytes.

use lumina_kernels::{Data, DataMut, Element, Error as KernelError, Fact, View, ViewMut};

use crate::Error;
use crate::bytes::AlignedBytes;

/// Largest number of axes of a tensor.
pub const MAX_RANK: usize = 8;

/// A tensor that owns its data.
#[derive(Debug)]
pub struct Tensor {
    fact: Fact,
    bytes: AlignedBytes,
}

impl Tensor {
    /// A tensor of these elements, row-major.
    pub fn new<T: Element>(shape: &[usize], data: &[T]) -> Result<Self, Error> {
        let fact = Fact::new(T::DTYPE, shape);
        let bytes: &[u8] = bytemuck::cast_slice(data);
        if byte_size(&fact) != Some(bytes.len()) {
            return Err(length_error(&fact, data.len()).into());
        }
        Ok(Self { fact, bytes: AlignedBytes::copy_of(bytes)? })
    }

    /// A tensor of little-endian elements, row-major.
    pub fn from_bytes(fact: Fact, bytes: &[u8]) -> Result<Self, Error> {
        if byte_size(&fact) != Some(bytes.len()) {
            let got = bytes.len() / fact.dtype.size();
            return Err(length_error(&fact, got).into());
        }
        Ok(Self { fact, bytes: AlignedBytes::copy_of(bytes)? })
    }

    /// A view of the elements.
    pub fn view(&self) -> View<'_> {
        view(&self.fact, &self.bytes).expect("the constructors check the length")
    }
}

/// Data of another length than its fact asks for.
pub(crate) fn length_error(fact: &Fact, got: usize) -> KernelError {
    let expected = byte_size(fact).map_or(usize::MAX, |bytes| bytes / fact.dtype.size());
    KernelError::Length { shape: fact.shape.clone(), expected, got }
}

/// Bytes of a tensor; None where that overflows, or would but for an extent of 0.
pub(crate) fn byte_size(fact: &Fact) -> Option<usize> {
    let nonzero = fact.shape.iter().filter(|&&extent| extent != 0);
    let bytes = nonzero
        .copied()
        .try_fold(fact.dtype.size(), usize::checked_mul)
        .filter(|&bytes| isize::try_from(bytes).is_ok())?;
    Some(if fact.shape.contains(&0) { 0 } else { bytes })
}

/// A view of little-endian bytes that start on a cache line.
pub(crate) fn view<'a>(fact: &'a Fact, bytes: &'a [u8]) -> Result<View<'a>, KernelError> {
    let data = Data::from_bytes(fact.dtype, bytes);
    View::new(&fact.shape, data.ok_or_else(|| length_error(fact, bytes.len()))?)
}

/// A mutable view of little-endian bytes that start on a cache line.
pub(crate) fn view_mut<'a>(
    fact: &'a Fact,
    bytes: &'a mut [u8],
) -> Result<ViewMut<'a>, KernelError> {
    let length = bytes.len();
    let data = DataMut::from_bytes(fact.dtype, bytes);
    ViewMut::new(&fact.shape, data.ok_or_else(|| length_error(fact, length))?)
}
