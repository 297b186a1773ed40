//! What this machine can do at most, measured beside the model.

use std::time::Duration;

use lumina_kernels::{ParFor, ThreadPool, machine};

use super::bandwidth::Bandwidth;
use super::nodes::{NodeCost, Numbers};

/// Rates of all threads of a session together.
pub(super) struct Limits {
    pub(super) threads: usize,
    /// Operations per second.
    pub(super) float32: f64,
    pub(super) int8: f64,
    /// From beyond the caches.
    pub(super) memory: Bandwidth,
    /// Bytes that a run goes over, and how many of as many are read per second, over and over.
    pub(super) working_set: usize,
    pub(super) bandwidth: f64,
}

impl Limits {
    /// What the threads of `pool` reach, each rate measured for so long.
    pub(super) fn measure(pool: &ThreadPool, working_set: usize, each: Duration) -> Self {
        let peak = |numbers| machine::peak(pool, numbers, each).unwrap_or(0.0);
        let memory = Bandwidth::of_memory(pool, each);
        Self {
            threads: pool.width(),
            float32: peak("float32"),
            int8: peak("int8"),
            memory,
            working_set,
            bandwidth: Bandwidth::of_working_set(pool, working_set, memory, each).rate,
        }
    }

    /// Tells each of the nodes how long it takes at least.
    pub(super) fn apply(&self, nodes: &mut [NodeCost]) {
        for node in nodes {
            let peak = match node.numbers {
                Numbers::Float32 => self.float32,
                Numbers::Int8 => self.int8,
            };
            let (flops, bytes) = (node.flops as f64 / peak, node.bytes as f64 / self.bandwidth);
            node.limit_seconds = flops.max(bytes);
        }
    }
}
