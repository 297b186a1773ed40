//! Parallel loops on XLA's own thread pool.
//!
//! Handlers run *on* the threads of that pool, so a handler that schedules work and blocks until
//! it has run would wait for a thread that is itself. Here the caller works through the chunks
//! itself and the scheduled helpers take chunks from the same counter when, and if, they get a
//! thread.

use std::ffi::c_void;
use std::mem::{offset_of, size_of};
use std::ptr::null_mut;
use std::sync::Arc;

use lumina_kernels::{FlushDenormals, Job, ParFor};

use super::abi;

/// XLA's thread pool, for the time of one handler call.
pub(super) struct XlaPool {
    api: *const abi::Api,
    ctx: *mut abi::ExecutionContext,
    width: usize,
}

// SAFETY: XLA's pool takes tasks from any thread, and the two pointers are never changed.
unsafe impl Sync for XlaPool {}

impl XlaPool {
    /// The pool of this call; as wide as the calling thread alone where XLA offers none.
    ///
    /// # Safety
    /// `api` and `ctx` come from the call frame of a handler that outlives the pool.
    pub(super) unsafe fn new(api: *const abi::Api, ctx: *mut abi::ExecutionContext) -> Self {
        // SAFETY: the caller vouches for `api`.
        let width = unsafe { num_threads(api, ctx) }.unwrap_or(1);
        Self { api, ctx, width }
    }

    /// Asks for one helper; false if XLA refuses.
    fn schedule(&self, job: &Arc<Job>) -> bool {
        // SAFETY: `width > 1`, so the API reaches at least to `thread_pool_num_threads`.
        let Some(schedule) = (unsafe { (*self.api).thread_pool_schedule }) else {
            return false;
        };
        let data = Arc::into_raw(Arc::clone(job));
        let mut args = abi::ThreadPoolScheduleArgs {
            struct_size: size_of::<abi::ThreadPoolScheduleArgs>(),
            extension_start: null_mut(),
            ctx: self.ctx,
            task: help,
            data: data.cast_mut().cast::<c_void>(),
        };
        // SAFETY: the handler that `ctx` belongs to has not returned.
        let error = unsafe { schedule(&raw mut args) };
        if error.is_null() {
            return true;
        }
        // SAFETY: the error is ours to free; a task that was refused never gets its reference.
        unsafe {
            destroy(self.api, error);
            drop(Arc::from_raw(data));
        }
        false
    }
}

impl ParFor for XlaPool {
    fn width(&self) -> usize {
        self.width
    }

    fn run(&self, chunks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        Job::run(chunks, task, self.width, |job| self.schedule(job));
    }
}

/// A helper, on a thread of XLA.
///
/// # Safety
/// `data` is a reference to a [`Job`], given away for this one call.
unsafe extern "C" fn help(data: *mut c_void) {
    // SAFETY: the caller vouches.
    let job = unsafe { Arc::from_raw(data.cast_const().cast::<Job>()) };
    let _flush = FlushDenormals::new();
    job.help();
}

/// # Safety
/// As [`XlaPool::new`].
unsafe fn num_threads(api: *const abi::Api, ctx: *mut abi::ExecutionContext) -> Option<usize> {
    const REACH: usize = offset_of!(abi::Api, thread_pool_num_threads) + size_of::<usize>();
    // SAFETY: the API is read as far as it says it reaches.
    let num_threads = unsafe {
        if (*api).struct_size < REACH {
            return None;
        }
        (*api).thread_pool_num_threads
    }?;
    let mut threads = 1;
    let mut args = abi::ThreadPoolNumThreadsArgs {
        struct_size: size_of::<abi::ThreadPoolNumThreadsArgs>(),
        extension_start: null_mut(),
        ctx,
        num_threads: &raw mut threads,
    };
    // SAFETY: the caller vouches for `ctx`.
    let error = unsafe { num_threads(&raw mut args) };
    if !error.is_null() {
        // SAFETY: the error is ours to free.
        unsafe { destroy(api, error) };
        return None;
    }
    usize::try_from(threads).ok().filter(|&threads| threads > 0)
}

/// # Safety
/// `error` is one that `api` returned and nobody has freed.
unsafe fn destroy(api: *const abi::Api, error: *mut abi::Error) {
    // SAFETY: every version of the API has this function.
    if let Some(destroy) = unsafe { (*api).error_destroy } {
        let mut args = abi::ErrorDestroyArgs {
            struct_size: size_of::<abi::ErrorDestroyArgs>(),
            extension_start: null_mut(),
            error,
        };
        // SAFETY: the caller vouches for `error`.
        unsafe { destroy(&raw mut args) };
    }
}
