//! Parallel loops over chunks, whichever thread pool runs them.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// A rayon pool of its own, whose threads flush denormals as XLA's do, so that both backends give
/// the same bits.
pub struct RayonPool {
    pool: rayon::ThreadPool,
}

impl RayonPool {
    /// A pool of `threads` threads; 0 asks rayon (`RAYON_NUM_THREADS`, else one per core).
    pub fn new(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("lumina-{index}"))
            // For as long as the thread lives.
            .start_handler(|_| std::mem::forget(FlushDenormals::new()))
            .build()?;
        Ok(Self { pool })
    }

    /// Returns when every thread runs and has set up what threads share. What is set up only once
    /// is set up under a lock, and nobody is to fork meanwhile.
    pub fn wait_until_started(&self) {
        self.pool.broadcast(|_| ());
    }

    /// Runs `work` on a thread of the pool: what is computed between the parallel loops needs the
    /// same float environment as what is computed in them.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }
}

impl ParFor for RayonPool {
    fn width(&self) -> usize {
        self.pool.current_num_threads()
    }

    fn run(&self, chunks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        let next = &AtomicUsize::new(0);
        let work = &|| {
            let worker = rayon::current_thread_index().expect("a thread of the pool");
            while let Some(chunk) = take(next, chunks) {
                task(chunk, worker);
            }
        };
        self.pool.scope(|scope| {
            for _ in 1..self.width().min(chunks) {
                scope.spawn(|_| work());
            }
            work();
        });
    }
}

/// The calling thread, helped by threads of its own: a loop starts at once where it is called, on any
/// thread, and on several of them at a time.
pub struct CallingPool {
    helpers: RayonPool,
    threads: usize,
}

impl CallingPool {
    /// So many threads, the calling one among them; 0 is one per core.
    pub fn new(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { cores() } else { threads };
        Ok(Self { helpers: RayonPool::new((threads - 1).max(1))?, threads })
    }

    /// The threads that help, of which there is one at least.
    pub fn helpers(&self) -> &RayonPool {
        &self.helpers
    }
}

impl ParFor for CallingPool {
    fn width(&self) -> usize {
        self.threads
    }

    fn run(&self, chunks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        let next = &AtomicUsize::new(0);
        let work = &|worker| {
            while let Some(chunk) = take(next, chunks) {
                task(chunk, worker);
            }
        };
        self.helpers.pool.in_place_scope(|scope| {
            for _ in 1..self.width().min(chunks) {
                scope.spawn(|_| work(rayon::current_thread_index().expect("a thread of the pool")));
            }
            work(self.threads - 1);
        });
    }
}

/// The next chunk that nobody has taken, if there is one.
pub fn take(next: &AtomicUsize, chunks: usize) -> Option<usize> {
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
pub fn spin_until(mut done: impl FnMut() -> bool) -> bool {
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
    fn a_calling_pool_runs_every_chunk_once_with_workers_of_its_own() {
        for threads in [1, 2, 3] {
            let pool = &CallingPool::new(threads).unwrap();
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
            schedule.run(&RayonPool::new(threads).unwrap());
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
            let pool = RayonPool::new(threads).unwrap();
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
            let (pool, ends) = (RayonPool::new(threads).unwrap(), BothEnds::new(40));
            let times = [(); 40].map(|()| AtomicUsize::new(0));
            pool.run(40, &|_, worker| {
                times[ends.take(worker)].fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(times.map(AtomicUsize::into_inner), [1; 40]);
        }
    }
}
