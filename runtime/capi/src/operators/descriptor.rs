//! Descriptors of operators, and what all handles have in common.

use std::ffi::c_int;

use lumina_runtime::operator::{Operand, Operator};

use super::define::{Definition, Source, Tensors};
use super::device::{InfiniopHandle, check_handle, pool};
use super::tensor::{InfiniopTensorDescriptor, operand};
use crate::Status;
use crate::status::{Failure, answer};

/// What a handle begins with once it is destroyed.
pub(super) const GONE: u64 = u64::from_le_bytes(*b"lmn-gone");
const MAGIC: u64 = u64::from_le_bytes(*b"lmnoprtr");

/// An operator for tensors of certain layouts.
#[repr(C)]
pub struct InfiniopDescriptor {
    device: c_int,
    device_id: c_int,
    magic: u64,
    body: Box<InfiniopPrograms>,
}

/// What a call of the operator runs.
#[expect(unreachable_pub, reason = "the header names what is public")]
pub struct InfiniopPrograms {
    pub(super) signature: &'static Signature,
    pub(super) programs: Vec<Planned>,
    pub(super) choose: fn(&[f32]) -> usize,
    /// By pointer of a call; None where there is no tensor.
    pub(super) operands: Vec<Option<Operand>>,
    /// Pointers to indices, and the number that they are below.
    pub(super) indices: Vec<(usize, usize)>,
    pub(super) repeated: Vec<u64>,
    workspace: usize,
}

/// A program, and where its inputs come from.
pub(super) struct Planned {
    pub(super) operator: Operator,
    pub(super) sources: Vec<Source>,
}

/// Names of an operator and of its tensors, outputs first.
pub(super) struct Signature {
    pub(super) name: &'static str,
    pub(super) outputs: usize,
    pub(super) tensors: &'static [&'static str],
    pub(super) has_workspace: bool,
}

/// Writes `value` to where the caller wants it.
///
/// # Safety
///
/// `to` is null or writable.
pub(super) unsafe fn write<T>(to: *mut T, value: T, name: &str) -> Result<(), Failure> {
    check_pointer(to, name)?;
    // SAFETY: it is writable, as the caller says.
    unsafe { to.write(value) };
    Ok(())
}

/// Refuses null, and addresses at which no `T` lies.
pub(super) fn check_pointer<T>(pointer: *const T, name: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::new(Status::NullPointer, format!("`{name}` is null")));
    }
    match pointer.is_aligned() {
        true => Ok(()),
        false => Err(Failure::new(Status::BadParam, format!("`{name}` is not aligned"))),
    }
}

/// A list of the caller.
///
/// # Safety
///
/// `start` is null or has `len` numbers that live for 'a.
pub(super) unsafe fn list<'a, T>(
    start: *const T,
    len: usize,
    name: &str,
) -> Result<&'a [T], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    check_pointer(start, name)?;
    // SAFETY: the caller says that they are there.
    Ok(unsafe { std::slice::from_raw_parts(start, len) })
}

/// What a handle points to.
///
/// # Safety
///
/// `pointer` is null or points to a `T` that lives for 'a, or that was destroyed and whose memory is
/// still readable.
pub(super) unsafe fn require<'a, T>(
    pointer: *const T,
    name: &str,
    is_valid: impl FnOnce(&T) -> bool,
) -> Result<&'a T, Failure> {
    check_pointer(pointer, name)?;
    // SAFETY: the caller says so.
    let value = unsafe { &*pointer };
    match is_valid(value) {
        true => Ok(value),
        false => {
            let message = format!("`{name}` is no descriptor of this kind, or was destroyed");
            Err(Failure::new(Status::BadParam, message))
        }
    }
}

/// Frees what a handle points to, once `mark` has made it invalid.
///
/// # Safety
///
/// `pointer` came from a box and is not used any more.
pub(super) unsafe fn release<T>(pointer: *mut T, mark: impl FnOnce(&mut T)) {
    // SAFETY: the caller says so.
    let mut value = unsafe { Box::from_raw(pointer) };
    mark(&mut value);
    // Whoever looks at the memory before it is used again is to see the mark.
    std::hint::black_box(&mut *value);
}

/// The operator that `desc` points to, which is to have this name.
///
/// # Safety
///
/// See [`require`].
pub(super) unsafe fn body<'a>(
    desc: *const InfiniopDescriptor,
    signature: &Signature,
) -> Result<&'a InfiniopPrograms, Failure> {
    let is_valid = |descriptor: &InfiniopDescriptor| descriptor.magic == MAGIC;
    // SAFETY: the caller says so.
    let descriptor = unsafe { require(desc, "desc", is_valid) }?;
    let body = &*descriptor.body;
    if !std::ptr::eq(body.signature, signature) {
        let (expected, got) = (signature.name, body.signature.name);
        let message = format!("`desc` is one of {got}, expected one of {expected}");
        return Err(Failure::new(Status::BadParam, message));
    }
    Ok(body)
}

/// Creates the operator that `define` makes of the tensors. `repeated` is what a call is to say again.
///
/// # Safety
///
/// Pointers are null or valid, `tensors` are null or descriptors.
pub(super) unsafe fn create(
    signature: &'static Signature,
    handle: *const InfiniopHandle,
    to: *mut *mut InfiniopDescriptor,
    tensors: &[*const InfiniopTensorDescriptor],
    repeated: impl FnOnce() -> Result<Vec<u64>, Failure>,
    define: impl FnOnce(&Tensors<'_>) -> Result<Definition, Failure>,
) -> Status {
    answer(|| {
        // SAFETY: the caller says so.
        let (device, device_id) = unsafe {
            write(to, std::ptr::null_mut(), "desc_ptr")?;
            check_handle(handle)?
        };
        let mut operands = Vec::with_capacity(tensors.len());
        for (&tensor, name) in tensors.iter().zip(signature.tensors) {
            operands.push(match tensor.is_null() {
                true => None,
                // SAFETY: the caller says so.
                false => Some(unsafe { operand(tensor, name) }?),
            });
        }
        let tensors = Tensors { signature, operands: &operands };
        tensors.check_outputs()?;
        let Definition { programs, choose, indices } = define(&tensors)?;
        let mut workspace = 0;
        let mut planned = Vec::with_capacity(programs.len());
        for (program, sources) in programs {
            let operator = Operator::new(program, pool()?).map_err(Failure::of_program)?;
            workspace = workspace.max(operator.workspace());
            planned.push(Planned { operator, sources });
        }
        let operands = operands.into_iter().map(|operand| operand.cloned()).collect();
        let repeated = repeated()?;
        let body = Box::new(InfiniopPrograms {
            signature,
            programs: planned,
            choose,
            operands,
            indices,
            repeated,
            workspace,
        });
        let descriptor = Box::new(InfiniopDescriptor { device, device_id, magic: MAGIC, body });
        // SAFETY: the caller says so.
        unsafe { write(to, Box::into_raw(descriptor), "desc_ptr") }
    })
}

impl Failure {
    /// What the runtime says to a program.
    pub(super) fn of_program(error: lumina_runtime::Error) -> Self {
        Self::new(Status::BadTensorShape, error.to_string())
    }
}

impl InfiniopPrograms {
    /// Bytes of workspace that a call takes.
    pub(super) fn workspace(&self) -> usize {
        self.workspace
    }

    /// Checks that a call has been told what the operator was created with.
    pub(super) fn check_repeated(&self, repeated: &[u64]) -> Result<(), Failure> {
        match self.repeated == repeated {
            true => Ok(()),
            false => {
                let name = self.signature.name;
                let message =
                    format!("{name} was created with other parameters than it is run with");
                Err(Failure::new(Status::BadParam, message))
            }
        }
    }
}

/// Tells how much workspace a call takes.
///
/// # Safety
///
/// `desc` is as for [`body`], `size` null or writable.
pub(super) unsafe fn workspace_size(
    signature: &Signature,
    desc: *const InfiniopDescriptor,
    size: *mut usize,
) -> Status {
    answer(|| {
        // SAFETY: the caller says so.
        unsafe { write(size, body(desc, signature)?.workspace(), "size") }
    })
}

/// Frees an operator.
///
/// # Safety
///
/// `desc` is as for [`body`], and not used any more.
pub(super) unsafe fn destroy(signature: &Signature, desc: *mut InfiniopDescriptor) -> Status {
    answer(|| {
        // SAFETY: the caller says so.
        unsafe {
            body(desc, signature)?;
            release(desc, |descriptor| descriptor.magic = GONE);
        }
        Ok(())
    })
}

/// Which type of device the operator runs on: 0, the CPU.
///
/// # Safety
///
/// `desc_ptr` is null or an operator, `device_type` null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infiniopGetDescriptorDeviceType(
    desc_ptr: *const InfiniopDescriptor,
    device_type: *mut c_int,
) -> Status {
    answer(|| {
        let is_valid = |descriptor: &InfiniopDescriptor| descriptor.magic == MAGIC;
        // SAFETY: the caller says so.
        unsafe {
            let device = require(desc_ptr, "desc_ptr", is_valid)?.device;
            write(device_type, device, "device_type")
        }
    })
}

/// Which device of its type the operator runs on: 0.
///
/// # Safety
///
/// `desc_ptr` is null or an operator, `device_id` null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infiniopGetDescriptorDeviceId(
    desc_ptr: *const InfiniopDescriptor,
    device_id: *mut c_int,
) -> Status {
    answer(|| {
        let is_valid = |descriptor: &InfiniopDescriptor| descriptor.magic == MAGIC;
        // SAFETY: the caller says so.
        unsafe {
            let id = require(desc_ptr, "desc_ptr", is_valid)?.device_id;
            write(device_id, id, "device_id")
        }
    })
}
