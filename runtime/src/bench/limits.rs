//! What this machine can do at most, measured beside the model.

use std::fs;
use std::time::Duration;

use lumina_kernels::{ParFor, RayonPool, machine};

use super::nodes::{NodeCost, Numbers};

/// Bytes of the buffer by which the bandwidth of memory is measured: four times the last cache, where
/// the system tells its size.
const FALLBACK_BUFFER: usize = 256 << 20;
const MIN_BUFFER: usize = 64 << 20;
const MAX_BUFFER: usize = 1 << 30;
/// Of the bandwidth of a cache; less is read faster than it can be timed.
const MIN_WORKING_SET: usize = 32 << 10;

/// Rates of all threads of a session together.
pub(super) struct Limits {
    pub(super) threads: usize,
    /// Operations per second.
    pub(super) float32: f64,
    pub(super) int8: f64,
    /// Bytes per second from beyond the caches, and bytes of the buffer that was read.
    pub(super) memory: f64,
    pub(super) memory_buffer: usize,
    /// Bytes that a run goes over, and how many of as many are read per second, over and over.
    pub(super) working_set: usize,
    pub(super) bandwidth: f64,
}

impl Limits {
    /// What the threads of `pool` reach, each rate measured for so long.
    pub(super) fn measure(pool: &RayonPool, working_set: usize, each: Duration) -> Self {
        let peak = |numbers| machine::peak(pool, numbers, each).unwrap_or(0.0);
        let (memory_buffer, memory) = reached(pool, beyond_caches(), each);
        let bandwidth = match working_set.max(MIN_WORKING_SET) {
            set if set >= memory_buffer => memory,
            // What lies in a cache is read no slower than what does not, whatever one measures.
            set => reached(pool, set, each).1.max(memory),
        };
        Self {
            threads: pool.width(),
            float32: peak("float32"),
            int8: peak("int8"),
            memory,
            memory_buffer,
            working_set,
            bandwidth,
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

/// Bytes per second from a buffer of `bytes` bytes, or of the largest part of it that there is room for.
fn reached(pool: &RayonPool, mut bytes: usize, each: Duration) -> (usize, f64) {
    loop {
        match machine::read_bandwidth(pool, bytes, each) {
            Ok(rate) => return (bytes, rate),
            Err(_) if bytes > MIN_WORKING_SET => bytes /= 2,
            Err(_) => return (bytes, 0.0),
        }
    }
}

/// Bytes that no cache of this machine holds.
fn beyond_caches() -> usize {
    let caches = (0..8).filter_map(|index| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let text = fs::read_to_string(path).ok()?;
        text.trim().strip_suffix('K')?.parse::<usize>().ok()?.checked_mul(1 << 10)
    });
    caches
        .max()
        .map_or(FALLBACK_BUFFER, |last| last.saturating_mul(4).clamp(MIN_BUFFER, MAX_BUFFER))
}
