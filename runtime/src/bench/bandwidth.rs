//! How fast memory is read: the yardstick of `lumina bench` and of the benchmarks in Python.

use std::fs;
use std::time::Duration;

use lumina_kernels::{ParFor, machine};

use crate::bytes::AlignedBytes;

/// Four times the last cache, where the system tells its size.
const FALLBACK_BUFFER: usize = 256 << 20;
const MIN_BUFFER: usize = 64 << 20;
const MAX_BUFFER: usize = 1 << 30;
/// Less is read faster than it can be timed.
const MIN_WORKING_SET: usize = 32 << 10;

/// How fast the threads of a pool together read a buffer, over and over.
#[derive(Clone, Copy, Debug)]
pub struct Bandwidth {
    /// Bytes of the buffer.
    pub buffer: usize,
    /// Bytes per second.
    pub rate: f64,
}

impl Bandwidth {
    /// From a buffer that no cache holds, measured for so long.
    pub fn of_memory(pool: &dyn ParFor, duration: Duration) -> Self {
        Self::measure(pool, beyond_caches(), duration)
    }

    /// From a buffer of as many bytes as a program goes over again and again. `memory` is what memory
    /// gives: what lies in a cache is read no slower, whatever one measures.
    pub fn of_working_set(
        pool: &dyn ParFor,
        bytes: usize,
        memory: Self,
        duration: Duration,
    ) -> Self {
        match bytes.max(MIN_WORKING_SET) {
            bytes if bytes >= memory.buffer => memory,
            bytes => {
                let found = Self::measure(pool, bytes, duration);
                Self { rate: found.rate.max(memory.rate), ..found }
            }
        }
    }

    /// From a buffer of so many bytes, or of the largest part of it that there is room for. It is
    /// memory of the kind in which weights lie, as the size of its pages changes the rate.
    fn measure(pool: &dyn ParFor, mut bytes: usize, duration: Duration) -> Self {
        let mut buffer = AlignedBytes::zeroed(bytes);
        while buffer.is_err() && bytes > MIN_WORKING_SET {
            bytes /= 2;
            buffer = AlignedBytes::zeroed(bytes);
        }
        let Ok(mut buffer) = buffer else { return Self { buffer: bytes, rate: 0.0 } };
        // Pages that were never written may all be one.
        buffer.fill(1);
        let (words, _) = buffer.as_chunks::<{ size_of::<u64>() }>();
        let rate = machine::read_bandwidth(pool, bytemuck::cast_slice(words), duration);
        Self { buffer: bytes, rate }
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

#[cfg(test)]
mod tests {
    use lumina_kernels::{Serial, ThreadPool};

    use super::*;

    #[test]
    fn buffers_are_of_the_size_that_is_asked_for_or_beyond_the_caches() {
        let short = Duration::from_millis(1);
        for pool in [&Serial as &dyn ParFor, &ThreadPool::new(3).unwrap()] {
            let memory = Bandwidth::of_memory(pool, short);
            assert!((MIN_BUFFER..=MAX_BUFFER).contains(&memory.buffer), "{memory:?}");
            assert!(memory.rate > 1e6 && memory.rate < 1e16, "{memory:?}");
            for (bytes, expected) in [
                (0, MIN_WORKING_SET),
                ((1 << 20) + 1, (1 << 20) + 1),
                (memory.buffer, memory.buffer),
                (usize::MAX, memory.buffer),
            ] {
                let found = Bandwidth::of_working_set(pool, bytes, memory, short);
                assert_eq!(found.buffer, expected);
                assert!(found.rate >= memory.rate, "{found:?}");
            }
        }
    }

    #[test]
    fn a_buffer_that_cannot_be_had_is_a_smaller_one() {
        let found = Bandwidth::measure(&Serial, usize::MAX >> 16, Duration::ZERO);
        assert!(found.buffer < usize::MAX >> 16 && found.rate > 0.0, "{found:?}");
    }
}
