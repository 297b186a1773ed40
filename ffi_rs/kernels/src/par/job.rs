//! One parallel loop, which the calling thread works through and others help with.

use std::any::Any;
use std::mem::transmute;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};

use super::{ParFor, Serial, spin_until, take};

type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// One loop, shared by the caller and its helpers. A helper may find it long after the loop: the
/// caller waits only for chunks that a helper has already started, as to wake a thread takes longer
/// than a short loop.
pub struct Job {
    chunks: usize,
    /// The next chunk that nobody has started.
    next: AtomicUsize,
    /// Chunks that are done.
    finished: AtomicUsize,
    /// The last worker number that was given away. The caller has 0.
    workers: AtomicUsize,
    /// Dangling once the loop is over: only for the owner of an unfinished chunk.
    task: *const Task<'static>,
    /// The first panic of a chunk.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    caller: Thread,
}

// SAFETY: `task` is `Sync`, and is called only while the loop that borrows it waits.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

impl Job {
    /// Runs `task` as [`super::ParFor::run`] says, on up to `width` threads. Before it does, it asks
    /// `schedule` for each of the others, which is to call [`Job::help`] once, until that answers false.
    pub fn run(
        chunks: usize,
        task: &Task<'_>,
        width: usize,
        mut schedule: impl FnMut(&Arc<Self>) -> bool,
    ) {
        let helpers = width.min(chunks).saturating_sub(1);
        if helpers == 0 {
            return Serial.run(chunks, task);
        }
        // SAFETY: forgets the lifetime alone; `work` says why the pointer is good when followed.
        let task = unsafe { transmute::<&Task<'_>, *const Task<'static>>(task) };
        let job = Arc::new(Self {
            chunks,
            next: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            task,
            panic: Mutex::new(None),
            caller: thread::current(),
        });
        let end = End(&job);
        let _ = (0..helpers).all(|_| schedule(&job));
        drop(end);
        let panic = job.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Works as a helper.
    pub fn help(&self) {
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
}

/// Works as the caller and waits until every chunk is finished, also where `schedule` panics.
struct End<'a>(&'a Job);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let Self(job) = self;
        job.work(0);
        let is_done = || job.finished.load(Ordering::Acquire) == job.chunks;
        // What is left is one chunk of each helper: shorter, mostly, than it takes to wake up.
        if !spin_until(is_done) {
            while !is_done() {
                thread::park();
            }
        }
    }
}
