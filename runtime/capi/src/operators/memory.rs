//! Memory of the device, which is that of the host.

use std::alloc::{Layout, alloc, dealloc};
use std::ffi::{c_int, c_void};

use super::descriptor::{check_pointer, write};
use super::device::infinirtStream_t;
use crate::Status;
use crate::status::{Failure, answer};

/// Bytes before a piece of memory, which say how long it is, and its alignment.
const HEADER: usize = 64;

fn layout(size: usize) -> Option<Layout> {
    Layout::from_size_align(size.checked_add(HEADER)?, HEADER).ok()
}

/// Allocates `size` bytes at a multiple of 64; of no bytes, null.
///
/// # Safety
///
/// `p_ptr` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtMalloc(p_ptr: *mut *mut c_void, size: usize) -> Status {
    answer(|| {
        // SAFETY: the caller says so.
        unsafe { write(p_ptr, std::ptr::null_mut(), "p_ptr") }?;
        if size == 0 {
            return Ok(());
        }
        let none = || Failure::new(Status::OutOfMemory, format!("no memory for {size} bytes"));
        let layout = layout(size).ok_or_else(none)?;
        // SAFETY: the layout has bytes.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            return Err(none());
        }
        // SAFETY: the header lies in front, and the caller can be told.
        unsafe {
            start.cast::<usize>().write(size);
            write(p_ptr, start.add(HEADER).cast(), "p_ptr")
        }
    })
}

/// As `infinirtMalloc`.
///
/// # Safety
///
/// `p_ptr` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtMallocHost(p_ptr: *mut *mut c_void, size: usize) -> Status {
    // SAFETY: the caller says so.
    unsafe { infinirtMalloc(p_ptr, size) }
}

/// As `infinirtMalloc`.
///
/// # Safety
///
/// `p_ptr` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtMallocAsync(
    p_ptr: *mut *mut c_void,
    size: usize,
    _stream: infinirtStream_t,
) -> Status {
    // SAFETY: the caller says so.
    unsafe { infinirtMalloc(p_ptr, size) }
}

/// Frees what these functions have allocated; of null, nothing.
///
/// # Safety
///
/// `ptr` is null or came from one of these functions and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtFree(ptr: *mut c_void) -> Status {
    answer(|| {
        if ptr.is_null() {
            return Ok(());
        }
        // SAFETY: the header lies in front of what the caller got.
        unsafe {
            let start = ptr.cast::<u8>().sub(HEADER);
            let size = start.cast::<usize>().read();
            if let Some(layout) = layout(size) {
                dealloc(start, layout);
            }
        }
        Ok(())
    })
}

/// As `infinirtFree`.
///
/// # Safety
///
/// As for `infinirtFree`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtFreeHost(ptr: *mut c_void) -> Status {
    // SAFETY: the caller says so.
    unsafe { infinirtFree(ptr) }
}

/// As `infinirtFree`.
///
/// # Safety
///
/// As for `infinirtFree`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtFreeAsync(ptr: *mut c_void, _stream: infinirtStream_t) -> Status {
    // SAFETY: the caller says so.
    unsafe { infinirtFree(ptr) }
}

/// Copies `size` bytes, which may overlap; the kind, from 0 to 3, changes nothing.
///
/// # Safety
///
/// `dst` and `src` are null or have `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtMemcpy(
    dst: *mut c_void,
    src: *const c_void,
    size: usize,
    kind: c_int,
) -> Status {
    answer(|| {
        if !(0..=3).contains(&kind) {
            let message = format!("`kind` must be from 0 to 3, got {kind}");
            return Err(Failure::new(Status::BadParam, message));
        }
        if size > 0 {
            check_pointer(dst.cast::<u8>(), "dst")?;
            check_pointer(src.cast::<u8>(), "src")?;
            // SAFETY: the caller says so.
            unsafe { std::ptr::copy(src.cast::<u8>(), dst.cast::<u8>(), size) };
        }
        Ok(())
    })
}

/// As `infinirtMemcpy`; it has copied when it returns.
///
/// # Safety
///
/// As for `infinirtMemcpy`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtMemcpyAsync(
    dst: *mut c_void,
    src: *const c_void,
    size: usize,
    kind: c_int,
    _stream: infinirtStream_t,
) -> Status {
    // SAFETY: the caller says so.
    unsafe { infinirtMemcpy(dst, src, size, kind) }
}

/// Sets `count` bytes to the low byte of `value`.
///
/// # Safety
///
/// `ptr` is null or has `count` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtMemset(ptr: *mut c_void, value: c_int, count: usize) -> Status {
    answer(|| {
        if count > 0 {
            check_pointer(ptr.cast::<u8>(), "ptr")?;
            // SAFETY: the caller says so.
            unsafe { std::ptr::write_bytes(ptr.cast::<u8>(), value as u8, count) };
        }
        Ok(())
    })
}

/// As `infinirtMemset`; it is done when it returns.
///
/// # Safety
///
/// As for `infinirtMemset`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtMemsetAsync(
    ptr: *mut c_void,
    value: c_int,
    count: usize,
    _stream: infinirtStream_t,
) -> Status {
    // SAFETY: the caller says so.
    unsafe { infinirtMemset(ptr, value, count) }
}

/// Writes how much memory the machine has free, and in all. Either may be null.
///
/// # Safety
///
/// Pointers are null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtGetMemInfo(
    device: c_int,
    device_id: c_int,
    free_bytes: *mut usize,
    total_bytes: *mut usize,
) -> Status {
    answer(|| {
        super::device::check_device(device, device_id)?;
        let (free, total) = memory_of_machine()?;
        for (to, value, name) in
            [(free_bytes, free, "free_bytes"), (total_bytes, total, "total_bytes")]
        {
            if !to.is_null() {
                // SAFETY: the caller says so.
                unsafe { write(to, value, name) }?;
            }
        }
        Ok(())
    })
}

/// Nothing more is measured of the device.
#[unsafe(no_mangle)]
pub extern "C" fn infinirtGetDeviceResourceSnapshot(
    _device: c_int,
    _device_id: c_int,
    _snapshot: *mut c_void,
) -> Status {
    answer(|| Err(Failure::new(Status::NotImplemented, "resources are not measured")))
}

/// As Linux tells it; other systems are not asked.
fn memory_of_machine() -> Result<(usize, usize), Failure> {
    let unknown = || Failure::new(Status::NotImplemented, "this system does not tell its memory");
    let text = std::fs::read_to_string("/proc/meminfo").map_err(|_| unknown())?;
    let kibibytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()
    };
    let of = |name| kibibytes(name).map(|size| size * 1024).ok_or_else(unknown);
    Ok((of("MemAvailable:")?, of("MemTotal:")?))
}
