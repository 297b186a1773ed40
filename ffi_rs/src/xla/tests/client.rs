//! XLA as a handler sees it: the API that makes errors, and the thread pool.

use std::ffi::{CStr, c_uint, c_void};
use std::mem::size_of;
use std::ptr::{null, null_mut};
use std::sync::Mutex;
use std::thread;

use super::super::abi;

/// What the fake thread pool does with a task.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mode {
    NoPool,
    Refuse,
    Inline,
    Threads,
    Keep,
}

pub(super) struct Pool {
    pub(super) mode: Mode,
    threads: i64,
    kept: Mutex<Vec<(abi::Task, usize)>>,
}

impl Pool {
    pub(super) fn new(mode: Mode, threads: i64) -> Self {
        Self { mode, threads, kept: Mutex::default() }
    }

    /// Runs the tasks that came too late.
    pub(super) fn run_kept(&self) {
        for (task, data) in self.kept.lock().unwrap().drain(..) {
            // SAFETY: each task is run once.
            unsafe { task(data as *mut c_void) };
        }
    }
}

unsafe extern "C" fn error_create(args: *mut abi::ErrorCreateArgs) -> *mut abi::Error {
    // SAFETY: the handler passes a null-terminated text.
    let error =
        unsafe { ((*args).errc, CStr::from_ptr((*args).message).to_str().unwrap().to_owned()) };
    Box::into_raw(Box::new(error)).cast()
}

unsafe extern "C" fn error_destroy(args: *mut abi::ErrorDestroyArgs) {
    // SAFETY: made by `refusal`.
    drop(unsafe { Box::from_raw((*args).error.cast::<(c_uint, String)>()) });
}

fn refusal() -> *mut abi::Error {
    Box::into_raw(Box::new((abi::ERROR_INTERNAL, String::from("no pool")))).cast()
}

unsafe extern "C" fn num_threads(args: *mut abi::ThreadPoolNumThreadsArgs) -> *mut abi::Error {
    // SAFETY: the context of these tests is a `Pool`.
    unsafe {
        let pool = &*(*args).ctx.cast::<Pool>();
        if pool.mode == Mode::NoPool {
            return refusal();
        }
        *(*args).num_threads = pool.threads;
    }
    null_mut()
}

unsafe extern "C" fn schedule(args: *mut abi::ThreadPoolScheduleArgs) -> *mut abi::Error {
    // SAFETY: the context of these tests is a `Pool`; each task is run once.
    unsafe {
        let pool = &*(*args).ctx.cast::<Pool>();
        let (task, data) = ((*args).task, (*args).data as usize);
        match pool.mode {
            Mode::NoPool | Mode::Refuse => return refusal(),
            Mode::Inline => task(data as *mut c_void),
            Mode::Threads => drop(thread::spawn(move || task(data as *mut c_void))),
            Mode::Keep => pool.kept.lock().unwrap().push((task, data)),
        }
    }
    null_mut()
}

pub(super) fn api() -> abi::Api {
    abi::Api {
        struct_size: size_of::<abi::Api>(),
        extension_start: null_mut(),
        api_version: abi::ApiVersion {
            struct_size: size_of::<abi::ApiVersion>(),
            extension_start: null_mut(),
            major_version: 0,
            minor_version: 3,
        },
        internal_api: null(),
        error_create: Some(error_create),
        error_get_message: null(),
        error_destroy: Some(error_destroy),
        handler_register: null(),
        stream_get: null(),
        type_register: null(),
        execution_context_get: null(),
        state_set: null(),
        state_get: null(),
        device_memory_allocate: null(),
        device_memory_free: null(),
        thread_pool_schedule: Some(schedule),
        thread_pool_num_threads: Some(num_threads),
        future_create: null(),
        future_set_available: null(),
        future_set_error: null(),
        run_id_get: null(),
        device_ordinal_get: null(),
    }
}
