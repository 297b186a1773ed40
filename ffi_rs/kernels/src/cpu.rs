//! On which CPU a thread runs.
//!
//! In virtual machines Linux often wakes a thread on the CPU of its waker although another one is
//! idle. The two then take turns on that CPU until the scheduler balances its load, some
//! milliseconds later: a helper there has to move on by itself.

/// The CPU of the thread that shares out the chunks of a loop.
#[derive(Clone, Copy, Debug)]
pub struct Cpu(Option<usize>);

impl Cpu {
    /// That of this thread, where the system can tell.
    pub fn here() -> Self {
        Self(system::current())
    }

    /// Moves this thread to another CPU if it runs on this one, and may run elsewhere. It stays
    /// free to run wherever it was before.
    pub fn leave(self) {
        if let Some(cpu) = self.0.filter(|_| system::current() == self.0) {
            system::leave(cpu);
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::thread::{sched_getaffinity, sched_getcpu, sched_setaffinity};

    pub(super) fn current() -> Option<usize> {
        Some(sched_getcpu())
    }

    pub(super) fn leave(cpu: usize) {
        // In a sandbox, or on a machine of more CPUs than a set holds, it stays where it is.
        let Ok(allowed) = sched_getaffinity(None) else { return };
        let mut others = allowed;
        others.unset(cpu);
        if others.count() > 0 && sched_setaffinity(None, &others).is_ok() {
            // It moved; it is not to be kept from coming back.
            let _ = sched_setaffinity(None, &allowed);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn current() -> Option<usize> {
        None
    }

    pub(super) fn leave(_: usize) {}
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::thread::sched_getaffinity;

    use super::*;

    #[test]
    fn a_thread_leaves_the_cpu_and_may_come_back() {
        let allowed = sched_getaffinity(None).unwrap();
        // The scheduler may have moved it in between, or back.
        let left = (0..100).any(|_| {
            let cpu = Cpu::here();
            cpu.leave();
            system::current() != cpu.0
        });
        assert!(left || allowed.count() == 1);
        assert!(sched_getaffinity(None).unwrap() == allowed);
    }

    #[test]
    fn a_thread_on_another_cpu_stays() {
        let allowed = sched_getaffinity(None).unwrap();
        Cpu(Some(usize::MAX)).leave();
        Cpu(None).leave();
        assert!(sched_getaffinity(None).unwrap() == allowed);
    }
}
