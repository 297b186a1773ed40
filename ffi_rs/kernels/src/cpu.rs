//! On which CPU a thread runs.
//!
//! Linux wakes a thread on a CPU that is idle, but takes a virtual CPU that is halted for one that
//! the host has taken away, and so not for an idle one. In a virtual machine a helper then takes
//! turns with its waker on one CPU, while the others sleep, until the scheduler balances its load
//! some milliseconds later: there it has to move on by itself.

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
