//! Parallel loops over chunks, whichever thread pool runs them.

use crate::float::FlushDenormals;

/// Runs independent chunks of work, on as many threads as it has.
///
/// No two chunks write the same element or share a sum, so that the number of threads changes no
/// bit.
pub trait ParFor: Sync {
    /// Upper bound of the worker numbers that `run` hands out; at least 1.
    fn width(&self) -> usize;

    /// Calls `task(chunk, worker)` once for each `chunk < chunks`, and returns when all are done.
    /// At any time, at most one call runs with a given `worker < width()`.
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
        use rayon::prelude::*;
        self.pool.install(|| {
            (0..chunks).into_par_iter().with_max_len(1).for_each(|chunk| {
                task(chunk, rayon::current_thread_index().unwrap_or(0));
            });
        });
    }
}
