//! Parallel loops over chunks, whichever thread pool runs them.

mod job;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use self::job::Job;
use crate::tuning::{SPINS, WAKING};
use crate::vector::FlushDenormals;

/// Runs independent chunks of work, on as many threads as it has.
///
/// No two chunks write the same element or share a sum, a maximum apart, so that the number of
/// threads changes no bit.
pub trait ParFor: Sync {
    /// Upper bound of the worker numbers that `run` hands out; at least 1.
    fn width(&self) -> usize;

    /// Calls `task(chunk, worker)` once for each `chunk < chunks`, and returns when all are done.
    /// At any time, at most one call runs with a given `worker < width()`. Chunks start in order,
    /// so one may wait for those before it.
    fn run(&self, chunks: usize, task: &(dyn Fn(usize, usize) + Sync));
}

/// The calling thread alone.
pub struct Serial;

impl ParFor for Serial {
    fn width(&self) -> usize {
        1
    }

    fn run(&self, chunks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        for chunk in 0..chunks {
            task(chunk, 0);
        }
    }
}

/// The calling thread, helped by threads of the pool: a loop starts at once where it is called, on any
/// thread, and on several of them at a time.
pub struct ThreadPool {
    helpers: Option<rayon::ThreadPool>,
    threads: usize,
}

impl ThreadPool {
    /// So many threads, the calling one among them; 0 is what `RAYON_NUM_THREADS` says, else one per
    /// core.
    pub fn new(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let threads = if threads == 0 { default_threads() } else { threads };
        let helpers = rayon::ThreadPoolBuilder::new()
            .num_threads(threads - 1)
            .thread_name(|index| format!("lumina-{index}"))
            // For as long as the thread lives.
            .start_handler(|_| std::mem::forget(FlushDenormals::new()));
        let helpers = if threads > 1 { Some(helpers.build()?) } else { None };
        // Rayon has a most number of its own.
        let threads = helpers.as_ref().map_or(1, |helpers| helpers.current_num_threads() + 1);
        Ok(Self { helpers, threads })
    }

    /// Returns when every thread runs and has set up what threads share. What is set up only once
    /// is set up under a lock, and nobody is to fork meanwhile.
    pub fn wait_until_started(&self) {
        if let Some(helpers) = &self.helpers {
            helpers.broadcast(|_| ());
        }
    }
}

/// How many threads a pool has that nobody has given a number.
fn default_threads() -> usize {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|count| count.parse().ok());
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    asked.filter(|&count| count > 0).unwrap_or_else(cores)
}

impl ParFor for ThreadPool {
    fn width(&self) -> usize {
        self.threads
    }

    fn run(&self, chunks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        Job::run(chunks, task, self.threads, |job| {
            let Some(helpers) = &self.helpers else { return false };
            let job = Arc::clone(job);
            helpers.spawn(move || job.help());
            true
        });
    }
}

/// The next chunk that nobody has taken, if there is one.
fn take(next: &AtomicUsize, chunks: usize) -> Option<usize> {
    let chunk = next.fetch_add(1, Ordering::Relaxed);
    (chunk < chunks).then_some(chunk)
}

/// `pool`, or the calling thread alone where the work is over before another one is awake:
/// `nanoseconds` is about what one thread takes.
pub(crate) fn parallel_if(pool: &dyn ParFor, nanoseconds: usize) -> &dyn ParFor {
    if nanoseconds < WAKING { &Serial } else { pool }
}

/// Stages of chunks that run in one parallel loop, one stage after the other: a chunk starts when
/// all chunks of the stages before it are done, and sees what they wrote. Each stage hands out its
/// chunks from [`BothEnds`].
///
/// A loop for each stage would wake the other threads anew, which takes longer than a short stage.
#[derive(Default)]
pub(crate) struct Schedule<'a> {
    stages: Vec<Stage<'a>>,
}

struct Stage<'a> {
    name: &'static str,
    chunks: usize,
    task: Box<dyn Fn(usize) + Sync + 'a>,
}

impl<'a> Schedule<'a> {
    /// Adds a stage, which calls `task(chunk)` once for each `chunk < chunks`.
    pub(crate) fn stage(
        &mut self,
        name: &'static str,
        chunks: usize,
        task: impl Fn(usize) + Sync + 'a,
    ) {
        if chunks > 0 {
            self.stages.push(Stage { name, chunks, task: Box::new(task) });
        }
    }

    /// Runs all stages on `pool`.
    pub(crate) fn run(&self, pool: &dyn ParFor) {
        let mut starts = Vec::with_capacity(self.stages.len());
        let mut chunks = 0;
        for stage in &self.stages {
            starts.push((chunks, BothEnds::new(stage.chunks)));
            chunks += stage.chunks;
        }
        let finished = AtomicUsize::new(0);
        pool.run(chunks, &|chunk, worker| {
            let stage = starts.partition_point(|(start, _)| *start <= chunk) - 1;
            let (start, order) = &starts[stage];
            // Those are running, or done: chunks start in order.
            let is_done = || finished.load(Ordering::Acquire) >= *start;
            if !spin_until(is_done) {
                while !is_done() {
                    // They may wait for this CPU.
                    std::thread::yield_now();
                }
            }
            let _done = Finish(&finished);
            (self.stages[stage].task)(order.take(worker));
        });
    }
}

impl fmt::Debug for Schedule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.stages.iter().map(|stage| (stage.name, stage.chunks))).finish()
    }
}

/// Hands out chunks from both ends: worker 0 gets the first ones, the others the last, so that most
/// of what the caches of a thread's core hold from one call is of use in the next.
struct BothEnds {
    chunks: usize,
    from_start: AtomicUsize,
    from_end: AtomicUsize,
}

impl BothEnds {
    /// Of `chunks` chunks.
    fn new(chunks: usize) -> Self {
        Self { chunks, from_start: AtomicUsize::new(0), from_end: AtomicUsize::new(0) }
    }

    /// A chunk that nobody has; to be called as many times as there are chunks.
    fn take(&self, worker: usize) -> usize {
        if worker == 0 {
            self.from_start.fetch_add(1, Ordering::Relaxed)
        } else {
            self.chunks - 1 - self.from_end.fetch_add(1, Ordering::Relaxed)
        }
    }
}

/// Counts a chunk as finished, also if it panics: nobody is to wait for it any more.
struct Finish<'a>(&'a AtomicUsize);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Waits awake for what another thread is about to do, about as long as a thread takes to wake up,
/// and returns whether it is done.
fn spin_until(mut done: impl FnMut() -> bool) -> bool {
    for _ in 0..SPINS {
        if done() {
            return true;
        }
        std::hint::spin_loop();
    }
    done()
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    const STAGES: [usize; 5] = [3, 0, 40, 0, 7];

    #[test]
    fn a_pool_runs_every_chunk_once_on_one_worker_at_a_time() {
        for threads in [1, 2, 3] {
            let pool = &ThreadPool::new(threads).unwrap();
            assert_eq!(pool.width(), threads);
            std::thread::scope(|scope| {
                for chunks in [0, 1, 2, 50] {
                    scope.spawn(move || {
                        let counts: Vec<AtomicUsize> = (0..chunks).map(|_| 0.into()).collect();
                        let busy: Vec<AtomicUsize> = (0..threads).map(|_| 0.into()).collect();
                        pool.run(chunks, &|chunk, worker| {
                            assert_eq!(busy[worker].swap(1, Ordering::AcqRel), 0);
                            counts[chunk].fetch_add(1, Ordering::Relaxed);
                            std::thread::yield_now();
                            busy[worker].store(0, Ordering::Release);
                        });
                        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                    });
                }
            });
        }
    }

    #[test]
    fn a_stage_starts_when_those_before_are_done() {
        for threads in [1, 2, 7] {
            let done = STAGES.map(|_| AtomicUsize::new(0));
            let mut schedule = Schedule::default();
            for (stage, chunks) in STAGES.into_iter().enumerate() {
                let done = &done;
                schedule.stage("", chunks, move |chunk| {
                    assert!(chunk < chunks);
                    for (done, count) in done.iter().zip(STAGES).take(stage) {
                        assert_eq!(done.load(Ordering::Relaxed), count);
                    }
                    done[stage].fetch_add(1, Ordering::Relaxed);
                });
            }
            schedule.run(&ThreadPool::new(threads).unwrap());
            drop(schedule);
            assert_eq!(done.map(AtomicUsize::into_inner), STAGES);
        }
    }

    #[test]
    fn a_schedule_shows_its_stages() {
        let mut schedule = Schedule::default();
        for (name, chunks) in [("pack", 5), ("none", 0), ("multiply", 9)] {
            schedule.stage(name, chunks, |_| ());
        }
        assert_eq!(format!("{schedule:?}"), r#"{"pack": 5, "multiply": 9}"#);
    }

    #[test]
    fn nobody_waits_for_a_chunk_that_panicked() {
        for threads in [1, 7] {
            let pool = ThreadPool::new(threads).unwrap();
            let mut schedule = Schedule::default();
            for (stage, chunks) in STAGES.into_iter().enumerate() {
                schedule.stage("", chunks, move |chunk| assert!((stage, chunk) != (0, 1)));
            }
            assert!(catch_unwind(AssertUnwindSafe(|| schedule.run(&pool))).is_err());
        }
    }

    #[test]
    fn both_ends_give_every_chunk_once() {
        for threads in [1, 2, 7] {
            let (pool, ends) = (ThreadPool::new(threads).unwrap(), BothEnds::new(40));
            let times = [(); 40].map(|()| AtomicUsize::new(0));
            pool.run(40, &|_, worker| {
                times[ends.take(worker)].fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(times.map(AtomicUsize::into_inner), [1; 40]);
        }
    }
}
