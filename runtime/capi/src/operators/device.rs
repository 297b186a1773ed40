//! The device, which is the CPU, its handle, and streams and events, which have nothing to wait for:
//! every call has done its work when it returns.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;
use std::time::Instant;

use lumina_kernels::ThreadPool;

use super::descriptor::{GONE, check_pointer, release, require, write};
use crate::Status;
use crate::status::{Failure, answer};

/// Types of devices that the interface names.
const DEVICE_TYPES: c_int = 11;
const CPU: c_int = 0;
const MAGIC: u64 = u64::from_le_bytes(*b"lmnhandl");

/// What operators are created with: the device that they run on.
#[repr(C)]
pub struct InfiniopHandle {
    device: c_int,
    device_id: c_int,
    magic: u64,
}

/// A pointer to a handle.
#[allow(non_camel_case_types)]
pub type infiniopHandle_t = *mut InfiniopHandle;

/// A stream, which may be null.
#[allow(non_camel_case_types)]
pub type infinirtStream_t = *mut c_void;

/// An event.
#[allow(non_camel_case_types)]
pub type infinirtEvent_t = *mut c_void;

/// The threads of all operators, one for each core, the calling one among them.
pub(super) fn pool() -> Result<&'static ThreadPool, Failure> {
    static POOL: OnceLock<Result<ThreadPool, String>> = OnceLock::new();
    let pool = POOL.get_or_init(|| ThreadPool::new(0).map_err(|error| error.to_string()));
    pool.as_ref().map_err(|error| {
        Failure::new(Status::InternalError, format!("cannot start threads: {error}"))
    })
}

/// The device of a handle, and its number.
///
/// # Safety
///
/// `handle` is null or a handle that was not destroyed.
pub(super) unsafe fn check_handle(
    handle: *const InfiniopHandle,
) -> Result<(c_int, c_int), Failure> {
    // SAFETY: the caller says so.
    let handle = unsafe { require(handle, "handle", |handle| handle.magic == MAGIC) }?;
    Ok((handle.device, handle.device_id))
}

/// Makes a handle of the device that this thread has set.
///
/// # Safety
///
/// `handle_ptr` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infiniopCreateHandle(handle_ptr: *mut infiniopHandle_t) -> Status {
    answer(|| {
        check_pointer(handle_ptr, "handle_ptr")?;
        pool()?;
        let handle = Box::new(InfiniopHandle { device: CPU, device_id: 0, magic: MAGIC });
        // SAFETY: the caller says so.
        unsafe { write(handle_ptr, Box::into_raw(handle), "handle_ptr") }
    })
}

/// Frees a handle. Operators that were created with it do not need it.
///
/// # Safety
///
/// `handle` is null or a handle that was not destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infiniopDestroyHandle(handle: infiniopHandle_t) -> Status {
    answer(|| {
        // SAFETY: the caller says so.
        unsafe {
            check_handle(handle)?;
            release(handle, |handle| handle.magic = GONE);
        }
        Ok(())
    })
}

fn check_type(device: c_int) -> Result<(), Failure> {
    match device {
        CPU => Ok(()),
        _ => {
            let message = format!("devices of type {device} are not supported, only 0, the CPU");
            Err(Failure::new(Status::DeviceTypeNotSupported, message))
        }
    }
}

pub(super) fn check_device(device: c_int, id: c_int) -> Result<(), Failure> {
    check_type(device)?;
    match id {
        0 => Ok(()),
        _ => {
            let message = format!("there is one device of type {device}, number 0, got {id}");
            Err(Failure::new(Status::DeviceNotFound, message))
        }
    }
}

/// Does nothing: the device needs no preparation.
#[unsafe(no_mangle)]
pub extern "C" fn infinirtInit() -> Status {
    Status::Success
}

/// Writes how many devices there are of each of the 11 types.
///
/// # Safety
///
/// `count_array` is null or has room for 11 numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtGetAllDeviceCount(count_array: *mut c_int) -> Status {
    answer(|| {
        check_pointer(count_array, "count_array")?;
        for device in 0..DEVICE_TYPES {
            let count = c_int::from(device == CPU);
            // SAFETY: the caller says that there is room.
            unsafe { count_array.add(device as usize).write(count) };
        }
        Ok(())
    })
}

/// Writes how many devices of that type there are: 1 CPU, and none of any other.
///
/// # Safety
///
/// `count` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtGetDeviceCount(device: c_int, count: *mut c_int) -> Status {
    answer(|| {
        if !(0..DEVICE_TYPES).contains(&device) {
            check_type(device)?;
        }
        // SAFETY: the caller says so.
        unsafe { write(count, c_int::from(device == CPU), "count") }
    })
}

/// Sets the device of this thread, of which there is one.
#[unsafe(no_mangle)]
pub extern "C" fn infinirtSetDevice(device: c_int, device_id: c_int) -> Status {
    answer(|| check_device(device, device_id))
}

/// Writes type and number of the device of this thread. Either may be null.
///
/// # Safety
///
/// Pointers are null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtGetDevice(
    device_ptr: *mut c_int,
    device_id_ptr: *mut c_int,
) -> Status {
    answer(|| {
        for (to, value) in [(device_ptr, CPU), (device_id_ptr, 0)] {
            if !to.is_null() {
                // SAFETY: the caller says so.
                unsafe { write(to, value, "device") }?;
            }
        }
        Ok(())
    })
}

/// Returns at once: calls have done their work when they return.
#[unsafe(no_mangle)]
pub extern "C" fn infinirtDeviceSynchronize() -> Status {
    Status::Success
}

/// Makes a stream.
///
/// # Safety
///
/// `stream_ptr` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtStreamCreate(stream_ptr: *mut infinirtStream_t) -> Status {
    // SAFETY: the caller says so.
    answer(|| unsafe { write(stream_ptr, std::ptr::null_mut(), "stream_ptr") })
}

/// Does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn infinirtStreamDestroy(_stream: infinirtStream_t) -> Status {
    Status::Success
}

/// Returns at once.
#[unsafe(no_mangle)]
pub extern "C" fn infinirtStreamSynchronize(_stream: infinirtStream_t) -> Status {
    Status::Success
}

/// Returns at once: what an event was recorded after is done.
///
/// # Safety
///
/// `event` is null or an event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtStreamWaitEvent(
    _stream: infinirtStream_t,
    event: infinirtEvent_t,
) -> Status {
    // SAFETY: the caller says so.
    answer(|| unsafe { time_of(event, "event") }.map(|_| ()))
}

/// When it was recorded.
struct Event(Cell<Option<Instant>>);

/// # Safety
///
/// `event` is null or an event that lives for 'a.
unsafe fn time_of<'a>(
    event: infinirtEvent_t,
    name: &str,
) -> Result<&'a Cell<Option<Instant>>, Failure> {
    check_pointer(event.cast::<Event>(), name)?;
    // SAFETY: the caller says so.
    Ok(unsafe { &(*event.cast::<Event>()).0 })
}

/// Makes an event.
///
/// # Safety
///
/// `event_ptr` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtEventCreate(event_ptr: *mut infinirtEvent_t) -> Status {
    answer(|| {
        check_pointer(event_ptr, "event_ptr")?;
        let event = Box::into_raw(Box::new(Event(Cell::new(None))));
        // SAFETY: the caller says so.
        unsafe { write(event_ptr, event.cast(), "event_ptr") }
    })
}

/// Makes an event; flags change nothing.
///
/// # Safety
///
/// `event_ptr` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtEventCreateWithFlags(
    event_ptr: *mut infinirtEvent_t,
    _flags: u32,
) -> Status {
    // SAFETY: the caller says so.
    unsafe { infinirtEventCreate(event_ptr) }
}

/// Records the time.
///
/// # Safety
///
/// `event` is null or an event, which no other thread uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtEventRecord(
    event: infinirtEvent_t,
    _stream: infinirtStream_t,
) -> Status {
    answer(|| {
        // SAFETY: the caller says so.
        unsafe { time_of(event, "event") }?.set(Some(Instant::now()));
        Ok(())
    })
}

/// Writes 0: what the event was recorded after is done.
///
/// # Safety
///
/// `event` is null or an event, `status_ptr` null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtEventQuery(
    event: infinirtEvent_t,
    status_ptr: *mut c_int,
) -> Status {
    answer(|| {
        // SAFETY: the caller says so.
        unsafe {
            time_of(event, "event")?;
            write(status_ptr, 0, "status_ptr")
        }
    })
}

/// Returns at once.
///
/// # Safety
///
/// `event` is null or an event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtEventSynchronize(event: infinirtEvent_t) -> Status {
    // SAFETY: the caller says so.
    answer(|| unsafe { time_of(event, "event") }.map(|_| ()))
}

/// Frees an event.
///
/// # Safety
///
/// `event` is null or an event that was not destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtEventDestroy(event: infinirtEvent_t) -> Status {
    answer(|| {
        check_pointer(event.cast::<Event>(), "event")?;
        // SAFETY: the caller says so.
        drop(unsafe { Box::from_raw(event.cast::<Event>()) });
        Ok(())
    })
}

/// Writes the milliseconds between two events, both of which were recorded.
///
/// # Safety
///
/// `ms_ptr` is null or writable, `start` and `end` are null or events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn infinirtEventElapsedTime(
    ms_ptr: *mut f32,
    start: infinirtEvent_t,
    end: infinirtEvent_t,
) -> Status {
    answer(|| {
        // SAFETY: the caller says so.
        let times = unsafe { [time_of(start, "start")?.get(), time_of(end, "end")?.get()] };
        let [Some(start), Some(end)] = times else {
            return Err(Failure::new(Status::BadParam, "an event was not recorded"));
        };
        let milliseconds = match end.checked_duration_since(start) {
            Some(time) => time.as_secs_f32() * 1e3,
            None => -(start - end).as_secs_f32() * 1e3,
        };
        // SAFETY: the caller says so.
        unsafe { write(ms_ptr, milliseconds, "ms_ptr") }
    })
}

/// Streams are not recorded.
#[unsafe(no_mangle)]
pub extern "C" fn infinirtStreamBeginCapture(_stream: infinirtStream_t, _mode: c_int) -> Status {
    no_graphs()
}

/// Streams are not recorded.
#[unsafe(no_mangle)]
pub extern "C" fn infinirtStreamEndCapture(
    _stream: infinirtStream_t,
    _graph_ptr: *mut *mut c_void,
) -> Status {
    no_graphs()
}

/// There are no graphs.
#[unsafe(no_mangle)]
pub extern "C" fn infinirtGraphDestroy(_graph: *mut c_void) -> Status {
    no_graphs()
}

/// There are no graphs.
#[unsafe(no_mangle)]
pub extern "C" fn infinirtGraphInstantiate(
    _graph_exec_ptr: *mut *mut c_void,
    _graph: *mut c_void,
    _node_ptr: *mut *mut c_void,
    _log_buffer: *mut c_char,
    _buffer_size: usize,
) -> Status {
    no_graphs()
}

/// There are no graphs.
#[unsafe(no_mangle)]
pub extern "C" fn infinirtGraphExecDestroy(_graph_exec: *mut c_void) -> Status {
    no_graphs()
}

/// There are no graphs. The interface spells the name so.
#[unsafe(no_mangle)]
pub extern "C" fn infinirtGraphLuanch(
    _graph_exec: *mut c_void,
    _stream: infinirtStream_t,
) -> Status {
    no_graphs()
}

fn no_graphs() -> Status {
    answer(|| Err(Failure::new(Status::NotImplemented, "streams are not recorded as graphs")))
}
