//! Threads that stay awake for a moment between two parallel loops.
//!
//! To wake a thread takes its waker some 10 µs on virtual machines, and the thread twice as long
//! until it runs. The loops of a small training step follow each other faster than that.
//!
//! A thread of XLA that stands by is missing elsewhere in XLA. It does so only as long as it is
//! worth it: where, of late, every third time or more something came. Where loops that are too short
//! to wake a thread for follow each other as fast as that, one is woken for those to come.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a thread stands by: from one op of a step to the next, and from one step to the next
/// where little else is computed. What else waits for its CPU waits no longer than that.
const MOMENT: Duration = Duration::from_micros(100);

/// What a time when something came counts against one when nothing did, and most of what counts.
const GAIN: i32 = 2;
const MOST: i32 = 4;
/// Where it is not worth it, one time of so many is tried.
const TRIES: u32 = 16;

/// Threads that stand by for a piece of work.
pub(super) struct Standby<T> {
    /// Below 0 where it is not worth it. Threads that change it at once may lose a change.
    score: AtomicI32,
    /// Times when it was not.
    declined: AtomicU32,
    /// Of each of them, where it looks for work.
    seats: Mutex<Vec<Arc<OnceLock<Arc<T>>>>>,
    /// When the last op ended, in nanoseconds since `START`.
    ended: AtomicU64,
    /// Whether the op after it began within a moment.
    hurried: AtomicBool,
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl<T: Send + Sync> Standby<T> {
    pub(super) const fn new() -> Self {
        Self {
            score: AtomicI32::new(0),
            declined: AtomicU32::new(0),
            seats: Mutex::new(Vec::new()),
            ended: AtomicU64::new(0),
            hurried: AtomicBool::new(false),
        }
    }

    /// An op begins.
    pub(super) fn begin(&self) {
        let pause = now().saturating_sub(self.ended.load(Ordering::Relaxed));
        self.hurried.store(u128::from(pause) < MOMENT.as_nanos(), Ordering::Relaxed);
    }

    /// It ends.
    pub(super) fn end(&self) {
        self.ended.store(now(), Ordering::Relaxed);
    }

    /// Whether a thread that is woken now would probably get work once it stands by.
    pub(super) fn is_promising(&self) -> bool {
        self.hurried.load(Ordering::Relaxed) && self.is_worth_it()
    }

    /// Whether to stand by: where it is not worth it, from time to time all the same.
    fn is_worth_it(&self) -> bool {
        let worth = self.score.load(Ordering::Relaxed) >= 0;
        let tries = !worth && self.declined.fetch_add(1, Ordering::Relaxed) % TRIES == TRIES - 1;
        if tries {
            self.score.store(0, Ordering::Relaxed);
        }
        worth || tries
    }

    /// Whether nobody stands by.
    pub(super) fn is_empty(&self) -> bool {
        self.seats().is_empty()
    }

    /// Gives `work` to threads that stand by, to `most` of them at most; returns to how many.
    pub(super) fn give(&self, work: &Arc<T>, most: usize) -> usize {
        let mut seats = self.seats();
        let kept = seats.len().saturating_sub(most);
        let taken = seats.split_off(kept);
        drop(seats);
        for seat in &taken {
            // Nobody else has this seat.
            let _ = seat.set(Arc::clone(work));
        }
        taken.len()
    }

    /// Stands by if that is worth it, and returns what is given to this thread, if anything is.
    pub(super) fn wait(&self) -> Option<Arc<T>> {
        if !self.is_worth_it() {
            return None;
        }
        let work = self.stand_by();
        let score = self.score.load(Ordering::Relaxed);
        let change = if work.is_some() { GAIN } else { -1 };
        self.score.store((score + change).clamp(-1, MOST), Ordering::Relaxed);
        work
    }

    fn stand_by(&self) -> Option<Arc<T>> {
        let seat = Arc::new(OnceLock::new());
        self.seats().push(Arc::clone(&seat));
        let start = Instant::now();
        while start.elapsed() < MOMENT {
            if let Some(work) = seat.get() {
                return Some(Arc::clone(work));
            }
            spin_loop();
        }
        let mut seats = self.seats();
        if let Some(index) = seats.iter().position(|other| Arc::ptr_eq(other, &seat)) {
            seats.swap_remove(index);
            return None;
        }
        drop(seats);
        // Who took it is about to give something.
        Some(Arc::clone(seat.wait()))
    }

    fn seats(&self) -> MutexGuard<'_, Vec<Arc<OnceLock<Arc<T>>>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> u64 {
    START.elapsed().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn nobody_takes_what_is_given_to_nobody() {
        let standby = Standby::new();
        assert_eq!(standby.give(&Arc::new(1), 3), 0);
        assert_eq!(standby.stand_by(), None);
        assert!(standby.is_empty());
    }

    #[test]
    fn everything_is_given_once() {
        let standby = Standby::new();
        let (mut given, mut taken) = (Vec::new(), Vec::new());
        thread::scope(|scope| {
            let wait = || (0..200).filter_map(|_| standby.stand_by()).map(|work| *work).collect();
            let threads: Vec<thread::ScopedJoinHandle<'_, Vec<usize>>> =
                (0..3).map(|_| scope.spawn(wait)).collect();
            for work in 0.. {
                let work = Arc::new(work);
                given.extend(vec![*work; standby.give(&work, 2)]);
                if threads.iter().all(thread::ScopedJoinHandle::is_finished) {
                    break;
                }
                thread::yield_now();
            }
            taken.extend(threads.into_iter().flat_map(|thread| thread.join().unwrap()));
        });
        taken.sort_unstable();
        assert_eq!(taken, given);
        assert!(!given.is_empty() && standby.is_empty());
    }

    #[test]
    fn it_is_given_up_where_nothing_comes_and_taken_up_again_where_something_does() {
        let standby = Standby::new();
        for _ in 0..40 {
            assert_eq!(standby.wait(), None);
        }
        assert!(standby.score.load(Ordering::Relaxed) < 0);
        thread::scope(|scope| {
            scope.spawn(|| while standby.give(&Arc::new(1), 1) == 0 {});
            while standby.wait().is_none() {}
        });
        assert!(standby.score.load(Ordering::Relaxed) > 0);
    }

    #[test]
    fn to_wake_a_thread_is_promising_where_ops_follow_each_other_at_once() {
        let standby = Standby::<()>::new();
        let follows = |pause| {
            standby.end();
            thread::sleep(pause);
            standby.begin();
            standby.is_promising()
        };
        // Sometimes the system lets this thread wait longer.
        assert!((0..100).any(|_| follows(Duration::ZERO)));
        assert!(!follows(2 * MOMENT));
        for _ in 0..2 {
            assert_eq!(standby.wait(), None);
        }
        assert!(standby.score.load(Ordering::Relaxed) < 0);
        let promising = (0..10 * TRIES).filter(|_| follows(Duration::ZERO)).count();
        assert!(promising > 0);
    }
}
