//! How long each step of a plan takes, summed over runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::plan::{Block, Work};

/// The records of a block, one for each step.
pub(crate) struct Profile {
    pub(crate) steps: Vec<Record>,
}

/// What is known of a step. One thread at a time adds to it; atomics let it be shared with the thread
/// of the pool that runs the steps.
pub(crate) struct Record {
    calls: AtomicU64,
    nanoseconds: AtomicU64,
    /// Those of the regions that the step runs, whose time is part of its own.
    pub(crate) regions: Vec<Profile>,
}

impl Profile {
    /// Records of nothing yet, for the steps of `block`.
    pub(crate) fn of(block: &Block) -> Self {
        let record = |work: &Work| Record {
            calls: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
            regions: match work {
                Work::Control(_, plan) => {
                    plan.regions.iter().map(|(_, block)| Self::of(block)).collect()
                }
                _ => Vec::new(),
            },
        };
        Self { steps: block.steps.iter().map(|step| record(&step.work)).collect() }
    }

    /// Time of all steps.
    pub(crate) fn time(&self) -> Duration {
        self.steps.iter().map(Record::time).sum()
    }
}

impl Record {
    pub(crate) fn add(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// How often it ran.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// How long all calls took, with those of steps in its regions.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }

    /// How long all calls took, without the steps in its regions.
    pub(crate) fn own_time(&self) -> Duration {
        self.time().saturating_sub(self.regions.iter().map(Profile::time).sum())
    }
}
