//! One call of an operator: from pointers to slices that may be read and written.

use std::ffi::c_void;
use std::ops::Range;

use lumina_kernels::{Data, ThreadPool};
use lumina_runtime::operator::{Arrangement, Operand};
use smallvec::SmallVec;

use super::define::Source;
use super::descriptor::{InfiniopDescriptor, InfiniopPrograms, Planned, Signature, body};
use super::device::pool;
use crate::Status;
use crate::status::{Failure, answer};

/// Memory of the caller.
#[derive(Clone, Copy)]
struct Memory {
    start: *mut u8,
    bytes: usize,
}

impl Memory {
    const NONE: Self = Self { start: std::ptr::null_mut(), bytes: 0 };

    fn addresses(self) -> Range<usize> {
        let start = self.start.addr();
        start..start.wrapping_add(self.bytes)
    }

    /// # Safety
    ///
    /// The memory holds initialized bytes for 'a, and nobody writes them meanwhile.
    unsafe fn read<'a>(self) -> &'a [u8] {
        match self.bytes {
            0 => &[],
            // SAFETY: the caller says so.
            _ => unsafe { std::slice::from_raw_parts(self.start, self.bytes) },
        }
    }

    /// # Safety
    ///
    /// The memory is writable for 'a, and nobody else looks at it meanwhile.
    unsafe fn write<'a>(self) -> &'a mut [u8] {
        match self.bytes {
            0 => &mut [],
            // SAFETY: the caller says so.
            _ => unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) },
        }
    }
}

/// Runs an operator on the memory at `pointers`, one for each tensor.
///
/// # Safety
///
/// `desc` is as for [`body`]. Each pointer is null or leads to memory as its descriptor says, `workspace` is
/// null or has `size` bytes, and nobody writes what is read, or looks at what is written, meanwhile.
pub(super) unsafe fn call(
    signature: &'static Signature,
    desc: *const InfiniopDescriptor,
    workspace: *mut c_void,
    size: usize,
    pointers: &[*mut c_void],
    scalars: &[f32],
    repeated: impl FnOnce() -> Result<Vec<u64>, Failure>,
) -> Status {
    answer(|| {
        // SAFETY: the caller says so.
        let body = unsafe { body(desc, signature) }?;
        body.check_repeated(&repeated()?)?;
        let planned = &body.programs[(body.choose)(scalars)];
        let mut memory: SmallVec<[Memory; 8]> = SmallVec::new();
        for (index, (&pointer, operand)) in pointers.iter().zip(&body.operands).enumerate() {
            memory.push(match operand {
                None => Memory::NONE,
                Some(operand) if planned.reads_or_writes(index, signature) => {
                    locate(pointer, operand, signature.tensors[index])?
                }
                Some(_) => Memory::NONE,
            });
        }
        for &(index, limit) in &body.indices {
            if let Some(operand) = &body.operands[index] {
                // SAFETY: the caller says that the memory is there.
                let bytes = unsafe { memory[index].read() };
                check_indices(signature, index, operand, bytes, limit)?;
            }
        }
        let arrangement = planned.arrangement(&memory, signature.outputs);
        let mut room = Vec::new();
        let workspace = match signature.has_workspace {
            true => locate_workspace(workspace, size, body, &memory)?,
            false => {
                // Most calls take none.
                room.resize(planned.operator.workspace_of(arrangement), 0u8);
                Memory { start: room.as_mut_ptr(), bytes: room.len() }
            }
        };
        // SAFETY: the caller says so; the workspace is apart from all else.
        unsafe {
            let outputs = (signature.outputs, arrangement);
            run(planned, &memory, outputs, workspace, scalars, pool()?)
        }
    })
}

impl Planned {
    fn reads_or_writes(&self, index: usize, signature: &Signature) -> bool {
        index < signature.outputs || self.sources.contains(&Source::Tensor(index))
    }

    /// How the memory of inputs and outputs overlaps.
    fn arrangement(&self, memory: &[Memory], outputs: usize) -> Arrangement {
        let of = |source: &Source| match *source {
            Source::Tensor(index) => memory[index].addresses(),
            // It is on the stack of this call.
            Source::Scalar(_) => 0..0,
        };
        let read: SmallVec<[Range<usize>; 8]> = self.sources.iter().map(of).collect();
        let written: SmallVec<[Range<usize>; 4]> =
            memory[..outputs].iter().map(|memory| memory.addresses()).collect();
        self.operator.arrangement(&read, &written)
    }
}

/// # Safety
///
/// All memory is there and overlaps as `arrangement` says, `workspace` nothing else.
unsafe fn run(
    planned: &Planned,
    memory: &[Memory],
    (outputs, arrangement): (usize, Arrangement),
    workspace: Memory,
    scalars: &[f32],
    pool: &ThreadPool,
) -> Result<(), Failure> {
    let Planned { operator, sources } = planned;
    let over = match arrangement {
        Arrangement::Over { output, input } => Some([output, input]),
        Arrangement::Apart | Arrangement::Overlapping => None,
    };
    let input = |(number, source): (usize, &Source)| match *source {
        Source::Scalar(index) => bytemuck::bytes_of(&scalars[index]),
        Source::Tensor(_) if over.is_some_and(|[_, input]| input == number) => &[],
        // SAFETY: the memory is there, and is not written as long as this is used: no output overlaps
        // it, or outputs are written once nothing is read any more.
        Source::Tensor(index) => unsafe { memory[index].read() },
    };
    let inputs: SmallVec<[&[u8]; 8]> = sources.iter().enumerate().map(input).collect();
    // SAFETY: the workspace is there, and overlaps nothing else.
    let workspace = unsafe { workspace.write() };
    if arrangement != Arrangement::Overlapping {
        let write = |memory: &Memory| {
            // SAFETY: the memory is there, and overlaps neither an input that is looked at nor another
            // output.
            unsafe { memory.write() }
        };
        let mut outputs: SmallVec<[&mut [u8]; 4]> = memory[..outputs].iter().map(write).collect();
        return operator.run(over, &inputs, &mut outputs, workspace, pool).map_err(of_run);
    }
    operator.compute(&inputs, workspace, pool).map_err(of_run)?;
    drop(inputs);
    for (number, memory) in memory[..outputs].iter().enumerate() {
        // SAFETY: the memory is there, and no input and no other output is looked at any more.
        let memory = unsafe { memory.write() };
        operator.deliver(number, memory, workspace, pool).map_err(of_run)?;
    }
    Ok(())
}

fn of_run(error: lumina_runtime::Error) -> Failure {
    Failure::new(Status::InternalError, error.to_string())
}

/// The memory from the first element of a tensor on, of which `pointer` leads to that of index 0.
fn locate(pointer: *mut c_void, operand: &Operand, name: &str) -> Result<Memory, Failure> {
    let bytes = operand.span();
    if bytes == 0 {
        return Ok(Memory::NONE);
    }
    if pointer.is_null() {
        return Err(Failure::new(Status::NullPointer, format!("`{name}` is null")));
    }
    let align = operand.fact().dtype.align();
    let start = pointer.cast::<u8>().wrapping_sub(operand.offset());
    if !start.addr().is_multiple_of(align) {
        let message = format!("`{name}` does not lie at a multiple of {align} bytes");
        return Err(Failure::new(Status::BadParam, message));
    }
    if pointer.addr() < operand.offset() || start.addr().checked_add(bytes).is_none() {
        let message = format!("`{name}` leaves the address space");
        return Err(Failure::new(Status::BadParam, message));
    }
    Ok(Memory { start, bytes })
}

fn locate_workspace(
    workspace: *mut c_void,
    size: usize,
    body: &InfiniopPrograms,
    tensors: &[Memory],
) -> Result<Memory, Failure> {
    let needed = body.workspace();
    if needed == 0 {
        return Ok(Memory::NONE);
    }
    if size < needed {
        let name = body.signature.name;
        let message = format!("{name} takes a workspace of {needed} bytes, got {size}");
        return Err(Failure::new(Status::InsufficientWorkspace, message));
    }
    if workspace.is_null() {
        return Err(Failure::new(Status::NullPointer, "`workspace` is null"));
    }
    let memory = Memory { start: workspace.cast(), bytes: needed };
    let own = memory.addresses();
    if own.end < own.start {
        return Err(Failure::new(Status::BadParam, "`workspace` leaves the address space"));
    }
    for (tensor, name) in tensors.iter().zip(body.signature.tensors) {
        let other = tensor.addresses();
        if own.start < other.end && other.start < own.end {
            let message = format!("`workspace` overlaps `{name}`");
            return Err(Failure::new(Status::BadParam, message));
        }
    }
    Ok(memory)
}

/// Refuses indices that lead nowhere.
fn check_indices(
    signature: &Signature,
    index: usize,
    operand: &Operand,
    bytes: &[u8],
    limit: usize,
) -> Result<(), Failure> {
    let wrong = match Data::from_bytes(operand.fact().dtype, bytes) {
        Some(Data::I8(elements)) => first_outside(operand, elements, limit),
        Some(Data::U8(elements)) => first_outside(operand, elements, limit),
        Some(Data::I16(elements)) => first_outside(operand, elements, limit),
        Some(Data::I32(elements)) => first_outside(operand, elements, limit),
        Some(Data::I64(elements)) => first_outside(operand, elements, limit),
        Some(Data::U32(elements)) => first_outside(operand, elements, limit),
        _ => None,
    };
    match wrong {
        None => Ok(()),
        Some(wrong) => {
            let name = signature.tensors[index];
            let message = format!("`{name}` must be from 0 to below {limit}, got {wrong}");
            Err(Failure::new(Status::BadParam, message))
        }
    }
}

fn first_outside<T: Copy + Into<i64>>(
    operand: &Operand,
    elements: &[T],
    limit: usize,
) -> Option<i64> {
    let is_inside = |index: i64| usize::try_from(index).is_ok_and(|index| index < limit);
    operand.positions().map(|at| elements[at].into()).find(|&index| !is_inside(index))
}
