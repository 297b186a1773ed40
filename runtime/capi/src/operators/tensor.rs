//! Descriptors of tensors.

use std::ffi::c_int;

use lumina_kernels::DType;
use lumina_runtime::operator::Operand;

use super::descriptor::{GONE, release, require, write};
use crate::Status;
use crate::status::{Failure, answer};

/// Axes of a tensor at most.
const MOST_AXES: usize = 8;
const MAGIC: u64 = u64::from_le_bytes(*b"lmntnsr\0");
/// The element type that infiniop calls a byte, which is an unsigned integer here.
const BYTE: c_int = 1;

/// Element type, shape and strides of a tensor.
pub struct InfiniopTensorDescriptor {
    magic: u64,
    pub(super) operand: Operand,
}

/// A pointer to the descriptor of a tensor.
#[allow(non_camel_case_types)]
pub type infiniopTensorDescriptor_t = *mut InfiniopTensorDescriptor;

/// Describes a tensor of `ndim` axes, at most 8. Strides count elements and may be 0 or negative; without
/// them the tensor is row-major. A pointer to its memory is one to the element of index 0.
///
/// # Safety
///
/// `desc_ptr` is null or writable, `shape` and `strides` are null or have `ndim` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infiniopCreateTensorDescriptor(
    desc_ptr: *mut infiniopTensorDescriptor_t,
    ndim: usize,
    shape: *const usize,
    strides: *const isize,
    dtype: c_int,
) -> Status {
    answer(|| {
        // SAFETY: the caller says so.
        unsafe { write(desc_ptr, std::ptr::null_mut(), "desc_ptr") }?;
        if ndim > MOST_AXES {
            let message = format!("a tensor has at most {MOST_AXES} axes, got {ndim}");
            return Err(Failure::new(Status::BadTensorShape, message));
        }
        let number = if dtype == BYTE { DType::U8.c_number() } else { dtype };
        let dtype = DType::from_c_number(number).ok_or_else(|| {
            Failure::new(Status::BadTensorDtype, format!("there are no tensors of dtype {dtype}"))
        })?;
        // SAFETY: the caller says so.
        let shape = unsafe { super::descriptor::list(shape, ndim, "shape") }?;
        let strides = match strides.is_null() {
            true => None,
            // SAFETY: the caller says so.
            false => Some(unsafe { super::descriptor::list(strides, ndim, "strides") }?),
        };
        // The only thing that may be wrong with a shape is its size; then its strides do not matter.
        Operand::new(dtype, shape, None)
            .map_err(|error| Failure::new(Status::BadTensorShape, error.to_string()))?;
        let operand = Operand::new(dtype, shape, strides)
            .map_err(|error| Failure::new(Status::BadTensorStrides, error.to_string()))?;
        let descriptor = Box::new(InfiniopTensorDescriptor { magic: MAGIC, operand });
        // SAFETY: the caller says so.
        unsafe { write(desc_ptr, Box::into_raw(descriptor), "desc_ptr") }
    })
}

/// Frees the descriptor. Operators that were created with it do not need it.
///
/// # Safety
///
/// `desc` is null or a descriptor that was not destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infiniopDestroyTensorDescriptor(
    desc: infiniopTensorDescriptor_t,
) -> Status {
    answer(|| {
        // SAFETY: the caller says so.
        unsafe {
            operand(desc, "desc")?;
            release(desc, |descriptor| descriptor.magic = GONE);
        }
        Ok(())
    })
}

/// What the descriptor says.
///
/// # Safety
///
/// `desc` is null or points to a descriptor that lives for 'a.
pub(super) unsafe fn operand<'a>(
    desc: *const InfiniopTensorDescriptor,
    name: &str,
) -> Result<&'a Operand, Failure> {
    // SAFETY: the caller says so.
    let descriptor = unsafe { require(desc, name, |descriptor| descriptor.magic == MAGIC) }?;
    Ok(&descriptor.operand)
}
