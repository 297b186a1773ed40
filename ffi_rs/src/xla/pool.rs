//! Parallel loops on XLA's own thread pool.
//!
//! Handlers run *on* the threads of that pool, so a handler that schedules work and blocks until
//! it has run would wait for a thread that is itself. Here the caller works through the chunks
//! itself and the scheduled helpers take chunks from the same counter when, and if, they get a
//! thread. The caller waits only for chunks that a helper has already started.

use std::any::Any;
use std::ffi::c_void;
use std::mem::{offset_of, size_of, transmute};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};

use lumina_kernels::{FlushDenormals, ParFor, Serial, spin_until, take};

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
        let helpers = self.width.min(chunks).saturating_sub(1);
        if helpers == 0 {
            return Serial.run(chunks, task);
        }
        let job = Arc::new(Job::new(chunks, task));
        for _ in 0..helpers {
            if !self.schedule(&job) {
                break;
            }
        }
        job.work(0);
        job.wait();
    }
}

/// One loop, shared by the caller and its helpers. A helper may find it long after the loop.
struct Job {
    chunks: usize,
    /// The next chunk that nobody has started.
    next: AtomicUsize,
    /// Chunks that are done.
    finished: AtomicUsize,
    /// The last worker number that was given away. The caller has 0.
    workers: AtomicUsize,
    /// Dangling once the loop is over: only for the owner of an unfinished chunk.
    task: *const (dyn Fn(usize, usize) + Sync),
    /// The first panic of a chunk.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    caller: Thread,
}

// SAFETY: `task` is `Sync`, and is called only while the loop that borrows it waits.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

impl Job {
    fn new(chunks: usize, task: &(dyn Fn(usize, usize) + Sync)) -> Self {
        // SAFETY: forgets the lifetime alone; `work` says why the pointer is good when followed.
        let task = unsafe {
            transmute::<&(dyn Fn(usize, usize) + Sync), *const (dyn Fn(usize, usize) + Sync)>(task)
        };
        Self {
            chunks,
            next: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            task,
            panic: Mutex::new(None),
            caller: thread::current(),
        }
    }

    /// Works as a helper.
    fn help(&self) {
        let worker = self.workers.fetch_add(1, Ordering::Relaxed) + 1;
        self.work(worker);
    }

    /// Takes chunks until there are none. A panic ends one chunk; the caller raises it later.
    fn work(&self, worker: usize) {
        let mut done = 0;
        while let Some(chunk) = take(&self.next, self.chunks) {
            // SAFETY: the loop that borrows `task` waits until `chunk` too is finished.
            let task = unsafe { &*self.task };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| task(chunk, worker))) {
                let mut panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
                panic.get_or_insert(payload);
            }
            done += 1;
        }
        if done > 0 && self.finished.fetch_add(done, Ordering::Release) + done == self.chunks {
            self.caller.unpark();
        }
    }

    /// Waits until every chunk is finished, then raises the first panic.
    fn wait(&self) {
        let is_done = || self.finished.load(Ordering::Acquire) == self.chunks;
        // What is left is one chunk of each helper: shorter, mostly, than it takes to wake up.
        if !spin_until(is_done) {
            while !is_done() {
                thread::park();
            }
        }
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
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
